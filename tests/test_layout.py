"""The house: top level, rooms, doors."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

_TOP = {
    "pipelines", "components", "bentos", "manifests", "policies", "tests", "Taskfile.yml", "pyproject.toml", "README.md",
    "docs", ".ci", "Dockerfile", ".dockerignore", ".gitignore", "CHANGELOG.md", "LICENSE",
    "requirements.lock", "requirements-dev.lock",
}  # fmt: skip
_ROOMS = ("events", "dataset", "ranker", "evidence", "verdict", "card", "approval", "serving", "package", "rollout")
_SHARED = ("artifacts", "statistics")


def _tracked(repository: Path) -> list[Path]:
    done = subprocess.run(["git", "ls-files"], cwd=repository, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout: what is tracked cannot be listed")
    return [Path(line) for line in done.stdout.splitlines() if (repository / line).exists()]


def test_the_top_level_holds_what_it_may_and_all_of_it(repository: Path) -> None:
    assert {path.parts[0] for path in _tracked(repository)} == _TOP


def test_every_room_is_there_with_its_contract_and_its_tests(repository: Path) -> None:
    folders = {
        path.name for path in (repository / "components").iterdir() if path.is_dir() and path.name != "__pycache__"
    }
    assert folders == {*_ROOMS, *_SHARED}
    for room in _ROOMS:
        contract = repository / "components" / room / "contract.py"
        assert "SCHEMA_VERSION" in contract.read_text(), room
        assert list((repository / "tests" / "components" / room).rglob("test_*.py")), room


def test_every_module_says_what_it_is_for(repository: Path) -> None:
    silent = [
        str(path)
        for path in _tracked(repository)
        if path.suffix == ".py"
        and path.parts[0] in ("components", "pipelines", "bentos")
        and not ast.get_docstring(ast.parse((repository / path).read_text()))
    ]
    assert not silent


def test_no_name_says_nothing(repository: Path) -> None:
    empty = re.compile(r"(^|_)(utils?|helpers?|common|manager|misc|data2)(_|$)")
    assert not [str(path) for path in _tracked(repository) if path.suffix == ".py" and empty.search(path.stem)]


def test_tests_mirror_the_tree_without_packages(repository: Path) -> None:
    tests = [path for path in _tracked(repository) if path.parts[0] == "tests"]
    assert not [str(path) for path in tests if path.name == "__init__.py"]


def test_nothing_is_ever_unpickled(repository: Path) -> None:
    loads = re.compile(r"\b(pickle|joblib|cloudpickle|dill)\b.*\bload|allow_pickle=True|weights_only=False")
    guilty = [
        str(path)
        for path in _tracked(repository)
        if path.suffix == ".py" and path.parts[0] != "tests" and loads.search((repository / path).read_text())
    ]
    assert not guilty


def test_locks_hold_versions_and_hashes_and_no_addresses(repository: Path) -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (repository / name).read_text()
        assert "://" not in text
        assert "--index" not in text
        entries = re.findall(r"^[a-z0-9].*?==.*?(?=^[a-z0-9]|\Z)", text, flags=re.MULTILINE | re.DOTALL)
        assert entries
        assert all("--hash=sha256:" in entry for entry in entries)
