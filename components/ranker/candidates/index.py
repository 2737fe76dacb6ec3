"""The retrieval index as of one moment: fitted from history, kept as plain .npy files, asked for a user's candidates.

    popularity.npy             float64 (items,): decayed popularity
    users_of_item.npy          int64 (items,): users who took it, the room's tie-break
    neighbour_starts.npy       int64 (items + 1,)
    neighbour_items.npy        int32
    neighbour_similarity.npy   float64
    factors.npy                float32 (items, dimensions)
    seen_starts.npy            int64 (users + 1,)
    seen_items.npy             int32, each user's distinct items in the order they first took them
    first_bucket.npy           int64 (items,): first bucket in which the item may be shown

The same index and the same function serve online and rank offline; offline it is fitted up to the cut under test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from components.dataset.covisitation import Neighbours, cosine_neighbours
from components.errors import InputError
from components.ranker.candidates.factors import item_factors
from components.ranker.candidates.interactions import (
    Bools,
    Floats,
    Ids,
    Interactions,
    Ints,
    Seen,
    distinct_users,
    seen_items,
)
from components.ranker.candidates.popularity import decayed_popularity
from components.ranker.candidates.union import Flags, union_of_sources
from components.ranker.settings import DIMENSIONS, HALF_LIFE_DAYS, NEIGHBOURS

_CELLS = 4_000_000
"""Users x items scored at once: 32 MB a source."""

SOURCES = ("covisitation", "factors", "popularity", "newest")
"""What says most about the user comes first. `newest`: what came last has no history that any other could name it by."""


@dataclass(frozen=True, slots=True)
class Index:
    """See the module's docstring for shapes."""

    popularity: Floats
    users_of_item: Ints
    neighbours: Neighbours
    factors: NDArray[np.float32]
    seen: Seen
    first_bucket: Ints
    _order: Ints = field(init=False, repr=False, compare=False)
    """Items in the room's order: popular first, then by id."""
    _popular: Ints = field(init=False, repr=False, compare=False)
    """Places in that order of the items that the source of this name names, best first."""
    _newest: Ints = field(init=False, repr=False, compare=False)
    _near: sparse.csr_array = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Works out once what every asking needs: for a single user it is most of the work."""
        order = np.lexsort((np.arange(self.n_items), -self.users_of_item))
        newness = self.first_bucket - self.first_bucket.min(initial=0) + 1.0
        for name, value in (
            ("_order", order),
            ("_popular", _best_first(self.popularity[order])),
            ("_newest", _best_first(newness[order])),
            ("_near", self.neighbours.matrix()),
        ):
            object.__setattr__(self, name, value)

    @property
    def n_items(self) -> int:
        return len(self.popularity)

    def of_one(self, seen: Ids) -> Index:
        """The same index for a single user, number 0, of whom it is told what they have taken."""
        one = object.__new__(Index)
        for name in self.__slots__:
            object.__setattr__(one, name, getattr(self, name))
        object.__setattr__(one, "seen", Seen(np.array([0, len(seen)], dtype=np.int64), seen, self.n_items))
        return one

    def eligible(self, bucket: int) -> Bools:
        """Items that may be shown in a bucket, shape (n_items,): taken by then, or there before the bucket began."""
        known: Bools = (self.users_of_item > 0) | (self.first_bucket < bucket)
        return known

    def candidates(
        self,
        users: Ids,
        *,
        bucket: int,
        quotas: Mapping[str, int],
        exclude_seen: bool,
        permitted: Bools | None = None,
    ) -> tuple[Ints, Ids]:
        """Retrieve for some users: row starts (users + 1,) and items, ascending within a row.

        Args:
            users: Shape (users,); -1 for a user who is not known.
            bucket: Moment of asking; items that come later are left out.
            quotas: Items that each of `SOURCES` may name.
            exclude_seen: Leave out what the user has taken before.
            permitted: Items that may be shown, to everyone (items,) or to each user (users, items); all without it.
        """
        starts, items, _ = self.named_candidates(
            users, bucket=bucket, quotas=quotas, exclude_seen=exclude_seen, permitted=permitted
        )
        return starts, items

    def named_candidates(
        self,
        users: Ids,
        *,
        bucket: int,
        quotas: Mapping[str, int],
        exclude_seen: bool,
        permitted: Bools | None = None,
    ) -> tuple[Ints, Ids, Flags]:
        """As `candidates`, and of each item one bit for every one of `SOURCES` that names it, the first one's lowest."""
        everyone = self.eligible(bucket)
        if permitted is not None and permitted.ndim == 1:
            everyone = everyone & permitted
        block = max(1, _CELLS // max(self.n_items, 1))
        counts: list[Ints] = []
        items: list[Ids] = []
        flags: list[Flags] = []
        for begin in range(0, len(users), block):
            some = slice(begin, begin + block)
            allowed = np.broadcast_to(everyone, (len(users[some]), self.n_items))
            if permitted is not None and permitted.ndim == 2:
                allowed = allowed & permitted[some]
            named = self._named(users[some], allowed, quotas, exclude_seen)
            rows, columns = np.nonzero(named)
            counts.append(np.bincount(rows, minlength=len(named)))
            items.append(columns.astype(np.int32))
            flags.append(named[rows, columns])
        starts = np.concatenate([np.zeros(1, np.int64), *counts]).cumsum()
        return (
            starts,
            np.concatenate([np.empty(0, np.int32), *items]),
            np.concatenate([np.empty(0, np.uint8), *flags]),
        )

    def _named(self, users: Ids, allowed: Bools, quotas: Mapping[str, int], exclude_seen: bool) -> Flags:
        taken = self.seen.rows(users)
        if exclude_seen:
            allowed = allowed.copy()
            allowed[np.repeat(np.arange(len(users)), np.diff(taken.indptr)), taken.indices] = False
        # Earlier columns win ties, so columns go by the room's order.
        order = self._order
        covisited = (taken @ self._near).toarray()
        products = (taken @ self.factors) @ self.factors.T
        allowed = np.broadcast_to(allowed[0, order], allowed.shape) if allowed.strides[0] == 0 else allowed[:, order]
        # In the order of SOURCES.
        found = union_of_sources(
            [(covisited[:, order], quotas["covisitation"]), (products[:, order], quotas["factors"])],
            [(self._popular, quotas["popularity"]), (self._newest, quotas["newest"])],
            allowed,
        )
        named = np.zeros_like(found)
        named[:, order] = found
        return named


def source_of(flags: Flags) -> list[str]:
    """The first of `SOURCES` that names each item, shape (items,); every item is named by one."""
    # The lowest bit that is set, of which the place is the exponent.
    lowest = flags & -flags.astype(np.int16)
    return [SOURCES[place] for place in np.log2(lowest).astype(np.int64).tolist()]


def _best_first(scores: NDArray[np.floating]) -> Ints:
    """Places of the scores above 0, the highest first, the earlier among equals."""
    order = np.argsort(-scores, kind="stable")
    return order[: int((scores > 0).sum())]


def fit_index(interactions: Interactions, first_bucket: Ints, *, seed: int) -> Index:
    """Build the index from history up to a moment."""
    seen = seen_items(interactions)
    return Index(
        popularity=decayed_popularity(interactions, half_life_days=HALF_LIFE_DAYS),
        users_of_item=distinct_users(seen),
        neighbours=cosine_neighbours(seen.everyone(), top=NEIGHBOURS),
        factors=item_factors(seen, dimensions=DIMENSIONS, seed=seed),
        seen=seen,
        first_bucket=first_bucket,
    )


def save_index(index: Index, folder: Path) -> None:
    """Write the index as .npy files into an existing folder."""
    for name, array in _arrays(index).items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)


