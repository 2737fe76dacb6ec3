"""Drift: how far the candidate's inputs and scores have moved between validation and test, and whether that is unusual.

Evidently computes and draws each column's distance. An alarm needs more: the distance must be above a practical bound and
above what the same column did in this very log when nothing was wrong (earlier windows), and not by
noise alone (users resampled). Columns count by the model's own importance.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.artifacts import documents
from components.artifacts.digests import digest_tree
from components.dataset.contract import Dataset
from components.errors import EvidenceError
from components.evidence.contract import SCHEMA_VERSION, Estimate, Evidence
from components.evidence.distance import Distance, Sample, distances, plain_distance
from components.evidence.estimates import figures, number
from components.evidence.ranked import read_columns
from components.ranker.contract import Ranker, Rankings

with warnings.catch_warnings():
    # Evidently 0.7 imports numpy and litestar under names that they have since given up.
    warnings.simplefilter("ignore")
    # It reports usage unless told not to, and reads this when it is imported.
    os.environ["DO_NOT_TRACK"] = "1"
    import evidently
    from evidently import DataDefinition, Report
    from evidently import Dataset as EvidentlyDataset
    from evidently.metrics import ValueDrift

Floats = NDArray[np.float64]

PRACTICAL_BOUND = 0.1
"""Evidently's own default for this distance: smaller movements are not worth a person's time, however significant."""
_METHOD = "jensenshannon"
_RESAMPLES = 300
_LEVEL = 0.95
_DRAWN_ROWS = 60_000
"""Most rows of each window that Evidently sees, a sample beyond that; up to it, its figures and ours are the same."""
_DAY_US = 86_400_000_000

REPORT, TABLE = "drift.html", "drift-columns.parquet"
LABEL, SCORE = "label", "score"

CONVENTIONS = {
    "windows": "Reference: the candidate's rows of the validation requests. Current: those of the test requests.",
    "distance": "Jensen-Shannon distance, 0 to sqrt(ln 2) = 0.83, on the bins that Evidently's jensenshannon uses; "
    "missing values are left out and their shares told.",
    "threshold": f"The larger of {PRACTICAL_BOUND} and the largest distance that the same column showed between earlier "
    "windows of this log (detail.null; absent where there were none): logged data as long as the two "
    "windows, sampled data between neighbouring training cuts.",
    "drift_ratio": "Distance divided by its threshold: above 1, the movement is large and unusual.",
    "drifted_importance": "Summed importance of the columns above their threshold; low counts those whose whole interval "
    "is, high those whose interval reaches above it.",
    "interval": "Users resampled. The lower limit has the noise of resampling taken off, the upper has not.",
}


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One column in both windows, and what is known of it."""

    name: str
    categorical: bool
    importance: float
    reference: Floats
    current: Floats
    null: float
    """Largest earlier distance; NaN where there were no earlier windows."""

    @property
    def threshold(self) -> float:
        return float(np.fmax(PRACTICAL_BOUND, self.null))


def measure_drift(dataset: Path, ranker: Path, rankings: Path, *, out: Path, seed: int) -> Evidence:
    """Measure drift, and write drift.json, Evidently's report and the table of columns into `out`.

    Args:
        dataset: Dataset directory.
        ranker: Ranker directory, for the importance of features.
        rankings: Rankings directory.
        out: Existing directory that lacks these files.
        seed: Seed of the bootstrap.

    Raises:
        InputError: If a manifest or table cannot be read or does not hold what its contract says.
    """
    built = documents.load(Dataset, dataset / "dataset.json")
    trained = documents.load(Ranker, ranker / "ranker.json")
    ranked = documents.load(Rankings, rankings / "rankings.json")
    rows = read_columns(rankings / "features.parquet", ("split", "user", "score", "gain", *trained.features))
    windows = {name: rows.filter(pc.equal(rows["split"].cast(pa.string()), name)) for name in ("validation", "test")}
    if not all(table.num_rows for table in windows.values()):
        raise EvidenceError("features.parquet: found no rows of validation or of test; needed both. Rank again.")
    columns = _columns(built, trained, windows["validation"], windows["test"], _earlier(dataset, built, trained))
    users = [windows[name]["user"].to_numpy().astype(np.int64) for name in ("validation", "test")]
    found = distances(
        [Sample(column.reference, column.current, column.categorical) for column in columns],
        users[0],
        users[1],
        resamples=_RESAMPLES,
        seed=seed,
        level=_LEVEL,
    )
    measured = {column.name: held for column, held in zip(columns, found, strict=True)}
    drawn = _draw(columns, built.cuts[-2].ts, seed=seed, out=out)
    n_requests = ranked.test_requests
    estimates = (
        *(e for column in columns for e in _column_estimates(column, measured[column.name], drawn, n_requests)),
        _drifted_importance(columns, measured, n_requests),
    )
    pq.write_table(_table(columns, measured, drawn), out / TABLE, compression="zstd")
    evidence = Evidence(
        schema_version=SCHEMA_VERSION,
        question="drift",
        estimates=estimates,
        conventions=CONVENTIONS,
        inputs={"dataset": ranked.dataset, "ranker": digest_tree(ranker), "rankings": digest_tree(rankings)},
        tables={"columns": TABLE},
        reports={"evidently": REPORT},
        libraries={"evidently": evidently.__version__, "numpy": np.__version__, "pandas": pd.__version__},
        seed=seed,
        sentences=tuple(_sentences(columns, measured, estimates[-1])),
    )
    documents.save(evidence, out / "drift.json")
    return evidence


