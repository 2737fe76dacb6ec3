"""A ranking service as a program of its own: started on loopback, asked over HTTP, stopped with all its processes.

The evidence room knows no service; it starts the one that a release would be served by, with the candidate in place of the
release, and speaks HTTP to it.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SERVICE = "bentos.ranker.measuring:MeasuredService"
"""Imported by the started program alone."""
FOLDER_VARIABLE = "RANKGATE_MEASURED_RANKER"

_READY_WITHIN = 90.0
_STOP_WITHIN = 10.0
_LOG_LINES = 12


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
    timeout: float = 10.0
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
    seconds_to_ready: float

    def client(self) -> Client:
        return Client(self.port)

    def peak_memory(self) -> int:
        """Bytes: the sum of the largest resident sizes of all of its processes, each at its own moment."""
        return sum(_peak(pid) for pid in _family(self.pid))


@contextmanager
def running(ranker: Path) -> Iterator[Running]:
    """The service with the ranker of this folder, stopped afterwards whatever happens.

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
        command = [sys.executable, "-m", "bentoml", "serve", SERVICE, "--host", "127.0.0.1", "--port", str(port)]
        began = time.perf_counter()
        with log.open("wb") as lines:
            process = subprocess.Popen(
                command, cwd=home, env=environment, stdout=lines, stderr=lines, start_new_session=True
            )
        try:
            _wait(process, port, log, until=began + _READY_WITHIN, hidden=(home, str(ranker.absolute())))
            yield Running(port, process.pid, time.perf_counter() - began)
        finally:
            _stop(process)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path, *, until: float, hidden: tuple[str, ...]) -> None:
    client = Client(port, timeout=2.0)
    try:
        while time.perf_counter() < until:
            if process.poll() is not None:
                raise ServiceDidNotStartError(f"it ended with {process.returncode}. {_end_of(log, hidden)}")
            if client.send("GET", "/readyz", b"", {}).status == 200:
                return
            time.sleep(0.1)
        raise ServiceDidNotStartError(f"it was not ready within {_READY_WITHIN:.0f} s. {_end_of(log, hidden)}")
    finally:
        client.close()


def _end_of(log: Path, hidden: tuple[str, ...]) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    text = " ".join(line.strip() for line in lines[-_LOG_LINES:] if line.strip())
    for place in (
        *hidden,
        str(Path.home()),
        *sorted((path for path in sys.path if len(path) > 1), key=len, reverse=True),
    ):
        text = text.replace(place, "...")
    return f"Its log ends: {text[-600:]}" if text else "Its log is empty."


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the whole group: the server's workers are its children."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, kind)
        except ProcessLookupError:
            break
        try:
            process.wait(_STOP_WITHIN)
            if kind is signal.SIGKILL or not _group_lives(process.pid):
                break
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


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
            waiting += [int(child) for child in children.read_text().split()]
    return found


def _peak(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return int(lines.get("VmHWM", "0 kB").split()[0]) * 1024
