"""Ranking quality: how good the candidate's lists are, against each baseline and the incumbent, and for whom.

Rankings -> metrics of each request -> one row a user (quality-users.parquet) -> estimates with user-clustered intervals.
Differences are paired: the same users, the same requests. The main metric is also told for every declared group of
users, with intervals that hold for all of them together. What accuracy does not say (coverage, variety, novelty, pull
towards the popular, change of the lists) is measured beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.artifacts import documents
from components.artifacts.digests import digest_tree
from components.evidence import beyond_accuracy as beyond
from components.evidence.contract import SCHEMA_VERSION, Estimate, Evidence
from components.evidence.estimates import exactly, from_intervals
from components.evidence.quality_words import describe
from components.evidence.ranked import Ranked, Requests, open_rankings, read_columns, taken_before_test
from components.evidence.ranking_metrics import request_metrics
from components.evidence.segments import UserGroup, group_detail, history_groups, user_groups
from components.ranker.contract import CANDIDATE, INCUMBENT
from components.statistics import paired_ratios, user_bootstrap

Floats = NDArray[np.float64]

ACCURACY = {"ndcg": "ndcg", "map": "average_precision", "recall": "recall", "mrr": "reciprocal_rank", "hit_rate": "hit"}
"""Metric name in evidence -> array of `RequestMetrics`."""

USERS_TABLE = "quality-users.parquet"

CONVENTIONS = {
    "unit": "A user's value is the mean over their requests; an estimate is the mean over users, each counted once.",
    "empty requests": "A request without any relevant item counts in no mean of ndcg, map, recall, mrr or hit_rate; how "
    "many there are is reported, and detail.empty_as_zero says what counting them as 0 would give.",
    "gains": "Linear: the gain that the dataset contract gives an outcome, discounted by log2(1 + rank).",
    "map": "Average precision at k divides by min(k, relevant items).",
    "recall": "Divides by all relevant items of the request, whether or not they could be shown.",
    "ties": "None: lists are judged in the total order that is served.",
    "differences": "Paired: candidate minus the other on the same requests of the same users.",
    "families": "Intervals of one family hold together (max-t); the others stand alone.",
    "category_diversity": "Share of the pairs in a list whose categories differ; unknown counts as one category.",
    "novelty": "Mean -log2 share of all earlier popularity that an item shown has, in bits, one added to each item's.",
    "popular_share": "Share of exposure, 1 / log2(1 + rank), that the most popular tenth of the eligible items gets.",
    "popularity": "Mean popularity before the test, as the rankings' catalogue counts it, of the items shown, divided by "
    "that of the items in the users' own history.",
    "overlap": "Share of the first k items that the incumbent also has among its first k.",
    "coverage": "Share of the eligible items that at least one list of the held-out requests shows: exact for these "
    "requests, larger for more of them.",
}


@dataclass(frozen=True, slots=True, eq=False)
class UserValues:
    """One row a user of the test requests, ascending user index; columns `metric@k:system`, NaN = nothing to average."""

    user: NDArray[np.int32]
    n_requests: NDArray[np.int32]
    """Requests with something relevant."""
    n_empty: NDArray[np.int32]
    columns: dict[str, Floats] = field(default_factory=dict)

    def table(self, names: list[str]) -> Floats:
        """The named columns side by side, shape (users, columns)."""
        return np.column_stack([self.columns[name] for name in names])


def measure_quality(dataset: Path, rankings: Path, *, out: Path, seed: int) -> Evidence:
    """Measure ranking quality and write quality.json and quality-users.parquet into `out`.

    Args:
        dataset: Dataset directory.
        rankings: Rankings directory.
        out: Existing directory that lacks these files.
        seed: Seed of the bootstrap.

    Raises:
        InputError: If a manifest or table cannot be read or does not hold what its contract says.
    """
    ranked = open_rankings(dataset, rankings)
    requests = ranked.requests("test")
    values = user_values(ranked, requests)
    _add_beyond_accuracy(values, ranked, requests, dataset)
    attributes = (*ranked.dataset.segments, *ranked.dataset.sensitive)
    groups = user_groups(
        pq.read_table(dataset / "users.parquet"),
        values.user,
        attributes=attributes,
        intersections=ranked.dataset.intersections,
    )
    groups += history_groups(taken_before_test(ranked, dataset)[values.user], attributes=attributes)
    estimates = (
        *_empty_requests(values),
        *_accuracy(values, ranked, seed=seed),
        *_by_group(values, ranked, groups, seed=seed),
        *_beyond_accuracy(values, ranked, requests, seed=seed),
    )
    pq.write_table(_users_table(values), out / USERS_TABLE, compression="zstd")
    evidence = Evidence(
        schema_version=SCHEMA_VERSION,
        question="quality",
        estimates=estimates,
        conventions={**CONVENTIONS, "main metric": f"ndcg@{ranked.main_cutoff}"},
        inputs={"dataset": ranked.manifest.dataset, "rankings": digest_tree(rankings)},
        tables={"users": USERS_TABLE},
        reports={},
        libraries={"numpy": np.__version__, "pyarrow": pa.__version__},
        seed=seed,
        sentences=describe(estimates, main=f"ndcg@{ranked.main_cutoff}", cutoff=ranked.main_cutoff),
    )
    documents.save(evidence, out / "quality.json")
    return evidence


def user_values(ranked: Ranked, requests: Requests) -> UserValues:
    """Accuracy of every system, at every cut-off, as one value a user."""
    user, row = np.unique(requests.user, return_inverse=True)
    counted = requests.relevant > 0
    values = UserValues(
        user=user.astype(np.int32),
        n_requests=np.bincount(row[counted], minlength=user.size).astype(np.int32),
        n_empty=np.bincount(row[~counted], minlength=user.size).astype(np.int32),
    )
    cutoffs = tuple(sorted(ranked.manifest.cutoffs))
    for system in ranked.systems:
        gains = ranked.rows(system, requests).top_gains(requests.request.size, depth=cutoffs[-1])
        found = request_metrics(gains, requests.ideal_gains, requests.relevant, cutoffs=cutoffs)
        for name, array in ACCURACY.items():
            for place, cutoff in enumerate(cutoffs):
                values.columns[f"{name}@{cutoff}:{system}"] = user_means(
                    getattr(found, array)[:, place], row, user.size
                )
    return values


def user_means(values: Floats, row: NDArray[np.integer], users: int) -> Floats:
    """Mean of each user's requests, shape (users,), NaN requests left out; NaN for a user without any other."""
    known = ~np.isnan(values)
    total = np.bincount(row[known], values[known], minlength=users)
    count = np.bincount(row[known], minlength=users)
    result: Floats = np.full(users, np.nan)
    np.divide(total, count, out=result, where=count > 0)
    return result


