"""Users whose rows are kept outside of the process that ranks: what is kept of one, and what names all of them together.

A set of users is bound to the very features that its rows were laid out from. Item numbers, codes and the bucket of one set
mean nothing to another, so a ranker only takes users of its own set, however much newer another one is.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import pyarrow as pa

from components.artifacts.digests import digest_json
from components.dataset.online import UserPart
from components.ranker.candidates.interactions import Ids

_SEEN = "candidates/seen_"
_FOLDERS = ("tables/", _SEEN)
_FILES = ("users.parquet", "items.parquet")


@dataclass(frozen=True, slots=True)
class StoredUser:
    """All that a ranker keeps of one user."""

    part: UserPart
    seen: Ids
    """Distinct items that the user took, in the order of the first time."""


def user_set_digest(features: Sequence[str], files: Mapping[str, str]) -> str:
    """Names the users of a ranker's data: equal where every row of every user is equal to the bit.

    Args:
        features: What the model is given, in its order.
        files: sha256 of each file of the data, by relative path; those that no user's row is made of do not count.
    """
    made_of = {name: digest for name, digest in files.items() if name in _FILES or name.startswith(_FOLDERS)}
    return digest_json({"features": list(features), "files": made_of})


class SortedIds(Sequence[str]):
    """Ids in ascending order, in a few bytes each; a list and a dict of them take twenty times as many."""

    def __init__(self, ids: pa.ChunkedArray) -> None:
        """Hold ids that ascend, as a ranker's users do."""
        self._ids: pa.LargeStringArray = pa.concat_arrays(
            ids.cast(pa.large_string()).chunks or [pa.array([], pa.large_string())]
        )

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            found: list[str] = self._ids[place].to_pylist()
            return found
        one: str = self._ids[place].as_py()
        return one


class NumberOfId(Mapping[str, int]):
    """Place of each of some ids."""

    def __init__(self, ids: SortedIds) -> None:
        self._ids = ids

    def __getitem__(self, name: str) -> int:
        place = bisect_left(self._ids, name)
        if place < len(self._ids) and self._ids[place] == name:
            return place
        raise KeyError(name)

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)
