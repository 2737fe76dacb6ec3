"""Ranked lists of many requests: ordered rows of (request, item, score), and how each kind of system makes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.ranker.baselines import knn_catalogue_scores, knn_row_scores, popularity_scores
from components.ranker.candidates.index import Index
from components.ranker.candidates.interactions import Bools, Floats, Ids, Ints
from components.ranker.candidates.union import best_of_rows
from components.ranker.contract import RerankRules
from components.ranker.draws import draw
from components.ranker.eligibility import Eligibility
from components.ranker.ordering import order_within, ranks_within
from components.ranker.rerank import ItemParts, rerank
from components.ranker.rows import Requests, Rows

_CELLS = 4_000_000


@dataclass(frozen=True, slots=True)
class Lists:
    """Rows ascending by request and rank."""

    requests: Ids
    ranks: Ids
    """1-based, dense."""
    items: Ids
    scores: NDArray[np.float32]


def order_rows(
    rows: Rows,
    scores: NDArray[np.floating],
    index: Index,
    parts: ItemParts,
    rules: RerankRules,
    allowed: Bools,
) -> Ints:
    """Row numbers in the order shown: the one order, then the rules; `allowed` has one entry a row."""
    order = order_within(rows.requests, scores, index.users_of_item[rows.items], rows.items)
    items = rows.items[order]
    shown = rerank(
        rows.requests[order], items, scores[order], parts=parts.take(items), allowed=allowed[order], rules=rules
    )
    return order[shown]


def lists_of(rows: Rows, scores: NDArray[np.floating], order: Ints, *, depth: int) -> tuple[Lists, Ints]:
    """The first `depth` ranks of each request, and the row each came from."""
    ranks = ranks_within(rows.requests[order])
    kept = order[ranks <= depth]
    return (
        Lists(rows.requests[kept], ranks[ranks <= depth], rows.items[kept], scores[kept].astype(np.float32)),
        kept,
    )


def join_lists(parts: Sequence[Lists]) -> Lists:
    """Lists of different requests as one, ascending by request."""
    requests = np.concatenate([np.empty(0, np.int32), *(part.requests for part in parts)])
    order = np.argsort(requests, kind="stable")
    return Lists(
        requests[order],
        np.concatenate([np.empty(0, np.int32), *(part.ranks for part in parts)])[order],
        np.concatenate([np.empty(0, np.int32), *(part.items for part in parts)])[order],
        np.concatenate([np.empty(0, np.float32), *(part.scores for part in parts)])[order],
    )


def baseline_row_scores(name: str, rows: Rows, users: Ids, index: Index, *, seed: int) -> Floats:
    """A baseline's scores of recorded rows; `users` has one user a row."""
    if name == "random":
        return draw(rows.requests, rows.items, seed=seed)
    if name == "popularity":
        return popularity_scores(rows.items, index.users_of_item)
    return knn_row_scores(users, rows.items, index.seen, index.neighbours)


def baseline_catalogue_lists(
    name: str,
    requests: Requests,
    index: Index,
    eligibility: Eligibility,
    *,
    exclude_seen: bool,
    depth: int,
    seed: int,
) -> Lists:
    """A baseline's first `depth` items of the whole eligible catalogue for each request, some requests at a time."""
    score = _catalogue_scorer(name, index, seed)
    # Columns in the room's order, so that the earlier column wins a tie at the last rank.
    columns = np.lexsort((np.arange(index.n_items), -index.users_of_item))
    block = max(1, _CELLS // max(1, index.n_items))
    parts = []
    for begin in range(0, len(requests), block):
        some = requests.take(slice(begin, begin + block))
        scores = score(some)[:, columns]
        allowed = allowed_items(some, index, exclude_seen=exclude_seen)
        allowed &= eligibility.of_catalogue(some.context, requests=len(some))
        scores[~allowed[:, columns]] = -np.inf
        row, place = np.nonzero(best_of_rows(scores, quota=depth))
        order = np.lexsort((place, -scores[row, place], row))
        row, place = row[order], place[order]
        parts.append(
            Lists(
                some.numbers[row],
                ranks_within(row),
                columns[place].astype(np.int32),
                scores[row, place].astype(np.float32),
            )
        )
    return join_lists(parts)


def allowed_items(requests: Requests, index: Index, *, exclude_seen: bool) -> Bools:
    """What may be shown for each request, shape (requests, items)."""
    buckets, place = np.unique(requests.buckets, return_inverse=True)
    allowed: Bools = np.array([index.eligible(bucket) for bucket in buckets.tolist()])[place]
    if exclude_seen:
        taken = index.seen.rows(requests.users)
        allowed[np.repeat(np.arange(len(requests)), np.diff(taken.indptr)), taken.indices] = False
    return allowed


def _catalogue_scorer(name: str, index: Index, seed: int) -> Callable[[Requests], Floats]:
    items = np.arange(index.n_items, dtype=np.int32)

    def scores(requests: Requests) -> Floats:
        shape = (len(requests), index.n_items)
        if name == "random":
            numbers, columns = np.repeat(requests.numbers, index.n_items), np.tile(items, len(requests))
            return draw(numbers, columns, seed=seed).reshape(shape)
        if name == "popularity":
            return np.broadcast_to(popularity_scores(items, index.users_of_item), shape).copy()
        return knn_catalogue_scores(requests.users, index.seen, index.neighbours)

    return scores