def _add_beyond_accuracy(values: UserValues, ranked: Ranked, requests: Requests, dataset: Path) -> None:
    k = ranked.main_cutoff
    row = np.searchsorted(values.user, requests.user)
    category = _categories(ranked, dataset)
    popular = beyond.popular_items(ranked.popularity, ranked.eligible)
    lists = {
        system: ranked.rows(system, requests).top_items(requests.request.size, depth=k) for system in ranked.systems
    }
    for system, items in lists.items():
        found = {
            "novelty": beyond.novelty(items, ranked.popularity),
            "popular_share": beyond.exposure_share(items, popular),
            "popularity": beyond.mean_popularity(items, ranked.popularity),
        }
        if category is not None:
            found["category_diversity"] = beyond.category_diversity(items, category)
        for name, per_request in found.items():
            values.columns[f"{name}@{k}:{system}"] = user_means(per_request, row, values.user.size)
    if INCUMBENT in lists:
        same = beyond.overlap(lists[CANDIDATE], lists[INCUMBENT])
        values.columns[f"overlap@{k}:{CANDIDATE}"] = user_means(same, row, values.user.size)
    values.columns["popularity:history"] = _history_popularity(ranked, dataset)[values.user]


def _categories(ranked: Ranked, dataset: Path) -> NDArray[np.int64] | None:
    """Category code by item, unknown last; None where the dataset has no category."""
    if not ranked.dataset.category:
        return None
    column = read_columns(dataset / "items.parquet", (ranked.dataset.category,)).column(0).combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    coded = column.dictionary_encode()
    codes: NDArray[np.int64] = coded.indices.fill_null(len(coded.dictionary)).to_numpy().astype(np.int64)
    return codes