def _columns(
    built: Dataset,
    trained: Ranker,
    reference: pa.Table,
    current: pa.Table,
    earlier: Mapping[str, float],
) -> list[Column]:
    categorical = {feature.name for feature in built.features if feature.type == "category"}
    importance = {held.feature: held.gain_share for held in trained.importance}
    names = {SCORE: "score", LABEL: "gain"} | {name: name for name in trained.features}
    return [
        Column(
            name=name,
            categorical=name in categorical,
            importance=importance.get(name, 0.0),
            reference=_values(reference, source),
            current=_values(current, source),
            null=earlier.get(name, float("nan")),
        )
        for name, source in names.items()
    ]


def _values(table: pa.Table, name: str) -> Floats:
    values: Floats = table[name].to_numpy().astype(np.float64)
    return values


def _earlier(dataset: Path, built: Dataset, trained: Ranker) -> dict[str, float]:
    """The largest distance that each column showed between earlier windows of this very log.

    `logged`: pairs of neighbouring windows as long as validation and test, a day apart; the first window after the log's
    start is left out, because features that count from the beginning are still filling up. `sampled`: the rows of
    neighbouring training cuts.
    """
    requests = read_columns(dataset / "requests.parquet", ("request", "ts", "split", "cut"))
    training = requests.filter(pc.equal(requests["split"].cast(pa.string()), "train"))
    if not training.num_rows:
        return {}
    rows = read_columns(dataset / "rows.parquet", ("request", "gain", *trained.features))
    pairs = _logged_pairs(built, training) if built.mode == "logged" else _sampled_pairs(training)
    of_row = rows["request"].to_numpy()
    windows = [(np.isin(of_row, reference), np.isin(of_row, current)) for reference, current in pairs]
    categorical = {feature.name for feature in built.features if feature.type == "category"}
    found: dict[str, float] = {}
    for name in (LABEL, *trained.features):
        values = _values(rows, "gain" if name == LABEL else name)
        moved = [plain_distance(values[a], values[b], categorical=name in categorical) for a, b in windows]
        if np.isfinite(moved).any():
            found[name] = float(np.nanmax(moved))
    return found


Pairs = list[tuple[NDArray[np.int32], NDArray[np.int32]]]


def _logged_pairs(built: Dataset, training: pa.Table) -> Pairs:
    """Requests of neighbouring windows as long as validation and test."""
    cuts = {cut.name: round(datetime.fromisoformat(cut.ts).timestamp() * 1e6) for cut in built.cuts}
    reference_us, current_us = cuts["test"] - cuts["validation"], cuts["release"] - cuts["test"]
    when, request = training["ts"].cast(pa.int64()).to_numpy(), training["request"].to_numpy()
    starts = np.arange(int(when.min()) + reference_us, cuts["validation"] - reference_us - current_us + 1, _DAY_US)
    return [
        (
            request[(when >= start) & (when < start + reference_us)],
            request[(when >= start + reference_us) & (when < start + reference_us + current_us)],
        )
        for start in starts.tolist()
    ]


def _sampled_pairs(training: pa.Table) -> Pairs:
    """Requests of neighbouring training cuts."""
    cut, request = training["cut"].to_numpy(), training["request"].to_numpy()
    numbers = np.unique(cut)
    return [(request[cut == a], request[cut == b]) for a, b in pairwise(numbers.tolist())]


def _draw(columns: Sequence[Column], ts: str, *, seed: int, out: Path) -> dict[str, float]:
    """Let Evidently compute and draw every column that has values; returns its distances."""
    frames = []
    for part in ("reference", "current"):
        values = {column.name: getattr(column, part) for column in columns}
        frame = pd.DataFrame(values)
        if len(frame) > _DRAWN_ROWS:
            rows = np.sort(np.random.default_rng(seed).choice(len(frame), _DRAWN_ROWS, replace=False))
            frame = frame.iloc[rows].reset_index(drop=True)
        frames.append(frame)
    # Evidently raises on a column without any value; such a column is reported as not measurable by us.
    usable = [c for c in columns if all(np.isfinite(frame[c.name]).any() for frame in frames)]
    definition = DataDefinition(
        numerical_columns=[column.name for column in usable if not column.categorical],
        categorical_columns=[column.name for column in usable if column.categorical],
    )
    report = Report(
        [ValueDrift(column=c.name, method=_METHOD, threshold=c.threshold) for c in usable], include_tests=True
    )
    names = [column.name for column in usable]
    reference, current = (EvidentlyDataset.from_pandas(frame[names], definition) for frame in frames)
    snapshot = report.run(current, reference, name="drift", timestamp=datetime.fromisoformat(ts).astimezone(UTC))
    (out / REPORT).write_text(_stable_html(snapshot), encoding="utf-8")
    metrics: list[dict[str, Any]] = json.loads(snapshot.json())["metrics"]
    return {metric["config"]["column"]: float(metric["value"]) for metric in metrics}


