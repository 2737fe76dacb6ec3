"""Two arms moment by moment: the same from sums as from arrays, right in expectation, and never fooled by bursts or hours."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest

from components.statistics.sequential import half_width
from components.statistics.sequential_windows import (
    BLOCKS,
    LEAST_BLOCKS,
    LEAST_WINDOWS,
    Sums,
    compared,
    expected,
    running,
)

Counts = tuple[NDArray[np.float64], ...]


def _counts(rng: np.random.Generator, windows: int, *, share: float = 0.1, rate: float = 0.01) -> Counts:
    n, ns = rng.poisson(200 * share, windows), rng.poisson(200 * (1 - share), windows)
    return tuple(x.astype(np.float64) for x in (rng.binomial(n, rate), n, rng.binomial(ns, rate), ns))


def test_sums_say_at_each_look_what_arrays_say() -> None:
    counts = _counts(np.random.default_rng(0), 300)
    counts[1][40:45] = 0
    counts[0][40:45] = 0
    found = running(compared(*counts))
    sums = Sums()
    for look in range(300):
        sums = sums.plus(compared(*(x[look : look + 1] for x in counts)))
        now = sums.estimates()
        for one, many in (
            (now.value, found.value),
            (now.variance, found.variance),
            (now.design_effect, found.design_effect),
        ):
            assert float(one) == pytest.approx(many[look], rel=1e-9, nan_ok=True), look


def test_an_estimate_is_the_mantel_haenszel_difference() -> None:
    y, n, ys, ns = _counts(np.random.default_rng(1), 50)
    found = running(compared(y, n, ys, ns)).value[-1]
    weights = n * ns / (n + ns)
    assert found == pytest.approx(np.average(y / n - ys / ns, weights=weights))


@pytest.mark.parametrize("look", [60, 250, 699])
def test_the_variance_is_that_of_brute_force_over_blocks(look: int) -> None:
    rng = np.random.default_rng(9)
    n, ns = rng.poisson(20, 700).astype(np.float64), rng.poisson(180, 700).astype(np.float64)
    rate = np.repeat(rng.choice([0.02, 0.4], p=[0.95, 0.05], size=70), 10)
    y, ys = rng.binomial(n.astype(np.int64), rate), rng.binomial(ns.astype(np.int64), 0.02)
    found = running(compared(y, n, ys, ns))
    weights = (n * ns / (n + ns))[: look + 1]
    differences = (np.divide(y, n, out=np.zeros(700), where=n > 0) - ys / ns)[: look + 1]
    value = np.average(differences, weights=weights)
    scales = []
    for size in BLOCKS:
        blocks = [(weights[i : i + size] * (differences[i : i + size] - value)).sum() for i in range(0, look + 1, size)]
        if len(blocks) >= LEAST_BLOCKS:
            scales.append(sum(b * b for b in blocks) * len(blocks) / (len(blocks) - 1) / weights.sum() ** 2)
    assert found.value[look] == pytest.approx(value)
    # Or that of independent requests with imagined events, where that is more.
    assert found.variance[look] == pytest.approx(max(scales)) or found.design_effect[look] == 1
    assert look == 60 or found.design_effect[look] > 1


def test_without_bursts_the_variance_is_about_that_of_independent_requests() -> None:
    found = running(compared(*_counts(np.random.default_rng(2), 5000, rate=0.1)))
    n, ns = 5000 * 20, 5000 * 180
    assert found.variance[-1] == pytest.approx(0.1 * 0.9 * (1 / n + 1 / ns), rel=0.15)
    assert found.design_effect[-1] == pytest.approx(1.0, abs=0.15)


def test_bursts_that_last_widen_the_variance() -> None:
    rng = np.random.default_rng(3)
    windows = 5000
    burst = np.repeat(rng.random(windows // 20) < 0.05, 20)
    rate = np.where(burst, 0.3, 0.005)
    n, ns = rng.poisson(20, windows), rng.poisson(180, windows)
    counts = rng.binomial(n, rate), n, rng.binomial(ns, 0.005 + 0 * rate), ns
    found = running(compared(*counts))
    between = np.var((counts[0] / np.maximum(n, 1))[:windows].reshape(-1, 20).mean(axis=1)) / (windows // 20)
    assert found.variance[-1] == pytest.approx(between, rel=0.2)
    assert found.design_effect[-1] > 5


def test_an_arm_without_an_event_is_not_known_to_have_none() -> None:
    zeros, n, ns = np.zeros(60), np.full(60, 20.0), np.full(60, 180.0)
    found = running(compared(zeros, n, zeros, ns))
    high = found.value[-1] + half_width(found.variance[-1], scale=0.005, alpha=0.05)
    # The exact limit for one look at 1 200 trials without an event is 0.0025.
    assert 0.0025 < float(high) < 0.02


def test_nothing_is_known_before_there_are_enough_windows() -> None:
    found = running(compared(*_counts(np.random.default_rng(4), 30)))
    assert np.isinf(found.variance[: LEAST_WINDOWS - 1]).all()
    assert np.isfinite(found.variance[LEAST_WINDOWS - 1 :]).all()


def test_a_plan_lets_variance_shrink_and_imagined_events_stay_few() -> None:
    counts = _counts(np.random.default_rng(8), 400, rate=0.02)
    sums = Sums()
    for look in range(100):
        sums = sums.plus(compared(*(x[look : look + 1] for x in counts)))
    found = running(compared(*counts)).variance
    assert sums.variance_after(1.0) == pytest.approx(found[99])
    assert sums.variance_after(4.0) == pytest.approx(found[399], rel=0.3)
    assert np.isinf(Sums().variance_after(2.0))


def test_traffic_that_moved_at_an_hour_of_more_errors_is_no_difference() -> None:
    rng = np.random.default_rng(5)
    share, rate = np.repeat([0.01, 0.5], 400), np.repeat([0.001, 0.05], 400)
    n, ns = rng.poisson(200 * share), rng.poisson(200 * (1 - share))
    y, ys = rng.binomial(n, rate), rng.binomial(ns, rate)
    pooled = y.sum() / n.sum() - ys.sum() / ns.sum()
    found = running(compared(y, n, ys, ns))
    assert pooled > 0.01
    assert abs(found.value[-1]) < 3 * np.sqrt(found.variance[-1]) < 0.01


@pytest.mark.parametrize("lasting", [1, 12])
def test_alike_arms_with_bursts_are_called_different_no_more_often_than_promised(lasting: int) -> None:
    rng = np.random.default_rng(6)
    worlds, windows, alpha = 600, 1440, 0.05
    ever = 0
    for _ in range(worlds):
        n, ns = rng.poisson(20, windows), rng.poisson(180, windows)
        # Each arm has bursts of its own, and both have some together.
        rates = [np.repeat(rng.choice([0.0, 0.2], p=[0.98, 0.02], size=windows // lasting), lasting) for _ in range(3)]
        y, ys = (rng.binomial(m, np.minimum(0.003 + own + rates[2], 1)) for m, own in ((n, rates[0]), (ns, rates[1])))
        found = running(compared(y, n, ys, ns))
        ever += bool((found.value - half_width(found.variance, scale=0.005, alpha=alpha) > 0).any())
    assert binomtest(ever, worlds, alpha, alternative="greater").pvalue > 0.001


def test_a_known_share_is_held_against_one_arm() -> None:
    rng = np.random.default_rng(7)
    n = rng.poisson(20, 400)
    y = rng.binomial(n[:, None], [0.3, 0.5])
    found = running(expected(y, np.broadcast_to(n[:, None], y.shape), [0.3, 0.4]))
    assert found.value[-1] == pytest.approx([0, 0.1], abs=0.02)


@pytest.mark.parametrize(("y", "n"), [(3.0, 2.0), (-1.0, 2.0), (np.nan, 2.0)])
def test_counts_that_cannot_be_are_refused(y: float, n: float) -> None:
    with pytest.raises(ValueError, match="counts"):
        compared([y], [n], [0.0], [1.0])


def test_scales_are_each_a_multiple_of_the_one_before() -> None:
    assert all(large % small == 0 for small, large in pairwise(BLOCKS))
