"""Limits where a bootstrap knows nothing: few users, or none, differ from the rest, but the range of values is known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from components.statistics.intervals import Intervals
from components.statistics.moments import Floats, Members, Moments
from components.statistics.shares import share_limit
from components.statistics.studentised import Sides, tail_bounded
from components.statistics.sums import group_sums

FEW = 50
"""Users who differ from the commonest value; with as many or more, a bootstrap of the comparison knows enough."""


def permitted_tail(families: NDArray[np.int64] | None, shape: tuple[int, ...], *, level: float) -> Floats:
    """Permitted error on each side of each exact interval; within a family shared out evenly (Bonferroni)."""
    if families is None:
        return np.full(shape, (1 - level) / 2)
    _, member, size = np.unique(families, return_inverse=True, return_counts=True)
    tail: Floats = (1 - level) / 2 / size[member].reshape(shape)
    return tail


def commonest_values(bounds: tuple[float, float] | None) -> list[float]:
    """Where users' values pile up: metrics at the ends of their range, paired differences at zero."""
    if bounds is None:
        return [0.0]
    ends = [bound for bound in bounds if np.isfinite(bound)]
    return sorted({*ends, *([0.0] if bounds[0] <= 0 <= bounds[1] else [])})


def deviants(table: Floats, members: Members, values: list[float]) -> Floats:
    """Users of each group whose value is another, shape (values, groups, columns)."""
    present = ~np.isnan(table)
    return np.stack([group_sums((present & (table != value)).astype(np.float64), members) for value in values])


def within_bounds(intervals: Intervals, others: Floats, *, bounds: tuple[float, float], tail: Floats) -> Intervals:
    """Limits kept inside the range of values, and near the commonest value where few users have any other.

    Of n users k differ from the commonest value v: the share that differ in truth is known exactly (Clopper and
    Pearson), and the mean cannot be further from v than that share of the way to a bound. With few such users, where a
    bootstrap knows nothing, this is the tighter limit; with none, the only one.

    Args:
        intervals: Of means over users.
        others: `deviants` from each of `commonest_values(bounds)`.
        bounds: Smallest and largest value of a user; infinite = unknown.
        tail: Permitted error on each side, shape of the intervals.
    """
    smallest, largest = bounds
    low, high = np.maximum(intervals.low, smallest), np.minimum(intervals.high, largest)
    for value, count in zip(commonest_values(bounds), others, strict=True):
        share = share_limit(count, intervals.n_users, tail=tail)
        with np.errstate(invalid="ignore"):
            low = np.fmax(low, value - share * (value - smallest))
            high = np.fmin(high, value + share * (largest - value))
    # All alike at a value in between.
    share = share_limit(np.zeros(low.shape), intervals.n_users, tail=tail)
    alike = (intervals.n_users > 0) & ~(intervals.standard_error > 0)
    with np.errstate(invalid="ignore"):
        low = np.where(alike & np.isnan(low), intervals.estimate - share * (intervals.estimate - smallest), low)
        high = np.where(alike & np.isnan(high), intervals.estimate + share * (largest - intervals.estimate), high)
    return with_limits(
        intervals,
        np.where(intervals.n_users > 0, low, np.nan),
        np.where(intervals.n_users > 0, high, np.nan),
    )


def with_limits(intervals: Intervals, low: Floats, high: Floats) -> Intervals:
    """The same estimates between other limits; critical values follow."""
    error = np.where(intervals.standard_error > 0, intervals.standard_error, np.nan)
    return replace(
        intervals,
        low=low,
        high=high,
        critical_low=(intervals.estimate - low) / error,
        critical_high=(high - intervals.estimate) / error,
    )


