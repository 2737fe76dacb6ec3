"""rerank.yaml: what may stand in it, what it says of a data set, and every fault by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from components.artifacts import documents
from components.artifacts.digests import digest_bytes
from components.errors import FaultyInputError, InputError
from components.events.declaration import parse_contract
from components.ranker import declared_rules
from components.ranker.contract import AttributeRule, Diversity, Exploration, RerankRules
from components.ranker.declared_rules import Names, check_declared, check_names, parse_rules, read_rules

SHOP = Names(
    categories=["category", "adult", "locale"],
    numbers=["price"],
    context=["locale", "device"],
    parts=["category", "provider", "price"],
)


def rules(body: str) -> RerankRules:
    return parse_rules(f"schema: rankgate/rerank/v1\n{body}", subject="rerank.yaml")


def faults(body: str) -> str:
    with pytest.raises(FaultyInputError) as raised:
        check_names(rules(body), SHOP, subject="rerank.yaml")
    return str(raised.value)


def test_the_example_of_the_module_is_read_as_it_says():
    assert declared_rules.__doc__
    text = re.sub(
        r"^ {4}", "", declared_rules.__doc__[declared_rules.__doc__.index("    schema") :], flags=re.MULTILINE
    )
    text = text[: text.index("\n\n")] + "\n"
    found = parse_rules(text, subject="example")
    assert found == RerankRules(
        3, 2, 10, False,
        blocked_items=("4711",),
        exclude=(AttributeRule("adult", ("true", None)),),
        require=(AttributeRule("locale", (None,), request="locale"),),
        diversity=Diversity(0.3, 50, 0.5, 0.3, 0.2),
        exploration=Exploration(0.1, (4, 6, 8), 50, 0),
        declared=digest_bytes(text.encode()),
    )  # fmt: skip
    check_names(found, SHOP, subject="example")
    assert documents.parse(RerankRules, documents.to_bytes(found), subject="ranker.json") == found


def test_a_file_of_its_schema_alone_changes_nothing():
    found = rules("")
    assert (found.max_per_category, found.max_per_provider, found.diversity, found.exploration) == (0, 0, None, None)


def test_shares_of_likeness_are_taken_of_their_sum():
    found = rules("diversity: {strength: 0.5, likeness: {category: 0.3, price: 0.1}}").diversity
    assert found
    assert (found.category, found.provider) == (pytest.approx(0.75), 0.0)
    assert found.category + found.provider + found.price == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("body", "needed"),
    [
        ("widow: 10", "Did you mean 'window'"),
        ("window: 0", "window: found 0"),
        ("caps: {category: true}", "caps.category: found True"),
        ("caps: {brand: 1}", "caps.brand: found an unknown key"),
        ("blocked_items: [4711]", "blocked_items.0: found 4711"),
        ("exclude: {adult: [true]}", "exclude.adult: found 'adult'; needed an item's attribute"),
        ("exclude: {item.adult: []}", "at least one"),
        ("exclude: {item.adult: {among: [request.a], request_unknown: refuse}}", "refuse only in `require`"),
        ("require: {item.locale: {among: [nl], request_unknown: refuse}}", "refuse only in `require`"),
        ("require: {item.locale: [request.locale, request.device]}", "at most one request.<context>"),
        ("diversity: {strength: 1.0, likeness: {category: 1}}", "diversity.strength: found 1.0"),
        ("diversity: {strength: 0.5, likeness: {category: 0}}", "above 0"),
        ("diversity: {strength: 0.5, pool: 5, likeness: {category: 1}}", "diversity.pool: found 5; needed at least"),
        ("exploration: {probability: 0, ranks: [1]}", "exploration.probability: found 0"),
        ("exploration: {probability: 0.1, ranks: []}", "exploration.ranks"),
        ("exploration: {probability: 0.1, ranks: [3, 3]}", "ranks that differ"),
        ("exploration: {probability: 0.1, ranks: [11]}", "found rank 11; needed ranks within the window of 10"),
        ("window: 5\nwindow: 6", "a second time"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(body, needed):
    with pytest.raises(InputError) as raised:
        rules(body)
    assert needed in str(raised.value)


@pytest.mark.parametrize(
    ("body", "needed"),
    [
        ("exclude: {item.adults: [true]}", "exclude.item.adults: found an unknown attribute; needed one of the contract's. "
                                           "Did you mean 'item.adult'?"),
        ("require: {item.locale: request.language}", "found request.language; needed a context column of the contract: device"),
        ("exclude: {item.price: [cheap]}", "exclude.item.price: found 'cheap'; needed numbers"),
        ("exclude: {item.category: [7]}", "found 7.0; needed text; put it in quotes"),
        ("require: {item.price: request.device}", "needed numbers: the attribute is one, and context is text"),
    ],
)  # fmt: skip
def test_what_the_data_set_does_not_have_is_a_fault(body, needed):
    assert needed in faults(body)


def test_a_rule_about_a_part_that_no_attribute_plays_is_a_fault():
    found = rules("caps: {provider: 1}\ndiversity: {strength: 0.5, likeness: {price: 1}}")
    with pytest.raises(FaultyInputError) as raised:
        check_names(found, Names([], [], [], ["category"]), subject="rerank.yaml")
    assert [fault.where for fault in raised.value.faults] == ["caps.provider", "diversity.likeness.price"]


def test_a_policy_without_the_file_has_no_rules(tmp_path: Path):
    assert read_rules(tmp_path) is None
    assert read_rules(tmp_path / "policy.yaml") is None
    (tmp_path / "rerank.yaml").write_text("schema: rankgate/rerank/v1\ncaps: {category: 2}\n", encoding="utf-8")
    found = read_rules(tmp_path / "policy.yaml")
    assert found
    assert found.max_per_category == 2
    assert found == read_rules(tmp_path)


CONTRACT = """
schema: rankgate/dataset/v1
name: small-shop
tables: {events: {path: [e.parquet]}, items: {path: [i.parquet]}}
events: {impression: {role: impression}, click: {gain: 1}}
attributes:
  items: {category: {role: feature}, price: {role: feature, type: number}, shelf: {role: ignore}}
  events: {device: {role: context}}
