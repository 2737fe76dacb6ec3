"""What is told of each column of a drift measurement: estimates, table and sentences, from its distance and its null."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.evidence.contract import Estimate, Statistic
from components.evidence.distance import Counted, Distance
from components.evidence.drift_history import Null
from components.evidence.drift_null import NULL_LEVEL
from components.evidence.estimates import exactly, figures, number
from components.ranker.contract import CANDIDATE

Floats = NDArray[np.float64]

PRACTICAL_BOUND = 0.1
"""Evidently's own default for this distance: smaller movements are not worth a person's time, however significant."""
RESAMPLES = 500
LEVEL = 0.95

SCORE, LABEL = "score", "label"
MISSING = " (missing)"
"""Added to a column's name for the column that says whether it has no value."""

_LEADING = 0.05
"""Importance from where on an input is a leading one. There are at most twenty: a family of their own, so that what hardly
matters does not widen the limits of what does."""

CONVENTIONS = {
    "windows": "Reference: the candidate's rows of the validation requests. Current: those of the test requests.",
    "distance": "Jensen-Shannon distance, 0 to sqrt(ln 2) = 0.83, on the bins that Evidently's jensenshannon uses; "
    "missing values are left out of it.",
    "missing": f"A column named 'x{MISSING}' is the distance between the shares of rows in which x has no value.",
    "mix": "A column named 'mix of x' is a declared context or attribute of the users, one value a request; unknown is a value, "
    "all but the 50 commonest are one. Metrics mix_distance and mix_ratio, made as distance and drift_ratio are.",
    "threshold": f"The larger of {PRACTICAL_BOUND} and detail.null: the distance, noise of few users taken off, that one "
    f"window in {1 / (1 - NULL_LEVEL):.0f} exceeds while nothing is wrong; absent where there is no history. From "
    "detail.null_pairs pairs of earlier windows of this log (as long as the two windows, whole weeks earlier, past the "
    "column's own look-back; sampled data: neighbouring training cuts; the score: what the model says of training rows) and from "
    "blocks of their detail.null_days days drawn at random.",
    "drift_ratio": "Distance divided by its threshold: above 1, the movement is large and unusual.",
    "drifted_importance": "Summed importance of the features above their threshold; low counts those whose whole interval is, "
    "high is resampled for all features together. A feature that cannot be measured counts.",
    "evidently_default_share": "Share of the columns that Evidently's own default tests would flag; information only, they "
    "look at the size of the reference alone and take rows for independent.",
    "interval": "Users resampled (beyond 4 096 users: as many clusters of them). The lower limit has the noise of resampling "
    "taken off, the upper has not. Limits hold together for the inputs and gaps of importance "
    f"{_LEADING} and more, for all other inputs and gaps, and for the mix; score and label stand alone.",
    "mde": "distance: the smallest true one that would be shown to be above 0; drift_ratio: above 1.",
}


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One column, counted in both windows, and what is known of it."""

    name: str
    feature: str
    """The feature that it is, or whose gaps it tells; empty for all others."""
    categorical: bool
    importance: float
    counted: Counted
    missing: tuple[float, float]
    """Share of rows without a value in the reference and in the current window."""
    null: Null | None
    """How far it moves while nothing is wrong; None where there were no earlier windows."""
    mix: bool = False
    """Whether it is of the requests, not of the model's rows."""
    drawn: tuple[Floats, Floats] | None = None
    """The sample of both windows that Evidently gets; None where it is not drawn."""

    @property
    def threshold(self) -> float:
        return max(PRACTICAL_BOUND, self.null.distance) if self.null else PRACTICAL_BOUND

    @property
    def family(self) -> str:
        """Columns whose intervals hold together; empty = stands alone."""
        if self.mix:
            return "mix"
        if not self.feature:
            return ""
        return "leading inputs" if self.importance >= _LEADING else "other inputs"


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
    nothing = float("nan")
    detail = figures(
        {
            "threshold": column.threshold,
            "null": column.null.distance if column.null else nothing,
            "null_pairs": float(column.null.pairs) if column.null else 0.0,
            "null_days": float(column.null.days) if column.null else 0.0,
            "importance": column.importance,
            "noise": found.noise,
            "evidently": drawn.distance if drawn else nothing,
            "evidently_default_flag": float(drawn.default_flag) if drawn else nothing,
            "missing_reference": column.missing[0],
            "missing_current": column.missing[1],
        }
    )

    def estimate(metric: str, statistic: Statistic, scale: float, least: float) -> Estimate:
        return Estimate(
            metric=metric,
            statistic=statistic,
            subject=column.name,
            versus="reference",
            segment={},
            value=number(found.value / scale),
            low=number(found.low / scale),
            high=number(found.high / scale),
            level=LEVEL,
            n_users=found.n_users,
            n_requests=n_requests,
            method=f"user bootstrap{', max-t' if column.family else ''}, {RESAMPLES} resamples",
            mde=number(found.detectable(least) / scale) if found.reach > 0 else None,
            family=f"{metric}: {column.family}" if column.family else "",
            detail=detail,
        )

    names = ("mix_distance", "mix_ratio") if column.mix else ("distance", "drift_ratio")
    return estimate(names[0], "value", 1.0, 0.0), estimate(names[1], "ratio", column.threshold, column.threshold)


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


