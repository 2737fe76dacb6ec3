"""What a running service is asked, and what came of it: held-out requests of four kinds, then wrong ones.

Each answer lies beside the list that the training path gives. Only the calls to /rank for known users are timed.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.artifacts.progress import Progress
from components.evidence.malformed import malformed_requests
from components.evidence.parity import ListParity, compare_lists
from components.evidence.serving import Answered, Running
from components.evidence.training_path import Asked, Expected, TrainingPath

Floats = NDArray[np.float64]

TIMED = "rank"
"""The kind of call whose times, errors and throughput are told."""
CALLS = 500
"""At least 368: with fewer, not one of them need lie above the 99th percentile, so its upper limit is unknown."""
OTHER_CALLS = 100
"""Of each other kind; a rule, a cache or an index that is served wrongly shows in most lists."""
CANDIDATES = 100
CONNECTIONS = 4
WARM_UP = 25
_MOST = 1_000
"""Items that a service gives at most; with them the whole retrieved list is compared."""
_UNREADABLE = ListParity(math.inf, same=False, swapped=False)
_UNANSWERED = ListParity(math.nan, same=False, swapped=False)


@dataclass(frozen=True, slots=True)
class Call:
    """One held-out request, where it is sent, and what must be answered."""

    kind: str
    path: str
    asked: Asked
    expected: Expected
    most: int
    """Items asked for."""

    def payload(self, item_ids: Sequence[str]) -> dict[str, object]:
        """The body; a visitor says no user."""
        body: dict[str, object] = {"k": self.most, "context": dict(self.asked.context)}
        if self.asked.user_id is not None:
            body["user_id"] = self.asked.user_id
        if self.path == "/rank":
            body["candidates"] = [item_ids[item] for item in self.asked.items]
        return body


@dataclass(frozen=True, slots=True)
class Called:
    """What came of the calls over one connection, one entry a call."""

    calls: tuple[Call, ...]
    seconds: Floats
    status: NDArray[np.int64]
    score_difference: Floats
    """Largest over the items of a call; NaN where it was not answered or nothing is expected, infinite where unreadable."""
    same_order: NDArray[np.bool_]
    swapped: NDArray[np.bool_]
    """Of the same order, but for items whose scores are one score."""

    def of(self, kind: str) -> NDArray[np.bool_]:
        """Calls of one kind."""
        return np.array([call.kind == kind for call in self.calls], dtype=bool)

    def kinds(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(call.kind for call in self.calls))


@dataclass(frozen=True, slots=True)
class Served:
    """Everything that a running service was asked."""

    startup: float
    called: Called
    rate: float
    """Answers a second over several connections."""
    refused: int
    wrong: tuple[str, ...]
    """What was not refused as it should be."""
    well: bool
    memory: float | None
    """MiB; None where it is not known."""


def held_out_calls(path: TrainingPath, asked: Sequence[Asked]) -> tuple[Call, ...]:
    """Calls of every kind: the first `OTHER_CALLS` requests come again by a visitor, and with nothing but the user named.

    Args:
        path: Says what must be answered.
        asked: Of known users; all of them are asked for the timed kind.
    """
    some = asked[:OTHER_CALLS]
    visitors = [one.by_a_visitor() for one in some]
    kinds = (
        (TIMED, "/rank", asked, path.ranked),
        ("rank visitor", "/rank", visitors, path.ranked),
        ("recommend", "/recommend", some, path.retrieved),
        ("recommend visitor", "/recommend", visitors, path.retrieved),
    )
    return tuple(
        Call(kind, route, one, expected, most=len(one.items) if route == "/rank" else _MOST)
        for kind, route, askers, answer in kinds
        for one, expected in zip(askers, answer(askers), strict=True)
    )


def ask(service: Running, calls: Sequence[Call], item_ids: Sequence[str], progress: Progress) -> Served:
    """Ask a running service everything.

    Args:
        service: Ready.
        calls: Held-out requests, of known users first.
        item_ids: Id of each item, by number.
        progress: Told what is being done.
    """
    client = service.client()
    payloads = [call.payload(item_ids) for call in calls]
    timed = [payload for call, payload in zip(calls, payloads, strict=True) if call.kind == TIMED]
    for payload in timed[:WARM_UP]:
        client.post("/rank", payload)
    progress(f"asking it {len(calls)} held-out requests")
    answers = [client.post(call.path, payload) for call, payload in zip(calls, payloads, strict=True)]
    called = compared(answers, calls, item_ids)
    rate = _throughput(service, timed)
    progress("sending it wrong requests")
    wrong = malformed_requests(item_ids[calls[0].asked.items[0]])
    faulty = []
    for held in wrong:
        answer = client.send(held.method, held.path, held.body, held.headers)
        if not held.refused_by(answer.status, answer.body):
            faulty.append(held.what)
    well = client.send("GET", "/readyz", b"", {}).status == 200 and client.post("/rank", timed[0]).status == 200
    peak = service.peak_memory()
    client.close()
    return Served(
        startup=service.seconds_to_ready,
        called=called,
        rate=rate,
        refused=len(wrong) - len(faulty),
        wrong=tuple(faulty),
        well=well,
        memory=None if peak is None else peak / 2**20,
    )


def compared(answers: Sequence[Answered], calls: Sequence[Call], item_ids: Sequence[str]) -> Called:
    """Answers beside what is expected of them, in the order of the calls."""
    numbers = {name: number for number, name in enumerate(item_ids)}
    found = [_parity(answer, call, numbers) for answer, call in zip(answers, calls, strict=True)]
    return Called(
        calls=tuple(calls),
        seconds=np.array([answer.seconds for answer in answers], dtype=np.float64),
        status=np.array([answer.status for answer in answers], dtype=np.int64),
        score_difference=np.array([one.difference for one in found], dtype=np.float64),
        same_order=np.array([one.same for one in found], dtype=bool),
        swapped=np.array([one.swapped for one in found], dtype=bool),
    )


def _parity(answer: Answered, call: Call, numbers: Mapping[str, int]) -> ListParity:
    if answer.status != 200:
        return _UNANSWERED
    try:
        listed = json.loads(answer.body)["items"]
        served = np.array([numbers.get(held["item_id"], -1) for held in listed], dtype=np.int32)
        scores = np.array([held["score"] for held in listed], dtype=np.float64)
    except (ValueError, TypeError, KeyError):
        return _UNREADABLE
    expected = call.expected
    return compare_lists(expected.items, expected.scores, expected.shown[: call.most], served, scores)


def _throughput(service: Running, payloads: Sequence[dict[str, object]]) -> float:
    """Answers a second over several connections."""

    def send(part: Sequence[dict[str, object]]) -> tuple[int, float, float]:
        client = service.client()
        answers, began, ended = 0, math.inf, 0.0
        for payload in part:
            answer = client.post("/rank", payload)
            answers += answer.status == 200
            began, ended = min(began, time.perf_counter() - answer.seconds), time.perf_counter()
        client.close()
        return answers, began, ended

    parts = [payloads[first::CONNECTIONS] for first in range(CONNECTIONS)]
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        found = list(pool.map(send, parts))
    spent = max(ended for *_, ended in found) - min(began for _, began, _ in found)
    return sum(answers for answers, *_ in found) / spent if spent > 0 else 0.0
