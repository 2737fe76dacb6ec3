"""Calibration: whether the candidate's scores, as chances of a positive outcome, come true.

The map from score to chance is the ranker's own (isotonic or Platt's, `components.ranker.calibration`), fitted here again on the
validation requests, so that what is judged on the test requests is what a release would serve. Every shown row counts
once; intervals keep a user's rows together.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.artifacts import documents
from components.artifacts.digests import digest_tree
from components.evidence.calibration_words import describe, map_words
from components.evidence.contract import SCHEMA_VERSION, Estimate, Evidence
from components.evidence.estimates import figures, from_intervals, number
from components.evidence.ranked import Requests, Rows, open_rankings
from components.evidence.reliability import Recalibration, by_user_and_bin, equal_mass_bins, observed_range, recalibrate
from components.evidence.segments import UserGroup, user_groups
from components.ranker.calibration import Calibration, fit_calibration
from components.ranker.contract import CANDIDATE
from components.statistics import (
    Intervals,
    SummedGap,
    minimum_detectable_effect,
    paired_ratios,
    pooled_means,
    summed_gap,
)
from components.statistics.bounded import with_limits

Floats = NDArray[np.float64]

BINS = 10
LEVEL = 0.95
BINS_TABLE = "calibration-bins.parquet"
MAP_TABLE = "calibration-map.parquet"
GAP_FAMILY = "calibration_gap by group"

CONVENTIONS = {
    "unit": "Every ranked row of the test requests counts once; intervals resample users with all their rows.",
    "map": "From score to chance, over the validation requests alone: isotonic regression or Platt's logistic curve, whichever "
    "had the smaller log loss on held-out fifths of them; judged on the test requests.",
    "outcome": "A positive outcome: gain above zero.",
    "bins": f"At most {BINS} bins of equal numbers of rows; equal predictions share a bin.",
    "ece": "Sum over bins of |observed - predicted|, weighted by rows. Never negative, so chance alone makes it positive: "
    "detail.noise is what it would be on average for a perfect map and these users, detail.reduced the value less that "
    "part. The lower limit takes all gaps that are not shown for noise, the upper supposes that noise hides as much as it can.",
    "calibration_gap": "Observed minus predicted share of positives: above zero, outcomes were more frequent than told.",
    "slope": "Logistic regression of outcome on the logit of the prediction; slope 1 and intercept 0 are perfect.",
    "brier": "Mean squared difference of prediction and outcome; detail.skill is the share of the constant prediction's "
    "error that it saves.",
    "few positives": "Where fewer than 50 users of a group have a positive outcome (or a negative one), limits are no narrower "
    "than what such users leave possible (Clopper and Pearson).",
    "rows": "`logged`: every shown item. `sampled`: the ranks that the rankings keep, a selection by the score itself.",
}


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """The test rows with their predictions, and the sums of each user that all estimates come from."""

    predicted: Floats
    outcome: NDArray[np.bool_]
    user: NDArray[np.intp]
    """Dense index into `users`, one a row."""
    users: NDArray[np.int32]
    requests: NDArray[np.int64]
    """Test requests with rows, by user."""
    bins: NDArray[np.intp]

    def per_user(self, values: Floats) -> Floats:
        """Sum over each user's rows, shape (users, 1)."""
        sums = np.bincount(self.user, values, minlength=self.users.size)
        return sums.astype(np.float64, copy=False)[:, None]

    def per_bin(self, values: Floats) -> Floats:
        """Sum over each user's rows in each bin, shape (users, bins)."""
        count = int(self.bins.max(initial=0)) + 1
        return by_user_and_bin(values, self.user, self.bins, shape=(self.users.size, count))

    @property
    def gap(self) -> Floats:
        """Observed minus predicted, by row."""
        return self.outcome - self.predicted


