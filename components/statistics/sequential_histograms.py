"""Histograms that are looked at as they fill: quantiles between bounds, and how far a distribution is from the expected one.

A quantile is asked of counts alone: it lies above a bound exactly where more than its share of values do. That needs no
density and no bound on values, and it is as fine as the histogram.

Source: Howard and Ramdas (2022), Sequential estimation of quantiles with applications to A/B testing and best-arm
identification, for independent values. For dependent ones see `quantile_limits`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from components.statistics.sequential_counts import log_excess, log_shortfall

Floats = NDArray[np.float64]


def quantile_estimate(counts: ArrayLike, bounds: Sequence[float], *, quantile: float, lowest: float = 0.0) -> float:
    """A quantile of a histogram, linear within its bucket.

    Args:
        counts: Values up to each bound, and beyond the last, shape (bounds + 1,); not cumulative.
        bounds: Ascending.
        quantile: In (0, 1).
        lowest: Smallest value there can be.

    Returns:
        NaN without values; infinity where it lies beyond the last bound.
    """
    found = np.asarray(counts, dtype=np.float64)
    total = float(found.sum())
    if total <= 0:
        return math.nan
    cumulative = np.cumsum(found)
    wanted = quantile * total
    place = int(np.searchsorted(cumulative, wanted))
    if place >= len(bounds):
        return math.inf
    low = lowest if place == 0 else float(bounds[place - 1])
    before = 0.0 if place == 0 else float(cumulative[place - 1])
    return low + (float(bounds[place]) - low) * (wanted - before) / float(found[place])


def quantile_limits(
    counts: ArrayLike,
    bounds: Sequence[float],
    *,
    quantile: float,
    alpha: float,
    design_effect: float = 1.0,
    lowest: float = 0.0,
) -> tuple[float, float]:
    """Limits of a quantile, out of the histogram's bounds, which it leaves at no look but with probability `alpha`.

    Args:
        counts: As in `quantile_estimate`.
        bounds: As in `quantile_estimate`.
        quantile: As in `quantile_estimate`.
        alpha: For both sides together.
        design_effect: How many of the values are worth one that is independent; at least 1. A likelihood ratio to the power
            1 / d is evidence still where values come in clumps of up to d alike (concavity), so counts are divided by it.
            Estimated from windows or users (`sequential_windows.Estimates.design_effect`) it holds in the limit only.
        lowest: As in `quantile_estimate`.

    Returns:
        `lowest` and infinity where nothing is excluded.

    Raises:
        ValueError: If `design_effect` is below 1.
    """
    if design_effect < 1:
        raise ValueError(f"design_effect: found {design_effect}; needed at least 1.")
    found = np.asarray(counts, dtype=np.float64) / design_effect
    total = float(found.sum())
    if total <= 0:
        return lowest, math.inf
    above = total - np.cumsum(found)[:-1]
    needed = math.log(2 / alpha)
    # More than 1 - quantile of the values lie above the bound: so does the quantile.
    higher = log_excess(above, np.full_like(above, total), share=1 - quantile) >= needed
    lower = log_shortfall(above, np.full_like(above, total), share=1 - quantile) >= needed
    low = max((float(b) for b, shown in zip(bounds, higher, strict=True) if shown), default=lowest)
    high = min((float(b) for b, shown in zip(bounds, lower, strict=True) if shown), default=math.inf)
    return low, high


def first_bound(bounds: Sequence[float], least: float) -> int | None:
    """Place of the smallest bound that is not below `least`; None where there is none."""
    return next((place for place, bound in enumerate(bounds) if bound >= least * (1 - 1e-9)), None)
