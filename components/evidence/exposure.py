"""Who gets seen: each provider's share of exposure, against its share of the catalogue and of what users took.

Exposure of rank r is 1 / log2(1 + r), over the first k ranks, added up over all test requests (amortised: no single list
can be just to everyone). Two questions are kept apart, because they can disagree: parity (against the eligible catalogue)
and merit (against relevance: the gains that items earned in these very requests).

Source: Singh and Joachims (2018), "Fairness of exposure in rankings"; Raj and Ekstrand (2022), "Measuring fairness in
ranked results".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.artifacts import documents
from components.artifacts.digests import digest_tree
from components.evidence.contract import SCHEMA_VERSION, Estimate, Evidence, Statistic
from components.evidence.estimates import exactly, from_intervals
from components.evidence.provider_shares import (
    LEAST_SHARE,
    Shares,
    by_judged,
    gini,
    judged_providers,
    share,
    shares_by_system,
    shares_table,
)
from components.evidence.quality_words import interval
from components.evidence.ranked import Ranked, Requests, open_rankings
from components.ranker.contract import CANDIDATE, INCUMBENT
from components.statistics import Intervals, pooled_means, share_differences, share_ratios

Floats = NDArray[np.float64]

TABLE = "fairness-providers.parquet"
_LEAST_USERS = 20
"""A difference of shares gets an interval where at least so many users took something of the provider. With fewer the sample
does not show the spread: simulated families of 95 % intervals held together in 65 % of cases, from 15 users on in 96 %."""
CONVENTIONS = {
    "exposure": "1 / log2(1 + rank) in the first k ranks, summed over the test requests, as a share of all exposure.",
    "relevance": "Share of the gains that the items of a provider earned in the test requests, of what could be shown, "
    "whoever ranked it and how deep.",
    "catalogue": "Share of the eligible items at the test cut.",
    "never shown": "A provider without any exposure has the ratio 0; its upper limit supposes that as many users are shown it "
    "as may go unseen in a sample of this size, and nothing else.",
    "place_share": "Share of the first k places, whatever the rank.",
    "difference": f"Exposure share less the other share, in shares; without an interval where fewer than {_LEAST_USERS} users "
    "took something of the provider. Against the incumbent: the candidate's share less the incumbent's.",
    "exposure_moved": "Share of all exposure that would have to move between providers to match the other share.",
    "least_exposure": "Smallest ratio of exposure to relevance share among the providers that are judged: read it beside the "
    "interval of that provider's own ratio, because the smallest of many is small by chance too.",
    "family": "Intervals of one comparison hold for all providers together (max-t).",
    "small providers": f"Providers with under {LEAST_SHARE:.1%} of the relevance are judged together; the table has each.",
    "unit": "Users are resampled, and with them the totals that shares are of: what is random is who came, not what was "
    "ranked.",
}


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
        shares = shares_by_system(ranked, requests, dataset)
        pq.write_table(shares_table(shares), out / TABLE, compression="zstd")
        tables = {"providers": TABLE}
        estimates = (
            *_ratios(shares[CANDIDATE], ranked, requests, seed=seed),
            *_differences(shares, ranked, requests, seed=seed),
            *_overall(shares, ranked, requests, users=len(shares[CANDIDATE].exposure)),
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


def _ratios(shares: Shares, ranked: Ranked, requests: Requests, *, seed: int) -> Iterator[Estimate]:
    """Exposure share of each provider divided by its relevance share, and by its catalogue share."""
    judged = judged_providers(shares)
    if not judged or not shares.exposure.sum() or not shares.relevance.sum():
        return
    metric = f"exposure@{ranked.main_cutoff}"
    exposure, relevance = by_judged(shares.exposure, judged), by_judged(shares.relevance, judged)
    catalogue = np.array([shares.catalogue[members].sum() for _, members in judged])
    totals, other_totals = exposure.sum(axis=1), relevance.sum(axis=1)
    merit = share_ratios(exposure, relevance, totals=totals, other_totals=other_totals, seed=seed, simultaneous=True)
    own = _shares_of(exposure, seed=seed)
    exposed, earned = exposure / totals.sum(), relevance / other_totals.sum()
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


def _shares_of(amounts: Floats, *, seed: int) -> Intervals:
    """Share of all users' total that each column has."""
    totals = np.repeat(amounts.sum(axis=1)[:, None], amounts.shape[1], axis=1)
    found = pooled_means(amounts, totals, seed=seed, simultaneous=True)
    if amounts.shape[1] > 1:
        return found
    # A single provider has everything whoever comes: that is no estimate.
    return replace(found, low=found.estimate, high=found.estimate)


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


