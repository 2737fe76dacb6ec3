"""Random numbers by content instead of by order: one for each (request, item), the same whatever else is drawn.

Blocks, row order and threads cannot change a draw, so they cannot change a sample or a random ranking.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from components.ranker.candidates.interactions import Floats, Ids

_STEP = np.uint64(0x9E3779B97F4A7C15)


def draw(requests: NDArray[np.integer], items: NDArray[np.integer], *, seed: int) -> Floats:
    """Uniform on [0, 1), shape of `requests`.

    Source: splitmix64 (Steele, Lea and Flood 2014), each part of the key mixed in turn.
    """
    with np.errstate(over="ignore"):
        state = np.full(len(items), seed, dtype=np.int64).astype(np.uint64) + _STEP
        for part in (requests, items):
            state = _mix((state ^ part.astype(np.int64).astype(np.uint64)) + _STEP)
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-53


def sample(numbers: Ids, *, share: float, seed: int) -> Ids:
    """About `share` of some requests; all of them from 1 on."""
    return numbers[draw(numbers, np.zeros(len(numbers), np.int32), seed=seed) < share]


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