def _history_popularity(ranked: Ranked, dataset: Path) -> Floats:
    """Mean popularity of each user's own earlier items, by user; NaN for a user without any before the test cut."""
    before = ranked.dataset.cuts[-2].history_rows if len(ranked.dataset.cuts) > 1 else 0
    history = read_columns(dataset / "history.parquet", ("user", "item")).slice(0, before)
    user, item = history["user"].to_numpy(), history["item"].to_numpy()
    return user_means(ranked.popularity[item], user, ranked.dataset.users)


def _empty_requests(values: UserValues) -> list[Estimate]:
    empty, total = int(values.n_empty.sum()), int(values.n_empty.sum() + values.n_requests.sum())
    figures = {"empty_requests": float(empty), "empty_request_share": empty / total if total else None}
    return [
        exactly(figure, metric=metric, subject="requests", n_users=values.user.size, n_requests=total)
        for metric, figure in figures.items()
    ]


def _accuracy(values: UserValues, ranked: Ranked, *, seed: int) -> list[Estimate]:
    """Values of every system, then the candidate's differences, each alone."""
    metrics = [f"{name}@{cutoff}" for cutoff in sorted(ranked.manifest.cutoffs) for name in ACCURACY]
    n_requests = int(values.n_requests.sum())
    names = [f"{metric}:{system}" for metric in metrics for system in ranked.systems]
    found = user_bootstrap(values.table(names), seed=seed, bounds=(0, 1))
    total = values.n_requests + values.n_empty
    estimates = []
    for place, name in enumerate(names):
        metric, system = name.split(":")
        as_zero = np.nan_to_num(values.columns[name]) * values.n_requests / total
        detail = {"empty_as_zero": float(as_zero.mean())} if total.size else {}
        estimates.append(
            from_intervals(
                found,
                (0, place),
                metric=metric,
                statistic="value",
                subject=system,
                n_requests=n_requests,
                detail=detail,
            )
        )
    return estimates + _differences(values, metrics, ranked, bounds=(-1, 1), n_requests=n_requests, seed=seed)


def _differences(
    values: UserValues,
    metrics: list[str],
    ranked: Ranked,
    *,
    bounds: tuple[float, float] | None,
    n_requests: int,
    seed: int,
    others: tuple[str, ...] | None = None,
) -> list[Estimate]:
    """Candidate minus each other system, paired; the ratio of the two means and its interval in `detail`."""
    others = ranked.systems[1:] if others is None else others
    pairs = [(metric, other) for metric in metrics for other in others]
    if not pairs:
        return []
    own = values.table([f"{metric}:{CANDIDATE}" for metric, _ in pairs])
    other_values = values.table([f"{metric}:{other}" for metric, other in pairs])
    found = user_bootstrap(own - other_values, seed=seed, bounds=bounds)
    ratios = paired_ratios(own, other_values, seed=seed)
    return [
        from_intervals(
            found,
            (0, place),
            metric=metric,
            statistic="difference",
            subject=CANDIDATE,
            versus=other,
            n_requests=n_requests,
            detail={
                "ratio": ratios.estimate[0, place],
                "ratio_low": ratios.low[0, place],
                "ratio_high": ratios.high[0, place],
            },
        )
        for place, (metric, other) in enumerate(pairs)
    ]


