"""Only JSON is read, before any parser of the server sees a body."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from bentos.ranker.content import JsonOnly, Message, Receive, Send


async def accepts(scope: Message, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"reached"})


def answer(kind: str | None, *, method: str = "POST", type_: str = "http") -> tuple[int, bytes]:
    said: list[dict[str, Any]] = []

    async def receive() -> Message:
        raise AssertionError("the body must not be read")

    async def send(message: Message) -> None:
        said.append(dict(message))

    headers = [(b"host", b"here"), *([] if kind is None else [(b"content-type", kind.encode("latin-1"))])]
    asyncio.run(JsonOnly(accepts)({"type": type_, "method": method, "headers": headers}, receive, send))
    return said[0]["status"], said[1]["body"]


@pytest.mark.parametrize("kind", [None, "application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_json_and_bodies_that_say_nothing_pass(kind: str | None) -> None:
    assert answer(kind) == (200, b"reached")


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "multipart/form-data; boundary=x", "application/jsonp", "application/vnd.bentoml+pickle", "é", ";"],
)
def test_every_other_body_is_refused_unread_with_what_was_found(kind: str) -> None:
    status, body = answer(kind)
    assert status == 415
    assert json.loads(body)["error"].startswith("content-type: found ")
    assert "needed application/json" in json.loads(body)["error"]


def test_what_has_no_body_and_what_is_no_request_pass() -> None:
    assert answer("text/plain", method="GET")[0] == 200
    assert answer("text/plain", type_="lifespan")[0] == 200


def test_a_long_content_type_is_not_sent_back_whole() -> None:
    assert len(answer("x" * 10_000)[1]) < 200
