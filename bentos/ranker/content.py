"""Only JSON is read: every other body would reach a parser that no client of ours needs, and one of them answers 500."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

_JSON = "application/json"


class JsonOnly:
    """Answers 415 to a POST that says its body is something else; one that says nothing is read as JSON."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        kind = _content_type(scope) if scope["type"] == "http" and scope["method"] == "POST" else ""
        if not kind or kind.partition(";")[0].strip().lower() == _JSON:
            await self._app(scope, receive, send)
            return
        body = json.dumps({"error": f"content-type: found {kind[:64]!r}; needed {_JSON}."}).encode()
        headers = [(b"content-type", _JSON.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 415, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def reads_json_only(service: Any) -> Any:
    """Decorates a BentoML service, which answers 415 to every other body from then on."""
    service.add_asgi_middleware(JsonOnly)
    return service


def _content_type(scope: Message) -> str:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == b"content-type"), "")
