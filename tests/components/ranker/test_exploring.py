"""The exploration slot: what is drawn is behind the window, and every propensity is the true chance."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.ranker.contract import Exploration, RerankRules
from components.ranker.exploring import drawable_places, explore, propensities
from components.ranker.rerank import ItemParts


def shown(length, places, slot, place):
    """The list that a draw gives, by moving one entry."""
    order = list(range(length))
    if slot:
        order.remove(places[place])
        order.insert(slot - 1, places[place])
    return order


@st.composite
def worlds(draw):
    window = draw(st.integers(1, 5))
    length = draw(st.integers(window + 1, 10))
    ranks = tuple(sorted(draw(st.sets(st.integers(1, window), min_size=1, max_size=3))))
    places = sorted(draw(st.sets(st.integers(window, length - 1), min_size=1)))
    return length, places, Exploration(draw(st.sampled_from([0.125, 0.5, 1.0])), ranks, 10, 0)


@given(worlds())
def test_propensities_are_the_chances_of_a_full_count(world):
    length, places, slot = world
    chances: Counter[tuple[int, int]] = Counter()
    p = Fraction(slot.probability)
    outcomes = [(1 - p, shown(length, places, 0, 0))]
    outcomes += [
        (p / (len(slot.ranks) * len(places)), shown(length, places, rank, place))
        for rank, place in product(slot.ranks, range(len(places)))
    ]
    for chance, order in outcomes:
        for rank, item in enumerate(order):
            chances[rank, item] += chance
    for chance, order in outcomes:
        if chance:
            found = propensities(np.array(order), np.array(places), slot)
            expected = [float(chances[rank, item]) for rank, item in enumerate(order)]
            assert np.allclose(found, expected, atol=1e-12)


@given(worlds(), st.text(max_size=8))
def test_a_draw_moves_one_item_that_could_be_drawn_to_a_declared_rank_and_loses_none(world, request):
    length, places, slot = world
    drawable = np.isin(np.arange(length), places)
    found = explore(drawable, slot, request=request)
    assert sorted(found.order.tolist()) == list(range(length))
    assert ((found.propensities > 0) & (found.propensities <= 1)).all()
    if found.slot:
        assert found.slot in slot.ranks
        assert int(found.order[found.slot - 1]) in places
        assert np.delete(found.order, found.slot - 1).tolist() == sorted(np.delete(found.order, found.slot - 1))
    else:
        assert found.order.tolist() == list(range(length))
    again = explore(drawable, slot, request=request)
    assert np.array_equal(found.order, again.order)
    assert np.array_equal(found.propensities, again.propensities)


def test_over_many_requests_lists_explore_as_often_as_declared_and_evenly():
    slot = Exploration(0.25, (2, 4), 3, seed=7)
    drawable = np.isin(np.arange(12), [5, 6, 7])
    draws = [explore(drawable, slot, request=f"request {number}") for number in range(8000)]
    explored = [draw for draw in draws if draw.slot]
    # Five standard errors: sqrt(0.25 * 0.75 / 8000) = 0.0048, and of a sixth of about 2000 draws 0.0083.
    assert len(explored) / len(draws) == pytest.approx(0.25, abs=0.025)
    cells = Counter((draw.slot, int(draw.order[draw.slot - 1])) for draw in explored)
    assert set(cells) == set(product((2, 4), (5, 6, 7)))
    assert all(count / len(explored) == pytest.approx(1 / 6, abs=0.042) for count in cells.values())


def test_another_seed_draws_for_other_requests():
    drawable = np.isin(np.arange(12), [5, 6, 7])
    slots = [
        [explore(drawable, Exploration(0.5, (2,), 3, seed), request=str(n)).slot for n in range(64)] for seed in (0, 1)
    ]
    assert slots[0] != slots[1]


def test_with_nothing_behind_the_window_nothing_is_drawn():
    found = explore(np.zeros(3, dtype=np.bool_), Exploration(1.0, (1,), 5, 0), request="a")
    assert (found.order.tolist(), found.propensities.tolist(), found.slot) == ([0, 1, 2], [1.0, 1.0, 1.0], 0)


def parts(categories):
    categories = np.array(categories, dtype=np.int32)
    return ItemParts(categories, np.full(len(categories), -1, dtype=np.int32), np.full(len(categories), np.nan))


def test_only_the_pool_behind_the_window_is_drawn_from():
    rules = RerankRules(0, 0, 3, False, exploration=Exploration(0.5, (2,), 2, 0))
    assert drawable_places(parts([0] * 8), rules).tolist() == [False] * 3 + [True, True] + [False] * 3
    assert not drawable_places(parts([0] * 3), rules).any()
    assert not drawable_places(parts([0] * 8), RerankRules(0, 0, 3, False)).any()


@given(st.lists(st.integers(-1, 3), min_size=5, max_size=12), st.integers(1, 2), st.text(max_size=5))
def test_a_drawn_item_exceeds_no_cap_that_the_window_held(categories, cap, request):
    window = 4
    slot = Exploration(1.0, (1, 3), 5, 0)
    rules = RerankRules(cap, 0, window, False, exploration=slot)
    held = parts(categories)

    def exceeded(order):
        counts = Counter(int(held.categories[place]) for place in order[:window] if held.categories[place] >= 0)
        return max(counts.values(), default=0) > cap

    found = explore(drawable_places(held, rules), slot, request=request)
    assert exceeded(range(len(categories))) or not exceeded(found.order.tolist())
