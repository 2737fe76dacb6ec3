"""The distance: against scipy's and Evidently's, its intervals by simulation, from fifty rows to millions."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import norm

with warnings.catch_warnings():
    # As in components.evidence.drift.
    warnings.simplefilter("ignore")
    from evidently.legacy.calculations.stattests import jensenshannon_stat_test
    from evidently.legacy.core import ColumnType

from components.evidence.distance import (
    Distance,
    bin_columns,
    count,
    distances,
    jensen_shannon,
    owners_of,
    settled_distance,
)
from components.evidence.drift import PRACTICAL_BOUND, default_flag

LEVEL = 0.95


def plain_distance(reference: np.ndarray, current: np.ndarray, *, categorical: bool) -> float:
    """The distance alone; NaN where a sample has no value."""
    reference, current = reference[np.isfinite(reference)], current[np.isfinite(current)]
    if not len(reference) or not len(current):
        return float("nan")
    here, there, bins = bin_columns(reference, current, categorical=categorical)
    counts = [np.bincount(codes, minlength=bins).astype(np.float64) for codes in (here, there)]
    return float(np.sqrt(jensen_shannon(*counts)))


def _alone(
    reference: np.ndarray, current: np.ndarray, owners: np.ndarray, owners_now: np.ndarray, *, resamples: int, seed: int
) -> Distance:
    counted = count(reference, current, owners_of(owners, owners_now), categorical=False)
    return distances([counted], [""], resamples=resamples, seed=seed, level=LEVEL)[0][0]


def test_divergence_is_scipys() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        # Bins that only one of the two has, too.
        p = np.append(rng.integers(0, 9, 12), [0, 3]).astype(float)
        q = np.append(rng.integers(0, 9, 12), [4, 0]).astype(float)
        assert np.sqrt(jensen_shannon(p, q)) == pytest.approx(jensenshannon(p, q), abs=1e-12)


@dataclass(frozen=True)
class _Case:
    """Users and rows a user of each window; rows of one user are alike (ICC 0.3), as rows of a log are."""

    reference: tuple[int, int]
    current: tuple[int, int]
    rounds: int


def _alarms(case: _Case, *, shift: float) -> tuple[float, float, float]:
    """How often a gate, a fixed bound on the plain distance, and Evidently's defaults call a column moved."""
    counted = np.zeros(3)
    for round_ in range(case.rounds):
        rng = np.random.default_rng([*case.reference, *case.current, round_])
        samples = []
        for (users, each), by in ((case.reference, 0.0), (case.current, shift)):
            own = np.repeat(rng.standard_normal(users) * np.sqrt(0.3), each)
            samples.append(own + np.sqrt(0.7) * rng.standard_normal(users * each) + by)
        owners = [
            np.repeat(np.arange(users) + first, each)
            for (users, each), first in ((case.reference, 0), (case.current, case.reference[0]))
        ]
        found = _alone(*samples, *owners, resamples=200, seed=round_)
        assert found.low <= found.value <= found.high
        flagged = default_flag(pd.Series(samples[0]), pd.Series(samples[1]), categorical=False)
        counted += [found.low > PRACTICAL_BOUND, found.value > PRACTICAL_BOUND, flagged]
    gate, fixed, default = (counted / case.rounds).tolist()
    return gate, fixed, default


_SMALL = _Case((20, 10), (20, 10), 80)
_LOPSIDED = _Case((500, 10), (5, 10), 40)
_LARGE = _Case((2000, 10), (2000, 10), 8)


@pytest.mark.parametrize(("case", "fixed_least", "default_least"), [(_SMALL, 0.5, 0.1), (_LOPSIDED, 0.9, 0.8)])
def test_equal_distributions_are_no_alarm_where_fixed_bounds_and_evidentlys_defaults_cry_wolf(
    case: _Case, fixed_least: float, default_least: float
) -> None:
    gate, fixed, default = _alarms(case, shift=0.0)
    # Stated: 2.5 % (one side of a 95 % interval); none was seen in 300 rounds of each.
    assert gate <= 0.025
    assert fixed >= fixed_least
    assert default >= default_least


