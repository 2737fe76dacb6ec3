"""Logs of the service: a JSON object a line, bounded in rate, and never in the way of an answer.

    {"at": "2026-05-10T09:00:00.123456Z", "level": "info", "event": "answered", "logger": "rankgate.serving",
     "request_id": "feed-17", "route": "/rank", "status": 200, "ms": 2.4, "arm": "stable", "release": "9f2c...", "places": 20}

Lines say which request, never who asked nor what was shown: that is the exposure log's. They are written by a thread of their
own from a bounded queue, for a pipe that nobody reads would stop the service with its first full buffer.
"""

from __future__ import annotations

import atexit
import json
import logging
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO

from components.errors import Fault, FaultyInputError
from components.serving.contract import Answer

NAME = "rankgate"
LEVEL_VARIABLE = "RANKGATE_LOG_LEVEL"
SAMPLE_VARIABLE = "RANKGATE_LOG_SAMPLE"
_LEVELS = ("debug", "info", "warning", "error")

FIELDS = (
    "request_id", "route", "path", "status", "ms", "release", "arm", "surface", "places", "lists", "fallbacks", "refused",
)  # fmt: skip
"""What a record may carry beside its event, as `extra`; everything else is left out."""

_WAITING = 2_000
_END_WITHIN = 2.0
_MOST_LETTERS = 8_000
"""Of a stack trace: its last calls are at its end."""


class JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its newline."""
        moment = datetime.fromtimestamp(record.created, UTC)
        said: dict[str, object] = {
            "at": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
        }
        for name in FIELDS:
            if (value := getattr(record, name, None)) is not None:
                said[name] = value
        if suppressed := getattr(record, "suppressed", 0):
            said["suppressed"] = suppressed
        if record.exc_info and record.exc_info[0] is not None:
            said["error"] = record.exc_info[0].__name__
            said["trace"] = self.formatException(record.exc_info)[-_MOST_LETTERS:]
        return json.dumps(said, default=str)


class Throttle(logging.Filter):
    """At most so many records a second, after a burst; the next that passes says how many did not."""

    def __init__(self, rate: float, *, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._rate, self._burst, self._clock = rate, burst, clock
        self._tokens, self._at, self._suppressed = float(burst), clock(), 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record passes."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + self._rate * (now - self._at))
        self._at = now
        if self._tokens < 1.0:
            self._suppressed += 1
            return False
        self._tokens -= 1.0
        record.suppressed, self._suppressed = self._suppressed, 0
        return True


class _Waiting(logging.Handler):
    """Puts lines on a queue; where it is full the line is dropped, and whoever logs goes on."""

    def __init__(self, stream: IO[str]) -> None:
        super().__init__()
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._write, name="log-lines", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Without waiting."""
        with suppress(queue.Full):
            self._lines.put_nowait(self.format(record))

    def close(self) -> None:
        """Write what waits, but not for long: the stream may be stuck."""
        with suppress(queue.Full):
            self._lines.put_nowait(None)
        self._thread.join(_END_WITHIN)
        super().close()

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            # A stream that is closed takes nothing any more, and there is nowhere else to say so.
            with suppress(OSError, ValueError):
                self._stream.write(line + "\n")
                self._stream.flush()


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How much is logged."""

    level: str = "info"
    sample: int = 100
    """One in so many successful requests has a line; 0: none."""
    rate: float = 50.0
    """Lines a second."""
    burst: int = 200

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> LogSettings:
        """What the environment says.

        Raises:
            FaultyInputError: If it says something that is no level or no number.
        """
        standard, faults = cls(), []
        level = environment.get(LEVEL_VARIABLE, "").lower() or standard.level
        if level not in _LEVELS:
            faults.append(Fault(LEVEL_VARIABLE, repr(level[:40]), f"one of {', '.join(_LEVELS)}"))
        said = environment.get(SAMPLE_VARIABLE, "")
        if said and not (said.isascii() and said.isdigit() and len(said) < 10):
            faults.append(Fault(SAMPLE_VARIABLE, repr(said[:40]), "a whole number: one in so many, 0 for none"))
        if faults:
            raise FaultyInputError("logs", faults)
        return cls(level=level, sample=int(said) if said else standard.sample)


def start_logs(settings: LogSettings, *, stream: IO[str] | None = None) -> Callable[[], None]:
    """Log what `rankgate` says as JSON lines; returns what writes the rest and ends it, which also happens at exit.

    Args:
        settings: How much.
        stream: Standard error unless another is given.
    """
    logger = logging.getLogger(NAME)
    waiting = _Waiting(stream or sys.stderr)
    waiting.setFormatter(JsonLines())
    waiting.addFilter(Throttle(settings.rate, burst=settings.burst))
    level, propagates = logger.level, logger.propagate
    logger.addHandler(waiting)
    logger.setLevel(settings.level.upper())
    logger.propagate = False

    def end() -> None:
        atexit.unregister(end)
        if waiting in logger.handlers:
            logger.removeHandler(waiting)
            logger.setLevel(level)
            logger.propagate = propagates
            waiting.close()

    atexit.register(end)
    return end


class AccessLog:
    """A line for one in so many successful requests, and for every other; from one thread."""

    def __init__(self, sample: int) -> None:
        self._sample, self._turn = sample, 0
        self._log = logging.getLogger(f"{NAME}.access")

    def replied(
        self, route: str, status: int, seconds: float, *, answers: tuple[Answer, ...] = (), refused: str = ""
    ) -> None:
        """Log an answered request, or leave it out.

        Args:
            route: The service's own name of it.
            status: Of HTTP.
            seconds: From its first byte to the answer's last.
            answers: The lists that it was answered with.
            refused: The fields that were refused; their values may name people and are not logged.
        """
        if status < 400:
            self._turn += 1
            if not self._sample or self._turn % self._sample:
                return
        said: dict[str, object] = {"route": route, "status": status, "ms": round(seconds * 1e3, 3)}
        if refused:
            said["refused"] = refused
        if answers:
            first = answers[0]
            said |= {"request_id": first.request_id, "release": first.release, "arm": first.arm}
            said["places"] = sum(len(answer.places) for answer in answers)
            said["fallbacks"] = sorted({reason for answer in answers for reason in answer.fallbacks})
            if len(answers) > 1:
                said["lists"] = len(answers)
        level = logging.INFO if status < 400 else logging.WARNING if status < 500 else logging.ERROR
        self._log.log(level, "answered" if status < 400 else "refused" if status < 500 else "failed", extra=said)
