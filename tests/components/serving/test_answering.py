"""The ladder, rung by rung: each has its list, its reason, and what it must never show."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.errors import FaultyInputError, InputError
from components.ranker.candidates.index import SOURCES
from components.ranker.contract import AttributeRule, Exploration, RerankRules
from components.ranker.scoring import LoadedRanker
from components.serving.answering import Answerer
from components.serving.contract import (
    DEADLINE,
    FAILED,
    FALLBACK,
    FALLBACKS,
    NOTHING_ELIGIBLE,
    NOTHING_RETRIEVED,
    STAGES,
    UNEXPLAINED,
    UNKNOWN_ITEMS,
    UNKNOWN_USER,
    UNSCORED,
    Answer,
    Ask,
)

NO_RULES = RerankRules(0, 0, 10, exclude_seen=False)


class Hands:
    """A clock that stands still until somebody moves its hands."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Slow:
    """A ranker whose scoring takes the time it is told; all else is the real one's."""

    def __init__(self, ranker: LoadedRanker, hands: Hands, seconds: Iterator[float]) -> None:
        self._ranker, self._hands, self._seconds = ranker, hands, seconds
        self.scored = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ranker, name)

    def show(self, *words: Any, **said: Any) -> Any:
        self.scored += 1
        self._hands.now += next(self._seconds)
        return self._ranker.show(*words, **said)


class Broken:
    """A ranker that cannot score; all else is the real one's."""

    def __init__(self, ranker: LoadedRanker, error: Exception) -> None:
        self._ranker, self._error = ranker, error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ranker, name)

    def show(self, *_: Any, **__: Any) -> Any:
        raise self._error

    def explain(self, *_: Any, **__: Any) -> Any:
        raise self._error


def ask(candidates: list[str] | None = None, *, user: str | None = None, k: int = 5, **said: Any) -> Ask:
    return Ask("r-1", user, None if candidates is None else tuple(candidates), k, **said)


def ids(answer: Answer) -> list[str]:
    return [place.item_id for place in answer.places]


def answerer(ranker: Any, **said: Any) -> Answerer:
    return Answerer(ranker, release="d" * 64, arm="canary", **said)


@pytest.fixture(scope="module")
def shop(ranker: LoadedRanker) -> Answerer:
    return answerer(ranker)


def test_what_is_asked_is_answered_as_the_ranker_ranks_it(shop: Answerer, ranker: LoadedRanker) -> None:
    user, items = ranker.user_ids[3], ranker.item_ids[:30]
    found = shop.answer(ask(items, user=user, k=7, context={"device": "mobile"}))
    assert [(p.item_id, p.score) for p in found.places] == ranker.rank(user, items, k=7, context={"device": "mobile"})
    assert [p.rank for p in found.places] == list(range(1, 8))
    assert {(p.source, p.propensity, p.explored) for p in found.places} == {("given", 1.0, False)}
    assert (found.request_id, found.release, found.arm, found.fallbacks) == ("r-1", "d" * 64, "canary", ())


def test_without_candidates_they_are_retrieved_and_told_by_source(shop: Answerer, ranker: LoadedRanker) -> None:
    user = ranker.user_ids[3]
    found = shop.answer(ask(user=user, k=7))
    assert [(p.item_id, p.score) for p in found.places] == ranker.recommend(user, k=7)
    assert {p.source for p in found.places} <= set(SOURCES)
    assert found.fallbacks == ()


def test_exclusions_are_left_out_and_make_room(shop: Answerer, ranker: LoadedRanker) -> None:
    first = ids(shop.answer(ask(k=5)))
    again = shop.answer(ask(k=5, exclude=frozenset(first[:2])))
    assert ids(again)[:3] == first[2:]
    assert len(again.places) == 5
    assert again.fallbacks == ()


def test_an_unknown_user_is_ranked_as_a_visitor_and_the_answer_says_so(shop: Answerer) -> None:
    stranger, visitor = shop.answer(ask(user="nobody")), shop.answer(ask())
    assert ids(stranger) == ids(visitor)
    assert stranger.fallbacks == (UNKNOWN_USER,)
    assert visitor.fallbacks == ()


def test_unknown_items_are_ranked_too_and_the_answer_says_so(shop: Answerer, ranker: LoadedRanker) -> None:
    found = shop.answer(ask(["no such item", *ranker.item_ids[:2]], user="nobody"))
    assert sorted(ids(found)) == sorted(["no such item", *ranker.item_ids[:2]])
    assert found.fallbacks == (UNKNOWN_USER, UNKNOWN_ITEMS)


