"""From scores to probabilities: a monotone map, fitted on validation, kept as plain knots.

LambdaMART's scores only order a request; what a score says about the chance of a positive outcome is learned afterwards,
by isotonic regression (pool adjacent violators). Being monotone, it never changes an order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.errors import InputError
from components.ranker.candidates.interactions import Bools, Floats

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Calibration:
    """Knots of a monotone piecewise-linear map; flat outside them."""

    schema_version: int
    scores: tuple[float, ...]
    """Strictly ascending."""
    probabilities: tuple[float, ...]
    """Not descending, each in [0, 1]."""
    rows: int
    """Validation rows it was fitted on."""
    positives: int

    def __post_init__(self) -> None:
        """Refuses a map that is not one: it may have been read from a file."""
        scores, chances = np.array(self.scores), np.array(self.probabilities)
        if len(scores) != len(chances) or not len(scores):
            raise InputError(
                f"calibration: found {len(scores)} scores and {len(chances)} probabilities; needed as many, at least one."
            )
        if (np.diff(scores) <= 0).any() or (np.diff(chances) < 0).any() or chances[0] < 0 or chances[-1] > 1:
            raise InputError(
                "calibration: needed ascending scores and probabilities that never descend, within [0, 1]."
            )

    def probability(self, scores: NDArray[np.floating]) -> Floats:
        """Probability of a positive outcome for each score, same shape, in [0, 1]."""
        chances: Floats = np.interp(scores, self.scores, self.probabilities)
        return chances


def fit_calibration(scores: NDArray[np.floating], positives: Bools) -> Calibration:
    """Isotonic regression of `positives` on `scores`, both of shape (rows,), at least one row.

    Each pool becomes two knots, its lowest and its highest score, as scikit-learn's `IsotonicRegression` interpolates.
    """
    if not len(scores):
        raise InputError("calibration: no validation rows; needed at least one. Lengthen split.validation.")
    levels, place = np.unique(scores.astype(np.float64), return_inverse=True)
    weights = np.bincount(place).astype(np.float64)
    means = np.bincount(place, weights=positives) / weights
    starts, values = _pool_adjacent_violators(means, weights)
    ends = np.append(starts[1:], len(levels)) - 1
    knots = np.unique(np.concatenate([starts, ends]))
    pools = np.searchsorted(starts, knots, side="right") - 1
    return Calibration(
        SCHEMA_VERSION,
        tuple(levels[knots].tolist()),
        tuple(values[pools].tolist()),
        rows=len(scores),
        positives=int(positives.sum()),
    )


def _pool_adjacent_violators(means: Floats, weights: Floats) -> tuple[NDArray[np.int64], Floats]:
    """First index and value of each pool of the weighted least-squares monotone fit, values strictly ascending."""
    starts: list[int] = []
    sums: list[float] = []
    sizes: list[float] = []
    for index, (mean, weight) in enumerate(zip(means.tolist(), weights.tolist(), strict=True)):
        start, total, size = index, mean * weight, weight
        while starts and sums[-1] * size >= total * sizes[-1]:
            start, total, size = starts.pop(), total + sums.pop(), size + sizes.pop()
        starts.append(start)
        sums.append(total)
        sizes.append(size)
    return np.array(starts, dtype=np.int64), np.array(sums) / np.array(sizes)
