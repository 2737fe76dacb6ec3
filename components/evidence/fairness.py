"""Ranking quality by group of users: each pre-declared group and intersection against the rest, and users by their history.

Fairlearn's MetricFrame holds the frames, with one row a user (y_true and y_pred = the user's values), because its own bootstrap
would resample requests as if they were independent. Intervals come from resampling users, and hold for all groups of a
metric together: whoever looks for the worst-served group looks at all of them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import fairlearn
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from fairlearn.metrics import MetricFrame, count, mean_prediction
from numpy.typing import NDArray

from components.artifacts import documents
from components.artifacts.digests import digest_file, digest_tree
from components.errors import EvidenceError
from components.evidence.contract import SCHEMA_VERSION, Estimate, Evidence, Statistic
from components.evidence.estimates import exactly, from_intervals
from components.evidence.fairness_words import as_zero, describe
from components.evidence.ranked import Ranked, open_rankings, read_columns, taken_before_test
from components.evidence.segments import UserGroup, group_detail, history_groups, user_groups
from components.ranker.contract import CANDIDATE, INCUMBENT
from components.statistics import Intervals, group_differences, group_ratios, pool_small, shrink, user_bootstrap

Floats = NDArray[np.float64]

SMALLEST_GROUP = 30
"""Smaller groups are shown, and judged together as well."""
POOLED = {"small groups": f"fewer than {SMALLEST_GROUP} users"}
TABLE = "fairness-users.parquet"

CONVENTIONS = {
    "unit": "One row a user; a user's value is the mean over their requests that have something relevant.",
    "rest": "Everyone who is not in the group, users whose attribute is unknown included.",
    "history": "Groups by how many outcomes were known of a user before the test are compared whatever is declared; their "
    "`detail.declared` is 0. Nobody ranks as well for a user of whom nothing is known: their gap to the rest is no harm by "
    "itself, a gap that grows is.",
    "unknown": "Users whose attribute is not known are a group of their own.",
    "family": "Intervals of the differences of one metric hold for all groups and intersections together (max-t).",
    "small groups": f"A declared group with fewer than {SMALLEST_GROUP} users stands for itself and in one pooled group.",
    "shrunk": "Beside a group's own value, in detail: the best guess at its true one, pulled towards the groups' common mean by "
    "how little it knows. For reading small groups; no rule judges it, because a harmed small group is pulled towards the "
    "unharmed.",
    "change": "The candidate's gap less the incumbent's, on the same requests: below 0, the group has lost ground.",
    "empty requests": "Left out. What counting them as 0 would give, for users who had nothing else too, is told under "
    "metrics of its own (`ndcg_empty_as_zero@k`), so that a gate can ask whether its answer rests on leaving them out.",
    "words": "A gap within a margin is no proof of equal treatment; it says that a larger gap is ruled out.",
}


def measure_user_fairness(dataset: Path, rankings: Path, quality: Path, *, out: Path, seed: int) -> Evidence:
    """Measure each group of users against the rest, and write fairness-users.json and its table into `out`.

    Args:
        dataset: Dataset directory.
        rankings: Rankings directory.
        quality: Evidence directory with quality.json and the per-user values.
        out: Existing directory that lacks these files.
        seed: Seed of the bootstrap.

    Raises:
        InputError: If a manifest or table cannot be read or does not hold what its contract says.
    """
    ranked = open_rankings(dataset, rankings)
    measured = documents.load(Evidence, quality / "quality.json")
    if "users" not in measured.tables:
        raise EvidenceError("quality.json: names no table of users; needed it. Measure quality again.")
    values_path = quality / measured.tables["users"]
    metrics = [f"ndcg@{ranked.main_cutoff}", f"recall@{ranked.main_cutoff}"]
    systems = [system for system in (CANDIDATE, INCUMBENT) if system in ranked.systems]
    columns = [f"{metric}:{system}" for metric in metrics for system in systems]
    everyone = read_columns(values_path, ("user", "n_requests", "n_empty_requests", *columns))
    # Groups of all users, so that bands of a number are those that the other questions use.
    user, attributes = everyone["user"].to_numpy(), (*ranked.dataset.segments, *ranked.dataset.sensitive)
    all_groups = user_groups(
        pq.read_table(dataset / "users.parquet"),
        user,
        attributes=attributes,
        intersections=ranked.dataset.intersections,
    )
    all_groups += history_groups(taken_before_test(ranked, dataset)[user], attributes=attributes)
    known = everyone["n_requests"].to_numpy() > 0
    values = everyone.filter(pa.array(known))
    groups = [replace(group, members=group.members[known]) for group in all_groups]
    estimates: list[Estimate] = []
    if groups and values.num_rows:
        judged = _with_pool(groups)
        parts = [_gaps(metrics, values, judged, seed=seed)]
        if INCUMBENT in systems:
            parts.append(_changes(metrics, values, judged, seed=seed))
        parts.append(_empty_as_zero(metrics, everyone, _with_pool(all_groups), seed=seed))
        estimates += [estimate for by_metric in zip(*parts, strict=True) for found in by_metric for estimate in found]
        estimates += _unknown_shares(ranked, groups, values)
    frames = _frames(values, groups, metrics)
    pq.write_table(pa.Table.from_pandas(frames, preserve_index=False), out / TABLE, compression="zstd")
    evidence = Evidence(
        schema_version=SCHEMA_VERSION,
        question="fairness-users",
        estimates=tuple(estimates),
        conventions=CONVENTIONS,
        inputs={
            "dataset": ranked.manifest.dataset,
            "rankings": digest_tree(rankings),
            "values": digest_file(values_path),
        },
        tables={"groups": TABLE},
        reports={},
        libraries={"fairlearn": fairlearn.__version__, "numpy": np.__version__, "pandas": pd.__version__},
        seed=seed,
        sentences=describe(
            estimates,
            main=metrics[0],
            declared=any(group.declared for group in all_groups),
            smallest=SMALLEST_GROUP,
        ),
    )
    documents.save(evidence, out / "fairness-users.json")
    return evidence


def _with_pool(groups: list[UserGroup]) -> list[UserGroup]:
    """The groups, and everyone in a small declared one as one group more, where that is not a single small group again."""
    declared = [group.members for group in groups if group.declared]
    if not declared:
        return groups
    small, together = pool_small(np.stack(declared), smallest=SMALLEST_GROUP)
    return [*groups, UserGroup(POOLED, together)] if small.sum() > 1 else groups


def _gaps(metrics: list[str], values: pa.Table, groups: list[UserGroup], *, seed: int) -> list[list[Estimate]]:
    """Value, difference and ratio of the candidate in each group, by metric."""
    own = np.column_stack([_column(values, f"{metric}:{CANDIDATE}") for metric in metrics])
    return _compared(metrics, own, values["n_requests"].to_numpy(), groups, seed=seed)


def _compared(
    metrics: list[str], own: Floats, n_requests: NDArray[np.integer], groups: list[UserGroup], *, seed: int
) -> list[list[Estimate]]:
    """The same from one value a user and metric, shape (users, metrics)."""
    members = np.stack([group.members for group in groups])
    families = _a_family_each(metrics, groups)
    levels = user_bootstrap(own, groups=members, seed=seed, simultaneous=True, families=families, bounds=(0, 1))
    gaps = group_differences(own, groups=members, seed=seed, simultaneous=True, families=families, bounds=(0, 1))
    ratios = group_ratios(own, groups=members, seed=seed, simultaneous=True, families=families, bounds=(0, 1))
    parts: tuple[tuple[Statistic, Intervals], ...] = (("value", levels), ("difference", gaps), ("ratio", ratios))
    return [
        [
            estimate
            for statistic, found in parts
            for estimate in _estimates(metric, column, statistic, found, n_requests, groups)
        ]
        for column, metric in enumerate(metrics)
    ]


def _a_family_each(metrics: list[str], groups: list[UserGroup]) -> NDArray[np.int64]:
    """Whoever looks for the worst group by one metric has looked at all groups, but at that metric."""
    return np.tile(np.arange(len(metrics)), (len(groups), 1))


def _empty_as_zero(
    metrics: list[str], everyone: pa.Table, groups: list[UserGroup], *, seed: int
) -> list[list[Estimate]]:
    """The same gaps with requests that led to nothing counted as 0, and with the users who had no others."""
    total = everyone["n_requests"].to_numpy() + everyone["n_empty_requests"].to_numpy()
    weight = everyone["n_requests"].to_numpy() / np.maximum(total, 1)
    own = [np.nan_to_num(_column(everyone, f"{metric}:{CANDIDATE}")) * weight for metric in metrics]
    return _compared([as_zero(metric) for metric in metrics], np.column_stack(own), total, groups, seed=seed)


def _changes(metrics: list[str], values: pa.Table, groups: list[UserGroup], *, seed: int) -> list[list[Estimate]]:
    """How much each group's gap to the rest has changed against the incumbent's, by metric."""
    gained = np.column_stack(
        [_column(values, f"{metric}:{CANDIDATE}") - _column(values, f"{metric}:{INCUMBENT}") for metric in metrics]
    )
    found = group_differences(
        gained,
        groups=np.stack([group.members for group in groups]),
        seed=seed,
        simultaneous=True,
        families=_a_family_each(metrics, groups),
        bounds=(-1, 1),
    )
    n_requests = values["n_requests"].to_numpy()
    return [_estimates(metric, column, "change", found, n_requests, groups) for column, metric in enumerate(metrics)]


def _estimates(
    metric: str,
    column: int,
    statistic: Statistic,
    intervals: Intervals,
    n_requests: NDArray[np.integer],
    groups: list[UserGroup],
) -> list[Estimate]:
    versus = {"value": "", "change": INCUMBENT}.get(statistic, "rest")
    guesses = None
    if statistic == "value":
        guesses = shrink(intervals.estimate[:, column], intervals.standard_error[:, column]).estimate
    return [
        from_intervals(
            intervals,
            (place, column),
            metric=metric,
            statistic=statistic,
            subject=CANDIDATE,
            versus=versus,
            segment=group.segment,
            n_requests=int(n_requests[group.members].sum()),
            family=f"{metric} {statistic} by group",
            detail={**group_detail(group), **({} if guesses is None else {"shrunk": float(guesses[place])})},
        )
        for place, group in enumerate(groups)
    ]


def _unknown_shares(ranked: Ranked, groups: list[UserGroup], values: pa.Table) -> list[Estimate]:
    """Share of the measured users whose attribute is not known, by attribute."""
    found = []
    for name in (*ranked.dataset.segments, *ranked.dataset.sensitive):
        unknown = [group.members.mean() for group in groups if group.segment == {name: "unknown"}]
        found.append(
            exactly(
                float(unknown[0]) if unknown else 0.0,
                metric="unknown_share",
                subject=name,
                n_users=values.num_rows,
                n_requests=int(values["n_requests"].to_numpy().sum()),
            )
        )
    return found


def _frames(values: pa.Table, groups: list[UserGroup], metrics: list[str]) -> pd.DataFrame:
    """Fairlearn's frame of each attribute and intersection: group, users and the mean of each of the two metrics."""
    first, second = (_column(values, f"{metric}:{CANDIDATE}") for metric in metrics)
    rows: list[pd.DataFrame] = []
    for names in dict.fromkeys(tuple(group.segment) for group in groups):
        label = np.full(values.num_rows, "", dtype=object)
        for group in groups:
            if tuple(group.segment) == names:
                label[group.members] = " / ".join(group.segment.values())
        # A frame takes two columns and costs as much with one metric as with both.
        frame = MetricFrame(
            metrics={"users": count, metrics[0]: _mean_of_first, metrics[1]: mean_prediction},
            y_true=first,
            y_pred=second,
            sensitive_features=pd.Series(label, name="group"),
        )
        for metric in metrics:
            by_group = frame.by_group[["users", metric]].rename(columns={metric: "mean"}).reset_index()
            by_group.insert(0, "attribute", " / ".join(names))
            by_group.insert(1, "metric", metric)
            by_group["overall"] = float(frame.overall[metric])
            rows.append(by_group)
    if not rows:
        return pd.DataFrame(columns=["attribute", "metric", "group", "users", "mean", "overall"])
    return pd.concat(rows, ignore_index=True)


def _mean_of_first(y_true: Floats, y_pred: Floats) -> float:
    """Fairlearn's mean, of the first column; a metric's arguments have these names."""
    mean: float = mean_prediction(y_pred, y_true)
    return mean


def _column(values: pa.Table, name: str) -> Floats:
    column: Floats = values[name].to_numpy().astype(np.float64)
    return column