def measure_calibration(dataset: Path, rankings: Path, *, out: Path, seed: int) -> Evidence:
    """Measure calibration and write calibration.json and its tables into `out`.

    Where it cannot be measured (no rows, or one class in validation) every estimate is there with value None, which a
    gate reads as missing, and a sentence says why.

    Args:
        dataset: Dataset directory.
        rankings: Rankings directory.
        out: Existing directory that lacks these files.
        seed: Seed of the bootstrap.

    Raises:
        InputError: If a manifest or table cannot be read or does not hold what its contract says.
    """
    ranked = open_rankings(dataset, rankings)
    fitting = ranked.rows(CANDIDATE, ranked.requests("validation"))
    requests = ranked.requests("test")
    rows = ranked.rows(CANDIDATE, requests)
    estimates: tuple[Estimate, ...]
    sentences: tuple[str, ...]
    tables: dict[str, str]
    if reason := _unmeasurable(fitting, rows):
        estimates, sentences = _missing(), (f"Calibration could not be measured: {reason}.",)
        tables = {}
    else:
        asked = ranked.requests("validation").request[fitting.place]
        chances = fit_calibration(fitting.score, fitting.positive, groups=asked)
        judged = _judge(chances, rows, requests)
        groups = user_groups(
            pq.read_table(dataset / "users.parquet"),
            judged.users,
            attributes=(*ranked.dataset.segments, *ranked.dataset.sensitive),
        )
        estimates = _estimates(judged, groups, floor=0.5 / chances.rows, seed=seed)
        shown = "shown" if ranked.manifest.mode == "logged" else "ranked"
        sentences = (*describe(estimates, shown=shown), map_words(chances.method))
        pq.write_table(_bins_table(judged, seed=seed), out / BINS_TABLE, compression="zstd")
        pq.write_table(_map_table(chances), out / MAP_TABLE, compression="zstd")
        tables = {"bins": BINS_TABLE, "map": MAP_TABLE}
    evidence = Evidence(
        schema_version=SCHEMA_VERSION,
        question="calibration",
        estimates=estimates,
        conventions=CONVENTIONS,
        inputs={"dataset": ranked.manifest.dataset, "rankings": digest_tree(rankings)},
        tables=tables,
        reports={},
        libraries={"numpy": np.__version__, "pyarrow": pa.__version__},
        seed=seed,
        sentences=sentences,
    )
    documents.save(evidence, out / "calibration.json")
    return evidence


def _unmeasurable(fitting: Rows, rows: Rows) -> str:
    """Why there is nothing to measure; empty where there is."""
    if not fitting.positive.size:
        return "the rankings hold no validation rows of the candidate to fit the map on"
    if fitting.positive.all() or not fitting.positive.any():
        kind = "a positive" if fitting.positive.all() else "no positive"
        return f"each of the {fitting.positive.size} validation rows has {kind} outcome, so scores cannot be mapped to chances"
    if not rows.positive.size:
        return "the rankings hold no test rows of the candidate"
    return ""


def _judge(chances: Calibration, rows: Rows, requests: Requests) -> Judged:
    users, user = np.unique(requests.user[rows.place], return_inverse=True)
    predicted = chances.probability(rows.score)
    asked = requests.user[np.unique(rows.place)]
    return Judged(
        predicted=predicted,
        outcome=rows.positive,
        user=user,
        users=users,
        requests=np.bincount(np.searchsorted(users, asked), minlength=users.size),
        bins=equal_mass_bins(predicted, bins=BINS),
    )


def _estimates(judged: Judged, groups: list[UserGroup], *, floor: float, seed: int) -> tuple[Estimate, ...]:
    everyone = UserGroup({}, np.ones(judged.users.size, dtype=bool))
    estimates = [
        _ece(judged, everyone, seed=seed),
        *_gaps(judged, [everyone], seed=seed, family=""),
        _brier(judged, seed=seed),
    ]
    line = recalibrate(judged.predicted, judged.outcome, judged.user, floor=floor, level=LEVEL)
    estimates += _line(line, judged)
    if groups:
        estimates += _gaps(judged, groups, seed=seed, family=GAP_FAMILY)
        estimates += [_ece(judged, group, seed=seed) for group in groups]
    return tuple(estimates)


