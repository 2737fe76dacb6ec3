from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.dataset.covisitation import cosine_neighbours
from components.errors import InputError
from components.ranker.candidates.factors import item_factors
from components.ranker.candidates.index import SOURCES, fit_index, open_index, save_index, source_of
from components.ranker.candidates.interactions import Interactions, distinct_users, seen_items
from components.ranker.candidates.popularity import decayed_popularity
from components.ranker.candidates.union import best_of_one_order, best_of_rows

USERS, ITEMS = 12, 9
events = st.lists(st.tuples(st.integers(0, USERS - 1), st.integers(0, ITEMS - 1)), max_size=80)


def interactions(pairs, ages=None) -> Interactions:
    users, items = (np.array([pair[side] for pair in pairs], dtype=np.int32) for side in (0, 1))
    ages = np.zeros(len(pairs)) if ages is None else np.array(ages, dtype=float)
    return Interactions(users, items, ages, np.ones(len(pairs)), USERS, ITEMS)


@given(events)
def test_seen_items_are_each_users_distinct_items_in_first_order(pairs):
    seen = seen_items(interactions(pairs))
    for user in range(USERS):
        assert seen.of(user).tolist() == list(dict.fromkeys(item for who, item in pairs if who == user))
    assert distinct_users(seen).tolist() == [len({who for who, what in pairs if what == item}) for item in range(ITEMS)]
    assert seen.of(-1).tolist() == []


@given(events, st.integers(1, 5))
def test_neighbours_are_the_nearest_by_binary_cosine_and_ties_go_to_the_lower_item(pairs, top):
    found = cosine_neighbours(seen_items(interactions(pairs)).everyone(), top=top)
    takers = [{who for who, what in pairs if what == item} for item in range(ITEMS)]
    for item in range(ITEMS):
        near = {
            other: len(takers[item] & takers[other]) / (len(takers[item]) * len(takers[other])) ** 0.5
            for other in range(ITEMS)
            if other != item and takers[item] & takers[other]
        }
        best = sorted(near, key=lambda other: (-round(near[other], 12), other))[:top]
        row = slice(found.starts[item], found.starts[item + 1])
        assert found.items[row].tolist() == sorted(best)
        assert found.similarity[row] == pytest.approx([near[other] for other in sorted(best)])


def test_popularity_halves_with_every_half_life():
    history = interactions([(0, 0), (0, 1), (0, 2), (1, 2)], ages=[0, 7, 14, 28])
    assert decayed_popularity(history, half_life_days=7)[:4] == pytest.approx([1, 0.5, 0.25 + 0.0625, 0])


@given(events)
@settings(deadline=None)
def test_factors_span_the_leading_singular_directions(pairs):
    seen = seen_items(interactions(pairs))
    matrix = seen.everyone().toarray()
    found = item_factors(seen, dimensions=ITEMS, damping=0.0, seed=0).astype(float)
    # All directions kept: folding a user in and out again rebuilds exactly what they took.
    np.testing.assert_allclose(matrix @ found @ found.T, matrix, atol=1e-4)


def test_few_factors_rebuild_as_much_as_the_best_low_rank_does():
    rng = np.random.default_rng(0)
    tastes = rng.random((USERS, 2)) @ rng.random((2, ITEMS))
    pairs = list(zip(*np.nonzero(tastes > np.median(tastes)), strict=True))
    seen = seen_items(interactions(pairs))
    matrix = seen.everyone().toarray()
    values = np.linalg.svd(matrix, compute_uv=False)
    found = item_factors(seen, dimensions=3, damping=0.0, seed=0).astype(float)
    lost = np.linalg.norm(matrix - matrix @ found @ found.T)
    assert lost == pytest.approx(np.sqrt((values[3:] ** 2).sum()), rel=0.02)


@given(st.lists(st.lists(st.integers(-2, 3), min_size=7, max_size=7), min_size=1, max_size=5), st.integers(0, 8))
def test_the_best_of_a_row_are_its_first_in_a_stable_sort(rows, quota):
    scores = np.array(rows, dtype=float)
    scores[scores == -2] = -np.inf
    found = best_of_rows(scores, quota=quota)
    for row, marks in zip(scores, found, strict=True):
        order = [place for place in np.argsort(-row, kind="stable") if row[place] > -np.inf]
        assert np.flatnonzero(marks).tolist() == sorted(order[:quota])


@given(
    st.lists(st.lists(st.booleans(), min_size=9, max_size=9), min_size=1, max_size=5),
    st.permutations(range(9)),
    st.integers(0, 9),
    st.integers(0, 10),
)
def test_one_order_for_all_marks_what_scores_in_that_order_would(allowed, order, named, quota):
    allowed, places = np.array(allowed), np.array(order[:named], dtype=np.int64)
    scores = np.full(9, -np.inf)
    scores[places] = -np.arange(named)
    expected = best_of_rows(np.where(allowed, scores, -np.inf), quota=quota)
    assert np.array_equal(best_of_one_order(places, allowed, quota=quota), expected)