def test_equal_distributions_of_twenty_thousand_rows_are_no_alarm_for_anyone() -> None:
    assert _alarms(_LARGE, shift=0.0) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(("case", "shift"), [(_SMALL, 2.0), (_LOPSIDED, 3.0), (_LARGE, 0.5)])
def test_a_planted_shift_is_an_alarm_at_every_size(case: _Case, shift: float) -> None:
    gate, _, _ = _alarms(case, shift=shift)
    assert gate >= 0.95


def _hard_samples() -> st.SearchStrategy[tuple[list[float], list[float]]]:
    number = st.one_of(
        st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: float(np.float32(value))),
        st.integers(-3, 25).map(float),
        st.just(float("nan")),
    )
    return st.tuples(st.lists(number, min_size=1, max_size=60), st.lists(number, min_size=1, max_size=60))


@settings(max_examples=150, deadline=None)
@given(samples=_hard_samples(), categorical=st.booleans())
def test_our_distance_is_evidentlys_on_whatever_there_is(
    samples: tuple[list[float], list[float]], categorical: bool
) -> None:
    reference, current = (np.array(part) for part in samples)
    found = plain_distance(reference, current, categorical=categorical)
    before, now = (pd.Series(part[np.isfinite(part)]) for part in (reference, current))
    if before.empty or now.empty:
        assert np.isnan(found)
        return
    kind = ColumnType.Categorical if categorical else ColumnType.Numerical
    theirs = jensenshannon_stat_test(before, now, kind, None).drift_score
    # Rounding may leave a divergence of -1e-17, whose root is theirs and not a number.
    assert found == pytest.approx(0.0 if np.isnan(theirs) else theirs, abs=1e-6)


def test_settled_distance_takes_off_what_resampling_says_is_noise() -> None:
    rng = np.random.default_rng(4)
    users, each = 60, 10
    own = np.repeat(rng.standard_normal(users), each)
    reference, current = (own + rng.standard_normal(users * each) for _ in range(2))
    owners = np.repeat(np.arange(users), each)
    found = _alone(reference, current, owners, owners, resamples=2000, seed=0)
    settled = settled_distance(reference, current, owners, owners, categorical=False)
    taken_off = found.value**2 - settled**2
    assert taken_off == pytest.approx(found.noise**2, rel=0.15)
    # Users who are in both windows are paired: were they strangers, there would be more noise.
    strangers = settled_distance(reference, current, owners, owners + users, categorical=False)
    assert strangers < settled


def test_settled_distance_is_small_for_equal_distributions_and_keeps_true_ones() -> None:
    rng = np.random.default_rng(8)
    owners = np.repeat(np.arange(40), 10)
    equal, moved = [], []
    for _ in range(40):
        reference, current = rng.standard_normal(400), rng.standard_normal(400)
        equal.append(settled_distance(reference, current, owners, owners, categorical=False))
        moved.append(settled_distance(reference, current + 1.0, owners, owners, categorical=False))
    assert np.mean(equal) < 0.05
    many = rng.standard_normal(400_000)
    truth = plain_distance(many[:200_000], many[200_000:] + 1.0, categorical=False)
    assert np.mean(moved) == pytest.approx(truth, abs=0.02)
    assert np.isnan(settled_distance(np.array([np.nan]), np.ones(1), owners[:1], owners[:1], categorical=False))


def test_few_values_are_told_apart_one_by_one() -> None:
    assert plain_distance(np.array([0.0, 1.0]), np.array([0.0, 1.0]), categorical=False) == 0.0
    assert plain_distance(np.array([0.0]), np.array([1.0]), categorical=True) == pytest.approx(np.sqrt(np.log(2)))
    assert np.isnan(plain_distance(np.array([np.nan]), np.array([1.0]), categorical=False))


