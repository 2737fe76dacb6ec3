"""The kernel: nothing eligible is lost, caps hold, nothing twice, and it does what a plain loop does."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.ranker import rerank as kernel
from components.ranker.contract import Diversity, RerankRules
from components.ranker.rerank import ItemParts, rerank
from components.ranker.settings import NO_CAPS

ITEMS = 13

weights = st.sampled_from([(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.5, 0.25, 0.25)])
diversities = st.builds(
    lambda strength, pool, shares: Diversity(strength, pool, *shares),
    st.sampled_from([0.25, 0.5, 0.75]),
    st.integers(1, 12),
    weights,
)
rules = st.builds(
    RerankRules,
    max_per_category=st.integers(0, 3),
    max_per_provider=st.integers(0, 3),
    window=st.integers(0, 8),
    exclude_seen=st.just(False),
    diversity=st.none() | diversities,
)
rows = st.lists(st.tuples(st.integers(-1, ITEMS - 1), st.integers(-8, 8), st.booleans()), max_size=20)


def catalogue() -> ItemParts:
    items = np.arange(ITEMS, dtype=np.int32)
    prices = np.where(items % 5 == 4, np.nan, items / 16)
    return ItemParts((items % 3).astype(np.int32), (items % 4 - 1).astype(np.int32), prices)


def arrays(many):
    """Lists of (item, score, allowed) as the kernel takes them, best first."""
    many = [sorted(rows, key=lambda row: -row[1]) for rows in many]
    flat = [row for rows in many for row in rows]
    lists = np.repeat(np.arange(len(many)), [len(rows) for rows in many])
    items = np.array([row[0] for row in flat], dtype=np.int32)
    scores = np.array([row[1] for row in flat], dtype=np.float32)
    return lists, items, scores, np.array([row[2] for row in flat], dtype=np.bool_)


def run(many, rules):
    lists, items, scores, allowed = arrays(many)
    places = rerank(lists, items, scores, parts=catalogue().take(items), allowed=allowed, rules=rules)
    return places, lists, items, scores, allowed


def plain(items, scores, allowed, rules):
    """The same, one list, as a loop that anybody can read."""
    parts = catalogue()

    def part(values, item):
        return values[item] if item >= 0 else -1

    def like(a, b, shares):
        found = 0.0
        for values, share in ((parts.categories, shares.category), (parts.providers, shares.provider)):
            if part(values, a) == part(values, b) != -1:
                found += share
        if shares.price and min(a, b) >= 0:
            near = 1.0 - abs(parts.prices[a] - parts.prices[b])
            found += 0.0 if np.isnan(near) else shares.price * near
        return found

    rest, met = [], set()
    for place, item in enumerate(items):
        if allowed[place] and not (item >= 0 and item in met):
            rest.append(place)
            met.add(item)
    shown = []
    pool = rest[: rules.diversity.pool] if rules.diversity else []
    while rest and len(shown) < rules.window:
        counts = [(values, cap, Counter(part(values, items[s]) for s in shown)) for values, cap in (
            (parts.categories, rules.max_per_category), (parts.providers, rules.max_per_provider)) if cap]  # fmt: skip
        free = [p for p in rest if all(
            part(v, items[p]) == -1 or n[part(v, items[p])] < cap for v, cap, n in counts)]  # fmt: skip
        if not free:
            break
        best = free[0]
        if rules.diversity and set(free) & set(pool):
            top, low = float(scores[pool[0]]), float(scores[pool[-1]])

            def worth(p, top=top, low=low):
                relevance = (float(scores[p]) - low) / (top - low) if top > low else 1.0
                alike = max((like(items[p], items[s], rules.diversity) for s in shown), default=0.0)
                return (1.0 - rules.diversity.strength) * relevance - rules.diversity.strength * alike

            best = max((p for p in free if p in pool), key=lambda p: (worth(p), -p))
        shown.append(best)
        rest.remove(best)
    return shown + rest


@given(st.lists(rows, max_size=4), rules)
def test_many_lists_at_once_come_out_as_a_plain_loop_orders_each(many, rules):
    places, lists, items, scores, allowed = run(many, rules)
    expected = []
    for one in np.unique(lists):
        (own,) = np.nonzero(lists == one)
        expected += [int(own[p]) for p in plain(items[own].tolist(), scores[own], allowed[own], rules)]
    assert places.tolist() == expected


@given(rows, rules)
def test_a_list_asked_for_alone_is_ordered_as_beside_another(one, rules):
    alone = run([one], rules)[0].tolist()
    beside = run([one, one], rules)[0].tolist()
    assert beside == alone + [place + len(one) for place in alone]


@given(rows, rules)
def test_what_is_shown_is_each_allowed_item_once_whatever_the_rules(one, rules):
    places, _, items, _, allowed = run([one], rules)
    found = items[places].tolist()
    assert sorted(i for i in found if i >= 0) == sorted({int(i) for i in items[allowed] if i >= 0})
    assert found.count(-1) == items[allowed].tolist().count(-1)
    assert len(set(places.tolist())) == len(places)


@given(rows, rules)
def test_within_the_window_no_cap_is_exceeded_while_another_item_could_be_shown(one, rules):
    places, _, items, _, _ = run([one], rules)
    parts = catalogue().take(items)
    capped = ((parts.categories, rules.max_per_category), (parts.providers, rules.max_per_provider))

    def exceeds(place, above):
        return any(
            cap and values[place] >= 0 and (values[above] == values[place]).sum() >= cap for values, cap in capped
        )

    for rank, place in enumerate(places[: rules.window]):
        if exceeds(place, places[:rank]):
            # Only where the window cannot be filled otherwise: everything later is held back too.
            assert all(exceeds(later, places[:rank]) for later in places[rank:])
            break


@given(st.lists(rows, min_size=1, max_size=6), rules, st.integers(1, 40))
def test_how_many_lists_are_worked_on_at_once_changes_nothing(many, rules, cells):
    whole = run(many, rules)[0].tolist()
    held = kernel._CELLS
    kernel._CELLS = cells
    try:
        assert run(many, rules)[0].tolist() == whole
    finally:
        kernel._CELLS = held


@given(rows)
def test_without_rules_the_order_is_the_scores(one):
    places = run([one], NO_CAPS)[0].tolist()
    assert places == sorted(places)


def test_held_back_items_follow_after_the_window():
    one = RerankRules(max_per_category=1, max_per_provider=0, window=3, exclude_seen=False)
    # Categories are 0, 0, 1, 0, 2: the second and fourth wait until three categories have been shown.
    assert run([[(item, -place, True) for place, item in enumerate([0, 3, 1, 6, 2])]], one)[0].tolist() == [
        0,
        2,
        4,
        1,
        3,
    ]


def test_diversity_shows_another_category_where_it_costs_little_and_not_where_it_costs_much():
    diverse = RerankRules(0, 0, 2, False, diversity=Diversity(0.3, 10, 1.0, 0.0, 0.0))
    near = [(0, 10, True), (3, 9, True), (1, 8, True), (4, 0, True)]
    assert run([near], diverse)[0].tolist() == [0, 2, 1, 3]
    far = [(0, 10, True), (3, 9, True), (1, 1, True), (4, 0, True)]
    assert run([far], diverse)[0].tolist() == [0, 1, 2, 3]


def test_an_item_outside_the_pool_is_not_moved_up_for_being_different():
    diverse = RerankRules(0, 0, 3, False, diversity=Diversity(0.75, 2, 1.0, 0.0, 0.0))
    assert run([[(0, 10, True), (3, 9, True), (1, 8, True)]], diverse)[0].tolist() == [0, 1, 2]


def test_prices_are_placed_in_the_catalogue_whatever_their_unit():
    items = pa.table({"price": pa.array([1.0, 10.0, None, 10.0, 1000.0])})
    found = ItemParts.of(items, category="", provider="", price="price").prices
    assert np.array_equal(found, [0.125, 0.5, np.nan, 0.5, 0.875], equal_nan=True)
    assert np.array_equal(
        ItemParts.of(items, category="", provider="", price="").prices, np.full(5, np.nan), equal_nan=True
    )


@pytest.mark.parametrize("rules", [NO_CAPS, RerankRules(1, 1, 5, False, diversity=Diversity(0.5, 5, 0.5, 0.5, 0.0))])
def test_nothing_to_show_is_an_empty_order(rules):
    assert run([], rules)[0].tolist() == []
    assert run([[(1, 0, False), (2, 0, False)]], rules)[0].tolist() == []
