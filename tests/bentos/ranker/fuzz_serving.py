"""Sends the service thousands of requests that nobody should send, and says what came of them; `task fuzz:serving`.

    python tests/bentos/ranker/fuzz_serving.py [--calls 10000] [--seed 0]

A third of the calls are Schemathesis's, drawn from the service's own OpenAPI document, valid and invalid alike, and every
answer is held against that document; the rest are those of `fuzz_wire`. All calls are made, whatever comes of them; then
the service must be well, and answer what it answered before. Ends with 1 where anything is wrong.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import schemathesis
from fuzz_wire import Got, Wire, exchange, fault_of, fault_of_answer, wires
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from killing import logged
from schemathesis import GenerationMode
from schemathesis.core.failures import Failure
from serving_client import ask, reading, request
from serving_processes import Server
from serving_release import released
from serving_world import Size, ranker_of, work_folder

from components.ranker.scoring import LoadedRanker

SIZE = Size(trees=50, features=40, scale=0.1)
_DOCUMENT = "/openapi.json"


@dataclass(slots=True)
class Tally:
    """What came of all calls."""

    calls: int = 0
    answers: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    faults: dict[str, list[str]] = field(default_factory=dict)
    """What was wrong, and the calls that showed it, shortest first."""
    slowest: float = 0.0

    def note(self, fault: str, example: str) -> None:
        held = self.faults.setdefault(fault, [])
        held.append(example[:900])
        held.sort(key=len)

    def told(self) -> str:
        lines = [
            f"{self.calls} calls, {self.answers} answers, the slowest after {self.slowest * 1e3:.0f} ms",
            "statuses: " + ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses.items())),
            "kinds: " + ", ".join(f"{kind}: {count}" for kind, count in self.kinds.most_common()),
        ]
        for fault, examples in sorted(self.faults.items()):
            lines += [f"{len(examples)} x {fault}, such as", f"    {examples[0]}"]
        return "\n".join(
            lines
            if self.faults
            else [*lines, "no status of 500 or above, no silence, no word of the inside, all as documented"]
        )


def draws(calls: int, number: int) -> Any:
    """Hypothesis's settings for so many examples, the same ones for the same seed; nothing is shrunk or kept."""

    def decorate(function: Any) -> Any:
        made = settings(
            max_examples=calls,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        return seed(number)(made(function))

    return decorate


def document_of(service: Server) -> dict[str, Any]:
    """The service's OpenAPI document."""
    status, content = ask(service.port, reading(_DOCUMENT))
    if status != 200:
        raise SystemExit(f"{_DOCUMENT}: found {status}; needed the OpenAPI document.")
    document: dict[str, Any] = json.loads(content)
    return document


def valid_requests(ranker: Path, document: dict[str, Any]) -> st.SearchStrategy[tuple[str, Any]]:
    """Path and document of valid POSTs: of known users and items, and whatever else the OpenAPI document allows."""
    opened = LoadedRanker.open(ranker)
    users = st.one_of(st.sampled_from(opened.user_ids), st.just("nobody"), st.none())
    items = st.lists(st.sampled_from([*opened.item_ids, "nothing"]), min_size=1, max_size=30)
    either = {
        "user_id": users,
        "context": st.sampled_from([{}, {"device": "mobile"}, {"device": "fridge"}]),
        "request_id": st.sampled_from(["feed-1", "x" * 128]),
        "deadline_ms": st.sampled_from([0.001, 5, 50.0, 60_000]),
    }
    lists = {
        **either,
        "k": st.integers(1, 50),
        "surface": st.sampled_from(["", "home", "e-mail"]),
        "exclude": st.lists(st.sampled_from(opened.item_ids), max_size=3),
    }
    rank = st.fixed_dictionaries({"candidates": items}, optional=lists)
    recommend = st.fixed_dictionaries({}, optional=lists)
    batch = st.fixed_dictionaries({"requests": st.lists(st.one_of(rank, recommend), min_size=1, max_size=4)})
    explain = st.fixed_dictionaries({"candidates": items}, optional={**either, "most": st.integers(1, 40)})
    drawn = {"/rank": rank, "/recommend": recommend, "/batch": batch, "/explain": explain}
    told = [st.tuples(st.just(path), body) for path, body in drawn.items()]
    for operation in _operations(document):
        if operation.method.lower() == "post":
            cases = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
            told.append(cases.map(lambda case: (case.path, case.body if isinstance(case.body, dict | list) else {})))
    return st.one_of(told)


def _operations(document: dict[str, Any]) -> list[Any]:
    return [found.ok() for found in schemathesis.openapi.from_dict(document).get_all_operations()]


def fuzz_wires(service: Server, ranker: Path, tally: Tally, *, calls: int, number: int) -> None:
    """So many calls of `fuzz_wire`."""
    document = document_of(service)

    @draws(calls, number)
    @given(wires(valid_requests(ranker, document), sorted(document["paths"])))
    def send(wire: Wire) -> None:
        outcome = exchange(service.port, wire)
        tally.calls += 1
        tally.kinds[wire.kind.rpartition(", ")[2]] += 1
        tally.answers += len(outcome.answers)
        tally.statuses.update(got.status for got in outcome.answers)
        tally.slowest = max(tally.slowest, outcome.seconds)
        if fault := fault_of(wire, outcome):
            tally.note(fault, repr(wire))

    send()


def fuzz_document(service: Server, tally: Tally, *, calls: int, number: int) -> None:
    """So many calls of Schemathesis, spread over the operations that take a body; the others are asked a few times."""
    operations = _operations(document_of(service))
    with_body = [one for one in operations if one.body is not None and list(one.body)]
    for operation in operations:
        _fuzz_operation(
            service, operation, tally, calls=calls // len(with_body) if operation in with_body else 5, number=number
        )


def _fuzz_operation(service: Server, operation: Any, tally: Tally, *, calls: int, number: int) -> None:
    modes = [operation.as_strategy(generation_mode=mode) for mode in GenerationMode]

    @draws(calls, number)
    @given(st.one_of(modes))
    def send(case: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            began = time.perf_counter()
            answer = case.call(base_url=f"http://127.0.0.1:{service.port}")
            tally.slowest = max(tally.slowest, time.perf_counter() - began)
        tally.calls += 1
        tally.answers += 1
        tally.kinds["schemathesis"] += 1
        tally.statuses[answer.status_code] += 1
        kind = answer.headers.get("content-type", [""])[0]
        if fault := fault_of_answer(Got(answer.status_code, kind, answer.content)):
            tally.note(fault, case.as_curl_command())
        for failure in _failures(case, answer):
            tally.note(
                f"{operation.path}: {failure.title}, answered {answer.status_code}",
                f"{case.as_curl_command()} -> {answer.content[:160]!r}",
            )

    send()


def _failures(case: Any, answer: Any) -> list[Failure]:
    """Where an answer is not as the document says."""
    try:
        case.validate_response(answer)
    except Failure as failure:
        return [failure]
    except BaseExceptionGroup as group:
        return [one for one in group.exceptions if isinstance(one, Failure)]
    return []


def is_well(service: Server, ranker: Path) -> bytes:
    """What the service answers to a plain request; compared before and after.

    Raises:
        SystemExit: If it is not ready, or does not answer.
    """
    opened = LoadedRanker.open(ranker)
    ready, _ = ask(service.port, reading("/readyz"))
    body = json.dumps({"user_id": opened.user_ids[0], "candidates": opened.item_ids[:50], "k": 50}).encode()
    status, content = ask(service.port, request("/rank", body))
    if (ready, status) != (200, 200):
        raise SystemExit(f"the service is not well: /readyz {ready}, /rank {status}.")
    found = json.loads(content)
    # A request that names itself not is given a name of its own.
    found.pop("request_id", None)
    return json.dumps(found, sort_keys=True).encode()


def main() -> None:
    """Fuzz, print, and say by the exit code whether anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given_ = parser.parse_args()
    ranker = ranker_of(SIZE, work=work_folder(), progress=print)
    tally = Tally()
    with tempfile.TemporaryDirectory(dir=work_folder()) as folder:
        exposures = Path(folder)
        with released(ranker, exposures=exposures) as service:
            before = is_well(service, ranker)
            memory = service.resident()
            fuzz_document(service, tally, calls=given_.calls // 3, number=given_.seed)
            fuzz_wires(service, ranker, tally, calls=given_.calls - tally.calls, number=given_.seed)
            after = is_well(service, ranker)
            grown = service.resident() - memory
        log = logged(exposures, answered=(), recent=())
    print(tally.told())
    print(f"afterwards the service is ready; its memory grew by {grown / 2**20:.0f} MB")
    print(f"the exposure log holds {log.lists} requests, {log.torn} torn tails, {log.damaged} damaged lines")
    if log.torn or log.damaged or not log.lists:
        raise SystemExit("the exposure log is damaged, or was not written")
    if before != after:
        raise SystemExit("afterwards it answers the same request otherwise")
    raise SystemExit(bool(tally.faults))


if __name__ == "__main__":
    main()
