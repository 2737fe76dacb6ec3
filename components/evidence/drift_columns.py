"""What is told of each column of a drift measurement: estimates, table and sentences, from its distance and its null."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.evidence.contract import Estimate
from components.evidence.distance import Distance
from components.evidence.drift_history import MISSING, Null
from components.evidence.estimates import exactly, figures, number
from components.ranker.contract import CANDIDATE

Floats = NDArray[np.float64]

PRACTICAL_BOUND = 0.1
"""Evidently's own default for this distance: smaller movements are not worth a person's time, however significant."""
RESAMPLES = 300
LEVEL = 0.95

CONVENTIONS = {
    "windows": "Reference: the candidate's rows of the validation requests. Current: those of the test requests.",
    "distance": "Jensen-Shannon distance, 0 to sqrt(ln 2) = 0.83, on the bins that Evidently's jensenshannon uses; "
    "missing values are left out of it.",
    "missing": f"A column named 'x{MISSING}' is the distance between the shares of rows in which x has no value.",
    "threshold": f"The larger of {PRACTICAL_BOUND} and the largest distance, noise taken off, that the same column showed "
    "between earlier windows of this log (detail.null over detail.null_pairs pairs; absent where there were none): logged "
    "data as long as the two windows and past the column's own look-back, sampled data between neighbouring training "
    "cuts; the score between the halves of the reference.",
    "drift_ratio": "Distance divided by its threshold: above 1, the movement is large and unusual.",
    "drifted_importance": "Summed importance of the columns above their threshold; low counts those whose whole interval "
    "is, high those whose interval reaches above it. A column that cannot be measured counts.",
    "evidently_default_share": "Share of the columns that Evidently's own default tests would flag; information only, they "
    "look at the size of the reference alone and take rows for independent.",
    "interval": "Users resampled. The lower limit has the noise of resampling taken off, the upper has not.",
}


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One column in both windows, and what is known of it."""

    name: str
    feature: str
    """The feature that it is, or whose gaps it tells; empty for score and label."""
    categorical: bool
    importance: float
    reference: Floats
    current: Floats
    null: Null | None
    """How far it moved earlier; None where there were no earlier windows."""

    @property
    def threshold(self) -> float:
        return max(PRACTICAL_BOUND, self.null.distance) if self.null else PRACTICAL_BOUND


@dataclass(frozen=True, slots=True)
class Evidently:
    """What Evidently says of one column."""

    distance: float
    default_flag: bool
    """Whether its own defaults, which look at the size of the reference alone, would call the column drifted."""


def column_estimates(
    column: Column, found: Distance, drawn: Evidently | None, n_requests: int
) -> tuple[Estimate, Estimate]:
    """The distance, and the distance against its threshold."""
    detail = figures(
        {
            "threshold": column.threshold,
            "null": column.null.distance if column.null else float("nan"),
            "null_pairs": float(column.null.pairs) if column.null else 0.0,
            "importance": column.importance,
            "noise": found.noise,
            "evidently": drawn.distance if drawn else float("nan"),
            "evidently_default_flag": float(drawn.default_flag) if drawn else float("nan"),
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
            level=LEVEL,
            n_users=found.n_users,
            n_requests=n_requests,
            method=f"user bootstrap, {RESAMPLES} resamples",
            mde=None,
            detail=detail,
        )

    return estimate("distance", 1.0), estimate("drift_ratio", column.threshold)


def default_share(drawn: Mapping[str, Evidently], n_users: int, n_requests: int) -> list[Estimate]:
    """What Evidently alone would say: the share of columns that its defaults flag (its dataset verdict asks for half)."""
    if not drawn:
        return []
    flags = [said.default_flag for said in drawn.values()]
    return [
        exactly(
            sum(flags) / len(flags),
            metric="evidently_default_share",
            subject=CANDIDATE,
            versus="reference",
            n_users=n_users,
            n_requests=n_requests,
            detail={"flagged": float(sum(flags)), "columns": float(len(flags))},
        )
    ]


def drifted_importance(columns: Sequence[Column], measured: Mapping[str, Distance], n_requests: int) -> Estimate:
    """How much of the model goes through columns that have drifted. A column that cannot be measured counts as drifted."""

    def share(part: str) -> float:
        # By feature: one whose values and whose gaps have both moved counts once.
        moved = {c.feature: c.importance for c in columns if not getattr(measured[c.name], part) <= c.threshold}
        return min(sum(moved.values()), 1.0)

    return Estimate(
        metric="drifted_importance",
        statistic="value",
        subject=CANDIDATE,
        versus="reference",
        segment={},
        value=number(share("value")),
        low=number(share("low")),
        high=number(share("high")),
        level=LEVEL,
        n_users=max((held.n_users for held in measured.values()), default=0),
        n_requests=n_requests,
        method=f"user bootstrap of each column, {RESAMPLES} resamples",
        mde=None,
        detail={"columns": float(len(columns))},
    )


def columns_table(
    columns: Sequence[Column], measured: Mapping[str, Distance], drawn: Mapping[str, Evidently]
) -> pa.Table:
    """One row a column, in the given order; null where there is no figure."""
    return pa.table(
        {
            "column": pa.array([column.name for column in columns], pa.string()),
            "importance": pa.array([column.importance for column in columns]),
            "distance": pa.array([measured[column.name].value for column in columns], from_pandas=True),
            "low": pa.array([measured[column.name].low for column in columns], from_pandas=True),
            "high": pa.array([measured[column.name].high for column in columns], from_pandas=True),
            "null": pa.array([c.null.distance if c.null else None for c in columns], pa.float64()),
            "null_pairs": pa.array([c.null.pairs if c.null else 0 for c in columns], pa.int32()),
            "threshold": pa.array([column.threshold for column in columns]),
            "evidently": pa.array([drawn[c.name].distance if c.name in drawn else None for c in columns], pa.float64()),
            "evidently_default_flag": pa.array(
                [drawn[c.name].default_flag if c.name in drawn else None for c in columns], pa.bool_()
            ),
        }
    )


def describe(columns: Sequence[Column], measured: Mapping[str, Distance], overall: Estimate) -> list[str]:
    """What moved, how much of the model it carries, and what could not be measured."""
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
    if not any(column.null for column in columns):
        told.append("The log has no earlier windows to compare with, so only the practical bound was used.")
    unknown = [column.name for column in columns if not np.isfinite(measured[column.name].value)]
    if unknown:
        told.append(f"Not measurable, because one window has no value: {', '.join(unknown)}.")
    return told
