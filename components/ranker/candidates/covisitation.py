"""Co-visitation: items taken by the same users, by binary cosine (item-kNN).

cosine(i, j) = users who took both / sqrt(users of i x users of j). Each item keeps its `top` nearest others, ties by
ascending item. A user's score for j is the sum over the items they took.

Source: Deshpande and Karypis (2004), "Item-based top-N recommendation algorithms".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from components.ranker.candidates.interactions import Floats, Ids, Ints, Seen

_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The nearest items of each item, in ragged rows: row i is `items[starts[i]:starts[i + 1]]`, ascending by item."""

    starts: Ints
    items: Ids
    similarity: Floats

    def matrix(self) -> sparse.csr_array:
        """Shape (items, items); entry (i, j) > 0 where j is among the nearest of i."""
        n_items = len(self.starts) - 1
        return sparse.csr_array((self.similarity, self.items, self.starts), shape=(n_items, n_items))


def cosine_neighbours(seen: Seen, *, top: int) -> Neighbours:
    """The `top` nearest items of each item, by binary cosine; fewer where fewer were ever taken together.

    Works on blocks of items: memory grows with one block's co-visited pairs, not with the square of the catalogue.
    """
    by_user = seen.rows(np.arange(seen.n_users, dtype=np.int32))
    by_item = sparse.csr_array(by_user.T)
    norms = np.sqrt(np.diff(by_item.indptr))
    kept: list[tuple[Ints, Ids, Floats]] = []
    for begin in range(0, seen.n_items, _BLOCK):
        together = sparse.csr_array(by_item[begin : begin + _BLOCK] @ by_user)
        rows = np.repeat(np.arange(together.shape[0]), np.diff(together.indptr))
        others = together.indices
        apart = rows + begin != others
        rows, others, counts = rows[apart], others[apart], together.data[apart]
        cosine = counts / (norms[rows + begin] * norms[others])
        order = np.lexsort((others, -cosine, rows))
        rank = _ranks(rows[order])
        nearest = order[rank < top]
        nearest = nearest[np.lexsort((others[nearest], rows[nearest]))]
        counts_kept = np.bincount(rows[nearest], minlength=together.shape[0])
        kept.append((counts_kept, others[nearest].astype(np.int32), cosine[nearest]))
    starts = np.concatenate([[0], *(counts for counts, _, _ in kept)]).cumsum().astype(np.int64)
    return Neighbours(
        starts,
        np.concatenate([items for _, items, _ in kept], dtype=np.int32),
        np.concatenate([cosine for _, _, cosine in kept], dtype=np.float64),
    )


def _ranks(sorted_rows: Ints) -> Ints:
    """0 for a row's first entry, 1 for its second, and so on; rows ascending."""
    starts = np.flatnonzero(np.diff(sorted_rows, prepend=-1))
    return np.arange(len(sorted_rows)) - np.repeat(starts, np.diff(starts, append=len(sorted_rows)))