item: {category: category}
requests: {mode: logged, attribution: 24h}
"""


def declared(body: str, folder: Path) -> Path:
    (folder / "rerank.yaml").write_text(f"schema: rankgate/rerank/v1\n{body}\n", encoding="utf-8")
    return folder


def test_rules_are_held_against_the_contract_before_anything_is_built(tmp_path: Path):
    contract = parse_contract(CONTRACT, subject="dataset.yaml")
    check_declared(tmp_path, contract)
    check_declared(declared("caps: {category: 2}\nexclude: {item.price: [0]}", tmp_path), contract)
    with pytest.raises(FaultyInputError) as raised:
        check_declared(declared("caps: {provider: 2}\nexclude: {item.shelf: [top]}", tmp_path), contract)
    assert [fault.where for fault in raised.value.faults] == ["caps.provider", "exclude.item.shelf"]


def test_the_reference_of_the_documentation_is_a_file_that_can_be_read(repository: Path):
    text = (repository / "docs" / "serving.md").read_text(encoding="utf-8")
    block = text.split("```yaml\n")[1].split("```")[0]
    found = parse_rules(block, subject="docs/serving.md")
    assert found.diversity
    assert found.exploration
    assert found.require[1] == AttributeRule("market", (), request="market", request_unknown="refuse")


def test_rules_of_a_ranker_from_before_there_was_more_to_declare_still_load():
    old = b'{"exclude_seen":true,"max_per_category":2,"max_per_provider":0,"window":10}'
    assert documents.parse(RerankRules, old, subject="ranker.json") == RerankRules(2, 0, 10, True)