def test_where_no_candidate_may_be_shown_the_list_is_retrieved(shop: Answerer, ranker: LoadedRanker) -> None:
    items = ranker.item_ids[:2]
    found = shop.answer(ask(items, exclude=frozenset(items)))
    assert found.fallbacks == (NOTHING_ELIGIBLE,)
    assert len(found.places) == 5
    assert not set(ids(found)) & set(items)
    assert {p.source for p in found.places} <= set(SOURCES)
    assert ids(shop.answer(ask([]))) == ids(shop.answer(ask()))


def test_where_no_source_names_anything_what_is_popular_is_listed(changed: Any) -> None:
    quiet = changed(candidate_sources=dict.fromkeys(SOURCES, 0))
    assert quiet.recommend(None, k=3) == []
    found = answerer(quiet).answer(ask(k=3))
    assert found.fallbacks == (NOTHING_RETRIEVED,)
    popular = np.argsort(-quiet._index.popularity, kind="stable")[:3]
    assert ids(found) == [quiet.item_ids[item] for item in popular.tolist()]
    assert {p.source for p in found.places} == {FALLBACK}


def test_when_scoring_fails_candidates_keep_a_known_order_and_the_log_says_why(
    ranker: LoadedRanker, caplog: pytest.LogCaptureFixture
) -> None:
    broken = answerer(Broken(ranker, RuntimeError("out of cheese")))
    items = [*ranker.item_ids[:10], "no such item"]
    with caplog.at_level(logging.ERROR):
        found = broken.answer(ask(items, k=20))
    assert found.fallbacks == (UNKNOWN_ITEMS, FAILED)
    assert sorted(ids(found)) == sorted(items)
    assert ids(found)[-1] == "no such item"
    assert [p.score for p in found.places] == sorted((p.score for p in found.places), reverse=True)
    assert {(p.source, p.propensity, p.explored) for p in found.places} == {(FALLBACK, 1.0, False)}
    record = next(record for record in caplog.records if record.message == "scoring failed")
    assert record.request_id == "r-1"  # type: ignore[attr-defined]
    assert record.exc_info


@pytest.mark.parametrize("error", [InputError("features: gone"), MemoryError(), ZeroDivisionError()])
def test_whatever_scoring_raises_a_visitor_is_shown_what_is_popular(ranker: LoadedRanker, error: Exception) -> None:
    found = answerer(Broken(ranker, error)).answer(ask(k=5))
    assert found.fallbacks == (FAILED,)
    assert ids(found) == [item for item, _ in ranker.recommend(None, k=5)]


def test_when_scoring_fails_and_no_candidate_may_be_shown_something_else_is(ranker: LoadedRanker) -> None:
    items = ranker.item_ids[:2]
    found = answerer(Broken(ranker, RuntimeError())).answer(ask(items, exclude=frozenset(items)))
    assert found.fallbacks == (NOTHING_ELIGIBLE, FAILED)
    assert len(found.places) == 5
    assert not set(ids(found)) & set(items)


def test_a_deadline_that_has_passed_is_answered_without_scoring(ranker: LoadedRanker) -> None:
    hands = Hands()
    slow = Slow(ranker, hands, iter([1.0]))
    found = answerer(slow, clock=hands).answer(ask(k=3, deadline=hands.now - 0.001))
    assert (found.fallbacks, slow.scored) == ((DEADLINE,), 0)
    assert ids(found) == [item for item, _ in ranker.recommend(None, k=3)]


def test_a_deadline_of_just_what_scoring_takes_is_scored(ranker: LoadedRanker) -> None:
    hands = Hands()
    slow = Slow(ranker, hands, iter([0.5] * 100))
    held = answerer(slow, clock=hands)
    for _ in range(60):
        held.answer(ask(k=3))
    assert held.answer(ask(k=3, deadline=hands.now + 0.501)).fallbacks == ()
    assert held.answer(ask(k=3, deadline=hands.now + 0.499)).fallbacks == (DEADLINE,)


def test_deadlines_are_kept_within_a_tenth_of_what_scoring_takes(ranker: LoadedRanker) -> None:
    hands, rng = Hands(), np.random.default_rng(0)
    times = 0.010 * rng.lognormal(0, 0.3, 5_000)
    slow = Slow(ranker, hands, iter(times.tolist()))
    held = answerer(slow, clock=hands)
    late, scored = [], 0
    for number in range(600):
        deadline = hands.now + float(rng.uniform(0.0, 0.060))
        found = held.answer(ask(k=3, deadline=deadline))
        scored += found.fallbacks == ()
        if number >= 50:
            late.append(hands.now - deadline)
        assert set(found.fallbacks) <= {DEADLINE}
        assert len(found.places) == 3
    over = np.array([one for one in late if one > 0])
    assert len(over) / len(late) < 0.03
    assert np.quantile(np.maximum(late, 0.0), 0.99) < 0.001
    assert scored > 250


