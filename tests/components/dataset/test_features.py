"""The declarative list: what it holds for which contract, and its page in the documentation."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.dataset.contract import Feature
from components.dataset.features import declare, describe
from components.events.declaration import parse_contract
from components.events.shop.contract_text import CONTRACT

SAMPLED = """
schema: rankgate/dataset/v1
name: plain
tables: {events: {path: [events.parquet]}, users: {path: [users.parquet]}, items: {path: [items.parquet]}}
events: {purchase: {gain: 1}}
attributes:
  users: {country: {role: segment}}
  items: {category: {role: feature}, brand: {role: feature}, price: {role: feature, type: number}}
item: {category: category, provider: brand, price: price}
requests: {mode: sampled}
"""


def features_of(text: str) -> tuple[Feature, ...]:
    return declare(parse_contract(text, subject="test"))


@pytest.mark.parametrize(("text", "least"), [(CONTRACT, 40), (SAMPLED, 30)])
def test_names_are_distinct_and_enough(text: str, least: int) -> None:
    names = [feature.name for feature in features_of(text)]
    assert len(names) == len(set(names)) >= least


def test_the_documentation_shows_the_shops_features_as_they_are(repository: Path) -> None:
    page = (repository / "docs" / "features.md").read_text(encoding="utf-8")
    table = page.partition("<!-- features of the generated shop: begin -->\n")[2].partition("<!-- end -->")[0]
    assert table.strip() == describe(features_of(CONTRACT)).strip()


@pytest.mark.parametrize(("part", "entity"), [("category", "user_category"), ("brand", "user_provider")])
def test_a_part_that_only_measures_makes_no_feature(part: str, entity: str) -> None:
    measured = SAMPLED.replace(f"{part}: {{role: feature", f"{part}: {{role: segment")
    assert entity in {feature.entity for feature in features_of(SAMPLED)}
    assert entity not in {feature.entity for feature in features_of(measured)}
    assert part not in {feature.attribute for feature in features_of(measured)}


def test_segments_sensitive_and_ignored_attributes_are_no_features() -> None:
    attributes = {feature.attribute for feature in features_of(CONTRACT)}
    assert {"plan", "tenure_days", "category", "price", "device"} <= attributes
    assert not attributes & {"country", "age_band", "gender", "provider", "policy"}


def test_an_attribute_called_as_a_feature_of_ours_gives_way() -> None:
    text = SAMPLED.replace("country: {role: segment}", "tenure_days: {role: feature, type: number}")
    names = [feature.name for feature in features_of(text)]
    assert {"user_tenure_days", "user_tenure_days_attribute"} <= set(names)


def test_without_impressions_nothing_needs_them() -> None:
    assert not [feature for feature in features_of(SAMPLED) if feature.family == "rate" or "shown" in feature.name]


def test_an_outcome_without_gain_is_no_outcome() -> None:
    text = SAMPLED.replace("events: {purchase: {gain: 1}}", "events: {purchase: {gain: 1}, view: {gain: 0}}")
    assert features_of(text) == features_of(SAMPLED)
