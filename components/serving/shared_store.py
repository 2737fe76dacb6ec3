"""Users from a shared store: asked for before a list is scored, within a budget, never waited for longer.

    users(ranker, ids, seconds) -> by id what the store said: the user, or why not

    one connection, kept by a task of its own:  connect -> is the set whole? -> look again each second
        lost, or a failing answer in five       -> closed; tried again after 0.1 s, doubling to 5 s; meanwhile nobody asks

Whatever is wrong with the store is an answer without the user, who is then ranked by the ranker's own tables: slower, and to
the bit the same. A set counts once its mark is there, which is written last. Which set is asked for is decided by what the
ranker has opened, never by the store: rows of another moment would not fit the items' rows that they are put beside.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from components.errors import InputError
from components.ranker.scoring import LoadedRanker
from components.serving.contract import Looked
from components.serving.metrics import SECONDS, Histogram
from components.serving.shared_store_address import ADDRESS_VARIABLE, Address, address_of
from components.serving.shared_store_values import (
    DAMAGED,
    FOREIGN,
    OUTDATED,
    Mark,
    UnusableError,
    mark_key,
    unpack,
    user_key,
)
from components.serving.shared_store_wire import LATE, LOST, REFUSED, Failure, Reply, StoreError, Wire, connect

_LOG = logging.getLogger("rankgate.store")

BUDGET_VARIABLE = "RANKGATE_STORE_BUDGET_MS"
_BUDGET_MS = 5.0
_LONGEST_BUDGET_MS = 1_000.0

FOUND = "found"
ABSENT, UNREACHABLE, RESTING, UNSHARED, HURRIED = "absent", "unreachable", "resting", "unshared", "hurried"
REASONS: Mapping[str, str] = {
    ABSENT: "The set is whole and the user's key is not there: evicted, or expired.",
    LATE: "The store did not answer within the budget.",
    LOST: "The connection was lost while waiting.",
    REFUSED: "The store answered with an error.",
    UNREACHABLE: "There is no connection; one is being tried for.",
    RESTING: "The store failed too often lately and is left alone for a moment.",
    UNSHARED: "The set of these features is not in the store, or not whole yet.",
    DAMAGED: "The value is not what was written for this user.",
    FOREIGN: "The value was written for other features.",
    OUTDATED: "The value is of another version of the layout.",
    HURRIED: "The deadline left no time to ask, or less than the answer took.",
}
"""Every reason for which a user does not come from the store."""

_LOOK_SECONDS = 1.0
_CONNECT_SECONDS = 2.0
_FIRST_WAIT, _LONGEST_WAIT, _SHORTEST_REST = 0.1, 5.0, 1.0
_WELL_SECONDS = 10.0
"""After so long without a failure the next wait is the first one again."""
_TRIPS_AT, _EASED = 5.0, 0.25
"""A failure weighs 1, an answer takes this much off: it trips where more than one answer in five fails."""


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Where the store is, and how long it may take."""

    address: Address
    budget: float
    """Seconds."""

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> StoreSettings | None:
        """As the environment says; None where it names no store.

        Raises:
            InputError: If the address is none, holds a password, or the budget is no time from 0.1 to 1000 ms.
        """
        address = environment.get(ADDRESS_VARIABLE, "")
        if not address:
            return None
        said = environment.get(BUDGET_VARIABLE, "") or str(_BUDGET_MS)
        try:
            budget = float(said)
        except ValueError:
            budget = -1.0
        if not 0.1 <= budget <= _LONGEST_BUDGET_MS:
            raise InputError(
                f"{BUDGET_VARIABLE}: found {said[:40]!r}; needed milliseconds from 0.1 to {_LONGEST_BUDGET_MS:g}."
            )
        return cls(address_of(address, environment), budget / 1000.0)


@dataclass(frozen=True, slots=True)
class StoreState:
    """How things stand, for whoever watches."""

    reached: bool
    whole: bool
    """Whether the set of the ranker in service is there."""
    until: float | None
    """When that set expires, seconds since 1970."""
    outcomes: Mapping[str, int]
    """Users by what came of asking for them: `FOUND`, or one of `REASONS`."""
    trips: int
    """Times that the store was left alone because it failed too often."""
    connections: int
    """That were made."""
    seconds: Histogram
    """That asking took."""


