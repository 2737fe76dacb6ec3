"""A client that measures: raw HTTP/1.1 on kept-open connections, one thread, no parsing beyond a status and a length.

Closed: each connection sends its next request when its last was answered. Paced: requests are due at fixed moments, whatever
became of those before, and a time counts from when its request was due; a server that stalls is charged for all that came
due meanwhile. Moments are of `time.perf_counter`.
"""

from __future__ import annotations

import select
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length:"
_RECEIVE = 262_144


class BrokenAnswerError(Exception):
    """An answer that is no HTTP, or of no stated length."""


@dataclass(slots=True)
class Sample:
    """What a client saw."""

    seconds: list[float] = field(default_factory=list)
    """Of each answer of status 200, in the order answered."""
    sent: list[float] = field(default_factory=list)
    """When each of them was sent (paced: due)."""
    statuses: Counter[int] = field(default_factory=Counter)
    """0 is a connection that was closed or reset with a request in flight."""
    marked: int = 0
    """Answers that hold the mark that was looked for."""
    wall: float = 0.0
    processor: float = 0.0
    """Seconds of processor time that the client itself took."""

    @property
    def rate(self) -> float:
        """Answers of status 200 a second."""
        return len(self.seconds) / self.wall if self.wall else 0.0

    @property
    def errors(self) -> int:
        """Requests that were not answered 200."""
        return sum(count for status, count in self.statuses.items() if status != 200)


def request(path: str, body: bytes, *, headers: Sequence[tuple[str, str]] = ()) -> bytes:
    """A POST of JSON as it goes over the wire."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers),
    ]
    return "\r\n".join(lines).encode("latin-1") + _HEAD_END + body


def reading(path: str) -> bytes:
    """A GET as it goes over the wire."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode("latin-1")


class _Connection:
    """One connection and what has arrived of its answer."""

    __slots__ = ("began", "buffer", "needed", "port", "socket", "status", "waiting")

    def __init__(self, port: int) -> None:
        self.port = port
        self.began = 0.0
        self.waiting = False
        self.open()

    def open(self) -> None:
        self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        self.needed = -1
        self.status = 0

    def send(self, content: bytes, began: float) -> None:
        self.began, self.waiting = began, True
        self.socket.sendall(content)

    def receive(self) -> bool:
        """Take what has arrived; True once the answer is whole.

        Raises:
            ConnectionError: If the other side has closed it.
            BrokenAnswerError: If what came cannot be read.
        """
        part = self.socket.recv(_RECEIVE)
        if not part:
            raise ConnectionError
        self.buffer += part
        if self.needed < 0:
            end = self.buffer.find(_HEAD_END)
            if end < 0:
                return False
            self.status, length = read_head(bytes(self.buffer[:end]))
            self.needed = end + len(_HEAD_END) + length
        return len(self.buffer) >= self.needed

    def is_stale(self) -> bool:
        """Whether the other side has closed it while it was idle; whoever keeps connections must look before each use."""
        return bool(select.select([self.socket], [], [], 0)[0])

    def body(self) -> bytes:
        return bytes(self.buffer[self.buffer.find(_HEAD_END) + len(_HEAD_END) : self.needed])

    def next(self) -> None:
        self.buffer.clear()
        self.needed = -1
        self.waiting = False

    def close(self) -> None:
        with suppress(OSError):
            self.socket.close()


def read_head(head: bytes) -> tuple[int, int]:
    """Status and length of an answer.

    Raises:
        BrokenAnswerError: If it has none.
    """
    lowered = head.lower()
    place = lowered.find(_LENGTH)
    if not lowered.startswith(b"http/1.") or place < 0:
        raise BrokenAnswerError(f"found {head[:200]!r}; needed HTTP/1.1 with a Content-Length.")
    return int(head[9:12]), int(lowered[place + len(_LENGTH) :].split(b"\r\n", 1)[0])


def ask(port: int, content: bytes, *, timeout: float = 10.0) -> tuple[int, bytes]:
    """One request on a connection of its own; status and body.

    Raises:
        OSError: If there is nobody, or no answer in time.
        BrokenAnswerError: If the answer cannot be read.
    """
    connection = _Connection(port)
    try:
        connection.socket.settimeout(timeout)
        connection.send(content, 0.0)
        while not connection.receive():
            pass
        return connection.status, connection.body()
    finally:
        connection.close()


