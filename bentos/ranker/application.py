"""The routes of the ranking service, as one small ASGI application: bytes to an ask, an answer to bytes.

    POST /rank /recommend /batch /explain      lists
    GET or POST /release                       what is served
    GET /livez /readyz /metrics /openapi.json

It stands before BentoML's own application and leaves nothing to it but the start and the end of the process: what BentoML's
routes cost a request, and why, is in docs/decisions/0033-service-speed.md. Every refusal is JSON: the field, what was found,
what was needed. Scoring runs in the event loop's own thread; a hop to another costs more than it frees.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry
from pydantic import BaseModel, TypeAdapter, ValidationError

from bentos.ranker.messages import (
    BatchedRequest,
    BatchRequest,
    ExplainRequest,
    RankRequest,
    RecommendRequest,
    ReleaseAnswer,
)
from bentos.ranker.openapi import document
from bentos.ranker.refusals import RefusedError, faults_of, shown
from components.approval.contract import Release
from components.errors import Fault, FaultyInputError
from components.ranker.explaining import sentence
from components.serving.answering import Answerer, explained
from components.serving.contract import Answer, Ask, Place
from components.serving.exposures import ExposureLog
from components.serving.logs import AccessLog
from components.serving.metrics import OTHER, ServingMetrics, State, exposition
from components.serving.traces import CARRIED, Traces

_LOG = logging.getLogger("rankgate.serving")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Inner = Callable[[Message, Receive, Send], Awaitable[None]]
Request = TypeVar("Request", bound=BaseModel)

MOST_BYTES = 1 << 20
"""Of a body: nearly twice what the longest single request takes that is allowed."""
BODY_WITHIN = 5.0
"""Seconds that a client may take to send its body; then it is refused, before BentoML would answer 504."""
WAITS = 5.0
"""Seconds after which an answer is late for whoever names no deadline. More requests than can be scored would otherwise wait
for each other until BentoML answers 504; so they get the lists that cost next to nothing."""
MOST_MILLISECONDS = 60_000.0
_PATH_LETTERS = 200
_EXPLAINED = "explain"
"""Where metrics count lists that nobody is shown."""

_JSON = b"application/json"
_PLACES = TypeAdapter(tuple[Place, ...])


class Serving:
    """What the routes answer with: nothing until a ranker is opened, nothing new while the process drains."""

    def __init__(self) -> None:
        self.answerer: Answerer | None = None
        self.release: Release | None = None
        self.exposures: ExposureLog | None = None
        self.access = AccessLog(0)
        self.traces: Traces | None = None
        self.ready = False
        self.draining = False
        self.count_by(())
        self._document: tuple[tuple[str, ...], bytes] | None = None

    def count_by(self, surfaces: Sequence[str]) -> None:
        """Begin to count anew; these surfaces, or without any the first that come, have figures of their own."""
        self.registry = CollectorRegistry()
        told_apart = [*surfaces, _EXPLAINED] if surfaces else ()
        self.metrics = ServingMetrics(self.registry, look=self.state, surfaces=told_apart)

    def state(self) -> State:
        """How things stand, for whoever watches."""
        answerer, approval = self.answerer, self.release.approval if self.release else None
        return State(
            ready=self.ready,
            draining=self.draining,
            release=answerer.release if answerer else "",
            run=approval.run if approval else "",
            arm=answerer.arm if answerer else "",
            features_as_of=float(answerer.ranker.latest_bucket_start) if answerer else None,
            exposures=self.exposures.counts() if self.exposures else None,
        )

    def opened(self) -> Answerer:
        """The answerer.

        Raises:
            RefusedError: 503 as long as there is none.
        """
        if self.answerer is None:
            raise RefusedError(503, Fault("service", "no ranker opened yet", "to be ready", "Ask /readyz before."))
        return self.answerer

    def document(self) -> bytes:
        """The OpenAPI document, with the context that the ranker knows; made when it is first asked for."""
        context = self.opened().ranker.context
        if self._document is None or self._document[0] != context:
            self._document = context, json.dumps(document(context), ensure_ascii=False).encode()
        return self._document[1]


@dataclass(frozen=True, slots=True)
class _Headers:
    """Of all headers, those that matter here."""

    kind: bytes
    length: bytes
    deadline: bytes | None


@dataclass(frozen=True, slots=True)
class _Reply:
    body: bytes
    kind: bytes = _JSON
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()
    answers: tuple[Answer, ...] = ()
    """What was answered, for metrics and logs."""
    refused: tuple[str, ...] = ()
    """The fields that were not as needed."""


Handler = Callable[[Message, Receive], Awaitable[_Reply]]


class Application:
    """The ASGI application; what is no HTTP request goes on to BentoML's."""

    def __init__(self, app: Inner, *, serving: Serving) -> None:
        self._inner, self._serving = app, serving
        lists = {"/rank": self._rank, "/recommend": self._recommend, "/batch": self._batch, "/explain": self._explain}
        reads: dict[str, Handler] = {
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/metrics": self._metrics,
            "/openapi.json": self._openapi,
        }
        self._routes: dict[str, dict[str, Handler]] = {
            **{path: {"POST": handler} for path, handler in lists.items()},
            **{path: {"GET": handler, "HEAD": handler} for path, handler in reads.items()},
            "/release": {"GET": self._release, "HEAD": self._release, "POST": self._release},
        }

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        began = time.monotonic()
        try:
            reply = await self._handler(scope)(scope, receive)
        except RefusedError as refused:
            reply = _refusal(refused)
        except _GoneError:
            self._told(scope, _Reply(b"", status=_GONE), began)
            return
        except Exception:
            # Not the client's fault, and no business of theirs: the log has it, with its place.
            _LOG.exception("answering failed", extra={"path": scope["path"][:_PATH_LETTERS]})
            fault = Fault("service", "an error of its own", "none", "Its log says more.")
            reply = _refusal(RefusedError(500, fault))
        headers = [(b"content-type", reply.kind), (b"content-length", b"%d" % len(reply.body)), *reply.headers]
        if self._serving.draining:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})
        self._told(scope, reply, began)

    def _told(self, scope: Message, reply: _Reply, began: float) -> None:
        """Count a request that has its answer, log and trace it."""
        path, seconds = scope["path"], time.monotonic() - began
        route = path if path in self._routes else OTHER
        self._serving.metrics.replied(route, reply.status, seconds)
        # Probes and scrapes say nothing that metrics do not.
        if "GET" not in self._routes.get(path, ()):
            self._serving.access.replied(
                route, reply.status, seconds, answers=reply.answers, refused=", ".join(reply.refused)
            )
            if self._serving.traces is not None:
                self._serving.traces.replied(
                    scope["method"] if route != OTHER else "HTTP",
                    route,
                    reply.status,
                    seconds,
                    carrier=_carried(scope),
                    answers=reply.answers,
                )

    def _handler(self, scope: Message) -> Handler:
        methods = self._routes.get(scope["path"])
        if methods is None:
            known = ", ".join(self._routes)
            raise RefusedError(404, Fault("path", shown(scope["path"]), f"one of {known}"))
        handler = methods.get(scope["method"])
        if handler is None:
            allowed = ", ".join(methods)
            fault = Fault("method", shown(scope["method"]), f"one of {allowed}")
            raise RefusedError(405, fault, headers=[(b"allow", allowed.encode())])
        return handler

    async def _rank(self, scope: Message, receive: Receive) -> _Reply:
        arrived = time.monotonic()
        headers = _headers_of(scope)
        request = _parsed(RankRequest, await _body(headers, receive))
        return await self._listed(request, request.candidates, headers, arrived)

    async def _recommend(self, scope: Message, receive: Receive) -> _Reply:
        arrived = time.monotonic()
        headers = _headers_of(scope)
        return await self._listed(_parsed(RecommendRequest, await _body(headers, receive)), None, headers, arrived)

    async def _listed(
        self,
        request: RankRequest | RecommendRequest | BatchedRequest,
        candidates: Iterable[str] | None,
        headers: _Headers,
        arrived: float,
    ) -> _Reply:
        ask = _ask(request, candidates, _deadline(request.deadline_ms, headers, arrived))
        # What has arrived meanwhile gets its moment of arrival before this is worked on, not after.
        await asyncio.sleep(0)
        answer = self._show(ask)
        return _Reply(_list_bytes(answer), answers=(answer,))

    async def _batch(self, scope: Message, receive: Receive) -> _Reply:
        arrived = time.monotonic()
        headers = _headers_of(scope)
        batch = _parsed(BatchRequest, await _body(headers, receive))
        answerer = self._serving.opened()
        asks = [
            _ask(request, request.candidates, _deadline(request.deadline_ms, headers, arrived))
            for request in batch.requests
        ]
        for place, ask in enumerate(asks):
            if faults := answerer.faults(ask):
                raise RefusedError(400, *(replace(fault, where=f"requests.{place}.{fault.where}") for fault in faults))
        answers, lists = [], []
        for ask in asks:
            # Others are answered between the requests of a batch.
            await asyncio.sleep(0)
            answers.append(self._show(ask))
            lists.append(_list_bytes(answers[-1]))
        return _Reply(b'{"answers":[%b]}' % b",".join(lists), answers=tuple(answers))

    async def _explain(self, scope: Message, receive: Receive) -> _Reply:
        arrived = time.monotonic()
        headers = _headers_of(scope)
        request = _parsed(ExplainRequest, await _body(headers, receive))
        ask = Ask(
            request_id=request.request_id or uuid.uuid4().hex,
            user_id=request.user_id,
            candidates=tuple(request.candidates),
            k=len(request.candidates),
            context=request.context,
            surface=_EXPLAINED,
            deadline=_deadline(request.deadline_ms, headers, arrived),
            explore=False,
        )
        await asyncio.sleep(0)
        answer = self._answer(ask)
        began, parts = time.monotonic(), []
        for part in self._serving.opened().explanations(ask, answer):
            parts.append(part)
            # Others are answered between some items and the next: fifty take some 30 ms.
            await asyncio.sleep(0)
        answer = explained(answer, parts, seconds=time.monotonic() - began)
        self._serving.metrics.observe(ask, answer, sum(answer.stages.values()))
        return _Reply(_json(_reasons(answer, request.most)), answers=(answer,))

    def _show(self, ask: Ask) -> Answer:
        """Answer with a list that somebody will see."""
        began = time.monotonic()
        answer = self._answer(ask)
        self._serving.metrics.observe(ask, answer, time.monotonic() - began)
        if self._serving.exposures is not None:
            self._serving.exposures.offer(ask, answer, datetime.now(UTC))
        return answer

    def _answer(self, ask: Ask) -> Answer:
        answerer = self._serving.opened()
        try:
            return answerer.answer(ask)
        except FaultyInputError as error:
            # What only the ranker can know to be wrong, such as a context that it was not trained with.
            raise RefusedError(400, *error.faults) from error

    async def _release(self, _: Message, __: Receive) -> _Reply:
        answerer = self._serving.opened()
        approval = self._serving.release.approval if self._serving.release else None
        start = datetime.fromtimestamp(answerer.ranker.latest_bucket_start, UTC)
        answer = ReleaseAnswer(
            release=answerer.release,
            run=approval.run if approval else "",
            ranker=approval.ranker if approval else "",
            approver=approval.approver if approval else "",
            decided_at=approval.decided_at if approval else "",
            latest_bucket_start=start.isoformat(),
            arm=answerer.arm,
        )
        return _Reply(answer.model_dump_json().encode())

    async def _livez(self, _: Message, __: Receive) -> _Reply:
        return _Reply(b'{"status":"live"}')

    async def _readyz(self, _: Message, __: Receive) -> _Reply:
        if self._serving.draining:
            raise RefusedError(503, Fault("service", "a process that is about to end", "another one"))
        if not self._serving.ready:
            raise RefusedError(503, Fault("service", "no ranker opened, checked and warmed up yet", "some patience"))
        return _Reply(b'{"status":"ready"}')

    async def _metrics(self, _: Message, __: Receive) -> _Reply:
        parts = []
        for part in exposition(REGISTRY, self._serving.registry):
            parts.append(part)
            await asyncio.sleep(0)
        return _Reply(b"".join(parts), CONTENT_TYPE_LATEST.encode())

    async def _openapi(self, _: Message, __: Receive) -> _Reply:
        return _Reply(self._serving.document())


