"""Lists without the model: one order, the same rules, never empty while something may be shown."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.ranker.candidates.interactions import Bools, Ids
from components.ranker.contract import Diversity, RerankRules
from components.ranker.rerank import ItemParts
from components.ranker.scoring import LoadedRanker
from components.ranker.unscored import UnscoredLists, order_of_catalogue

NO_RULES = RerankRules(0, 0, 10, exclude_seen=False)


def lists(
    order: list[int],
    *,
    may: set[int] | None = None,
    there: set[int] | None = None,
    categories: list[int] | None = None,
    rules: RerankRules = NO_RULES,
    blocked: str = "",
) -> UnscoredLists:
    """Items `i0`, `i1`, ... in an order; `may` are permitted, `there` are in the catalogue by now."""
    count = len(order)

    def allowed(user_id: str | None, items: Ids, context: Mapping[str, str], *, retrieved: bool) -> Bools:
        permitted = set(range(-1, count)) if may is None else may
        if retrieved and there is not None:
            permitted = permitted & there
        return np.isin(items, list(permitted))

    unknown = np.full(count, -1, dtype=np.int32)
    return UnscoredLists(
        np.array(order, dtype=np.int32),
        item_ids=[f"i{item}" for item in range(count)],
        numbers={f"i{item}": item for item in range(count)},
        parts=ItemParts(
            unknown if categories is None else np.array(categories, dtype=np.int32), unknown, np.full(count, np.nan)
        ),
        rules=rules,
        allowed=allowed,
        blocks=lambda item: item == blocked,
    )


def names(found: list) -> list[str]:
    return [one.item_id for one in found]


def test_the_order_begins_with_what_a_visitor_sees_and_goes_on_by_popularity_users_and_number() -> None:
    order = order_of_catalogue(
        np.array([4, 1], dtype=np.int32),
        popularity=np.array([0.5, 9.0, 0.5, 2.0, 0.1, 0.5]),
        users_of_item=np.array([3, 9, 7, 1, 1, 3]),
    )
    assert order.tolist() == [4, 1, 3, 2, 0, 5]


def test_scores_are_places_in_the_whole_order_negated() -> None:
    found = lists([2, 0, 1]).of_catalogue(None, k=3, context={}, exclude={"i0"})
    assert [(one.item_id, one.score) for one in found] == [("i2", 0.0), ("i1", -2.0)]


def test_given_items_keep_the_catalogues_order_and_unknown_ones_follow_as_given() -> None:
    found = lists([2, 0, 1]).of_candidates(None, ["z", "i1", "a", "i2", "z"], k=9, context={}, exclude=())
    assert names(found) == ["i2", "i1", "z", "a"]
    assert [one.score for one in found] == [0.0, -2.0, -3.0, -3.0]


def test_what_is_not_there_yet_is_shown_only_where_the_caller_names_it() -> None:
    held = lists([0, 1, 2], there={1})
    assert names(held.of_catalogue(None, k=3, context={}, exclude=())) == ["i1"]
    assert names(held.of_candidates(None, ["i2", "i1"], k=3, context={}, exclude=())) == ["i1", "i2"]


def test_a_blocked_id_that_nobody_knows_is_not_shown() -> None:
    assert names(lists([0], blocked="z").of_candidates(None, ["z", "y"], k=3, context={}, exclude=())) == ["y"]


def test_caps_hold_and_slots_are_filled_all_the_same() -> None:
    capped = RerankRules(1, 0, 2, exclude_seen=False)
    found = lists([0, 1, 2, 3], categories=[5, 5, 6, 5], rules=capped)
    assert names(found.of_catalogue(None, k=4, context={}, exclude=())) == ["i0", "i2", "i1", "i3"]


def test_diversity_which_weighs_scores_is_left_out() -> None:
    diverse = RerankRules(0, 0, 3, exclude_seen=False, diversity=Diversity(0.9, 10, 1.0, 0.0, 0.0))
    assert names(
        lists([0, 1, 2], categories=[1, 1, 2], rules=diverse).of_catalogue(None, k=3, context={}, exclude=())
    ) == [
        "i0",
        "i1",
        "i2",
    ]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_list_is_as_long_as_what_may_be_shown_lets_it_be(data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 3_000))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    order = rng.permutation(count).tolist()
    may = (
        set(rng.choice(count, size=int(count * data.draw(st.floats(0, 0.02))), replace=False).tolist())
        if count
        else set()
    )
    excluded = {f"i{item}" for item in list(may)[: data.draw(st.integers(0, 3))]}
    k = data.draw(st.integers(1, 50))
    found = names(lists(order, may=may).of_catalogue("u", k=k, context={}, exclude=excluded))
    permitted = [f"i{item}" for item in order if item in may and f"i{item}" not in excluded]
    assert found == permitted[:k]


@pytest.fixture(scope="module")
def purchases(sampled) -> LoadedRanker:
    return LoadedRanker.open(sampled.ranker)


def test_of_an_opened_ranker_a_visitor_sees_first_what_it_would_recommend(purchases: LoadedRanker) -> None:
    recommended = [item for item, _ in purchases.recommend(None, k=10)]
    found = purchases.unscored_lists().of_catalogue(None, k=10_000, context={}, exclude=())
    assert names(found)[:10] == recommended
    assert len(set(names(found))) == len(found)


def test_of_an_opened_ranker_what_a_user_has_taken_is_left_out(purchases: LoadedRanker) -> None:
    user = purchases.user_ids[0]
    whole = set(names(purchases.unscored_lists().of_catalogue(None, k=10_000, context={}, exclude=())))
    shown = set(names(purchases.unscored_lists().of_catalogue(user, k=10_000, context={}, exclude=())))
    seen = purchases._index.seen.of(0).tolist()
    assert seen
    assert whole - shown == {purchases.item_ids[item] for item in seen}
