"""Who gets seen: each provider's share of exposure, against its share of the catalogue and of what users took.

Exposure of rank r is 1 / log2(1 + r), over the first k ranks, added up over all test requests (amortised: no single list
can be just to everyone). Two questions are kept apart, because they can disagree: parity (against the eligible catalogue)
and merit (against relevance: the gains that items earned in these very requests).

Source: Singh and Joachims (2018), "Fairness of exposure in rankings"; Raj and Ekstrand (2022), "Measuring fairness in
ranked results".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.artifacts import documents
from components.artifacts.digests import digest_tree
from components.evidence.contract import SCHEMA_VERSION, Estimate, Evidence
from components.evidence.estimates import exactly, from_intervals
from components.evidence.quality_words import interval
from components.evidence.ranked import Ranked, Requests, open_rankings, read_columns
from components.ranker.contract import CANDIDATE, INCUMBENT
from components.statistics import paired_ratios, user_bootstrap

Floats = NDArray[np.float64]

UNKNOWN = "unknown"
TABLE = "fairness-providers.parquet"
_LEAST_SHARE = 0.005
"""Smaller providers, by what users took, are shown in the table and judged together: a ratio to next to nothing is noise."""
TOGETHER = "(small providers)"

CONVENTIONS = {
    "exposure": "1 / log2(1 + rank) in the first k ranks, summed over the test requests, as a share of all exposure.",
    "relevance": "Share of the gains that the items of a provider earned in the test requests, whoever ranked them.",
    "catalogue": "Share of the eligible items at the test cut.",
    "family": "Intervals of the ratios of one comparison hold for all providers together (max-t).",
    "small providers": f"Providers with under {_LEAST_SHARE:.1%} of the relevance are judged together; the table has each.",
    "unit": "Users are resampled: what is random is who came, not what was ranked.",
}


@dataclass(frozen=True, slots=True, eq=False)
class Shares:
    """Exposure, relevance and catalogue of each provider, by user where they differ by user."""

    providers: tuple[str, ...]
    exposure: Floats
    """Shape (users, providers)."""
    relevance: Floats
    """Shape (users, providers)."""
    catalogue: Floats
    """Shape (providers,), sums to 1."""


def measure_provider_fairness(dataset: Path, rankings: Path, *, out: Path, seed: int) -> Evidence:
    """Measure providers' exposure, and write fairness-providers.json and its table into `out`.

    Without a provider in the dataset there is nothing to measure: the evidence then has no estimates and says so.

    Args:
        dataset: Dataset directory.
        rankings: Rankings directory.
        out: Existing directory that lacks these files.
        seed: Seed of the bootstrap.

    Raises:
        InputError: If a manifest or table cannot be read or does not hold what its contract says.
    """
    ranked = open_rankings(dataset, rankings)
    estimates: tuple[Estimate, ...] = ()
    tables, sentences = {}, ["The dataset names no provider of items, so their exposure was not measured."]
    if ranked.dataset.provider:
        requests = ranked.requests("test")
        provider, names = _providers(ranked, dataset)
        users, row = np.unique(requests.user, return_inverse=True)
        shares = {
            system: _shares(ranked, requests, system, provider, names, row=row, users=users.size)
            for system in ranked.systems
        }
        pq.write_table(_table(shares), out / TABLE, compression="zstd")
        tables = {"providers": TABLE}
        estimates = (
            *_ratios(shares[CANDIDATE], ranked, requests, seed=seed),
            *_overall(shares, ranked, requests, users=users.size),
        )
        sentences = _sentences(estimates, ranked.main_cutoff)
    evidence = Evidence(
        schema_version=SCHEMA_VERSION,
        question="fairness-providers",
        estimates=estimates,
        conventions=CONVENTIONS,
        inputs={"dataset": ranked.manifest.dataset, "rankings": digest_tree(rankings)},
        tables=tables,
        reports={},
        libraries={"numpy": np.__version__, "pyarrow": pa.__version__},
        seed=seed,
        sentences=tuple(sentences),
    )
    documents.save(evidence, out / "fairness-providers.json")
    return evidence


def _providers(ranked: Ranked, dataset: Path) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Provider code of each item, and the names in code order."""
    column = read_columns(dataset / "items.parquet", (ranked.dataset.provider,)).column(0)
    texts = np.array([UNKNOWN if value is None else str(value) for value in column.to_pylist()], dtype=object)
    names, codes = np.unique(texts.astype(str), return_inverse=True)
    return codes.astype(np.int64), tuple(names.tolist())


def exposure_of_ranks(ranks: NDArray[np.integer], *, k: int) -> Floats:
    """1 / log2(1 + rank) within the first k ranks, 0 after them."""
    weights: Floats = np.where(ranks <= k, 1.0 / np.log2(1.0 + ranks), 0.0)
    return weights


def _shares(
    ranked: Ranked,
    requests: Requests,
    system: str,
    provider: NDArray[np.int64],
    names: tuple[str, ...],
    *,
    row: NDArray[np.integer],
    users: int,
) -> Shares:
    rows = ranked.rows(system, requests)
    size = len(names)
    place = row[rows.place] * size + provider[rows.item]
    exposure = _summed(exposure_of_ranks(rows.rank, k=ranked.main_cutoff), place, shape=(users, size))
    relevance = _summed(rows.gain.astype(np.float64), place, shape=(users, size))
    catalogue = np.bincount(provider[ranked.eligible], minlength=size).astype(np.float64)
    return Shares(
        names,
        exposure,
        relevance,
        catalogue / max(catalogue.sum(), 1.0),
    )


def _summed(amounts: Floats, place: NDArray[np.int64], *, shape: tuple[int, int]) -> Floats:
    summed: Floats = np.bincount(place, amounts, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)
    return summed


