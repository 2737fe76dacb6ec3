from __future__ import annotations

import math
import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from components.statistics import (
    Intervals,
    group_differences,
    group_ratios,
    paired_ratios,
    pooled_means,
    summed_gap,
    user_bootstrap,
)
from components.statistics.sums import group_sums, poisson_weights, resampled_sums


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    rng = np.random.default_rng(0)
    table = np.where(rng.random((700, 3)) < 0.4, rng.beta(1, 2, (700, 3)), 0.0)
    table[rng.random(700) < 0.1] = np.nan
    table[::9, 2] = np.nan
    return table


@pytest.fixture(scope="module")
def groups() -> np.ndarray:
    rng = np.random.default_rng(1)
    group = rng.integers(0, 4, 700)
    return group == np.arange(4)[:, None]


def same(one: Intervals, other: Intervals, rows: slice | list[int] = slice(None)) -> bool:
    return all(
        np.array_equal(getattr(one, name)[rows], getattr(other, name), equal_nan=True)
        for name in ("estimate", "low", "high", "standard_error", "n_users")
    )


def plain_bootstrap_t(sample: np.ndarray, *, resamples: int, level: float) -> tuple[float, float]:
    """Textbook bootstrap-t (Efron and Tibshirani 1993, 12.5), one resample at a time."""
    rng = np.random.default_rng(99)
    pivots = []
    for _ in range(resamples):
        drawn = rng.choice(sample, sample.size)
        pivots.append((drawn.mean() - sample.mean()) / (drawn.std(ddof=1) / math.sqrt(sample.size)))
    error = sample.std(ddof=1) / math.sqrt(sample.size)
    above, below = np.quantile(pivots, [(1 - level) / 2, (1 + level) / 2])
    return sample.mean() - below * error, sample.mean() - above * error


def test_estimates_errors_and_counts_are_those_of_the_users_present(values: np.ndarray, groups: np.ndarray) -> None:
    found = user_bootstrap(values, groups=groups, seed=5)
    for g, members in enumerate(groups):
        for c in range(values.shape[1]):
            sample = values[members, c][~np.isnan(values[members, c])]
            assert found.estimate[g, c] == pytest.approx(sample.mean(), abs=1e-9)
            assert found.standard_error[g, c] == pytest.approx(sample.std(ddof=1) / math.sqrt(sample.size), rel=1e-6)
            assert found.n_users[g, c] == sample.size


def test_limits_agree_with_a_textbook_bootstrap_t(values: np.ndarray) -> None:
    found = user_bootstrap(values, seed=5, resamples=4000, bounds=(0, 1))
    for c in range(values.shape[1]):
        low, high = plain_bootstrap_t(values[:, c][~np.isnan(values[:, c])], resamples=4000, level=0.95)
        width = high - low
        assert abs(found.low[0, c] - low) < 0.05 * width
        assert abs(found.high[0, c] - high) < 0.05 * width


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(values: np.ndarray, groups: np.ndarray) -> None:
    first, second = (user_bootstrap(values, groups=groups, seed=5, simultaneous=True) for _ in range(2))
    other = user_bootstrap(values, groups=groups, seed=6, simultaneous=True)
    assert same(first, second)
    assert not np.array_equal(first.low, other.low)


def test_a_result_does_not_depend_on_the_order_or_presence_of_other_groups(
    values: np.ndarray, groups: np.ndarray
) -> None:
    found = user_bootstrap(values, groups=groups, seed=5)
    assert same(found, user_bootstrap(values, groups=groups[[2, 0]], seed=5), [2, 0])
    differences = group_differences(values, groups=groups, seed=5)
    assert same(differences, group_differences(values, groups=groups[[3]], seed=5), [3])


def test_a_result_does_not_depend_on_other_columns(values: np.ndarray) -> None:
    together = user_bootstrap(values, seed=5)
    alone = user_bootstrap(values[:, [1]], seed=5)
    assert together.low[0, 1] == alone.low[0, 0]
    assert together.high[0, 1] == alone.high[0, 0]


