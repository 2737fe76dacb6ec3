r"""Servability: whether the very service of a release answers held-out requests rightly, in time, within its memory.

    dataset -> the training path's features and scores   \
                                                           equal? (`parity`)
    ranker  -> service started on loopback -> answers    /  -> order, latency, errors, memory
                                           -> wrong requests -> refused with 4xx, and still well (`malformed`)

Times and memory are those of this machine while it measured: the one evidence that another run does not repeat to the byte.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.stats import beta, binom

from components.artifacts import documents
from components.artifacts.digests import digest_tree
from components.artifacts.progress import Progress, silent
from components.evidence.contract import SCHEMA_VERSION, Estimate, Evidence
from components.evidence.estimates import exactly, number
from components.evidence.malformed import Malformed, malformed_requests
from components.evidence.parity import (
    Asked,
    Expected,
    expected_scores,
    feature_parity,
    named_differences,
    sample_requests,
)
from components.evidence.serving import Answered, Client, Running, ServiceDidNotStartError, running
from components.ranker.contract import CANDIDATE, Rankings

Floats = NDArray[np.float64]

CALLS_TABLE = "servability-calls.parquet"
CALLS = 500
"""At least 368: with fewer, not one of them need lie above the 99th percentile, so its upper limit is unknown."""
CANDIDATES = 100
CONNECTIONS = 4
WARM_UP = 25
LEVEL = 0.95
QUANTILES = {"latency_p50": 0.5, "latency_p95": 0.95, "latency_p99": 0.99}

CONVENTIONS = {
    "service": "The service of a release, started on loopback with one worker and the candidate in place of the release; it "
    "says `unreleased` in each answer and is never packaged.",
    "calls": f"{CALLS} requests to /rank over one connection after {WARM_UP} to warm up: test requests drawn at random, each "
    f"with what the candidate ranks for it filled up to {CANDIDATES} items of the catalogue, feature lookup included.",
    "latency": "Milliseconds from sending to the last byte, seen by the client on the same machine. Limits are order "
    "statistics (binomial), which assume nothing of how times are spread.",
    "throughput": f"Answers a second over {CONNECTIONS} connections at once, the same requests.",
    "errors": "Calls without an answer or answered 5xx; Clopper-Pearson.",
    "memory_mb": "Sum over the service's processes of the largest resident size of each, in MiB.",
    "startup_seconds": "From starting the program to the first 200 of /readyz: imports, checking every digest, warming up.",
    "skewed_share": "Cells of a feature that the ranker's tables give otherwise than the training rows hold, as of each "
    "request's own bucket; equal means to the bit.",
    "score_difference": "Largest absolute difference between a served score and the score of features from the dataset's own "
    "tables, as of the moment that the release knows.",
    "order_parity": "Calls whose items came in the order of those scores; items within 1e-6 of each other may stand either way.",
    "malformed_refused": "Wrong requests answered 4xx, naming the field where one is at fault, without a stack trace.",
    "machine": "Times and memory are not repeatable to the byte; everything else is.",
}


@dataclass(frozen=True, slots=True)
class Called:
    """What came of the calls over one connection, one entry a call."""

    seconds: Floats
    status: NDArray[np.int64]
    score_difference: Floats
    """Largest over the items of a call; NaN where it was not answered."""
    same_order: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Served:
    """Everything that a running service was asked."""

    startup: float
    called: Called
    rate: float
    refused: int
    wrong: tuple[str, ...]
    """What was not refused as it should be."""
    well: bool
    memory: float


def measure_servability(
    dataset: Path,
    ranker: Path,
    rankings: Path,
    *,
    out: Path,
    seed: int,
    serve: bool = True,
    progress: Progress = silent,
) -> Evidence:
    """Measure servability, and write servability.json and the table of calls into `out`.

    A service that does not start leaves its figures null, which a gate reads as missing, and a sentence says why.

    Args:
        dataset: Dataset directory.
        ranker: Ranker directory.
        rankings: Rankings directory.
        out: Existing directory that lacks these files.
        seed: Of the draws of requests and rows.
        serve: Whether the service is started; without, only features are compared.
        progress: Told what is being done.

    Raises:
        InputError: If a manifest or table cannot be read or does not hold what its contract says.
    """
    manifest = documents.load(Rankings, rankings / "rankings.json")
    progress("comparing served features with those of training")
    estimates = list(feature_parity(dataset, ranker, seed=seed))
    sentences = _parity_words(estimates)
    tables: dict[str, str] = {}
    if serve:
        asked = sample_requests(dataset, rankings, calls=CALLS, candidates=CANDIDATES, seed=seed)
        item_ids = [
            str(name) for name in pq.read_table(dataset / "items.parquet").sort_by("item")["item_id"].to_pylist()
        ]
        expected = expected_scores(dataset, ranker, asked)
        progress("starting the service")
        try:
            with running(ranker) as service:
                served = _ask(service, asked, expected, item_ids, progress)
        except ServiceDidNotStartError as error:
            estimates += _missing()
            sentences.append(f"The service could not be measured: {error}")
        else:
            estimates += _estimates(served, asked)
            sentences += _words(served)
            pq.write_table(_calls(served.called, asked), out / CALLS_TABLE, compression="zstd")
            tables = {"calls": CALLS_TABLE}
    evidence = Evidence(
        schema_version=SCHEMA_VERSION,
        question="servability",
        estimates=tuple(estimates),
        conventions=CONVENTIONS,
        inputs={"dataset": manifest.dataset, "ranker": digest_tree(ranker), "rankings": digest_tree(rankings)},
        tables=tables,
        reports={},
        libraries={"numpy": np.__version__, "pyarrow": pa.__version__},
        seed=seed,
        sentences=tuple(sentences),
    )
    documents.save(evidence, out / "servability.json")
    return evidence


def quantile_limits(values: Floats, quantile: float, *, level: float) -> tuple[float, float]:
    """Order statistics that hold a quantile with at least this confidence; NaN where no sample value does.

    Args:
        values: Shape (n,), independent.
        quantile: In (0, 1).
        level: Confidence, such as 0.95.
    """
    ordered, n, tail = np.sort(values), len(values), (1 - level) / 2
    # The number of values below the quantile is binomial.
    low = int(binom.ppf(tail, n, quantile))
    high = int(binom.ppf(1 - tail, n, quantile))
    return (
        float(ordered[low - 1]) if low >= 1 else math.nan,
        float(ordered[high]) if high < n else math.nan,
    )


def _ask(
    service: Running, asked: Sequence[Asked], expected: Sequence[Expected], item_ids: Sequence[str], progress: Progress
) -> Served:
    client = service.client()
    payloads = [_payload(one, item_ids) for one in asked]
    for payload in payloads[:WARM_UP]:
        client.post("/rank", payload)
    progress(f"asking it {len(payloads)} held-out requests")
    called = _called([client.post("/rank", payload) for payload in payloads], asked, expected, item_ids)
    rate = _throughput(service, payloads)
    progress("sending it wrong requests")
    wrong = malformed_requests(item_ids[asked[0].items[0]])
    faulty = [held.what for held in wrong if not _refuses(client, held)]
    well = client.send("GET", "/readyz", b"", {}).status == 200 and client.post("/rank", payloads[0]).status == 200
    memory = service.peak_memory() / 2**20
    client.close()
    return Served(
        startup=service.seconds_to_ready,
        called=called,
        rate=rate,
        refused=len(wrong) - len(faulty),
        wrong=tuple(faulty),
        well=well,
        memory=memory,
    )


def _payload(one: Asked, item_ids: Sequence[str]) -> dict[str, object]:
    return {
        "user_id": one.user_id,
        "candidates": [item_ids[item] for item in one.items],
        "k": len(one.items),
        "context": dict(one.context),
    }


def _called(
    answers: Sequence[Answered], asked: Sequence[Asked], expected: Sequence[Expected], item_ids: Sequence[str]
) -> Called:
    compared = [
        _compared(answer, one, known, item_ids) for answer, one, known in zip(answers, asked, expected, strict=True)
    ]
    return Called(
        seconds=np.array([answer.seconds for answer in answers]),
        status=np.array([answer.status for answer in answers], dtype=np.int64),
        score_difference=np.array([difference for difference, _ in compared]),
        same_order=np.array([same for _, same in compared], dtype=bool),
    )


def _compared(answer: Answered, one: Asked, expected: Expected, item_ids: Sequence[str]) -> tuple[float, bool]:
    """Largest difference of scores, and whether the order is that of the expected ones."""
    if answer.status != 200:
        return math.nan, False
    items = json.loads(answer.body)["items"]
    known = {item_ids[item]: float(score) for item, score in zip(one.items, expected.scores.tolist(), strict=True)}
    served = {held["item_id"]: float(held["score"]) for held in items}
    if not served or not served.keys() <= known.keys():
        return math.inf, False
    difference = max(abs(served[name] - known[name]) for name in served)
    in_order = np.array([known[held["item_id"]] for held in items])
    return difference, bool((np.diff(in_order) <= 1e-6).all())


def _throughput(service: Running, payloads: Sequence[dict[str, object]]) -> float:
    """Answers a second over several connections."""

    def ask(part: Sequence[dict[str, object]]) -> tuple[int, float, float]:
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
        found = list(pool.map(ask, parts))
    spent = max(ended for *_, ended in found) - min(began for _, began, _ in found)
    return sum(answers for answers, *_ in found) / spent if spent > 0 else 0.0


def _refuses(client: Client, wrong: Malformed) -> bool:
    answer = client.send(wrong.method, wrong.path, wrong.body, wrong.headers)
    told = wrong.names.encode() in answer.body and b"Traceback" not in answer.body
    return 400 <= answer.status < 500 and told


def _estimates(served: Served, asked: Sequence[Asked]) -> Iterator[Estimate]:
    called = served.called
    users = len({one.user for one in asked})
    answered = called.status == 200
    for name, quantile in QUANTILES.items():
        times = called.seconds[answered] * 1000
        low, high = quantile_limits(times, quantile, level=LEVEL) if times.size else (math.nan, math.nan)
        value = float(np.quantile(times, quantile)) if times.size else math.nan
        yield _estimate(name, value, low, high, users, len(asked), "order statistics")
    failed = int(((called.status == 0) | (called.status >= 500)).sum())
    n = len(asked)
    low = float(beta.ppf((1 - LEVEL) / 2, failed, n - failed + 1)) if failed else 0.0
    high = float(beta.ppf(1 - (1 - LEVEL) / 2, failed + 1, n - failed)) if failed < n else 1.0
    yield _estimate("error_share", failed / n, low, high, users, n, "Clopper-Pearson")
    difference = float(called.score_difference.max()) if answered.all() else None
    exact = {
        "score_difference": difference,
        "order_parity": float(called.same_order.mean()),
        "startup_seconds": served.startup,
        "memory_mb": served.memory,
        "throughput": served.rate,
        "malformed_refused": served.refused / (served.refused + len(served.wrong)),
        "well_afterwards": float(served.well),
    }
    for name, figure in exact.items():
        yield exactly(figure, metric=name, subject=CANDIDATE, n_users=users, n_requests=n)


def _estimate(metric: str, value: float, low: float, high: float, users: int, calls: int, method: str) -> Estimate:
    return Estimate(
        metric=metric,
        statistic="value",
        subject=CANDIDATE,
        versus="",
        segment={},
        value=number(value),
        low=number(low),
        high=number(high),
        level=LEVEL,
        n_users=users,
        n_requests=calls,
        method=method,
        mde=None,
    )


def _missing() -> Iterator[Estimate]:
    names = (*QUANTILES, "error_share", "score_difference", "order_parity", "startup_seconds", "memory_mb", "throughput",
             "malformed_refused", "well_afterwards")  # fmt: skip
    for name in names:
        yield exactly(None, metric=name, subject=CANDIDATE, n_users=0, n_requests=0)


def _calls(called: Called, asked: Sequence[Asked]) -> pa.Table:
    return pa.table(
        {
            "request": pa.array([one.request for one in asked], pa.int32()),
            "user": pa.array([one.user for one in asked], pa.int32()),
            "candidates": pa.array([len(one.items) for one in asked], pa.int32()),
            "milliseconds": pa.array(called.seconds * 1000, pa.float64()),
            "status": pa.array(called.status, pa.int32()),
            "score_difference": pa.array(called.score_difference, pa.float64(), from_pandas=True),
            "same_order": pa.array(called.same_order),
        }
    )


def _parity_words(found: Sequence[Estimate]) -> list[str]:
    skewed = named_differences(found)
    if not skewed:
        return [f"All {len(found)} features are served as they were trained on, to the bit."]
    shown = ", ".join(skewed[:3]) + (f" and {len(skewed) - 3} more" if len(skewed) > 3 else "")
    return [f"{len(skewed)} of {len(found)} features are served otherwise than they were trained on: {shown}."]


def _words(served: Served) -> Iterator[str]:
    called = served.called
    answered = called.status == 200
    if answered.any():
        times = called.seconds[answered] * 1000
        p50, p99 = (float(np.quantile(times, quantile)) for quantile in (0.5, 0.99))
        yield (
            f"Half of the lists were ranked within {p50:.0f} ms and all but one in a hundred within {p99:.0f} ms, "
            f"with {CANDIDATES} candidates each; {served.rate:.0f} a second over {CONNECTIONS} connections."
        )
    wrong = int((~called.same_order).sum())
    yield (
        "Every list came in the order that the training path gives."
        if not wrong
        else f"{wrong} of {len(called.same_order)} lists came in another order than the training path gives."
    )
    if served.wrong:
        yield f"Wrong requests that were not refused as such: {', '.join(served.wrong[:5])}."
    else:
        yield f"All {served.refused} wrong requests were refused, and the service stayed well."
    yield f"It was ready after {served.startup:.1f} s and took {served.memory:.0f} MiB of memory."
