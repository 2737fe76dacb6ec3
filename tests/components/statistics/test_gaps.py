"""The interval of a sum of absolute gaps covers what it says, from nothing wrong to everything wrong."""

from __future__ import annotations

import numpy as np
import pytest

from components.statistics import SummedGap, summed_gap

PARTS = 10


def _found(truth: np.ndarray, *, users: int, seed: int, resamples: int = 400) -> SummedGap:
    """Users with four rows each, alike within a user, in parts of equal size whose true gaps are `truth`."""
    rng = np.random.default_rng([users, seed])
    part = rng.integers(0, PARTS, (users, 4))
    own = 0.2 * rng.standard_normal((users, 1))
    noise = own + 0.3 * rng.standard_normal((users, 4))
    gaps = np.zeros((users, PARTS))
    np.add.at(gaps, (np.arange(users)[:, None], part), truth[part] + noise)
    return summed_gap(gaps, np.full(users, 4.0), resamples=resamples, seed=seed)


def _missed(truth: np.ndarray, *, users: int, rounds: int) -> tuple[float, float]:
    true = float(np.abs(truth).mean())
    found = [_found(truth, users=users, seed=seed) for seed in range(rounds)]
    return sum(held.low > true for held in found) / rounds, sum(held.high < true for held in found) / rounds


@pytest.mark.parametrize("users", [100, 600])
def test_gaps_that_are_there_are_covered_as_often_as_is_said(users: int) -> None:
    deviation = 0.36 * np.sqrt(PARTS / (4 * users))
    below, above = _missed(np.tile([1.0, -1.0], PARTS // 2) * 6 * deviation, users=users, rounds=250)
    # 95 % stated: 93 to 97, give or take two standard errors of 250 rounds.
    assert 0.93 - 0.028 <= 1 - below - above <= 0.97 + 0.022


@pytest.mark.parametrize("height", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("parts", [1, 5, PARTS])
def test_gaps_that_noise_may_hide_are_covered_at_least_as_often(height: float, parts: int) -> None:
    truth = np.where(np.arange(PARTS) < parts, height * 0.36 * np.sqrt(PARTS / 1200), 0.0)
    below, above = _missed(truth, users=300, rounds=120)
    # 2.5 % a side; 0.067 is its 99 % quantile over 120 rounds.
    assert below <= 0.067
    assert above <= 0.067


def test_the_interval_is_a_third_narrower_than_the_sum_of_all_errors_would_be() -> None:
    truth = np.full(PARTS, 0.2)
    found = _found(truth, users=600, seed=0)
    # The triangle inequality's interval is twice the 95 % quantile of the sum of |errors|: 1.4 times its mean, here.
    assert found.high - found.low < 2 * 1.4 * found.noise * 2 / 3


def test_five_users_show_next_to_nothing() -> None:
    found = _found(np.zeros(PARTS), users=5, seed=1)
    assert found.low == 0.0
    assert found.high > 0.25


def test_a_sum_without_any_error_is_its_own_interval() -> None:
    found = summed_gap(np.zeros((20, 3)), np.ones(20), seed=0)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)
