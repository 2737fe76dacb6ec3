"""What is done to scored lists before they are shown, offline and online alike: one kernel for one list or many.

Left out: what comes twice in a list, and what the caller does not allow (seen before, blocked, excluded by an attribute).
Then the first `window` ranks are filled one by one. At each, the candidates are the items that would exceed no cap; without
diversity the best score is shown, with it the best of

    (1 - strength) * relevance - strength * likeness to the most alike item above

over the first `pool` items, relevance being the score from 0 (last of the pool) to 1 (first). An item that is not shown
within the window is not lost: it follows in the scores' order, and so fills the window where nothing else can.

Source: Carbonell and Goldstein (1998), "The use of MMR, diversity-based reranking for reordering documents and producing
summaries". docs/decisions/0030-reranking.md says why not another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.ranker.candidates.interactions import Bools, Floats, Ids, Ints
from components.ranker.contract import Diversity, RerankRules

_CELLS = 1 << 20
"""Lists x longest list worked on at once: 8 MB an array."""


@dataclass(frozen=True, slots=True)
class ItemParts:
    """What re-ranking must know of items: one entry an item (`of`), or one a row (`take`)."""

    categories: Ids
    """-1 = unknown: never capped, like nothing."""
    providers: Ids
    prices: Floats
    """Place in the catalogue's prices from 0 (cheapest) to 1, ties in the middle; NaN = unknown."""

    @classmethod
    def of(cls, items: pa.Table, *, category: str, provider: str, price: str) -> ItemParts:
        """Parts of each item; an attribute that there is not is unknown everywhere."""
        return cls(_codes(items, category), _codes(items, provider), _places(items, price))

    def rows(self, rows: Ints) -> ItemParts:
        """Some entries."""
        return ItemParts(self.categories[rows], self.providers[rows], self.prices[rows])

    def take(self, items: Ids) -> ItemParts:
        """Parts of some items; -1 is an item nobody knows."""
        known = items >= 0
        if known.all():
            return self.rows(items.astype(np.int64))
        held = self.rows(np.where(known, items, 0))
        return ItemParts(
            np.where(known, held.categories, -1),
            np.where(known, held.providers, -1),
            np.where(known, held.prices, np.nan),
        )


def _codes(items: pa.Table, attribute: str) -> Ids:
    if not attribute:
        return np.full(items.num_rows, -1, dtype=np.int32)
    encoded = items[attribute].combine_chunks().dictionary_encode()
    codes: Ids = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
    return codes


def _places(items: pa.Table, attribute: str) -> Floats:
    if not attribute:
        return np.full(items.num_rows, np.nan)
    prices = items[attribute].cast(pa.float64()).to_numpy(zero_copy_only=False)
    known = np.sort(prices[~np.isnan(prices)])
    below, upto = np.searchsorted(known, prices, side="left"), np.searchsorted(known, prices, side="right")
    return np.where(np.isnan(prices), np.nan, (below + upto) / max(2 * len(known), 1))


def reorders(rules: RerankRules) -> bool:
    """True where an order may differ from the scores' order."""
    return rules.max_per_category > 0 or rules.max_per_provider > 0 or rules.diversity is not None


def rerank(
    lists: NDArray[np.integer],
    items: Ids,
    scores: NDArray[np.floating],
    *,
    parts: ItemParts,
    allowed: Bools,
    rules: RerankRules,
) -> Ints:
    """Rows to show, list by list, each in its order.

    Args:
        lists: List of each row, shape (rows,), ascending; within one, best first.
        items: Shape (rows,); -1 is an item nobody knows, which is never taken for another.
        scores: Shape (rows,), not ascending within a list.
        parts: Of the rows' items, shape (rows,) each.
        allowed: What may be shown, shape (rows,).
        rules: The rules; `allowed` already says what eligibility rules say.
    """
    kept = np.flatnonzero(allowed)
    kept = kept[~_repeated(lists[kept], items[kept])]
    if not reorders(rules) or rules.window == 0:
        return kept
    if len(kept) and lists[kept[0]] == lists[kept[-1]] and rules.diversity is None:
        return kept[_capped(parts.rows(kept), rules)]
    order = [np.empty(0, np.int64)]
    for rows, width in _blocks(lists[kept]):
        order.append(kept[rows][_windowed(lists[kept[rows]], width, scores[kept[rows]], parts, kept[rows], rules)])
    return np.concatenate(order)


