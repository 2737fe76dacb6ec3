"""One connection to a server that speaks the Redis protocol (Redis, Valkey): words out, replies in, in the same order.

    ask(b"GET", key) -> a future of the reply        within(future, seconds) -> the reply, or LATE

Many requests share the connection, each without waiting for the one before. Whoever gives up leaves its place in the queue: the
reply is read and thrown away when it comes, so that one slow reply costs neither the connection nor its order. What fails is
a reply too (`Failure`), because a future that nobody waits for any more has nobody to raise to.

Why not redis-py: docs/decisions/0036-shared-store.md. The protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import deque
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

from components.errors import InputError
from components.serving.shared_store_address import Address

LOST: Final = "lost"
LATE: Final = "late"
REFUSED: Final = "refused"

_MOST_BYTES = 1 << 26
"""Of replies that are not whole yet; what is longer is no reply to anything that is asked here."""
_CRLF = b"\r\n"


class StoreError(InputError):
    """The store cannot be used: not reached, not let in, or out of memory."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A reply that is none."""

    kind: str
    """`LOST`, `LATE` or `REFUSED`."""
    words: str = ""
    """The server's own, where it refused."""

    @property
    def code(self) -> str:
        """The first of the server's words: NOAUTH, OOM, LOADING, ..."""
        return self.words.partition(" ")[0]


Reply: TypeAlias = "bytes | int | Failure | list[Reply] | None"


class Wire(asyncio.Protocol):
    """An open connection; used within one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[asyncio.Future[Reply]] = deque()
        self._rest = b""
        self._transport: asyncio.Transport | None = None
        self.lost = False
        """Whether it is of no more use."""

    def ask(self, *words: bytes) -> asyncio.Future[Reply]:
        """Send a command; its reply comes with the future, whatever happens."""
        reply: asyncio.Future[Reply] = self._loop.create_future()
        if self.lost or self._transport is None:
            reply.set_result(Failure(LOST))
            return reply
        self._waiting.append(reply)
        self._transport.write(command(*words))
        return reply

    async def within(self, reply: asyncio.Future[Reply], seconds: float) -> Reply:
        """The reply, or `LATE` if it has not arrived in time.

        A reply that has arrived is never late, however long this process was busy with something else: the loops look at
        their sockets before they ring alarms.
        """
        if reply.done():
            return reply.result()
        alarm = self._loop.call_later(seconds, _call_time, reply)
        try:
            return await reply
        finally:
            alarm.cancel()

    def close(self) -> None:
        """Close the connection; whoever waits is told that it is lost."""
        if self._transport is not None:
            self._transport.abort()
        self._give_up()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # What create_connection makes; uvloop's own are no subclass.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._give_up()

    def data_received(self, data: bytes) -> None:
        """Take in what has come, and hand out the replies that are whole."""
        data = self._rest + data if self._rest else data
        place = 0
        try:
            while place < len(data):
                reply, place = parsed(data, place)
                waiting = self._waiting.popleft()
                if not waiting.done():
                    waiting.set_result(reply)
        except IncompleteError:
            pass
        except (ValueError, IndexError):
            # Not the protocol, or a reply that nobody asked for: from here on no reply could be trusted to be one's own.
            self.close()
            return
        self._rest = data[place:]
        if len(self._rest) > _MOST_BYTES:
            self.close()

    def _give_up(self) -> None:
        self.lost = True
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(Failure(LOST))


def _call_time(reply: asyncio.Future[Reply]) -> None:
    if not reply.done():
        reply.set_result(Failure(LATE))


class IncompleteError(Exception):
    """A reply that has not come in whole yet."""


def command(*words: bytes) -> bytes:
    """A command as it is sent."""
    parts = [b"*%d\r\n" % len(words)]
    parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return b"".join(parts)


def parsed(data: bytes, place: int) -> tuple[Reply, int]:
    """The reply that begins at a place, and where the next one does.

    Raises:
        IncompleteError: If it is not whole.
        ValueError: If it is no reply of the protocol's second version.
    """
    end = data.find(_CRLF, place)
    if end < 0:
        raise IncompleteError
    kind, head, after = data[place : place + 1], data[place + 1 : end], end + 2
    match kind:
        case b"$":
            return _text(data, int(head), after)
        case b"+":
            return head, after
        case b":":
            return int(head), after
        case b"-":
            return Failure(REFUSED, head.decode("utf-8", "replace")), after
        case b"*":
            return _list(data, int(head), after)
        case _:
            raise ValueError("no reply of the protocol")


def _text(data: bytes, size: int, place: int) -> tuple[bytes | None, int]:
    if size < 0:
        return None, place
    stop = place + size
    if len(data) < stop + 2:
        raise IncompleteError
    if data[stop : stop + 2] != _CRLF:
        raise ValueError("a text that does not end where it said")
    return data[place:stop], stop + 2


def _list(data: bytes, size: int, place: int) -> tuple[list[Reply] | None, int]:
    if size < 0:
        return None, place
    replies: list[Reply] = []
    for _ in range(size):
        reply, place = parsed(data, place)
        replies.append(reply)
    return replies, place


async def connect(address: Address, *, seconds: float) -> Wire:
    """A connection that has been let in and stands at the address's database.

    Args:
        address: Of the server.
        seconds: Within which all of it must be done.

    Raises:
        StoreError: If the server is not reached, or does not let us in; the message holds no secret.
        InputError: If the password's or the authorities' file cannot be read.
    """
    loop = asyncio.get_running_loop()
    tls, secret = address.tls(), address.secret()
    try:
        async with asyncio.timeout(seconds):
            _, wire = await loop.create_connection(lambda: Wire(loop), address.host, address.port, ssl=tls)
    except TimeoutError as error:
        raise StoreError(f"store {address}: found no answer within {seconds:g} s; needed a server there.") from error
    except OSError as error:
        raise StoreError(f"store {address}: cannot be reached ({_said(error)}); needed a server there.") from error
    try:
        await _let_in(wire, address, secret, seconds=seconds)
    except BaseException:
        wire.close()
        raise
    return wire


async def _let_in(wire: Wire, address: Address, secret: str, *, seconds: float) -> None:
    steps = []
    if secret:
        name = [address.user.encode()] if address.user else []
        steps.append(("authentication", (b"AUTH", *name, secret.encode())))
    if address.database:
        steps.append((f"database {address.database}", (b"SELECT", b"%d" % address.database)))
    # Without a password the server says only now that it wanted one.
    steps.append(("a first command", (b"PING",)))
    for what, words in steps:
        reply = await wire.within(wire.ask(*words), seconds)
        if isinstance(reply, Failure):
            raise StoreError(f"store {address}: {what} was {_refusal(reply)}.")


def _refusal(failure: Failure) -> str:
    if failure.kind != REFUSED:
        return "not answered; needed a server that speaks the Redis protocol there" + (
            " (with TLS: rediss://)" if failure.kind == LOST else ""
        )
    match failure.code:
        case "NOAUTH":
            return "refused (NOAUTH); needed a password. Give it in the environment or in a file"
        case "WRONGPASS":
            return "refused (WRONGPASS); needed the password, and the name in the address, of a user that it has"
        case "NOPERM":
            return "refused (NOPERM); needed a user who may do this"
        case _:
            return f"refused ({failure.words[:80]})"


def _said(error: OSError) -> str:
    """What the system said, in its own words and not in a library's."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not hold: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"no TLS: {error.reason}"
    if error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or type(error).__name__
