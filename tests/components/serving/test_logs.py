"""Logs of the service: lines that machines read, that name nobody, and that never stop an answer."""

from __future__ import annotations

import io
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from components.errors import FaultyInputError
from components.serving.contract import Answer, Place
from components.serving.logs import LEVEL_VARIABLE, SAMPLE_VARIABLE, AccessLog, LogSettings, Throttle, start_logs

_LOG = logging.getLogger("rankgate.serving")
_ANSWER = Answer("r1", (Place("item-9", 0.5, 1, 1.0, False, "given"),), "9f2c", "stable", ("unknown_user",), {})


class Logged:
    """Logs that are on, and their lines."""

    def __init__(self, **settings: Any) -> None:
        self._stream = io.StringIO()
        self.end = start_logs(LogSettings(**settings), stream=self._stream)

    def lines(self) -> list[dict[str, Any]]:
        self.end()
        return [json.loads(line) for line in self._stream.getvalue().splitlines()]


@pytest.fixture
def logged() -> Iterator[type[Logged]]:
    made: list[Logged] = []

    class Ending(Logged):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            made.append(self)

    yield Ending
    for one in made:
        one.end()


def test_a_record_is_one_line_with_its_moment_in_utc(logged: type[Logged]) -> None:
    logs = logged()
    _LOG.warning("two\nlines of %s", "words", extra={"request_id": "r1", "user_id": "u1", "ms": 2.5})
    (line,) = logs.lines()
    assert line.pop("at").endswith("Z")
    assert line == {
        "level": "warning",
        "event": "two\nlines of words",
        "logger": "rankgate.serving",
        "request_id": "r1",
        "ms": 2.5,
    }


def test_an_exception_is_told_with_its_place(logged: type[Logged]) -> None:
    logs = logged()
    try:
        raise ZeroDivisionError("nothing to share")
    except ZeroDivisionError:
        _LOG.exception("scoring failed", extra={"request_id": "r1"})
    (line,) = logs.lines()
    assert (line["level"], line["error"], line["request_id"]) == ("error", "ZeroDivisionError", "r1")
    assert "test_an_exception_is_told_with_its_place" in line["trace"]
    assert line["trace"].endswith("nothing to share")


def test_lines_below_the_level_are_left_out_and_other_programs_are_left_alone(logged: type[Logged]) -> None:
    logs = logged(level="warning")
    _LOG.info("quiet")
    _LOG.warning("heard")
    logging.getLogger("elsewhere").warning("not ours")
    assert [line["event"] for line in logs.lines()] == ["heard"]


def test_what_was_there_before_is_there_again_once_logs_end(logged: type[Logged]) -> None:
    logger = logging.getLogger("rankgate")
    before = (logger.level, logger.propagate, list(logger.handlers))
    logs = logged()
    assert logger.propagate is False
    logs.end()
    logs.end()
    assert (logger.level, logger.propagate, list(logger.handlers)) == before


def test_a_flood_is_cut_and_the_next_line_says_by_how_much() -> None:
    now = [0.0]
    throttle = Throttle(2.0, burst=3, clock=lambda: now[0])

    def passes() -> int | None:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "", None, None)
        return record.suppressed if throttle.filter(record) else None  # type: ignore[attr-defined]

    assert [passes() for _ in range(10)] == [0, 0, 0, *[None] * 7]
    now[0] = 0.5
    assert [passes(), passes()] == [7, None]
    now[0] = 100.0
    assert [passes() for _ in range(4)] == [1, 0, 0, None]


def test_a_flood_of_errors_costs_a_bounded_number_of_lines(logged: type[Logged]) -> None:
    logs = logged(rate=0.001, burst=5)
    for _ in range(1_000):
        _LOG.error("again")
    assert len(logs.lines()) == 5


def test_a_stream_that_nobody_reads_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe takes 64 KiB; what is logged here is much more."""
    monkeypatch.setattr("components.serving.logs._END_WITHIN", 0.1)
    reading, writing = os.pipe()
    stream = os.fdopen(writing, "w")
    end = start_logs(LogSettings(rate=1e9, burst=10**9), stream=stream)
    began = time.process_time()
    for _ in range(5_000):
        _LOG.error("x" * 100)
    assert time.process_time() - began < 5.0
    began_ending = time.monotonic()
    end()
    assert time.monotonic() - began_ending < 5.0
    # Whoever waits for the pipe is let go, and what is left of the stream has nowhere to go.
    os.close(reading)
    with suppress(BrokenPipeError):
        stream.close()


def test_one_in_so_many_successes_and_every_refusal_has_a_line(logged: type[Logged]) -> None:
    logs = logged(rate=1e9, burst=10**6)
    access = AccessLog(10)
    for _ in range(35):
        access.replied("/rank", 200, 0.0024, answers=(_ANSWER,))
    for _ in range(4):
        access.replied("/rank", 400, 0.001, refused="k")
    access.replied("/rank", 503, 0.001)
    lines = logs.lines()
    assert [line["event"] for line in lines] == ["answered"] * 3 + ["refused"] * 4 + ["failed"]
    assert [line["level"] for line in lines] == ["info"] * 3 + ["warning"] * 4 + ["error"]


def test_a_line_names_the_request_and_neither_user_nor_items(logged: type[Logged]) -> None:
    logs = logged()
    AccessLog(1).replied("/rank", 200, 0.0024, answers=(_ANSWER,))
    (line,) = logs.lines()
    del line["at"]
    assert line == {
        "level": "info",
        "event": "answered",
        "logger": "rankgate.access",
        "request_id": "r1",
        "route": "/rank",
        "status": 200,
        "ms": 2.4,
        "release": "9f2c",
        "arm": "stable",
        "places": 1,
        "fallbacks": ["unknown_user"],
    }


def test_a_batch_is_one_line_that_says_how_many_lists(logged: type[Logged]) -> None:
    logs = logged()
    AccessLog(1).replied("/batch", 200, 0.005, answers=(_ANSWER, _ANSWER, _ANSWER))
    (line,) = logs.lines()
    assert (line["lists"], line["places"], line["request_id"]) == (3, 3, "r1")


def test_a_sample_of_none_leaves_only_what_went_wrong(logged: type[Logged]) -> None:
    logs = logged()
    access = AccessLog(0)
    access.replied("/rank", 200, 0.001)
    access.replied("/rank", 404, 0.001)
    assert [line["status"] for line in logs.lines()] == [404]


def test_the_environment_says_how_much() -> None:
    assert LogSettings.of({}) == LogSettings(level="info", sample=100)
    assert LogSettings.of({LEVEL_VARIABLE: "ERROR", SAMPLE_VARIABLE: "0"}) == LogSettings(level="error", sample=0)


def test_every_fault_of_the_environment_is_told_at_once() -> None:
    with pytest.raises(FaultyInputError) as caught:
        LogSettings.of({LEVEL_VARIABLE: "loud", SAMPLE_VARIABLE: "-1"})
    assert f"{LEVEL_VARIABLE}: found 'loud'" in str(caught.value)
    assert f"{SAMPLE_VARIABLE}: found '-1'" in str(caught.value)