def _ece(judged: Judged, group: UserGroup, *, seed: int) -> Estimate:
    sizes = judged.per_user(np.ones(judged.user.size))[:, 0]
    gaps = judged.per_bin(judged.gap)
    found = summed_gap(gaps[group.members], sizes[group.members], seed=seed, level=LEVEL)
    positives = judged.per_user(judged.outcome.astype(np.float64))[:, 0]
    low, high = observed_range(positives, sizes, group.members[None, :], tail=(1 - LEVEL) / 2)
    share = positives[group.members].sum() / sizes[group.members].sum()
    # How far the observed share may be from what few users show; 0 where resampling knows enough.
    unseen = max(float(np.nan_to_num(high[0] - share)), float(np.nan_to_num(share - low[0])), 0.0)
    rows = float(sizes[group.members].sum())
    detail = {"noise": found.noise, "reduced": found.reduced, "bins": float(gaps.shape[1]), "rows": rows}
    value = number(found.value)
    return Estimate(
        metric="ece",
        statistic="value",
        subject=CANDIDATE,
        versus="",
        segment=group.segment,
        value=value,
        low=number(max(min(found.low, found.value - unseen), 0.0)),
        high=number(min(max(found.high, found.value + unseen), 1.0)),
        level=LEVEL,
        n_users=found.n_users,
        n_requests=int(judged.requests[group.members].sum()),
        method="user bootstrap, least favourable gaps, 1000 resamples",
        mde=_detectable(found),
        detail=figures(detail),
    )


def _detectable(found: SummedGap) -> float | None:
    """Smallest error that would show above what noise alone makes."""
    if not found.standard_error > 0:
        return None
    return number(found.noise + minimum_detectable_effect(found.standard_error, level=LEVEL))


def _gaps(judged: Judged, groups: list[UserGroup], *, seed: int, family: str) -> list[Estimate]:
    """Observed minus predicted share of positives, and their ratio in `detail`."""
    members = np.stack([group.members for group in groups])
    sizes = judged.per_user(np.ones(judged.user.size))
    observed, predicted = judged.per_user(judged.outcome.astype(np.float64)), judged.per_user(judged.predicted)
    found = pooled_means(
        judged.per_user(judged.gap), sizes, groups=members, seed=seed, level=LEVEL, simultaneous=bool(family)
    )
    ratios = paired_ratios(observed, predicted, groups=members, seed=seed, level=LEVEL)
    told = members @ predicted / (members @ sizes)
    tail = (1 - LEVEL) / 2 / len(groups)
    low, high = observed_range(observed[:, 0], sizes[:, 0], members, tail=tail)
    # A share is within 0 and 1 whatever the resamples say; where users hardly differ, the exact range is what is known.
    found = with_limits(
        found,
        np.fmax(np.fmin(found.low, low[:, None] - told), -told),
        np.fmin(np.fmax(found.high, high[:, None] - told), 1 - told),
    )
    estimates = []
    for place, group in enumerate(groups):
        rows = float(sizes[group.members].sum())
        detail = {
            "observed": float(observed[group.members].sum() / rows),
            "predicted": float(predicted[group.members].sum() / rows),
            "ratio": float(ratios.estimate[place, 0]),
            "ratio_low": float(ratios.low[place, 0]),
            "ratio_high": float(ratios.high[place, 0]),
            "rows": rows,
        }
        estimates.append(
            from_intervals(
                found,
                (place, 0),
                metric="calibration_gap",
                statistic="difference",
                subject=CANDIDATE,
                versus="predicted",
                segment=group.segment,
                n_requests=int(judged.requests[group.members].sum()),
                family=family,
                detail=detail,
            )
        )
    return estimates


