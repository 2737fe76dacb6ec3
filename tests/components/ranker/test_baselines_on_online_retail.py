"""The baselines against an independent reference on the real shop (protocol and figures: the data set's README)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from components.dataset.covisitation import cosine_neighbours
from components.ranker.baselines import knn_catalogue_scores
from components.ranker.candidates.interactions import Interactions, distinct_users, seen_items

TRAIN_ROWS = 358_096


@pytest.fixture(scope="module")
def purchases(shared_data: Path) -> tuple[Interactions, dict[int, set[int]]]:
    """Training purchases, and what each user who has any took for the first time in the test window."""
    lines = pq.read_table(shared_data / "online_retail" / "raw.parquet")
    clean = pc.and_(
        pc.and_(pc.is_valid(lines["user_id"]), pc.invert(lines["cancelled"])),
        pc.and_(pc.greater(lines["quantity"], 0), pc.greater(lines["unit_price"], 0)),
    )
    lines = lines.filter(clean)
    users = np.unique(lines["user_id"].to_numpy(), return_inverse=True)[1]
    items = np.unique(np.array(lines["item_id"].to_pylist()), return_inverse=True)[1]
    order = np.lexsort((items, users, lines["ts"].to_numpy()))
    users, items = users[order].astype(np.int32), items[order].astype(np.int32)
    n = TRAIN_ROWS
    train = Interactions(users[:n], items[:n], np.zeros(n), np.ones(n), int(users.max()) + 1, int(items.max()) + 1)
    bought = set(zip(users[:n].tolist(), items[:n].tolist(), strict=True))
    wanted: dict[int, set[int]] = {}
    for pair in zip(users[n:].tolist(), items[n:].tolist(), strict=True):
        if pair not in bought:
            wanted.setdefault(pair[0], set()).add(pair[1])
    return train, wanted


def figures(scores: np.ndarray, train: Interactions, wanted: dict[int, set[int]]) -> tuple[float, float, float]:
    """NDCG@10, Recall@10 and MAP@10, averaged over users; plain loops on purpose."""
    seen = seen_items(train)
    popularity = distinct_users(seen)
    values = []
    for row, user in enumerate(sorted(wanted)):
        open_items = np.setdiff1d(np.flatnonzero(popularity), seen.of(user))
        order = np.lexsort((open_items, -popularity[open_items], -scores[row, open_items]))[:10]
        hits = np.array([item in wanted[user] for item in open_items[order]], dtype=float)
        discounts = 1 / np.log2(np.arange(2, 12))
        best = min(10, len(wanted[user]))
        precision = np.cumsum(hits) / np.arange(1, 11)
        values.append(
            (hits @ discounts / discounts[:best].sum(), hits.sum() / len(wanted[user]), hits @ precision / best)
        )
    return tuple(np.mean(values, axis=0))


def test_popularity_reproduces_the_reference(purchases):
    train, wanted = purchases
    assert len(wanted) == 1047
    scores = np.tile(distinct_users(seen_items(train)), (len(wanted), 1))
    assert figures(scores, train, wanted) == pytest.approx((0.031117, 0.019287, 0.011127), abs=1e-6)


def test_item_knn_reproduces_the_reference(purchases):
    train, wanted = purchases
    seen = seen_items(train)
    users = np.array(sorted(wanted), dtype=np.int32)
    scores = knn_catalogue_scores(users, seen, cosine_neighbours(seen.everyone(), top=50))
    assert figures(scores, train, wanted) == pytest.approx((0.053672, 0.038410, 0.023821), abs=1e-6)
