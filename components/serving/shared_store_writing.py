"""All users of a ranker's features, written to a shared store; seen by a service only once all of them are there.

    each user's value, in portions      -> expire together, a while after the mark
    how many are written                -> the same command goes on from there
    mark and pointer, in one transaction, when all are written and the server lost none of them meanwhile

Values of a set do not change: writing one twice, or by two at once, writes the same bytes. A set that another replaces is not
deleted; services that have not swapped yet go on with it, until it expires.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from components.artifacts.digests import digest_bytes
from components.artifacts.documents import to_bytes
from components.artifacts.progress import Progress, silent
from components.ranker.scoring import LoadedRanker
from components.serving.shared_store_address import Address
from components.serving.shared_store_values import LAYOUT, Mark, mark_key, pack, pointer_key, progress_key, user_key
from components.serving.shared_store_wire import REFUSED, Failure, Reply, StoreError, Wire, connect

_PORTION = 2_000
"""Users that are laid out together; memory grows with it."""
_PIPELINED = 250
_REPLY_SECONDS = 30.0
_SPREAD_SECONDS = 3_600
"""After the mark users expire over so long, so that the server does not remove all of them in one moment."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What was written, or was there."""

    store: str
    """Its address, without a name or a password."""
    user_set: str
    ranker: str
    """sha256 of the ranker's manifest."""
    users: int
    written: int
    """Users that this time were written; 0 where the set was whole and new enough."""
    value_bytes: int
    """Of the values that were written, without what a server adds for keys."""
    until: int
    """Seconds since 1970 at which the set expires."""
    previous: str
    """The set that the pointer named before; empty for none."""


async def share_users(
    ranker: LoadedRanker,
    address: Address,
    *,
    keep_seconds: int,
    again: bool = False,
    progress: Progress = silent,
    clock: Callable[[], float] = time.time,
) -> Shared:
    """Write every user, then the mark and the pointer.

    Args:
        ranker: Opened with `users_elsewhere`.
        address: Of the store.
        keep_seconds: How long the set is kept from now on.
        again: Write all of it even where it is whole, or was begun.
        progress: Told how far it is.
        clock: Seconds since 1970.

    Raises:
        StoreError: If the store is not reached, refuses, is out of memory, or lost some of it. No service sees any of it then.
    """
    wire = await connect(address, seconds=_REPLY_SECONDS)
    try:
        return await _Sharing(ranker, address, wire, progress, clock).share(int(keep_seconds), again=again)
    finally:
        wire.close()


