"""The change log: what differs from the incumbent is told, once and with both sides; what does not is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from components.artifacts.documents import as_json
from components.card.contract import Change, Description
from components.card.describing import describe_card, differences, rule_in_words
from components.ranker.contract import Importance, RerankRules, System
from components.verdict.policy import parse_policy

from .conftest import HEX, RULES, Run, Written, estimate, small_run
from .test_write_card import read

Write = Callable[[Run], Written]

STRICTER = RULES.replace("version: 1.0.0", "version: 1.1.0").replace("at_least: 0}", "at_least: 0.01, margin: 0.002}")


def described(written: Written, rules: str = RULES) -> Description:
    return describe_card(written.card, parse_policy(rules, subject="policy"))


def succeeding(before: Description) -> Run:
    """The small run again, as the successor of the one that is described."""
    run = small_run()
    run.facts["incumbent"] = before.digests["ranker"]
    run.facts["before"] = as_json(before)
    run.verdict = replace(run.verdict, first_release=False)
    run.rankings = replace(run.rankings, systems=(*run.rankings.systems, System("incumbent", "incumbent", HEX, "Old.")))
    held = run.evidence["quality"]
    run.evidence["quality"] = replace(
        held,
        estimates=(
            *held.estimates,
            estimate("ndcg@10", 0.55, subject="incumbent"),
            estimate("ndcg@10", 0.03, statistic="difference", versus="incumbent"),
        ),
    )
    return run


@pytest.fixture
def before(write: Write) -> Description:
    return described(write(small_run()))


def kinds(written: Written) -> dict[str, list[Change]]:
    found: dict[str, list[Change]] = {}
    for change in written.card.changes:
        found.setdefault(change.kind, []).append(change)
    return found


def test_a_first_release_has_no_changes(run: Run, write: Write) -> None:
    written = write(run)
    assert (written.card.changes, written.card.before) == ((), None)
    assert "A first release: there is no incumbent to be held against." in read(written.html)


def test_the_same_run_again_has_changed_nothing(before: Description, write: Write) -> None:
    written = write(succeeding(before))
    assert written.card.changes == ()
    assert (
        "Nothing that this log looks at has changed since the incumbent, run small-shop-0123456789." in written.markdown
    )


def test_figures_of_both_stand_beside_the_interval_of_their_difference(before: Description, write: Write) -> None:
    row = "| NDCG@10 | 0.550 | 0.580 | +0.030 (+0.010 to +0.050) | 120 |"
    assert row in write(succeeding(before)).markdown


def test_features_that_came_went_or_are_made_otherwise_are_named(before: Description, write: Write) -> None:
    run = succeeding(before)
    first, second, third = run.dataset.features
    new = replace(first, name="item_purchase_28d", event="purchase", window_days=28.0)
    run.dataset = replace(run.dataset, features=(new, replace(second, window_days=14.0), third))
    run.ranker = replace(run.ranker, features=("item_purchase_28d", "item_age_days", "user_outcomes_7d"),
                         importance=(Importance("item_purchase_28d", 0.7), Importance("item_age_days", 0.3)))  # fmt: skip
    written = write(run)
    assert "Features: new item_purchase_28d; gone item_click_7d; made otherwise item_age_days." in read(written.html)
    assert [(c.what, bool(c.before), bool(c.now)) for c in kinds(written)["features"]] == [
        ("item_purchase_28d", False, True),
        ("item_age_days", True, True),
        ("item_click_7d", True, False),
    ]
    assert kinds(written)["features"][1].now == "count, click, 14 days, of item, number"
    assert [(c.what, c.before, c.now) for c in kinds(written)["weights"]] == [
        ("item_click_7d", "75.0%", ""),
        ("item_purchase_28d", "", "70.0%"),
        ("item_age_days", "25.0%", "30.0%"),
    ]


@pytest.mark.parametrize(("share", "told"), [(0.7399, True), (0.7401, False)])
def test_a_weight_is_told_from_one_part_in_a_hundred_on(
    before: Description, write: Write, share: float, told: bool
) -> None:
    run = succeeding(before)
    run.ranker = replace(run.ranker, importance=(Importance("item_click_7d", share), Importance("item_age_days", 0.25)))
    assert ("weights" in kinds(write(run))) is told


def test_settings_data_lists_and_libraries(before: Description, write: Write) -> None:
    run = succeeding(before)
    run.ranker = replace(run.ranker, parameters={"eta": 0.05, "max_depth": 6}, seed=8, position_bias=(),
                         rerank=RerankRules(3, 0, 10, False), candidate_sources={"popularity": 100, "mf": 50})  # fmt: skip
    run.snapshot = replace(run.snapshot, first_ts="2026-02-15T00:00:00+00:00", users=500)
    run.facts["libraries"] = {"xgboost": "3.2.1", "numpy": "2.4.6"}
    found = kinds(write(run))
    told = {
        change.what: (change.before, change.now) for kind in ("data", "settings", "libraries") for change in found[kind]
    }
    assert told == {
        "log from": ("1 March 2026, 00:04 UTC", "15 February 2026, 00:00 UTC"),
        "users": ("400", "500"),
        "position bias taken out": ("yes", "no"),
        "seed": ("7", "8"),
        "eta": ("0.1", "0.05"),
        "xgboost": ("3.2.0", "3.2.1"),
    }
    assert found["lists"] == [
        Change("lists", "added", "", "Up to 50 candidates from mf."),
        Change("lists", "added", "", "Within the first 10 ranks, at most 3 of a category."),
        Change("lists", "removed", "Within the first 10 ranks, at most 2 of a category.", ""),
    ]


def test_rules_and_words_that_changed(before: Description, write: Write) -> None:
    run = succeeding(before)
    run.rules = STRICTER
    run.verdict = replace(run.verdict, policy=replace(run.verdict.policy, version="1.1.0"))
    run.words = run.words.replace("Prices", "Prices, Advertisements")
    found = kinds(write(run))
    assert [change.what for change in found["policy"]] == ["policy", "quality-popularity"]
    assert (found["policy"][0].before, found["policy"][0].now) == ("default@1.0.0", "default@1.1.0")
    assert found["policy"][1].before.endswith("at least 0, insufficient: block")
    assert found["policy"][1].now.endswith("at least 0.008, insufficient: block")
    assert [(c.what, c.now) for c in found["purpose"]] == [("Out of scope", "Search results / Prices / Advertisements")]


def test_digests_of_both_are_told(before: Description, write: Write) -> None:
    changed = replace(before, digests={**before.digests, "ranker": "e" * 64})
    written = write(succeeding(changed))
    assert f"| ranker | {'e' * 64} | {HEX} |" in written.markdown
    assert written.card.before == changed


def test_an_incumbent_whose_run_is_not_at_hand_is_compared_by_its_figures_alone(
    before: Description, write: Write
) -> None:
    run = succeeding(before)
    del run.facts["before"]
    written = write(run)
    assert "Of the incumbent only its ranker was at hand" in written.markdown
    assert "| NDCG@10 | 0.550 | 0.580 | +0.030 (+0.010 to +0.050) | 120 |" in written.markdown


def test_a_policy_that_cannot_be_read_is_said_not_to_be_compared(before: Description, write: Write) -> None:
    written = write(succeeding(replace(before, rules={})))
    assert "The rules of the two policies could not be compared" in written.markdown
    assert "policy" not in kinds(written)


def test_every_rule_of_the_policies_that_ship_has_words_of_its_own(repository: Path) -> None:
    for name in ("default", "retail"):
        text = (repository / "policies" / name / "policy.yaml").read_text()
        criteria = parse_policy(text, subject=name).criteria
        words = [rule_in_words(criterion) for criterion in criteria]
        assert all("at least" in said or "at most" in said for said in words)
        by_words = {said: criterion.evidence for said, criterion in zip(words, criteria, strict=True)}
        assert len(by_words) == len(criteria)


def test_a_change_has_two_sides_that_differ(before: Description) -> None:
    other = replace(before, data={"log from": "then"}, features={}, lists=("A rule.",), libraries={}, weights={})
    found = differences(before, other)
    assert found
    assert all(change.before != change.now for change in found)
    assert len({(c.kind, c.what, c.before, c.now) for c in found}) == len(found)
    turned = {(c.kind, c.what, c.now, c.before) for c in differences(other, before) if c.kind != "lists"}
    assert turned == {(c.kind, c.what, c.before, c.now) for c in found if c.kind != "lists"}


def test_the_change_log_of_a_successor_is_as_it_was(
    before: Description, write: Write, golden: Callable[[str, str], None]
) -> None:
    run = succeeding(before)
    first, second, third = run.dataset.features
    new = replace(first, name="item_purchase_28d", event="purchase", window_days=28.0)
    run.dataset = replace(run.dataset, features=(new, second, third))
    run.ranker = replace(run.ranker, features=("item_purchase_28d", "item_age_days", "user_outcomes_7d"), trees=3,
                         importance=(Importance("item_purchase_28d", 0.7), Importance("item_age_days", 0.3)),
                         rerank=RerankRules(3, 0, 10, False), parameters={"eta": 0.05, "max_depth": 6})  # fmt: skip
    run.snapshot = replace(run.snapshot, last_ts="2026-05-16T23:00:00+00:00")
    run.rules = STRICTER
    run.verdict = replace(run.verdict, policy=replace(run.verdict.policy, version="1.1.0"))
    run.facts["libraries"] = {"xgboost": "3.2.1", "numpy": "2.4.6"}
    run.words += "changes: Purchases of four weeks instead of clicks of one.\n"
    told = write(run).markdown
    golden("changes.md", told[told.index("## Changes") : told.index("## Quality by group")])
