"""Parity: whether what is served for is what was trained on. Features to the bit, scores to 1e-6, the order to the place.

Two paths that share no file. The training path: rows.parquet, the dataset's own tables and history. The serving path: the
tables, the index and the model in the ranker's folder, behind a service or not. Where they differ, the feature is named.

`differing` and `compare_lists` are the kernels, arrays in and figures out; docs/decisions/0014-servability.md says why so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.artifacts import documents
from components.dataset.lookup import FeatureTables
from components.errors import EvidenceError
from components.evidence.contract import Estimate
from components.evidence.estimates import exactly
from components.evidence.ranked import read_columns
from components.ranker.contract import Ranker

Features = NDArray[np.float32]
Items = NDArray[np.integer]
Scores = NDArray[np.floating]

ROWS = 20_000
"""Rows of whole requests whose features are compared."""
TOLERANCE = 1e-6
"""Scores this near are one score: what adding in another order explains."""
TABLES = "tables"


@dataclass(frozen=True, slots=True)
class ListParity:
    """One served list beside the expected one."""

    difference: float
    """Largest absolute difference of a score, over the items whose score is expected; NaN where there is no such item."""
    same: bool
    """Whether the same items came in the same order, but for swaps among items whose expected scores are one score."""
    swapped: bool
    """True where the order is the same only for such swaps."""


def differing(trained: Features, served: Features) -> NDArray[np.int64]:
    """Cells of each column that are not equal to the bit, shape (columns,); two missing values are equal."""
    same = (trained == served) | (np.isnan(trained) & np.isnan(served))
    counts: NDArray[np.int64] = (~same).sum(axis=0).astype(np.int64)
    return counts


def compare_lists(
    candidates: Items,
    scores: Scores,
    shown: Items,
    served: Items,
    served_scores: Scores,
    *,
    tolerance: float = TOLERANCE,
) -> ListParity:
    """A served list beside the one that the training path gives for the same candidates.

    Args:
        candidates: Distinct items whose score is known, shape (candidates,).
        scores: Expected score of each, shape (candidates,), finite.
        shown: The expected list, best first: places in `candidates`, shape (shown,).
        served: The served list, best first: items, shape (served,).
        served_scores: Shape (served,); one that is not finite differs infinitely.
        tolerance: Expected scores at most this far apart may stand either way.

    Returns:
        Two empty lists are the same, with a difference of NaN.
    """
    order = np.argsort(candidates, kind="stable")
    place = np.searchsorted(candidates[order], served)
    known = place < len(candidates)
    known[known] = candidates[order][place[known]] == served[known]
    at = order[place[known]]
    apart = np.abs(served_scores[known].astype(np.float64) - scores[at])
    difference = float(np.where(np.isfinite(apart), apart, math.inf).max()) if apart.size else math.nan
    if not known.all() or not np.array_equal(np.sort(at), np.sort(shown)):
        return ListParity(difference, same=False, swapped=False)
    if np.array_equal(at, shown):
        return ListParity(difference, same=True, swapped=False)
    near = bool((np.abs(scores[at].astype(np.float64) - scores[shown]) <= tolerance).all())
    return ListParity(difference, same=near, swapped=near)


def feature_parity(dataset: Path, ranker: Path, *, seed: int) -> tuple[Estimate, ...]:
    """Share of compared cells of each feature that the ranker's tables hold differently from the training rows.

    Args:
        dataset: Dataset directory.
        ranker: Ranker directory.
        seed: Of the draw of requests.

    Raises:
        InputError: If a manifest or table cannot be read.
    """
    trained = documents.load(Ranker, ranker / "ranker.json")
    rows = read_columns(dataset / "rows.parquet", ("request", "item", *trained.features))
    rows = _some(rows, seed=seed)
    requests = pq.read_table(dataset / "requests.parquet").sort_by("request").take(rows["request"])
    tables = FeatureTables.open(ranker / TABLES)
    matrix = tables.matrix(
        requests["user"].to_numpy(),
        rows["item"].to_numpy(),
        requests["bucket"].to_numpy(),
        {name: requests[name].to_pylist() for name in tables.context_values},
    )
    place = {name: at for at, name in enumerate(tables.names)}
    if missing := [name for name in trained.features if name not in place]:
        raise EvidenceError(f"ranker {ranker.name}: its tables have no {', '.join(missing)}. Train it again.")
    before = np.column_stack([rows[name].to_numpy() for name in trained.features]).astype(np.float32)
    now = matrix[:, [place[name] for name in trained.features]]
    counts = differing(before, now)
    users, asked = len(np.unique(requests["user"].to_numpy())), len(np.unique(rows["request"].to_numpy()))
    return tuple(
        exactly(
            count / len(before) if len(before) else None,
            metric="skewed_share",
            subject=name,
            versus="training",
            n_users=users,
            n_requests=asked,
            detail={"cells": float(len(before)), "differ": float(count)},
        )
        for name, count in zip(trained.features, counts.tolist(), strict=True)
    )


def _some(rows: pa.Table, *, seed: int) -> pa.Table:
    """About `ROWS` rows of whole requests."""
    request = rows["request"].to_numpy()
    numbers = np.unique(request)
    wanted = max(1, round(len(numbers) * min(1.0, ROWS / max(len(rows), 1))))
    chosen = np.random.default_rng(seed).choice(numbers, size=min(wanted, len(numbers)), replace=False)
    return rows.filter(pa.array(np.isin(request, chosen)))


def named_differences(found: Sequence[Estimate]) -> list[str]:
    """Features of which a cell differs, the most different first."""
    skewed = [held for held in found if held.metric == "skewed_share" and held.value]
    return [held.subject for held in sorted(skewed, key=lambda held: (-(held.value or 0.0), held.subject))]