def _brier(judged: Judged, *, seed: int) -> Estimate:
    sizes = judged.per_user(np.ones(judged.user.size))
    found = pooled_means(judged.per_user(judged.gap**2), sizes, seed=seed, level=LEVEL)
    rate = float(judged.outcome.mean())
    constant = rate * (1 - rate)
    detail = {"constant": constant}
    if constant > 0:
        detail["skill"] = 1 - float(found.estimate[0, 0]) / constant
    return from_intervals(
        found,
        (0, 0),
        metric="brier",
        statistic="value",
        subject=CANDIDATE,
        n_requests=int(judged.requests.sum()),
        detail=detail,
    )


def _line(line: Recalibration | None, judged: Judged) -> list[Estimate]:
    fitted = {"calibration_slope": (np.nan, np.nan), "calibration_intercept": (np.nan, np.nan)}
    if line is not None:
        fitted = {
            "calibration_slope": (line.slope, line.slope_error),
            "calibration_intercept": (line.intercept, line.intercept_error),
        }
    critical = line.critical if line is not None else np.nan
    return [
        Estimate(
            metric=metric,
            statistic="value",
            subject=CANDIDATE,
            versus="",
            segment={},
            value=number(value),
            low=number(value - critical * error),
            high=number(value + critical * error),
            level=LEVEL,
            n_users=judged.users.size,
            n_requests=int(judged.requests.sum()),
            method="user-clustered sandwich, Student's t",
            mde=number(minimum_detectable_effect(error, critical=critical)),
        )
        for metric, (value, error) in fitted.items()
    ]


def _missing() -> tuple[Estimate, ...]:
    """What a policy may ask for, without a value."""
    return tuple(
        Estimate(
            metric=metric,
            statistic="difference" if metric == "calibration_gap" else "value",
            subject=CANDIDATE,
            versus="predicted" if metric == "calibration_gap" else "",
            segment={},
            value=None,
            low=None,
            high=None,
            level=LEVEL,
            n_users=0,
            n_requests=0,
            method="not measured",
            mde=None,
        )
        for metric in ("ece", "calibration_gap", "brier", "calibration_slope", "calibration_intercept")
    )


def _bins_table(judged: Judged, *, seed: int) -> pa.Table:
    """The reliability table, one row a bin; observed shares with intervals that stand alone (null where none)."""
    sizes = judged.per_bin(np.ones(judged.user.size))
    positives, told = judged.per_bin(judged.outcome.astype(np.float64)), judged.per_bin(judged.predicted)
    found: Intervals = pooled_means(positives, sizes, seed=seed, level=LEVEL)
    order = np.argsort(judged.bins, kind="stable")
    starts = np.searchsorted(judged.bins[order], np.arange(sizes.shape[1]))
    rows = sizes.sum(axis=0)
    columns = {
        "bin": pa.array(np.arange(rows.size), pa.int32()),
        "rows": pa.array(rows.astype(np.int64)),
        "users": pa.array(found.n_users[0]),
        "positives": pa.array(positives.sum(axis=0).astype(np.int64)),
        "lowest": pa.array(np.minimum.reduceat(judged.predicted[order], starts)),
        "highest": pa.array(np.maximum.reduceat(judged.predicted[order], starts)),
        "predicted": pa.array(told.sum(axis=0) / rows),
        "observed": pa.array(positives.sum(axis=0) / rows),
        "observed_low": pa.array([_share(value) for value in found.low[0]], pa.float64()),
        "observed_high": pa.array([_share(value) for value in found.high[0]], pa.float64()),
    }
    return pa.table(columns)


def _share(value: float) -> float | None:
    found = number(value)
    return None if found is None else min(max(found, 0.0), 1.0)


def _map_table(chances: Calibration) -> pa.Table:
    return pa.table(
        {
            "score": pa.array(chances.scores, pa.float64()),
            "probability": pa.array(chances.probabilities, pa.float64()),
        }
    )