def closed(
    port: int,
    contents: Sequence[bytes],
    *,
    connections: int,
    seconds: float,
    watch: Callable[[float], None] | None = None,
    mark: bytes = b"",
) -> Sample:
    """Keep so many connections busy for so many seconds.

    Args:
        port: On loopback.
        contents: Whole requests, asked in turn.
        connections: At least 1.
        seconds: No request is sent after; those in flight are waited for.
        watch: Told the seconds of each answer before the next request is sent; for one connection.
        mark: Bytes to look for in each answer.

    Raises:
        ConnectionError: If the server closes a connection.
        BrokenAnswerError: If an answer cannot be read.
    """
    found = Sample()
    poll = select.epoll()
    held = [_Connection(port) for _ in range(connections)]
    by_file = {one.socket.fileno(): one for one in held}
    for file in by_file:
        poll.register(file, select.EPOLLIN)
    spent, place, busy = time.process_time(), 0, connections
    now = began = time.perf_counter()
    until = began + seconds
    try:
        for one in held:
            one.send(contents[place % len(contents)], time.perf_counter())
            place += 1
        while busy:
            for file, _ in poll.poll(10):
                one = by_file[file]
                if not one.receive():
                    continue
                now = time.perf_counter()
                _note(found, one, now, mark)
                if watch is not None:
                    watch(now - one.began)
                one.next()
                if now < until:
                    one.send(contents[place % len(contents)], time.perf_counter())
                    place += 1
                else:
                    busy -= 1
    finally:
        for one in held:
            one.close()
        poll.close()
    found.wall, found.processor = now - began, time.process_time() - spent
    return found


def paced(
    port: int,
    contents: Sequence[bytes],
    *,
    rate: float,
    seconds: float,
    connections: int = 16,
    tell: Callable[[float, bytes, int], None] | None = None,
    mark: bytes = b"",
) -> Sample:
    """Send at a steady rate and count from when each was due; a connection that breaks is opened anew.

    Args:
        port: On loopback.
        contents: Whole requests, asked in turn.
        rate: Requests a second.
        seconds: How long they come due.
        connections: Most in flight at once; what is due beyond them waits, and its time runs.
        tell: Told the moment and the body of each answer of status 200, and how many other requests are in flight.
        mark: Bytes to look for in each answer.
    """
    found = Sample()
    poll = select.epoll()
    by_file: dict[int, _Connection] = {}
    # In turn: one that lay idle might be closed by the server in the very moment of its use.
    free: deque[_Connection] = deque()
    due: deque[float] = deque()
    spent, place, scheduled, planned = time.process_time(), 0, 0, int(rate * seconds)
    lost = 0  # connections that are not open at the moment
    retry = 0.0
    began = time.perf_counter()

    def admit() -> bool:
        try:
            one = _Connection(port)
        except OSError:
            return False
        by_file[one.socket.fileno()] = one
        poll.register(one.socket.fileno(), select.EPOLLIN)
        free.append(one)
        return True

    def drop(one: _Connection) -> None:
        nonlocal lost
        if one.waiting:
            found.statuses[0] += 1
        else:
            free.remove(one)
        with suppress(OSError):
            poll.unregister(one.socket.fileno())
        by_file.pop(one.socket.fileno(), None)
        one.close()
        lost += 1

    for _ in range(connections):
        lost += not admit()
    try:
        while scheduled < planned or due or len(free) + lost < connections:
            now = time.perf_counter()
            while scheduled < planned and began + scheduled / rate <= now:
                due.append(began + scheduled / rate)
                scheduled += 1
            if lost and now >= retry:
                while lost and admit():
                    lost -= 1
                retry = now + 0.02
            if now > began + seconds + 30:
                break
            while due and free:
                if free[0].is_stale():
                    drop(free[0])
                    continue
                one, moment = free.popleft(), due.popleft()
                try:
                    one.send(contents[place % len(contents)], moment)
                except OSError:
                    drop(one)
                place += 1
            wait = began + scheduled / rate - time.perf_counter() if scheduled < planned else 1.0
            for file, _ in poll.poll(min(max(wait, 0.0), 0.02 if lost else 1.0)):
                one = by_file.get(file)
                if one is None:
                    continue
                try:
                    whole = one.receive()
                except OSError:
                    drop(one)
                    continue
                if whole:
                    now = time.perf_counter()
                    if tell is not None and one.status == 200:
                        tell(now, one.body(), connections - lost - len(free) - 1)
                    _note(found, one, now, mark)
                    one.next()
                    free.append(one)
    finally:
        for one in by_file.values():
            one.close()
        poll.close()
    found.statuses[0] += len(due)
    found.wall, found.processor = time.perf_counter() - began, time.process_time() - spent
    return found


def _note(found: Sample, one: _Connection, now: float, mark: bytes) -> None:
    found.statuses[one.status] += 1
    if mark and mark in one.buffer:
        found.marked += 1
    if one.status == 200:
        found.seconds.append(now - one.began)
        found.sent.append(one.began)
