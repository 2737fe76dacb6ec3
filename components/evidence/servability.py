r"""Servability: whether the very service of a release answers held-out requests rightly, in time, within its memory.

    dataset -> the training path's features, scores and lists (`training_path`)   \
                                                                                    equal? (`parity`)
    ranker  -> service started on loopback (`serving`) -> answers                  /  -> order, latency, errors, memory
                                                       -> wrong requests (`malformed`) -> refused with 4xx, and still well

Times and memory are those of this machine while it measured: the one evidence that another run does not repeat to the byte.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
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
from components.evidence.parity import feature_parity
from components.evidence.servability_calls import (
    CALLS,
    CANDIDATES,
    CONNECTIONS,
    OTHER_CALLS,
    TIMED,
    WARM_UP,
    Called,
    Served,
    ask,
    held_out_calls,
)
from components.evidence.servability_words import feature_words, service_words
from components.evidence.serving import ServiceDidNotStartError, running
from components.evidence.training_path import TrainingPath, sample_requests
from components.ranker.contract import CANDIDATE, Rankings

Floats = NDArray[np.float64]

CALLS_TABLE = "servability-calls.parquet"
LEVEL = 0.95
QUANTILES = {"latency_p50": 0.5, "latency_p95": 0.95, "latency_p99": 0.99}

CONVENTIONS = {
    "service": "The service of a release, started on loopback with one worker and the candidate in place of the release; it "
    "says `unreleased` in each answer and is never packaged.",
    "calls": f"{CALLS} requests to /rank over one connection after {WARM_UP} to warm up: test requests drawn at random, each "
    f"with what the candidate ranks for it filled up to {CANDIDATES} items of the catalogue, feature lookup included; then "
    f"the first {OTHER_CALLS} of them by a visitor who is not known, and to /recommend by both.",
    "training path": "Features from the dataset's own tables, retrieval from its history, lists by the code that ranks offline, "
    "all as of the moment that the release knows; of the ranker only the model and its manifest are used.",
    "latency": "Milliseconds from sending to the last byte, seen by the client on the same machine, of the calls to /rank for "
    "known users. Limits are order statistics (binomial), which assume nothing of how times are spread.",
    "throughput": f"Answers a second over {CONNECTIONS} connections at once, the same requests.",
    "errors": "Of the calls that are timed, those without an answer or answered 5xx; Clopper-Pearson.",
    "memory_mb": "Sum over the service's processes of the largest resident size of each, in MiB; missing where the system "
    "does not tell it.",
    "startup_seconds": "From starting the program to the first 200 of /readyz: imports, checking every digest, warming up.",
    "skewed_share": "Cells of a feature that the ranker's tables give otherwise than the training rows hold, as of each "
    "request's own bucket; equal means to the bit.",
    "score_difference": "Largest absolute difference between a served score and the training path's, over all kinds of calls; "
    "missing where a call was not answered, or a score is no number.",
    "order_parity": "Calls of all kinds that listed the training path's items in its order; items within 1e-6 of each other may "
    "stand either way. What was not answered counts as another order.",
    "malformed_refused": "Wrong requests answered 4xx, naming the field where one is at fault, without a stack trace or a place "
    "in the code.",
    "machine": "Times and memory are not repeatable to the byte; everything else is.",
}


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
    sentences = feature_words(estimates)
    tables: dict[str, str] = {}
    if serve:
        asked = sample_requests(dataset, rankings, calls=CALLS, candidates=CANDIDATES, seed=seed)
        item_ids = [
            str(name) for name in pq.read_table(dataset / "items.parquet").sort_by("item")["item_id"].to_pylist()
        ]
        progress("working out what it must answer")
        calls = held_out_calls(TrainingPath(dataset, ranker), asked)
        progress("starting the service")
        try:
            with running(ranker) as service:
                served = ask(service, calls, item_ids, progress)
        except ServiceDidNotStartError as error:
            estimates += _missing()
            sentences.append(f"The service could not be measured: {error}")
        else:
            estimates += service_estimates(served)
            sentences += service_words(served)
            pq.write_table(_calls(served.called), out / CALLS_TABLE, compression="zstd")
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


def service_estimates(served: Served) -> Iterator[Estimate]:
    """Figures of a service that was started and asked; what is not known of it is null, which a gate reads as missing."""
    called = served.called
    timed = called.of(TIMED)
    users = len({call.asked.user for call in called.calls if call.kind == TIMED})
    status, n = called.status[timed], int(timed.sum())
    times = called.seconds[timed][status == 200] * 1000
    for name, quantile in QUANTILES.items():
        low, high = quantile_limits(times, quantile, level=LEVEL) if times.size else (math.nan, math.nan)
        value = float(np.quantile(times, quantile)) if times.size else math.nan
        yield _estimate(name, value, low, high, users, n, "order statistics")
    failed = int(((status == 0) | (status >= 500)).sum())
    low = float(beta.ppf((1 - LEVEL) / 2, failed, n - failed + 1)) if failed else 0.0
    high = float(beta.ppf(1 - (1 - LEVEL) / 2, failed + 1, n - failed)) if failed < n else 1.0
    yield _estimate("error_share", failed / n, low, high, users, n, "Clopper-Pearson")
    everything = len(called.calls)
    yield exactly(
        _largest(called),
        metric="score_difference",
        subject=CANDIDATE,
        n_users=users,
        n_requests=everything,
        detail={kind: float(np.fmax.reduce(called.score_difference[called.of(kind)])) for kind in called.kinds()},
    )
    yield exactly(
        float(called.same_order.mean()),
        metric="order_parity",
        subject=CANDIDATE,
        n_users=users,
        n_requests=everything,
        detail={
            **{kind: float(called.same_order[called.of(kind)].mean()) for kind in called.kinds()},
            "swapped": float(called.swapped.sum()),
        },
    )
    exact = {
        "startup_seconds": served.startup,
        "memory_mb": served.memory,
        "throughput": served.rate,
        "malformed_refused": served.refused / (served.refused + len(served.wrong)),
        "well_afterwards": float(served.well),
    }
    for name, figure in exact.items():
        yield exactly(figure, metric=name, subject=CANDIDATE, n_users=users, n_requests=n)


def _largest(called: Called) -> float | None:
    """Largest difference of a score; None where a call was not answered, or no list had an item."""
    if not (called.status == 200).all():
        return None
    largest = float(np.fmax.reduce(called.score_difference))
    return None if math.isnan(largest) else largest


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


def _calls(called: Called) -> pa.Table:
    asked = [call.asked for call in called.calls]
    return pa.table(
        {
            "kind": pa.array([call.kind for call in called.calls], pa.string()),
            "request": pa.array([one.request for one in asked], pa.int32()),
            "user": pa.array([one.user for one in asked], pa.int32()),
            "candidates": pa.array([len(call.expected.items) for call in called.calls], pa.int32()),
            "milliseconds": pa.array(called.seconds * 1000, pa.float64()),
            "status": pa.array(called.status, pa.int32()),
            "score_difference": pa.array(called.score_difference, pa.float64(), from_pandas=True),
            "same_order": pa.array(called.same_order),
            "swapped": pa.array(called.swapped),
        }
    )