_GONE = 499
"""Of no answer, for who would have got it is gone; as nginx counts it."""


class _GoneError(Exception):
    """The client went away before its request was whole."""


def _headers_of(scope: Message) -> _Headers:
    kind = length = b""
    deadline = None
    for name, value in scope["headers"]:
        if name == b"content-type":
            kind = value
        elif name == b"content-length":
            length = value
        elif name == b"x-deadline-ms":
            deadline = value
    return _Headers(kind, length, deadline)


def _carried(scope: Message) -> dict[str, str]:
    named = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
    return {name: value for name, value in named if name in CARRIED}


async def _body(headers: _Headers, receive: Receive) -> bytes:
    """The whole body.

    Raises:
        RefusedError: If it is no JSON by its own word, too long by its own word or in truth, or too slow.
    """
    kind = headers.kind.partition(b";")[0].strip().lower()
    if kind and kind != _JSON:
        said = headers.kind[:64].decode("latin-1")
        raise RefusedError(415, Fault("content-type", shown(said), _JSON.decode()))
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
        raise _GoneError
    return message


_CLOSE = [(b"connection", b"close")]


def _too_long() -> RefusedError:
    # The rest of the body is not read: the connection is of no more use.
    return RefusedError(413, Fault("body", f"more than {MOST_BYTES} bytes", "at most as many"), headers=_CLOSE)


