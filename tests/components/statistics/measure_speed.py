"""Measures what the bootstrap of users costs, beside the peers on the same values in the same run.

    python tests/components/statistics/measure_speed.py [--users 100000] [--segments 20] [--metrics 5] [--rounds 3]

1 000 resamples of per-user values, most of them 0, in segments. Rounds are interleaved, so that a busy machine slows all
alike; medians of processor seconds and their ratio to ours are printed, and how far scipy's percentile limits lie from ours,
in widths. scipy takes a segment with all its metrics at a time, which is kinder than one by one. Fairlearn's MetricFrame is
timed with two numbers of resamples, whose difference is scaled to 1 000: all of them take a quarter of an hour or more. Given
one row a user it resamples users, too.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping

import numpy as np
from fairlearn.metrics import MetricFrame, mean_prediction
from numpy.typing import NDArray
from scipy.stats import bootstrap

from components.statistics import Intervals, group_differences, user_bootstrap

RESAMPLES = 1000
_FEW, _MORE = 2, 4
"""Resamples that Fairlearn is timed with."""
Floats = NDArray[np.float64]


def values_of(users: int, metrics: int) -> Floats:
    rng = np.random.default_rng(0)
    return np.where(rng.random((users, metrics)) < 0.2, rng.beta(1, 2, (users, metrics)), 0.0)


def of_scipy(values: Floats, groups: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    limits = []
    for group in groups:
        found = bootstrap(
            (values[group],),
            np.mean,
            axis=0,
            n_resamples=RESAMPLES,
            batch=50,
            method="percentile",
            rng=np.random.default_rng(1),
        )
        limits.append((found.confidence_interval.low, found.confidence_interval.high))
    low, high = zip(*limits, strict=True)
    return np.stack(low), np.stack(high)


def of_fairlearn(values: Floats, segment: NDArray[np.int64], resamples: int) -> None:
    names = [f"metric {column}" for column in range(values.shape[1])]
    MetricFrame(
        metrics=dict.fromkeys(names, mean_prediction),
        y_true=values[:, 0],
        y_pred=values[:, 0],
        sensitive_features=segment,
        n_boot=resamples,
        ci_quantiles=[0.025, 0.975],
        random_state=1,
    )


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def measured(users: int, segments: int, metrics: int, rounds: int) -> tuple[Mapping[str, float], float]:
    """Median processor seconds of each road, and the largest distance of scipy's limits from ours, in widths."""
    values = values_of(users, metrics)
    segment = np.random.default_rng(2).integers(0, segments, users)
    groups = segment == np.arange(segments)[:, None]
    families = np.tile(np.arange(metrics), (segments, 1))
    found: dict[str, list[float]] = {}
    ours: list[Intervals] = []
    theirs: list[tuple[Floats, Floats]] = []

    def compare() -> object:
        return group_differences(
            values, groups=groups, seed=1, simultaneous=True, families=families, bounds=(0, 1), resamples=RESAMPLES
        )

    roads: dict[str, Callable[[], object]] = {
        "user_bootstrap": lambda: ours.append(user_bootstrap(values, groups=groups, seed=1, resamples=RESAMPLES)),
        "group_differences, max-t": compare,
        "scipy.stats.bootstrap, percentile": lambda: theirs.append(of_scipy(values, groups)),
    }
    for _ in range(rounds):
        for name, work in roads.items():
            found.setdefault(name, []).append(seconds(work))
        few, more = (seconds(lambda n=n: of_fairlearn(values, segment, n)) for n in (_FEW, _MORE))
        scaled = few + (more - few) / (_MORE - _FEW) * (RESAMPLES - _FEW)
        found.setdefault(f"Fairlearn MetricFrame, scaled from {_MORE - _FEW} resamples", []).append(scaled)
    width = ours[-1].high - ours[-1].low
    distance = max(
        float((np.abs(theirs[-1][0] - ours[-1].low) / width).max()),
        float((np.abs(theirs[-1][1] - ours[-1].high) / width).max()),
    )
    return {name: statistics.median(times) for name, times in found.items()}, distance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("users", 100_000), ("segments", 20), ("metrics", 5), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    medians, distance = measured(given.users, given.segments, given.metrics, given.rounds)
    print(
        f"{RESAMPLES} resamples, {given.users} users, {given.segments} segments, {given.metrics} metrics; "
        f"processor seconds, medians of {given.rounds}"
    )
    own = medians["user_bootstrap"]
    for name, median in medians.items():
        print(f"{name:<55} {median:>9.2f} s {median / own:>9.1f} x")
    print(f"scipy's limits lie at most {distance:.2f} widths from ours")


if __name__ == "__main__":
    main()
