"""Co-visitation: how near items are to each other by the users who took both, as of a boundary.

cosine(i, j) = users who took both / sqrt(users of i x users of j), over distinct (user, item) pairs. Each item keeps its
`top` nearest others, ties by ascending item.

Source: Deshpande and Karypis (2004), "Item-based top-N recommendation algorithms".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_BLOCK_ENTRIES = 1 << 22
_DENSE_CELLS = 8
"""Most cells an entry may cost for a block to be worked on densely."""
NOT_TAKEN = np.iinfo(np.int32).max


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The nearest items of each item, in ragged rows: row i is `items[starts[i]:starts[i + 1]]`, ascending by item."""

    starts: Ints
    items: NDArray[np.int32]
    similarity: Floats

    def matrix(self) -> sparse.csr_array:
        """Shape (items, items); entry (i, j) > 0 where j is among the nearest of i."""
        n_items = len(self.starts) - 1
        return sparse.csr_array((self.similarity, self.items, self.starts), shape=(n_items, n_items))

    def turned(self) -> Neighbours:
        """The other way round: row j holds the items that count j among their nearest, ascending."""
        by_column = self.matrix().tocsc()
        return Neighbours(by_column.indptr.astype(np.int64), by_column.indices.astype(np.int32), by_column.data)


def taken_matrix(users: NDArray[np.int32], items: NDArray[np.int32], *, n_users: int, n_items: int) -> sparse.csr_array:
    """1 where a user took an item, shape (users, items)."""
    ones = np.ones(len(users), dtype=np.float64)
    matrix = sparse.csr_array((ones, (users, items)), shape=(n_users, n_items))
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


