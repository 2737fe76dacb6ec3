"""One honest run of the smallest store, shared by the tests of trials: they only ever link to its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.trials.worlds import Parts, World, base_of, parts_of, shop


@pytest.fixture(scope="session")
def world() -> World:
    return shop(0.1)


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where bases lie; files are linked within it."""
    return tmp_path_factory.mktemp("trials")


@pytest.fixture(scope="session")
def base(world: World, work: Path) -> Path:
    return base_of(world, 0, made_by="tests", work=work)


@pytest.fixture
def parts(base: Path) -> Parts:
    return parts_of(base)


@pytest.fixture
def out(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder on the disk of the base."""
    return Path(tmp_path_factory.mktemp("planted"))