def _parsed(model: type[Request], body: bytes) -> Request:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise RefusedError(400, *faults_of(error, model)) from error


def _deadline(asked: float | None, headers: _Headers, arrived: float) -> float:
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


def _ask(
    request: RankRequest | RecommendRequest | BatchedRequest, candidates: Iterable[str] | None, deadline: float
) -> Ask:
    return Ask(
        request_id=request.request_id or uuid.uuid4().hex,
        user_id=request.user_id,
        candidates=None if candidates is None else tuple(candidates),
        k=request.k,
        context=request.context,
        exclude=frozenset(request.exclude),
        surface=request.surface,
        deadline=deadline,
        # Without a key of their own nobody could join what came of it to the draw.
        explore=request.request_id is not None,
    )


def _list_bytes(answer: Answer) -> bytes:
    """A `RankAnswer` as JSON: written field by field, a model of each place would cost five times as much."""
    return b'{"request_id":%b,"items":%b,%b}' % (
        _json(answer.request_id),
        _PLACES.dump_json(answer.places),
        _provenance(answer),
    )


def _provenance(answer: Answer) -> bytes:
    fallbacks = _json(list(answer.fallbacks)) if answer.fallbacks else b"[]"
    return b'"release":%b,"arm":%b,"fallback":%b,"fallbacks":%b' % (
        _json(answer.release),
        _json(answer.arm),
        b"true" if answer.fallbacks else b"false",
        fallbacks,
    )


def _reasons(answer: Answer, most: int) -> dict[str, Any]:
    """An `ExplainAnswer`."""
    items = [
        {
            "item_id": one.item_id,
            "score": one.score,
            "rank": rank,
            "base": one.base,
            "contributions": [
                {"feature": share.feature, "value": share.value, "effect": share.effect, "words": sentence(share)}
                for share in one.contributions[:most]
            ],
            "others": sum(share.effect for share in one.contributions[most:]),
        }
        for rank, one in enumerate(answer.explanations, start=1)
    ]
    return {
        "request_id": answer.request_id,
        "items": items,
        "release": answer.release,
        "arm": answer.arm,
        "fallback": bool(answer.fallbacks),
        "fallbacks": list(answer.fallbacks),
    }


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _refusal(refused: RefusedError) -> _Reply:
    said = _json({"error": str(refused)})
    return _Reply(said, status=refused.status, headers=refused.headers, refused=refused.where)
