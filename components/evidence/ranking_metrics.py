"""Ranking metrics of each request: arrays in, one number a request and cut-off out.

A ranked list enters in served order, so ties need no convention here; `ndcg_with_ties` is for raw scores. A request with
nothing relevant has no answer: every metric gives NaN there, and whoever averages must say what it does with it.

Conventions, which move the numbers:
- gain: as given (`linear`), because a dataset contract states gains already; `exponential` turns a graded label into
  2**label - 1, the convention of web search.
- average precision at k divides by min(k, relevant items), so that a perfect top k scores 1.
- recall at k divides by all relevant items; precision at k by k, also for a shorter list.

Sums run down the ranks in one fixed order: equal inputs give equal bytes on any machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from components.errors import EvidenceError

Floats = NDArray[np.float64]
Gain = Literal["linear", "exponential"]

_BLOCK = 4096
"""Requests worked on together, so that a block of ranks stays in the processor's cache."""


@dataclass(frozen=True, slots=True, eq=False)
class RequestMetrics:
    """Metrics of every request, shape (requests, cut-offs); NaN where a request has nothing relevant."""

    cutoffs: tuple[int, ...]
    ndcg: Floats
    average_precision: Floats
    recall: Floats
    precision: Floats
    reciprocal_rank: Floats
    hit: Floats


def discounts(depth: int) -> Floats:
    """1 / log2(1 + rank) of ranks 1..depth (Järvelin and Kekäläinen, 2002)."""
    return 1.0 / np.log2(np.arange(2, depth + 2))


def gains_of(labels: NDArray[np.floating], *, gain: Gain) -> Floats:
    """The worth of each label: itself, or 2**label - 1."""
    values = labels.astype(np.float64)
    return values if gain == "linear" else np.exp2(values) - 1.0


def pad_ranks(
    values: NDArray[np.generic], requests: NDArray[np.integer], ranks: NDArray[np.integer], *, shape: tuple[int, int]
) -> NDArray[np.generic]:
    """Values of ranked rows as a table of shape (requests, depth); zero where a list ends; deeper ranks are left out.

    Args:
        values: One a row.
        requests: Row of the table, >= 0.
        ranks: From 1.
        shape: Requests and depth.
    """
    table = np.zeros(shape, dtype=values.dtype)
    kept = ranks <= shape[1]
    table[requests[kept], ranks[kept] - 1] = values[kept]
    return table


def request_metrics(
    gains: NDArray[np.floating],
    ideal_gains: NDArray[np.floating],
    relevant: NDArray[np.integer],
    *,
    cutoffs: Sequence[int],
) -> RequestMetrics:
    """All metrics of ranked lists, at several cut-offs.

    Args:
        gains: Gain of the item at each rank, shape (requests, depth), >= 0, 0 past the end of a list. An item is
            relevant where its gain is above zero.
        ideal_gains: The largest gains that the request offers, descending, shape (requests, any depth).
        relevant: Relevant items of each request, shape (requests,), whether or not a list holds them.
        cutoffs: Each at least 1; those beyond `depth` see the list as it ends there.

    Raises:
        EvidenceError: If shapes do not fit, a gain is negative or not finite, or a list gains more than the ideal.
    """
    _check(gains, ideal_gains, relevant, cutoffs)
    names = ("ndcg", "average_precision", "recall", "precision", "reciprocal_rank", "hit")
    found = {name: np.empty((gains.shape[0], len(cutoffs))) for name in names}
    for start in range(0, gains.shape[0], _BLOCK):
        rows = slice(start, start + _BLOCK)
        block = _block_metrics(gains[rows], ideal_gains[rows], relevant[rows], cutoffs)
        for name, values in zip(names, block, strict=True):
            found[name][rows] = values.T
    if found["ndcg"].size and np.nanmax(found["ndcg"], initial=0.0) > 1 + 1e-6:
        raise EvidenceError(
            "gains: found a list that gains more than its ideal; needed ideal_gains to hold the largest."
        )
    return RequestMetrics(cutoffs=tuple(cutoffs), **found)