def _share(amounts: Floats) -> Floats:
    total = amounts.sum()
    shares: Floats = amounts.sum(axis=0) / total if total else np.full(amounts.shape[1], np.nan)
    return shares


def _judged(shares: Shares) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Providers large enough to be judged alone, then the others as one."""
    merit = _share(shares.relevance)
    large = merit >= _LEAST_SHARE
    for place in np.flatnonzero(large).tolist():
        yield shares.providers[place], np.arange(len(merit)) == place
    if (~large).any():
        yield TOGETHER, ~large


def _ratios(shares: Shares, ranked: Ranked, requests: Requests, *, seed: int) -> Iterator[Estimate]:
    """Exposure share of each provider divided by its relevance share, and by its catalogue share."""
    judged = list(_judged(shares))
    if not judged or not shares.exposure.sum() or not shares.relevance.sum():
        return
    metric = f"exposure@{ranked.main_cutoff}"
    exposure = np.column_stack([shares.exposure[:, members].sum(axis=1) for _, members in judged])
    relevance = np.column_stack([shares.relevance[:, members].sum(axis=1) for _, members in judged])
    catalogue = np.array([shares.catalogue[members].sum() for _, members in judged])
    # Scaled by the totals, so that a user's row holds shares of what all users saw and took.
    exposed, earned = exposure / exposure.sum(), relevance / relevance.sum()
    merit = paired_ratios(exposed, earned, seed=seed, simultaneous=True)
    own = user_bootstrap(exposed * len(exposed), seed=seed, simultaneous=True)
    for place, (name, _) in enumerate(judged):
        detail = {
            "exposure_share": float(exposed[:, place].sum()),
            "relevance_share": float(earned[:, place].sum()),
            "catalogue_share": float(catalogue[place]),
        }
        yield from_intervals(
            merit,
            (0, place),
            metric=metric,
            statistic="ratio",
            subject=name,
            versus="relevance",
            n_requests=requests.request.size,
            family=f"{metric} against relevance",
            detail=detail,
        )
        if catalogue[place]:
            yield _against_catalogue(
                from_intervals(
                    own,
                    (0, place),
                    metric=metric,
                    statistic="value",
                    subject=name,
                    versus="catalogue",
                    n_requests=requests.request.size,
                    family=f"{metric} against the catalogue",
                    detail=detail,
                ),
                float(catalogue[place]),
            )


def _against_catalogue(share: Estimate, catalogue: float) -> Estimate:
    """The ratio to a share that is known exactly: everything divided by it."""

    def divided(value: float | None) -> float | None:
        return None if value is None else float(f"{value / catalogue:.12g}")

    return replace(
        share,
        statistic="ratio",
        value=divided(share.value),
        low=divided(share.low),
        high=divided(share.high),
        mde=divided(share.mde),
    )


def _overall(shares: dict[str, Shares], ranked: Ranked, requests: Requests, *, users: int) -> Iterator[Estimate]:
    """How unevenly each system spreads exposure over providers, and how far that is from what was earned."""
    k, n_requests = ranked.main_cutoff, requests.request.size
    for system, held in shares.items():
        exposure, merit = _share(held.exposure), _share(held.relevance)
        figures = {
            f"exposure_gini@{k}": gini(exposure) if np.isfinite(exposure).all() else None,
            # Total variation: the share of exposure that would have to move to fit what was earned.
            f"exposure_moved@{k}": 0.5 * float(np.abs(exposure - merit).sum())
            if np.isfinite(exposure).all() and np.isfinite(merit).all()
            else None,
        }
        for metric, value in figures.items():
            yield exactly(
                value,
                metric=metric,
                subject=system,
                versus="relevance" if "moved" in metric else "",
                n_users=users,
                n_requests=n_requests,
            )


def gini(shares: Floats) -> float:
    """Gini coefficient of shares: 0 where all are alike, towards 1 where one has everything; 0 for a single one."""
    ordered = np.sort(shares)
    n = len(ordered)
    if n < 2 or not ordered.sum():
        return 0.0
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * ordered.sum()))


def _table(shares: dict[str, Shares]) -> pa.Table:
    """Every provider of every system, none left out."""
    parts = []
    for system, held in shares.items():
        size = len(held.providers)
        parts.append(
            pa.table(
                {
                    "system": pa.array([system] * size, pa.string()),
                    "provider": pa.array(held.providers, pa.string()),
                    "exposure_share": pa.array(_share(held.exposure), from_pandas=True),
                    "relevance_share": pa.array(_share(held.relevance), from_pandas=True),
                    "catalogue_share": pa.array(held.catalogue),
                }
            )
        )
    return pa.concat_tables(parts)


def _sentences(estimates: tuple[Estimate, ...], k: int) -> list[str]:
    merit = [e for e in estimates if e.versus == "relevance" and e.statistic == "ratio" and e.value is not None]
    if not merit:
        return ["No test request led to anything, so providers' exposure could not be held against what they earned."]
    least = min(merit, key=lambda estimate: estimate.value or 0.0)
    told = [
        f"Of {len(merit)} providers, {least.subject} gets the least exposure in the first {k} ranks for what its items "
        f"earned: {least.detail['exposure_share']:.1%} of exposure for {least.detail['relevance_share']:.1%} of gains, "
        f"{least.value:.2f} times ({interval(least, digits=2)})."
    ]
    moved = {e.subject: e.value for e in estimates if e.metric.startswith("exposure_moved") and e.value is not None}
    if CANDIDATE in moved:
        text = f"{moved[CANDIDATE]:.1%} of exposure would have to move between providers to match what was earned"
        told.append(f"{text}; under the incumbent {moved[INCUMBENT]:.1%}." if INCUMBENT in moved else f"{text}.")
    return told
