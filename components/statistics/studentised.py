"""Limits from an estimate, its standard error and their resamples: bootstrap-t, alone or simultaneous over families.

Why these limits and no others, with figures: docs/decisions/intervals.md.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from components.statistics.power import normal_critical


def critical_values(pivots: NDArray[np.float64], *, level: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Standard errors to go below and above each estimate.

    Args:
        pivots: Studentised resamples (resample - estimate) / standard error of the resample, shape (..., resamples);
            infinite where a resample has no spread of its own, NaN where it has no users.
        level: Two-sided confidence.

    Returns:
        Two arrays of shape (...), each >= 0. Skewed values make them differ: the limits of a mean of mostly zeros reach
        further up than down.
    """
    tail = (1 - level) / 2
    # A resample without users says nothing: counted on the far side of both limits, so that it can only widen.
    upper = np.where(np.isnan(pivots), np.inf, pivots)
    lower = np.where(np.isnan(pivots), -np.inf, pivots)
    below = np.quantile(upper, 1 - tail, axis=-1, method="higher")
    above = -np.quantile(lower, tail, axis=-1, method="lower")
    return np.maximum(below, 0.0), np.maximum(above, 0.0)


def family_factor(
    pivots: NDArray[np.float64],
    below: NDArray[np.float64],
    above: NDArray[np.float64],
    *,
    level: float,
) -> float:
    """By how much the limits of all members of a family must widen to hold together: max-t on limits of equal chance.

    Each pivot is measured in its own critical value on its own side, so that a small skewed group does not dictate the
    width of a large one; the level-quantile of the largest of them widens all alike. One member alone gives 1.

    Args:
        pivots: Shape (members, resamples).
        below: Critical values of the members alone, shape (members,), as `critical_values` gives them.
        above: As `below`, on the upper side.
        level: Confidence that all intervals hold.
    """
    usable = (below > 0) & (above > 0) & np.isfinite(below) & np.isfinite(above)
    if usable.sum() < 2:
        return 1.0
    chosen = pivots[usable]
    relative = np.where(chosen > 0, chosen / below[usable, None], -chosen / above[usable, None])
    largest = np.where(np.isnan(relative), np.inf, relative).max(axis=0)
    return max(float(np.quantile(largest, level, method="higher")), 1.0)


def student_critical(degrees: NDArray[np.float64], *, level: float) -> NDArray[np.float64]:
    """Standard errors on each side of a mean in Student's interval; NaN below one degree of freedom.

    Degrees are rounded down, and above 200 an expansion takes over; either agrees with exact quantiles to 1e-7.

    Source: Abramowitz and Stegun (1964), 26.7.3, 26.7.4 and 26.7.5.
    """
    flat = [math.nan if not d >= 1 else _student(min(int(d), 10**9), level) for d in np.ravel(degrees)]
    return np.array(flat, dtype=np.float64).reshape(np.shape(degrees))


@lru_cache(maxsize=4096)
def _student(degrees: int, level: float) -> float:
    z = normal_critical(level)
    if degrees > 200:
        z3, z5, z7 = z**3, z**5, z**7
        return (
            z
            + (z3 + z) / (4 * degrees)
            + (5 * z5 + 16 * z3 + 3 * z) / (96 * degrees**2)
            + (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * degrees**3)
        )
    # The share within +-t grows with the angle atan(t / sqrt(degrees)), which has both ends.
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _share_within(middle, degrees) < level else (low, middle)
    return math.tan((low + high) / 2) * math.sqrt(degrees)


def _share_within(angle: float, degrees: int) -> float:
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2 == 1
    term, total = (cosine, cosine) if odd else (1.0, 1.0)
    for step in range(2 if odd else 1, degrees - 1, 2):
        term *= cosine**2 * step / (step + 1)
        total += term
    if not odd:
        return sine * total
    return 2 / math.pi * (angle + (sine * total if degrees > 1 else 0.0))
