"""Requests as nobody should send them: valid ones with something changed, down to the bytes and how they are sent.

`wires` draws one; `exchange` sends it and says what came of it. A change may leave a request valid: then it is answered 200.
What is wrong with an answer is told by `fault_of`: a status of 500 or above, silence, words of the program's inside, or an
answer of 200 that is not JSON.
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

WITHIN = 5.0
"""Seconds in which a request must be answered, or its connection be closed."""
_LEAK = re.compile(rb"Traceback|site-packages|\.py\b|bentos[./]|components[./]|/home/|/root/|0x[0-9a-f]{8}")
_LARGE = 1 << 22

Draw = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Wire:
    """What goes over one connection."""

    kind: str
    parts: tuple[bytes, ...]
    """Sent one after another."""
    methods: tuple[str, ...]
    """Of the requests that must be answered; for the answers' sake, as HEAD has no body."""
    lenient: bool = False
    """The bytes are no HTTP that must be understood: closing the connection is as good as an answer."""

    def __repr__(self) -> str:
        shown = b"|".join(self.parts)
        return f"Wire({self.kind!r}, {len(shown)} bytes: {shown[:600]!r}{'...' if len(shown) > 600 else ''})"


@dataclass(frozen=True, slots=True)
class Got:
    """One answer."""

    status: int
    kind: str
    """Its content type."""
    body: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a wire."""

    answers: tuple[Got, ...]
    ended: str
    """`answered`, `closed` before all answers had come, or `silent`."""
    seconds: float


@dataclass(frozen=True, slots=True)
class _Raw:
    """JSON text that is put in as it is."""

    text: str


@dataclass(frozen=True, slots=True)
class _Pairs:
    """An object whose keys may repeat."""

    pairs: tuple[tuple[str, Any], ...]


_NUMBERS = st.one_of(
    st.integers(-3, 1200),
    st.sampled_from([2**31, 2**63, -(2**63) - 1, 10**30, 10**400]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from(
        [_Raw(text) for text in ("NaN", "-Infinity", "1e400", "-0", "1E5", "00", "0x10", "1.", "+1", "1_0")]
    ),
)
_TEXTS = st.one_of(
    st.text(max_size=12),
    st.text(st.characters(codec=None), max_size=6),
    st.sampled_from(
        ["", " ", "\x00", "\ud800", "\u202e", "u" * 257, "é" * 256, "null", "__proto__", "'; --", "{{7*7}}"]
    ),
    st.integers(250, 70_000).map(lambda length: "x" * length),
)
_LEAVES = st.one_of(st.none(), st.booleans(), _NUMBERS, _TEXTS)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.dictionaries(st.text(max_size=5), inner, max_size=4).map(lambda d: d)
    ),
    max_leaves=8,
)
_DEEP = st.tuples(st.sampled_from(["[", '{"a":']), st.sampled_from([30, 200, 2_000, 100_000])).map(
    lambda drawn: _Raw(drawn[0] * drawn[1] + "1" + ("]" if drawn[0] == "[" else "}") * drawn[1])
)
_HEADERS = st.lists(
    st.one_of(
        st.sampled_from(
            [
                ("Accept", "text/html"),
                ("Accept", "application/vnd.bentoml+pickle"),
                ("Accept-Encoding", "gzip, br;q=0"),
                ("Authorization", "Basic !!!"),
                ("Connection", "close"),
                ("Content-Encoding", "gzip"),
                ("Content-Type", "application/json; charset=utf-16"),
                ("Content-Type", "multipart/form-data; boundary=x"),
                ("Content-Type", "application/vnd.bentoml+pickle"),
                ("Content-Type", ""),
                ("Content-Type", "application/json;" + "a" * 4000),
                ("Cookie", "=;=;" * 300),
                ("Expect", "100-continue"),
                ("If-None-Match", "*"),
                ("Origin", "null"),
                ("Range", "bytes=5-1"),
                ("traceparent", "00-" + "0" * 32 + "-" + "f" * 16 + "-zz"),
                ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
                ("tracestate", "=,=" * 200),
                ("baggage", "%%%=%"),
                ("Upgrade", "websocket"),
                ("X-Forwarded-For", "999.999.999.999, ::"),
                ("X-Request-Id", "é" * 40),
                ("X-Request-Id", "a" * 3000),
                ("X-Request-Id", '"\\{}%s'),
            ]
        ),
        st.tuples(
            st.sampled_from(["X-Request-Id", "X-Deadline-Ms", "Timeout", "Prefer", "X-Surface", "User-Agent"]),
            st.one_of(
                st.sampled_from(["-1", "0", "1", "50", "nan", "inf", "1e400", "9" * 400, "", "1,2", "\t", "0x1"]),
                st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=20),
            ),
        ),
    ),
    max_size=4,
)


def dumped(value: Any) -> str:
    """JSON text, with what is no JSON where it was put."""
    match value:
        case _Raw(text):
            return text
        case _Pairs(pairs):
            return "{" + ",".join(f"{json.dumps(key)}:{dumped(held)}" for key, held in pairs) + "}"
        case dict():
            return dumped(_Pairs(tuple(value.items())))
        case list() | tuple():
            return "[" + ",".join(map(dumped, value)) + "]"
        case int() if not isinstance(value, bool) and abs(value) > 10**300:
            return "1" + "0" * 400
        case _:
            return json.dumps(value)


@st.composite
def bodies(draw: Draw, valid: st.SearchStrategy[tuple[str, Any]]) -> tuple[str, str, bytes]:
    """What was changed, a path and a body."""
    path, document = draw(valid)
    kind = draw(st.sampled_from(["value", "value", "value", "text", "bytes", "whole", "untouched"]))
    if kind == "whole":
        return kind, path, dumped(draw(st.one_of(_VALUES, _DEEP, st.just(_Raw(""))))).encode("utf-8", "surrogatepass")
    if kind == "value":
        for _ in range(draw(st.integers(1, 3))):
            document = draw(_changed(document))
    text = dumped(document)
    if kind == "text":
        place = draw(st.integers(0, len(text)))
        inserted = draw(
            st.sampled_from(["", ",", '"', "}", "]", "\\", "\\u12", "\x00", "//", "\ufeff", "null", "{" * 50])
        )
        text = text[:place] + inserted + text[place + draw(st.integers(0, 4)) :]
    content = text.encode("utf-8", "surrogatepass")
    if kind == "bytes":
        how = draw(st.sampled_from(["cut", "flip", "utf-16", "utf-8-sig", "after", "huge"]))
        if how == "cut":
            content = content[: draw(st.integers(0, len(content)))]
        elif how == "flip":
            place = draw(st.integers(0, max(0, len(content) - 1)))
            content = content[:place] + bytes([draw(st.integers(0, 255))]) + content[place + 1 :]
        elif how == "after":
            content += draw(st.binary(max_size=8))
        elif how == "huge":
            content = content[:1] + b" " * draw(st.sampled_from([70_000, 1_100_000, _LARGE])) + content[1:]
        else:
            content = text.encode(how, "surrogatepass")
    return kind, path, content


@st.composite
def _changed(draw: Draw, document: Any) -> Any:
    """A document with one thing changed somewhere."""
    if isinstance(document, dict):
        document = _Pairs(tuple(document.items()))
    if isinstance(document, _Pairs) and document.pairs and draw(st.sampled_from([*[True] * 9, False])):
        place = draw(st.integers(0, len(document.pairs) - 1))
        key, held = document.pairs[place]
        other: tuple[tuple[str, Any], ...]
        match draw(st.sampled_from(["inside", "inside", "inside", "drop", "again", "rename", "add"])):
            case "inside":
                other = ((key, draw(_changed(held))),)
            case "drop":
                other = ()
            case "again":
                other = ((key, held), (key, draw(_VALUES)))
            case "rename":
                other = ((draw(_TEXTS), held),)
            case _:
                other = ((key, held), (draw(_TEXTS), draw(_VALUES)))
        return _Pairs((*document.pairs[:place], *other, *document.pairs[place + 1 :]))
    if isinstance(document, (list, tuple)) and document and draw(st.sampled_from([*[True] * 4, False])):
        held = list(document)
        place = draw(st.integers(0, len(held) - 1))
        match draw(st.sampled_from(["inside", "drop", "repeat", "many", "empty", "twins"])):
            case "inside":
                held[place] = draw(_changed(held[place]))
            case "drop":
                del held[place]
            case "repeat":
                held += [held[place]] * draw(st.sampled_from([1, 900, 1_100, 20_000]))
            case "many":
                held += [f"x{number}" for number in range(draw(st.sampled_from([10, 990, 1_001])))]
            case "empty":
                held = []
            case _:
                held = held + held
        return held
    return draw(st.one_of(_VALUES, _VALUES, _DEEP))


@st.composite
def wires(draw: Draw, valid: st.SearchStrategy[tuple[str, Any]], paths: Sequence[str]) -> Wire:
    """Anything that a client could send.

    Args:
        draw: Of Hypothesis.
        valid: Path and document of a valid POST.
        paths: All that the service answers.
    """
    what, path, body = draw(bodies(valid))
    method, target = "POST", path
    headers = [("Host", "127.0.0.1"), ("Content-Type", "application/json")]
    extra = draw(_HEADERS) if draw(st.sampled_from([False, False, True])) else []
    replaced = {name.lower() for name, _ in extra}
    headers = [pair for pair in headers if pair[0].lower() not in replaced] + extra
    if draw(st.sampled_from([*[False] * 9, True])):
        what, method = (
            "method",
            draw(st.sampled_from(["GET", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH", "TRACE", "BREW"])),
        )
    if draw(st.sampled_from([*[False] * 9, True])):
        what = "path"
        target = draw(
            st.one_of(
                st.sampled_from(
                    [*paths, "/", "//", "/rank/", "/rank?k=1", "/..%2f..%2fetc/passwd", "/%ff", "*", "/" + "a" * 9000]
                ),
                st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20).map(lambda text: "/" + text),
            )
        )
    how = draw(
        st.sampled_from(["plain", "plain", "plain", "chunked", "slow", "twice", "truncated", "lengths", "noise"])
    )
    first = f"{method} {target} HTTP/1.1\r\n".encode("latin-1")
    head = first + b"".join(f"{name}: {value}\r\n".encode("latin-1", "replace") for name, value in headers)
    sized = head + f"Content-Length: {len(body)}\r\n\r\n".encode()
    # A server may refuse what is too large, or too long in its head, without reading it to its end; and an upgrade that is
    # asked for leaves HTTP. Not every method and target is one that HTTP has.
    lenient = (
        len(body) > 200_000
        or len(head) > 8_000
        or bool(replaced & {"upgrade", "expect"})
        or not target.startswith("/")
        or method == "BREW"
    )
    match how:
        case "chunked":
            chunks, left = [], body
            while left:
                size = draw(st.integers(1, max(1, len(left)))) if len(chunks) < 20 else len(left)
                chunks.append(f"{size:x}\r\n".encode() + left[:size] + b"\r\n")
                left = left[size:]
            ending = draw(st.sampled_from([b"0\r\n\r\n", b"0;a=b\r\n\r\n", b"0\r\nX-After: 1\r\n\r\n"]))
            whole = head + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(chunks) + ending
            return Wire(f"{what}, chunked", (whole,), (method,), lenient or ending != b"0\r\n\r\n")
        case "slow":
            cut = sorted({draw(st.integers(1, len(sized) + max(0, len(body) - 1))) for _ in range(3)})
            whole = sized + body
            parts = tuple(whole[begin:end] for begin, end in zip([0, *cut], [*cut, len(whole)], strict=True))
            return Wire(f"{what}, slow", parts, (method,), lenient)
        case "twice":
            again = draw(st.integers(2, 5))
            return Wire(
                f"{what}, pipelined", ((sized + body) * again,), (method,) * again, lenient or "connection" in replaced
            )
        case "truncated":
            whole = sized + body
            return Wire(f"{what}, truncated", (whole[: draw(st.integers(0, len(whole) - 1))],), (method,), lenient=True)
        case "lengths":
            said = draw(
                st.sampled_from(
                    [
                        "-1",
                        "+5",
                        "1e3",
                        "",
                        "abc",
                        str(len(body) + 50),
                        str(max(0, len(body) - 3)),
                        "9" * 30,
                        f"{len(body)}, 7",
                    ]
                )
            )
            chunked = b"Transfer-Encoding: chunked\r\n" if draw(st.booleans()) else b""
            whole = head + chunked + f"Content-Length: {said}\r\n\r\n".encode() + body
            return Wire(f"{what}, wrong length", (whole,), (method,), lenient=True)
        case "noise":
            place = draw(st.integers(0, len(head)))
            noise = draw(st.binary(min_size=1, max_size=12))
            return Wire(
                f"{what}, noise in the head", (sized[:place] + noise + sized[place:] + body,), (method,), lenient=True
            )
        case _:
            return Wire(what, (sized + body,), (method,), lenient)


def exchange(port: int, wire: Wire) -> Outcome:
    """Send it and read what comes, until all is answered, the connection is closed, or time is up."""
    began = time.perf_counter()
    answers: list[Got] = []
    with socket.create_connection(("127.0.0.1", port), timeout=WITHIN) as connection:
        reader = _Reader(connection)
        with suppress(OSError):
            for number, part in enumerate(wire.parts):
                if number:
                    time.sleep(0.002)
                connection.sendall(part)
            if wire.lenient:
                # Whoever waits for the rest of it learns that there is none.
                connection.shutdown(socket.SHUT_WR)
        try:
            for method in wire.methods:
                answers.append(reader.answer(method))
            ended = "answered"
        except TimeoutError:
            ended = "silent"
        except OSError:
            ended = "closed"
    return Outcome(tuple(answers), ended, time.perf_counter() - began)


class _Reader:
    """Answers from a connection, one after another."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = b""
        self._until = time.perf_counter() + WITHIN

    def answer(self, method: str) -> Got:
        while True:
            head = self._until_mark(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            status = int(lines[0].split(" ")[1])
            if status >= 200:
                break
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        kind = fields.get("content-type", "")
        if method == "HEAD" or status in (204, 304):
            return Got(status, kind, b"")
        if fields.get("transfer-encoding", "").lower() == "chunked":
            return Got(status, kind, self._chunks())
        if "content-length" in fields:
            return Got(status, kind, self._take(int(fields["content-length"])))
        return Got(status, kind, self._rest())

    def _chunks(self) -> bytes:
        found = b""
        while size := int(self._until_mark(b"\r\n").split(b";")[0], 16):
            found += self._take(size)
            self._take(2)
        self._until_mark(b"\r\n")
        return found

    def _rest(self) -> bytes:
        with suppress(ConnectionError):
            while True:
                self._more()
        found, self._buffer = self._buffer, b""
        return found

    def _until_mark(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._more()
        found, _, self._buffer = self._buffer.partition(mark)
        return found

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def _more(self) -> None:
        left = self._until - time.perf_counter()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        part = self._connection.recv(1 << 18)
        if not part:
            raise ConnectionResetError
        self._buffer += part


def fault_of(wire: Wire, outcome: Outcome) -> str:
    """What is wrong with what came of a wire; empty where nothing is."""
    for got in outcome.answers:
        if fault := fault_of_answer(got):
            return fault
    if outcome.ended == "silent":
        return "no answer"
    if outcome.ended == "closed" and not wire.lenient:
        # A server may close after a refusal; only an answer that was never begun is missing.
        refused = bool(outcome.answers) and outcome.answers[-1].status >= 400
        return "" if refused else "closed without an answer"
    return ""


def fault_of_answer(got: Got) -> str:
    """What is wrong with an answer."""
    if got.status >= 500:
        return f"status {got.status}"
    if got.status >= 400 and _LEAK.search(got.body):
        return "an answer that tells of the program's inside"
    if got.status == 200 and got.kind.startswith("application/json") and got.body:
        try:
            json.loads(got.body, parse_constant=_refuse)
        except ValueError:
            return "an answer of 200 that is not JSON"
    return ""


def _refuse(constant: str) -> None:
    raise ValueError(constant)
