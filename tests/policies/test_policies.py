"""The policies that ship: each is borne out by its suite, each suite notices a rule that lost its bite, names are in step."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.artifacts.strict_yaml import parse_value, read_model
from components.errors import InputError
from components.evidence.contract import Evidence
from components.verdict.bundle import pack
from components.verdict.judging import judge
from components.verdict.outcomes import is_waivable, stopping_messages
from components.verdict.policy import Policy, load_policy, parse_policy
from components.verdict.samples import as_evidence, changed, read_sample
from components.verdict.suite import Suite, check_suite, run_suite

POLICIES = Path(__file__).resolve().parents[2] / "policies"
# policies/rollout is of another kind: tests/policies/test_rollout_policies.py
FOLDERS = sorted(path for path in POLICIES.iterdir() if (path / "policy.yaml").is_file())
CRITERIA = [(folder.name, criterion.id) for folder in FOLDERS for criterion in load_policy(folder).criteria]


def test_there_are_policies() -> None:
    assert {"default", "retail"} <= {folder.name for folder in FOLDERS}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_policy_is_borne_out_by_its_suite(folder: Path) -> None:
    result = check_suite(folder)
    assert result.policy.name == folder.name


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_policy_travels_as_a_pipeline_parameter(folder: Path) -> None:
    packed = pack(folder)
    assert {"policy.yaml", "suite.yaml"} <= set(packed)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_rule_says_why_in_a_sentence(folder: Path) -> None:
    for criterion in load_policy(folder).criteria:
        assert criterion.why.strip().endswith("."), criterion.id
        assert len(criterion.why.split()) >= 8, criterion.id


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_metrics_are_named_as_the_evidence_room_names_them(folder: Path, repository: Path) -> None:
    text = "".join(path.read_text() for path in sorted((repository / "components" / "evidence").glob("*.py")))
    for criterion in load_policy(folder).criteria:
        stem = criterion.metric.partition("@")[0]
        assert f'"{stem}"' in text or f'"{stem}@' in text, f"{criterion.id}: {criterion.metric}"


def _loosened(criterion: dict[str, Any]) -> None:
    bound = criterion["bound"]
    if "within" in bound:
        bound["margin"] = 1e6
    elif "at_least" in bound:
        bound["at_least"] = -1e6
    else:
        bound["at_most"] = 1e6


def _tightened(criterion: dict[str, Any]) -> None:
    bound = criterion["bound"]
    bound.pop("margin", None)
    for key, value in (("at_least", 1e6), ("at_most", -1e6), ("within", [1e6, 1e6])):
        if key in bound:
            bound[key] = value


def _turned(criterion: dict[str, Any]) -> None:
    criterion["effect"] = "advisory" if criterion.get("effect", "blocking") == "blocking" else "blocking"


def _misnamed(criterion: dict[str, Any]) -> None:
    criterion["metric"] += "x"


def _of_something_else(criterion: dict[str, Any]) -> None:
    criterion.setdefault("select", {})["versus"] = "nobody"
    criterion.pop("when", None)


@cache
def _cases(policy: str) -> list[tuple[dict[Any, Evidence], bool]]:
    """Evidence of every case of a policy's suite, and whether it is a first release."""
    folder = POLICIES / policy
    suite = read_model(Suite, folder / "suite.yaml", subject=policy)
    found = []
    for case in suite.cases:
        estimates: dict[Any, Any] = {}
        for name in case.samples:
            estimates.update(read_sample(folder / name, subject=name))
        held = changed(estimates, case.change)
        found.append(({q: as_evidence(q, e) for q, e in held.items() if q not in case.without}, case.first_release))
    return found


@cache
def _text(policy: str) -> str:
    return (POLICIES / policy / "policy.yaml").read_text()


def _told(rules: Policy, criterion: str, policy: str) -> list[tuple[str, str, int, bool]]:
    """What a suite pins of one criterion, case by case: its answer, how many findings stop, whether a waiver could help."""
    (rule,) = (held for held in rules.criteria if held.id == criterion)
    alone = rules.model_copy(update={"criteria": (rule,)})
    told = []
    for evidence, first_release in _cases(policy):
        (outcome,) = judge(alone, evidence, {}, first_release=first_release)
        told.append((outcome.answer, outcome.not_applicable, len(stopping_messages(outcome)), is_waivable(outcome)))
    return told


@pytest.mark.parametrize("change", [_loosened, _tightened, _turned, _misnamed, _of_something_else])
@pytest.mark.parametrize(("policy", "criterion"), CRITERIA)
def test_a_suite_notices_a_rule_that_was_changed(
    policy: str, criterion: str, change: Callable[[dict[str, Any]], None]
) -> None:
    value = parse_value(_text(policy), subject=policy)
    before = parse_policy(_text(policy), subject=policy)
    change(next(rule for rule in value["criteria"] if rule["id"] == criterion))
    after = Policy.model_validate(value)
    assert _told(after, criterion, policy) != _told(before, criterion, policy)


# A counted figure is insufficient only where it is missing, which no waiver lets through.
COUNTED = {
    "changed_without_future",
    "overlap",
    "early_arrivals",
    "skewed_share",
    "score_difference",
    "order_parity",
    "memory_mb",
    "malformed_refused",
    "well_afterwards",
}
WAIVING = [
    (folder.name, criterion.id, key)
    for folder in FOLDERS
    for criterion in load_policy(folder).criteria
    for key in ("on_fail", "on_insufficient")
    if criterion.effect == "blocking"
    and not (key == "on_insufficient" and (criterion.evidence == "data" or criterion.metric in COUNTED))
]


@pytest.mark.parametrize(("policy", "criterion", "key"), WAIVING)
def test_a_suite_notices_a_rule_whose_waiving_was_changed(policy: str, criterion: str, key: str) -> None:
    value = parse_value(_text(policy), subject=policy)
    before = parse_policy(_text(policy), subject=policy)
    rule = next(rule for rule in value["criteria"] if rule["id"] == criterion)
    rule[key] = "block" if rule.get(key, "block") == "waive" else "waive"
    assert _told(Policy.model_validate(value), criterion, policy) != _told(before, criterion, policy)


@pytest.mark.parametrize("policy", [folder.name for folder in FOLDERS])
def test_a_policy_with_a_loosened_rule_is_refused(tmp_path: Path, policy: str) -> None:
    copy = tmp_path / policy
    shutil.copytree(POLICIES / policy, copy)
    value = parse_value(_text(policy), subject=policy)
    _loosened(value["criteria"][0])
    (copy / "policy.yaml").write_text(yaml.safe_dump(value, sort_keys=False))
    with pytest.raises(InputError, match="does not bear it out"):
        check_suite(copy)


@pytest.mark.parametrize("policy", [folder.name for folder in FOLDERS])
def test_a_suite_notices_a_lower_level(tmp_path: Path, policy: str) -> None:
    copy = tmp_path / policy
    shutil.copytree(POLICIES / policy, copy)
    text = (copy / "policy.yaml").read_text()
    (copy / "policy.yaml").write_text(text.replace("level: 0.95", "level: 0.7"))
    assert run_suite(copy).failures
