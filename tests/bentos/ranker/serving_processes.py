"""The processes of a server as the system counts them: processor time, memory, waiting for a processor; started and ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from serving_client import BrokenAnswerError, ask

_TICK = os.sysconf("SC_CLK_TCK")
_READY_WITHIN = 120.0
_STOP_WITHIN = 15.0


class DidNotStartError(Exception):
    """A server that ended, or was not ready in time; the message holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds that a server's processes have spent, added up."""

    processor: float
    waiting: float
    """Ready to run, while the processor was given to others."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers."""

    port: int
    pid: int
    """Its processes are this one and its descendants."""
    seconds_to_ready: float

    def pids(self) -> list[int]:
        return family(self.pid)

    def times(self) -> Times:
        """Processor seconds, of which ended threads are part, and the seconds that live threads waited for a processor."""
        processor, waiting = 0.0, 0.0
        for pid in self.pids():
            with suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                processor += (int(fields[11]) + int(fields[12])) / _TICK
            for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
                with suppress(OSError):
                    waiting += int(thread.read_text().split()[1]) / 1e9
        return Times(processor, waiting)

    def resident(self) -> int:
        """Bytes resident in memory, shared pages counted once for each process that holds them."""
        return sum(resident(pid) for pid in self.pids())

    def busiest(self) -> int:
        """The process that has used the most processor time: the one that answers."""
        return max(self.pids(), key=lambda pid: int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]))


@dataclass(slots=True)
class Watch:
    """What a process's main thread did during each answer: ran, waited for a processor, or slept."""

    pid: int
    above: float
    """Seconds; answers that took longer are stalls."""
    ran: float = 0.0
    waited: float = 0.0
    slept: float = 0.0
    stalls: int = 0
    seconds: float = 0.0
    """Of all stalls together."""
    _file: int = -1
    _last: tuple[int, int] = (0, 0)

    def __enter__(self) -> Watch:
        self._file = os.open(f"/proc/{self.pid}/schedstat", os.O_RDONLY)
        self._last = self._read()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def __call__(self, seconds: float) -> None:
        """Note an answer. It costs one read of /proc, of the client's time and between two requests."""
        before, self._last = self._last, self._read()
        if seconds <= self.above:
            return
        ran, waited = ((now - then) / 1e9 for now, then in zip(self._last, before, strict=True))
        self.stalls += 1
        self.seconds += seconds
        self.ran += ran
        self.waited += waited
        self.slept += max(0.0, seconds - ran - waited)

    def _read(self) -> tuple[int, int]:
        fields = os.pread(self._file, 64, 0).split()
        return int(fields[0]), int(fields[1])


@contextmanager
def started(
    command: Sequence[str], *, port: int, ready: bytes, cwd: Path, environment: Mapping[str, str], log: Path
) -> Iterator[Server]:
    """A server, ended with all of its processes whatever happens.

    Args:
        command: Starts it.
        port: That it listens on.
        ready: A whole request that it answers 200 once it is ready.
        cwd: Where it runs.
        environment: All of its variables.
        log: A file for its output.

    Raises:
        DidNotStartError: If it does not get ready.
    """
    began = time.perf_counter()
    with log.open("wb") as lines:
        process = subprocess.Popen(
            command, cwd=cwd, env=dict(environment), stdout=lines, stderr=lines, start_new_session=True
        )
    try:
        _wait(process, port, ready, log, until=began + _READY_WITHIN)
        yield Server(port, process.pid, seconds_to_ready=time.perf_counter() - began)
    finally:
        # BentoML's workers lead sessions of their own: they do not end with their parent's group.
        members = family(process.pid)
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_WITHIN)
        for pid in members:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, ready: bytes, log: Path, *, until: float) -> None:
    while time.perf_counter() < until:
        if process.poll() is not None:
            raise DidNotStartError(f"it ended with {process.returncode}: {log.read_text(errors='replace')[-800:]}")
        with suppress(OSError, BrokenAnswerError):
            if ask(port, ready, timeout=2.0)[0] == 200:
                return
        time.sleep(0.05)
    raise DidNotStartError(f"it was not ready in time: {log.read_text(errors='replace')[-800:]}")


@contextmanager
def pinned(cores: set[int]) -> Iterator[None]:
    """What this process does, and starts, within runs on these cores; none leaves all to the system."""
    before = os.sched_getaffinity(0)
    if cores:
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cores() -> tuple[set[int], set[int]]:
    """One core for servers, the rest for clients; two empty sets where there is only one."""
    known = sorted(os.sched_getaffinity(0))
    return (set(), set()) if len(known) < 2 else ({known[0]}, set(known[1:]))


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def family(pid: int) -> list[int]:
    """A process and all of its descendants."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            with suppress(OSError):
                waiting += [int(child) for child in children.read_text().split()]
    return found


def resident(pid: int) -> int:
    """Bytes of a process that are in memory; 0 once it has ended."""
    try:
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    except OSError:
        return 0
    return int(lines.get("VmRSS", "0 kB").split()[0]) * 1024
