"""From bytes to an ask: headers, a body within its limits, a message that holds, a deadline."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bentos.ranker.messages import BatchedRequest, RankRequest, RecommendRequest
from bentos.ranker.refusals import RefusedError, faults_of, shown
from components.errors import Fault
from components.serving.contract import Ask, Interaction
from components.serving.traces import CARRIED

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Inner = Callable[[Message, Receive, Send], Awaitable[None]]
Request = TypeVar("Request", bound=BaseModel)

MOST_BYTES = 1 << 20
"""Of a body: nearly twice what the longest single request takes that is allowed."""
BODY_WITHIN = 5.0
"""Seconds that a client may take to send its body; then it is refused."""
WAITS = 5.0
"""Seconds after which an answer is late for whoever names no deadline. More requests than can be scored would otherwise wait
for each other for ever; so they get the lists that cost next to nothing."""
MOST_MILLISECONDS = 60_000.0

JSON = b"application/json"
_CLOSE = [(b"connection", b"close")]


@dataclass(frozen=True, slots=True)
class Headers:
    """Of all headers, those that matter here."""

    kind: bytes
    length: bytes
    deadline: bytes | None


class GoneError(Exception):
    """The client went away before its request was whole."""


def headers_of(scope: Message) -> Headers:
    """Of a request's headers those that matter; the last of a name."""
    kind = length = b""
    deadline = None
    for name, value in scope["headers"]:
        if name == b"content-type":
            kind = value
        elif name == b"content-length":
            length = value
        elif name == b"x-deadline-ms":
            deadline = value
    return Headers(kind, length, deadline)


def carried(scope: Message) -> dict[str, str]:
    """The headers that carry a trace."""
    named = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
    return {name: value for name, value in named if name in CARRIED}


async def body_of(headers: Headers, receive: Receive) -> bytes:
    """The whole body.

    Raises:
        RefusedError: If it is no JSON by its own word, too long by its own word or in truth, or too slow.
    """
    kind = headers.kind.partition(b";")[0].strip().lower()
    if kind and kind != JSON:
        said = headers.kind[:64].decode("latin-1")
        raise RefusedError(415, Fault("content-type", shown(said), JSON.decode()))
    if headers.length.isdigit() and int(headers.length[:20]) > MOST_BYTES:
        raise _too_long()
    try:
        async with asyncio.timeout(BODY_WITHIN):
            message = await _received(receive)
            body = message.get("body", b"")
            if message.get("more_body", False):
                body = await _rest(body, receive)
    except TimeoutError as error:
        fault = Fault("body", f"not all of it after {BODY_WITHIN:g} s", "a body without pauses")
        raise RefusedError(408, fault, headers=_CLOSE) from error
    if len(body) > MOST_BYTES:
        raise _too_long()
    return bytes(body)


async def _rest(first: bytes, receive: Receive) -> bytes:
    parts, size = [first], len(first)
    more = True
    while more and size <= MOST_BYTES:
        message = await _received(receive)
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        more = message.get("more_body", False)
    return b"".join(parts)


async def _received(receive: Receive) -> Message:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise GoneError
    return message


def _too_long() -> RefusedError:
    # The rest of the body is not read: the connection is of no more use.
    return RefusedError(413, Fault("body", f"more than {MOST_BYTES} bytes", "at most as many"), headers=_CLOSE)


def parsed(model: type[Request], body: bytes) -> Request:
    """The message in a body.

    Raises:
        RefusedError: 400, with the first faults of it.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise RefusedError(400, *faults_of(error, model)) from error


def deadline_of(asked: float | None, headers: Headers, arrived: float) -> float:
    """The instant by which an answer is wanted.

    Args:
        asked: Milliseconds that the message gives.
        headers: May give some too, and must not give what is no time.
        arrived: When the request did, by `time.monotonic`.

    Raises:
        RefusedError: 400, where the header is no time.
    """
    said = None if headers.deadline is None else _milliseconds(headers.deadline)
    milliseconds = said if asked is None else asked
    return arrived + (WAITS if milliseconds is None else milliseconds / 1000.0)


def _milliseconds(text: bytes) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0.0 < found <= MOST_MILLISECONDS:
        needed = f"milliseconds above 0, at most {MOST_MILLISECONDS:g}"
        raise RefusedError(400, Fault("x-deadline-ms", shown(text[:64].decode("latin-1")), needed))
    return found


def ask_of(
    request: RankRequest | RecommendRequest | BatchedRequest, candidates: Iterable[str] | None, deadline: float
) -> Ask:
    """The ask that a message makes."""
    return Ask(
        request_id=request.request_id or uuid.uuid4().hex,
        user_id=request.user_id,
        candidates=None if candidates is None else tuple(candidates),
        k=request.k,
        context=request.context,
        exclude=frozenset(request.exclude),
        session=tuple(Interaction(one.item_id, one.event, one.seconds_ago) for one in request.session),
        surface=request.surface,
        deadline=deadline,
        # Without a key of their own nobody could join what came of it to the draw.
        explore=request.request_id is not None,
    )
