from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from components.statistics import (
    benjamini_hochberg,
    decide,
    holm,
    minimum_detectable_effect,
    more_users_needed,
)
from components.statistics.shares import share_limit
from components.statistics.studentised import student_critical

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("low", "high", "bound", "direction", "answer"),
    [
        (-0.019, 0.01, -0.02, "above", "pass"),
        (-0.05, -0.021, -0.02, "above", "fail"),
        (-0.03, 0.01, -0.02, "above", "insufficient"),
        (-0.02, 0.01, -0.02, "above", "insufficient"),
        (-0.05, -0.02, -0.02, "above", "insufficient"),
        (-0.02, -0.02, -0.02, "above", "insufficient"),
        (0.0, 0.04, 0.05, "below", "pass"),
        (0.06, 0.07, 0.05, "below", "fail"),
        (0.0, 0.05, 0.05, "below", "insufficient"),
        (0.05, 0.06, 0.05, "below", "insufficient"),
        (None, 0.01, -0.02, "above", "insufficient"),
        (-0.01, None, -0.02, "above", "insufficient"),
        (-0.01, 0.01, None, "above", "insufficient"),
        (NAN, 0.01, -0.02, "above", "insufficient"),
        (-0.01, NAN, -0.02, "above", "insufficient"),
        (-0.01, 0.01, NAN, "above", "insufficient"),
        (0.2, 0.1, 0.0, "above", "insufficient"),
        (-0.01, INF, -0.02, "above", "pass"),
        (-INF, 0.01, -0.02, "above", "insufficient"),
    ],
)
def test_each_position_of_an_interval_has_one_answer(
    low: float | None, high: float | None, bound: float | None, direction: str, answer: str
) -> None:
    assert decide(low, high, bound, direction) == answer  # type: ignore[arg-type]


def test_an_unknown_direction_is_refused() -> None:
    with pytest.raises(ValueError, match="'above' or 'below'"):
        decide(0.0, 1.0, 0.5, "up")  # type: ignore[arg-type]


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(-1, 1))
def test_a_pass_in_one_direction_is_a_fail_in_the_other(low: float, width: float, bound: float) -> None:
    swapped = {"pass": "fail", "fail": "pass", "insufficient": "insufficient"}
    above, below = decide(low, low + width, bound, "above"), decide(low, low + width, bound, "below")
    assert below == swapped[above]


def holm_by_definition(p: list[float]) -> list[float]:
    """Adjusted p of one test: the largest of (number not smaller) * p over the tests at most as large."""
    return [min(1.0, max(q * sum(r >= q for r in p) for q in p if q <= own)) for own in p]


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=12, unique=True))
def test_holm_is_what_its_definition_says(ranks: list[int]) -> None:
    p = [rank / 10**6 for rank in ranks]
    assert holm(p) == pytest.approx(holm_by_definition(p))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_benjamini_hochberg_agrees_with_scipy_and_is_never_above_holm(p: list[float]) -> None:
    assert benjamini_hochberg(p) == pytest.approx(stats.false_discovery_control(p))
    assert (benjamini_hochberg(p) <= holm(p) + 1e-12).all()
    assert (holm(p) >= np.array(p)).all()


def test_a_test_that_could_not_be_made_stays_missing_and_still_counts() -> None:
    assert holm([0.01, NAN, 0.04]) == pytest.approx([0.03, NAN, 0.08], nan_ok=True)
    assert benjamini_hochberg([0.01, NAN, 0.04]) == pytest.approx([0.03, NAN, 0.06], nan_ok=True)
    assert holm([]).size == 0


@pytest.mark.parametrize("correct", [holm, benjamini_hochberg])
@pytest.mark.parametrize("p", [[-0.1], [1.1], [[0.1]]])
def test_what_is_no_list_of_p_values_is_refused(correct: object, p: list[object]) -> None:
    with pytest.raises(ValueError, match="needed"):
        correct(p)  # type: ignore[operator]


@pytest.mark.parametrize(("users", "effect"), [(50, 0.071), (100, 0.050), (300, 0.029), (1000, 0.016), (3000, 0.009)])
def test_smallest_detectable_gap_reproduces_the_known_table(users: int, effect: float) -> None:
    assert minimum_detectable_effect(0.18 / math.sqrt(users)) == pytest.approx(effect, abs=0.0005)


