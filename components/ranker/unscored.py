"""Lists without the model: one order of the whole catalogue, worked out beforehand, of which a request sees what it may.

    what the ranker shows a visitor, best first     |     everything else: by decayed popularity, then as ties are broken

The same filters and caps hold as for scored lists. Diversity does not, since it weighs scores; nothing is explored.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from components.ranker.candidates.interactions import Bools, Floats, Ids, Ints
from components.ranker.contract import RerankRules
from components.ranker.rerank import ItemParts, rerank


class Allowed(Protocol):
    """Which items a request may be shown."""

    def __call__(self, user_id: str | None, items: Ids, context: Mapping[str, str], *, retrieved: bool) -> Bools:
        """Shape of `items`; `retrieved` also leaves out what is not there yet, which a caller may name all the same."""


_LOOK_AHEAD = 4
"""Allowed items that are gathered for each place, so that caps have something to fill a window with."""
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Unscored:
    """One item of a list that no model ordered."""

    item_id: str
    score: float
    """Minus its place in the order of the whole catalogue: like a model's score it only says what comes before what."""


class UnscoredLists:
    """The order, and what a request sees of it."""

    def __init__(
        self,
        order: Ids,
        *,
        item_ids: Sequence[str],
        numbers: Mapping[str, int],
        parts: ItemParts,
        rules: RerankRules,
        allowed: Allowed,
        blocks: Callable[[str], bool],
    ) -> None:
        """Hold an order.

        Args:
            order: Every item of the catalogue, best first.
            item_ids: Id of each item, by number.
            numbers: Number of each item, by id.
            parts: Of every item.
            rules: The re-rank rules.
            allowed: Which items a request may be shown.
            blocks: Whether an id may never be shown, known or not.
        """
        self._order = order
        self._place = np.empty(len(order) + 1, dtype=np.int64)
        self._place[order] = np.arange(len(order))
        # -1, an item nobody knows, stands behind all others.
        self._place[-1] = len(order)
        self._item_ids, self._numbers, self._parts = item_ids, numbers, parts
        self._rules = replace(rules, diversity=None, exploration=None)
        self._allowed, self._blocks = allowed, blocks

    def of_catalogue(
        self, user_id: str | None, *, k: int, context: Mapping[str, str], exclude: Collection[str]
    ) -> list[Unscored]:
        """The first `k` items that may be shown; empty only where there are none."""
        left_out = np.array([self._numbers[item] for item in exclude if item in self._numbers], dtype=np.int32)
        found: list[Ids] = []
        wanted, begin, size = _LOOK_AHEAD * k, 0, max(_BLOCK, _LOOK_AHEAD * k)
        while wanted > 0 and begin < len(self._order):
            block = self._order[begin : begin + size]
            block = block[self._allowed(user_id, block, context, retrieved=True) & ~np.isin(block, left_out)]
            found.append(block[:wanted])
            wanted, begin, size = wanted - len(block), begin + size, size * 2
        items = np.concatenate(found) if found else np.empty(0, dtype=np.int32)
        return [
            Unscored(self._item_ids[items[row]], float(-self._place[items[row]])) for row in self._ranked(items)[:k]
        ]

    def of_candidates(
        self,
        user_id: str | None,
        item_ids: Sequence[str],
        *,
        k: int,
        context: Mapping[str, str],
        exclude: Collection[str],
    ) -> list[Unscored]:
        """The given items that may be shown, in the order of the catalogue; those that nobody knows last, as given."""
        names = [item for item in dict.fromkeys(item_ids) if not (item in exclude or self._blocks(item))]
        items = np.array([self._numbers.get(name, -1) for name in names], dtype=np.int32)
        places = self._place[items]
        order = np.argsort(places, kind="stable")
        order = order[self._allowed(user_id, items[order], context, retrieved=False)]
        shown = order[self._ranked(items[order])[:k]]
        return [Unscored(names[row], float(-places[row])) for row in shown]

    def _ranked(self, items: Ids) -> Ints:
        """Places of the items as shown, once caps hold; all of them may be."""
        rows = len(items)
        falling = -np.arange(rows, dtype=np.float64)
        everything = np.ones(rows, dtype=np.bool_)
        one = np.zeros(rows, dtype=np.int32)
        return rerank(one, items, falling, parts=self._parts.take(items), allowed=everything, rules=self._rules)


def order_of_catalogue(first: Ids, *, popularity: Floats, users_of_item: Ints) -> Ids:
    """Every item once: `first` in its order, then the rest by decayed popularity, by users who took it, by number.

    Args:
        first: Distinct items, best first.
        popularity: Shape (items,).
        users_of_item: Shape (items,).
    """
    order = np.lexsort((np.arange(len(popularity)), -users_of_item, -popularity))
    # Not `isin`, which holds the interpreter's lock while it works, and others are answered meanwhile.
    left = np.ones(len(order), dtype=np.bool_)
    left[first] = False
    rest = order[left[order]]
    return np.concatenate([first, rest]).astype(np.int32)
