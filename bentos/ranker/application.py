"""The routes of the ranking service, as one small ASGI application: bytes to an ask, an answer to bytes.

    POST /rank /recommend /batch /explain      lists
    GET or POST /release                       what is served
    GET /livez /readyz /metrics /openapi.json

It stands outside of BentoML's own application and leaves nothing to it but the start and the end of the process: what BentoML's
routes cost a request, and why, is in docs/decisions/0033-service-speed.md. Every refusal is JSON: the field, what was found,
what was needed. Scoring runs in the event loop's own thread; a hop to another costs more than it frees.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY

from bentos.ranker.messages import (
    BatchedRequest,
    BatchRequest,
    ExplainRequest,
    RankRequest,
    RecommendRequest,
    ReleaseAnswer,
)
from bentos.ranker.reading import (
    JSON,
    GoneError,
    Headers,
    Inner,
    Message,
    Receive,
    Send,
    ask_of,
    body_of,
    carried,
    deadline_of,
    headers_of,
    parsed,
)
from bentos.ranker.refusals import RefusedError, shown
from bentos.ranker.serving import EXPLAINED, Serving
from bentos.ranker.writing import json_bytes, list_bytes, reasons_bytes
from components.errors import Fault, FaultyInputError
from components.serving.answering import Answerer, explained
from components.serving.contract import Answer, Ask, Looked
from components.serving.metrics import OTHER, exposition

_LOG = logging.getLogger("rankgate.serving")

_PATH_LETTERS = 200


@dataclass(frozen=True, slots=True)
class _Reply:
    body: bytes
    kind: bytes = JSON
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
        except GoneError:
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
                    carrier=carried(scope),
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
        headers = headers_of(scope)
        request = parsed(RankRequest, await body_of(headers, receive))
        return await self._listed(request, request.candidates, headers, arrived)

    async def _recommend(self, scope: Message, receive: Receive) -> _Reply:
        arrived = time.monotonic()
        headers = headers_of(scope)
        return await self._listed(parsed(RecommendRequest, await body_of(headers, receive)), None, headers, arrived)

    async def _listed(
        self,
        request: RankRequest | RecommendRequest | BatchedRequest,
        candidates: Iterable[str] | None,
        headers: Headers,
        arrived: float,
    ) -> _Reply:
        ask = ask_of(request, candidates, deadline_of(request.deadline_ms, headers, arrived))
        # What has arrived meanwhile gets its moment of arrival before this is worked on, not after.
        await asyncio.sleep(0)
        answerer = self._serving.opened()
        looked = await self._looked(answerer, [ask]) if self._serving.store else {}
        answer = self._show(answerer, ask, looked)
        return _Reply(list_bytes(answer), answers=(answer,))

    async def _batch(self, scope: Message, receive: Receive) -> _Reply:
        arrived = time.monotonic()
        headers = headers_of(scope)
        batch = parsed(BatchRequest, await body_of(headers, receive))
        answerer = self._serving.opened()
        asks = [
            ask_of(request, request.candidates, deadline_of(request.deadline_ms, headers, arrived))
            for request in batch.requests
        ]
        for place, ask in enumerate(asks):
            if faults := answerer.faults(ask):
                raise RefusedError(400, *(replace(fault, where=f"requests.{place}.{fault.where}") for fault in faults))
        looked = await self._looked(answerer, asks) if self._serving.store else {}
        answers, lists = [], []
        for ask in asks:
            # Others are answered between the requests of a batch.
            await asyncio.sleep(0)
            answers.append(self._show(answerer, ask, looked))
            lists.append(list_bytes(answers[-1]))
        return _Reply(b'{"answers":[%b]}' % b",".join(lists), answers=tuple(answers))

    async def _explain(self, scope: Message, receive: Receive) -> _Reply:
        arrived = time.monotonic()
        headers = headers_of(scope)
        request = parsed(ExplainRequest, await body_of(headers, receive))
        ask = Ask(
            request_id=request.request_id or uuid.uuid4().hex,
            user_id=request.user_id,
            candidates=tuple(request.candidates),
            k=len(request.candidates),
            context=request.context,
            surface=EXPLAINED,
            deadline=deadline_of(request.deadline_ms, headers, arrived),
            explore=False,
        )
        await asyncio.sleep(0)
        # The one that made the list also says why, whatever is swapped in meanwhile.
        answerer = self._serving.opened()
        looked = await self._looked(answerer, [ask]) if self._serving.store else {}
        answer = _answer(answerer, ask, looked)
        began, parts = time.monotonic(), []
        for part in answerer.explanations(ask, answer, looked.get(ask.user_id or "")):
            parts.append(part)
            # Others are answered between some items and the next: fifty take some 30 ms.
            await asyncio.sleep(0)
        answer = explained(answer, parts, seconds=time.monotonic() - began)
        self._serving.metrics.observe(ask, answer, sum(answer.stages.values()))
        return _Reply(reasons_bytes(answer, request.most), answers=(answer,))

    async def _looked(self, answerer: Answerer, asks: Sequence[Ask]) -> Mapping[str, Looked]:
        """What a shared store says of the users, by their ids.

        Nobody waits longer than half of what their deadlines leave beside scoring: who is not found takes longer to score.
        """
        if self._serving.store is None:
            return {}
        spare = min(map(answerer.spare, asks)) / 2
        return await self._serving.store.users(answerer.ranker, [ask.user_id for ask in asks], seconds=spare)

    def _show(self, answerer: Answerer, ask: Ask, looked: Mapping[str, Looked]) -> Answer:
        """Answer with a list that somebody will see."""
        began = time.monotonic()
        answer = _answer(answerer, ask, looked)
        self._serving.metrics.observe(ask, answer, time.monotonic() - began)
        if self._serving.exposures is not None:
            self._serving.exposures.offer(ask, answer, datetime.now(UTC))
        return answer

    async def _release(self, _: Message, __: Receive) -> _Reply:
        answerer = self._serving.opened()
        approval = self._serving.release.approval if self._serving.release else None
        start = datetime.fromtimestamp(answerer.ranker.latest_bucket_start, UTC)
        features = self._serving.features.state() if self._serving.features else None
        answer = ReleaseAnswer(
            release=answerer.release,
            run=approval.run if approval else "",
            ranker=approval.ranker if approval else "",
            approver=approval.approver if approval else "",
            decided_at=approval.decided_at if approval else "",
            latest_bucket_start=start.isoformat(),
            arm=answerer.arm,
            features=features.digest if features else "",
            features_published_by=features.published_by if features else "",
            features_published_at=features.published_at if features else "",
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


def _answer(answerer: Answerer, ask: Ask, looked: Mapping[str, Looked]) -> Answer:
    try:
        return answerer.answer(ask, looked.get(ask.user_id or ""))
    except FaultyInputError as error:
        # What only the ranker can know to be wrong, such as a context that it was not trained with.
        raise RefusedError(400, *error.faults) from error


_GONE = 499
"""Of no answer, for who would have got it is gone; as nginx counts it."""


def _refusal(refused: RefusedError) -> _Reply:
    said = json_bytes({"error": str(refused)})
    return _Reply(said, status=refused.status, headers=refused.headers, refused=refused.where)
