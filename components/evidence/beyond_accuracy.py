"""What accuracy does not say about lists: how varied, how new, how popular, how changed. Arrays in, arrays out.

Lists enter as item tables of shape (requests, k), -1 past the end of a list. A request whose list is too short to be
asked gives NaN.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from components.evidence.ranking_metrics import discounts

Floats = NDArray[np.float64]
Items = NDArray[np.int32]

_BLOCK = 4096


def catalogue_coverage(items: Items, eligible: NDArray[np.bool_]) -> float:
    """Share of eligible items that at least one list shows; NaN where none is eligible."""
    shown = np.zeros(eligible.size, dtype=bool)
    shown[items[items >= 0]] = True
    return float((shown & eligible).sum() / eligible.sum()) if eligible.any() else float("nan")


def category_diversity(items: Items, category: NDArray[np.integer]) -> Floats:
    """Share of the pairs in each list whose categories differ, shape (requests,); NaN for lists of one.

    Args:
        items: Lists.
        category: Code of each item's category, by item; items without one share a code of their own.
    """
    codes = np.where(items >= 0, category[items], -1).T
    shown = items.T >= 0
    different, pairs = np.zeros(items.shape[0]), np.zeros(items.shape[0])
    for first, second in combinations(range(items.shape[1]), 2):
        both = shown[first] & shown[second]
        pairs += both
        different += both & (codes[first] != codes[second])
    return _divided(different, pairs)


def novelty(items: Items, popularity: Floats) -> Floats:
    """Mean self-information of each list in bits, shape (requests,): -log2 of an item's share of all outcomes.

    One outcome is added to every item, so that one nobody has taken yet is very new, not infinitely so.

    Source: Vargas and Castells (2011), Rank and relevance in novelty and diversity metrics.
    """
    information = -np.log2((popularity + 1) / (popularity + 1).sum())
    return _mean(information, items)


def mean_popularity(items: Items, popularity: Floats) -> Floats:
    """Mean number of earlier outcomes of the items in each list, shape (requests,)."""
    return _mean(popularity, items)


def popular_items(popularity: Floats, eligible: NDArray[np.bool_], *, share: float = 0.1) -> NDArray[np.bool_]:
    """The most popular `share` of the eligible items, rounded up; ties go to the smaller item index."""
    order = np.lexsort((np.arange(popularity.size), -popularity, ~eligible))
    chosen = np.zeros(popularity.size, dtype=bool)
    chosen[order[: int(np.ceil(share * eligible.sum()))]] = True
    return chosen


def exposure_share(items: Items, chosen: NDArray[np.bool_]) -> Floats:
    """Share of each list's exposure that chosen items get, shape (requests,); a rank's exposure is 1 / log2(1 + rank)."""
    weight = np.where(items >= 0, discounts(items.shape[1]), 0.0)
    return _divided((weight * (chosen[items] & (items >= 0))).sum(axis=1), weight.sum(axis=1))


def overlap(items: Items, others: Items) -> Floats:
    """Share of each list that is also in the other's, shape (requests,); of the longer of the two lists."""
    common = np.empty(items.shape[0])
    for start in range(0, items.shape[0], _BLOCK):
        rows = slice(start, start + _BLOCK)
        same = (items[rows, :, None] == others[rows, None, :]) & (items[rows, :, None] >= 0)
        common[rows] = same.sum(axis=(1, 2))
    return _divided(common, np.maximum((items >= 0).sum(axis=1), (others >= 0).sum(axis=1)))


def _mean(value: Floats, items: Items) -> Floats:
    shown = items >= 0
    return _divided(np.where(shown, value[items], 0.0).sum(axis=1), shown.sum(axis=1))


def _divided(above: NDArray[np.floating], under: NDArray[np.floating] | NDArray[np.integer]) -> Floats:
    result: Floats = np.full(above.shape, np.nan)
    np.divide(above, under, out=result, where=under > 0)
    return result
