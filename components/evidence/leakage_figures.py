"""From what was measured of leakage to estimates and the table of features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.evidence.contract import Estimate
from components.evidence.estimates import exactly, from_intervals, number
from components.evidence.leakage_overlap import Counted
from components.evidence.leakage_past import Compared
from components.evidence.leakage_power import Power
from components.ranker.contract import CANDIDATE
from components.statistics import Intervals, pooled_means, user_bootstrap
from components.statistics.shares import share_limit

Floats = NDArray[np.float64]

LEVEL = 0.95


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What single features do on the rows of one split."""

    split: str
    features: tuple[str, ...]
    users: NDArray[np.int64]
    """User of each row of `power`, ascending."""
    power: Power
    systems: Mapping[str, Floats]
    """C-index of each system on the same rows, by user; the candidate first; empty where there is none."""


def power_estimates(found: Measured, *, seed: int) -> Iterator[Estimate]:
    """Order within requests, share of the label that is told, and both against the model."""
    power, names = found.power, found.features
    on = f"@{found.split}"
    ordered = user_bootstrap(power.ordered, seed=seed, level=LEVEL, simultaneous=True, bounds=(0.0, 1.0))
    directed = without_direction(ordered, power.constant)
    told = _shares(power.told.gained, power.told.uncertain, seed=seed)
    for at, name in enumerate(names):
        yield from_intervals(
            directed,
            (0, at),
            metric=f"power{on}",
            statistic="value",
            subject=name,
            n_requests=power.requests,
            family=f"power{on}",
            detail={"direction": float(np.sign(ordered.estimate[0, at] - 0.5)), "constant": float(power.constant[at])},
        )
        yield from_intervals(
            told,
            (0, at),
            metric=f"told{on}",
            statistic="value",
            subject=name,
            n_requests=power.requests,
            family=f"told{on}",
            detail={"missing_negative": power.missing[0, at], "missing_positive": power.missing[1, at]},
        )
    yield from _of_requests(found, seed=seed)
    if found.systems:
        yield from _against_model(found, ordered.estimate[0] < 0.5, seed=seed)


def unmeasured(split: str, features: Sequence[str]) -> Iterator[Estimate]:
    """What would have been measured on the rows of a split that has none: without a value, so that a gate blocks."""
    for name in features:
        for metric in ("power", "told"):
            yield exactly(None, metric=f"{metric}@{split}", subject=name, n_users=0, n_requests=0)


def without_direction(found: Intervals, constant: NDArray[np.bool_]) -> Intervals:
    """A c-index whichever way round: 0.3 orders as well as 0.7. Limits that hold 0.5 reach down to it.

    Args:
        found: Shape (1, columns).
        constant: Shape (columns,): what has one value in every request is known to order nothing, without an interval.
    """
    turned = found.estimate < 0.5
    low, high = np.where(turned, 1 - found.high, found.low), np.where(turned, 1 - found.low, found.high)
    return replace(
        found,
        estimate=np.where(turned, 1 - found.estimate, found.estimate),
        low=np.maximum(low, 0.5),
        high=np.where(constant, found.estimate, np.maximum(high, 1 - low)),
    )


def _shares(gained: Floats, uncertain: Floats, *, seed: int) -> Intervals:
    sizes = np.repeat(uncertain[:, None], gained.shape[1], axis=1)
    found = pooled_means(gained, sizes, seed=seed, level=LEVEL, simultaneous=True)
    # Of a copy of the label users do not differ, and a resample knows no spread. How many who do may still be unseen is
    # known exactly, and what each of them could change: a column tells at most everything and is cut at minus that.
    tail = np.full(found.estimate.shape, (1 - LEVEL) / 2 / gained.shape[1])
    unseen = 2 * share_limit(np.zeros(tail.shape), found.n_users, tail=tail)
    alike = np.isnan(found.low) & np.isfinite(found.estimate)
    nothing = ~gained.any(axis=0)
    low = np.where(nothing, 0.0, np.where(alike, found.estimate - unseen, found.low))
    high = np.where(nothing, 0.0, np.where(alike, found.estimate + unseen, found.high))
    return replace(found, low=np.clip(low, -1.0, 1.0), high=np.clip(high, -1.0, 1.0))


def _of_requests(found: Measured, *, seed: int) -> Iterator[Estimate]:
    """Of columns that are the same for a whole request: what they tell about whether it led to anything."""
    power, metric = found.power, f"outcome_told@{found.split}"
    columns = np.flatnonzero(power.constant)
    if not columns.size or not power.of_request.uncertain.any():
        return
    told = _shares(power.of_request.gained[:, columns], power.of_request.uncertain, seed=seed)
    for place, at in enumerate(columns.tolist()):
        yield from_intervals(
            told,
            (0, place),
            metric=metric,
            statistic="value",
            subject=found.features[at],
            n_requests=power.requests,
            family=metric,
        )


