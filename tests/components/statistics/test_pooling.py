from __future__ import annotations

import numpy as np
import pytest

from components.statistics import pool_small, shrink


def test_shrunk_estimates_are_nearer_the_truth_than_the_groups_own() -> None:
    rng = np.random.default_rng(0)
    own, ours, inside = [], [], []
    for _ in range(300):
        truth = rng.normal(0.3, 0.03, 12)
        errors = 0.18 / np.sqrt(rng.integers(5, 400, 12))
        found = truth + errors * rng.standard_normal(12)
        shrunk = shrink(found, errors)
        own.append(np.mean((found - truth) ** 2))
        ours.append(np.mean((shrunk.estimate - truth) ** 2))
        inside.append(np.mean(np.abs(shrunk.estimate - truth) < 1.96 * shrunk.standard_error))
    assert np.mean(ours) < 0.6 * np.mean(own)
    assert 0.85 < np.mean(inside) < 0.98


def test_groups_that_chance_explains_share_the_common_mean() -> None:
    found = shrink(np.array([0.31, 0.30, 0.29]), np.array([0.1, 0.1, 0.2]))
    assert found.spread == 0
    assert found.estimate == pytest.approx(np.full(3, found.common))
    weights = np.array([100, 100, 25])
    assert found.common == pytest.approx((weights * [0.31, 0.30, 0.29]).sum() / weights.sum())
    assert found.standard_error == pytest.approx(np.full(3, 1 / np.sqrt(weights.sum())))


def test_groups_far_apart_and_well_known_stay_where_they_are() -> None:
    found = shrink(np.array([0.1, 0.5, 0.9]), np.full(3, 1e-4))
    assert found.estimate == pytest.approx([0.1, 0.5, 0.9], abs=1e-6)
    assert found.standard_error == pytest.approx(np.full(3, 1e-4), rel=1e-3)
    assert found.spread == pytest.approx(0.4, rel=1e-3)


def test_the_spread_between_groups_is_found_without_bias() -> None:
    rng = np.random.default_rng(1)
    spreads = []
    for _ in range(400):
        errors = rng.uniform(0.01, 0.05, 20)
        spreads.append(shrink(rng.normal(0.3, 0.05, 20) + errors * rng.standard_normal(20), errors).spread ** 2)
    assert np.sqrt(np.mean(spreads)) == pytest.approx(0.05, rel=0.08)


def test_unknown_weights_and_missing_groups_do_not_count() -> None:
    plain = shrink(np.array([0.1, 0.3, 0.5]), np.array([0.05, 0.05, 0.05]))
    found = shrink(np.array([0.1, np.nan, 0.3, 0.9, 0.5, 0.0]), np.array([0.05, np.nan, 0.05, np.nan, 0.05, 0.0]))
    assert found.common == plain.common
    assert found.estimate[[0, 2, 4]] == pytest.approx(plain.estimate)
    assert np.isnan(found.estimate[1])
    assert found.estimate[[3, 5]].tolist() == [plain.common] * 2
    assert np.isnan(shrink(np.array([0.5]), np.array([np.nan])).common)
    one = shrink(np.array([0.5]), np.array([0.1]))
    assert (one.estimate[0], one.standard_error[0]) == (0.5, pytest.approx(0.1))


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="needed \\(groups,\\)"):
        shrink(np.zeros(2), np.zeros(3))


def test_small_groups_are_pooled_at_exactly_below_the_bound() -> None:
    groups = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 0], [0, 0, 1, 0, 0, 1], [0, 0, 0, 0, 0, 0]], dtype=bool)
    small, together = pool_small(groups, smallest=3)
    assert small.tolist() == [False, True, True, True]
    assert together.tolist() == [False, False, True, True, True, True]
    assert not pool_small(groups, smallest=1)[1].any()


@pytest.mark.parametrize(
    ("groups", "smallest"), [(np.ones((2, 2)), 1), (np.ones(2, dtype=bool), 1), (np.ones((2, 2), bool), 0)]
)
def test_tables_that_are_no_groups_are_refused(groups: np.ndarray, smallest: int) -> None:
    with pytest.raises(ValueError, match="needed"):
        pool_small(groups, smallest=smallest)
