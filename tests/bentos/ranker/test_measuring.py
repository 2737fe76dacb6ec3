"""What measures the service: the clients, the slope of memory, the page; and a worker that is killed under load."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from killing import kill_worker, logged
from serving_client import BrokenAnswerError, Sample, closed, paced, read_head, request
from serving_page import BATCH_LIMIT, LATENCY_LIMIT, RATE_LIMIT, chart, write_page
from serving_processes import Watch
from serving_release import released
from serving_world import chosen
from soak import Soaked, Traffic, is_ready, slope_of, windows_of

from components.serving.contract import Answer, Ask, Place
from components.serving.exposures import ExposureLog

ASK = request("/rank", b"{}")


@contextmanager
def answering(act: Callable[[int], int | None]) -> Iterator[int]:
    """A server that is told the number of each request and gives its status, or closes the connection; its port."""
    asked = 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # head and body in one packet

        def do_POST(self) -> None:
            nonlocal asked
            self.rfile.read(int(self.headers["Content-Length"]))
            asked += 1
            status = act(asked)
            if status is None:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_each_connection_waits_for_its_answer_before_it_asks_again() -> None:
    def slow(_: int) -> int:
        time.sleep(0.02)
        return 200

    with answering(slow) as port:
        found = closed(port, [ASK], connections=2, seconds=0.5)
    assert found.errors == 0
    assert min(found.seconds) >= 0.02
    assert len(found.seconds) <= 2 * 0.5 / 0.02 + 2
    assert found.rate == pytest.approx(len(found.seconds) / found.wall)


def test_other_statuses_are_counted_and_not_timed() -> None:
    with answering(lambda number: 200 if number % 2 else 400) as port:
        found = closed(port, [ASK], connections=1, seconds=0.2)
    assert found.statuses[400] in (len(found.seconds), len(found.seconds) - 1)
    assert found.errors == found.statuses[400] > 0


def test_a_stall_is_charged_for_all_that_came_due_meanwhile() -> None:
    def stall(number: int) -> int:
        if number == 20:
            time.sleep(0.4)
        return 200

    with answering(stall) as port:
        found = paced(port, [ASK], rate=100, seconds=1.0, connections=1)
    assert len(found.seconds) == 100
    assert sum(taken > 0.1 for taken in found.seconds) >= 25
    with answering(stall) as port:
        found = closed(port, [ASK], connections=1, seconds=0.8)
    assert sum(taken > 0.1 for taken in found.seconds) == 1


def test_a_request_on_a_connection_that_is_closed_is_lost_and_the_next_is_not() -> None:
    with answering(lambda number: None if number % 10 == 0 else 200) as port:
        found = paced(port, [ASK], rate=100, seconds=0.5, connections=2)
    assert found.statuses == {200: 45, 0: 5}
    with answering(lambda _: None) as port, pytest.raises(ConnectionError):
        closed(port, [ASK], connections=1, seconds=0.2)


def test_answers_that_hold_a_mark_are_counted() -> None:
    with answering(lambda _: 200) as port:
        found = closed(port, [ASK], connections=1, seconds=0.1, mark=b"{}")
        assert found.marked == len(found.seconds) > 0
        assert closed(port, [ASK], connections=1, seconds=0.1, mark=b"[]").marked == 0
        assert paced(port, [ASK], rate=50, seconds=0.1, mark=b"{}").marked == 5


def test_an_answer_of_no_stated_length_is_refused() -> None:
    assert read_head(b"HTTP/1.1 404 Not Found\r\ncontent-LENGTH: 12") == (404, 12)
    for head in (b"HTTP/1.1 200 OK", b"SSH-2.0", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked"):
        with pytest.raises(BrokenAnswerError):
            read_head(head)


def test_a_stall_is_told_apart_by_what_the_process_did(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([(0, 0), (10_000_000, 0), (40_000_000, 15_000_000)])
    monkeypatch.setattr(Watch, "_read", lambda _: next(readings))
    with Watch(pid=1, above=0.02) if Path("/proc/1/schedstat").exists() else pytest.skip("no /proc") as watch:
        watch(0.02)
        watch(0.06)
    assert (watch.stalls, watch.seconds) == (1, 0.06)
    assert (watch.ran, watch.waited, watch.slept) == (0.03, 0.015, pytest.approx(0.015))


def test_the_slope_of_a_line_is_found_and_its_interval_covers() -> None:
    times = np.arange(300.0)
    slope, low, high = slope_of(times, 5 + 2 * times)
    assert (slope, low, high) == pytest.approx((2, 2, 2))
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        steps = rng.normal(size=300)
        noise = np.zeros(300)
        for place in range(1, 300):
            noise[place] = 0.8 * noise[place - 1] + steps[place]
        _, low, high = slope_of(times, noise)
        covered += low <= 0 <= high
    assert covered >= 0.9 * 300


def test_growth_is_what_is_neither_chance_nor_small() -> None:
    def soaked(slope: tuple[float, float, float]) -> Soaked:
        return Soaked(rate=1, seconds=600, answers=1, statuses={200: 1}, memory=[(0.0, 100_000_000)], slope=slope)

    assert soaked((2_000, 1_000, 3_000)).grew
    assert not soaked((2_000, -1, 4_001)).grew
    assert not soaked((1_600, 1_500, 1_700)).grew  # 0.96 % in ten minutes
    assert not soaked((-9_000, -9_500, -8_500)).grew


def test_what_was_lost_or_failed_is_counted_and_refusals_are_not() -> None:
    assert Soaked(rate=1, seconds=1, answers=5, statuses={200: 5, 400: 3, 0: 2, 503: 1}).failed == 3


def test_windows_are_tenths_of_the_time_by_when_requests_were_due() -> None:
    sample = Sample(
        seconds=[0.001 * (1 + place // 10) for place in range(100)], sent=[float(place) for place in range(100)]
    )
    found = windows_of(sample)
    assert len(found) == 10
    assert [part["longest"] for part in found] == sorted(part["longest"] for part in found)
    assert found[0]["p50"] == pytest.approx(1)
    assert windows_of(Sample()) == []


def test_costly_features_are_chosen_first_and_their_order_is_kept() -> None:
    names = ["item_click_1d", "item_click_3d", "user_category_share", "item_click_7d", "covisitation_all"]
    assert chosen(names, 3) == ("item_click_1d", "user_category_share", "covisitation_all")
    assert chosen(names, 5) == tuple(names)
    with pytest.raises(ValueError, match="found 5; needed 6"):
        chosen(names, 6)


def measured(*, p99: float, rate: float, waited: float = 0.0, pairs: float = 1e6) -> dict[str, Any]:
    """A result in which the bare server has a p50 of 1 ms and 1000 answers a second."""

    def part(p50: float, p99: float, rate: float) -> dict[str, Any]:
        taken = {"p50": p50, "p95": p50, "p99": p99, "most": p99}
        return {
            "latency_ms": taken,
            "answers": 100,
            "errors": 0,
            "fallbacks": 0,
            "stalls": {
                "count": 1,
                "seconds": 0.03,
                "ran": 0.03,
                "waited": 0.0,
                "slept": 0.0,
                "collected": {"0": 7, "2": 1},
            },
            "connections": {"1": {"rate": rate, "client_busy": 0.1, **taken}},
            "paced": {"rate": rate / 2, "errors": 0, **taken},
            "saturation": rate,
            "processor_ms": 1.0,
            "waited_share": waited,
            "resident": 2**28,
        }

    turn = {"bare": part(1.0, 2.0, 1000.0), "rankgate": part(2.0, p99, rate)}
    return {
        "alone": turn,
        "rounds": [turn, turn],
        "floors": [{"inplace_predict": {"p50": 0.5, "p95": 0.6, "p99": 0.7, "most": 1.0}}],
        "client": [{"rate": 9000.0, "client_busy": 0.3, "p50": 0.1}],
        "batch": {"pairs": pairs, "users": 10, "seconds": 12.0, "processor": 10.0},
        "starts": {"bare": [1.0], "rankgate": [4.0]},
        "seconds": 1.0,
        "load_before": 0.1,
        "pinned": True,
        "command": "measure_serving.py",
        "made": "2026-11-23",
        "code": "abc",
        "machine": {"processor": "one", "cores": 2, "python": "3.11"},
        "versions": {"xgboost": "3", "mlserver": "not measured: it did not install"},
        "size": {"trees": 300, "features": 40, "candidates": 100, "scale": 1.0},
    }


@pytest.mark.parametrize(
    ("p99", "rate", "pairs", "reached"),
    [
        (LATENCY_LIMIT, 1000 * RATE_LIMIT, 10 * BATCH_LIMIT, 3),
        (LATENCY_LIMIT + 0.01, 1000 * RATE_LIMIT, 10 * BATCH_LIMIT, 2),
        (LATENCY_LIMIT, 999 * RATE_LIMIT, 10 * BATCH_LIMIT, 2),
        (LATENCY_LIMIT, 1000 * RATE_LIMIT, 10 * BATCH_LIMIT - 1, 2),
        (9.0, 100.0, 100, 0),
    ],
)
def test_the_page_says_what_was_reached(p99: float, rate: float, pairs: float, reached: int, tmp_path: Path) -> None:
    result = measured(p99=p99, rate=rate, pairs=pairs)
    page = write_page(result, tmp_path)
    assert page.count("**reached**") == reached
    assert page.count("**not reached**") == 3 - reached
    assert "not free" not in page
    assert "| bare | 200 | 2 | 100% | 0% | 0% | 2 of 16 |" in page
    assert "MLServer: not measured: it did not install." in page
    assert (tmp_path / "serving-speed.md").read_text() == page
    assert (tmp_path / "serving-speed.svg").read_text() == chart(result)


def test_the_page_of_a_busy_machine_says_so() -> None:
    assert "The machine was not free" in write_page(measured(p99=1, rate=1000, waited=0.3), None)


def test_what_a_log_lacks_is_told_unless_it_was_answered_shortly_before(tmp_path: Path) -> None:
    log = ExposureLog(tmp_path)
    for name in ("first", "second", "third"):
        place = Place("17", 0.5, 1, propensity=1.0, explored=False, source="given")
        answer = Answer(name, (place,), release="", arm="", fallbacks=(), stages={})
        log.offer(Ask(name, None, None, 1), answer, datetime(2026, 5, 10, tzinfo=UTC))
    assert log.close()
    assert logged(tmp_path, answered={"first", "third"}, recent=set()).readable
    found = logged(tmp_path, answered={"first", "fourth", "fifth"}, recent={"fifth"})
    assert (found.lists, found.missing, found.recent_missing, found.readable) == (3, 1, 1, False)
    (file,) = tmp_path.glob("*.exposures")
    content = file.read_bytes()
    file.write_bytes(content[:-7])
    found = logged(tmp_path, answered={"first", "third"}, recent={"third"})
    assert (found.lists, found.torn, found.damaged, found.missing, found.recent_missing) == (2, 1, 0, 0, 1)
    assert found.readable
    file.write_bytes(content.replace(b"first", b"fxrst"))
    assert not logged(tmp_path, answered=set(), recent=set()).readable


@pytest.mark.integration
def test_a_killed_worker_loses_what_it_was_answering_and_nothing_more(small_ranker: Path, tmp_path: Path) -> None:
    with released(small_ranker, exposures=tmp_path / "exposures") as held:
        worker = held.busiest()
        found = kill_worker(held, Traffic(small_ranker), rate=40, connections=8, before=1.0, after=10.0)
        assert held.busiest() != worker
        assert math.isfinite(found.back_after), found.told()
        assert found.lost <= found.in_flight, found.told()
        assert found.failed == 0
        assert len(found.answered) > 300
        assert is_ready(held.port)
        again = paced(held.port, Traffic(small_ranker), rate=40, seconds=1.0)
        assert again.statuses[0] == 0
        assert statistics.median(again.seconds) < 1
    log = logged(tmp_path / "exposures", answered=found.answered, recent=found.recent)
    assert log.lists > 300
    assert log.readable, log.told()
    assert log.torn <= 1