def _against_model(found: Measured, turned: NDArray[np.bool_], *, seed: int) -> Iterator[Estimate]:
    metric, family = f"power@{found.split}", f"power@{found.split} against the candidate"
    systems = np.column_stack(list(found.systems.values()))
    alone = user_bootstrap(systems, seed=seed, level=LEVEL, simultaneous=True, bounds=(0.0, 1.0))
    for at, system in enumerate(found.systems):
        yield from_intervals(
            alone,
            (0, at),
            metric=f"model_{metric}",
            statistic="value",
            subject=system,
            n_requests=found.power.requests,
            family=f"model_{metric}",
        )
    directed = np.where(turned, 1 - found.power.ordered, found.power.ordered)
    gaps = user_bootstrap(directed - systems[:, :1], seed=seed, level=LEVEL, simultaneous=True, bounds=(-1.0, 1.0))
    others = alone.estimate[0, 1:]
    best = float(np.max(others[np.isfinite(others)], initial=-np.inf))
    for at, name in enumerate(found.features):
        yield from_intervals(
            gaps,
            (0, at),
            metric=metric,
            statistic="difference",
            subject=name,
            versus=CANDIDATE,
            n_requests=found.power.requests,
            family=family,
            detail={"candidate": float(alone.estimate[0, 0]), "best_baseline": best},
        )


def change_estimates(train: Measured, test: Measured, *, seed: int) -> Iterator[Estimate]:
    """How much better each feature orders test than training rows, on the users of both; below 0: it knew training better."""
    _, here, there = np.intersect1d(test.users, train.users, assume_unique=True, return_indices=True)
    place = {name: at for at, name in enumerate(train.features)}
    columns = [place[name] for name in test.features]
    after, before = test.power.ordered[here], train.power.ordered[there][:, columns]
    turned = np.nan_to_num(before - 0.5).sum(axis=0) < 0
    change = np.where(turned, before - after, after - before)
    found = user_bootstrap(change, seed=seed, level=LEVEL, simultaneous=True, bounds=(-1.0, 1.0))
    for at, name in enumerate(test.features):
        yield from_intervals(
            found,
            (0, at),
            metric="power@test",
            statistic="difference",
            subject=name,
            versus="train",
            n_requests=test.power.requests,
            family="power@test against train",
        )


def future_estimates(found: Sequence[Compared], features: Sequence[str], users: int) -> Iterator[Estimate]:
    """Values that changed when the future was removed, for each feature; None for one that was not made again."""
    requests = np.unique(np.concatenate([part.requests for part in found] or [np.empty(0, np.int64)])).size
    for feature in features:
        places = [(part, part.features.index(feature)) for part in found if part.rows and feature in part.features]
        cells = sum(part.rows for part, _ in places)
        changed = sum(int(part.changed[at]) for part, at in places)
        detail = {"values": float(cells), "moments": float(len({part.moment.bucket for part, _ in places}))}
        if changed:
            detail["largest"] = max(float(part.largest[at]) for part, at in places)
        yield exactly(
            float(changed) if cells else None,
            metric="changed_without_future",
            subject=feature,
            n_users=users,
            n_requests=requests,
            detail=detail,
        )


def counted(metric: str, subject: str, found: Counted, users: int, *, share: bool = False) -> Estimate:
    """A count, or the share that it is; of nothing there is no share, and no count."""
    value = (found.found / found.of if share else float(found.found)) if found.of else None
    return exactly(
        value,
        metric=metric,
        subject=subject,
        n_users=users,
        n_requests=found.of,
        detail={"found": float(found.found), "of": float(found.of)},
    )


_COLUMNS = {
    "power_test": ("power@test", "value", ""),
    "power_train": ("power@train", "value", ""),
    "power_over_candidate": ("power@test", "difference", CANDIDATE),
    "power_test_less_train": ("power@test", "difference", "train"),
    "told_test": ("told@test", "value", ""),
    "told_train": ("told@train", "value", ""),
    "outcome_told_test": ("outcome_told@test", "value", ""),
    "outcome_told_train": ("outcome_told@train", "value", ""),
    "changed_without_future": ("changed_without_future", "value", ""),
}


def features_table(features: Sequence[str], estimates: Sequence[Estimate]) -> pa.Table:
    """One row a feature, three columns a figure: value, low and high; null where it was not measured."""
    held: dict[tuple[str, ...], Estimate] = {(e.metric, e.statistic, e.versus, e.subject): e for e in estimates}
    columns: dict[str, pa.Array] = {"feature": pa.array(list(features), pa.string())}
    for name, key in _COLUMNS.items():
        found = [held.get((*key, feature)) for feature in features]
        for part in ("value", "low", "high"):
            values = [getattr(estimate, part) if estimate else None for estimate in found]
            columns[name if part == "value" else f"{name}_{part}"] = pa.array(values, pa.float64())
    return pa.table(columns)


def moments_table(found: Sequence[Compared], starts: Mapping[int, str]) -> pa.Table:
    """One row a moment, table and feature that was made again."""
    rows = [
        {
            "moment": part.moment.name,
            "as_of": starts[part.moment.bucket],
            "table": part.table,
            "feature": feature,
            "values": part.rows,
            "changed": int(part.changed[at]),
            "largest": number(float(part.largest[at])),
        }
        for part in found
        for at, feature in enumerate(part.features)
    ]
    kinds = {
        "moment": pa.string(),
        "as_of": pa.string(),
        "table": pa.string(),
        "feature": pa.string(),
        "values": pa.int64(),
        "changed": pa.int64(),
        "largest": pa.float64(),
    }
    return pa.Table.from_pylist(rows, schema=pa.schema(kinds))
