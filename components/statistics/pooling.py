"""What can still be said of small groups: together, or leaning on the others. Always beside their own figures, never instead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Shrunk:
    """Estimates of groups pulled towards their common mean, by how little each knows; shape (groups,)."""

    estimate: Floats
    standard_error: Floats
    common: float
    """Precision-weighted mean of the groups."""
    spread: float
    """Estimated standard deviation of the true values between groups; 0 where chance explains all differences."""


def shrink(estimates: Floats, standard_errors: Floats) -> Shrunk:
    """Best guesses of each group's true value, given that groups of one population are related.

    Closer to the truth than the groups' own means on average, and biased towards the common mean: a guess for reading and
    ordering groups, not for deciding, because a harmed small group is pulled towards the unharmed.

    Args:
        estimates: Shape (groups,); NaN stays NaN and does not count.
        standard_errors: Shape (groups,). A group without a positive one (a single user, all users alike) has no known
            weight: it gets the common mean and the spread between groups.

    Raises:
        ValueError: If the shapes differ or are not one-dimensional.

    Source: DerSimonian and Laird (1986) for the spread; Efron and Morris (1975) for the pull.
    """
    if estimates.ndim != 1 or estimates.shape != standard_errors.shape:
        raise ValueError(
            f"estimates and standard errors: found shapes {estimates.shape} and {standard_errors.shape}; needed (groups,)."
        )
    known = np.isfinite(estimates) & (standard_errors > 0)
    if not known.any():
        nothing = np.full(estimates.shape, np.nan)
        return Shrunk(nothing, nothing.copy(), float("nan"), float("nan"))
    y, variance = estimates[known], standard_errors[known] ** 2
    weight = 1 / variance
    mean = np.sum(weight * y) / weight.sum()
    excess = np.sum(weight * (y - mean) ** 2) - (y.size - 1)
    scale = weight.sum() - np.sum(weight**2) / weight.sum()
    between = max(float(excess / scale), 0.0) if scale > 0 else 0.0
    weight = 1 / (variance + between)
    common = float(np.sum(weight * y) / weight.sum())
    own = between * weight
    estimate = np.where(np.isfinite(estimates), common, np.nan)
    error = np.where(np.isfinite(estimates), np.sqrt(between), np.nan)
    estimate[known] = own * y + (1 - own) * common
    # The common mean is itself uncertain: its part keeps a group that is pulled all the way from claiming certainty.
    error[known] = np.sqrt(own * variance + (1 - own) ** 2 / weight.sum())
    return Shrunk(estimate, error, common, float(np.sqrt(between)))


def pool_small(groups: NDArray[np.bool_], *, smallest: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which groups have fewer than `smallest` users, shape (groups,), and everyone in any of those, shape (users,).

    A harm to many small groups can be shown on all of them together where it cannot on any.

    Args:
        groups: Shape (groups, users).
        smallest: Users from which a group stands alone, at least 1.

    Raises:
        ValueError: If `groups` is no table of bool, or `smallest` is below 1.
    """
    if groups.ndim != 2 or groups.dtype != np.bool_:
        raise ValueError(f"groups: found {groups.dtype} of shape {groups.shape}; needed bool of shape (groups, users).")
    if smallest < 1:
        raise ValueError(f"smallest: found {smallest}; needed at least 1.")
    small: NDArray[np.bool_] = groups.sum(axis=1) < smallest
    together = np.asarray(groups[small].any(axis=0), dtype=np.bool_)
    return small, together
