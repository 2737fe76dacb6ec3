"""Drift: how far the candidate's inputs and scores have moved between validation and test, and whether that is unusual.

Evidently computes and draws each column's distance; this is the one module that talks to it. An alarm needs more: the
distance must be above a practical bound and above what the same column did in this very log when nothing was wrong
(`drift_history`), and not by noise alone (users resampled, `distance`). A column that loses its values has drifted too:
that is a column of its own. Columns count by the model's own importance (`drift_columns`).
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
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
from components.evidence.contract import SCHEMA_VERSION, Evidence
from components.evidence.distance import Sample, distances
from components.evidence.drift_columns import (
    CONVENTIONS,
    LEVEL,
    PRACTICAL_BOUND,
    RESAMPLES,
    Column,
    Evidently,
    column_estimates,
    columns_table,
    default_share,
    describe,
    drifted_importance,
)
from components.evidence.drift_history import LABEL, MISSING, Null, earlier_movements, halves_apart
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
    from evidently.legacy.calculations.stattests import get_stattest
    from evidently.legacy.core import ColumnType
    from evidently.metrics import ValueDrift

__all__ = ["PRACTICAL_BOUND", "default_flag", "measure_drift"]

Floats = NDArray[np.float64]

REPORT, TABLE = "drift.html", "drift-columns.parquet"
SCORE = "score"

_EVIDENTLY = {"evidently": evidently.__version__, "pandas": pd.__version__}
_METHOD = "jensenshannon"
_DRAWN_ROWS = 60_000
"""Most rows of each window that Evidently sees, a sample beyond that; up to it, its figures and ours are the same."""
_RANDOM_IDS = re.compile(
    r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b|metric_[0-9a-f]{32}\b|\b[0-9a-f]{32}\b"
)


def measure_drift(dataset: Path, ranker: Path, rankings: Path, *, out: Path, seed: int, draw: bool = True) -> Evidence:
    """Measure drift, and write drift.json, Evidently's report and the table of columns into `out`.

    Args:
        dataset: Dataset directory.
        ranker: Ranker directory, for the importance of features.
        rankings: Rankings directory.
        out: Existing directory that lacks these files.
        seed: Seed of the bootstrap.
        draw: Whether Evidently computes and draws the columns too, which takes it seconds. Without, there is no report and
            nothing of what Evidently says; every other figure is the same.

    Raises:
        InputError: If a manifest or table cannot be read or does not hold what its contract says.
    """
    built = documents.load(Dataset, dataset / "dataset.json")
    trained = documents.load(Ranker, ranker / "ranker.json")
    ranked = documents.load(Rankings, rankings / "rankings.json")
    rows = read_columns(rankings / "features.parquet", ("split", "user", "day", "score", "gain", *trained.features))
    windows = {name: rows.filter(pc.equal(rows["split"].cast(pa.string()), name)) for name in ("validation", "test")}
    if not all(table.num_rows for table in windows.values()):
        raise EvidenceError("features.parquet: found no rows of validation or of test; needed both. Rank again.")
    reference, current = windows["validation"], windows["test"]
    users, users_now = (table["user"].to_numpy().astype(np.int64) for table in (reference, current))
    nulls = earlier_movements(dataset, built, trained.features)
    days = reference["day"].cast(pa.int32()).to_numpy().astype(np.int64)
    if built.mode == "logged" and (apart := halves_apart(_values(reference, "score"), users, days)):
        nulls[SCORE] = apart
    columns = _columns(built, trained, reference, current, nulls)
    found = distances(
        [Sample(column.reference, column.current, column.categorical) for column in columns],
        users,
        users_now,
        resamples=RESAMPLES,
        seed=seed,
        level=LEVEL,
    )
    measured = {column.name: held for column, held in zip(columns, found, strict=True)}
    shown = [c for c in columns if not c.name.endswith(MISSING)]
    drawn = _draw(shown, ts=built.cuts[-2].ts, seed=seed, page=out / REPORT) if draw else {}
    n_requests = ranked.test_requests
    estimates = (
        *(
            e
            for column in columns
            for e in column_estimates(column, measured[column.name], drawn.get(column.name), n_requests)
        ),
        *default_share(drawn, max(held.n_users for held in found), n_requests),
        drifted_importance(columns, measured, n_requests),
    )
    pq.write_table(columns_table(columns, measured, drawn), out / TABLE, compression="zstd")
    evidence = Evidence(
        schema_version=SCHEMA_VERSION,
        question="drift",
        estimates=estimates,
        conventions=CONVENTIONS,
        inputs={"dataset": ranked.dataset, "ranker": digest_tree(ranker), "rankings": digest_tree(rankings)},
        tables={"columns": TABLE},
        reports={"evidently": REPORT} if draw else {},
        libraries={"numpy": np.__version__} | (_EVIDENTLY if draw else {}),
        seed=seed,
        sentences=tuple(describe(columns, measured, estimates[-1])),
    )
    documents.save(evidence, out / "drift.json")
    return evidence


def _columns(
    built: Dataset, trained: Ranker, reference: pa.Table, current: pa.Table, nulls: Mapping[str, Null]
) -> list[Column]:
    """Score, label and features, each followed by its gaps where either window has any."""
    categorical = {feature.name for feature in built.features if feature.type == "category"}
    importance = {held.feature: held.gain_share for held in trained.importance}
    columns: list[Column] = []
    for name, source in ({SCORE: "score", LABEL: "gain"} | {name: name for name in trained.features}).items():
        before, now = _values(reference, source), _values(current, source)
        feature, weight = (name, importance.get(name, 0.0)) if name in trained.features else ("", 0.0)
        columns.append(Column(name, feature, name in categorical, weight, before, now, nulls.get(name)))
        gap, gap_now = ((~np.isfinite(values)).astype(np.float64) for values in (before, now))
        if gap.any() or gap_now.any():
            columns.append(Column(name + MISSING, feature, True, weight, gap, gap_now, nulls.get(name + MISSING)))
    return columns


def _values(table: pa.Table, name: str) -> Floats:
    values: Floats = table[name].to_numpy().astype(np.float64)
    return values


def _draw(columns: Sequence[Column], *, ts: str, seed: int, page: Path) -> dict[str, Evidently]:
    """Let Evidently compute and draw the columns that have values in both windows, and write its page.

    Args:
        columns: The columns, in the order of the page.
        ts: Moment that the report bears, ISO 8601; never the wall clock, so that a replay gives equal bytes.
        seed: Seed of the sample of rows.
        page: Where the HTML goes.

    Returns:
        By column; a column that Evidently cannot measure is absent.
    """
    frames = [
        _sampled(pd.DataFrame({c.name: getattr(c, part) for c in columns}), seed) for part in ("reference", "current")
    ]
    # Evidently raises on a column without any value.
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
    page.write_text(_stable_page(snapshot), encoding="utf-8")
    metrics: list[Mapping[str, Any]] = json.loads(snapshot.json())["metrics"]
    distances = {metric["config"]["column"]: float(metric["value"]) for metric in metrics}
    return {
        column.name: Evidently(
            distances[column.name],
            default_flag(frames[0][column.name], frames[1][column.name], categorical=column.categorical),
        )
        for column in usable
    }


def default_flag(reference: pd.Series, current: pd.Series, *, categorical: bool) -> bool:
    """What Evidently would say of a column when it is not told which test and which bound to use.

    Args:
        reference: Values, some of them finite.
        current: Values, some of them finite.
        categorical: Whether values are codes.
    """
    kind = ColumnType.Categorical if categorical else ColumnType.Numerical
    before, now = (part[np.isfinite(part)] for part in (reference, current))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # Its tests divide by variances and counts that may be zero, and warn instead of telling.
        warnings.simplefilter("ignore")
        return bool(get_stattest(before, now, kind, None)(before, now, kind, None).drifted)


def _sampled(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    if len(frame) <= _DRAWN_ROWS:
        return frame
    rows = np.sort(np.random.default_rng(seed).choice(len(frame), _DRAWN_ROWS, replace=False))
    return frame.iloc[rows].reset_index(drop=True)


def _stable_page(snapshot: Any) -> str:
    """The report's page with the random ids of its parts replaced by their order, so that equal data give equal bytes."""
    page: str = snapshot.get_html_str(as_iframe=False)
    seen: dict[str, str] = {}
    return _RANDOM_IDS.sub(lambda match: seen.setdefault(match.group(), f"part-{len(seen)}"), page)
