"""What a user did just now: it seeds retrieval, it is left out where what was taken is, and it changes no score."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.errors import FaultyInputError
from components.ranker.contract import RerankRules
from components.ranker.scoring import LoadedRanker
from components.serving.answering import Answerer
from components.serving.contract import Answer, Ask, Interaction

SEEN_IS_LEFT_OUT = RerankRules(0, 0, 10, exclude_seen=True)


def answerer(ranker: LoadedRanker) -> Answerer:
    return Answerer(ranker, release="d" * 64, arm="")


def ask(*session: tuple[str, str, float], user: str | None = None, k: int = 400, **said: Any) -> Ask:
    return Ask(
        "r-1", user, said.pop("candidates", None), k, session=tuple(Interaction(*one) for one in session), **said
    )


def sources(answer: Answer) -> dict[str, str]:
    return {place.item_id: place.source for place in answer.places}


def few(changed: Any, **said: Any) -> LoadedRanker:
    """A ranker whose retrieval names few, so that it matters who they are."""
    quotas = {"covisitation": 10, "factors": 5, "popularity": 5, "newest": 2}
    ranker: LoadedRanker = changed(candidate_sources=quotas, **said)
    return ranker


def test_for_a_visitor_retrieval_finds_what_is_near_what_they_took(changed: Any) -> None:
    ranker = few(changed)
    shop = answerer(ranker)
    plain, seeded = shop.answer(ask()), shop.answer(ask((ranker.item_ids[5], "click", 30.0)))
    assert set(sources(plain).values()) <= {"popularity", "newest"}
    near = {item for item, source in sources(seeded).items() if source == "covisitation"}
    index = ranker._index
    known = {ranker.item_ids[place] for place in index.neighbours.matrix()[[5], :].indices}
    assert near
    assert near <= known
    # Those that both found have the same scores: features are as of the bucket.
    scores = {place.item_id: place.score for place in plain.places}
    assert all(place.score == scores[place.item_id] for place in seeded.places if place.item_id in scores)
    assert seeded.fallbacks == plain.fallbacks == ()


def test_it_joins_what_is_known_of_the_user(changed: Any) -> None:
    ranker = few(changed)
    shop, user = answerer(ranker), ranker.user_ids[7]
    assert len(ranker._index.seen.of(7))
    plain = shop.answer(ask(user=user))
    # What is known already tells nothing new, and what nobody knows nothing at all.
    known = ranker.item_ids[int(ranker._index.seen.of(7)[0])]
    assert shop.answer(ask((known, "purchase", 5.0), user=user)).places == plain.places
    assert shop.answer(ask(("no-such-item", "purchase", 5.0), user=user)).places == plain.places
    new = [item for place, item in enumerate(ranker.item_ids) if place not in ranker._index.seen.of(7)][:10]
    assert sources(shop.answer(ask(*((item, "click", 5.0) for item in new), user=user))) != sources(plain)


def test_only_what_counts_as_taken_says_anything(changed: Any) -> None:
    ranker = few(changed)
    shop = answerer(ranker)
    assert shop.answer(ask((ranker.item_ids[5], "impression", 5.0))).places == shop.answer(ask()).places


def test_order_and_repetition_make_no_difference(changed: Any) -> None:
    ranker = few(changed)
    shop, items = answerer(ranker), ranker.item_ids
    one = [(items[5], "click", 60.0), (items[9], "purchase", 20.0)]
    again = [*reversed(one), (items[5], "click", 600.0)]
    assert shop.answer(ask(*one)).places == shop.answer(ask(*again)).places


@pytest.mark.parametrize("candidates", [None, "given"])
@pytest.mark.parametrize("deadline", [None, 0.0])
def test_where_what_was_taken_is_left_out_so_is_this_on_every_rung(
    changed: Any, candidates: str | None, deadline: float | None
) -> None:
    ranker = changed(rerank=SEEN_IS_LEFT_OUT)
    shop = answerer(ranker)
    asked = ask(k=30, candidates=None if candidates is None else tuple(ranker.item_ids[:60]), deadline=deadline)
    shown = [place.item_id for place in shop.answer(asked).places]
    session = tuple(Interaction(item, "click", 1.0) for item in shown[:3])
    again = [place.item_id for place in shop.answer(replace(asked, session=session)).places]
    assert not set(shown[:3]) & set(again)
    assert len(again) == 30


def test_where_it_is_not_left_out_it_may_be_shown_again(ranker: LoadedRanker) -> None:
    shop = answerer(ranker)
    (first, *_) = shop.answer(ask(k=5)).places
    assert first.item_id in sources(shop.answer(ask((first.item_id, "click", 1.0))))


def test_events_that_the_ranker_was_not_trained_with_are_refused_by_their_place(ranker: LoadedRanker) -> None:
    wrong = ask(("1", "click", 1.0), ("1", "wish", 2.0))
    with pytest.raises(FaultyInputError, match=r"session\.1\.event: found 'wish'; needed one of: .*click"):
        answerer(ranker).answer(wrong)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_whatever_was_done_a_list_is_answered_and_given_candidates_keep_their_scores(
    ranker: LoadedRanker, data: st.DataObject
) -> None:
    items = [*ranker.item_ids[:30], "no-such-item", ""]
    event = st.tuples(st.sampled_from(items), st.sampled_from(ranker.events), st.floats(0, 7 * 86_400))
    session = data.draw(st.lists(event, max_size=12))
    user = data.draw(st.sampled_from([None, "nobody", *ranker.user_ids[:5]]))
    shop = answerer(ranker)
    given_ = tuple(ranker.item_ids[:40])
    assert shop.answer(ask(*session, user=user, k=5)).places
    with_, without = (shop.answer(ask(*one, user=user, candidates=given_)) for one in (session, ()))
    assert with_.places == without.places
