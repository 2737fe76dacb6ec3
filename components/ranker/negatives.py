"""Harder negatives for `sampled` data sets: what retrieval would have offered at the training cut and nobody took.

Negatives drawn from the whole catalogue teach a model to tell the plausible from the absurd, which retrieval does already.
What it must tell apart is one retrieved item from another, so training sees those too, as of the training cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from components.dataset.reading import OpenDataset
from components.ranker import settings
from components.ranker.candidates.interactions import Bools, Ids, Ints
from components.ranker.draws import draw
from components.ranker.ordering import ranks_within
from components.ranker.rows import Relevance, Rows, index_at, join_rows, requests_of, retrieved_rows


def with_hard_negatives(data: OpenDataset, rows: Rows, features: Sequence[str], *, seed: int) -> Rows:
    """The rows with up to `settings.HARD_NEGATIVES` retrieved negatives more a request, as of each training cut."""
    if not settings.HARD_NEGATIVES:
        return rows
    requests = requests_of(data, "train")
    requests = requests.take(np.isin(requests.numbers, np.unique(rows.requests[rows.positives])))
    width = np.int64(max(data.manifest.items, 1))
    present = np.unique(rows.requests.astype(np.int64) * width + rows.items)
    relevance = Relevance(data)
    blocks = [rows]
    for cut in np.unique(requests.cuts).tolist():
        blocks += retrieved_rows(
            requests.take(requests.cuts == cut),
            index_at(data, cut, seed=seed),
            data.features,
            relevance,
            features=features,
            quotas=settings.QUOTAS,
            exclude_seen=data.manifest.exclude_seen,
            keep=partial(_drawn, present=present, width=width, seed=seed),
        )
    return join_rows(blocks, len(features))


def _drawn(numbers: Ids, items: Ids, *, present: Ints, width: np.int64, seed: int) -> Bools:
    """Marks the rows to keep: not there already, and among the request's `HARD_NEGATIVES` smallest draws."""
    fresh = ~np.isin(numbers.astype(np.int64) * width + items, present)
    draws = np.where(fresh, draw(numbers, items, seed=seed), 2.0)
    order = np.lexsort((draws, numbers))
    kept = np.zeros(len(items), dtype=bool)
    kept[order[ranks_within(numbers[order]) <= settings.HARD_NEGATIVES]] = True
    return kept & fresh