def test_smallest_detectable_effect_is_detected_with_its_power() -> None:
    rng = np.random.default_rng(0)
    error = 0.1
    effect = minimum_detectable_effect(error, level=0.9, power=0.7)
    estimates = effect + error * rng.standard_normal(200_000)
    assert np.mean(estimates > stats.norm.ppf(0.95) * error) == pytest.approx(0.7, abs=0.005)
    assert math.isnan(minimum_detectable_effect(NAN))


@pytest.mark.parametrize(("level", "power"), [(1.0, 0.8), (0.0, 0.8), (0.95, 1.0), (0.95, 0.4)])
def test_levels_and_powers_out_of_range_are_refused(level: float, power: float) -> None:
    with pytest.raises(ValueError, match="needed"):
        minimum_detectable_effect(0.1, level=level, power=power)
    with pytest.raises(ValueError, match="needed"):
        more_users_needed(0.0, -0.1, 0.1, 10, 0.5, level=level, power=power)


def test_with_that_many_more_users_the_question_is_settled_with_the_stated_power() -> None:
    rng = np.random.default_rng(1)
    value, sd, users, bound = 0.0, 0.2, 100, -0.02
    half = 1.959964 * sd / math.sqrt(users)
    more = more_users_needed(value, value - half, value + half, users, bound)
    assert more is not None
    error = sd / math.sqrt(users + more)
    later = value + error * rng.standard_normal(200_000)
    assert np.mean(later - 1.959964 * error > bound) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize(
    ("value", "low", "high", "users", "bound", "more"),
    [
        (0.1, 0.05, 0.2, 50, 0.0, 0),
        (-0.1, -0.2, -0.05, 50, 0.0, 0),
        (0.0, -0.1, 0.1, 50, 0.0, None),
        (None, None, None, 50, 0.0, None),
        (0.1, -0.1, None, 50, 0.0, None),
        (0.1, -0.1, INF, 50, 0.0, None),
        (0.1, NAN, 0.2, 50, 0.0, None),
        (0.1, -0.1, 0.2, 0, 0.0, None),
        (1e-9, -0.1, 0.1, 50, 0.0, None),
    ],
)
def test_more_users_is_zero_when_settled_and_missing_when_nothing_can_be_said(
    value: float | None, low: float | None, high: float | None, users: int, bound: float, more: int | None
) -> None:
    assert more_users_needed(value, low, high, users, bound) == more


def test_an_interval_that_touches_the_bound_needs_more_users() -> None:
    more = more_users_needed(0.1, 0.0, 0.2, 50, 0.0)
    assert more is not None
    assert more > 0


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99, 0.9996])
def test_student_critical_values_agree_with_scipy(level: float) -> None:
    degrees = np.array([1.0, 2, 3, 4, 5, 9, 10, 33, 120, 200, 201, 1000, 1e6])
    assert student_critical(degrees, level=level) == pytest.approx(stats.t.ppf(0.5 + level / 2, degrees), rel=1e-6)
    assert np.isnan(student_critical(np.array([0.0, np.nan, -1.0]), level=level)).all()
    assert student_critical(np.array([7.9]), level=level) == student_critical(np.array([7.0]), level=level)


@pytest.mark.parametrize("tail", [0.025, 0.001])
def test_share_limits_agree_with_the_beta_quantile(tail: float) -> None:
    found = np.array([0.0, 1, 2, 7, 50, 30])
    users = np.array([10.0, 10, 100, 1000, 5000, 40])
    expected = stats.beta.ppf(1 - tail, found + 1, users - found)
    assert share_limit(found, users, tail=np.full(6, tail)) == pytest.approx(expected, rel=1e-6)


def test_share_limit_is_one_where_all_are_found_too_many_or_nobody_looked() -> None:
    limits = share_limit(np.array([5.0, 51.0, 0.0]), np.array([5.0, 1000.0, 0.0]), tail=np.full(3, 0.025))
    assert limits.tolist() == [1.0, 1.0, 1.0]