def open_sides(mean: Floats, variance: Floats, count: Floats, bounds: tuple[float, float] | None) -> Sides:
    """Sides (low, high) on which a user can lie a standard deviation or more from the mean, so that a tail may be unseen."""
    if bounds is None:
        return np.ones(mean.shape, dtype=bool), np.ones(mean.shape, dtype=bool)
    deviation = np.sqrt(variance * count)
    return ~(mean - bounds[0] < deviation), ~(bounds[1] - mean < deviation)


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One of two samples that are compared, and what is known of its values."""

    moments: Moments
    resampled: Moments
    centre: Floats
    """Added to the means, shape (columns,)."""
    others: Floats
    """`deviants` from each of the commonest values."""

    @property
    def mean(self) -> Floats:
        """Shape (groups, columns)."""
        return self.moments.mean + self.centre

    def thin(self) -> NDArray[np.bool_]:
        """Where so few users differ from the commonest value that one of another kind would move everything."""
        few: NDArray[np.bool_] = self.others.min(axis=0) < FEW
        return few | ~(self.moments.variance > 0)

    def limits(
        self, chosen: NDArray[np.bool_], *, bounds: tuple[float, float] | None, tail: Floats
    ) -> tuple[Floats, Floats]:
        """Limits of the mean of this side alone, at the chosen places, shape (chosen,)."""
        mean, variance, count = self.mean[chosen], self.moments.variance[chosen], self.moments.count[chosen]
        with np.errstate(divide="ignore", invalid="ignore"):
            pivots = self.resampled.mean[chosen] - self.moments.mean[chosen][:, None]
            pivots /= np.sqrt(self.resampled.variance[chosen])
        tails = open_sides(mean, variance, count, bounds)
        below, above = np.empty(mean.shape), np.empty(mean.shape)
        for permitted in np.unique(tail[chosen]):
            at = tail[chosen] == permitted
            below[at], above[at] = tail_bounded(
                pivots[at], count[at] - 1, (tails[0][at], tails[1][at]), level=1 - 2 * permitted
            )
        error = np.where(variance > 0, np.sqrt(variance), np.nan)
        own = Intervals(
            estimate=mean,
            low=mean - below * error,
            high=mean + above * error,
            standard_error=np.sqrt(variance),
            critical_low=below,
            critical_high=above,
            n_users=np.rint(count).astype(np.int64),
            level=float("nan"),
            method="",
        )
        if bounds is None:
            return own.low, own.high
        found = within_bounds(own, self.others[:, chosen], bounds=bounds, tail=tail[chosen])
        return found.low, found.high


def widened(
    found: Intervals, inside: Side, outside: Side, *, bounds: tuple[float, float] | None, tail: Floats, log: bool
) -> Intervals:
    """Limits of a comparison, never narrower than what each side alone allows, where a side is thin.

    Where one side is thin, the other's spread hides it: resamples that hold none of its few users look well measured, and
    a group of twelve with one NDCG above zero would be shown to be worse than everyone. There each side's own limits,
    which allow for that, are put together (MOVER: Zou and Donner, 2008); the permitted error is shared out evenly within
    a family.

    Args:
        found: Limits of inside minus outside, or of the logarithm of their ratio.
        inside: The group.
        outside: The rest.
        bounds: Smallest and largest value of a user.
        tail: Permitted error on each side, shape of `found`.
        log: Whether `found` is of logarithms.
    """
    chosen = (inside.thin() | outside.thin()) & np.isfinite(found.estimate)
    if not chosen.any():
        return found
    shown = [np.stack(side.limits(chosen, bounds=bounds, tail=tail)) for side in (inside, outside)]
    means = [inside.mean[chosen], outside.mean[chosen]]
    with np.errstate(divide="ignore", invalid="ignore"):
        if log:
            shown, means = [np.log(limit) for limit in shown], [np.log(mean) for mean in means]
        down = np.hypot(means[0] - shown[0][0], shown[1][1] - means[1])
        up = np.hypot(shown[0][1] - means[0], means[1] - shown[1][0])
    low, high = found.low.copy(), found.high.copy()
    low[chosen] = _outer(np.fmin, found.low[chosen], found.estimate[chosen] - down)
    high[chosen] = _outer(np.fmax, found.high[chosen], found.estimate[chosen] + up)
    return with_limits(found, low, high)


def _outer(choose: np.ufunc, compared: Floats, alone: Floats) -> Floats:
    """The outer of two limits; none where a side alone has none."""
    result: Floats = np.where(np.isnan(alone), np.nan, choose(compared, alone))
    return result