class SharedStore:
    """Reads users; within one event loop, from `start` to `close`."""

    def __init__(
        self,
        settings: StoreSettings,
        *,
        wanted: Callable[[], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Do not reach for anything yet.

        Args:
            settings: Where, and how long.
            wanted: The set of the ranker that is in service.
            clock: Seconds.
        """
        self._settings, self._wanted, self._clock = settings, wanted, clock
        self._wire: Wire | None = None
        self._why = UNREACHABLE
        self._marks: dict[str, Mark | None] = {}
        """Of sets that were looked for since the last look."""
        self._weight, self._tries, self._well_since = 0.0, 0, 0.0
        self._awake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._outcomes = dict.fromkeys((FOUND, *REASONS), 0)
        self._trips = self._connections = 0
        self._seconds = Histogram(SECONDS)
        self._told: dict[str, float] = {}

    def start(self) -> None:
        """Begin to keep a connection; to be called in the loop that asks."""
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def close(self) -> None:
        """End the connection."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def state(self) -> StoreState:
        """As of now."""
        mark = self._marks.get(self._wanted())
        return StoreState(
            reached=self._wire is not None,
            whole=self._wire is not None and mark is not None,
            until=None if mark is None else float(mark.until),
            outcomes=dict(self._outcomes),
            trips=self._trips,
            connections=self._connections,
            seconds=self._seconds,
        )

    async def users(
        self, ranker: LoadedRanker, user_ids: Iterable[str | None], *, seconds: float
    ) -> Mapping[str, Looked]:
        """What the store says of some users, all asked for in one command; of those that the ranker does not know nothing.

        Args:
            ranker: Will rank them; only users of its own set are of use to it.
            user_ids: Who is asked for; None is a visitor.
            seconds: Most that may be waited; the budget's if that is less.
        """
        known = [one for one in dict.fromkeys(user_ids) if one is not None and ranker.knows_user(one)]
        if not known:
            return {}
        began = self._clock()
        replies = await self._replies(ranker.user_set, known, min(seconds, self._settings.budget))
        found = {
            user_id: self._looked(ranker, user_id, reply, self._clock() - began)
            for user_id, reply in zip(known, replies, strict=True)
        }
        self._seconds.observe(self._clock() - began)
        for one in found.values():
            self._outcomes[one.reason or FOUND] += 1
        return found

    def _looked(self, ranker: LoadedRanker, user_id: str, reply: bytes | str, seconds: float) -> Looked:
        if isinstance(reply, str):
            return Looked(None, reply, seconds)
        try:
            user = unpack(reply, shape=ranker.shape, user_set=ranker.user_set, user_id=user_id)
        except UnusableError as error:
            self._tell(logging.ERROR, "a value in the store cannot be used: %s", error.reason)
            return Looked(None, error.reason, seconds)
        return Looked(user, "", seconds)

    async def _replies(self, user_set: str, user_ids: Sequence[str], seconds: float) -> Sequence[bytes | str]:
        """The value of each user, or the reason why there is none."""
        wire, new = self._wire, user_set not in self._marks
        if seconds <= 0.0:
            return [HURRIED] * len(user_ids)
        if wire is None:
            return [self._why] * len(user_ids)
        if not new and self._marks[user_set] is None:
            return [UNSHARED] * len(user_ids)
        # A set that was swapped in since the last look is looked for on the way.
        keys = [mark_key(user_set)] if new else []
        values = await self._fetched(wire, [*keys, *(user_key(user_set, one) for one in user_ids)], seconds)
        if isinstance(values, str):
            return [values] * len(user_ids)
        if new:
            mark, *values = values
            self._marks[user_set] = Mark.parse(mark) if isinstance(mark, bytes) else None
            if self._marks[user_set] is None:
                return [UNSHARED] * len(user_ids)
        return [value if isinstance(value, bytes) else ABSENT for value in values]

    async def _fetched(self, wire: Wire, keys: Sequence[bytes], seconds: float) -> Sequence[Reply] | str:
        """What lies under some keys, or the reason why that is not known."""
        asked = wire.ask(b"GET", keys[0]) if len(keys) == 1 else wire.ask(b"MGET", *keys)
        reply = await wire.within(asked, seconds)
        if not isinstance(reply, Failure):
            self._weight = max(0.0, self._weight - _EASED)
            return reply if isinstance(reply, list) else [reply]
        if reply.kind == LATE and seconds < self._settings.budget:
            # A client in a hurry says nothing about the store.
            return HURRIED
        self._failed(wire, reply)
        return reply.kind

    def _failed(self, wire: Wire, failure: Failure) -> None:
        if wire is not self._wire:
            # Many wait for one connection, and all are told; once is enough.
            return
        if failure.kind == LOST:
            self._leave(UNREACHABLE)
            self._tell(logging.WARNING, "connection to the store lost")
            return
        self._weight += 1.0
        if self._weight >= _TRIPS_AT:
            self._trips += 1
            self._leave(RESTING)
            self._tell(
                logging.WARNING, "the store fails too often and is left alone: %s %s", failure.kind, failure.code
            )

    def _leave(self, why: str) -> None:
        """Close the connection; it is tried for again after a while."""
        if self._wire is not None:
            self._wire.close()
            if self._clock() - self._well_since > _WELL_SECONDS:
                self._tries = 0
        self._wire, self._why, self._weight = None, why, 0.0
        self._awake.set()

    async def _keep(self) -> None:
        while True:
            self._awake.clear()
            if self._wire is None:
                await asyncio.sleep(self._wait())
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_SECONDS):
                        await self._awake.wait()
                if self._awake.is_set():
                    continue
            try:
                await self._reach()
            except Exception:
                # A task that dies would leave the service without a store for good.
                _LOG.exception("reaching for the store failed")
                self._leave(UNREACHABLE)

    def _wait(self) -> float:
        """Seconds before the next try; not the same in every process, so that they do not all come at once."""
        if self._tries == 0 and self._why == UNREACHABLE:
            return 0.0
        longest = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** min(self._tries, 10))
        if self._why == RESTING:
            longest = max(longest, _SHORTEST_REST)
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 (no secret)

    async def _reach(self) -> None:
        """Have a connection that answers within the budget, and know whether the set in service is whole."""
        wire, user_set = self._wire, self._wanted()
        if wire is None:
            self._tries += 1
            try:
                wire = await connect(self._settings.address, seconds=_CONNECT_SECONDS)
            except InputError as error:
                self._why = UNREACHABLE
                self._tell(logging.WARNING, "%s", error)
                return
            self._connections += 1
        reply = await wire.within(wire.ask(b"GET", mark_key(user_set)), self._settings.budget)
        if isinstance(reply, Failure):
            if wire is self._wire:
                self._failed(wire, reply)
            else:
                wire.close()
                self._tell(
                    logging.WARNING, "the store is reached and does not answer in time: %s %s", reply.kind, reply.code
                )
            return
        mark = Mark.parse(reply) if isinstance(reply, bytes) else None
        if self._wire is None:
            self._wire, self._well_since = wire, self._clock()
            _LOG.info("store %s reached", self._settings.address)
        elif self._clock() - self._well_since > _WELL_SECONDS:
            self._tries = 1
        if mark is None:
            self._tell(
                logging.WARNING, "the store has no whole set %s; users are looked up in the tables", user_set[:12]
            )
        self._marks = {user_set: mark}

    def _tell(self, level: int, message: str, *words: object) -> None:
        """Log, but the same at most once in ten seconds."""
        now = self._clock()
        if now - self._told.get(message, -_WELL_SECONDS) >= _WELL_SECONDS:
            self._told[message] = now
            _LOG.log(level, message, *words)


def store_of(environment: Mapping[str, str], *, wanted: Callable[[], str]) -> SharedStore | None:
    """The store that the environment names; None where it names none.

    Raises:
        InputError: See `StoreSettings.of`.
    """
    settings = StoreSettings.of(environment)
    return None if settings is None else SharedStore(settings, wanted=wanted)


__all__ = ["FOUND", "REASONS", "SharedStore", "StoreError", "StoreSettings", "StoreState", "store_of"]
