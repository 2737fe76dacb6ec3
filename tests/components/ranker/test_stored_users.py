"""A ranker that is told of its users from elsewhere ranks as the one that has laid them out: to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.errors import InputError
from components.ranker.scoring import LoadedRanker
from components.ranker.stored_users import NumberOfId, SortedIds, user_set_digest


@pytest.fixture(scope="module")
def within(small_ranker: Path) -> LoadedRanker:
    return LoadedRanker.open(small_ranker)


@pytest.fixture(scope="module")
def elsewhere(small_ranker: Path) -> LoadedRanker:
    return LoadedRanker.open(small_ranker, users_elsewhere=True)


def told(elsewhere: LoadedRanker, number: int) -> LoadedRanker:
    ((user_id, user),) = elsewhere.stored_users(range(number, number + 1))
    return elsewhere.knowing(user_id, user)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_lists_and_scores_of_a_user_who_is_told_of_are_those_of_one_who_is_known(
    within: LoadedRanker, elsewhere: LoadedRanker, data: st.DataObject
) -> None:
    number = data.draw(st.integers(0, len(within.user_ids) - 1))
    items = data.draw(st.lists(st.sampled_from([*within.item_ids, "no such item"]), max_size=60))
    context = data.draw(st.sampled_from([{}, {"device": "mobile"}, {"device": "fax"}]))
    user, one = within.user_ids[number], told(elsewhere, number)
    assert one.knows_user(user)
    assert one.rank(user, items, k=60, context=context) == within.rank(user, items, k=60, context=context)
    assert one.recommend(user, k=20, context=context) == within.recommend(user, k=20, context=context)
    assert one.show(user, items, k=9, request="r") == within.show(user, items, k=9, request="r")
    everything = np.arange(len(within.item_ids), dtype=np.int32)
    for retrieved in (True, False):
        shown = [ranker.may_show(user, everything, {}, retrieved=retrieved) for ranker in (one, within, elsewhere)]
        assert (shown[0] == shown[1]).all()
        assert (shown[0] == shown[2]).all()


def test_what_is_kept_of_a_user_is_the_same_whoever_has_laid_them_out(
    within: LoadedRanker, elsewhere: LoadedRanker
) -> None:
    for one, other in zip(within.stored_users(range(5, 40)), elsewhere.stored_users(range(5, 40)), strict=True):
        (user_id, user), (name, held) = one, other
        assert (user_id, user.seen.tolist()) == (name, held.seen.tolist())
        for left, right in zip(user.part.pairs, held.part.pairs, strict=True):
            assert [array.tobytes() for array in left] == [array.tobytes() for array in right]
        for left, right in ((user.part.row, held.part.row), (user.part.usual, held.part.usual)):
            assert left.tobytes() == right.tobytes()
        assert user.part.taken.tolist() == held.part.taken.tolist()


def test_what_was_taken_is_left_out_as_it_is_for_a_user_who_is_known(sampled: Any) -> None:
    within, elsewhere = (LoadedRanker.open(sampled.ranker, users_elsewhere=said) for said in (False, True))
    for number, user in enumerate(within.user_ids[:20]):
        assert told(elsewhere, number).recommend(user, k=50) == within.recommend(user, k=50)
        assert told(elsewhere, number).rank(user, within.item_ids, k=50) == within.rank(user, within.item_ids, k=50)


def test_explanations_are_the_same(within: LoadedRanker, elsewhere: LoadedRanker) -> None:
    user, items = within.user_ids[3], within.item_ids[:4]
    assert told(elsewhere, 3).explain(user, items) == within.explain(user, items)


def test_whoever_is_not_told_of_is_looked_up_in_the_tables(within: LoadedRanker, elsewhere: LoadedRanker) -> None:
    assert list(elsewhere.user_ids) == list(within.user_ids)
    for user in (None, "nobody", *within.user_ids[:10]):
        assert elsewhere.knows_user(user or "") == within.knows_user(user or "")
        assert elsewhere.rank(user, within.item_ids, k=99) == within.rank(user, within.item_ids, k=99)
        assert elsewhere.recommend(user, k=9) == within.recommend(user, k=9)


def test_a_ranker_that_is_told_of_a_user_knows_no_other_and_visitors_are_visitors(
    within: LoadedRanker, elsewhere: LoadedRanker
) -> None:
    one = told(elsewhere, 3)
    assert not one.knows_user(within.user_ids[4])
    assert one.rank(None, within.item_ids, k=9) == within.rank(None, within.item_ids, k=9)
    assert one.rank(within.user_ids[4], within.item_ids, k=9) == within.rank(None, within.item_ids, k=9)


def test_a_stored_user_is_known_as_of_one_bucket_only(elsewhere: LoadedRanker) -> None:
    one = told(elsewhere, 3)
    with pytest.raises(InputError, match="bucket: found"):
        one.rank(elsewhere.user_ids[3], elsewhere.item_ids[:3], k=3, bucket=one._tables.latest_bucket - 1)


def test_a_set_is_named_by_what_its_rows_are_made_of(small_ranker: Path, elsewhere: LoadedRanker) -> None:
    files = elsewhere.manifest.files
    features = list(elsewhere.manifest.features)
    assert elsewhere.user_set == user_set_digest(features, files)
    assert LoadedRanker.open(small_ranker, users_elsewhere=True).user_set == elsewhere.user_set
    assert user_set_digest(features, {**files, "model.ubj": "another"}) == elsewhere.user_set
    assert user_set_digest(features[::-1], files) != elsewhere.user_set
    for name in ("users.parquet", "items.parquet", "tables/trails.int64", "candidates/seen_items.npy"):
        assert name in files
        assert user_set_digest(features, {**files, name: "another"}) != elsewhere.user_set


@given(st.sets(st.text(max_size=5), max_size=40), st.text(max_size=5))
def test_an_id_is_found_at_its_place(known: set[str], other: str) -> None:
    ids = sorted(known)
    held = SortedIds(pa.chunked_array([pa.array(ids, pa.string())]))
    numbers = NumberOfId(held)
    assert list(held) == ids
    assert held[1:3] == ids[1:3]
    assert dict(numbers) == {name: place for place, name in enumerate(ids)}
    assert numbers.get(other, -1) == (ids.index(other) if other in known else -1)
    assert (other in numbers) == (other in known)
    assert len(numbers) == len(ids)
