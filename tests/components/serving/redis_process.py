"""A real server that speaks the Redis protocol, on a free port of this machine, with a folder of its own; stopped by its pid."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

BINARY = shutil.which("redis-server") or shutil.which("valkey-server")
ABSENT = "neither redis-server nor valkey-server is installed (apt-get install redis-server)"
_READY_WITHIN = 10.0


class RedisServer:
    """A server; it can be killed, frozen and started again, with the same port and folder."""

    def __init__(self, folder: Path, *options: str, tls: Sequence[str] = ()) -> None:
        self.folder, self.options, self.tls = folder, options, tls
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port: int = found.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"rediss://localhost:{self.port}" if self.tls else f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, and wait until it listens."""
        assert BINARY
        ports = ["--port", "0", "--tls-port", str(self.port), *self.tls] if self.tls else ["--port", str(self.port)]
        words = [BINARY, *ports, "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", "", "--appendonly", "no"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([*words, *self.options], stdout=log, stderr=log)
        until = time.monotonic() + _READY_WITHIN
        while time.monotonic() < until:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1.0):
                return
            time.sleep(0.02)
        raise AssertionError((self.folder / "log").read_text())

    def freeze(self) -> None:
        """Take its processor away: connections stay, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once; it remembers nothing."""
        assert self._process
        with suppress(ProcessLookupError):
            self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: int) -> None:
        assert self._process
        os.kill(self._process.pid, number)

    def ask(self, *words: str | bytes) -> bytes:
        """Send one command over a connection of its own; the reply's bytes as they come, up to a second."""
        parts = [word if isinstance(word, bytes) else word.encode() for word in words]
        sent = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
        with socket.create_connection(("127.0.0.1", self.port), timeout=5.0) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            found = b""
            while more := connection.recv(1 << 16):
                found += more
        return found

    def keys(self, pattern: str = "*") -> list[bytes]:
        return sorted(line for line in self.ask("KEYS", pattern).split(b"\r\n")[1:] if line and line[:1] not in b"*$")

    def get(self, key: bytes) -> bytes:
        """The value of a key; empty where there is none."""
        said = self.ask("GET", key)
        return b"" if said.startswith(b"$-1") else said.partition(b"\r\n")[2][:-2]
