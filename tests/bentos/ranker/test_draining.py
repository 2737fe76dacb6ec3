"""SIGTERM: first unready, then the server's own ending, at once where somebody insists."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from bentos.ranker.draining import VARIABLE, drain_on_sigterm, drain_seconds
from bentos.ranker.serving import Serving
from components.errors import InputError


@pytest.fixture
def ended() -> Iterator[list[int]]:
    """A server's own handler of SIGTERM."""
    found: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: found.append(number))
    yield found
    signal.signal(signal.SIGTERM, before)


def told_to_end(ended: list[int], seconds: float, *, times: int = 1, wait: float = 0.0) -> tuple[Serving, bool]:
    """The state afterwards, and whether it had ended as soon as it was told."""
    serving = Serving()

    async def run() -> bool:
        drain_on_sigterm(serving, seconds)
        for _ in range(times):
            os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0)
        at_once = bool(ended)
        await asyncio.sleep(wait)
        return at_once

    return serving, asyncio.run(run())


def test_it_drains_first_and_ends_after_its_time(ended: list[int]) -> None:
    serving, at_once = told_to_end(ended, 0.05, wait=0.5)
    assert (serving.draining, at_once, ended) == (True, False, [signal.SIGTERM])


def test_within_its_time_it_does_not_end(ended: list[int]) -> None:
    serving, _ = told_to_end(ended, 60.0, wait=0.05)
    assert (serving.draining, ended) == (True, [])


def test_without_time_or_told_twice_it_ends_at_once(ended: list[int]) -> None:
    assert told_to_end(ended, 0.0)[1]
    ended.clear()
    assert told_to_end(ended, 60.0, times=2)[1]


def test_a_program_without_a_server_keeps_its_own_end() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        drain_on_sigterm(Serving(), 5.0)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_environment_says_for_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert drain_seconds(5.0) == 5.0
    for said, seconds in (("0", 0.0), ("2.5", 2.5), ("600", 600.0)):
        monkeypatch.setenv(VARIABLE, said)
        assert drain_seconds(5.0) == seconds


@pytest.mark.parametrize("said", ["soon", "-1", "601", "nan", "inf"])
def test_a_time_that_is_none_stops_the_start(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, said)
    with pytest.raises(InputError, match=VARIABLE):
        drain_seconds(5.0)


def test_nothing_else_is_touched(ended: list[int]) -> None:
    before: Any = signal.getsignal(signal.SIGINT)
    told_to_end(ended, 0.0)
    assert signal.getsignal(signal.SIGINT) == before
