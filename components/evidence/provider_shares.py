"""Provider shares: what each system shows of every provider, what users took of it, and what the catalogue holds of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.evidence.ranked import Ranked, Requests, read_columns
from components.ranker.contract import CANDIDATE

Floats = NDArray[np.float64]
Judged = list[tuple[str, NDArray[np.bool_]]]
"""Name and members, shape (providers,), of each provider that is judged."""

UNKNOWN = "unknown"
LEAST_SHARE = 0.005
"""Smaller providers, by what users took, are shown in the table and judged together: a ratio to next to nothing is noise."""
TOGETHER = "(small providers)"


@dataclass(frozen=True, slots=True, eq=False)
class Shares:
    """Exposure, relevance and catalogue of each provider, by user where they differ by user."""

    providers: tuple[str, ...]
    exposure: Floats
    """Shape (users, providers)."""
    places: Floats
    """Places in the first k, shape (users, providers)."""
    relevance: Floats
    """Shape (users, providers)."""
    catalogue: Floats
    """Shape (providers,), sums to 1."""


def _providers_of(ranked: Ranked, dataset: Path) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Provider code of each item, and the names in code order."""
    column = read_columns(dataset / "items.parquet", (ranked.dataset.provider,)).column(0)
    texts = np.array([UNKNOWN if value is None else str(value) for value in column.to_pylist()], dtype=object)
    names, codes = np.unique(texts.astype(str), return_inverse=True)
    return codes.astype(np.int64), tuple(names.tolist())


def exposure_of_ranks(ranks: NDArray[np.integer], *, k: int) -> Floats:
    """1 / log2(1 + rank) within the first k ranks, 0 after them."""
    weights: Floats = np.where(ranks <= k, 1.0 / np.log2(1.0 + ranks), 0.0)
    return weights


def shares_by_system(ranked: Ranked, requests: Requests, dataset: Path) -> dict[str, Shares]:
    """What each system shows of each provider, and what users took of it, on the same requests.

    Args:
        ranked: The rankings.
        requests: The requests they are judged on.
        dataset: Dataset directory.

    Raises:
        InputError: If a table cannot be read or lacks a column.
    """
    provider, names = _providers_of(ranked, dataset)
    users, row = np.unique(requests.user, return_inverse=True)
    shape = (users.size, len(names))
    place, item, gain = _earned(ranked, requests, dataset)
    relevance = _summed(gain, row[place] * shape[1] + provider[item], shape=shape)
    eligible = np.bincount(provider[ranked.eligible], minlength=shape[1]).astype(np.float64)
    catalogue = eligible / max(eligible.sum(), 1.0)
    found = {}
    for system in ranked.systems:
        rows = ranked.rows(system, requests)
        cell = row[rows.place] * shape[1] + provider[rows.item]
        exposure = _summed(exposure_of_ranks(rows.rank, k=ranked.main_cutoff), cell, shape=shape)
        places = _summed((rows.rank <= ranked.main_cutoff).astype(np.float64), cell, shape=shape)
        found[system] = Shares(names, exposure, places, relevance, catalogue)
    return found


def _earned(ranked: Ranked, requests: Requests, dataset: Path) -> tuple[NDArray[np.intp], NDArray[np.int32], Floats]:
    """Place among the requests, item and gain of everything that could be shown and was taken, whoever ranked it.

    `logged` rankings hold every shown item, so any system's rows tell. `sampled` ones end at a depth: what a system ranks
    below it was earned all the same, or the providers it buries would seem to deserve it.
    """
    if ranked.dataset.mode == "logged":
        rows = ranked.rows(CANDIDATE, requests)
        return rows.place, rows.item, rows.gain.astype(np.float64)
    table = read_columns(dataset / "relevance.parquet", ("request", "item", "gain", "eligible"))
    request = table["request"].to_numpy()
    place = np.searchsorted(requests.request, request)
    known = (place < requests.request.size) & table["eligible"].to_numpy(zero_copy_only=False)
    known[known] = requests.request[place[known]] == request[known]
    return place[known], table["item"].to_numpy()[known], table["gain"].to_numpy()[known].astype(np.float64)


def _summed(amounts: Floats, place: NDArray[np.int64], *, shape: tuple[int, int]) -> Floats:
    summed: Floats = np.bincount(place, amounts, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)
    return summed


def share(amounts: Floats) -> Floats:
    """Each provider's share of the amounts of all users; NaN where there are none."""
    total = amounts.sum()
    shares: Floats = amounts.sum(axis=0) / total if total else np.full(amounts.shape[1], np.nan)
    return shares


def judged_providers(shares: Shares) -> Judged:
    """Providers large enough to be judged alone, then the others as one."""
    merit = share(shares.relevance)
    large = merit >= LEAST_SHARE
    alone = [(shares.providers[place], np.arange(len(merit)) == place) for place in np.flatnonzero(large).tolist()]
    return [*alone, (TOGETHER, ~large)] if (~large).any() else alone


def by_judged(amounts: Floats, judged: Judged) -> Floats:
    """Each user's amounts, by judged provider: shape (users, judged)."""
    columns: Floats = np.column_stack([amounts[:, members].sum(axis=1) for _, members in judged])
    return columns


def gini(shares: Floats) -> float:
    """Gini coefficient of shares: 0 where all are alike, towards 1 where one has everything; 0 for one alone, NaN if unknown."""
    if not np.isfinite(shares).all():
        return float("nan")
    ordered = np.sort(shares)
    n = len(ordered)
    if n < 2 or not ordered.sum():
        return 0.0
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * ordered.sum()))


def shares_table(shares: Mapping[str, Shares]) -> pa.Table:
    """Every provider of every system, none left out."""
    parts = []
    for system, held in shares.items():
        size = len(held.providers)
        parts.append(
            pa.table(
                {
                    "system": pa.array([system] * size, pa.string()),
                    "provider": pa.array(held.providers, pa.string()),
                    "exposure_share": pa.array(share(held.exposure), from_pandas=True),
                    "place_share": pa.array(share(held.places), from_pandas=True),
                    "relevance_share": pa.array(share(held.relevance), from_pandas=True),
                    "catalogue_share": pa.array(held.catalogue),
                }
            )
        )
    return pa.concat_tables(parts)
