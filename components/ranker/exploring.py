"""The exploration slot: sometimes a list shows one item that it would not have, and everybody knows how likely that was.

    base list    b1 b2 b3 ... bw | bw+1 ... bn       w = the rules' window
    with probability p: one of the declared ranks, s, and one of the first `pool` items behind the window, e, both evenly;
    e is shown at s, and what stood from s on moves down by one

The propensity of an item is the chance, given the request, that it is shown at the rank it is shown at. It goes with the
exposure log, so that a later evaluation can weigh what was shown by how likely it was (inverse propensity). Items that would
exceed a cap of the window are not drawn.

Draws are made from the request's own key, so a repeated request is answered the same.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from components.ranker.candidates.interactions import Bools, Floats, Ints
from components.ranker.contract import Exploration, RerankRules
from components.ranker.draws import draw
from components.ranker.rerank import ItemParts


@dataclass(frozen=True, slots=True)
class Explored:
    """A list as shown."""

    order: Ints
    """Places in the base list, shape (n,)."""
    propensities: Floats
    """Chance of each item at its rank, shape (n,), in (0, 1]."""
    slot: int
    """1-based rank of the drawn item; 0 where nothing was drawn."""


def explore(drawable: Bools, exploration: Exploration, *, request: str) -> Explored:
    """Draw for one request.

    Args:
        drawable: Places of the base list that may be drawn, shape (n,); see `drawable_places`.
        exploration: The declared slot; its ranks lie before every place that may be drawn.
        request: The request's key; the same key draws the same.
    """
    places = np.flatnonzero(drawable)
    order = np.arange(len(drawable))
    if not len(places):
        return Explored(order, np.ones(len(order)), 0)
    chance, which_rank, which_place = _uniforms(request, exploration.seed)
    slots = np.array(exploration.ranks)
    slot = 0
    if chance < exploration.probability:
        slot = int(slots[int(which_rank * len(slots))])
        place = int(places[int(which_place * len(places))])
        order = np.concatenate([order[: slot - 1], [place], np.delete(order[slot - 1 :], place - slot + 1)])
    return Explored(order, propensities(order, places, exploration), slot)


def propensities(order: Ints, places: Ints, exploration: Exploration) -> Floats:
    """Chance that each item is shown at the rank where `order` shows it, shape of `order`.

    Args:
        order: Places in the base list, as shown with or without a drawn item.
        places: Places that may be drawn, ascending, at least one.
        exploration: The declared slot.
    """
    slots, p = np.array(exploration.ranks), exploration.probability
    ranks = np.arange(1, len(order) + 1)
    upto = np.searchsorted(slots, ranks, side="right") / len(slots)
    before = np.searchsorted(slots, ranks, side="left") / len(slots)
    # Chance that the drawn item comes from this rank or from behind it: then this rank is part of what moves.
    behind = 1.0 - np.searchsorted(places, ranks - 1, side="left") / len(places)
    stays = 1.0 - p * upto * behind
    moves_down = p * before * behind
    drawn = p / (len(slots) * len(places))
    found: Floats = np.where(order == ranks - 1, stays, np.where(order == ranks - 2, moves_down, drawn))
    return found


def drawable_places(parts: ItemParts, rules: RerankRules) -> Bools:
    """Places of a base list that its exploration slot may draw: behind the window, within the pool, exceeding no cap.

    Args:
        parts: Of the items of the list in its order, shape (n,) each.
        rules: Rules that declare an exploration slot.
    """
    length, window = len(parts.categories), rules.window
    found = np.zeros(length, dtype=np.bool_)
    if rules.exploration is None:
        return found
    found[window : window + rules.exploration.pool] = True
    # A drawn item pushes the window's last one out, wherever in the window it is shown.
    for values, limit in ((parts.categories, rules.max_per_category), (parts.providers, rules.max_per_provider)):
        if limit > 0:
            alike = (values[:, None] == values[: window - 1]).sum(axis=1)
            found &= (values < 0) | (alike < limit)
    return found


def _uniforms(request: str, seed: int) -> tuple[float, float, float]:
    key = int.from_bytes(hashlib.sha256(request.encode()).digest()[:8], "little", signed=True)
    first, second, third = draw(np.full(3, key), np.arange(3), seed=seed).tolist()
    return first, second, third
