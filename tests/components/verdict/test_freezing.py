"""Re-rank rules and the team's words are frozen with the policy: what is told is what was declared, or the run starts anew."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from components.artifacts.digests import digest_file
from components.errors import FaultyInputError, InputError
from components.ranker.declared_rules import read_rules
from components.verdict import freezing
from components.verdict.bundle import pack, unpack
from components.verdict.freezing import freeze_policy, open_frozen

RULES = "schema: rankgate/rerank/v1\ncaps: {category: 3}\n"
WORDS = "schema: rankgate/model-card/v1\nowner: Feed team\n"


@pytest.fixture(autouse=True)
def _suite_passes(monkeypatch: pytest.MonkeyPatch, repository: Path) -> None:
    # The default policy's own suite has its own test; here it would only take time.
    digest = digest_file(repository / "policies" / "default" / "policy.yaml")
    policy = freezing.parse_policy((repository / "policies" / "default" / "policy.yaml").read_text(), subject="default")
    result = type("Result", (), {"policy_digest": digest, "policy": policy, "suite_digest": "0" * 64, "cases": 1})
    monkeypatch.setattr(freezing, "check_suite", lambda _: result)


@pytest.fixture
def policy(repository: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "policy"
    folder.mkdir()
    shutil.copyfile(repository / "policies" / "default" / "policy.yaml", folder / "policy.yaml")
    return folder


def frozen(policy: Path, out: Path) -> Path:
    out.mkdir()
    freeze_policy(policy, at=datetime(2026, 5, 10, tzinfo=UTC), out=out)
    return out


def test_a_policy_without_rules_is_frozen_without_any(policy: Path, tmp_path: Path) -> None:
    out = frozen(policy, tmp_path / "out")
    assert open_frozen(out)[0].rerank == ""
    assert read_rules(out) is None


def test_rules_travel_with_the_policy_and_are_frozen_byte_by_byte(policy: Path, tmp_path: Path) -> None:
    (policy / "rerank.yaml").write_text(RULES, encoding="utf-8")
    (tmp_path / "arrived").mkdir()
    arrived = unpack(pack(policy), tmp_path / "arrived")
    out = frozen(arrived, tmp_path / "out")
    assert (out / "rerank.yaml").read_text(encoding="utf-8") == RULES
    rules = read_rules(out)
    assert rules
    assert open_frozen(out)[0].rerank == rules.declared == digest_file(policy / "rerank.yaml")


@pytest.mark.parametrize("change", [RULES.replace("3", "4"), None])
def test_rules_that_changed_after_freezing_judge_nothing(policy: Path, tmp_path: Path, change: str | None) -> None:
    (policy / "rerank.yaml").write_text(RULES, encoding="utf-8")
    out = frozen(policy, tmp_path / "out")
    (out / "rerank.yaml").unlink()
    if change:
        (out / "rerank.yaml").write_text(change, encoding="utf-8")
    with pytest.raises(InputError, match=r"rerank\.yaml is .*start a new run"):
        open_frozen(out)


def test_rules_slipped_in_after_freezing_are_found(policy: Path, tmp_path: Path) -> None:
    out = frozen(policy, tmp_path / "out")
    (out / "rerank.yaml").write_text(RULES, encoding="utf-8")
    with pytest.raises(InputError, match="but none was frozen"):
        open_frozen(out)


def test_rules_that_cannot_be_used_stop_the_run_at_its_first_step(policy: Path, tmp_path: Path) -> None:
    (policy / "rerank.yaml").write_text("schema: rankgate/rerank/v1\nwindow: none\n", encoding="utf-8")
    with pytest.raises(FaultyInputError, match="window: found 'none'"):
        frozen(policy, tmp_path / "out")


def test_the_teams_words_are_frozen_byte_by_byte(policy: Path, tmp_path: Path) -> None:
    (policy / "model-card.yaml").write_text(WORDS, encoding="utf-8")
    out = frozen(policy, tmp_path / "out")
    assert (out / "model-card.yaml").read_text(encoding="utf-8") == WORDS
    assert open_frozen(out)[0].model_card == digest_file(policy / "model-card.yaml")


@pytest.mark.parametrize("change", [WORDS.replace("Feed", "Other"), None])
def test_words_that_changed_after_freezing_are_found(policy: Path, tmp_path: Path, change: str | None) -> None:
    (policy / "model-card.yaml").write_text(WORDS, encoding="utf-8")
    out = frozen(policy, tmp_path / "out")
    (out / "model-card.yaml").unlink()
    if change:
        (out / "model-card.yaml").write_text(change, encoding="utf-8")
    with pytest.raises(InputError, match=r"model-card\.yaml is .*start a new run"):
        open_frozen(out)


def test_words_slipped_in_after_freezing_are_found(policy: Path, tmp_path: Path) -> None:
    out = frozen(policy, tmp_path / "out")
    (out / "model-card.yaml").write_text(WORDS, encoding="utf-8")
    with pytest.raises(InputError, match="but none was frozen"):
        open_frozen(out)


def test_words_that_cannot_be_used_stop_the_run_at_its_first_step(policy: Path, tmp_path: Path) -> None:
    (policy / "model-card.yaml").write_text("schema: rankgate/model-card/v1\nownr: x\n", encoding="utf-8")
    with pytest.raises(FaultyInputError, match="Did you mean 'owner'"):
        frozen(policy, tmp_path / "out")
