"""Policies are read strictly: what is misspelt, repeated or can never do what it seems to is told, all at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from components.errors import FaultyInputError, InputError
from components.verdict.policy import load_policy, parse_policy

CRITERION = {
    "id": "quality-popularity",
    "title": "Better than popularity",
    "why": "Popularity is free.",
    "evidence": "quality",
    "metric": "ndcg@10",
    "statistic": "difference",
    "select": {"versus": "popularity"},
    "bound": {"at_least": 0},
}
POLICY = {
    "schema": "rankgate/policy/v1",
    "name": "default",
    "version": "1.0.0",
    "description": "For tests.",
    "level": 0.95,
    "first_release": "excuse",
    "criteria": [CRITERION],
}


def parse(changes: dict[str, Any] | None = None, criterion: dict[str, Any] | None = None) -> Any:
    value = {**POLICY, "criteria": [{**CRITERION, **(criterion or {})}], **(changes or {})}
    return parse_policy(yaml.safe_dump(value, sort_keys=False), subject="policy.yaml")


def faults(changes: dict[str, Any] | None = None, criterion: dict[str, Any] | None = None) -> str:
    with pytest.raises(FaultyInputError) as caught:
        parse(changes, criterion)
    return str(caught.value)


def test_a_policy_is_read_with_its_defaults() -> None:
    policy = parse()
    (criterion,) = policy.criteria
    assert policy.label == "default@1.0.0"
    assert (criterion.effect, criterion.on_insufficient, criterion.when) == ("blocking", "block", "always")
    assert criterion.missing.not_applicable == ""
    assert criterion.select.subject == "candidate"
    assert not criterion.select.segments.slices
    assert policy.level_of(criterion) == 0.95


@pytest.mark.parametrize(
    ("bound", "low", "high"),
    [
        ({"at_least": 0}, 0.0, None),
        ({"at_least": 0, "margin": 0.02}, -0.02, None),
        ({"at_most": 0.3, "margin": 0.1}, None, 0.4),
        ({"at_least": 0.3, "margin": 0.1}, 0.2, None),
        ({"within": [0.5, 2]}, 0.5, 2.0),
        ({"within": [0.5, 2], "margin": 0.25}, 0.25, 2.25),
    ],
)
def test_a_margin_widens_what_is_tolerated(bound: dict[str, Any], low: float | None, high: float | None) -> None:
    found = parse(criterion={"bound": bound}).criteria[0].bound
    assert (found.low, found.high) == (low, high)


@pytest.mark.parametrize(
    ("bound", "told"),
    [
        ({}, "exactly one of at_least, at_most and within (found none)"),
        ({"at_least": 0, "at_most": 1}, "found at_least, at_most"),
        ({"within": [2, 1]}, "within: [smaller, larger]"),
        ({"at_least": "0"}, "a valid number"),
        ({"at_least": True}, "a valid number"),
        ({"at_least": 0, "margin": -0.1}, "greater than or equal to 0"),
        ({"at_least": float("nan")}, "a valid number"),
        ({"at_least": 1e999}, "a valid number"),
    ],
)
def test_a_bound_says_one_thing(bound: dict[str, Any], told: str) -> None:
    assert told in faults(criterion={"bound": bound})


def test_every_fault_is_told_at_once() -> None:
    told = faults(
        {"version": "1", "levle": 0.9, "first_release": "ignore"},
        {"evidence": "fairness", "statistic": "gap", "blocking": True, "select": {"verses": "popularity"}},
    )
    assert "7 faults" in told
    for place in ("version", "levle", "first_release", "criteria.0.evidence", "criteria.0.statistic"):
        assert f"  - {place}: found" in told
    assert "criteria.0.blocking: found an unknown key" in told


@pytest.mark.parametrize(
    ("changes", "criterion", "hint"),
    [
        ({"levle": 0.9}, None, "Did you mean 'level'?"),
        (None, {"on_insuficient": "block"}, "Did you mean 'on_insufficient'?"),
        (None, {"select": {"verses": "popularity"}}, "Did you mean 'versus'?"),
        (None, {"bound": {"at_lest": 0}}, "Did you mean 'at_least'?"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest_known_one(
    changes: dict[str, Any] | None, criterion: dict[str, Any] | None, hint: str
) -> None:
    assert hint in faults(changes, criterion)


@pytest.mark.parametrize(
    "text",
    [
        "name: a\nname: b\n",
        yaml.safe_dump(POLICY).replace("bound:\n    at_least: 0", "bound:\n    at_least: 0\n    at_least: -1"),
    ],
    ids=["top", "nested"],
)
def test_a_repeated_key_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="stands here a second time"):
        parse_policy(text, subject="policy.yaml")


@pytest.mark.parametrize("text", ["", "- a\n", "text", "a: [", "a: &b [*b]\n? {x: y}\n: z", "[" * 5000], ids=range(6))
def test_what_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_policy(text, subject="policy.yaml")


def test_words_are_not_guessed_to_be_something_else() -> None:
    policy = parse_policy(
        yaml.safe_dump(POLICY)
        .replace("title: Better than popularity", "title: NO")
        .replace("For tests.", "2026-01-01"),
        subject="policy.yaml",
    )
    assert policy.criteria[0].title == "NO"
    assert policy.description == "2026-01-01"


@pytest.mark.parametrize("level", [0.5, 1, 0, 95, "0.95"])
def test_a_level_is_a_share_that_promises_something(level: Any) -> None:
    assert "level" in faults({"level": level})


def test_a_number_too_large_to_be_one_is_refused() -> None:
    text = yaml.safe_dump(POLICY).replace("at_least: 0", "at_least: 1e999")
    with pytest.raises(FaultyInputError, match="finite number"):
        parse_policy(text, subject="policy.yaml")


def test_a_policy_without_criteria_is_refused() -> None:
    assert "criteria: found a list of 0; needed at least one" in faults({"criteria": []})


def test_ids_differ() -> None:
    assert "criteria.quality-popularity: found the id 2 times" in faults({"criteria": [CRITERION, CRITERION]})


def test_a_policy_that_could_never_block_is_refused() -> None:
    assert "found only advisory ones" in faults(criterion={"effect": "advisory"})


def test_a_single_blocking_estimate_cannot_shrug_off_insufficiency() -> None:
    assert "on_insufficient: found note on a blocking criterion" in faults(criterion={"on_insufficient": "note"})


def test_minimum_users_need_groups() -> None:
    told = faults(criterion={"select": {"versus": "popularity", "minimum_users": 50}})
    assert "minimum_users: found 50" in told
    parse(criterion={"select": {"versus": "rest", "segments": "every", "minimum_users": 50}})


def test_only_rules_about_the_incumbent_are_excused_without_one() -> None:
    assert "a rule that has nothing to do with an incumbent" in faults(criterion={"when": "incumbent"})
    parse(criterion={"when": "incumbent", "select": {"versus": "incumbent"}})
    parse(criterion={"when": "incumbent", "statistic": "change", "select": {"versus": "incumbent"}})


@pytest.mark.parametrize(
    "segments", ["all", [], {"each": []}, {"every": True}, {"each": ["a"], "every": True}, 3, None]
)
def test_segments_are_named_in_one_of_three_ways(segments: Any) -> None:
    told = faults(criterion={"select": {"segments": segments}})
    assert "none, every, or {each:" in told


@pytest.mark.parametrize("attribute", ["country x ", " x country", "* x country", "country  x gender"])
def test_intersections_are_spelt_out(attribute: str) -> None:
    assert "an attribute, *, or" in faults(criterion={"select": {"segments": {"each": [attribute]}}})


@pytest.mark.parametrize("missing", ["pass", {"not_applicable": ""}, {"not_applicable": " "}, {}, None, True])
def test_what_is_missing_blocks_or_is_excused_with_a_reason(missing: Any) -> None:
    if missing == {}:
        assert parse(criterion={"missing": missing}).criteria[0].missing.not_applicable == ""
    else:
        assert "block, or {not_applicable: the reason}" in faults(criterion={"missing": missing})


def test_a_policy_is_found_by_folder_or_file(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(POLICY))
    assert load_policy(tmp_path) == load_policy(tmp_path / "policy.yaml")


def test_a_missing_policy_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found no policy\.yaml in"):
        load_policy(tmp_path)


def test_a_policy_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        load_policy(tmp_path)


def test_a_fail_is_unwaivable_unless_the_policy_says_otherwise() -> None:
    assert parse().criteria[0].on_fail == "block"
    assert parse(criterion={"on_fail": "waive", "on_insufficient": "waive"}).criteria[0].on_fail == "waive"


@pytest.mark.parametrize(
    ("criterion", "told"),
    [
        (
            {"on_fail": "note", "on_insufficient": "waive"},
            "criteria.0.on_fail: found 'note'; needed 'block' or 'waive'",
        ),
        (
            {"on_fail": "waive"},
            "on_fail: found waive, but on_insufficient: block; needed on_insufficient: waive as well",
        ),
        ({"on_fail": "waive", "on_insufficient": "waive", "effect": "advisory"}, "waive on an advisory criterion"),
        ({"on_fial": "waive"}, "Did you mean 'on_fail'?"),
    ],
)
def test_what_a_waiver_may_do_is_said_without_contradiction(criterion: dict[str, Any], told: str) -> None:
    assert told in faults(criterion=criterion)
