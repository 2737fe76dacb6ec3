"""Small rankers to answer with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.ranker.scoring import LoadedRanker


@pytest.fixture(scope="session")
def ranker(small_ranker: Path) -> LoadedRanker:
    return LoadedRanker.open(small_ranker)


@pytest.fixture(scope="session")
def changed(changed_ranker: Callable[..., Path]) -> Callable[..., LoadedRanker]:
    """The same ranker with another manifest, opened."""

    def open_with(**said: Any) -> LoadedRanker:
        return LoadedRanker.open(changed_ranker(**said))

    return open_with
