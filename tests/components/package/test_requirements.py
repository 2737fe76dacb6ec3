"""Cutting a service's requirements out of the lock."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from components.errors import InputError
from components.package.requirements import cut_lock

_ROOTS = ("bentoml", "numpy", "xgboost")


@pytest.fixture(scope="module")
def lock(repository: Path) -> str:
    return (repository / "requirements.lock").read_text()


def _names(text: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9][a-z0-9.-]*)(?:\[[^\]]*\])?==", text, flags=re.MULTILINE))


def test_the_cut_holds_what_is_imported_and_what_that_requires(lock: str) -> None:
    names = _names(cut_lock(lock, _ROOTS))
    assert {"bentoml", "numpy", "xgboost", "scipy", "starlette", "uvicorn"} <= names
    assert not {"kfp", "evidently", "fairlearn", "pandas", "scikit-learn"} & names


def test_every_entry_keeps_its_pin_and_hashes(lock: str) -> None:
    cut = cut_lock(lock, _ROOTS)
    for entry in re.split(r"\n(?=[a-z0-9])", cut.strip()):
        assert "==" in entry
        assert "--hash=sha256:" in entry
        assert entry in lock


def test_the_cut_is_in_the_locks_order_and_the_same_every_time(lock: str) -> None:
    assert cut_lock(lock, _ROOTS) == cut_lock(lock, tuple(reversed(_ROOTS)))


def test_a_root_that_is_not_locked_is_refused(lock: str) -> None:
    with pytest.raises(InputError, match="no entry for no-such-package"):
        cut_lock(lock, ["no-such-package"])


def test_the_cuda_libraries_are_not_in_the_lock(lock: str) -> None:
    assert "nvidia-nccl" not in lock
