"""What is done to a scored list before it is shown, offline and online alike.

Dedupe, leave out what was seen, and hold back an item that would exceed its category's or provider's cap within the first
`window` ranks. Held-back items are not lost: they follow after the window, among the rest, in the scores' order.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from components.ranker.candidates.interactions import Ids, Ints
from components.ranker.contract import RerankRules


def has_caps(rules: RerankRules) -> bool:
    """True where an order may differ from the scores' order."""
    return rules.window > 0 and (rules.max_per_category > 0 or rules.max_per_provider > 0)


def rerank(
    items: Ids,
    *,
    categories: NDArray[np.integer],
    providers: NDArray[np.integer],
    seen: Ids,
    rules: RerankRules,
) -> Ints:
    """Positions in `items` to show, in order.

    Args:
        items: One list, best first, shape (n,); -1 is an item nobody knows (never a duplicate, never seen).
        categories: Category of each of `items`, shape (n,); -1 = unknown, never capped.
        providers: Provider of each of `items`, shape (n,); -1 = unknown, never capped.
        seen: Items this user took before; used where `rules.exclude_seen`.
        rules: The rules.
    """
    kept = np.arange(len(items))
    known = items >= 0
    first = np.zeros(len(items), dtype=bool)
    first[np.unique(items, return_index=True)[1]] = True
    allowed = first | ~known
    if rules.exclude_seen:
        allowed &= ~known | ~np.isin(items, seen)
    kept = kept[allowed]
    return _capped(kept, categories, providers, rules) if has_caps(rules) else kept


def _capped(kept: Ints, categories: NDArray[np.integer], providers: NDArray[np.integer], rules: RerankRules) -> Ints:
    caps = ((categories, rules.max_per_category), (providers, rules.max_per_provider))
    counters = [(values, limit, Counter[int]()) for values, limit in caps if limit > 0]
    shown: list[int] = []
    held: list[int] = []
    for place in kept.tolist():
        if len(shown) < rules.window:
            if any(values[place] >= 0 and counts[int(values[place])] >= limit for values, limit, counts in counters):
                held.append(place)
                continue
            for values, _, counts in counters:
                counts[int(values[place])] += 1
            shown.append(place)
        else:
            # Counts only grow within the window, so whatever was held back stays held until the window is full.
            break
    rest = kept[~np.isin(kept, shown)]
    return np.concatenate([np.array(shown, dtype=np.int64), rest])
