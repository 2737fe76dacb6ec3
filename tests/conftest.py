"""Fixtures that more than one room's tests need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout the tests run in."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data sets; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("RANKGATE_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "online_retail" / "raw.parquet").is_file():
        pytest.skip(f"real data is not at {folder}: set RANKGATE_SHARED_DATA to its folder")
    return folder
