"""What every user took up to a moment, as arrays: the one input of retrieval and of the baselines.

A dataset's `history` table (outcome events in canonical order) becomes `Interactions` up to a cut. Nothing after the cut
can be seen from here, because it is cut off before anything is computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Ids = NDArray[np.int32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Interactions:
    """Outcome events in canonical order (time, then user, then item)."""

    users: Ids
    """Shape (events,), each in [0, n_users)."""
    items: Ids
    """Shape (events,), each in [0, n_items)."""
    ages_days: Floats
    """Days from the event to the moment of knowing, shape (events,), >= 0."""
    gains: Floats
    n_users: int
    n_items: int


@dataclass(frozen=True, slots=True)
class Seen:
    """The distinct items of each user, in ragged rows.

    Row u is `items[starts[u]:starts[u + 1]]`, in the order in which the user first took them.
    """

    starts: Ints
    """Shape (n_users + 1,)."""
    items: Ids
    n_items: int

    @property
    def n_users(self) -> int:
        return len(self.starts) - 1

    def of(self, user: int) -> Ids:
        """Distinct items of one user; empty for an unknown user (-1)."""
        if user < 0:
            return self.items[:0]
        return self.items[self.starts[user] : self.starts[user + 1]]

    def rows(self, users: Ids) -> sparse.csr_array:
        """Binary matrix (users, items) of some users; a user of -1 has an empty row."""
        known = users >= 0
        place = np.where(known, users, 0)
        counts = np.where(known, self.starts[place + 1] - self.starts[place], 0)
        starts = np.concatenate([[0], np.cumsum(counts)])
        within = np.arange(starts[-1]) - np.repeat(starts[:-1], counts)
        columns = self.items[np.repeat(self.starts[place], counts) + within]
        ones = np.ones(len(columns), dtype=np.float64)
        return sparse.csr_array((ones, columns, starts), shape=(len(users), self.n_items))

    def everyone(self) -> sparse.csr_array:
        """Binary matrix (users, items) of all users."""
        return self.rows(np.arange(self.n_users, dtype=np.int32))


def seen_items(interactions: Interactions) -> Seen:
    """The distinct items of each user, in the order of their first event."""
    key = interactions.users.astype(np.int64) * interactions.n_items + interactions.items
    first = np.unique(key, return_index=True)[1]
    users, items = interactions.users[first], interactions.items[first]
    order = np.lexsort((first, users))
    counts = np.bincount(users, minlength=interactions.n_users)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Seen(starts, items[order].astype(np.int32), interactions.n_items)


def distinct_users(seen: Seen) -> Ints:
    """Users who took each item at least once, shape (n_items,): what "popularity" means throughout this room."""
    return np.bincount(seen.items, minlength=seen.n_items).astype(np.int64)