def test_a_service_that_was_slow_once_scores_again(ranker: LoadedRanker) -> None:
    hands = Hands()
    slow = Slow(ranker, hands, iter([0.002] * 50 + [60.0] + [0.002] * 10_000))
    held = answerer(slow, clock=hands)
    for _ in range(51):
        held.answer(ask(k=3))
    answers = [held.answer(ask(k=3, deadline=hands.now + 0.050)).fallbacks for _ in range(400)]
    assert answers[0] == (DEADLINE,)
    assert answers[-100:] == [()] * 100


def test_once_warm_there_is_an_estimate_to_hold_a_deadline_against(ranker: LoadedRanker) -> None:
    hands = Hands()
    slow = Slow(ranker, hands, iter([0.010] * 1_000))
    held = answerer(slow, clock=hands)
    held.warm_up()
    scored = slow.scored
    assert held.answer(ask(ranker.item_ids[:100], deadline=hands.now + 0.005)).fallbacks == (DEADLINE,)
    assert held.answer(ask(deadline=hands.now + 0.005)).fallbacks == (DEADLINE,)
    assert slow.scored == scored


def test_an_ask_without_deadline_waits(ranker: LoadedRanker) -> None:
    hands = Hands()
    held = answerer(Slow(ranker, hands, iter([90.0, 90.0])), clock=hands)
    assert held.answer(ask(k=3)).fallbacks == held.answer(ask(k=3)).fallbacks == ()


def test_stages_are_told_in_seconds_and_cover_what_scoring_took(ranker: LoadedRanker) -> None:
    class Ticking(Hands):
        """Every look at it takes a second."""

        def __call__(self) -> float:
            self.now += 1.0
            return self.now

    held = answerer(ranker, clock=Ticking())
    given, retrieved = held.answer(ask(ranker.item_ids[:9])), held.answer(ask())
    assert given.stages == {"features": 1.0, "score": 1.0, "rerank": 1.0}
    assert retrieved.stages == {"retrieve": 1.0, **given.stages}
    both = held.answer(ask(ranker.item_ids[:1], exclude=frozenset(ranker.item_ids[:1])))
    assert both.stages == retrieved.stages
    late = held.answer(ask(explain=True, deadline=0.0))
    assert late.stages == {"fallback": 1.0, "explain": 1.0}
    assert held.answer(ask(ranker.item_ids[:9], explain=True)).stages == {**given.stages, "explain": 1.0}
    assert set(retrieved.stages) | {"store", "explain", "fallback"} == set(STAGES)


def test_explanations_stand_one_a_place_and_are_those_of_the_ranker(shop: Answerer, ranker: LoadedRanker) -> None:
    user, items = ranker.user_ids[3], ranker.item_ids[:20]
    found = shop.answer(ask(items, user=user, k=4, explain=True))
    assert [one.item_id for one in found.explanations] == ids(found)
    assert [one.score for one in found.explanations] == [p.score for p in found.places]
    assert found.explanations == ranker.explain(user, ids(found))
    assert shop.answer(ask(items, user=user, k=4)).explanations == ()


def test_a_long_list_is_explained_a_few_places_at_a_time(shop: Answerer, ranker: LoadedRanker) -> None:
    one = ask(ranker.item_ids[:50], k=50)
    parts = list(shop.explanations(one, shop.answer(one)))
    assert max(map(len, parts)) <= 4
    together = shop.answer(replace(one, explain=True)).explanations
    assert [said for part in parts for said in part] == list(together)
    assert len(together) == 50


def test_a_list_that_is_explained_in_part_is_not_explained(ranker: LoadedRanker) -> None:
    class Tired(Broken):
        asked = 0

        def show(self, *words: Any, **said: Any) -> Any:
            return self._ranker.show(*words, **said)

        def explain(self, *words: Any, **said: Any) -> Any:
            self.asked += 1
            if self.asked == 2:
                raise self._error
            return self._ranker.explain(*words, **said)

    found = answerer(Tired(ranker, RuntimeError())).answer(ask(ranker.item_ids[:9], k=9, explain=True))
    assert (found.fallbacks, found.explanations, len(found.places)) == ((UNEXPLAINED,), (), 9)


def test_what_was_not_scored_is_not_explained(ranker: LoadedRanker) -> None:
    found = answerer(Broken(ranker, RuntimeError())).answer(ask(k=3, explain=True))
    assert (found.fallbacks, found.explanations) == ((FAILED, UNEXPLAINED), ())
    assert len(found.places) == 3


