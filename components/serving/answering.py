"""An ask becomes an answer, whatever goes wrong on the way: the ladder of what is shown instead.

    scored list of the candidates                     as asked
      none of them may be shown                    -> retrieved list, scored                   nothing_eligible
      no source names anything                     -> what is popular                          nothing_retrieved
      a shared store did not give the user         -> scored by the release's own tables       missing_features
      too little time is left to score             -> candidates, else what is popular         deadline
      scoring raises                               -> candidates, else what is popular         failed

Unknown users and items are no rung of their own: the model scores them by what it knows, and the answer says so. Every list,
scored or not, keeps to the rules, to what the user has taken where that is excluded, and to the ask's own exclusions. So an
answer is empty only where nothing in the catalogue may be shown.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from components.errors import Fault, FaultyInputError
from components.ranker.contract import Explanation
from components.ranker.scoring import LoadedRanker
from components.serving.contract import (
    DEADLINE,
    FAILED,
    FALLBACK,
    FALLBACKS,
    MISSING_FEATURES,
    NOTHING_ELIGIBLE,
    NOTHING_RETRIEVED,
    UNEXPLAINED,
    UNKNOWN_ITEMS,
    UNKNOWN_USER,
    Answer,
    Ask,
    Interaction,
    Looked,
    Place,
)
from components.serving.pace import Pace

_LOG = logging.getLogger("rankgate.serving")

_EXPLAINED_TOGETHER = 4
_WARM_ROUNDS = 20
_REWARM_ROUNDS = 5
"""The code is warm already; what is looked up is not."""
_MOST_FAULTS = 5
_WARM_ITEMS = 100

Clock = Callable[[], float]


@dataclass(slots=True)
class _Course:
    """What has happened to one ask so far."""

    ranker: LoadedRanker
    """Who knows the user best."""
    reasons: set[str]
    stages: dict[str, float]
    taken: tuple[str, ...] = ()
    """What the user took in this session, oldest first."""


class _Watch:
    """Adds the seconds of each stage to a sum, from where the one before it ended."""

    def __init__(self, clock: Clock, stages: dict[str, float]) -> None:
        self._clock, self._stages = clock, stages
        self.last = clock()

    def lap(self, stage: str) -> None:
        now = self._clock()
        self._stages[stage] = self._stages.get(stage, 0.0) + now - self.last
        self.last = now


class Answerer:
    """Answers with an opened ranker; from one thread at a time, as the ranker itself."""

    def __init__(
        self,
        ranker: LoadedRanker,
        *,
        release: str,
        arm: str,
        clock: Clock = time.monotonic,
    ) -> None:
        """Work out the list to fall back on; a ranker that cannot even do that is not served.

        Args:
            ranker: The opened ranker.
            release: Digest of its release, told in every answer.
            arm: The rollout's arm, likewise.
            clock: Seconds; deadlines are instants of it.
        """
        self._ranker, self._release, self._arm, self._clock = ranker, release, arm, clock
        self._unscored = ranker.unscored_lists()
        self._pace = Pace()

    def over(self, ranker: LoadedRanker) -> Answerer:
        """The same release over other features, warmed up; how long scoring takes stays known.

        May be asked for in another thread than this one answers in: they share a model, which may be asked in several, and until
        this returns nothing else. What is learned of time while two threads are at work is forgotten.
        """
        other = Answerer(ranker, release=self._release, arm=self._arm, clock=self._clock)
        other.warm_up(rounds=_REWARM_ROUNDS)
        other._pace = self._pace
        return other

    @property
    def ranker(self) -> LoadedRanker:
        """What is answered with."""
        return self._ranker

    @property
    def release(self) -> str:
        """Digest of the release that answers."""
        return self._release

    @property
    def arm(self) -> str:
        """The rollout's arm that answers."""
        return self._arm

    def faults(self, ask: Ask) -> list[Fault]:
        """What is wrong with an ask, by its fields; of what only the ranker can know too."""
        found = []
        if ask.k < 1:
            found.append(Fault("k", str(ask.k), "at least 1"))
        known = self._ranker.context
        if unknown := sorted(ask.context.keys() - set(known)):
            found.append(Fault("context", ", ".join(unknown), f"one of: {', '.join(known) or 'none is used'}"))
        if ask.session:
            events = self._ranker.events
            found += [
                Fault(f"session.{place}.event", repr(one.event)[:80], f"one of: {', '.join(events)}")
                for place, one in enumerate(ask.session)
                if one.event not in events
            ][:_MOST_FAULTS]
        return found

    def warm_up(self, rounds: int = _WARM_ROUNDS) -> None:
        """Go through every way of answering, until the first client finds them warm and deadlines an estimate."""
        items = tuple(self._ranker.item_ids[:_WARM_ITEMS])
        user = next(iter(self._ranker.user_ids), None)
        for number in range(rounds):
            for who in (None, user):
                for looked in self._ways(who):
                    self.answer(Ask(f"warm-{number}", who, None, 20), looked)
                    self.answer(Ask(f"warm-{number}", who, items, 20), looked)
        self.answer(Ask("warm", user, items[:5], 5, explain=True))

    def _ways(self, user_id: str | None) -> list[Looked | None]:
        """How the first user, or a visitor, may be known."""
        if user_id is None or not self._ranker.users_elsewhere:
            return [None]
        ((_, user),) = self._ranker.stored_users(range(1))
        return [Looked(user, "", 0.0), Looked(None, "warm", 0.0)]

    def spare(self, ask: Ask) -> float:
        """Seconds that the deadline leaves beside scoring, for whatever has to be done before; infinite without one."""
        if ask.deadline is None:
            return math.inf
        return ask.deadline - self._clock() - self._pace.needed(_kind(ask.candidates, slow=False))

    def answer(self, ask: Ask, looked: Looked | None = None) -> Answer:
        """The list to show, by the first rung of the ladder that holds.

        Args:
            ask: What is asked.
            looked: What a shared store said of the user; None where it was not asked.

        Raises:
            FaultyInputError: If the ask has `faults`; nothing else is raised.
        """
        if faults := self.faults(ask):
            raise FaultyInputError(f"request {ask.request_id}", faults)
        course = _Course(self._ranker, set(), {}, _taken(ask.session, self._ranker.taking_events))
        if course.taken and self._ranker.manifest.rerank.exclude_seen:
            # On every rung: what was taken a minute ago is as little wanted again as what was taken yesterday.
            ask = replace(ask, exclude=ask.exclude | set(course.taken))
        if looked is not None:
            course.ranker = self._knowing(ask, looked)
            course.stages["store"] = looked.seconds
            if course.ranker is self._ranker:
                course.reasons.add(MISSING_FEATURES)
        elif ask.user_id is not None and not self._ranker.knows_user(ask.user_id):
            course.reasons.add(UNKNOWN_USER)
        if ask.candidates is not None and not self._ranker.knows_items(ask.candidates):
            course.reasons.add(UNKNOWN_ITEMS)
        places = self._scored(ask, course)
        if places is None:
            places = self._not_scored(ask, course)
        answer = Answer(
            request_id=ask.request_id,
            places=places,
            release=self._release,
            arm=self._arm,
            fallbacks=_ordered(course.reasons),
            stages=course.stages,
        )
        if not ask.explain:
            return answer
        began = self._clock()
        parts = list(self.explanations(ask, answer, looked))
        return explained(answer, parts, seconds=self._clock() - began)

    def _knowing(self, ask: Ask, looked: Looked | None) -> LoadedRanker:
        """The ranker that knows the user as the store does; the one that has its own tables where that is not to be had."""
        if looked is None or looked.user is None or ask.user_id is None:
            return self._ranker
        try:
            return self._ranker.knowing(ask.user_id, looked.user)
        except Exception:
            _LOG.exception("a stored user does not fit", extra={"request_id": ask.request_id})
            return self._ranker

    def explanations(self, ask: Ask, answer: Answer, looked: Looked | None = None) -> Iterator[tuple[Explanation, ...]]:
        """Why each place has its score, a few places at a time: shares of scores cost a hundred times what scores do.

        Ends early where a score is not the model's, or where explaining fails.
        """
        if any(place.source == FALLBACK for place in answer.places):
            return
        ranker = self._knowing(ask, looked)
        for begin in range(0, len(answer.places), _EXPLAINED_TOGETHER):
            items = [place.item_id for place in answer.places[begin : begin + _EXPLAINED_TOGETHER]]
            try:
                part = ranker.explain(ask.user_id, items, context=ask.context)
            except Exception:
                _LOG.exception("explaining failed", extra={"request_id": ask.request_id})
                return
            yield part

    def _scored(self, ask: Ask, course: _Course) -> tuple[Place, ...] | None:
        """The model's list; None where it has none to give."""
        if ask.candidates is not None:
            places = self._shown(ask, ask.candidates, course)
            if places is None or places:
                return places
            course.reasons.add(NOTHING_ELIGIBLE)
        places = self._shown(ask, None, course)
        if places is None or places:
            return places
        course.reasons.add(NOTHING_RETRIEVED)
        return None

    def _shown(self, ask: Ask, candidates: Sequence[str] | None, course: _Course) -> tuple[Place, ...] | None:
        """The model's list of these candidates; None where there was no time for it, or where it failed."""
        kind = _kind(candidates, slow=MISSING_FEATURES in course.reasons)
        if not self._in_time(ask, kind):
            course.reasons.add(DEADLINE)
            return None
        watch = _Watch(self._clock, course.stages)
        began = watch.last
        try:
            shown = course.ranker.show(
                ask.user_id,
                candidates,
                k=ask.k,
                context=ask.context,
                exclude=ask.exclude,
                taken=course.taken,
                request=ask.request_id if ask.explore else None,
                lap=watch.lap,
            )
        except Exception:
            # Whatever it is, the client did nothing wrong (it has no `faults`) and is owed a list.
            _LOG.exception("scoring failed", extra={"request_id": ask.request_id})
            course.reasons.add(FAILED)
            return None
        self._pace.took(kind, self._clock() - began)
        return tuple(shown)

    def _in_time(self, ask: Ask, kind: Hashable) -> bool:
        if ask.deadline is None or self._clock() + self._pace.needed(kind) <= ask.deadline:
            return True
        self._pace.gave_up(kind)
        return False

    def _not_scored(self, ask: Ask, course: _Course) -> tuple[Place, ...]:
        began = self._clock()
        listed = []
        if ask.candidates is not None and NOTHING_ELIGIBLE not in course.reasons:
            listed = self._unscored.of_candidates(
                ask.user_id, ask.candidates, k=ask.k, context=ask.context, exclude=ask.exclude
            )
            if not listed:
                course.reasons.add(NOTHING_ELIGIBLE)
        if not listed:
            listed = self._unscored.of_catalogue(ask.user_id, k=ask.k, context=ask.context, exclude=ask.exclude)
        course.stages["fallback"] = self._clock() - began
        return tuple(
            Place(one.item_id, one.score, rank, propensity=1.0, explored=False, source=FALLBACK)
            for rank, one in enumerate(listed, start=1)
        )


