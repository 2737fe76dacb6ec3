"""The policies that ship: each is borne out by its suite, each suite notices a rule that lost its bite, names are in step."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.verdict.bundle import pack
from components.verdict.policy import load_policy
from components.verdict.strict_yaml import parse_value
from components.verdict.suite import check_suite, run_suite

POLICIES = Path(__file__).resolve().parents[2] / "policies"
FOLDERS = sorted(path for path in POLICIES.iterdir() if path.is_dir())
CRITERIA = [(folder.name, criterion.id) for folder in FOLDERS for criterion in load_policy(folder).criteria]
MODULES = {
    "data": ("data",),
    "quality": ("quality",),
    "calibration": ("calibration",),
    "fairness-users": ("fairness",),
    "fairness-providers": ("exposure",),
    "drift": ("drift",),
}


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
    for criterion in load_policy(folder).criteria:
        stem = criterion.metric.partition("@")[0]
        sources = [repository / "components" / "evidence" / f"{name}.py" for name in MODULES[criterion.evidence]]
        text = "".join(source.read_text() for source in sources)
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


@pytest.mark.parametrize("change", [_loosened, _tightened, _turned, _misnamed, _of_something_else])
@pytest.mark.parametrize(("policy", "criterion"), CRITERIA)
def test_a_suite_notices_a_rule_that_was_changed(
    tmp_path: Path, policy: str, criterion: str, change: Callable[[dict[str, Any]], None]
) -> None:
    copy = tmp_path / policy
    shutil.copytree(POLICIES / policy, copy)
    value = parse_value((copy / "policy.yaml").read_text(), subject=policy)
    change(next(rule for rule in value["criteria"] if rule["id"] == criterion))
    (copy / "policy.yaml").write_text(yaml.safe_dump(value, sort_keys=False))
    assert run_suite(copy).failures


@pytest.mark.parametrize("policy", [folder.name for folder in FOLDERS])
def test_a_suite_notices_a_lower_level(tmp_path: Path, policy: str) -> None:
    copy = tmp_path / policy
    shutil.copytree(POLICIES / policy, copy)
    text = (copy / "policy.yaml").read_text()
    (copy / "policy.yaml").write_text(text.replace("level: 0.95", "level: 0.7"))
    assert run_suite(copy).failures
