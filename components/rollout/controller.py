"""The controller of a canary: one look after another, each of them small, repeatable, and written down before the next.

    starting -> watching -> promoting -> settling -> promoted
                         -> rolling_back          -> rolled_back

All that it knows is in one file, written whole or not at all; what runs is asked of the target. A decision is written down
before anything is done about it, and what is done may be done again. So the controller may be killed at any moment, and whoever
takes the file up goes on. One at a time holds the lease. What persons want is put beside the file, and done by the next look.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from components.artifacts import documents
from components.errors import InputError, RankgateError
from components.rollout.contract import BASELINE, CANARY, STABLE, Memory, Reading, StepVerdict
from components.rollout.envoy import WHOLE, Split
from components.rollout.judging import judge
from components.rollout.memory import Expected, begin, moved, taken_in, unread
from components.rollout.policy import Latency, Outcome, RolloutPolicy
from components.rollout.reading import Scraped, readings, scraped
from components.rollout.target import Target
from components.rollout.users import UserLedger
from components.serving.exposure_files import Shown
from components.statistics.sequential_users import Contrast

SCHEMA_VERSION = 1
STATE_FILE = "canary.json"
WISHES_FILE = "wishes.jsonl"
LEASE_FILE = "lease"

Phase = Literal["starting", "watching", "promoting", "settling", "promoted", "rolling_back", "rolled_back"]
Wanted = Literal["pause", "resume", "promote", "abort"]
ENDED: tuple[Phase, ...] = ("promoted", "rolled_back")

_LOG = logging.getLogger("rankgate.rollout")
_MOST_HAPPENINGS = 500
_NEAR = 1e-3
_LOOKED_AT = 50
"""Lists of a window that are looked at one by one."""
_MUST_BE_LOGGED = 20
"""Lists that an arm counts in a window without writing down any: its exposures are then not known."""
_ANSWERED = 0.995
"""Share of requests that every arm must have answered in a window whose users are held against the split."""
STARTS_WITHIN = 600.0
"""Seconds until every arm has to be ready."""


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that changed, for a person."""

    at: float
    what: str


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person wants done: a line of the wishes."""

    schema_version: int
    wanted: Wanted
    who: str
    reason: str


@dataclass(frozen=True, slots=True)
class Canary:
    """All that is known of a canary."""

    schema_version: int
    candidate: str
    """Release digests."""
    stable: str
    policy: str
    policy_sha256: str
    began: float
    """Seconds since 1970, as all times."""
    phase: Phase = "starting"
    shares: dict[str, float] = field(default_factory=dict)
    """Of users, by arm: what is in force, or being put in force."""
    paused: bool = False
    wishes_done: int = 0
    """So many lines of the wishes are done with."""
    not_ready: tuple[str, ...] = ()
    """Arms that were not, at the last look."""
    memory: Memory | None = None
    before: dict[str, Scraped] = field(default_factory=dict)
    """By arm: where counters stood at the end of the last window."""
    steps: dict[int, str] = field(default_factory=dict)
    """When each step began, ISO 8601 with microseconds, UTC."""
    moving_to: int | None = None
    """The step that is being put in force: written down before it is, so that users of a split that nobody remembers are not
    counted for the one before."""
    verdict: StepVerdict | None = None
    happenings: tuple[Happening, ...] = ()
    ended: float | None = None
    reason: str = ""
    """Why it ended as it did."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What the judge needs beside the metrics."""

    expectations: Expected = field(default_factory=dict)
    events: Path | None = None
    """What users did; see `components.rollout.users`."""
    gauges: Callable[[Sequence[Shown]], Mapping[str, float]] = lambda _: {}
    """Figures of the canary that its metrics do not tell, from some of the lists that it has just shown."""
    revoked: Callable[[], bool] = lambda: False