def _block_metrics(
    gains: NDArray[np.floating], ideal: NDArray[np.floating], relevant: NDArray[np.integer], cutoffs: Sequence[int]
) -> tuple[Floats, ...]:
    """NDCG, AP, recall, precision, RR and hit, each of shape (cut-offs, requests in the block)."""
    deepest = max(cutoffs)
    by_rank = np.ascontiguousarray(gains[:, :deepest].T, dtype=np.float64)
    ideal_by_rank = np.ascontiguousarray(ideal[:, :deepest].T, dtype=np.float64)
    discount = discounts(deepest)
    size = relevant.shape[0]
    out = np.empty((6, len(cutoffs), size))
    dcg, ideal_dcg, hits, precision_sum, reciprocal = np.zeros((5, size))
    wanted = {cutoff: [place for place, c in enumerate(cutoffs) if c == cutoff] for cutoff in cutoffs}
    with np.errstate(divide="ignore", invalid="ignore"):
        for rank in range(1, deepest + 1):
            if rank <= by_rank.shape[0]:
                gain = by_rank[rank - 1]
                dcg += gain * discount[rank - 1]
                positive = gain > 0
                np.add(reciprocal, positive / rank, out=reciprocal, where=hits == 0)
                hits += positive
                precision_sum += positive * (hits / rank)
            if rank <= ideal_by_rank.shape[0]:
                ideal_dcg += ideal_by_rank[rank - 1] * discount[rank - 1]
            for place in wanted.get(rank, ()):
                out[0, place] = dcg / ideal_dcg
                out[1, place] = precision_sum / np.minimum(rank, relevant)
                out[2, place] = hits / relevant
                out[3, place] = hits / rank
                out[4, place] = reciprocal
                out[5, place] = hits > 0
    out[:, :, relevant == 0] = np.nan
    return tuple(out)


def ndcg_with_ties(
    labels: NDArray[np.floating],
    scores: NDArray[np.floating],
    groups: NDArray[np.integer],
    *,
    k: int,
    gain: Gain = "linear",
) -> Floats:
    """NDCG@k of each request from raw scores, averaged over every order that tied scores allow.

    Args:
        labels: Shape (rows,), each >= 0.
        scores: Shape (rows,); higher ranks earlier.
        groups: Request boundaries, shape (requests + 1,), ascending from 0 to the number of rows.
        k: Cut-off, at least 1.
        gain: How a label becomes a gain.

    Returns:
        Shape (requests,), in [0, 1]; NaN where a request has no positive label.

    Raises:
        EvidenceError: If shapes differ, boundaries do not ascend, a label is negative or a number is not finite.

    Source: McSherry and Najork (2008), Computing information retrieval performance measures efficiently in the presence
    of tied scores.
    """
    rows = labels.shape[0]
    faults = []
    if scores.shape != labels.shape or labels.ndim != 1:
        faults.append(f"labels and scores have shapes {labels.shape} and {scores.shape}")
    if groups.size < 1 or groups[0] != 0 or groups[-1] != rows or np.any(np.diff(groups) < 0):
        faults.append(f"request boundaries do not ascend from 0 to {rows}")
    if not faults and not (np.isfinite(scores).all() and np.isfinite(labels).all() and (labels >= 0).all()):
        faults.append("a score is not finite, or a label is negative or not finite")
    if k < 1:
        faults.append(f"the cut-off is {k}")
    if faults:
        raise EvidenceError(f"NDCG: {'; '.join(faults)}.")
    if rows == 0:
        return np.full(groups.size - 1, np.nan)
    gains = gains_of(labels, gain=gain)
    request = np.repeat(np.arange(groups.size - 1), np.diff(groups))
    place = np.arange(rows) - groups[request]
    weight = np.where(place < k, 1.0 / np.log2(place + 2.0), 0.0)

    order = np.lexsort((-scores, request))
    ranked = gains[order]
    sorted_scores = scores[order]
    new_tie = np.ones(rows, dtype=bool)
    new_tie[1:] = (sorted_scores[1:] != sorted_scores[:-1]) | (request[1:] != request[:-1])
    starts = np.flatnonzero(new_tie)
    sizes = np.diff(np.append(starts, rows))
    tied_mean = np.add.reduceat(ranked, starts) / sizes
    dcg = np.bincount(request[starts], tied_mean * np.add.reduceat(weight, starts), minlength=groups.size - 1)
    best = gains[np.lexsort((-gains, request))]
    ideal = np.bincount(request, best * weight, minlength=groups.size - 1)
    result: Floats = np.full(groups.size - 1, np.nan)
    np.divide(dcg, ideal, out=result, where=ideal > 0)
    return result


def _check(
    gains: NDArray[np.floating],
    ideal: NDArray[np.floating],
    relevant: NDArray[np.integer],
    cutoffs: Sequence[int],
) -> None:
    faults = []
    if gains.ndim != 2 or ideal.ndim != 2 or not gains.shape[0] == ideal.shape[0] == relevant.shape[0]:
        faults.append(
            f"found gains {gains.shape}, ideal gains {ideal.shape}, relevant {relevant.shape}; needed one row a request"
        )
    if not cutoffs or min(cutoffs) < 1:
        faults.append(f"found cut-offs {list(cutoffs)}; needed at least one, each at least 1")
    for name, values in (("gains", gains), ("ideal gains", ideal)):
        # A sum is finite and a minimum at least zero only where every value is.
        if values.size and not (np.isfinite(values.sum(dtype=np.float64)) and values.min() >= 0):
            faults.append(f"found {name} that are negative or not finite")
    if relevant.size and relevant.min() < 0:
        faults.append("found a negative number of relevant items")
    if faults:
        raise EvidenceError(f"ranking metrics: {'; '.join(faults)}.")
