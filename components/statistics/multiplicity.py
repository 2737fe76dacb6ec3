"""Corrections for having looked at many things: adjusted p-values, comparable with the level itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjusted p-values that control the chance of any false finding, under any dependence.

    Args:
        p_values: Shape (tests,), in [0, 1]. NaN marks a test that could not be made: it stays NaN and still counts as
            looked at, so that a broken test never makes the others look better.

    Returns:
        Shape (tests,), in [0, 1]; at least the given p-values.

    Raises:
        ValueError: If a p-value is outside [0, 1] or the shape is not one-dimensional.

    Source: Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    p = _checked(p_values)
    order = np.argsort(p, kind="stable")  # NaN last
    factors = p.size - np.arange(p.size)
    adjusted = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return _restored(adjusted, order, p)


def benjamini_hochberg(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjusted p-values that control the expected share of false findings among the findings: for exploring, not blocking.

    Args:
        p_values: As in `holm`.

    Returns:
        Shape (tests,), in [0, 1]; at least the given p-values, at most Holm's.

    Raises:
        ValueError: As in `holm`.

    Source: Benjamini and Hochberg (1995), Controlling the false discovery rate.
    """
    p = _checked(p_values)
    order = np.argsort(p, kind="stable")
    ranked = np.where(np.isnan(p[order]), np.inf, p[order]) * p.size / (np.arange(p.size) + 1.0)
    adjusted = np.minimum(np.minimum.accumulate(ranked[::-1])[::-1], 1.0)
    return _restored(adjusted, order, p)


def _checked(p_values: ArrayLike) -> NDArray[np.float64]:
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1:
        raise ValueError(f"p-values: found shape {p.shape}; needed one dimension.")
    if np.any((p < 0) | (p > 1)):
        raise ValueError(f"p-values: found values from {np.nanmin(p)} to {np.nanmax(p)}; needed all in [0, 1].")
    return p


def _restored(adjusted: NDArray[np.float64], order: NDArray[np.intp], p: NDArray[np.float64]) -> NDArray[np.float64]:
    result = np.empty_like(p)
    result[order] = adjusted
    result[np.isnan(p)] = np.nan
    return result
