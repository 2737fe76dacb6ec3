"""From an estimate, its variance and their resamples to Intervals: what every kind of comparison ends with."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from components.statistics.intervals import Intervals
from components.statistics.studentised import simultaneous_values, tail_bounded

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Quantity:
    """An estimate with its variance and degrees of freedom, shape (groups, columns), and the same of its resamples."""

    estimate: Floats
    variance: Floats
    degrees: Floats
    resampled: Floats
    resampled_variance: Floats


def families_of(
    simultaneous: bool, families: NDArray[np.int64] | None, shape: tuple[int, ...]
) -> NDArray[np.int64] | None:
    """The family of each estimate, one for all unless they are given; None where each stands alone."""
    if not simultaneous:
        return None
    if families is None:
        return np.zeros(shape, dtype=np.int64)
    if families.shape != shape:
        raise ValueError(f"families: found shape {families.shape}; needed that of (groups, columns) {shape}.")
    return families


def limits_of(
    quantity: Quantity,
    *,
    count: Floats,
    tails: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = None,
    level: float,
    families: NDArray[np.int64] | None,
    method: str,
) -> Intervals:
    """Bootstrap-t limits; on sides that have a tail (`tails`, low and high; None = both) never inside Student's."""
    usable = (quantity.variance > 0) & np.isfinite(quantity.estimate)
    error = np.sqrt(np.where(np.isfinite(quantity.estimate), quantity.variance, np.nan))
    with np.errstate(divide="ignore", invalid="ignore"):
        pivots = (quantity.resampled - quantity.estimate[..., None]) / np.sqrt(quantity.resampled_variance)
    everywhere = np.ones(quantity.estimate.shape, dtype=bool)
    tails = tails or (everywhere, everywhere)
    if families is None:
        below, above = tail_bounded(pivots, quantity.degrees, tails, level=level)
    else:
        below, above = np.full(quantity.estimate.shape, np.nan), np.full(quantity.estimate.shape, np.nan)
        for family in np.unique(families):
            inside = (families == family) & usable
            own_tails = (tails[0][inside], tails[1][inside])
            below[inside], above[inside] = simultaneous_values(
                pivots[inside], quantity.degrees[inside], own_tails, level=level
            )
        method += f", max-t over {_sizes(families)}"
    safe = np.where(usable, error, np.nan)
    return Intervals(
        estimate=quantity.estimate,
        low=quantity.estimate - below * safe,
        high=quantity.estimate + above * safe,
        standard_error=error,
        critical_low=np.where(usable, below, np.nan),
        critical_high=np.where(usable, above, np.nan),
        n_users=np.rint(count).astype(np.int64),
        level=level,
        method=method,
    )


def _sizes(families: NDArray[np.int64]) -> str:
    return "/".join(str(size) for size in sorted(set(np.unique(families, return_counts=True)[1].tolist())))


def exponential(ratio: Floats, logarithm: Intervals) -> Intervals:
    """Intervals of ratios from those of their logarithms; the standard error stays that of the logarithm."""
    return replace(logarithm, estimate=ratio, low=np.exp(logarithm.low), high=np.exp(logarithm.high))