class Controller:
    """Takes a canary's looks; holds the lease for as long as its block lasts."""

    def __init__(
        self,
        folder: Path,
        target: Target,
        policy: RolloutPolicy,
        *,
        policy_sha256: str,
        watched: Watched,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder, self._target, self._policy, self._watched = folder, target, policy, watched
        self._policy_sha256, self._clock = policy_sha256, clock
        self._ledger = UserLedger()
        self._has_read = False

    def begin(self, *, candidate: str, stable: str, at: float) -> Canary:
        """Begin a canary, or go on with the one that is under way.

        Raises:
            InputError: If another one is, or its rules have changed since it began.
        """
        held = state_of(self._folder)
        if held is not None and held.phase not in ENDED:
            if (held.candidate, held.stable) != (candidate, stable):
                raise InputError(
                    f"canary: found one of release {held.candidate[:12]} against {held.stable[:12]} under way; needed none. "
                    "Wait for its end, or end it: rankgate canary abort"
                )
            if held.policy_sha256 != self._policy_sha256:
                raise InputError(
                    f"canary: was begun under {held.policy}, whose file has changed since; rules are not changed under way. "
                    "Restore the file, or end the canary: rankgate canary abort"
                )
            return held
        if candidate == stable:
            raise InputError(f"canary: release {candidate[:12]} is in service already.")
        self._outcomes_can_be_read()
        # What was wanted of another canary is not wanted of this one.
        done = len(_wishes(self._folder))
        canary = Canary(
            SCHEMA_VERSION, candidate, stable, self._policy.label, self._policy_sha256, at, wishes_done=done
        )
        return self._save(_told(canary, at, f"Canary of {candidate[:12]} against {stable[:12]} begun."))

    def look(self, at: float) -> Canary:
        """One look: read, judge, act, write down. Nothing happens to a canary that has ended.

        Raises:
            InputError: If there is none.
        """
        canary = state_of(self._folder)
        if canary is None:
            raise InputError(
                f"canary: there is none at {self._folder}. Start one: rankgate canary start RUN --stable RUN"
            )
        if canary.phase in ENDED:
            return canary
        canary = self._wished(canary, at)
        if canary.phase == "starting":
            canary = self._starting(canary, at)
        elif canary.phase == "watching":
            canary = self._watching(canary, at)
        # What was decided is begun at once, for it is written down.
        if canary.phase == "promoting" and self._watched.revoked():
            canary = self._leaving(canary, at, "rolling_back", "The approval of this release has been revoked.")
        if canary.phase == "promoting":
            canary = self._promoting(canary)
        elif canary.phase == "rolling_back":
            canary = self._rolling_back(canary, at)
        if canary.phase == "settling":
            canary = self._ended(canary, at, "promoted", "Promoted: everyone is answered by the new release.")
        return self._save(canary)

    def _outcomes_can_be_read(self) -> None:
        needed = [guardrail.id for guardrail in self._policy.guardrails if isinstance(guardrail, Outcome)]
        if needed and self._watched.events is None:
            raise InputError(
                f"policy {self._policy.label}: its guardrails {', '.join(needed)} ask what users did; needed their events. "
                "Name them: --events FOLDER"
            )

    def _wished(self, canary: Canary, at: float) -> Canary:
        """With what persons wanted meanwhile, in their order; what is too late is told."""
        wishes = _wishes(self._folder)
        for number in range(canary.wishes_done, len(wishes)):
            wish = wishes[number]
            why = f" ({wish.reason})" if wish.reason else ""
            canary = replace(canary, wishes_done=number + 1)
            if wish.wanted in ("pause", "resume"):
                done = f"{'Paused' if wish.wanted == 'pause' else 'Resumed'} by {wish.who}{why}."
                canary = _told(replace(canary, paused=wish.wanted == "pause"), at, done)
            elif wish.wanted == "abort" and canary.phase in ("starting", "watching"):
                canary = self._leaving(canary, at, "rolling_back", f"Aborted by {wish.who}{why}.")
            elif wish.wanted == "promote" and canary.phase == "watching":
                reason = f"Promoted by {wish.who} before the policy's end{why}."
                canary = self._leaving(canary, at, "promoting", reason)
            else:
                is_now = canary.phase.replace("_", " ")
                canary = _told(canary, at, f"{wish.who} wanted to {wish.wanted}{why}: not done, for it is {is_now}.")
        return canary

    def _starting(self, canary: Canary, at: float) -> Canary:
        if self._watched.revoked():
            return self._leaving(canary, at, "rolling_back", "The approval of this release has been revoked.")
        canary = self._serving(canary, at, (STABLE,))
        if not canary.not_ready:
            canary = self._put_in_force(canary, {STABLE: 1.0})
            # All are started before any is waited for.
            canary = self._serving(canary, at, self._arms())
        if canary.not_ready:
            if at - canary.began > STARTS_WITHIN:
                ill = " and the ".join(canary.not_ready)
                reason = f"The {ill} arm was not ready within {STARTS_WITHIN / 60:g} min."
                return self._leaving(canary, at, "rolling_back", reason)
            return canary
        before = self._scrapes(at)
        if any(arm not in before or not before[arm].replicas for arm in self._arms()):
            return canary
        canary = self._put_in_force(canary, self._shares(0))
        began = self._clock()
        canary = replace(
            canary, phase="watching", memory=begin(self._policy, at=at), before=before, steps={0: _iso(began)}
        )
        return _told(canary, at, f"All arms are ready: {self._words(0)}.")

    def _serving(self, canary: Canary, at: float, arms: Sequence[str]) -> Canary:
        """With arms as they should be, as far as they are; what has become of one that was ready is told."""
        releases = {CANARY: canary.candidate, STABLE: canary.stable, BASELINE: canary.stable}
        ready = {arm: self._target.serve(arm, releases[arm]) for arm in arms}
        ill = tuple(arm for arm, is_ready in ready.items() if not is_ready)
        if canary.phase == "watching":
            for arm in ill:
                if arm not in canary.not_ready:
                    canary = _told(canary, at, f"The {arm} arm is not ready.")
            for arm in canary.not_ready:
                if arm not in ill:
                    canary = _told(canary, at, f"The {arm} arm is ready again.")
        return replace(canary, not_ready=ill)

    def _watching(self, canary: Canary, at: float) -> Canary:
        memory = canary.memory
        if memory is None:
            raise RankgateError("canary: is watched and remembers nothing; its file was changed by somebody.")
        canary = self._serving(canary, at, self._arms())
        if canary.moving_to is not None:
            return self._moved(canary, memory, canary.moving_to, at)
        # Envoy may have been started anew.
        canary = self._put_in_force(canary, self._shares(memory.step))
        memory, before = self._read(canary, memory, at)
        verdict = judge(self._policy, memory, outcomes=self._outcomes(), at=at, revoked=self._watched.revoked())
        last = canary.verdict
        canary = replace(canary, memory=memory, before=before, verdict=verdict)
        if verdict.action == "roll_back":
            return self._leaving(canary, at, "rolling_back", verdict.reason)
        if verdict.action == "hold" or canary.paused:
            if last is None or last.action != verdict.action:
                what = "Hold" if verdict.action == "hold" else "Would go on, but is paused"
                canary = _told(canary, at, f"{what}: {verdict.reason}")
            return canary
        step = memory.step + 1
        if step == len(self._policy.steps):
            return self._leaving(canary, at, "promoting", verdict.reason)
        canary = self._save(_told(replace(canary, moving_to=step), at, verdict.reason))
        return self._moved(canary, memory, step, at)

    def _moved(self, canary: Canary, memory: Memory, step: int, at: float) -> Canary:
        """In another step: its windows, and its users, begin once its split is in force."""
        canary = self._put_in_force(canary, self._shares(step))
        return _told(
            replace(
                canary,
                memory=moved(memory, step=step, at=at),
                before=self._scrapes(at),
                steps={**canary.steps, step: _iso(self._clock())},
                moving_to=None,
                verdict=None,
            ),
            at,
            f"Now {self._words(step)}.",
        )

    def _read(self, canary: Canary, memory: Memory, at: float) -> tuple[Memory, dict[str, Scraped]]:
        """With the window that ends now taken in, and where the next one begins."""
        new_users: dict[str, int] = {}
        counted_from = "" if self._has_read else _iso(memory.until)
        latest: deque[Shown] = deque(maxlen=_LOOKED_AT)
        for arm in self._arms():
            lists = self._target.shown(arm)
            if arm == CANARY:
                lists = _remembering(lists, latest)
            try:
                added = self._ledger.add(lists, steps=canary.steps, counted_from=counted_from)
            except InputError as error:
                # Users of an arm that are not known are missed by the check of the split.
                _LOG.warning("%s", error)
                continue
            for name, count in added.items():
                new_users[name] = new_users.get(name, 0) + count
        self._has_read = True
        now = self._scrapes(at)
        shares = self._shares(memory.step)
        bounds = {guardrail.bounds for guardrail in self._policy.guardrails if isinstance(guardrail, Latency)}
        # The windows of all arms begin together: an arm that could not be read at the last look has none this time.
        found = [
            reading
            for arm, scrape in now.items()
            if arm in canary.before and canary.before[arm].at >= memory.until - _NEAR
            for reading in readings(
                canary.before[arm],
                scrape,
                arm=arm,
                share=shares[arm],
                new_users=new_users.get(arm, 0),
                latency_bounds=next(iter(bounds)) if len(bounds) == 1 else None,
            )
        ]
        found = _without_unanswered([self._with_gauges(reading, latest) for reading in found])
        if not found:
            return unread(memory, self._policy, at=at), now
        return taken_in(memory, self._policy, found, expectations=self._watched.expectations), now

    def _with_gauges(self, reading: Reading, latest: Sequence[Shown]) -> Reading:
        """The canary's, with what its shown lists tell; nothing where it answers and writes nothing down."""
        if reading.arm != CANARY or reading.segment:
            return reading
        if not latest and reading.counts.get("lists", 0.0) >= _MUST_BE_LOGGED:
            return reading
        return replace(reading, gauges={**reading.gauges, **self._watched.gauges(latest)})

    def _outcomes(self) -> dict[str, Contrast]:
        if self._watched.events is None:
            return {}
        found = {}
        for guardrail in self._policy.guardrails:
            if isinstance(guardrail, Outcome):
                try:
                    found[guardrail.id] = self._ledger.outcomes(
                        self._watched.events, guardrail.measure, other=self._policy.compare_with
                    )
                except InputError as error:
                    # What users did is then not known, which holds the canary: no reason to leave it alone.
                    _LOG.warning("%s", error)
        return found

    def _promoting(self, canary: Canary) -> Canary:
        """The canary takes all, the stable arm is made anew behind it and takes all back."""
        # Written down before the stable arm is touched: whoever has to turn back must know that nobody may be sent there.
        canary = self._save(self._put_in_force(canary, {CANARY: 1.0}))
        if not self._target.serve(STABLE, canary.candidate):
            return canary
        return replace(self._put_in_force(canary, {STABLE: 1.0}), phase="settling")

    def _rolling_back(self, canary: Canary, at: float) -> Canary:
        """Waits for nothing, except where a promotion has taken the stable arm away: it is made anew first."""
        if canary.shares == {CANARY: 1.0}:
            canary = self._put_in_force(canary, {CANARY: 1.0})
            if not self._target.serve(STABLE, canary.stable):
                return canary
        canary = self._put_in_force(canary, {STABLE: 1.0})
        return self._ended(canary, at, "rolled_back", "Rolled back: everyone is answered by the stable release.")

    def _ended(self, canary: Canary, at: float, phase: Phase, what: str) -> Canary:
        """Ended, once the arms that nobody is sent to any more are gone."""
        gone = [self._target.stop(arm) for arm in self._arms() if arm != STABLE]
        return _told(replace(canary, phase=phase, ended=at), at, what) if all(gone) else canary

    def _leaving(self, canary: Canary, at: float, phase: Phase, reason: str) -> Canary:
        """With a decision, which is written down before anything is done about it."""
        return self._save(_told(replace(canary, phase=phase, reason=reason), at, reason))

    def _put_in_force(self, canary: Canary, shares: Mapping[str, float]) -> Canary:
        parts = {arm: round(share * WHOLE) for arm, share in shares.items() if arm != STABLE}
        if STABLE in shares:
            parts[STABLE] = WHOLE - sum(parts.values())
        self._target.split(Split(canary.candidate, parts))
        return replace(canary, shares=dict(shares))

    def _scrapes(self, at: float) -> dict[str, Scraped]:
        traffic = self._target.traffic()
        found = {}
        for arm in self._arms():
            texts = self._target.metrics(arm)
            # Of an arm that does not answer Envoy still tells how many it failed.
            if traffic:
                try:
                    found[arm] = scraped(texts, traffic, arm=arm, at=at)
                except InputError as error:
                    _LOG.warning("%s", error)
        return found

    def _arms(self) -> tuple[str, ...]:
        return (CANARY, STABLE, BASELINE) if self._policy.compare_with == BASELINE else (CANARY, STABLE)

    def _shares(self, step: int) -> dict[str, float]:
        share = self._policy.steps[step].share
        if self._policy.compare_with == BASELINE:
            return {CANARY: share, STABLE: 1 - 2 * share, BASELINE: share}
        return {CANARY: share, STABLE: 1 - share}

    def _words(self, step: int) -> str:
        return f"step {step + 1} of {len(self._policy.steps)}, {100 * self._policy.steps[step].share:g} % of users"

    def _save(self, canary: Canary) -> Canary:
        documents.save(canary, self._folder / STATE_FILE)
        return canary


class LeaseHeldError(InputError):
    """Somebody else takes the looks."""


@contextmanager
def lease(folder: Path) -> Iterator[None]:
    """The right to look; the system takes it back from a process that ends in whatever way.

    Raises:
        LeaseHeldError: If another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder / LEASE_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(file, 32, 0).decode(errors="replace").strip()
            raise LeaseHeldError(
                f"canary: process {holder or 'of another person'} watches it; one does at a time. See it: rankgate canary status"
            ) from error
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(file)


def state_of(folder: Path) -> Canary | None:
    """The canary of a folder, if there is one.

    Raises:
        InputError: If its file is none of ours.
    """
    place = folder / STATE_FILE
    return documents.load(Canary, place) if place.exists() else None


def wish(folder: Path, wanted: Wanted, *, who: str, reason: str) -> None:
    """Let the next look do something. Wishes are done in the order in which they are told.

    Raises:
        InputError: If no canary is under way.
    """
    held = state_of(folder)
    if held is None or held.phase in ENDED:
        raise InputError("canary: found none under way; needed one. Start it: rankgate canary start RUN --stable RUN")
    line = documents.to_bytes(Wish(SCHEMA_VERSION, wanted, who, reason))
    # At once and at the end, so that two persons' wishes are two lines; canonical JSON has no line break within.
    file = os.open(folder / WISHES_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        os.write(file, line)
        os.fsync(file)
    finally:
        os.close(file)


def _wishes(folder: Path) -> list[Wish]:
    try:
        lines = (folder / WISHES_FILE).read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return [
        documents.parse(Wish, line, subject=f"{WISHES_FILE}, line {number}")
        for number, line in enumerate(lines, 1)
        if line.endswith(b"\n")
    ]


def _without_unanswered(found: list[Reading]) -> list[Reading]:
    """Without users, where an arm did not answer: of those nobody knows who they were, or the stable arm wrote them down.

    The split of users is known by lists that were shown. An arm that fails would pass for a wrong split, which voids the very
    comparison that shows the failing.
    """
    answered = (
        one.counts.get("errors", 0.0) <= (1 - _ANSWERED) * one.counts.get("requests", 0.0)
        for one in found
        if not one.segment
    )
    return found if all(answered) else [replace(reading, new_users=0) for reading in found]


def _remembering(lists: Iterable[Shown], latest: deque[Shown]) -> Iterator[Shown]:
    for shown in lists:
        latest.append(shown)
        yield shown


def _told(canary: Canary, at: float, what: str) -> Canary:
    return replace(canary, happenings=(*canary.happenings, Happening(at, what))[-_MOST_HAPPENINGS:])


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")
