"""Limits where a bootstrap knows nothing: few users, or none, differ from the rest, but the range of values is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from components.statistics.intervals import Intervals
from components.statistics.moments import Floats, Members, Moments
from components.statistics.shares import share_limit
from components.statistics.studentised import student_critical
from components.statistics.sums import group_sums


def permitted_tail(families: NDArray[np.int64] | None, shape: tuple[int, ...], *, level: float) -> Floats:
    """Permitted error on each side of each exact interval; within a family shared out evenly (Bonferroni)."""
    if families is None:
        return np.full(shape, (1 - level) / 2)
    _, member, size = np.unique(families, return_inverse=True, return_counts=True)
    tail: Floats = (1 - level) / 2 / size[member].reshape(shape)
    return tail


def within_bounds(
    intervals: Intervals, table: Floats, members: Members, *, bounds: tuple[float, float], tail: Floats
) -> Intervals:
    """Limits kept inside the range of values, and near the commonest value where few users have any other.

    Of n users k differ from the commonest value v: the share that differ in truth is known exactly (Clopper and
    Pearson), and the mean cannot be further from v than that share of the way to a bound. With few such users, where a
    bootstrap knows nothing, this is the tighter limit; with none, the only one.
    """
    smallest, largest = bounds
    low, high = np.maximum(intervals.low, smallest), np.minimum(intervals.high, largest)
    present = ~np.isnan(table)
    # Metrics pile up at their bounds, paired differences at zero.
    for value in sorted({smallest, 0.0 if smallest <= 0 <= largest else smallest, largest}):
        others = group_sums((present & (table != value)).astype(np.float64), members)
        share = share_limit(others, intervals.n_users, tail=tail)
        low = np.fmax(low, value - share * (value - smallest))
        high = np.fmin(high, value + share * (largest - value))
    # All alike at a value in between.
    share = share_limit(np.zeros(low.shape), intervals.n_users, tail=tail)
    alike = (intervals.n_users > 0) & ~(intervals.standard_error > 0)
    low = np.where(alike & np.isnan(low), intervals.estimate - share * (intervals.estimate - smallest), low)
    high = np.where(alike & np.isnan(high), intervals.estimate + share * (largest - intervals.estimate), high)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.where(intervals.standard_error > 0, intervals.standard_error, np.nan)
        critical_low, critical_high = (intervals.estimate - low) / error, (high - intervals.estimate) / error
    return replace(
        intervals,
        low=np.where(intervals.n_users > 0, low, np.nan),
        high=np.where(intervals.n_users > 0, high, np.nan),
        critical_low=critical_low,
        critical_high=critical_high,
    )


def unless_alike(
    found: Intervals,
    inside: Moments,
    outside: Moments,
    *,
    centre: Floats,
    bounds: tuple[float, float] | None,
    tail: Floats,
) -> Intervals:
    """The same limits, but where one side's users are all alike: its standard error of 0 is not knowledge.

    There each side gets half of the permitted error: Student's interval where users differ, the exact one for what may
    be unseen where they do not.
    """
    alike = ~((inside.variance > 0) & (outside.variance > 0)) & np.isfinite(found.estimate)
    if not alike.any():
        return found
    smallest, largest = (np.nan, np.nan) if bounds is None else bounds
    limits = []
    for side in (inside, outside):
        mean = side.mean + centre
        unseen = share_limit(np.zeros(mean.shape), np.nan_to_num(side.count), tail=tail / 2)
        reach = student_critical(side.count - 1, level=1 - tail) * np.sqrt(side.variance)
        spread = side.variance > 0
        low = np.where(spread, mean - reach, mean - unseen * (mean - smallest))
        high = np.where(spread, mean + reach, mean + unseen * (largest - mean))
        limits.append((np.fmax(low, smallest), np.fmin(high, largest)))
    return replace(
        found,
        low=np.where(alike, limits[0][0] - limits[1][1], found.low),
        high=np.where(alike, limits[0][1] - limits[1][0], found.high),
    )