def _stable_html(snapshot: Any) -> str:
    """The report's page with the random ids of its parts replaced by their order, so that equal data give equal bytes."""
    page: str = snapshot.get_html_str(as_iframe=False)
    ids = re.compile(
        r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b|metric_[0-9a-f]{32}\b|\b[0-9a-f]{32}\b"
    )
    seen: dict[str, str] = {}
    return ids.sub(lambda match: seen.setdefault(match.group(), f"part-{len(seen)}"), page)


def _column_estimates(
    column: Column, found: Distance, drawn: Mapping[str, float], n_requests: int
) -> tuple[Estimate, Estimate]:
    """The distance, and the distance against its threshold."""
    detail = figures(
        {
            "threshold": column.threshold,
            "null": column.null,
            "importance": column.importance,
            "noise": found.noise,
            "evidently": drawn.get(column.name, float("nan")),
            "missing_reference": float(np.mean(~np.isfinite(column.reference))),
            "missing_current": float(np.mean(~np.isfinite(column.current))),
        }
    )

    def estimate(metric: str, scale: float) -> Estimate:
        return Estimate(
            metric=metric,
            statistic="value" if metric == "distance" else "ratio",
            subject=column.name,
            versus="reference",
            segment={},
            value=number(found.value / scale),
            low=number(found.low / scale),
            high=number(found.high / scale),
            level=_LEVEL,
            n_users=found.n_users,
            n_requests=n_requests,
            method=f"user bootstrap, {_RESAMPLES} resamples",
            mde=None,
            detail=detail,
        )

    return estimate("distance", 1.0), estimate("drift_ratio", column.threshold)


def _drifted_importance(columns: Sequence[Column], measured: Mapping[str, Distance], n_requests: int) -> Estimate:
    """How much of the model goes through columns that have drifted. A column that cannot be measured counts as drifted."""

    def share(part: str) -> float:
        total = 0.0
        for column in columns:
            held = getattr(measured[column.name], part)
            total += column.importance if not held <= column.threshold else 0.0
        return min(total, 1.0)

    return Estimate(
        metric="drifted_importance",
        statistic="value",
        subject="candidate",
        versus="reference",
        segment={},
        value=number(share("value")),
        low=number(share("low")),
        high=number(share("high")),
        level=_LEVEL,
        n_users=max((held.n_users for held in measured.values()), default=0),
        n_requests=n_requests,
        method=f"user bootstrap of each column, {_RESAMPLES} resamples",
        mde=None,
        detail={"columns": float(len(columns))},
    )


def _table(columns: Sequence[Column], measured: Mapping[str, Distance], drawn: Mapping[str, float]) -> pa.Table:
    return pa.table(
        {
            "column": pa.array([column.name for column in columns], pa.string()),
            "importance": pa.array([column.importance for column in columns]),
            "distance": pa.array([measured[column.name].value for column in columns], from_pandas=True),
            "low": pa.array([measured[column.name].low for column in columns], from_pandas=True),
            "high": pa.array([measured[column.name].high for column in columns], from_pandas=True),
            "null": pa.array([column.null for column in columns], from_pandas=True),
            "threshold": pa.array([column.threshold for column in columns]),
            "evidently": pa.array([drawn.get(column.name) for column in columns], pa.float64()),
        }
    )


def _sentences(columns: Sequence[Column], measured: Mapping[str, Distance], overall: Estimate) -> list[str]:
    shown = [column for column in columns if measured[column.name].low > column.threshold]
    told = []
    if shown:
        most = sorted(shown, key=lambda column: (-column.importance, column.name))[:3]
        names = ", ".join(f"{column.name} ({column.importance:.0%} of the model)" for column in most)
        told.append(
            f"{len(shown)} of {len(columns)} columns moved more than they had before, by more than noise: {names}."
        )
    else:
        told.append(f"None of {len(columns)} columns is shown to have moved more than it had before.")
    told.append(
        f"They carry {overall.low:.0%} of the model's importance; up to {overall.high:.0%} cannot be ruled out."
        if overall.low is not None and overall.high is not None
        else "How much of the model they carry could not be measured."
    )
    if not any(np.isfinite(column.null) for column in columns):
        told.append("The log has no earlier windows to compare with, so only the practical bound was used.")
    unknown = [column.name for column in columns if not np.isfinite(measured[column.name].value)]
    if unknown:
        told.append(f"Not measurable, because one window has no value: {', '.join(unknown)}.")
    return told