def test_sums_are_equal_to_the_bit_whatever_the_order_of_adding() -> None:
    rng = np.random.default_rng(3)
    terms = np.column_stack([rng.lognormal(0, 2, 3000), rng.normal(0, 1e-6, 3000), np.ones(3000)])
    drawn = resampled_sums(terms, [np.arange(3000)], resamples=50, seed=4)[0]
    blocks = [poisson_weights(4, b, users=min(1024, 3000 - 1024 * b), resamples=50) for b in range(3)]
    weights = np.vstack(blocks)
    for c in range(3):
        for r in (0, 49):
            exact = sum((Fraction(t) * int(w) for t, w in zip(terms[:, c], weights[:, r], strict=True)), Fraction())
            assert drawn[c, r] == pytest.approx(float(exact), rel=1e-8)
    # Split into two groups and added up: not one bit of difference, which rounding at every addition could not give.
    halves = resampled_sums(terms, [np.arange(0, 3000, 2), np.arange(1, 3000, 2)], resamples=50, seed=4)
    assert np.array_equal(halves.sum(axis=0), drawn)
    assert np.array_equal(group_sums(terms, [np.arange(3000)[::-1]]), group_sums(terms, [np.arange(3000)]))


def test_weights_are_poisson_with_mean_and_variance_one() -> None:
    weights = poisson_weights(1, 0, users=1000, resamples=1000)
    assert weights.mean() == pytest.approx(1, abs=0.005)
    assert weights.var() == pytest.approx(1, abs=0.01)
    shares = [np.mean(weights == count) for count in range(4)]
    assert shares == pytest.approx([math.exp(-1) / math.factorial(count) for count in range(4)], abs=0.003)


def test_users_far_apart_in_the_table_are_drawn_independently() -> None:
    # Weights are made in blocks of 1 024 users: blocks alike would make every interval of many users too wide.
    first, second = (poisson_weights(1, block, users=1000, resamples=1000) for block in (0, 1))
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.005
    values = np.random.default_rng(8).normal(0.5, 0.1, (5000, 3))
    found = user_bootstrap(values, seed=5, resamples=4000)
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.1 / math.sqrt(5000) * np.ones((1, 3)), rel=0.06)


def test_a_difference_of_values_in_a_range_is_within_its_width() -> None:
    values = np.array([[0.9], [0.1], *[[0.5 + 0.001 * user] for user in range(40)]])
    groups = (np.arange(42) < 2)[None, :]
    found = group_differences(values, groups=groups, seed=1, bounds=(0, 1))
    assert (found.low[0, 0], found.high[0, 0]) == (-1, 1)


def test_a_difference_with_the_rest_is_that_of_means_and_accepts_an_explicit_rest(
    values: np.ndarray, groups: np.ndarray
) -> None:
    implicit = group_differences(values, groups=groups, seed=5)
    explicit = group_differences(values, groups=groups, rest=~groups, seed=5)
    expected = np.nanmean(values[groups[1]], axis=0) - np.nanmean(values[~groups[1]], axis=0)
    assert implicit.estimate[1] == pytest.approx(expected, abs=1e-9)
    assert np.allclose(implicit.low, explicit.low, atol=1e-9)
    assert np.allclose(implicit.high, explicit.high, atol=1e-9)


def test_a_ratio_and_its_inverse_say_the_same(values: np.ndarray) -> None:
    one, other = values[:, [0]], values[:, [1]]
    there, back = paired_ratios(one, other, seed=5), paired_ratios(other, one, seed=5)
    assert there.estimate[0, 0] == pytest.approx(np.nanmean(one) / np.nanmean(other), rel=1e-8)
    assert there.estimate[0, 0] == pytest.approx(1 / back.estimate[0, 0])
    assert there.low[0, 0] == pytest.approx(1 / back.high[0, 0], rel=1e-6)
    assert there.high[0, 0] == pytest.approx(1 / back.low[0, 0], rel=1e-6)


