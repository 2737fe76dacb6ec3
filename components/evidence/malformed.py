"""Requests that are wrong: a service must refuse each with a 4xx and stay well."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_JSON = {"Content-Type": "application/json"}
_OTHER = (
    "text/html",
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/vnd.bentoml+pickle",
)


@dataclass(frozen=True, slots=True)
class Malformed:
    """A wrong request, and the field that its refusal should name (empty where no field can be named)."""

    what: str
    body: bytes
    names: str = ""
    method: str = "POST"
    path: str = "/rank"
    headers: Mapping[str, str] = field(default_factory=lambda: _JSON)

    def refused_by(self, status: int, answer: bytes) -> bool:
        """Whether an answer is a refusal: 4xx, the field named as a word of its own, and nothing of our code in it."""
        told = not self.names or re.search(rb"(?<!\w)" + re.escape(self.names.encode()) + rb"(?!\w)", answer)
        inside = b"Traceback" in answer or re.search(rb"File .{0,200}, line \d", answer)
        return 400 <= status < 500 and bool(told) and not inside


def malformed_requests(item: str) -> tuple[Malformed, ...]:
    """Wrong requests of every kind; `item` is the id of an item that there is."""
    return (*_bodies(item), *_texts(item), *_routes(item))


def _bodies(item: str) -> list[Malformed]:
    """Readable JSON that no client should send; of a dictionary the one wrong field is replaced or added."""
    honest: dict[str, Any] = {"candidates": [item], "k": 1}
    changed: list[tuple[str, str, dict[str, Any]]] = [
        ("no candidates", "candidates", {"candidates": []}),
        ("candidates that are no list", "candidates", {"candidates": item}),
        ("candidates that are null", "candidates", {"candidates": None}),
        ("a candidate that is null", "candidates", {"candidates": [None]}),
        ("a candidate that is a list", "candidates", {"candidates": [[item]]}),
        ("a candidate that is an object", "candidates", {"candidates": [{"id": item}]}),
        ("an empty candidate", "candidates", {"candidates": [""]}),
        ("a candidate of a thousand letters", "candidates", {"candidates": ["x" * 1_000]}),
        ("ten thousand candidates", "candidates", {"candidates": [str(number) for number in range(10_000)]}),
        ("k of zero", "k", {"k": 0}),
        ("k below zero", "k", {"k": -5}),
        ("k beyond reason", "k", {"k": 10**9}),
        ("k that is no whole number", "k", {"k": 1.5}),
        ("k that is text", "k", {"k": "many"}),
        ("k that is null", "k", {"k": None}),
        ("k that is a list", "k", {"k": [1]}),
        ("k that is an object", "k", {"k": {"at": 1}}),
        ("candidates that are true", "candidates", {"candidates": True}),
        ("a candidate that is true", "candidates", {"candidates": [True]}),
        ("a user that is a list", "user_id", {"user_id": ["u"]}),
        ("a user that is an object", "user_id", {"user_id": {"id": "u"}}),
        ("an empty user", "user_id", {"user_id": ""}),
        ("a user of a thousand letters", "user_id", {"user_id": "u" * 1_000}),
        ("a context that is text", "context", {"context": "mobile"}),
        ("a context that is a list", "context", {"context": ["mobile"]}),
        ("a context of numbers", "context", {"context": {"device": 7}}),
        ("a context of lists", "context", {"context": {"device": ["mobile"]}}),
        ("a context that the model does not know", "context", {"context": {"no such context": "x"}}),
        ("a context of a hundred names", "context", {"context": {f"name-{number}": "x" for number in range(100)}}),
        ("a context of a long value", "context", {"context": {"device": "x" * 1_000}}),
        ("a field that nobody knows", "surprise", {"surprise": 1}),
    ]
    lists = [Malformed(what, json.dumps(honest | change).encode(), names) for what, names, change in changed]
    retrieved = json.dumps({"k": 0}).encode()
    return [
        *lists,
        Malformed("no candidates at all", b'{"k": 1}', "candidates"),
        Malformed("k of zero to recommend", retrieved, "k", path="/recommend"),
        Malformed("candidates to recommend", json.dumps(honest).encode(), "candidates", path="/recommend"),
    ]


def _texts(item: str) -> list[Malformed]:
    """Bodies that are no JSON object."""
    honest = json.dumps({"candidates": [item], "k": 1}).encode()
    return [
        Malformed("nothing", b""),
        Malformed("a cut-off object", honest[:-3]),
        Malformed("a list", b"[1, 2]"),
        Malformed("a number", b"7"),
        Malformed("null", b"null"),
        Malformed("NaN", b'{"candidates": ["1"], "k": NaN}', "k"),
        Malformed("infinity", b'{"candidates": ["1"], "k": Infinity}', "k"),
        Malformed("a number too large to be one", b'{"candidates": ["1"], "k": 1e400}', "k"),
        Malformed("a number of five thousand digits", b'{"candidates": ["1"], "k": ' + b"9" * 5_000 + b"}"),
        Malformed("half of a character", b'{"candidates": ["\\ud800"]}'),
        Malformed("a request within a request", b'{"request": ' + honest + b"}", "request"),
        Malformed("bytes that are no text", b"\xff\xfe\x00{"),
        Malformed("two thousand brackets", b"[" * 2_000),
        Malformed("two hundred thousand brackets", b"[" * 200_000),
        Malformed("two thousand nested objects", b'{"a":' * 2_000 + b"1" + b"}" * 2_000),
        *(Malformed(f"a body of {kind}", honest, "content-type", headers={"Content-Type": kind}) for kind in _OTHER),
    ]


def _routes(item: str) -> list[Malformed]:
    honest = json.dumps({"candidates": [item], "k": 1}).encode()
    return [
        Malformed("a GET", b"", method="GET", headers={}),
        Malformed("a PUT", honest, method="PUT"),
        Malformed("a DELETE", b"", method="DELETE", headers={}),
        Malformed("a route that there is not", honest, path="/rank/all"),
        Malformed("a way out of the folder", b"", method="GET", path="/..%2f..%2fetc%2fpasswd", headers={}),
    ]
