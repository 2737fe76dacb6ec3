"""Betting against a bounded mean: exact at any sample size, for what cannot wait for a variance.

    capital of a bettor who stakes a share of it on "the next value is above the bound": grows only if values are

What is bounded and has a mean of at most the bound, given all that was before, gives no bettor a profit that can be expected;
so the chance that the capital ever multiplies by 1 / alpha is at most alpha (Ville 1939). Nothing else is assumed: neither
independence within a window, nor equal variances, nor numbers large enough. A canary that answers nothing but errors is shown
within some ten windows; small differences are for `sequential_windows`, which is sharper once it knows a variance.

Sources: Waudby-Smith and Ramdas (2024), Estimating means of bounded random variables by betting; Shafer (2021), Testing by
betting.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

Floats = NDArray[np.float64]

STAKES = (0.95, 0.5, 0.2, 0.05, 0.01)
"""Shares of the most that can be staked; each keeps its own purse."""
_PURSES = np.log([0.4, 0.2, 0.2, 0.1, 0.1])
"""Logarithms of what each begins with; together 1."""


def wagers(values: ArrayLike, *, bound: float, lowest: float) -> Floats:
    """Logarithm of what each purse is multiplied by in each window, shape (windows, stakes).

    Args:
        values: Shape (windows,), each at least `lowest`; NaN is a window in which nothing is staked.
        bound: The mean that is betted against: "at most the bound".
        lowest: Smallest value there can be, below the bound.

    Raises:
        ValueError: If a value is below `lowest`, or `lowest` is not below the bound.
    """
    x = np.asarray(values, dtype=np.float64)
    if not lowest < bound:
        raise ValueError(f"lowest: found {lowest}; needed less than the bound {bound}.")
    if np.any(x < lowest - 1e-9):
        raise ValueError(f"values: found {np.nanmin(x)}; needed at least {lowest}.")
    most = 1 / (bound - lowest)
    excess = np.where(np.isnan(x), 0.0, x - bound)
    return np.log1p(np.multiply.outer(excess, np.array(STAKES) * most))


def capital(log_purses: ArrayLike) -> Floats:
    """Logarithm of all purses together.

    Args:
        log_purses: Sum of `wagers` so far, shape (..., stakes); zeros before the first.

    Returns:
        Shape (...,). "At most the bound" is refuted at level alpha where it reaches log(1 / alpha).
    """
    return np.asarray(logsumexp(np.asarray(log_purses, dtype=np.float64) + _PURSES, axis=-1))


def mean_limits(values: ArrayLike, *, lowest: float, highest: float, alpha: float) -> tuple[float, float]:
    """Limits of a mean of bounded values that hold at every look, by betting against each candidate.

    Args:
        values: Shape (windows,), in the order in which they came.
        lowest: Smallest value there can be.
        highest: Largest.
        alpha: Chance, on each side, that the mean is ever beyond the limit.

    Returns:
        The limits after the last value; `lowest` and `highest` where nothing is excluded.
    """
    x = np.asarray(values, dtype=np.float64)

    def limit(values: Floats, low: float, high: float) -> float:
        needed = math.log(1 / alpha)
        edge = low + 1e-9 * (high - low)
        if float(capital(wagers(values, bound=edge, lowest=low).sum(axis=0))) < needed:
            return low
        under, over = edge, high
        for _ in range(50):
            middle = (under + over) / 2
            refuted = float(capital(wagers(values, bound=middle, lowest=low).sum(axis=0))) >= needed
            under, over = (middle, over) if refuted else (under, middle)
        return under

    return limit(x, lowest, highest), -limit(-x, -highest, -lowest)
