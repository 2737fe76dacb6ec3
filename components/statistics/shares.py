"""Exact limits of a share: how many users of a kind there may be, when few of a sample are."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

_MOST = 50
"""Beyond so many of a kind a bootstrap knows enough, and the exact limit is no longer the tighter one."""


def share_limit(found: NDArray[np.float64], users: ArrayLike, *, tail: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest share that would show as few as `found` of `users` with probability `tail`; 1 where more than 50 are found.

    Args:
        found: Users of the kind, whole numbers.
        users: Users in the sample, same shape; 0 gives 1.
        tail: Permitted error, same shape, in (0, 1).

    Source: Clopper and Pearson (1934), The use of confidence or fiducial limits.
    """
    counts = np.broadcast_to(np.asarray(users), found.shape)
    flat = [
        _limit(round(k), round(n), float(t)) if n > 0 and k <= min(_MOST, n) else 1.0
        for k, n, t in zip(found.ravel().tolist(), counts.ravel().tolist(), tail.ravel().tolist(), strict=True)
    ]
    return np.array(flat, dtype=np.float64).reshape(found.shape)


@lru_cache(maxsize=65536)
def _limit(found: int, users: int, tail: float) -> float:
    if found == users:
        return 1.0
    if found == 0:
        return float(1.0 - tail ** (1 / users))
    low, high = found / users, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(found, users, middle) > tail else (low, middle)
    return high


def _at_most(found: int, users: int, share: float) -> float:
    """Probability of no more than `found` among `users`, each with chance `share` < 1."""
    log_odds = np.log(share) - np.log1p(-share)
    steps = np.arange(found, dtype=np.float64)
    logs = users * np.log1p(-share) + np.concatenate(
        [[0.0], np.cumsum(np.log((users - steps) / (steps + 1)) + log_odds)]
    )
    return float(np.exp(logs).sum())
