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
import pyarrow.parquet as pq

from components.artifacts import documents
from components.artifacts.digests import digest_tree
from components.dataset.contract import Dataset
from components.evidence.contract import SCHEMA_VERSION, Evidence
from components.evidence.distance import distances
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
from components.evidence.drift_inputs import read_inputs
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

REPORT, TABLE = "drift.html", "drift-columns.parquet"

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
        ranker: Ranker directory, for the importance of features and for how scores moved before.
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
    sample = _DRAWN_ROWS if draw else 0
    columns = list(read_inputs(dataset, built, ranker, trained, rankings, seed=seed, sample=sample))
    found, moved = distances(
        [column.counted for column in columns],
        [column.family for column in columns],
        resamples=RESAMPLES,
        seed=seed,
        level=LEVEL,
    )
    measured = {column.name: held for column, held in zip(columns, found, strict=True)}
    drawn = _draw(columns, ts=built.cuts[-2].ts, page=out / REPORT) if draw else {}
    n_requests = ranked.test_requests
    estimates = (
        *(
            e
            for column in columns
            for e in column_estimates(column, measured[column.name], drawn.get(column.name), n_requests)
        ),
        *default_share(drawn, max(held.n_users for held in found), n_requests),
        drifted_importance(columns, measured, moved, n_requests),
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


def _draw(columns: Sequence[Column], *, ts: str, page: Path) -> dict[str, Evidently]:
    """Let Evidently compute and draw the columns that have values in both windows, and write its page.

    Args:
        columns: The columns, in the order of the page; those without a sample are left out.
        ts: Moment that the report bears, ISO 8601; never the wall clock, so that a replay gives equal bytes.
        page: Where the HTML goes.

    Returns:
        By column; a column that Evidently cannot measure is absent.
    """
    # Evidently raises on a column without any value.
    usable = {
        c.name: (c, *c.drawn)
        for c in columns
        if c.drawn is not None and all(np.isfinite(part).any() for part in c.drawn)
    }
    frames = [pd.DataFrame({name: held[part] for name, held in usable.items()}) for part in (1, 2)]
    definition = DataDefinition(
        numerical_columns=[name for name, (column, *_) in usable.items() if not column.categorical],
        categorical_columns=[name for name, (column, *_) in usable.items() if column.categorical],
    )
    metrics = [ValueDrift(column=name, method=_METHOD, threshold=held[0].threshold) for name, held in usable.items()]
    report = Report(metrics, include_tests=True)
    reference, current = (EvidentlyDataset.from_pandas(frame, definition) for frame in frames)
    snapshot = report.run(current, reference, name="drift", timestamp=datetime.fromisoformat(ts).astimezone(UTC))
    page.write_text(_stable_page(snapshot), encoding="utf-8")
    said: list[Mapping[str, Any]] = json.loads(snapshot.json())["metrics"]
    distances = {metric["config"]["column"]: float(metric["value"]) for metric in said}
    return {
        name: Evidently(distances[name], default_flag(frames[0][name], frames[1][name], categorical=column.categorical))
        for name, (column, *_) in usable.items()
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


def _stable_page(snapshot: Any) -> str:
    """The report's page with the random ids of its parts replaced by their order, so that equal data give equal bytes."""
    page: str = snapshot.get_html_str(as_iframe=False)
    seen: dict[str, str] = {}
    return _RANDOM_IDS.sub(lambda match: seen.setdefault(match.group(), f"part-{len(seen)}"), page)
