"""Two arms user by user: against brute force, and what returning users do to limits that are read all the time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest, norm

from components.statistics.sequential import width
from components.statistics.sequential_users import Contrast, contrast


def _rows(
    rng: np.random.Generator, users: int, *, days: int = 3, effect: float = 1.0
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Users who return, each with an inclination to click of their own; sorted by day."""
    arm = rng.random(users) < 0.2
    taste = rng.beta(2, 18, size=users)
    busy = rng.pareto(2.5, size=users) + 0.3
    lists = rng.poisson(busy[:, None] * 4, size=(users, days))
    clicks = rng.binomial(lists, np.minimum(taste * np.where(arm, effect, 1.0), 1)[:, None])
    user, day = np.meshgrid(np.arange(users), np.arange(days), indexing="ij")
    kept = lists.ravel() > 0
    order = np.argsort(day.ravel()[kept], kind="stable")
    return tuple(x.ravel()[kept][order] for x in (user, day, np.broadcast_to(arm[:, None], user.shape), lists, clicks))


def test_sums_are_those_of_brute_force() -> None:
    user, day, arm, lists, clicks = _rows(np.random.default_rng(0), 60)
    # Some users move to the canary on the last day, as where a step took more of them.
    arm = arm | ((user % 7 == 0) & (day == 2))
    found = contrast(user, day, arm, lists, clicks)
    residual = {True: np.zeros(60), False: np.zeros(60)}
    totals = {True: 0.0, False: 0.0}
    for h in range(3):
        n = {a: lists[(day == h) & (arm == a)].sum() for a in (True, False)}
        y = {a: clicks[(day == h) & (arm == a)].sum() for a in (True, False)}
        for a in (True, False):
            weight = n[not a] / (n[True] + n[False])
            totals[a] += weight * y[a]
            for row in np.flatnonzero((day == h) & (arm == a)):
                residual[a][user[row]] += weight * (clicks[row] - y[a] / n[a] * lists[row])
    assert found.canary == pytest.approx(totals[True])
    assert found.stable == pytest.approx(totals[False])
    assert found.canary_square == pytest.approx((residual[True] ** 2).sum())
    assert found.product == pytest.approx((residual[True] * residual[False]).sum())
    assert found.stable_square == pytest.approx((residual[False] ** 2).sum())
    assert found.canary_users == np.unique(user[arm]).size


def test_the_variance_is_that_of_many_worlds() -> None:
    rng = np.random.default_rng(1)
    found = [contrast(*_rows(rng, 800)) for _ in range(600)]
    ratios = np.array([c.ratio for c in found])
    told = np.mean([c.variance(1.0) for c in found])
    assert ratios.var() == pytest.approx(told, rel=0.2)
    assert ratios.mean() == pytest.approx(1.0, abs=0.03)


def test_rows_for_units_would_promise_too_much() -> None:
    user, day, arm, lists, clicks = _rows(np.random.default_rng(2), 4000)
    by_user = contrast(user, day, arm, lists, clicks)
    by_row = contrast(np.arange(user.size), day, arm, lists, clicks)
    assert by_user.variance(1.0) > 1.5 * by_row.variance(1.0)


def test_a_limit_is_the_ratio_whose_own_variance_just_allows_it() -> None:
    found = contrast(*_rows(np.random.default_rng(3), 20_000, effect=0.7))
    low, high = found.limits(margin=0.05, alpha=0.01)
    assert low < found.ratio < high < 1
    for limit in (low, high):
        allowed = float(width(found.variance(limit), margin=0.05, alpha=0.01))
        assert abs(limit - found.ratio) == pytest.approx(allowed, rel=1e-9)


def test_alike_arms_of_users_who_return_are_called_different_no_more_often_than_promised() -> None:
    rng = np.random.default_rng(4)
    worlds, alpha = 400, 0.05
    worse = 0
    for _ in range(worlds):
        user, day, arm, lists, clicks = _rows(rng, 1500, days=6)
        # Looked at after every tenth of the rows, so within days too.
        for end in range(user.size // 10, user.size + 1, user.size // 10):
            c = contrast(user[:end], 0 * day[:end], arm[:end], lists[:end], clicks[:end])
            if 1.0 - c.ratio > float(width(c.variance(1.0), margin=0.05, alpha=alpha)):
                worse += 1
                break
    assert binomtest(worse, worlds, alpha, alternative="greater").pvalue > 0.001


def test_what_returning_users_add_makes_looks_more_alike_and_so_crossings_rarer() -> None:
    """Slepian's inequality, as the module leans on it: same variances, larger correlations, fewer crossings."""
    rng = np.random.default_rng(5)
    looks = np.arange(1, 41)
    paths = 20_000
    fresh = np.cumsum(rng.standard_normal((paths, 40)), axis=1)
    taste, own = rng.standard_normal((paths, 1)), np.cumsum(rng.standard_normal((paths, 40)), axis=1)
    returning = taste * looks + own
    bound = norm.ppf(0.95)
    crossed = [
        ((path / np.sqrt(spread)) > bound).any(axis=1).mean()
        for path, spread in ((fresh, looks), (returning, looks**2 + looks))
    ]
    assert crossed[1] < crossed[0]


def test_nothing_is_known_of_arms_without_users_or_outcomes() -> None:
    nobody = contrast([], [], [], [], [])
    assert math.isnan(nobody.ratio)
    assert nobody.limits(margin=0.05, alpha=0.05) == (0.0, math.inf)
    silent = contrast([0, 1, 2, 3], [0] * 4, [True, True, False, False], [5] * 4, [1, 0, 0, 0])
    assert math.isinf(silent.variance(1.0))


def test_strata_with_one_arm_are_left_out() -> None:
    alone = contrast([0, 1, 2, 3], [0, 0, 0, 1], [True, False, False, False], [5] * 4, [1, 1, 1, 5])
    assert isinstance(alone, Contrast)
    assert alone.stable_lists == 10


@pytest.mark.parametrize("change", ["shape", "negative", "nan"])
def test_rows_that_cannot_be_are_refused(change: str) -> None:
    user, lists = [0, 1], [1.0, 1.0]
    if change == "shape":
        lists = [1.0]
    elif change == "negative":
        user = [-1, 0]
    else:
        lists = [math.nan, 1.0]
    with pytest.raises(ValueError, match="rows"):
        contrast(user, [0, 0], [True, False], lists, [0, 0])