def cosine_neighbours(taken: sparse.csr_array, *, top: int) -> Neighbours:
    """The `top` nearest items of each item; fewer where fewer were ever taken together.

    Works on blocks of items that were taken together with about `_BLOCK_ENTRIES` others, counted by user: time and memory
    grow with what was taken together, not with the square of the catalogue.
    """
    n_items = taken.shape[1]
    by_item = sparse.csr_array(taken.T)
    norms = np.sqrt(np.maximum(np.diff(by_item.indptr), 1).astype(np.float64))
    counts, neighbours, similarity = [np.zeros(1, np.int64)], [np.empty(0, np.int32)], [np.empty(0, np.float64)]
    work = np.cumsum(by_item @ np.diff(taken.indptr).astype(np.float64))
    bounds = np.flatnonzero(np.diff(work // _BLOCK_ENTRIES)) + 1
    for begin, end in zip([0, *bounds.tolist()], [*bounds.tolist(), n_items], strict=True):
        together = sparse.csr_array(by_item[begin:end] @ taken)
        together.data /= np.repeat(norms[begin:end], np.diff(together.indptr))
        together.data /= norms[together.indices]
        # Where most items meet most others, a dense block is quicker to look through than a sparse one is to sort.
        dense = (end - begin) * n_items < _DENSE_CELLS * together.nnz
        row, item, near = (_nearest_of_many if dense else _nearest_of_few)(together, begin, top)
        counts.append(np.bincount(row, minlength=end - begin))
        neighbours.append(item.astype(np.int32))
        similarity.append(near)
    return Neighbours(np.concatenate(counts).cumsum(), np.concatenate(neighbours), np.concatenate(similarity))


def _nearest_of_few(cosine: sparse.csr_array, first: int, top: int) -> tuple[Ints, Ints, Floats]:
    """Row, column and value of the `top` largest entries of each row, the leftmost among equals; row r is item first + r."""
    rows = np.repeat(np.arange(cosine.shape[0]), np.diff(cosine.indptr))
    apart = rows + first != cosine.indices
    rows, items, near = rows[apart], cosine.indices[apart].astype(np.int64), cosine.data[apart]
    order = np.lexsort((items, -near, rows))
    place = np.arange(len(order)) - np.searchsorted(rows, rows)
    chosen = order[place < top]
    chosen = chosen[np.lexsort((items[chosen], rows[chosen]))]
    return rows[chosen], items[chosen], near[chosen]


def _nearest_of_many(cosine: sparse.csr_array, first: int, top: int) -> tuple[Ints, Ints, Floats]:
    """As `_nearest_of_few`."""
    values = cosine.toarray()
    here = np.arange(len(values))
    values[here, here + first] = 0.0
    marked = values > 0
    if top < values.shape[1]:
        bound = np.partition(values, values.shape[1] - top, axis=1)[:, -top][:, None]
        above, equal = values > bound, (values == bound) & marked
        room = top - above.sum(axis=1, keepdims=True)
        marked = above | (equal & (np.cumsum(equal, axis=1) <= room))
    rows, items = np.nonzero(marked)
    return rows, items, values[rows, items]


@dataclass(frozen=True, slots=True)
class Takings:
    """What each user took, in the order it became known: ascending by user, then `enter` bucket, then time."""

    starts: Ints
    """Where each user's takings begin, shape (users + 1,)."""
    enter: Ints
    """Bucket from which each taking is known, shape (takings,)."""
    items: NDArray[np.int32]

    def recency(self, users: Ints, buckets: Ints, *, n_items: int) -> NDArray[np.int32]:
        """How many of its latest known takings lie after a user's latest one of each item, shape (users asked, items).

        0 for the item that was taken last; `NOT_TAKEN` where an item was not taken. Unknown users (-1) took nothing.
        """
        known = users >= 0
        inside = np.where(known, users, 0)
        begin = self.starts[inside]
        end = np.where(known, self._end(inside, buckets), begin)
        lengths = end - begin
        rows = np.repeat(np.arange(len(users)), lengths)
        after = np.repeat(np.cumsum(lengths), lengths) - 1 - np.arange(lengths.sum())
        items = self.items[np.repeat(end, lengths) - 1 - after]
        since = np.full(len(users) * n_items, NOT_TAKEN, dtype=np.int32)
        np.minimum.at(since, rows * n_items + items, after.astype(np.int32))
        return since.reshape(len(users), n_items)

    def _end(self, users: Ints, buckets: Ints) -> Ints:
        """First taking of each user that is not yet known at the bucket."""
        low, high = self.starts[users].copy(), self.starts[users + 1].copy()
        while (open_ := low < high).any():
            middle = (low + high) // 2
            known = np.zeros(len(users), dtype=bool)
            known[open_] = self.enter[middle[open_]] <= buckets[open_]
            low = np.where(open_ & known, middle + 1, low)
            high = np.where(open_ & ~known, middle, high)
        return low


@dataclass(frozen=True, slots=True)
class Nearness:
    """How near each row's item is to what its user took; 0 where the user took nothing near it."""

    sums: dict[int, Floats]
    """Sum of similarities, shape (rows,), by how many of the latest takings count (0: all)."""
    nearest: Floats
    """The largest similarity, shape (rows,)."""


def nearness(
    takings: Takings,
    nearby: Neighbours,
    *,
    users: Ints,
    buckets: Ints,
    of_row: Ints,
    items: Ints,
    latest: tuple[int, ...],
) -> Nearness:
    """Look the rows' items up among what their users had taken.

    Args:
        takings: What everybody took.
        nearby: `Neighbours.turned` as of a boundary that no bucket precedes.
        users: User of each asking pair, shape (pairs,); -1 for a user who is not known.
        buckets: Bucket of each asking pair, shape (pairs,).
        of_row: Pair that each row belongs to, shape (rows,).
        items: Item of each row, shape (rows,), >= 0.
        latest: How many of the latest takings count; 0 for all.
    """
    n_items = len(nearby.starts) - 1
    sums = {count: np.zeros(len(items)) for count in latest}
    nearest = np.zeros(len(items))
    by_pair = np.argsort(of_row, kind="stable")
    n_pairs = max(1, _BLOCK_ENTRIES // max(n_items, 1))
    for first in range(0, len(users), n_pairs):
        pairs = slice(first, first + n_pairs)
        since = takings.recency(users[pairs], buckets[pairs], n_items=n_items)
        begin, end = np.searchsorted(of_row[by_pair], [first, first + n_pairs])
        for rows in _portions(by_pair[begin:end], np.diff(nearby.starts), items):
            lengths = nearby.starts[items[rows] + 1] - nearby.starts[items[rows]]
            owner = np.repeat(np.arange(len(rows)), lengths)
            entry = np.arange(len(owner)) - np.repeat(
                np.cumsum(lengths) - lengths - nearby.starts[items[rows]], lengths
            )
            after = since[(of_row[rows] - first)[owner], nearby.items[entry]]
            taken = after < NOT_TAKEN
            owner, after, similarity = owner[taken], after[taken], nearby.similarity[entry[taken]]
            for count, total in sums.items():
                counts = after < count if count else np.ones(len(after), dtype=bool)
                # bincount adds one by one in order, so that a row's sum is the same in whatever company it is computed.
                total[rows] = np.bincount(owner[counts], weights=similarity[counts], minlength=len(rows))
            best = np.zeros(len(rows))
            np.maximum.at(best, owner, similarity)
            nearest[rows] = best
    return Nearness(sums, nearest)


def _portions(rows: Ints, lengths: Ints, items: Ints) -> Iterator[Ints]:
    """The rows, in portions whose items have about `_BLOCK_ENTRIES` entries together."""
    portion = np.cumsum(lengths[items[rows]]) // _BLOCK_ENTRIES
    yield from np.split(rows, np.flatnonzero(np.diff(portion)) + 1) if len(rows) else ()
