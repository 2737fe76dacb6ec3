"""Kills the process that answers, under load, and says what was lost: requests, time, lines of the exposure log."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from serving_client import paced
from serving_processes import Server

from components.serving.exposure_files import TORN, Damage, files_in, read_file

_FLUSHED = 0.5
"""Seconds after which an answered list must be in the log, on a machine that others use: ten times what the log promises."""
_BUSY = 2
"""Requests that should be in flight at a kill."""


@dataclass(frozen=True, slots=True)
class Killed:
    """What one `kill -9` of the answering process cost."""

    in_flight: int
    """Requests that had been sent and not been answered when it was killed."""
    lost: int
    """Requests that were sent and never answered, in the whole time."""
    failed: int
    """Answers of 500 or above."""
    back_after: float
    """Seconds from the kill until the next answer of 200."""
    longest: float
    """Seconds that the slowest request took from when it was due: it waited for the new process."""
    answered: frozenset[str]
    """Request ids of all answers of 200."""
    recent: frozenset[str]
    """Those of them that were answered so shortly before the kill that the log need not have them."""

    def told(self) -> str:
        return (
            f"kill -9: {self.in_flight} in flight, {self.lost} lost, {self.failed} answered 500 or above, "
            f"{len(self.answered)} answered; back after {self.back_after:.1f} s, the slowest waited {self.longest:.1f} s"
        )


@dataclass(frozen=True, slots=True)
class Logged:
    """What an exposure log holds of answered lists."""

    lists: int
    missing: int
    """Answered, not in the log, and not so recent that they need not be."""
    recent_missing: int
    torn: int
    """Files that end within a line."""
    damaged: int
    """Anything else that is no record."""

    @property
    def readable(self) -> bool:
        return not self.damaged and not self.missing

    def told(self) -> str:
        return (
            f"exposure log: {self.lists} lists, {self.torn} torn tails, {self.damaged} damaged lines; of the answered lists "
            f"{self.missing} are missing, and {self.recent_missing} of those answered within {_FLUSHED:g} s before a kill"
        )


def kill_worker(
    held: Server, contents: Sequence[bytes], *, rate: float, connections: int, before: float = 2.0, after: float = 20.0
) -> Killed:
    """Ask at a steady rate, kill the process that answers, go on asking."""
    began = time.perf_counter()
    killed: list[tuple[float, int]] = []
    answered: list[tuple[float, str]] = []

    def tell(now: float, body: bytes, in_flight: int) -> None:
        answered.append((now, json.loads(body)["request_id"]))
        # At its busiest: with something in flight, if that comes to be.
        if not killed and now >= began + before and (in_flight >= _BUSY or now >= began + before + 3.0):
            # Nothing is sent until it is dead: what is in flight then is all that may be lost.
            kill(held.busiest())
            killed.append((time.perf_counter(), in_flight))

    sample = paced(held.port, contents, rate=rate, seconds=before + after, connections=connections, tell=tell)
    at, in_flight = killed[0] if killed else (began + before, 0)
    # What the killed process had already sent is read at once.
    back = next((now - at for now, _ in answered if now > at + 0.05), float("inf"))
    return Killed(
        in_flight=in_flight,
        lost=sample.statuses[0],
        failed=sum(count for status, count in sample.statuses.items() if status >= 500),
        back_after=back,
        longest=max(sample.seconds, default=float("nan")),
        answered=frozenset(name for _, name in answered),
        recent=frozenset(name for now, name in answered if at - _FLUSHED <= now <= at + 0.05),
    )


def kill(pid: int) -> None:
    """Kill a process and wait until it is dead: its sockets are closed by the last of its threads."""
    os.kill(pid, signal.SIGKILL)
    with suppress(OSError):
        while len(list(Path(f"/proc/{pid}/task").iterdir())) > 1 or state_of(pid) not in "ZX":
            time.sleep(0.001)


def state_of(pid: int) -> str:
    """A letter: R runs, Z is dead and was not waited for."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def logged(folder: Path, *, answered: Collection[str], recent: Collection[str]) -> Logged:
    """What the log of a folder holds; its service has ended."""
    damage: list[Damage] = []
    found = {shown.request_id for path in files_in(folder) for shown in read_file(path, damaged=damage.append)}
    missing = set(answered) - found
    return Logged(
        lists=len(found),
        missing=len(missing - set(recent)),
        recent_missing=len(missing & set(recent)),
        torn=sum(one.kind == TORN for one in damage),
        damaged=sum(one.kind != TORN for one in damage),
    )
