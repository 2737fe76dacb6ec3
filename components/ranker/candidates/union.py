"""The union of several sources' best items, each with a quota.

Scores of different sources do not compare (a cosine, a count, a product), so none is mixed with another: each source
names its best `quota` items and the model decides among all that were named.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from components.ranker.candidates.interactions import Bools


def best_of_rows(scores: NDArray[np.floating], *, quota: int) -> Bools:
    """Marks the `quota` highest scores of each row, shape as `scores`; at equal scores the earlier column wins.

    -inf is never marked, so a row may have fewer. Linear in the row's length: a sort of a whole catalogue for each user
    would be the dearest part of retrieval.
    """
    columns = scores.shape[1]
    possible: Bools = scores > -np.inf
    if quota >= columns:
        return possible
    if quota == 0:
        return np.zeros(scores.shape, dtype=bool)
    least = np.partition(scores, columns - quota, axis=1)[:, columns - quota, None]
    above = scores > least
    level = scores == least
    room = quota - above.sum(axis=1, keepdims=True)
    best: Bools = (above | (level & (level.cumsum(axis=1) <= room))) & possible
    return best


def union_of_sources(sources: list[tuple[NDArray[np.floating], int]], allowed: Bools) -> Bools:
    """Marks what at least one source names, shape (users, items).

    Args:
        sources: Scores of shape (users, items) or (items,), each with its quota. Scores <= 0 name nothing.
        allowed: Shape (users, items); what may be shown to whom.
    """
    named = np.zeros(allowed.shape, dtype=bool)
    for scores, quota in sources:
        usable = np.where(allowed & (scores > 0), scores, -np.inf)
        named |= best_of_rows(usable, quota=quota)
    return named
