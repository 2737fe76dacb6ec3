"""What lies in a shared store, to the byte: keys, the value of a user, the mark of a whole set.

    rankgate:<set>:u:<user id>      a `StoredUser`, packed; one for each user of the set
    rankgate:<set>:whole            `Mark`, written last: without it the set is not used
    rankgate:<set>:progress         how far a set that is being written has got
    rankgate:<ranker>:current       the newest whole set of a ranker

`<set>` are the first 32 digits of `LoadedRanker.user_set`. A value, all numbers little-endian:

    0   "rgu", then the layout's version, one byte
    4   CRC-32 of what follows, begun with the user's id: a value under another user's key does not hold
    8   the first 16 bytes of the set's digest
    24  uint32 each: items taken, items seen, pairs of each entity in the order of `PartShape.pairs`; then to a multiple of 8
        float64 usual prices, float32 row; for each entity int32 other halves, float32 rows; int32 taken, int32 seen

Nothing in it is code or names any; arrays are views of the bytes that came.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass

import numpy as np

from components.dataset.online import PartShape, UserPart
from components.ranker.stored_users import StoredUser

LAYOUT = 1
DAMAGED = "damaged"
FOREIGN = "foreign"
OUTDATED = "outdated"

_MAGIC = b"rgu"
_HEAD = struct.Struct("<3sBI16s")
_SUMMED_FROM = 8
_KEY_DIGITS = 32
_SET_BYTES = 16


class UnusableError(Exception):
    """A value that must not be used; `reason` is `DAMAGED`, `FOREIGN` or `OUTDATED`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def user_key(user_set: str, user_id: str) -> bytes:
    """Key of a user."""
    return f"rankgate:{user_set[:_KEY_DIGITS]}:u:{user_id}".encode()


def mark_key(user_set: str) -> bytes:
    """Key of a set's mark."""
    return f"rankgate:{user_set[:_KEY_DIGITS]}:whole".encode()


def progress_key(user_set: str) -> bytes:
    """Key of what has been written of a set."""
    return f"rankgate:{user_set[:_KEY_DIGITS]}:progress".encode()


def pointer_key(ranker: str) -> bytes:
    """Key of a ranker's newest whole set."""
    return f"rankgate:{ranker[:_KEY_DIGITS]}:current".encode()


@dataclass(frozen=True, slots=True)
class Mark:
    """Says that a set is whole."""

    user_set: str
    users: int
    until: int
    """Seconds since 1970 at which the mark expires; no user of the set does before."""

    def to_bytes(self) -> bytes:
        said = {"layout": LAYOUT, "set": self.user_set, "users": self.users, "until": self.until}
        return json.dumps(said, sort_keys=True).encode()

    @classmethod
    def parse(cls, value: bytes) -> Mark | None:
        """None where it is no mark of this layout."""
        try:
            said = json.loads(value)
            if said["layout"] != LAYOUT:
                return None
            return cls(str(said["set"]), int(said["users"]), int(said["until"]))
        except (ValueError, KeyError, TypeError):
            return None


def pack(user: StoredUser, *, user_set: str, user_id: str) -> bytes:
    """The value of a user."""
    part = user.part
    counts = [len(part.taken), len(user.seen), *(len(seconds) for seconds, _ in part.pairs)]
    counted = struct.pack(f"<{len(counts)}I", *counts)
    head = _HEAD.size + len(counted)
    parts = [bytes.fromhex(user_set)[:_SET_BYTES], counted, bytes(-head % 8)]
    parts += [part.usual.astype("<f8").tobytes(), part.row.astype("<f4").tobytes()]
    for seconds, rows in part.pairs:
        parts += [seconds.astype("<i4").tobytes(), rows.astype("<f4").tobytes()]
    parts += [part.taken.astype("<i4").tobytes(), user.seen.astype("<i4").tobytes()]
    rest = b"".join(parts)
    return _MAGIC + struct.pack("<BI", LAYOUT, _sum(rest, user_id)) + rest


def unpack(value: bytes, *, shape: PartShape, user_set: str, user_id: str) -> StoredUser:
    """The user of a value.

    Args:
        value: What came.
        shape: Of the layout that will answer with it.
        user_set: Digest of the set that was asked for.
        user_id: Who was asked for.

    Raises:
        UnusableError: If it is not, to the bit, what `pack` made of this user of this set.
    """
    if len(value) < _HEAD.size or value[:3] != _MAGIC:
        raise UnusableError(DAMAGED)
    _, layout, summed, digest = _HEAD.unpack_from(value)
    if layout != LAYOUT:
        raise UnusableError(OUTDATED)
    if digest != bytes.fromhex(user_set)[:_SET_BYTES]:
        raise UnusableError(FOREIGN)
    if _sum(value[_SUMMED_FROM:], user_id) != summed:
        raise UnusableError(DAMAGED)
    try:
        return _arrays(value, shape)
    except (ValueError, struct.error) as error:
        # The sum holds and the lengths do not: written for other features under this set's name.
        raise UnusableError(FOREIGN) from error


def _arrays(value: bytes, shape: PartShape) -> StoredUser:
    numbers = struct.unpack_from(f"<{2 + len(shape.pairs)}I", value, _HEAD.size)
    place = _HEAD.size + 4 * len(numbers)
    place += -place % 8
    usual = np.frombuffer(value, "<f8", shape.prices, place)
    place += 8 * shape.prices
    row = np.frombuffer(value, "<f4", shape.user, place)
    place += 4 * shape.user
    pairs = []
    for count, (_, columns) in zip(numbers[2:], shape.pairs, strict=True):
        seconds = np.frombuffer(value, "<i4", count, place).astype(np.int64)
        place += 4 * count
        rows = np.frombuffer(value, "<f4", count * columns, place).reshape(count, columns)
        place += 4 * count * columns
        pairs.append((seconds, rows))
    taken = np.frombuffer(value, "<i4", numbers[0], place)
    place += 4 * numbers[0]
    seen = np.frombuffer(value, "<i4", numbers[1], place)
    if place + 4 * numbers[1] != len(value):
        raise ValueError("more than was announced")
    return StoredUser(UserPart(row, usual, tuple(pairs), taken), seen)


def _sum(content: bytes, user_id: str) -> int:
    return zlib.crc32(content, zlib.crc32(user_id.encode()))
