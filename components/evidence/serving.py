"""A ranking service as a program of its own: started on loopback, asked over HTTP, stopped with all its processes.

The evidence room knows no service; it starts the one that a release would be served by, with the candidate in place of the
release, and speaks HTTP to it.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.evidence import serving_guard

SERVICE = "bentos.ranker.measuring:MeasuredService"
"""Imported by the started program alone."""
FOLDER_VARIABLE = "RANKGATE_MEASURED_RANKER"

UNRELEASED = b'"unreleased"'
"""What the service of a candidate says in place of a release's digest."""

_READY_WITHIN = 90.0
_STOP_WITHIN = 15.0
_LOG_LINES = 6
_LOG_LETTERS = 500
# BentoML starts a worker that failed again and again, and never ends by itself.
_FAILED = b"Application startup failed"
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_PLACES = re.compile(r"(?:/[\w.+@~-]+)+/([\w.+@~-]+)")


class ServiceDidNotStartError(Exception):
    """The program ended, or was not ready in time; the message holds the end of its log, without places of this machine."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer, and how long it took."""

    status: int
    body: bytes
    seconds: float


@dataclass(slots=True)
class Client:
    """One connection, kept open."""

    port: int
    timeout: float = 5.0
    _connection: http.client.HTTPConnection | None = None

    def send(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answered:
        """Send a request and wait; status 0 where no answer came."""
        began = time.perf_counter()
        try:
            if self._connection is None:
                self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout)
            self._connection.request(method, path, body=body, headers=dict(headers))
            answer = self._connection.getresponse()
            content = answer.read()
            if answer.getheader("connection", "").lower() == "close":
                self.close()
            return Answered(answer.status, content, time.perf_counter() - began)
        except (OSError, http.client.HTTPException):
            self.close()
            return Answered(0, b"", time.perf_counter() - began)

    def post(self, path: str, value: Any) -> Answered:
        """Send a JSON value."""
        return self.send("POST", path, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@dataclass(frozen=True, slots=True)
class Running:
    """A service that answers."""

    port: int
    pid: int
    """Of the guard, whose children are the service."""
    seconds_to_ready: float

    def client(self) -> Client:
        return Client(self.port)

    def peak_memory(self) -> int | None:
        """Bytes: the sum of the largest resident sizes of the service's processes, each at its own moment.

        None where the system does not tell (it is read from /proc), or where no process is left.
        """
        peaks = [_peak(pid) for pid in _family(self.pid) if pid != self.pid]
        known = [peak for peak in peaks if peak is not None]
        return sum(known) if known and len(known) == len(peaks) else None


@contextmanager
def running(ranker: Path, *, ready_within: float = _READY_WITHIN) -> Iterator[Running]:
    """The service with the ranker of this folder, stopped afterwards whatever happens.

    Args:
        ranker: The folder.
        ready_within: Seconds that it may take to be ready.

    Raises:
        ServiceDidNotStartError: If it does not get ready.
    """
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="rankgate-serving-") as home:
        log = Path(home) / "log"
        environment = {name: value for name, value in os.environ.items() if name != "RANKGATE_RELEASE"} | {
            FOLDER_VARIABLE: str(ranker.absolute()),
            "BENTOML_HOME": home,
            "BENTOML_DO_NOT_TRACK": "true",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        guarded = [sys.executable, "-I", "-S", serving_guard.__file__]
        command = [sys.executable, "-m", "bentoml", "serve", SERVICE, "--host", "127.0.0.1", "--port", str(port)]
        began = time.perf_counter()
        with log.open("wb") as lines:
            process = subprocess.Popen(
                [*guarded, *command],
                cwd=home,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=lines,
                stderr=lines,
                start_new_session=True,
            )
        try:
            _wait(process, port, log, until=began + ready_within)
            yield Running(port, process.pid, time.perf_counter() - began)
        finally:
            _stop(process)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path, *, until: float) -> None:
    client = Client(port, timeout=2.0)
    try:
        while time.perf_counter() < until:
            if process.poll() is not None:
                raise ServiceDidNotStartError(f"it ended with {process.returncode}. {_end_of(log)}")
            if _FAILED in log.read_bytes():
                raise ServiceDidNotStartError(f"it refused to start. {_end_of(log)}")
            if client.send("GET", "/readyz", b"", {}).status == 200:
                _recognise(client)
                return
            time.sleep(0.1)
        raise ServiceDidNotStartError(f"it was not ready in time. {_end_of(log)}")
    finally:
        client.close()


def _recognise(client: Client) -> None:
    """Whatever took the port in between is not measured in the service's name."""
    answer = client.post("/release", {})
    if answer.status != 200 or UNRELEASED not in answer.body:
        raise ServiceDidNotStartError("another program answers where it should; run this step again.")


def _end_of(log: Path) -> str:
    """The last words of a log, without colours and without places of this machine: of a path the last part is told."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    said = [line for line in (_COLOURS.sub("", line).strip() for line in lines) if line and set(line) - {"^", "~"}]
    text = _PLACES.sub(r"\1", " ".join(said[-_LOG_LINES:]))
    return f"Its log ends: {text[-_LOG_LETTERS:]}" if text else "Its log is empty."


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Tell the guard to end the service; end the whole group if it does not."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(_STOP_WITHIN)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _family(pid: int) -> list[int]:
    """A process and all of its descendants."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            with suppress(OSError):
                waiting += [int(child) for child in children.read_text().split()]
    return found


def _peak(pid: int) -> int | None:
    """Largest resident size of a process in bytes; 0 once it has ended, None where the system does not tell."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0 if Path("/proc/self/status").exists() else None
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    if "VmHWM" in lines:
        return int(lines["VmHWM"].split()[0]) * 1024
    return 0 if lines.get("State", "").strip().startswith("Z") else None
