"""Cutting a service's requirements out of the lock."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from components.errors import InputError
from components.package.requirements import LockedLibrary, cut_lock, licences_of, locked_libraries

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


def test_libraries_are_the_entries_with_version_hashes_and_what_they_need(lock: str) -> None:
    libraries = {held.name: held for held in locked_libraries(cut_lock(lock, _ROOTS))}
    assert set(libraries) == _names(cut_lock(lock, _ROOTS))
    numpy, xgboost = libraries["numpy"], libraries["xgboost"]
    assert f"numpy=={numpy.version}" in lock
    assert numpy.purl == f"pkg:pypi/numpy@{numpy.version}"
    assert {"numpy", "scipy"} <= set(xgboost.requires)
    hashes = [digest for held in libraries.values() for digest in held.hashes]
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in hashes)
    assert len(hashes) == cut_lock(lock, _ROOTS).count("--hash=")


def test_a_licence_is_what_the_installed_version_says_of_itself(lock: str) -> None:
    libraries = {held.name: held for held in locked_libraries(cut_lock(lock, _ROOTS))}
    assert "BSD-3-Clause" in licences_of(libraries["numpy"]).expression
    assert licences_of(libraries["bentoml"]).expression or licences_of(libraries["bentoml"]).names


def test_of_another_version_and_of_what_is_not_installed_no_licence_is_told() -> None:
    for library in (LockedLibrary("numpy", "0.0.1", (), ()), LockedLibrary("no-such-package", "1", (), ())):
        assert (licences_of(library).expression, licences_of(library).names) == ("", ())