def explained(answer: Answer, parts: Iterable[Sequence[Explanation]], *, seconds: float) -> Answer:
    """The answer with its explanations; with none, and the reason for it, unless there is one for each place.

    Args:
        answer: Without explanations.
        parts: What `Answerer.explanations` gave for it.
        seconds: That it took.
    """
    found = tuple(one for part in parts for one in part)
    whole = len(found) == len(answer.places)
    return replace(
        answer,
        explanations=found if whole else (),
        fallbacks=answer.fallbacks if whole else _ordered({*answer.fallbacks, UNEXPLAINED}),
        stages={**answer.stages, "explain": seconds},
    )


def _taken(session: Sequence[Interaction], events: Collection[str]) -> tuple[str, ...]:
    """Distinct items that were taken in a session, in the order of their latest time, oldest first."""
    if not session:
        return ()
    latest = {one.item_id: one for one in sorted(session, key=lambda one: -one.seconds_ago) if one.event in events}
    return tuple(sorted(latest, key=lambda item: -latest[item].seconds_ago))


def _kind(candidates: Sequence[str] | None, *, slow: bool) -> Hashable:
    """What asks take about equally long; `slow` is without features that are laid out."""
    return candidates is None, 0 if candidates is None else len(candidates).bit_length(), slow


def _ordered(reasons: Collection[str]) -> tuple[str, ...]:
    return tuple(reason for reason in FALLBACKS if reason in reasons)
