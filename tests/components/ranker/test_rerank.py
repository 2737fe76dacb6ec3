from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from components.ranker.contract import RerankRules
from components.ranker.rerank import rerank
from components.ranker.settings import NO_CAPS

item = st.integers(-1, 12)
rules = st.builds(
    RerankRules,
    max_per_category=st.integers(0, 3),
    max_per_provider=st.integers(0, 3),
    window=st.integers(0, 8),
    exclude_seen=st.booleans(),
)


def shown(items, rules, seen=()):
    items = np.array(items, dtype=np.int32)
    categories, providers = np.where(items >= 0, items % 3, -1), np.where(items >= 0, items % 4 - 1, -1)
    places = rerank(items, categories=categories, providers=providers, seen=np.array(seen, dtype=np.int32), rules=rules)
    return places.tolist(), categories, providers


@given(st.lists(item, max_size=20), rules, st.lists(st.integers(0, 12), max_size=5))
def test_what_is_shown_is_each_allowed_item_once(items, rules, seen):
    places, _, _ = shown(items, rules, seen)
    found = [items[place] for place in places]
    allowed = [i for i in items if i >= 0 and not (rules.exclude_seen and i in seen)]
    assert sorted(i for i in found if i >= 0) == sorted(set(allowed))
    assert found.count(-1) == items.count(-1)


@given(st.lists(item, max_size=20), rules)
def test_within_the_window_no_cap_is_exceeded_while_another_item_could_be_shown(items, rules):
    places, categories, providers = shown(items, rules)
    for values, cap in ((categories, rules.max_per_category), (providers, rules.max_per_provider)):
        if cap == 0:
            continue
        counts = Counter()
        for rank, place in enumerate(places[: rules.window]):
            value = values[place]
            if value >= 0 and counts[value] >= cap:
                # Only when the window cannot be filled otherwise: everything later is held back too.
                for later in places[rank:]:
                    assert any(
                        limit and parts[later] >= 0 and Counter(parts[p] for p in places[:rank])[parts[later]] >= limit
                        for parts, limit in ((categories, rules.max_per_category), (providers, rules.max_per_provider))
                    )
                break
            counts[value] += 1


@given(st.lists(st.integers(0, 12), unique=True, max_size=20))
def test_without_caps_the_order_is_the_scores(items):
    assert shown(items, NO_CAPS)[0] == list(range(len(items)))


def test_held_back_items_follow_after_the_window():
    two_of_a_kind = RerankRules(max_per_category=1, max_per_provider=0, window=3, exclude_seen=False)
    # Categories are 0, 0, 1, 0, 2: the second and fourth wait until three categories have been shown.
    assert shown([0, 3, 1, 6, 2], two_of_a_kind)[0] == [0, 2, 4, 1, 3]
