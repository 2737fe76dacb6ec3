"""How far windows of one column lie apart when nothing is wrong: the kernel of the calibrated null. Arrays in, arrays out.

    rows by day -> share of each bin on each day -> what days differ by, beyond weekday, trend and noise
        -> blocks of days drawn at random -> movements that days alone make
    earlier pairs of windows -> movements, less noise -> what they moved beyond days alone
    both together -> the movement that one in a hundred exceeds

A log has few pairs of windows, and the largest of m earlier movements is exceeded by the next one in m + 1 times. Days are
many: resampled in blocks of a week, they tell how far two windows may lie apart because some days are not like others.
Noise of few users is taken off everywhere: a threshold that grew with it would excuse small samples from being judged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.evidence.distance import bin_columns

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NULL_LEVEL = 0.99
"""Share of movements that stay below the threshold while nothing is wrong."""
WEEK = 7

DOUBT = 1.645
"""Standard deviations of noise that are taken off beside its mean: the history of a small log must not look like movement."""

_CYCLES = 3
_CLUSTERS = 256
"""Users are dealt into at most so many clusters a day, to tell a day's own movement from that of who happened to come."""
_MOST_CELLS = 1 << 22
_RESAMPLES = 400


@dataclass(frozen=True, slots=True, eq=False)
class DayEffects:
    """What days differ by."""

    pulls: Floats
    """What each day adds to the rows of each bin beyond its share of them, shape (days, bins); noise shrunk away."""
    sizes: Floats
    """Rows of each day, shape (days,)."""
    shares: Floats
    """Share of each bin over all days, shape (bins,)."""


def day_effects(values: Floats, users: Ints, days: Ints, *, categorical: bool) -> DayEffects | None:
    """What is particular to days of a stretch of log, beyond its weekly cycle, a straight trend and noise.

    The weekly cycle is known from three weeks on, the trend from two. The part of what is left that different users of
    one day explain is noise (variance between clusters of users within days) and is taken off by shrinking.

    Args:
        values: Shape (rows,); NaN is left out.
        users: User of each row.
        days: Day of each row, any whole number that grows by one a day.
        categorical: Whether values are codes whatever their number.

    Returns:
        None where there are fewer than two days with values.
    """
    known = np.isfinite(values)
    values, users, days = values[known], users[known], days[known]
    if not len(values) or days.min() == days.max():
        return None
    place = days - days.min()
    codes, _, bins = bin_columns(values, values[:1], categorical=categorical)
    count = int(place.max()) + 1
    clusters = int(np.clip(_MOST_CELLS // (count * bins), 8, _CLUSTERS))
    cells = np.bincount((place * clusters + users % clusters) * bins + codes, minlength=count * clusters * bins)
    by_cell = cells.reshape(count, clusters, bins).astype(np.float64)
    by_day = by_cell.sum(axis=1)
    sizes = by_day.sum(axis=1)
    left, fitted = _unexplained(by_day, sizes, first=int(days.min()))
    shares = by_day.sum(axis=0) / sizes.sum()
    inverse = _inverse(shares)
    of_day = by_day / np.maximum(sizes, 1)[:, None]
    noise = ((by_cell - by_cell.sum(axis=2, keepdims=True) * of_day[:, None, :]) ** 2).sum(axis=(0, 1)) * inverse
    active = int((sizes > 0).sum())
    free = max(active - fitted, 1)
    energy = float((left**2).sum(axis=0) @ inverse) * active / free
    most = float(noise.sum()) + DOUBT * math.sqrt(2 * float((noise**2).sum()) / free)
    kept = math.sqrt(max(1 - most / energy, 0.0)) if energy > 0 else 0.0
    return DayEffects(left * kept, sizes, shares)


def _unexplained(by_day: Floats, sizes: Floats, *, first: int) -> tuple[Floats, int]:
    """Rows of each day and bin beyond what weekday and trend expect of them, and how many figures a bin that took."""
    days = np.arange(len(sizes))
    share = by_day.sum(axis=0) / sizes.sum()
    expected = np.broadcast_to(share, by_day.shape).copy()
    fitted = 1
    if len(sizes) >= _CYCLES * WEEK:
        weekday = (days + first) % WEEK
        for day in range(WEEK):
            of = weekday == day
            expected[of] = by_day[of].sum(axis=0) / max(sizes[of].sum(), 1)
        fitted = WEEK
    left = by_day - expected * sizes[:, None]
    if len(sizes) >= 2 * WEEK:
        centred = days - (days * sizes).sum() / sizes.sum()
        slope = centred @ left / (centred**2 @ sizes)
        left -= centred[:, None] * slope * sizes[:, None]
        fitted += 1
    return left, fitted


def day_movements(effects: DayEffects, lengths: tuple[int, int], *, seed: int) -> Floats:
    """Divergences that days alone make between two windows, from blocks of days drawn at random.

    Args:
        effects: What days differ by.
        lengths: Days of the reference and of the current window, each at least 1.
        seed: Seed of the draws.

    Returns:
        Shape (resamples,), to second order as in `distance.settled`.
    """
    block = min(WEEK, max(1, len(effects.sizes) // _CYCLES))
    bits = np.random.PCG64(np.random.SeedSequence([seed, 7]))
    zero = np.zeros((1, effects.pulls.shape[1] + 1))
    # Sums over any run of days are differences of these.
    running = np.concatenate([zero, np.cumsum(np.column_stack([effects.pulls, effects.sizes]), axis=0)])
    moved = []
    for length in lengths:
        drawn = np.zeros((_RESAMPLES, running.shape[1]))
        for begin in range(0, length, block):
            run = min(block, length - begin)
            # The remainder's bias towards early days is of the order of days / 2**64.
            start = (bits.random_raw(_RESAMPLES) % np.uint64(len(effects.sizes) - run + 1)).astype(np.int64)
            drawn += running[start + run] - running[start]
        moved.append(drawn[:, :-1] / np.maximum(drawn[:, -1:], 1))
    divergences: Floats = (moved[0] - moved[1]) ** 2 @ _inverse(effects.shares) / 8
    return divergences


def _inverse(shares: Floats) -> Floats:
    """1 / share, 0 for a bin that no row falls into."""
    inverse: Floats = np.divide(1.0, shares, out=np.zeros_like(shares), where=shares > 0)
    return inverse


def usual_movement(settled: Sequence[float], by_days: Floats | None) -> float:
    """The distance that one window in a hundred exceeds while nothing is wrong; NaN where nothing is known.

    Each earlier pair's movement, less what days alone add to it on average, with that of freshly drawn days: one pair has
    seen only its own days. Where days tell nothing it is (nearly) the largest earlier movement.

    Args:
        settled: Distances of earlier pairs of windows, noise taken off; NaN is left out.
        by_days: From `day_movements`, or None.
    """
    pairs = np.array([distance**2 for distance in settled if math.isfinite(distance)])
    if by_days is None:
        by_days = np.zeros(1)
    elif not len(pairs):
        pairs = np.zeros(1)
    if not len(pairs):
        return math.nan
    drawn = np.maximum(pairs - by_days.mean(), 0)[:, None] + by_days
    return math.sqrt(float(np.quantile(drawn, NULL_LEVEL, method="higher")))
