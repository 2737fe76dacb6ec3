"""Prints the coverage of five kinds of interval as the table of docs/decisions/0010-intervals.md.

    python tests/components/statistics/compare_intervals.py [data sets]

Each column is a data set of its own. Cells: share of intervals that hold the truth, then how often the truth lay below
and above, in percent. Not a test: it takes minutes.
"""

from __future__ import annotations

import sys

import numpy as np
from scipy import stats

from components.statistics import user_bootstrap

LEVEL, RESAMPLES = 0.95, 1000
Rng = np.random.Generator
Shape = tuple[int, int]


def mostly_zero(share: float, a: float, b: float):
    return lambda rng, shape: np.where(rng.random(shape) < share, rng.beta(a, b, shape), 0.0)


def paired_change(share: float):
    return lambda rng, shape: np.where(
        rng.random(shape) < share, rng.beta(2, 3, shape) - 0.9 * rng.beta(2, 3, shape), 0.0
    )


WORLDS = {
    "NDCG, 20 % not zero": (mostly_zero(0.2, 1, 2), 0.2 / 3, (0, 1)),
    "NDCG, 5 % not zero": (mostly_zero(0.05, 1, 3), 0.05 / 4, (0, 1)),
    "spend, log-normal": (
        lambda rng, shape: np.where(rng.random(shape) < 0.3, np.exp(rng.standard_normal(shape)), 0.0),
        0.3 * np.exp(0.5),
        (0, 1e9),
    ),
    "difference, 20 % changed": (paired_change(0.2), 0.008, (-1, 1)),
    "difference, 5 % changed": (paired_change(0.05), 0.002, (-1, 1)),
}


def intervals(values: np.ndarray, bounds: tuple[float, float], seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    users, tail = values.shape[0], (1 - LEVEL) / 2
    rng = np.random.default_rng(seed)
    mean, error = values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(users)
    weights = rng.multinomial(users, np.full(users, 1 / users), RESAMPLES).astype(float)
    means = weights @ values / users
    errors = np.sqrt(np.maximum(weights @ values**2 / users - means**2, 0) / (users - 1))
    reach = stats.t.ppf(1 - tail, users - 1) * error
    found = {"Student": (mean - reach, mean + reach)}
    found["percentile"] = tuple(np.quantile(means, [tail, 1 - tail], axis=0))
    share = ((means < mean).mean(axis=0) + (means <= mean).mean(axis=0)) / 2
    centre = stats.norm.ppf(np.clip(share, 1e-4, 1 - 1e-4))
    away = values - mean
    with np.errstate(invalid="ignore", divide="ignore"):
        skew = (away**3).sum(axis=0) / (6 * (away**2).sum(axis=0) ** 1.5)
        limits = []
        for z in (stats.norm.ppf(tail), stats.norm.ppf(1 - tail)):
            levels = stats.norm.cdf(centre + (centre + z) / (1 - skew * (centre + z)))
            limits.append(
                [np.quantile(m, p) if np.isfinite(p) else np.nan for m, p in zip(means.T, levels, strict=True)]
            )
        pivots = (means - mean) / errors
    found["BCa"] = (np.array(limits[0]), np.array(limits[1]))
    pivots = np.where(np.isnan(pivots), 0.0, pivots)
    below = np.quantile(pivots, 1 - tail, axis=0, method="higher")
    above = np.quantile(pivots, tail, axis=0, method="lower")
    with np.errstate(invalid="ignore"):
        found["bootstrap-t"] = (mean - below * error, mean - above * error)
    ours = user_bootstrap(values, seed=seed, bounds=bounds, level=LEVEL, resamples=RESAMPLES)
    found["ours"] = (ours.low[0], ours.high[0])
    return found


def main(data_sets: int) -> None:
    names = ["Student", "percentile", "BCa", "bootstrap-t", "ours"]
    print("| per-user value | users |", " | ".join(names), "|")
    print("|---|---:|" + "---|" * len(names))
    for world, (draw, truth, bounds) in WORLDS.items():
        for users in (30, 100, 300, 1000):
            counts = {name: np.zeros(2) for name in names}
            for part in range(data_sets // 250):
                values = draw(np.random.default_rng([part, users]), (users, 250))
                for name, (low, high) in intervals(values, bounds, part).items():
                    # No limit says nothing wrong; all users alike (Student: a point) does.
                    counts[name] += [np.sum(low > truth), np.sum(high < truth)]
            cells = []
            for name in names:
                low, high = 100 * counts[name] / (data_sets // 250 * 250)
                cells.append(f"{100 - low - high:.1f} ({low:.1f}, {high:.1f})")
            print(f"| {world} | {users} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