def _capped(parts: ItemParts, rules: RerankRules) -> Ints:
    """Order of one list under caps alone, shape (rows,): what `_windowed` gives, found in one walk.

    Counts only grow, so what is held back once stays so until the window is full. A service asks for one list at a time, and
    ten steps of a dozen array operations each are most of what its rules cost then.
    """
    caps = [
        (values.tolist(), limit, Counter[int]())
        for values, limit in ((parts.categories, rules.max_per_category), (parts.providers, rules.max_per_provider))
        if limit > 0
    ]
    shown: list[int] = []
    for row in range(len(parts.categories)):
        if len(shown) == rules.window:
            break
        if all(counts[values[row]] < limit for values, limit, counts in caps):
            shown.append(row)
            for values, _, counts in caps:
                # Unknown is never capped.
                counts[values[row]] += values[row] != -1
    window = np.array(shown, dtype=np.int64)
    after = np.ones(len(parts.categories), dtype=np.bool_)
    after[window] = False
    return np.concatenate([window, np.flatnonzero(after)])


def _repeated(lists: NDArray[np.integer], items: Ids) -> Bools:
    """Rows whose item stands in the same list before."""
    if len(items) and lists[0] == lists[-1]:
        # A service's one list, which as a rule has nothing twice: a plain sort tells.
        held = np.sort(items)
        if not ((held[1:] == held[:-1]) & (held[1:] >= 0)).any():
            return np.zeros(len(items), dtype=np.bool_)
    order = np.lexsort((items, lists))
    same = (lists[order][1:] == lists[order][:-1]) & (items[order][1:] == items[order][:-1]) & (items[order][1:] >= 0)
    repeated = np.zeros(len(items), dtype=np.bool_)
    repeated[order[1:]] = same
    return repeated


def _blocks(lists: NDArray[np.integer]) -> Iterator[tuple[slice, int]]:
    """Runs of whole lists that fit into `_CELLS`, and the longest list of each."""
    starts = np.flatnonzero(np.concatenate([[True], lists[1:] != lists[:-1]])) if len(lists) else np.empty(0, np.int64)
    ends = np.append(starts[1:], len(lists))
    first = 0
    while first < len(starts):
        longest = np.maximum.accumulate(ends[first:] - starts[first:])
        cells = longest * np.arange(1, len(longest) + 1)
        many = max(1, int(np.searchsorted(cells, _CELLS, side="right")))
        yield slice(int(starts[first]), int(ends[first + many - 1])), int(longest[many - 1])
        first += many


def _windowed(
    lists: NDArray[np.integer],
    width: int,
    scores: NDArray[np.floating],
    parts: ItemParts,
    rows: Ints,
    rules: RerankRules,
) -> Ints:
    """Order of whole lists' rows once their windows are filled, shape of `lists`."""
    changes = np.concatenate([[True], lists[1:] != lists[:-1]])
    row = np.cumsum(changes) - 1
    starts = np.flatnonzero(changes)
    column = np.arange(len(lists)) - starts[row]
    shape = (len(starts), width)

    def padded(values: NDArray[np.generic], fill: float) -> NDArray[np.generic]:
        table = np.full(shape, fill, dtype=values.dtype)
        table[row, column] = values
        return table

    there = np.zeros(shape, dtype=np.bool_)
    there[row, column] = True
    window = _Window(
        there,
        padded(parts.categories[rows], -1),
        padded(parts.providers[rows], -1),
        padded(parts.prices[rows], np.nan),
        _relevance(padded(scores, 0.0).astype(np.float64), there, rules.diversity),
    )
    step = window.fill(rules)
    # What was not shown within the window follows it in the scores' order.
    shown = step >= 0
    after = np.cumsum(there & ~shown, axis=1) - 1 + shown.sum(axis=1, keepdims=True)
    place = np.where(shown, step, after)
    order = np.empty(len(lists), dtype=np.int64)
    order[starts[row] + place[row, column]] = np.arange(len(lists))
    return order