def test_a_mean_over_rows_weighs_users_by_their_rows() -> None:
    found = pooled_means(np.array([[1.0], [9.0], [0.0]]), np.array([[2.0], [18.0], [0.0]]), seed=1)
    assert found.estimate[0, 0] == pytest.approx(0.5)
    assert found.n_users[0, 0] == 2
    # Both users have the same rate: nothing to make an interval of.
    assert np.isnan(found.low[0, 0])
    assert np.isnan(found.high[0, 0])


def test_an_empty_group_has_no_estimate_and_one_user_no_interval(values: np.ndarray) -> None:
    groups = np.zeros((2, values.shape[0]), dtype=bool)
    groups[1, np.flatnonzero(~np.isnan(values[:, 2]))[0]] = True
    found = user_bootstrap(values, groups=groups, seed=5)
    assert np.isnan(found.estimate[0]).all()
    assert found.n_users.tolist() == [[0, 0, 0], [1, 1, 1]]
    assert np.isfinite(found.estimate[1]).all()
    assert np.isnan(found.low).all()
    assert np.isnan(found.high).all()
    bounded = user_bootstrap(values, groups=groups, seed=5, bounds=(0, 1))
    assert np.isnan(bounded.low[0]).all()
    assert (bounded.high[1] - bounded.low[1] > 0.9).all()


def test_users_all_alike_are_no_proof_that_all_users_are() -> None:
    zeros = np.zeros((40, 1))
    unbounded = user_bootstrap(zeros, seed=1)
    assert np.isnan(unbounded.low[0, 0])
    bounded = user_bootstrap(zeros, seed=1, bounds=(0, 1))
    # Rule of three, two-sided: 1 - 0.025 ** (1 / 40).
    assert bounded.low[0, 0] == 0
    assert bounded.high[0, 0] == pytest.approx(1 - 0.025 ** (1 / 40))
    paired = user_bootstrap(np.zeros((5000, 1)), seed=1, bounds=(-1, 1))
    assert -0.001 < paired.low[0, 0] < 0 < paired.high[0, 0] < 0.001


def test_a_group_of_users_all_at_zero_is_not_surely_below_the_rest() -> None:
    rng = np.random.default_rng(2)
    values = np.where(rng.random((1000, 1)) < 0.1, 0.5, 0.0)
    values[:15] = 0
    groups = (np.arange(1000) < 15)[None, :]
    found = group_differences(values, groups=groups, seed=1, bounds=(0, 1))
    assert found.estimate[0, 0] < 0
    assert found.low[0, 0] < 0 < found.high[0, 0]
    assert np.isnan(group_differences(values, groups=groups, seed=1).high[0, 0])


def test_one_family_of_one_estimate_is_no_wider_than_the_estimate_alone(values: np.ndarray) -> None:
    alone = user_bootstrap(values[:, [0]], seed=5)
    family = user_bootstrap(values[:, [0]], seed=5, simultaneous=True)
    assert same(alone, family)
    assert "max-t over 1" in family.method


def test_families_are_widened_separately(values: np.ndarray, groups: np.ndarray) -> None:
    by_column = np.tile(np.arange(3), (4, 1))
    separate = user_bootstrap(values, groups=groups, seed=5, simultaneous=True, families=by_column)
    one = user_bootstrap(values[:, [1]], groups=groups, seed=5, simultaneous=True)
    everything = user_bootstrap(values, groups=groups, seed=5, simultaneous=True)
    assert np.array_equal(separate.low[:, 1], one.low[:, 0])
    assert (everything.high - everything.low >= separate.high - separate.low - 1e-12).all()


def test_p_values_fall_below_the_level_exactly_where_the_null_is_outside(values: np.ndarray) -> None:
    found = user_bootstrap(values - 0.12, seed=5)
    nulls = np.linspace(-0.1, 0.1, 41)
    for null in nulls:
        outside = (found.low > null) | (found.high < null)
        assert np.array_equal(found.p_values(null) < 0.05, outside)