class _Sharing:
    def __init__(
        self, ranker: LoadedRanker, address: Address, wire: Wire, progress: Progress, clock: Callable[[], float]
    ) -> None:
        self._ranker, self._address, self._wire = ranker, address, wire
        self._progress, self._clock = progress, clock
        self._set, self._users = ranker.user_set, len(ranker.user_ids)
        self._name = digest_bytes(to_bytes(ranker.manifest))
        self._bytes = 0

    async def share(self, keep: int, *, again: bool) -> Shared:
        now = int(self._clock())
        pointer = await self._asked(b"GET", pointer_key(self._name))
        previous = _set_of(pointer)
        mark = await self._asked(b"GET", mark_key(self._set))
        whole = Mark.parse(mark) if isinstance(mark, bytes) else None
        if whole is not None and whole.users == self._users and not again and whole.until - now >= keep // 2:
            # Somebody went back to this set: it is there, and only has to be pointed at.
            await self._point(whole)
            return self._shared(whole.until, written=0, previous=previous)
        begin, until = (0, now + keep) if again else await self._resumed(now, keep)
        before = await self._losses()
        self._progress(f"{begin} of {self._users} users there" if begin else f"{self._users} users to write")
        for first in range(begin, self._users, _PORTION):
            await self._write(range(first, min(first + _PORTION, self._users)), until)
        after = await self._losses()
        if before is not None and after is not None:
            self._check_kept(before, after)
        await self._point(Mark(self._set, self._users, until))
        return self._shared(until, written=self._users - begin, previous=previous)

    def _shared(self, until: int, *, written: int, previous: str) -> Shared:
        return Shared(
            store=str(self._address),
            user_set=self._set,
            ranker=self._name,
            users=self._users,
            written=written,
            value_bytes=self._bytes,
            until=until,
            previous=previous,
        )

    async def _resumed(self, now: int, keep: int) -> tuple[int, int]:
        """Where to go on, and when the set expires; from the start where what was written would expire too soon."""
        said = await self._asked(b"GET", progress_key(self._set))
        try:
            held = json.loads(said) if isinstance(said, bytes) else {}
            if held and held["layout"] == LAYOUT and int(held["until"]) - now >= keep // 2:
                return min(int(held["users"]), self._users), int(held["until"])
        except (ValueError, KeyError, TypeError):
            pass
        return 0, now + keep

    async def _write(self, users: range, until: int) -> None:
        sent: list[asyncio.Future[Reply]] = []
        for number, (user_id, user) in zip(users, self._ranker.stored_users(users), strict=True):
            value = pack(user, user_set=self._set, user_id=user_id)
            self._bytes += len(value)
            expires = until + 1 + _SPREAD_SECONDS * number // max(1, self._users)
            sent.append(self._wire.ask(b"SET", user_key(self._set, user_id), value, b"EXAT", b"%d" % expires))
            if len(sent) == _PIPELINED:
                await self._answered(sent)
                sent = []
        progress = json.dumps({"layout": LAYOUT, "users": users.stop, "until": until}).encode()
        sent.append(self._wire.ask(b"SET", progress_key(self._set), progress, b"EXAT", b"%d" % until))
        await self._answered(sent)
        if 100 * users.stop // self._users > 100 * users.start // self._users:
            self._progress(f"{users.stop} of {self._users} users")

    async def _answered(self, sent: Sequence[asyncio.Future[Reply]]) -> None:
        for reply in sent:
            self._checked(await self._wire.within(reply, _REPLY_SECONDS))

    async def _point(self, mark: Mark) -> None:
        """Make the set whole and current in one moment."""
        expires = b"%d" % mark.until
        commands = (
            (b"MULTI",),
            (b"SET", mark_key(self._set), mark.to_bytes(), b"EXAT", expires),
            (b"SET", pointer_key(self._name), mark.to_bytes(), b"EXAT", expires),
            (b"DEL", progress_key(self._set)),
            (b"EXEC",),
        )
        replies = [self._wire.ask(*words) for words in commands]
        done: Reply = None
        for reply in replies:
            done = self._checked(await self._wire.within(reply, _REPLY_SECONDS))
        for part in done if isinstance(done, list) else [Failure(REFUSED, "EXEC did nothing")]:
            self._checked(part)

    async def _losses(self) -> dict[str, str] | None:
        """What tells whether the server dropped anything; None where it does not say."""
        reply = await self._wire.within(self._wire.ask(b"INFO"), _REPLY_SECONDS)
        if isinstance(reply, Failure) and reply.kind == REFUSED:
            self._progress("the store does not say whether it evicts (INFO is not permitted): not checked")
            return None
        said = self._checked(reply)
        lines = said.decode("utf-8", "replace").splitlines() if isinstance(said, bytes) else []
        told = dict(line.split(":", 1) for line in lines if ":" in line)
        return {name: told.get(name, "") for name in ("run_id", "evicted_keys", "maxmemory_policy")}

    def _check_kept(self, before: dict[str, str], after: dict[str, str]) -> None:
        if before["run_id"] != after["run_id"]:
            raise StoreError(
                f"store {self._address}: found another server at the end than at the beginning; needed the one that was written "
                "to. Share again: --again"
            )
        if before["evicted_keys"] != after["evicted_keys"]:
            raise StoreError(
                f"store {self._address}: it evicted keys while it was written to (maxmemory-policy "
                f"{after['maxmemory_policy']}); needed memory for every user. Give it more, let sets expire sooner "
                "(--keep-hours), and set maxmemory-policy to noeviction."
            )

    async def _asked(self, *words: bytes) -> Reply:
        return self._checked(await self._wire.within(self._wire.ask(*words), _REPLY_SECONDS))

    def _checked(self, reply: Reply) -> Reply:
        if not isinstance(reply, Failure):
            return reply
        if reply.kind != REFUSED:
            raise StoreError(
                f"store {self._address}: the connection was {reply.kind} while it was written to; needed it until all users are "
                "there. The same command goes on where this one stopped."
            )
        if reply.code == "OOM":
            raise StoreError(
                f"store {self._address}: it is out of memory (OOM); needed room for {self._users} users beside what is there. "
                "Give it more, or let sets expire sooner (--keep-hours). What was written expires; no service uses it."
            )
        raise StoreError(
            f"store {self._address}: a write was refused ({reply.words[:120]}); needed a user who may read and write."
        )


def _set_of(pointer: Reply) -> str:
    mark = Mark.parse(pointer) if isinstance(pointer, bytes) else None
    return "" if mark is None else mark.user_set