def drifted_importance(
    columns: Sequence[Column], measured: Mapping[str, Distance], moved: Floats, n_requests: int
) -> Estimate:
    """How much of the model goes through features that have drifted. One that cannot be measured counts as drifted.

    Args:
        columns: All columns; only features and their gaps count.
        measured: By name.
        moved: How far each resample's divergence lies from its column's mean, shape (columns, resamples): from the same
            draws of users, so that the features' doubts are not all counted against the model at once.
        n_requests: Test requests.
    """
    places = [place for place, column in enumerate(columns) if column.feature]
    chosen = [columns[place] for place in places]
    found, low = (
        np.array([getattr(measured[c.name], part) for c in chosen])[:, None] ** 2 for part in ("value", "low")
    )
    value, shown = float(_share(chosen, found)[0]), float(_share(chosen, low)[0])
    # Chance lifts now this column above its threshold and now that one: their sum is never small. It serves as an upper
    # limit; the lower is what each column shows by itself.
    high = float(np.quantile(_share(chosen, found + moved[places]), (1 + LEVEL) / 2))
    return Estimate(
        metric="drifted_importance",
        statistic="value",
        subject=CANDIDATE,
        versus="reference",
        segment={},
        value=number(value),
        low=number(shown),
        high=number(max(high, value)),
        level=LEVEL,
        n_users=max((held.n_users for held in measured.values()), default=0),
        n_requests=n_requests,
        method=f"user bootstrap of all features together, {RESAMPLES} resamples",
        mde=None,
        detail={"columns": float(len(chosen))},
    )


def _share(columns: Sequence[Column], divergences: Floats) -> Floats:
    """Importance of the features whose values or gaps are above their threshold, shape (resamples,); NaN is above."""
    importance = {column.feature: column.importance for column in columns}
    drifted = {name: np.zeros(divergences.shape[1], dtype=bool) for name in importance}
    for column, found in zip(columns, divergences, strict=True):
        # By feature: one whose values and whose gaps have both moved counts once.
        drifted[column.feature] |= ~(found <= column.threshold**2)
    total = np.zeros(divergences.shape[1])
    for name, above in drifted.items():
        total += importance[name] * above
    return np.minimum(total, 1.0)


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
            "null_days": pa.array([c.null.days if c.null else 0 for c in columns], pa.int32()),
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
        names = ", ".join(
            column.name + (f" ({column.importance:.0%} of the model)" if column.feature else "") for column in most
        )
        told.append(f"{len(shown)} of {len(columns)} columns moved more than they use to, by more than noise: {names}.")
    else:
        told.append(f"None of {len(columns)} columns is shown to have moved more than it uses to.")
    told.append(
        f"Features that moved so carry {overall.low:.0%} of the model's importance; up to {overall.high:.0%} cannot be ruled out."
        if overall.low is not None and overall.high is not None
        else "How much of the model they carry could not be measured."
    )
    if not any(column.null for column in columns):
        told.append("The log has no earlier windows to compare with, so only the practical bound was used.")
    unknown = [column.name for column in columns if not np.isfinite(measured[column.name].value)]
    if unknown:
        told.append(f"Not measurable, because one window has no value: {', '.join(unknown)}.")
    return told