def test_what_may_be_shown_to_each_and_to_all_is_taken_alike(shop):
    users, quotas = np.arange(USERS, dtype=np.int32), dict.fromkeys(SOURCES, 3)
    rng = np.random.default_rng(2)
    for permitted in (rng.random(ITEMS) < 0.6, np.zeros(ITEMS, dtype=bool), np.ones(ITEMS, dtype=bool)):
        for exclude_seen in (False, True):
            for_all = shop.candidates(users, bucket=10, quotas=quotas, exclude_seen=exclude_seen, permitted=permitted)
            for_each = shop.candidates(
                users, bucket=10, quotas=quotas, exclude_seen=exclude_seen, permitted=np.tile(permitted, (USERS, 1))
            )
            assert all(np.array_equal(a, b) for a, b in zip(for_all, for_each, strict=True))
            assert permitted[for_all[1]].all()


@pytest.fixture
def shop():
    rng = np.random.default_rng(1)
    pairs = [(int(rng.integers(USERS - 1)), int(rng.integers(ITEMS - 2))) for _ in range(60)]
    first_bucket = np.array([0] * (ITEMS - 2) + [5, 9], dtype=np.int64)
    return fit_index(interactions(pairs, ages=rng.random(60) * 30), first_bucket, seed=0)


def ask(index, users, *, bucket=10, exclude_seen=True, **quotas):
    starts, items = index.candidates(
        np.array(users, dtype=np.int32),
        bucket=bucket,
        quotas=dict.fromkeys(SOURCES, 0) | quotas,
        exclude_seen=exclude_seen,
    )
    return [items[begin:end].tolist() for begin, end in pairwise(starts)]


def test_candidates_are_eligible_unseen_and_listed_once(shop):
    for user, found in enumerate(ask(shop, range(USERS), bucket=6, popularity=9, covisitation=9, factors=9, newest=9)):
        assert found == sorted(set(found))
        assert not set(found) & set(shop.seen.of(user).tolist())
        assert set(found) == set(range(ITEMS)) - {ITEMS - 1} - set(shop.seen.of(user).tolist())


def test_each_source_names_no_more_than_its_quota(shop):
    for source in SOURCES:
        assert all(len(found) <= 2 for found in ask(shop, range(USERS), **{source: 2}))


def test_an_item_is_told_by_every_source_that_would_name_it_alone_and_called_by_the_first(shop):
    users, quotas = np.arange(USERS, dtype=np.int32), dict.fromkeys(SOURCES, 3)
    starts, items, flags = shop.named_candidates(users, bucket=10, quotas=quotas, exclude_seen=True)
    alone = [ask(shop, users, **{source: 3}) for source in SOURCES]
    for user, (begin, end) in enumerate(pairwise(starts)):
        called = source_of(flags[begin:end])
        for item, bits, source in zip(items[begin:end].tolist(), flags[begin:end].tolist(), called, strict=True):
            naming = [place for place in range(len(SOURCES)) if item in alone[place][user]]
            assert [place for place in range(len(SOURCES)) if bits >> place & 1] == naming
            assert source == SOURCES[naming[0]]


def test_an_unknown_user_is_given_what_is_popular_and_what_is_new(shop):
    unknown, silent = ask(shop, [-1, USERS - 1], popularity=2, covisitation=5, factors=5, newest=1)
    best = np.argsort(-shop.popularity, kind="stable")[:2].tolist()
    assert unknown == silent == sorted({*best, ITEMS - 1})


def test_seen_items_come_back_where_they_are_not_excluded(shop):
    user = int(shop.seen.starts.searchsorted(1) - 1)
    assert ask(shop, [user], exclude_seen=False, popularity=ITEMS) == [np.flatnonzero(shop.popularity > 0).tolist()]


def test_candidates_do_not_depend_on_who_else_is_asked_for(shop):
    together = ask(shop, range(USERS), popularity=2, covisitation=2, factors=2)
    assert together == [ask(shop, [user], popularity=2, covisitation=2, factors=2)[0] for user in range(USERS)]


def test_an_index_reads_back_as_it_was_saved(shop, tmp_path):
    save_index(shop, tmp_path)
    again = open_index(tmp_path)
    quotas = dict.fromkeys(SOURCES, 2)
    assert ask(again, range(USERS), **quotas) == ask(shop, range(USERS), **quotas)


def test_an_index_with_a_pickled_array_is_refused(shop, tmp_path):
    save_index(shop, tmp_path)
    np.save(tmp_path / "factors.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"factors\.npy"):
        open_index(tmp_path)
