"""Who may talk to the desk: the browser that was opened with the address that the terminal showed, and nobody else.

A page on loopback is in reach of every program of this machine and of every web page that the reviewer opens. So:

- the Host header must be ours: a name that an attacker's DNS points at 127.0.0.1 does not get an answer;
- pages lie below a path that is random at each start; the first visit brings the token, gets a cookie, and is sent on, so that
  the token does not stay in the address bar. The cookie is HttpOnly, SameSite=Strict, and kept to that path: cookies know no
  ports, and another server on 127.0.0.1 would otherwise be sent it;
- what changes something must come from our own pages: its Origin is ours, and its form bears a code for that run and that page;
- no page loads, runs or frames anything but our own style sheet and the card; there is no script at all.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = "127.0.0.1"
COOKIE = "rankgate-review"

PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; frame-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
CARD_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'"
)
"""The card's style lies in its page; its bytes are signed, so no code could be added to it."""

_HEADERS = {
    "content-security-policy": PAGE_POLICY,
    "x-content-type-options": "nosniff",
    # Not no-referrer: under it browsers send a form's Origin as null. No address of ours leaves this origin.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_SAFE = {"GET", "HEAD"}
_TELL = "Open the address that `rankgate review` has printed in its terminal."


@dataclass(frozen=True, slots=True)
class Secrets:
    """What one start of the desk keeps to itself and its reviewer."""

    folder: str
    """First part of every path."""
    token: str
    """In the printed address."""
    session: str
    """The cookie's value."""
    form_key: bytes

    @classmethod
    def new(cls) -> Secrets:
        """Random ones."""
        return cls(
            secrets.token_urlsafe(9), secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_bytes(32)
        )

    def form_code(self, run: str, page: str) -> str:
        """The code of a form about a run, on the page of which `page` is the random name."""
        return hmac.new(self.form_key, f"{run}\n{page}".encode(), hashlib.sha256).hexdigest()

    def is_ours(self, code: str, *, run: str, page: str) -> bool:
        """Whether a form's code was made here, for this run and page."""
        return _same(code, self.form_code(run, page))


class Gate:
    """ASGI middleware: lets through what the desk's own reviewer asks, and puts the protecting headers on every answer."""

    def __init__(self, app: ASGIApp, secrets_: Secrets, *, port: int) -> None:
        self._app = app
        self._secrets = secrets_
        self._hosts = {f"{LOOPBACK}:{port}", f"localhost:{port}"}
        self._root = f"/{secrets_.folder}/"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have it answered."""
        if scope["type"] != "http":
            # Neither a web socket nor a life span is ours.
            return
        headers = scope["headers"]
        host = _only(headers, b"host")
        if host not in self._hosts:
            await _refuse(send, 421, "This address is not the desk's.")
        elif not scope["path"].startswith(self._root):
            await _refuse(send, 403, _TELL)
        elif (given := _token(scope)) and scope["path"] == self._root:
            await self._let_in(given, send)
        elif not _same(_cookie(headers), self._secrets.session):
            await _refuse(send, 403, _TELL)
        elif scope["method"] not in _SAFE and not _is_from(headers, f"http://{host}"):
            await _refuse(send, 403, "A decision is only taken from the desk's own page.")
        else:
            await self._app(scope, receive, _protecting(send))

    async def _let_in(self, given: str, send: Send) -> None:
        if not _same(given, self._secrets.token):
            await _refuse(send, 403, _TELL)
            return
        cookie = f"{COOKIE}={self._secrets.session}; Path={self._root}; HttpOnly; SameSite=Strict"
        await _answer(send, 303, b"", {"location": self._root, "set-cookie": cookie})


def _token(scope: Scope) -> str:
    """The token that a first visit brings; empty where there is none."""
    if scope["method"] != "GET":
        return ""
    query: bytes = scope["query_string"]
    return parse_qs(query.decode("latin-1")).get("token", [""])[0]


def _is_from(headers: Iterable[tuple[bytes, bytes]], origin: str) -> bool:
    """Whether a request says that a page of `origin` sent it; one that says nothing is not believed."""
    held = list(headers)
    site = _only(held, b"sec-fetch-site")
    return _only(held, b"origin") == origin and site in ("", "same-origin")


def _only(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str:
    """The one value of a header; empty where there is none, or several."""
    found = [value for key, value in headers if key.lower() == name]
    return str(found[0], "latin-1") if len(found) == 1 else ""


def _cookie(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Our cookie's value. By hand: the standard library's parser gives up on all cookies where another server's is odd."""
    text = ";".join(value.decode("latin-1") for key, value in headers if key.lower() == b"cookie")
    pairs = (part.strip().partition("=") for part in text.split(";"))
    return next((value for name, _, value in pairs if name == COOKIE), "")


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _protecting(send: Send) -> Send:
    async def protected(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message["headers"]}
            added = [(name.encode(), value.encode()) for name, value in _HEADERS.items() if name.encode() not in given]
            message = {**message, "headers": [*message["headers"], *added]}
        await send(message)

    return protected


async def _refuse(send: Send, status: int, words: str) -> None:
    await _answer(send, status, f"{words}\n".encode(), {"content-type": "text/plain; charset=utf-8"})


async def _answer(send: Send, status: int, body: bytes, headers: dict[str, str]) -> None:
    told = {**_HEADERS, **headers, "content-length": str(len(body))}
    held = [(name.encode(), value.encode()) for name, value in told.items()]
    await send({"type": "http.response.start", "status": status, "headers": held})
    await send({"type": "http.response.body", "body": body})
