"""The total size of many gaps, such as the calibration error over score bins: never negative, so biased upward."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.statistics.power import normal_critical
from components.statistics.studentised import student_critical
from components.statistics.sums import group_sums, resampled_sums

_SHOWN = 3.0
"""Standard deviations from where on a gap is taken for one."""
_FAR = 12.0
_STEPS = 40


@dataclass(frozen=True, slots=True)
class SummedGap:
    """Sum over parts of |gap|, with what noise alone would make of it. All NaN where there are no rows."""

    value: float
    low: float
    high: float
    noise: float
    """What the sum would be, on average, for true gaps of zero and the same users: part of `value` whatever is true."""
    reduced: float
    """`value` less what noise adds to it: each part's |gap| made the true one that shows so on average, or zero."""
    standard_error: float
    n_users: int


def summed_gap(
    gaps: NDArray[np.float64], sizes: NDArray[np.float64], *, resamples: int = 1000, seed: int, level: float = 0.95
) -> SummedGap:
    """Sum over parts of |sum of users' gaps| / rows, with an interval that allows for the bias of absolute values.

    A percentile interval would lie too high, because a resample adds its noise to that of the sample, and how much noise
    adds depends on the true gaps: all of it where a gap is zero, none where it is large. Each limit therefore supposes
    what is worst for it. The lower: every gap that is not shown beyond three standard deviations is zero, so that noise
    makes all of it. The upper: the true gaps are spread evenly over the parts, so that noise hides as much of them as it
    can (for a given sum the mean of folded normals is least there, being convex); the largest such sum is told that would
    show no more than what was found with probability (1 - level) / 2. Near a true sum of zero only the lower limit can
    miss, and the interval covers more than its level.

    Args:
        gaps: Sum over each user's rows in each part of (observed - predicted), shape (users, parts).
        sizes: Rows of each user in all parts together, shape (users,).
        resamples: Number of resamples.
        seed: As in `user_bootstrap`.
        level: Confidence of [low, high].

    Raises:
        ValueError: If shapes do not fit or a number is not finite.
    """
    if gaps.ndim != 2 or sizes.shape != gaps.shape[:1]:
        raise ValueError(
            f"gaps and sizes: found shapes {gaps.shape} and {sizes.shape}; needed (users, parts) and (users,)."
        )
    if not (np.isfinite(gaps).all() and np.isfinite(sizes).all()):
        raise ValueError("gaps and sizes: found NaN or infinity; needed finite numbers.")
    users = int((sizes > 0).sum())
    rows = float(sizes.sum())
    if not rows > 0:
        return SummedGap(math.nan, math.nan, math.nan, math.nan, math.nan, math.nan, n_users=0)
    everyone = [np.arange(sizes.size)]
    terms = np.hstack([gaps, sizes[:, None]])
    exact = group_sums(terms, everyone)[0]
    drawn = resampled_sums(terms, everyone, resamples=resamples, seed=seed)[0]
    found = exact[:-1] / exact[-1]
    value = float(np.abs(found).sum())
    if users < 2:
        return SummedGap(value, math.nan, math.nan, math.nan, math.nan, math.nan, n_users=users)
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.nan_to_num(drawn[:-1] / drawn[-1] - found[:, None])
    # Poisson resamples of n users spread like the population's: (n - 1) / n too little.
    errors *= math.sqrt(users / (users - 1))
    few = float(student_critical(np.array([users - 1.0]), level=level)[0]) / normal_critical(level)
    errors *= few
    deviation = np.sqrt((errors**2).mean(axis=1))
    shown = np.where(np.abs(found) > _SHOWN * deviation, found, 0.0)
    excess = np.abs(shown[:, None] + errors).sum(axis=0) - np.abs(shown).sum()
    return SummedGap(
        value=value,
        low=max(value - float(np.quantile(excess, (1 + level) / 2, method="higher")), 0.0),
        high=_largest(value, found, errors, deviation, tail=(1 - level) / 2),
        noise=float(np.abs(errors).sum(axis=0).mean()),
        reduced=sum(_unfolded(abs(float(gap)), float(error)) for gap, error in zip(found, deviation, strict=True)),
        standard_error=float(np.abs(found[:, None] + errors).sum(axis=0).std(ddof=1)),
        n_users=users,
    )


def _largest(
    value: float,
    found: NDArray[np.float64],
    errors: NDArray[np.float64],
    deviation: NDArray[np.float64],
    *,
    tail: float,
) -> float:
    """The largest sum of true gaps, evenly spread in their own errors, that shows at most `value` with chance `tail`."""
    total = float(deviation.sum())
    if not total > 0:
        return value
    direction = np.where(found < 0, -deviation, deviation)[:, None]
    low, high = 0.0, value / total + _FAR
    for _ in range(_STEPS):
        middle = (low + high) / 2
        seldom = float((np.abs(middle * direction + errors).sum(axis=0) <= value).mean()) <= tail
        low, high = (low, middle) if seldom else (middle, high)
    return max(high * total, value)


def _unfolded(shown: float, error: float) -> float:
    """The true size whose noisy absolute value is `shown` on average (mean of a folded normal, Leone et al., 1961)."""
    if not error > 0 or shown > 6 * error:
        return shown
    low, high = 0.0, shown
    for _ in range(50):
        middle = (low + high) / 2
        standardised = middle / error
        folded = error * math.sqrt(2 / math.pi) * math.exp(-(standardised**2) / 2)
        folded += middle * math.erf(standardised / math.sqrt(2))
        low, high = (middle, high) if folded < shown else (low, middle)
    return low
