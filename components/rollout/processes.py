"""Processes that outlive whoever started them: known by id and moment of birth, so that nobody else's is ever ended."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_STEP = 0.02
_KILLED_WITHIN = 10.0


@dataclass(frozen=True, slots=True)
class Started:
    """A process, and the leader of its group."""

    pid: int
    born: int
    """Clock ticks since the machine started, as /proc tells: another process of the same id has another."""


def start(words: Sequence[str], *, environment: Mapping[str, str], log: Path) -> Started:
    """Start a program in a session of its own; what it says goes to the end of `log`.

    Raises:
        OSError: If there is no such program.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    # Not by `subprocess`, which wants to see its children end.
    pid = os.posix_spawn(
        words[0],
        list(words),
        dict(environment),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    return Started(pid, _born(pid) or 0)


def is_running(process: Started) -> bool:
    """Whether it is there and has not ended; a child that has ended is taken leave of."""
    with suppress(ChildProcessError):
        if os.waitpid(process.pid, os.WNOHANG)[0] == process.pid:
            return False
    return _born(process.pid) == process.born


def tell_to_end(process: Started) -> None:
    """SIGTERM, if it is still there."""
    if is_running(process):
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)


def kill(process: Started) -> None:
    """SIGKILL, for it and, where it leads one, its group; returns when it is gone."""
    if is_running(process):
        with suppress(ProcessLookupError, PermissionError):
            if os.getpgid(process.pid) == process.pid:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                os.kill(process.pid, signal.SIGKILL)
        _until_gone(process, _KILLED_WITHIN)


def end(process: Started, *, within: float) -> None:
    """SIGTERM, and SIGKILL for what does not end in time; returns when it is gone."""
    tell_to_end(process)
    _until_gone(process, within)
    kill(process)


def marked(variable: str, value: str) -> list[Started]:
    """Processes that were started with a variable of this value, by whoever, and theirs; not this one."""
    wanted = f"{variable}={value}".encode()
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdigit() and place.name != str(os.getpid()):
            with suppress(OSError):
                if wanted in (place / "environ").read_bytes().split(b"\0"):
                    pid = int(place.name)
                    born = _born(pid)
                    if born is not None:
                        found.append(Started(pid, born))
    return found


def _until_gone(process: Started, seconds: float) -> None:
    ends = time.monotonic() + seconds
    while is_running(process) and time.monotonic() < ends:
        time.sleep(_STEP)


def _born(pid: int) -> int | None:
    """None for what is not there, or has ended and waits for its parent."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
