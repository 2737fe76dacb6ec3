"""The union of several sources' best items, each with a quota.

Scores of different sources do not compare (a cosine, a count, a product), so none is mixed with another: each source
names its best `quota` items and the model decides among all that were named.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from components.ranker.candidates.interactions import Bools, Ints


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
    best: Bools = (scores >= least) & possible
    # Only where several share the lowest score that is in do more than `quota` come out: there the earlier columns stay.
    crowded = np.flatnonzero(best.sum(axis=1) > quota)
    if len(crowded):
        level = scores[crowded] == least[crowded]
        above = best[crowded] & ~level
        room = quota - above.sum(axis=1, keepdims=True)
        best[crowded] = above | (level & (level.cumsum(axis=1) <= room))
    return best


def best_of_one_order(places: Ints, allowed: Bools, *, quota: int) -> Bools:
    """Marks in each row the `quota` first allowed columns of one order, shape as `allowed`.

    A source that has the same scores for everyone needs no look at every column: as many places as it takes to find enough
    that are allowed.

    Args:
        places: Columns in their order, best first; those that are not among them are never marked.
        allowed: Shape (rows, columns).
        quota: Most columns to mark in a row.
    """
    best = np.zeros(allowed.shape, dtype=np.bool_)
    length = min(2 * quota, len(places))
    while length:
        open_ = allowed[:, places[:length]]
        found = open_.cumsum(axis=1)
        if length == len(places) or (found[:, -1] >= quota).all():
            best[:, places[:length]] = open_ & (found <= quota)
            break
        length = min(2 * length, len(places))
    return best


Flags = NDArray[np.uint8]
"""One bit a source, the first source's lowest: 0 is an item that no source names."""


def union_of_sources(
    sources: list[tuple[NDArray[np.floating], int]], orders: list[tuple[Ints, int]], allowed: Bools
) -> Flags:
    """Which sources name what, shape (users, items); `sources` come before `orders`, at most 8 together.

    Args:
        sources: Scores of shape (users, items), each with its quota. Scores <= 0 name nothing.
        orders: Items, best first, of sources that say the same to everyone, each with its quota.
        allowed: Shape (users, items); what may be shown to whom.
    """
    named: Flags = np.zeros(allowed.shape, dtype=np.uint8)
    for place, (scores, quota) in enumerate(sources):
        usable = np.where(allowed & (scores > 0), scores, -np.inf)
        named |= best_of_rows(usable, quota=quota).view(np.uint8) << np.uint8(place)
    # What may be shown is most often the same for all, and its rows are then one row in memory.
    rows = allowed[:1] if allowed.strides[0] == 0 else allowed
    for place, (places, quota) in enumerate(orders, start=len(sources)):
        named |= best_of_one_order(places, rows, quota=quota).view(np.uint8) << np.uint8(place)
    return named
