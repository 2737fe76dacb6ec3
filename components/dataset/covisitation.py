"""Co-visitation: how near items are to each other by the users who took both, as of a boundary.

cosine(i, j) = users who took both / sqrt(users of i x users of j), over distinct (user, item) pairs. Each item keeps its
`top` nearest others, ties by ascending item.

Source: Deshpande and Karypis (2004), "Item-based top-N recommendation algorithms".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_BLOCK_ENTRIES = 1 << 22


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


def taken_matrix(users: NDArray[np.int32], items: NDArray[np.int32], *, n_users: int, n_items: int) -> sparse.csr_array:
    """1 where a user took an item, shape (users, items)."""
    ones = np.ones(len(users), dtype=np.float64)
    matrix = sparse.csr_array((ones, (users, items)), shape=(n_users, n_items))
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


def cosine_neighbours(taken: sparse.csr_array, *, top: int) -> Neighbours:
    """The `top` nearest items of each item; fewer where fewer were ever taken together.

    Works on blocks of items: a block has about four million pairs whatever the catalogue.
    """
    n_items = taken.shape[1]
    by_item = sparse.csr_array(taken.T)
    norms = np.sqrt(np.maximum(np.diff(by_item.indptr), 1).astype(np.float64))
    counts, neighbours, similarity = [np.zeros(1, np.int64)], [np.empty(0, np.int32)], [np.empty(0, np.float64)]
    rows = max(1, _BLOCK_ENTRIES // max(n_items, 1))
    for begin in range(0, n_items, rows):
        cosine = (by_item[begin : begin + rows] @ taken).toarray()
        cosine /= norms[begin : begin + rows, None]
        cosine /= norms[None, :]
        here = np.arange(len(cosine))
        cosine[here, here + begin] = 0.0
        nearest = _largest(cosine, top)
        row, item = np.nonzero(nearest)
        counts.append(np.bincount(row, minlength=len(cosine)))
        neighbours.append(item.astype(np.int32))
        similarity.append(cosine[row, item])
    return Neighbours(np.concatenate(counts).cumsum(), np.concatenate(neighbours), np.concatenate(similarity))


def _largest(values: Floats, top: int) -> NDArray[np.bool_]:
    """Marks the `top` largest positive entries of each row; among equals the leftmost."""
    if top >= values.shape[1]:
        return values > 0
    bound = np.partition(values, values.shape[1] - top, axis=1)[:, -top][:, None]
    above = values > bound
    equal = (values == bound) & (values > 0)
    room = top - above.sum(axis=1, keepdims=True)
    marked: NDArray[np.bool_] = above | (equal & (np.cumsum(equal, axis=1) <= room))
    return marked


@dataclass(frozen=True, slots=True)
class Takings:
    """What each user took, in the order it became known: ascending by user, then `enter` bucket, then time."""

    starts: Ints
    """Where each user's takings begin, shape (users + 1,)."""
    enter: Ints
    """Bucket from which each taking is known, shape (takings,)."""
    items: NDArray[np.int32]

    def recent(self, users: Ints, buckets: Ints, *, most: int, n_items: int) -> sparse.csr_array:
        """Distinct items among the latest `most` takings that each user is known for, shape (users asked, items).

        Unknown users (-1) took nothing.
        """
        known = users >= 0
        inside = np.where(known, users, 0)
        begin = self.starts[inside]
        end = self._end(inside, buckets)
        end = np.where(known, end, begin)
        begin = np.maximum(begin, end - most)
        lengths = end - begin
        rows = np.repeat(np.arange(len(users)), lengths)
        offsets = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        items = self.items[np.repeat(begin, lengths) + offsets]
        matrix = sparse.csr_array((np.ones(len(items)), (rows, items)), shape=(len(users), n_items))
        matrix.sum_duplicates()
        matrix.data[:] = 1.0
        return matrix

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
