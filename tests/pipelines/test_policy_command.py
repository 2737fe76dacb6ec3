"""`rankgate policy check` reads the re-rank rules too."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from components.errors import FaultyInputError
from pipelines.cli.policy import policy


def _retail(repository: Path, folder: Path, rules: str) -> Path:
    shutil.copytree(repository / "policies" / "retail", folder / "retail")
    (folder / "retail" / "rerank.yaml").write_text(rules, encoding="utf-8")
    return folder / "retail"


def _check(place: Path) -> str:
    return CliRunner().invoke(policy, ["check", str(place)], catch_exceptions=False).output


def test_a_policy_without_rules_says_nothing_of_them(repository: Path) -> None:
    assert "rerank" not in _check(repository / "policies" / "retail")


def test_rules_that_can_be_read_are_named_by_their_digest(repository: Path, tmp_path: Path) -> None:
    place = _retail(repository, tmp_path, "schema: rankgate/rerank/v1\ncaps: {category: 3}\n")
    assert "rerank.yaml: read, sha256 " in _check(place)


def test_rules_with_a_fault_stop_the_check(repository: Path, tmp_path: Path) -> None:
    place = _retail(repository, tmp_path, "schema: rankgate/rerank/v1\ncaps: {categories: 3}\n")
    with pytest.raises(FaultyInputError, match=r"caps\.categories: found an unknown key.*Did you mean 'category'"):
        _check(place)
