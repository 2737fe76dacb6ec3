"""What a ranking must beat: chance, popularity and item-kNN, scored on the very same requests and rows as the candidate.

Each takes rows (user, item) and gives float64 scores; the order of equal scores is the room's (`ordering`).
"""

from __future__ import annotations

import numpy as np

from components.dataset.covisitation import Neighbours
from components.ranker.candidates.interactions import Floats, Ids, Ints, Seen

DESCRIPTIONS = {
    "random": "A random order, the same on every run with this seed.",
    "popularity": "Users who took the item before the cut, the same order for everyone.",
    "item-knn": "Sum of the binary cosines of the item to what the user took before the cut, 50 nearest of each item.",
}


def popularity_scores(items: Ids, users_of_item: Ints) -> Floats:
    """Users who took each row's item, shape (rows,)."""
    return users_of_item[items].astype(np.float64)


def knn_catalogue_scores(users: Ids, seen: Seen, neighbours: Neighbours) -> Floats:
    """Item-kNN scores of the whole catalogue, shape (users, items); the caller keeps blocks of users small.

    Sums are added in ascending order of the item taken, which is what makes a tie a tie on every machine.
    """
    taken = seen.rows(users)
    taken.sort_indices()
    scores: Floats = (taken @ neighbours.matrix()).toarray()
    return scores


def knn_row_scores(users: Ids, items: Ids, seen: Seen, neighbours: Neighbours) -> Floats:
    """Item-kNN scores of some (user, item) rows, shape (rows,); a user of -1 scores 0 everywhere.

    Rows of one user should lie together: each run of a user is computed once.
    """
    scores = np.zeros(len(users), dtype=np.float64)
    if not len(users):
        return scores
    starts = np.flatnonzero(np.concatenate([[True], users[1:] != users[:-1]]))
    sizes = np.diff(np.append(starts, len(users)))
    block = max(1, 4_000_000 // max(seen.n_items, 1))
    for begin in range(0, len(starts), block):
        run = slice(begin, begin + block)
        found = knn_catalogue_scores(users[starts[run]], seen, neighbours)
        rows = slice(starts[run][0], starts[run][-1] + sizes[run][-1])
        scores[rows] = found[np.repeat(np.arange(len(starts[run])), sizes[run]), items[rows]]
    return scores
