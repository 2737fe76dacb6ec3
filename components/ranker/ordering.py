"""The one order of a ranked list: score descending, then popularity descending, then item ascending.

It is total, so a list is never left to a sort's whim, offline and online give the same list, and no metric has to average
over ties.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from components.ranker.candidates.interactions import Ids, Ints


def order_within(
    groups: NDArray[np.integer], scores: NDArray[np.floating], popularity: NDArray[np.number], items: Ids
) -> Ints:
    """Row indices ordered by group ascending and, within a group, by the one order; all arguments of shape (rows,)."""
    return np.lexsort((items, -popularity, -scores, groups))


def ranks_within(sorted_groups: NDArray[np.integer]) -> Ids:
    """1-based rank of each row within its run of equal groups."""
    if not len(sorted_groups):
        return np.empty(0, dtype=np.int32)
    starts = np.flatnonzero(np.concatenate([[True], sorted_groups[1:] != sorted_groups[:-1]]))
    sizes = np.diff(np.append(starts, len(sorted_groups)))
    return (np.arange(len(sorted_groups)) - np.repeat(starts, sizes) + 1).astype(np.int32)
