"""Limits from an estimate, its standard error and their resamples: bootstrap-t, alone or simultaneous over families."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


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