@pytest.mark.parametrize(("users", "by"), [(5, 1.0), (20, 0.5), (20, 1.0), (100, 0.5), (100, 1.0)])
def test_limits_hold_the_true_distance_from_five_users_on(users: int, by: float) -> None:
    each, rounds = 10, 60
    owners = np.repeat(np.arange(users), each)
    missed = np.zeros(2)
    for round_ in range(rounds):
        rng = np.random.default_rng([users, round_])
        reference, current = (
            np.repeat(rng.standard_normal(users) * np.sqrt(0.3), each)
            + np.sqrt(0.7) * rng.standard_normal(users * each)
            for _ in range(2)
        )
        current += by
        found = _alone(reference, current, owners, owners + users, resamples=200, seed=round_)
        edges = np.histogram_bin_edges(np.concatenate([reference, current]), bins="sturges")
        edges[[0, -1]] = -np.inf, np.inf
        true = float(np.sqrt(jensen_shannon(np.diff(norm.cdf(edges)), np.diff(norm.cdf(edges - by)))))
        missed += [found.low > true, found.high < true]
    # Stated: 2.5 % on each side; 5 of 60 is its 99 % quantile.
    assert (missed <= 5).all()


def test_limits_of_a_family_hold_together() -> None:
    users, each, columns, rounds = 60, 5, 12, 50
    owners = owners_of(np.repeat(np.arange(users), each), np.repeat(np.arange(users) + users, each))
    edges = np.array([-np.inf, -1.0, 0.0, 1.0, np.inf])
    true = float(np.sqrt(jensen_shannon(np.diff(norm.cdf(edges)), np.diff(norm.cdf(edges - 1.0)))))
    missed = np.zeros(2)
    for round_ in range(rounds):
        rng = np.random.default_rng(round_)
        counted = []
        for _ in range(columns):
            reference, current = rng.standard_normal((2, users * each))
            codes = [np.digitize(part, edges[1:-1]).astype(np.float64) for part in (reference, current + 1.0)]
            counted.append(count(*codes, owners, categorical=True))
        for place, family in enumerate(("", "all")):
            found, _ = distances(counted, [family] * columns, resamples=300, seed=round_, level=LEVEL)
            missed[place] += any(not held.low <= true <= held.high for held in found)
    alone, together = missed / rounds
    # Twelve intervals of 95 % that stand alone hold together in 54 % of rounds.
    assert alone > 0.3
    assert together <= 0.14


def test_users_beyond_some_thousands_are_resampled_in_clusters_and_counted_as_users() -> None:
    rng = np.random.default_rng(3)
    owners = owners_of(np.repeat(np.arange(20_000), 2), np.repeat(np.arange(20_000) + 10_000, 2))
    reference, current = rng.standard_normal((2, 40_000))
    counted = count(reference, current, owners, categorical=False)
    assert (len(counted.counts), counted.n_users, counted.fewest) == (4096, 30_000, 20_000)
    assert counted.counts.sum() == 80_000


def test_millions_of_rows_take_a_second_a_column_and_no_more_memory_than_their_bins() -> None:
    rows = 2_000_000
    rng = np.random.default_rng(0)
    users = rng.integers(0, 300_000, rows)
    owners = owners_of(users, users)
    reference, current = rng.standard_normal((2, rows))
    begin = time.perf_counter()
    counted = count(reference, current, owners, categorical=False)
    found = distances([counted], [""], resamples=500, seed=0, level=LEVEL)[0][0]
    # 0.35 s alone on one core; a shared machine gets ten times that.
    assert time.perf_counter() - begin < 4
    assert counted.counts.nbytes < 4 << 20
    assert found.high < 0.01


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.floats(-1e9, 1e9, allow_nan=False), min_size=30, max_size=90))
def test_equal_bins_are_numpys(values: list[float]) -> None:
    both = np.array(values)
    reference, current = both[:25], both[25:]
    if len(np.unique(reference)) <= 20:
        return
    here, there, bins = bin_columns(reference, current, categorical=False)
    edges = np.histogram_bin_edges(both, bins="sturges")
    assert bins == len(edges) - 1
    for codes, part in ((here, reference), (there, current)):
        assert np.bincount(codes, minlength=bins).tolist() == np.histogram(part, bins=edges)[0].tolist()
