"""The rollout policy that ships: borne out by its suite, and the suite notices a guardrail that lost its bite."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from components.artifacts.strict_yaml import parse_value
from components.errors import FaultyInputError, InputError
from components.rollout.policy import Plain, budget_of, load_rollout_policy, parse_rollout_policy, rollout_place
from components.rollout.suite import check_rollout_suite, run_rollout_suite
from components.serving.metrics import ANSWER_SECONDS
from pipelines.cli.policy import policy as policy_command

FOLDER = Path(__file__).resolve().parents[2] / "policies" / "rollout"


@pytest.fixture(scope="module")
def written() -> dict[str, Any]:
    value: dict[str, Any] = parse_value((FOLDER / "default.yaml").read_text(), subject="default")
    return value


def test_the_policy_is_borne_out_by_its_suite() -> None:
    result = check_rollout_suite(FOLDER)
    assert result.policy.name == "default"
    assert result.cases >= 20


def test_the_command_line_checks_it_as_any_policy() -> None:
    done = CliRunner().invoke(policy_command, ["check", str(FOLDER)])
    assert done.exit_code == 0, done.output
    assert "cases, all as expected" in done.output


def test_a_folder_of_another_kind_is_no_rollout_policy() -> None:
    assert rollout_place(FOLDER.parent / "default") is None
    assert rollout_place(FOLDER / "suite.yaml") is None
    assert rollout_place(FOLDER) == rollout_place(FOLDER / "default.yaml") == FOLDER / "default.yaml"


def test_every_guardrail_says_why_in_a_sentence() -> None:
    for guardrail in load_rollout_policy(FOLDER).guardrails:
        assert guardrail.why.strip().endswith("."), guardrail.id
        assert len(guardrail.why.split()) >= 8, guardrail.id


def test_latency_is_asked_in_the_buckets_that_the_service_counts() -> None:
    latency = [g for g in load_rollout_policy(FOLDER).guardrails if g.kind == "latency"]
    assert latency
    assert all(g.bounds == ANSWER_SECONDS for g in latency)


def test_the_parts_of_the_budget_are_the_whole() -> None:
    policy = load_rollout_policy(FOLDER)
    budget = budget_of(policy)
    most = {g.id: g.segments.most for g in policy.guardrails if getattr(g, "segments", None)}
    spent = sum(budget.guardrails.values()) + sum(part * most[name] for name, part in budget.segments.items())
    assert spent == pytest.approx(policy.false_rollback)
    assert set(budget.guardrails) == {g.id for g in policy.guardrails if not isinstance(g, Plain)}


LOOSENED: dict[str, dict[str, Any]] = {
    "errors": {"margin": 0.5},
    "fallbacks": {"margin": 0.5},
    "empty": {"margin": 0.5},
    "latency-p95": {"ratio": 20},
    "latency-p99": {"ratio": 20},
    "scores": {"margin": 0.9},
    "clicks": {"margin": 0.9},
    "features-age": {"at_most": 1e9},
    "features-parity": {"at_most": 1},
}


@pytest.mark.parametrize("guardrail", sorted(LOOSENED))
def test_the_suite_notices_a_guardrail_that_lost_its_bite(
    guardrail: str, tmp_path: Path, written: dict[str, Any]
) -> None:
    folder = tmp_path / "rollout"
    shutil.copytree(FOLDER, folder)
    changed = {
        **written,
        "guardrails": [g | LOOSENED[guardrail] if g["id"] == guardrail else g for g in written["guardrails"]],
    }
    suite = yaml.safe_load((folder / "suite.yaml").read_text())
    # Only the cases that speak of it, for speed.
    suite["cases"] = [c for c in suite["cases"] if c["expect"].get("answers", {}).get(guardrail) == "harm"]
    (folder / "default.yaml").write_text(yaml.safe_dump(changed))
    (folder / "suite.yaml").write_text(yaml.safe_dump(suite))
    failures = [f for f in run_rollout_suite(folder).failures if f.startswith("case")]
    assert any(guardrail in failure or "found continue" in failure for failure in failures)


def test_a_suite_that_forgot_a_guardrail_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "rollout"
    shutil.copytree(FOLDER, folder)
    suite = yaml.safe_load((folder / "suite.yaml").read_text())
    suite["cases"] = suite["cases"][:1]
    (folder / "suite.yaml").write_text(yaml.safe_dump(suite))
    with pytest.raises(InputError, match=r"guardrail errors: no case expects it to be harm or insufficient") as refused:
        check_rollout_suite(folder)
    assert "no case expects the action roll_back" in str(refused.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"steps": [{"share": 0.5, "dwell_seconds": 1}, {"share": 0.1, "dwell_seconds": 1}]}, "shares that grow"),
        ({"false_rollbacks": 0.1}, "Did you mean 'false_rollback'"),
        ({"false_rollback": 0.9}, "false_rollback"),
        ({"hold_at_most_seconds": 60}, "hold_at_most_seconds above every step"),
        ({"restart_seconds": True}, "restart_seconds"),
    ],
)
def test_what_is_wrong_with_a_policy_is_told(change: dict[str, Any], told: str, written: dict[str, Any]) -> None:
    with pytest.raises(FaultyInputError, match=told):
        parse_rollout_policy(yaml.safe_dump(written | change), subject="policy")


@pytest.mark.parametrize(
    ("guardrail", "change", "told"),
    [
        ("errors", {"id": "fallbacks"}, "the id 2 times"),
        ("errors", {"ruled_out_from": 9}, "a step from 1 to 4"),
        ("errors", {"margin": 0}, "margin"),
        ("latency-p95", {"bounds": [0.2, 0.1]}, "bounds that ascend"),
        ("latency-p95", {"kind": "speed"}, "kind"),
    ],
)
def test_what_is_wrong_with_a_guardrail_is_told(
    guardrail: str, change: dict[str, Any], told: str, written: dict[str, Any]
) -> None:
    changed = written | {"guardrails": [g | change if g["id"] == guardrail else g for g in written["guardrails"]]}
    with pytest.raises(FaultyInputError, match=told):
        parse_rollout_policy(yaml.safe_dump(changed), subject="policy")