def _by_group(values: UserValues, ranked: Ranked, groups: list[UserGroup], *, seed: int) -> list[Estimate]:
    """The main metric of candidate and incumbent, and the candidate's differences, in each group of users."""
    if not groups:
        return []
    metric = f"ndcg@{ranked.main_cutoff}"
    members = np.stack([group.members for group in groups])
    own = [system for system in ranked.systems if system in (CANDIDATE, INCUMBENT)]
    others = list(ranked.systems[1:])
    candidate = values.columns[f"{metric}:{CANDIDATE}"]
    parts: list[tuple[list[str], Floats, tuple[float, float], str]] = [
        (own, values.table([f"{metric}:{system}" for system in own]), (0, 1), "value")
    ]
    if others:
        theirs = values.table([f"{metric}:{system}" for system in others])
        parts.append((others, candidate[:, None] - theirs, (-1, 1), "difference"))
    estimates = []
    for systems, table, bounds, statistic in parts:
        # One family a system compared: all its groups, because a reader looks for the worst among them.
        families = np.tile(np.arange(len(systems)), (len(groups), 1))
        found = user_bootstrap(table, groups=members, seed=seed, simultaneous=True, families=families, bounds=bounds)
        for column, system in enumerate(systems):
            is_value = statistic == "value"
            subject, versus = (system, "") if is_value else (CANDIDATE, system)
            estimates += [
                from_intervals(
                    found,
                    (place, column),
                    metric=metric,
                    statistic="value" if is_value else "difference",
                    subject=subject,
                    versus=versus,
                    segment=group.segment,
                    n_requests=int(values.n_requests[group.members].sum()),
                    family=f"{metric} of {subject}{f' against {versus}' if versus else ''} by group",
                    detail=group_detail(group),
                )
                for place, group in enumerate(groups)
            ]
    return estimates


def _beyond_accuracy(values: UserValues, ranked: Ranked, requests: Requests, *, seed: int) -> list[Estimate]:
    k, n_requests = ranked.main_cutoff, requests.request.size
    estimates = []
    for system in ranked.systems:
        items = ranked.rows(system, requests).top_items(n_requests, depth=k)
        share = beyond.catalogue_coverage(items, ranked.eligible)
        estimates.append(
            exactly(
                None if np.isnan(share) else share,
                metric=f"coverage@{k}",
                subject=system,
                versus="catalogue",
                n_users=values.user.size,
                n_requests=n_requests,
                detail={"eligible_items": float(ranked.eligible.sum())},
            )
        )
    bounds: Mapping[str, tuple[float, float] | None] = {
        "category_diversity": (0, 1),
        "popular_share": (0, 1),
        "overlap": (0, 1),
        "novelty": None,
    }
    compared = (INCUMBENT,) if INCUMBENT in ranked.systems else ()
    for name, bound in bounds.items():
        present = [system for system in ranked.systems if f"{name}@{k}:{system}" in values.columns]
        if not present:
            continue
        found = user_bootstrap(values.table([f"{name}@{k}:{s}" for s in present]), seed=seed, bounds=bound)
        estimates += [
            from_intervals(
                found,
                (0, place),
                metric=f"{name}@{k}",
                statistic="value",
                subject=system,
                versus=INCUMBENT if name == "overlap" else "",
                n_requests=n_requests,
            )
            for place, system in enumerate(present)
        ]
        if name != "overlap":
            difference_bound = (-1.0, 1.0) if bound else None
            estimates += _differences(
                values,
                [f"{name}@{k}"],
                ranked,
                bounds=difference_bound,
                n_requests=n_requests,
                seed=seed,
                others=compared,
            )
    history = values.columns["popularity:history"]
    shown = values.table([f"popularity@{k}:{system}" for system in ranked.systems])
    found = paired_ratios(shown, np.broadcast_to(history[:, None], shown.shape), seed=seed)
    return estimates + [
        from_intervals(
            found,
            (0, place),
            metric=f"popularity@{k}",
            statistic="ratio",
            subject=system,
            versus="history",
            n_requests=n_requests,
        )
        for place, system in enumerate(ranked.systems)
    ]


def _users_table(values: UserValues) -> pa.Table:
    columns = {
        "user": pa.array(values.user, pa.int32()),
        "n_requests": pa.array(values.n_requests, pa.int32()),
        "n_empty_requests": pa.array(values.n_empty, pa.int32()),
    }
    columns.update({name: pa.array(column, pa.float64(), from_pandas=True) for name, column in values.columns.items()})
    return pa.table(columns)
