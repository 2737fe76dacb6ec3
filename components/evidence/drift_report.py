"""The one place that talks to Evidently: it computes every column's distance, draws it, and says what it would say alone."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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

Floats = NDArray[np.float64]

EVIDENTLY_VERSION: str = evidently.__version__
METHOD = "jensenshannon"
DRAWN_ROWS = 60_000
"""Most rows of each window that Evidently sees, a sample beyond that; up to it, its figures and ours are the same."""
_RANDOM_IDS = re.compile(
    r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b|metric_[0-9a-f]{32}\b|\b[0-9a-f]{32}\b"
)


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """One column for Evidently."""

    name: str
    categorical: bool
    reference: Floats
    current: Floats
    threshold: float


@dataclass(frozen=True, slots=True)
class Evidently:
    """What Evidently says of one column."""

    distance: float
    default_flag: bool
    """Whether its own defaults, which look at the size of the reference alone, would call the column drifted."""


def draw(columns: Sequence[Drawn], *, ts: str, seed: int, page: Path) -> dict[str, Evidently]:
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
        [ValueDrift(column=c.name, method=METHOD, threshold=c.threshold) for c in usable], include_tests=True
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
    if len(frame) <= DRAWN_ROWS:
        return frame
    rows = np.sort(np.random.default_rng(seed).choice(len(frame), DRAWN_ROWS, replace=False))
    return frame.iloc[rows].reset_index(drop=True)


def _stable_page(snapshot: Any) -> str:
    """The report's page with the random ids of its parts replaced by their order, so that equal data give equal bytes."""
    page: str = snapshot.get_html_str(as_iframe=False)
    seen: dict[str, str] = {}
    return _RANDOM_IDS.sub(lambda match: seen.setdefault(match.group(), f"part-{len(seen)}"), page)