def test_a_list_that_cannot_be_explained_is_shown_all_the_same(ranker: LoadedRanker) -> None:
    class Silent(Broken):
        def show(self, *words: Any, **said: Any) -> Any:
            return self._ranker.show(*words, **said)

    found = answerer(Silent(ranker, RuntimeError())).answer(ask(k=3, explain=True))
    assert (found.fallbacks, found.explanations) == ((UNEXPLAINED,), ())
    assert ids(found) == [item for item, _ in ranker.recommend(None, k=3)]


@pytest.mark.parametrize(
    ("said", "named"), [({"k": 0}, "k: found 0"), ({"context": {"devise": "x"}}, "context: found devise")]
)
def test_what_only_the_ranker_can_know_to_be_wrong_is_refused(shop: Answerer, said: dict[str, Any], named: str) -> None:
    with pytest.raises(FaultyInputError, match=named) as refused:
        shop.answer(ask(**said))
    assert list(refused.value.faults) == shop.faults(ask(**said))


def test_who_gave_no_key_is_shown_the_list_without_the_draw(changed: Any) -> None:
    held = answerer(changed(rerank=replace(NO_RULES, window=5, exploration=Exploration(1.0, (2,), 8, 0))))
    assert [p.explored for p in held.answer(ask(k=3)).places] == [False, True, False]
    plain = held.answer(ask(k=3, explore=False)).places
    assert [(p.explored, p.propensity) for p in plain] == [(False, 1.0)] * 3


def test_the_same_request_draws_the_same_and_tells_its_propensities(changed: Any) -> None:
    rules = replace(NO_RULES, window=5, exploration=Exploration(0.5, (2, 4), 8, 0))
    held = answerer(changed(rerank=rules))
    drawn = 0
    for number in range(60):
        one, again = (held.answer(replace(ask(k=5), request_id=f"r-{number}")) for _ in range(2))
        assert one.places == again.places
        drawn += any(p.explored for p in one.places)
        for place in one.places:
            assert 0 < place.propensity <= 1
            assert place.rank in (2, 4) or not place.explored
    assert 15 <= drawn <= 45


@pytest.fixture(scope="module")
def strict(ranker: LoadedRanker, small_ranker: Path, changed: Any) -> LoadedRanker:
    """Blocked ids, an excluded price, a cap, what was taken before: everything that can shorten a list."""
    cheap = pc.min(pq.read_table(small_ranker / "items.parquet")["price"]).as_py()
    blocked = tuple(ranker.item_ids[::7])
    return changed(
        rerank=RerankRules(
            2, 0, 5, exclude_seen=True, blocked_items=blocked, exclude=(AttributeRule("price", (cheap,)),)
        )
    )


@pytest.mark.parametrize("way", ["scored", "failed", "late"])
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_answers_are_never_empty_show_nothing_they_must_not_and_do_not_depend_on_when_they_are_asked(
    way: str, strict: LoadedRanker, data: st.DataObject
) -> None:
    hands = Hands()
    held = answerer(Broken(strict, RuntimeError()) if way == "failed" else strict, clock=hands)
    users = [None, "nobody", *strict.user_ids[:10]]
    user = data.draw(st.sampled_from(users))
    names = [*strict.item_ids[:60], "x", "y"]
    candidates = data.draw(st.none() | st.lists(st.sampled_from(names), max_size=30))
    everything = frozenset(strict.item_ids)
    left = frozenset(strict.item_ids[:: data.draw(st.sampled_from([3, 50, 399, 10_000]))])
    exclude = data.draw(st.sampled_from([frozenset(), frozenset(strict.item_ids[:30]), everything - left, everything]))
    one = ask(
        candidates, user=user, k=data.draw(st.integers(1, 40)), exclude=exclude,
        deadline=hands.now - 1 if way == "late" else None,
    )  # fmt: skip
    found, again = held.answer(one), held.answer(one)
    assert replace(found, stages={}) == replace(again, stages={})
    number = strict._users.get(user, -1) if user else -1
    seen = {strict.item_ids[item] for item in strict._index.seen.of(number).tolist()}
    allowed = strict.may_show(user, np.arange(len(strict.item_ids), dtype=np.int32), {}, retrieved=True)
    may = {item for item, yes in zip(strict.item_ids, allowed.tolist(), strict=True) if yes}
    may -= exclude | set(strict.item_ids[::7]) | seen
    shown = ids(found)
    assert len(shown) == len(set(shown)) <= one.k
    assert not set(shown) & (exclude | seen | set(strict.item_ids[::7]))
    assert set(shown) <= may | set(candidates or ())
    assert shown or not may
    assert [p.rank for p in found.places] == list(range(1, len(shown) + 1))
    assert list(found.fallbacks) == [reason for reason in FALLBACKS if reason in found.fallbacks]
    assert {p.source == FALLBACK for p in found.places} <= {bool(UNSCORED & set(found.fallbacks))}