def open_index(folder: Path) -> Index:
    """Read an index, memory-mapped.

    Raises:
        InputError: If a file is absent or is no plain array.
    """
    found = {}
    for name in _FILES:
        try:
            found[name] = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(
                f"{folder / name}.npy: cannot be read as an array ({error}); needed the retrieval index of a ranker."
            ) from error
    return Index(
        popularity=found["popularity"],
        users_of_item=found["users_of_item"],
        neighbours=Neighbours(found["neighbour_starts"], found["neighbour_items"], found["neighbour_similarity"]),
        factors=found["factors"],
        seen=Seen(found["seen_starts"], found["seen_items"], len(found["popularity"])),
        first_bucket=found["first_bucket"],
    )


_FILES = (
    "popularity",
    "users_of_item",
    "neighbour_starts",
    "neighbour_items",
    "neighbour_similarity",
    "factors",
    "seen_starts",
    "seen_items",
    "first_bucket",
)


def _arrays(index: Index) -> dict[str, NDArray[np.generic]]:
    return {
        "popularity": index.popularity,
        "users_of_item": index.users_of_item,
        "neighbour_starts": index.neighbours.starts,
        "neighbour_items": index.neighbours.items,
        "neighbour_similarity": index.neighbours.similarity,
        "factors": index.factors,
        "seen_starts": index.seen.starts,
        "seen_items": index.seen.items,
        "first_bucket": index.first_bucket,
    }
