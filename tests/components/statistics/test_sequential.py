"""Evidence and limits that hold at every look: agreement with integrals and with exact tests, and promises by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import binomtest, norm

from components.statistics.sequential import growth_needed, half_width, log_evidence, width
from components.statistics.sequential_bets import STAKES, capital, mean_limits, wagers
from components.statistics.sequential_counts import log_excess, log_shortfall, log_split, share_limits
from components.statistics.sequential_histograms import first_bound, quantile_estimate, quantile_limits


@pytest.mark.parametrize("distance", [-0.02, 0.0, 0.004, 0.03])
@pytest.mark.parametrize("variance", [1e-6, 1e-4])
def test_evidence_is_the_mixture_of_likelihood_ratios_that_it_says_to_be(distance: float, variance: float) -> None:
    scale, error = 0.01, math.sqrt(variance)

    def ratio(effect: float) -> float:
        return float(2 * norm.pdf(effect, 0, scale) * norm.pdf(distance, effect, error) / norm.pdf(distance, 0, error))

    mixture, _ = quad(ratio, 0, 10 * scale, points=[max(distance, 1e-9)], limit=400)
    assert float(log_evidence(distance, variance, scale=scale)) == pytest.approx(math.log(mixture), rel=1e-6, abs=1e-9)


@given(st.floats(1e-10, 1.0), st.floats(1e-4, 1.0), st.floats(1e-6, 0.25))
def test_a_limit_is_where_evidence_reaches_its_level(variance: float, scale: float, alpha: float) -> None:
    width = half_width(variance, scale=scale, alpha=alpha)
    assert float(log_evidence(width, variance, scale=scale)) == pytest.approx(math.log(1 / alpha), abs=1e-6)


def test_what_is_not_known_is_no_evidence_and_no_limit() -> None:
    assert log_evidence([0.5, 0.5, np.nan], [np.inf, np.nan, 1.0], scale=0.1).tolist() == [0, 0, 0]
    assert half_width([np.inf, np.nan, 0.0], scale=0.1, alpha=0.05).tolist() == [np.inf] * 3


@pytest.mark.parametrize(("scale", "alpha"), [(0.0, 0.05), (math.inf, 0.05), (0.1, 0.0), (0.1, 0.5)])
def test_arguments_out_of_range_are_refused(scale: float, alpha: float) -> None:
    with pytest.raises(ValueError, match="needed"):
        half_width(1.0, scale=scale, alpha=alpha)


def test_a_brownian_motion_is_left_by_its_limits_no_more_often_than_promised() -> None:
    rng = np.random.default_rng(7)
    paths, looks, alpha = 4000, 3000, 0.05
    ever = np.zeros(paths, dtype=bool)
    for begin in range(0, paths, 500):
        steps = rng.standard_normal((500, looks), dtype=np.float32).astype(np.float64)
        means = np.cumsum(steps, axis=1) / np.arange(1, looks + 1)
        low = means - half_width(1 / np.arange(1, looks + 1), scale=0.1, alpha=alpha)
        ever[begin : begin + 500] = (low > 0).any(axis=1)
    assert binomtest(int(ever.sum()), paths, alpha, alternative="greater").pvalue > 0.001
    # And is no empty promise: an endless path would be left with just that chance.
    assert ever.mean() > alpha / 2


def test_a_large_effect_is_known_sooner_than_by_a_mixture_over_small_ones() -> None:
    few, many = 1 / 10, 1 / 100_000
    assert float(width(few, margin=0.01, alpha=0.01)) < 0.5 * float(half_width(few, scale=0.01, alpha=0.01))
    assert float(width(many, margin=0.01, alpha=0.01)) < 1.1 * float(half_width(many, scale=0.01, alpha=0.01))


def test_the_time_until_it_settles_is_about_right() -> None:
    rng = np.random.default_rng(3)
    effect, margin, alpha, begun = 0.02, 0.02, 0.01, 200
    growth = growth_needed(effect, lambda growth: 1 / begun / growth, margin=margin, alpha=alpha, power=0.8)
    assert growth is not None
    looks = math.ceil(begun * growth)
    means = effect + rng.standard_normal(4000) / math.sqrt(looks)
    settled = (means - width(1 / looks, margin=margin, alpha=alpha) > 0).mean()
    assert settled == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(
    ("distance", "variance", "growth"), [(0.0, 1e-4, None), (1e-9, 1e-2, None), (0.5, math.inf, None), (0.5, 1e-6, 1.0)]
)
def test_what_never_settles_has_no_time(distance: float, variance: float, growth: float | None) -> None:
    assert growth_needed(distance, lambda times: variance / times, margin=0.01, alpha=0.01) == growth


def test_a_bettor_against_a_true_bound_gains_nothing_on_average() -> None:
    rng = np.random.default_rng(11)
    values = rng.choice([-1.0, 0.0, 1.0], p=[0.2, 0.6, 0.2], size=(200_000, 1))
    gains = np.exp(wagers(values[:, 0], bound=0.0, lowest=-1.0))
    assert gains.mean(axis=0) == pytest.approx(np.ones(len(STAKES)), abs=0.01)


def test_a_bound_is_refuted_no_more_often_than_promised_however_values_depend_within_a_window() -> None:
    rng = np.random.default_rng(5)
    worlds, windows, alpha = 2000, 400, 0.05
    # Most windows 0, some all or nothing: a mean of exactly 0 that no variance would have been known of.
    values = rng.choice([-1.0, 0.0, 1.0], p=[0.03, 0.94, 0.03], size=(worlds, windows))
    each = np.stack([np.cumsum(wagers(row, bound=0.0, lowest=-1.0), axis=0) for row in values])
    ever = (capital(each) >= math.log(1 / alpha)).any(axis=1)
    assert binomtest(int(ever.sum()), worlds, alpha, alternative="greater").pvalue > 0.001


def test_a_canary_that_only_fails_is_shown_within_a_few_windows() -> None:
    purses = np.cumsum(wagers(np.ones(30), bound=0.005, lowest=-1.0), axis=0)
    shown = np.flatnonzero(capital(purses) >= math.log(1 / 0.0005))
    assert shown[0] + 1 <= 14


def test_betting_limits_hold_the_mean_and_close_on_it() -> None:
    rng = np.random.default_rng(2)
    values = rng.beta(2, 6, size=4000)
    few, many = (mean_limits(values[:n], lowest=0.0, highest=1.0, alpha=0.025) for n in (100, 4000))
    assert few[0] < few[1]
    assert few[0] < 0.25 < few[1]
    assert many[0] < 0.25 < many[1]
    assert many[1] - many[0] < (few[1] - few[0]) / 3
    assert mean_limits([], lowest=0.0, highest=1.0, alpha=0.025) == (0.0, 1.0)


def test_far_fewer_events_than_expected_are_no_evidence_of_an_excess() -> None:
    assert float(log_excess(5_000, 10_000, share=0.95)) == -math.inf
    assert float(log_shortfall(5_000, 10_000, share=0.95)) > 1000


def test_a_value_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="needed at least -1"):
        wagers([-2.0], bound=0.0, lowest=-1.0)
    with pytest.raises(ValueError, match="less than the bound"):
        wagers([0.0], bound=0.0, lowest=0.0)


@pytest.mark.parametrize(("events", "trials"), [(0, 50), (3, 50), (25, 50), (50, 50), (7, 10_000)])
def test_limits_of_a_share_are_wider_than_the_exact_ones_for_one_look_and_not_by_much(events: int, trials: int) -> None:
    exact = binomtest(events, trials).proportion_ci(0.95, method="exact")
    low, high = share_limits(events, trials, alpha=0.05)
    assert low <= exact.low + 1e-9
    assert high >= exact.high - 1e-9
    assert high - low < 2.2 * (exact.high - exact.low)


def test_limits_of_a_share_hold_at_all_looks() -> None:
    rng = np.random.default_rng(4)
    trials = np.arange(3, 1501, 3)
    draws = np.cumsum(rng.random((500, 1500)) < 0.03, axis=1)[:, 2::3]
    # In limits iff not refuted: asked of the evidence itself, for speed; share_limits inverts it.
    excess = log_excess(draws, np.broadcast_to(trials, draws.shape), share=0.03) >= math.log(1 / 0.025)
    shortfall = log_shortfall(draws, np.broadcast_to(trials, draws.shape), share=0.03) >= math.log(1 / 0.025)
    for ever in (excess.any(axis=1), shortfall.any(axis=1)):
        assert binomtest(int(ever.sum()), 500, 0.025, alternative="greater").pvalue > 0.001


@pytest.mark.parametrize(("events", "trials", "share"), [(3, 100, 0.01), (0, 40, 0.2), (30, 40, 0.2)])
def test_evidence_of_an_excess_is_the_integral_that_it_says_to_be(events: int, trials: int, share: float) -> None:
    def density(p: float) -> float:
        ratio = (p / share) ** events * ((1 - p) / (1 - share)) ** (trials - events)
        return float(ratio * p**-0.5 * (1 - p) ** -0.5)

    above, _ = quad(density, share, 1, limit=300)
    prior, _ = quad(lambda p: p**-0.5 * (1 - p) ** -0.5, share, 1)
    assert float(log_excess(events, trials, share=share)) == pytest.approx(math.log(above / prior), abs=1e-5)


def test_a_fair_split_is_called_a_mismatch_no_more_often_than_promised() -> None:
    rng = np.random.default_rng(8)
    canary = np.cumsum(rng.binomial(20, 0.1, size=(2000, 2000)), axis=1)
    total = 20 * np.arange(1, 2001)
    evidence = log_split(np.stack([canary, total - canary], axis=-1), [0.1, 0.9])
    ever = (evidence >= math.log(1 / 0.05)).any(axis=1)
    assert binomtest(int(ever.sum()), 2000, 0.05, alternative="greater").pvalue > 0.001


def test_a_split_of_twelve_for_ten_in_a_hundred_is_shown_before_ten_thousand_users() -> None:
    rng = np.random.default_rng(9)
    canary = np.cumsum(rng.binomial(20, 0.12, size=(200, 1500)), axis=1)
    total = 20 * np.arange(1, 1501)
    evidence = log_split(np.stack([canary, total - canary], axis=-1), [0.1, 0.9])
    first = np.argmax(evidence >= math.log(1 / 0.001), axis=1)
    assert 0 < np.median(first) * 20 < 10_000


@pytest.mark.parametrize("shares", [[0.5, 0.6], [1.0, 0.0], [1.0]])
def test_shares_that_are_none_are_refused(shares: list[float]) -> None:
    with pytest.raises(ValueError, match="together 1"):
        log_split([3, 4], shares)


BOUNDS = (1.0, 2.0, 5.0, 10.0, 20.0)


def test_a_quantile_is_read_off_a_histogram() -> None:
    counts = [50, 40, 8, 1, 1, 0]
    assert quantile_estimate(counts, BOUNDS, quantile=0.5) == pytest.approx(1.0)
    assert quantile_estimate(counts, BOUNDS, quantile=0.94) == pytest.approx(3.5)
    assert math.isnan(quantile_estimate([0] * 6, BOUNDS, quantile=0.5))
    assert quantile_estimate([0, 0, 0, 0, 0, 5], BOUNDS, quantile=0.5) == math.inf


def test_limits_of_a_quantile_hold_it_and_dependence_widens_them() -> None:
    counts = np.array([5000, 4000, 800, 100, 90, 10])
    low, high = quantile_limits(counts, BOUNDS, quantile=0.95, alpha=0.01)
    assert (low, high) == (2.0, 5.0)
    wide = quantile_limits(counts, BOUNDS, quantile=0.95, alpha=0.01, design_effect=1000)
    assert wide[0] <= low
    assert wide[1] >= high
    assert quantile_limits([0] * 6, BOUNDS, quantile=0.95, alpha=0.01) == (0.0, math.inf)
    with pytest.raises(ValueError, match="at least 1"):
        quantile_limits(counts, BOUNDS, quantile=0.95, alpha=0.01, design_effect=0.5)


def test_limits_of_a_quantile_hold_at_all_looks() -> None:
    rng = np.random.default_rng(6)
    # The true 95 % quantile lies within the bucket from 5 to 10: 7 % above 5, 2 % above 10.
    share = np.array([0.5, 0.3, 0.13, 0.05, 0.015, 0.005])
    missed = 0
    for _ in range(300):
        counts = np.cumsum(rng.multinomial(20, share, size=150), axis=0)
        looks = [quantile_limits(c, BOUNDS, quantile=0.95, alpha=0.05) for c in counts[::5]]
        missed += any(low > 5.0 or high < 10.0 for low, high in looks)
    assert binomtest(missed, 300, 0.05, alternative="greater").pvalue > 0.001


def test_the_first_bound_that_is_large_enough() -> None:
    assert first_bound(BOUNDS, 2.0) == 1
    assert first_bound(BOUNDS, 2.1) == 2
    assert first_bound(BOUNDS, 30.0) is None