def test_the_smallest_detectable_effect_is_that_of_the_very_interval(values: np.ndarray, groups: np.ndarray) -> None:
    alone = user_bootstrap(values, groups=groups, seed=5)
    family = user_bootstrap(values, groups=groups, seed=5, simultaneous=True)
    normal = (1.959964 + 0.841621) * alone.standard_error
    # Mostly zeros, 150 users a group: the upper limit reaches a little further than the normal one, never less far.
    assert (alone.minimum_detectable_effect() >= 0.99 * normal).all()
    assert (alone.minimum_detectable_effect() <= 1.35 * normal).all()
    assert (family.minimum_detectable_effect() > alone.minimum_detectable_effect()).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": np.zeros(3)}, "needed \\(users, columns\\)"),
        ({"values": np.array([[np.inf]])}, "infinite"),
        ({"level": 1.0}, "between 0 and 1"),
        ({"resamples": 20}, "at least 40"),
        ({"groups": np.ones((2, 3), dtype=bool)}, "shape \\(groups, 4\\)"),
        ({"groups": np.ones((2, 4))}, "needed bool"),
        ({"bounds": (0.0, 0.5)}, "all within 0.0 to 0.5"),
        ({"simultaneous": True, "families": np.zeros((2, 2), dtype=np.int64)}, "families"),
    ],
)
def test_unusable_arguments_are_refused_with_what_was_needed(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"values": np.array([[0.0], [1.0], [0.5], [0.2]]), "seed": 1} | change
    with pytest.raises(ValueError, match=message):
        user_bootstrap(arguments.pop("values"), **arguments)  # type: ignore[arg-type]


def test_ratios_of_negative_values_are_refused() -> None:
    with pytest.raises(ValueError, match="needed all within"):
        group_ratios(np.array([[-1.0], [1.0]]), groups=np.array([[True, False]]), seed=1)


def test_a_ratio_without_denominator_is_missing_and_of_zero_has_no_interval() -> None:
    values = np.array([[0.0, 1.0], [0.0, 2.0], [1.0, 0.0], [3.0, 0.0]])
    found = group_ratios(values, groups=np.array([[True, True, False, False]]), seed=1)
    assert found.estimate[0, 0] == 0
    assert np.isnan(found.estimate[0, 1])
    assert np.isnan(found.low).all()


def test_no_rows_make_no_summed_gap() -> None:
    found = summed_gap(np.zeros((3, 2)), np.zeros(3), seed=1)
    assert math.isnan(found.value)
    assert found.n_users == 0


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(
        np.float64, st.tuples(st.integers(1, 30), st.integers(1, 3)), elements=st.sampled_from([0.0, 0.5, 1.0, np.nan])
    ),
    st.booleans(),
)
def test_limits_always_enclose_the_estimate_within_the_bounds(table: np.ndarray, simultaneous: bool) -> None:
    found = user_bootstrap(table, seed=1, resamples=100, simultaneous=simultaneous, bounds=(0, 1))
    measured = found.n_users > 0
    assert np.array_equal(np.isnan(found.estimate), ~measured)
    assert np.array_equal(np.isnan(found.low), ~measured)
    assert (found.low[measured] >= 0).all()
    assert (found.low[measured] <= found.estimate[measured] + 1e-9).all()
    assert (found.high[measured] >= found.estimate[measured] - 1e-9).all()
    assert (found.high[measured] <= 1).all()


def test_another_processors_kernels_and_more_threads_give_the_same_bytes() -> None:
    program = (
        "import numpy as np, hashlib; from components.statistics import group_differences;"
        "rng = np.random.default_rng(0); v = rng.random((3000, 4)); g = rng.integers(0, 6, 3000) == np.arange(6)[:, None];"
        "f = group_differences(v, groups=g, seed=1, simultaneous=True);"
        "print(hashlib.sha256(f.low.tobytes() + f.high.tobytes()).hexdigest())"
    )
    machines = [("1", "Nehalem"), ("2", "Haswell")]
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "OPENBLAS_NUM_THREADS": threads, "OPENBLAS_CORETYPE": core},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads, core in machines
    }
    assert len(digests) == 1