def _relevance(scores: Floats, there: Bools, diversity: Diversity | None) -> Floats:
    """What an item is worth by itself, shape of `scores`: never ascending along a list."""
    lists, width = scores.shape
    # Whole steps below everything in the pool, so that likeness, which is at most 1, cannot reorder what lies behind.
    behind = -2.0 - np.arange(width, dtype=np.float64)
    if diversity is None:
        return np.broadcast_to(behind, scores.shape)
    size = np.minimum(there.sum(axis=1), diversity.pool)
    first, last = scores[:, 0], scores[np.arange(lists), np.maximum(size - 1, 0)]
    span = first - last
    scaled = np.divide(scores - last[:, None], span[:, None], out=np.ones_like(scores), where=(span > 0)[:, None])
    return np.where(np.arange(width) < size[:, None], (1.0 - diversity.strength) * scaled, behind)


@dataclass(slots=True)
class _Window:
    """Lists side by side, shape (lists, width) each, while their windows are filled."""

    there: Bools
    categories: NDArray[np.generic]
    providers: NDArray[np.generic]
    prices: NDArray[np.generic]
    relevance: Floats

    def fill(self, rules: RerankRules) -> Ints:
        """The 0-based rank within the window of each item, -1 for what is not shown in it."""
        lists = np.arange(len(self.there))
        step = np.full(self.there.shape, -1, dtype=np.int64)
        caps = [
            (values, limit, np.zeros(self.there.shape, dtype=np.int32))
            for values, limit in (
                (self.categories, rules.max_per_category),
                (self.providers, rules.max_per_provider),
            )
            if limit > 0
        ]
        diversity = rules.diversity
        # -inf is what cannot be shown any more: not there, shown already, or held back by a cap.
        value = np.where(self.there, self.relevance, -np.inf)
        alike = np.zeros(self.there.shape)
        pool = self.relevance >= -1.0
        for rank in range(min(rules.window, self.there.shape[1])):
            worth = value if diversity is None else value - diversity.strength * alike
            chosen = np.argmax(worth, axis=1)
            found = value[lists, chosen] > -np.inf
            if not found.any():
                break
            step[lists[found], chosen[found]] = rank
            value[lists, chosen] = -np.inf
            for values, limit, counts in caps:
                np.add(counts, self._same(values, chosen), out=counts)
                # Counts only grow, so what is held back stays so until the window is full.
                value[counts >= limit] = -np.inf
            if diversity is not None:
                np.maximum(alike, self._likeness(chosen, diversity) * pool, out=alike)
        return step

    def _same(self, values: NDArray[np.generic], chosen: Ints) -> Bools:
        picked = values[np.arange(len(values)), chosen][:, None]
        same: Bools = (values == picked) & (picked != -1)
        return same

    def _likeness(self, chosen: Ints, diversity: Diversity) -> Floats:
        """How like the chosen item of its list each item is, in [0, 1]."""
        like = np.zeros(self.there.shape)
        for values, share in ((self.categories, diversity.category), (self.providers, diversity.provider)):
            if share > 0:
                like += share * self._same(values, chosen)
        if diversity.price > 0:
            prices = self.prices.astype(np.float64)
            near = 1.0 - np.abs(prices - prices[np.arange(len(prices)), chosen][:, None])
            like += diversity.price * np.where(np.isnan(near), 0.0, near)
        return like
