"""Whatever a client sends, the service answers below 500, in time, without a word of its inside, and is well afterwards."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import fuzz_wire
import pytest
from fuzz_serving import Tally, fuzz_document, fuzz_wires, is_well
from fuzz_wire import Got, Outcome, Wire, dumped, exchange, fault_of, fault_of_answer
from serving_processes import Server
from serving_release import released


@pytest.fixture(scope="module")
def service(small_ranker: Path) -> Iterator[Server]:
    with released(small_ranker) as started:
        yield started


@pytest.mark.integration
@pytest.mark.parametrize("number", [0, 1])
def test_requests_that_nobody_should_send_are_answered_below_500(
    service: Server, small_ranker: Path, number: int
) -> None:
    before, tally = is_well(service, small_ranker), Tally()
    fuzz_wires(service, small_ranker, tally, calls=200, number=number)
    assert not tally.faults, tally.told()
    assert tally.calls == 200
    assert tally.statuses[200] > 10
    assert tally.statuses[400] > 50
    assert is_well(service, small_ranker) == before


@pytest.mark.integration
def test_answers_are_as_the_openapi_document_says(service: Server, small_ranker: Path) -> None:
    before, tally = is_well(service, small_ranker), Tally()
    fuzz_document(service, tally, calls=240, number=0)
    assert not tally.faults, tally.told()
    assert tally.statuses[200] > 30
    assert tally.statuses[400] > 30
    assert is_well(service, small_ranker) == before


@contextmanager
def answering(content: bytes, *, close: bool = True) -> Iterator[int]:
    """A server that answers everything with these bytes; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        done = threading.Event()

        def serve() -> None:
            with suppress(OSError):
                connection, _ = listening.accept()
                with connection:
                    connection.recv(1 << 16)
                    connection.sendall(content)
                    if not close:
                        done.wait(10)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            done.set()
            thread.join()


def reply(status: int, body: bytes, kind: str = "application/json") -> bytes:
    return f"HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


ASKED = Wire("value", (b"POST /rank HTTP/1.1\r\n\r\n",), ("POST",))


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (reply(500, b"{}"), "status 500"),
        (reply(503, b"{}"), "status 503"),
        (reply(400, b'{"error": "k: found 0"}'), ""),
        (reply(400, b'File "/srv/bentos/ranker/service.py", line 3'), "an answer that tells of the program's inside"),
        (reply(200, b'{"score": 1}'), ""),
        (reply(200, b'{"score": NaN}'), "an answer of 200 that is not JSON"),
        (b"HTTP/1.1 200 x\r\ncontent-length: 9\r\n\r\n{", "closed without an answer"),
        (b"", "closed without an answer"),
        (b"HTTP/1.1 100 x\r\n\r\n" + reply(200, b"{}"), ""),
        (
            b"HTTP/1.1 200 x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
            b"2\r\n[1\r\n1\r\n]\r\n0\r\n\r\n",
            "",
        ),
        (b"HTTP/1.1 200 x\r\ncontent-type: application/json\r\n\r\n[", "an answer of 200 that is not JSON"),
    ],
)
def test_a_bad_answer_is_told(content: bytes, fault: str) -> None:
    with answering(content) as port:
        assert fault_of(ASKED, exchange(port, ASKED)) == fault


def test_silence_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_wire, "WITHIN", 0.2)
    with answering(b"HTTP/1.1 200", close=False) as port:
        assert fault_of(ASKED, exchange(port, ASKED)) == "no answer"


def test_every_one_of_pipelined_requests_must_be_answered() -> None:
    twice = Wire("value, pipelined", ASKED.parts * 2, ("POST", "POST"))
    with answering(reply(200, b"{}")) as port:
        outcome = exchange(port, twice)
    assert (len(outcome.answers), fault_of(twice, outcome)) == (1, "closed without an answer")
    with answering(reply(200, b"{}") * 2) as port:
        assert fault_of(twice, exchange(port, twice)) == ""


def test_closing_is_an_answer_to_what_is_no_http_and_after_a_refusal() -> None:
    closed = Outcome((), "closed", 0.0)
    assert fault_of(ASKED, closed)
    assert not fault_of(Wire("noise", ASKED.parts, ("POST",), lenient=True), closed)
    assert not fault_of(ASKED, Outcome((Got(413, "application/json", b"{}"),), "closed", 0.0))
    assert fault_of_answer(Got(500, "", b"")) == "status 500"


def test_json_with_what_json_has_not() -> None:
    pairs = fuzz_wire._Pairs((("k", 1), ("k", fuzz_wire._Raw("NaN"))))
    assert dumped({"a": [pairs, None, "\ud800"]}) == '{"a":[{"k":1,"k":NaN},null,"\\ud800"]}'
    assert dumped(10**400) == "1" + "0" * 400