def _differences(shares: dict[str, Shares], ranked: Ranked, requests: Requests, *, seed: int) -> Iterator[Estimate]:
    """Share of places; exposure share less relevance share; candidate's exposure share less the incumbent's."""
    own, k = shares[CANDIDATE], ranked.main_cutoff
    judged = judged_providers(own)
    if not judged or not own.exposure.sum() or not own.relevance.sum():
        return
    took = (by_judged(own.relevance, judged) > 0).sum(axis=0)
    exposure = by_judged(own.exposure, judged)

    def against(amounts: Floats) -> Intervals:
        others = by_judged(amounts, judged)
        totals, other_totals = exposure.sum(axis=1), others.sum(axis=1)
        return share_differences(
            exposure, others, totals=totals, other_totals=other_totals, seed=seed, simultaneous=True
        )

    parts: list[tuple[str, Statistic, str, Intervals]] = [
        (f"place_share@{k}", "value", "", _shares_of(by_judged(own.places, judged), seed=seed)),
        (f"exposure@{k}", "difference", "relevance", against(own.relevance)),
    ]
    if INCUMBENT in shares and shares[INCUMBENT].exposure.sum():
        parts.append((f"exposure@{k}", "difference", INCUMBENT, against(shares[INCUMBENT].exposure)))
    for metric, statistic, versus, found in parts:
        for place, (name, _) in enumerate(judged):
            estimate = from_intervals(
                found,
                (0, place),
                metric=metric,
                statistic=statistic,
                subject=name,
                versus=versus,
                n_requests=requests.request.size,
                family=f"{metric} {statistic}{f' against {versus}' if versus else ''}",
                detail={"users_who_took": float(took[place])},
            )
            thin = versus == "relevance" and took[place] < _LEAST_USERS
            yield replace(estimate, low=None, high=None, mde=None) if thin else estimate


def _overall(shares: dict[str, Shares], ranked: Ranked, requests: Requests, *, users: int) -> Iterator[Estimate]:
    """How unevenly each system spreads exposure over providers, and how far that is from what was earned."""
    k = ranked.main_cutoff
    judged = judged_providers(shares[CANDIDATE])
    for system, held in shares.items():
        exposure, merit = share(held.exposure), share(held.relevance)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = [float(exposure[members].sum() / merit[members].sum()) for _, members in judged]
        figures: tuple[tuple[str, str, float], ...] = (
            (f"exposure_gini@{k}", "", gini(exposure)),
            # Total variation: the share of exposure that would have to move to fit.
            (f"exposure_moved@{k}", "relevance", 0.5 * float(np.abs(exposure - merit).sum())),
            (f"exposure_moved@{k}", "catalogue", 0.5 * float(np.abs(exposure - held.catalogue).sum())),
            (f"least_exposure@{k}", "relevance", min((r for r in ratios if np.isfinite(r)), default=float("nan"))),
        )
        for metric, versus, value in figures:
            yield exactly(
                value if np.isfinite(value) else None,
                metric=metric,
                subject=system,
                versus=versus,
                n_users=users,
                n_requests=requests.request.size,
            )


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
    moved = {
        e.subject: e.value
        for e in estimates
        if (e.metric, e.versus) == (f"exposure_moved@{k}", "relevance") and e.value is not None
    }
    if CANDIDATE in moved:
        text = f"{moved[CANDIDATE]:.1%} of exposure would have to move between providers to match what was earned"
        told.append(f"{text}; under the incumbent {moved[INCUMBENT]:.1%}." if INCUMBENT in moved else f"{text}.")
    return told
