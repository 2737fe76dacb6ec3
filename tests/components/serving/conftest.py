"""Small rankers to answer with, and servers to share users by."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from components.ranker.scoring import LoadedRanker

# Tests cannot import one another; what starts a program for them lies beside them.
sys.path.insert(0, str(Path(__file__).parent))
import redis_process


@pytest.fixture(scope="session")
def ranker(small_ranker: Path) -> LoadedRanker:
    return LoadedRanker.open(small_ranker)


@pytest.fixture(scope="session")
def changed(changed_ranker: Callable[..., Path]) -> Callable[..., LoadedRanker]:
    """The same ranker with another manifest, opened."""

    def open_with(**said: Any) -> LoadedRanker:
        return LoadedRanker.open(changed_ranker(**said))

    return open_with


@pytest.fixture
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """Starts servers that speak the Redis protocol; all of them end with the test."""
    if redis_process.BINARY is None:
        pytest.skip(redis_process.ABSENT)
    servers: list[redis_process.RedisServer] = []

    def start(*options: str, **said: Any) -> redis_process.RedisServer:
        servers.append(redis_process.RedisServer(tmp_path_factory.mktemp("redis"), *options, **said))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()
