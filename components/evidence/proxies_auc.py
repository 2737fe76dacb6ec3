"""How well scores tell some users from the rest: AUC over blocks of users, its spread, and limits that hold together.

Users are compared only within their own block, because scores of different blocks may come from different models; that
also keeps a learner that knows nothing at 0.5 on average. A user's influence is what they add to the AUC, so the user is the
unit. Limits invert a test instead of adding standard errors: they stay within 0 and 1, and scores that tell users apart
without one mistake (no spread at all) still get a lower limit.

Source: DeLong, DeLong and Clarke-Pearson (1988) for the spread; LeDell, Petersen and van der Laan (2015) for its sum over
blocks; Newcombe (2006), Part 2, method 5, for limits by inversion; Hanley and McNeil (1982) for the variance by AUC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from scipy.stats import t as student

from components.statistics import minimum_detectable_effect

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

RESAMPLES = 1000
_BLOCK = 4_000_000
"""Random numbers drawn at a time."""
_STEPS = 60
_FEW = 3.0
"""Users of the smaller kind who are, in sum, on the wrong side: with fewer, the spread is that of a handful."""


@dataclass(frozen=True, slots=True, eq=False)
class Separation:
    """AUC of several scores for one question (who has this value?), and every user's part in it."""

    auc: Floats
    """Shape (scores,), in [0, 1]; 0.5 is chance."""
    influence: Floats
    """Shape (users, scores): the AUC's error is about the mean of a column."""
    positives: Bools
    """Shape (users,): who has the value."""
    blocks: int


@dataclass(frozen=True, slots=True, eq=False)
class Limits:
    """Limits of several AUCs that hold together."""

    low: Floats
    high: Floats
    standard_error: Floats
    critical: Floats
    """Standard errors between estimate and limit, before they are bent into [0, 1]."""
    detectable: Floats
    """Smallest excess over 0.5 that these users would show with power 0.8."""


def separation(scores: Floats, positives: Bools, blocks: Ints) -> Separation:
    """AUC within blocks, averaged by the number of pairs that each block compares.

    Args:
        scores: Shape (users, scores), finite; higher = more likely to have the value. Ties count half.
        positives: Shape (users,): who has it.
        blocks: Shape (users,): block of each user; every block holds at least two users of either kind.

    Raises:
        ValueError: If a block holds fewer.
    """
    users, columns = scores.shape
    auc, influence = np.zeros(columns), np.zeros((users, columns))
    numbers = np.unique(blocks)
    members = [np.flatnonzero(blocks == block) for block in numbers]
    pairs = np.array([float(positives[m].sum()) * float((~positives[m]).sum()) for m in members])
    for place, weight in zip(members, pairs / max(pairs.sum(), 1.0), strict=True):
        has = positives[place]
        count, others = int(has.sum()), int((~has).sum())
        if min(count, others) < 2:
            raise ValueError(f"a block: found {count} users with the value and {others} without; needed two of each.")
        ranks = rankdata(scores[place], axis=0)
        above = (ranks[has] - rankdata(scores[place][has], axis=0)) / others
        below = 1 - (ranks[~has] - rankdata(scores[place][~has], axis=0)) / count
        found = above.mean(axis=0)
        auc += weight * found
        # n - 1 instead of n: a block's own mean is taken off.
        influence[place[has]] = weight * users / count * (above - found) * np.sqrt(count / (count - 1))
        influence[place[~has]] = weight * users / others * (below - found) * np.sqrt(others / (others - 1))
    return Separation(auc, influence, positives, numbers.size)


def mean_separation(found: Sequence[Separation]) -> tuple[Floats, Floats]:
    """AUC and influence of the mean over several values: each counts the same, however many users have it."""
    return (
        np.mean([held.auc for held in found], axis=0),
        np.mean([held.influence for held in found], axis=0),
    )


def limits_together(found: Sequence[Separation], *, level: float, seed: int) -> list[Limits]:
    """Limits of all AUCs of one family: they are all right at once with probability `level` (max-t).

    Args:
        found: Separations of the same users, one a value.
        level: Two-sided confidence.
        seed: Of the normal multipliers; the result depends on it and on the order of users.

    Returns:
        One `Limits` for each separation.
    """
    critical = family_critical([held.influence for held in found], level=level, seed=seed)
    return [_limits(held, critical) for held in found]


def family_critical(influences: Sequence[Floats], *, level: float, seed: int) -> float:
    """What the largest of a family's standardised errors exceeds with probability 1 - level, for normal errors.

    Users' influences are multiplied by independent normal numbers, so that estimates of the same users err together as
    they do (the multiplier bootstrap).

    Args:
        influences: Shape (users, scores) each.
        level: Two-sided confidence.
        seed: Of the multipliers.
    """
    normal = NormalDist().inv_cdf(0.5 + level / 2)
    if sum(int((np.abs(influence).sum(axis=0) > 0).sum()) for influence in influences) < 2:
        return normal
    largest = np.zeros(RESAMPLES)
    for influence in influences:
        spread = np.sqrt((influence**2).sum(axis=0))
        scaled = influence[:, spread > 0] / spread[spread > 0]
        if not scaled.size:
            continue
        # The same numbers for every part: the family is one, its parts only fit into memory apart.
        rng = np.random.default_rng(seed)
        block = max(1, _BLOCK // len(influence))
        for begin in range(0, RESAMPLES, block):
            end = min(begin + block, RESAMPLES)
            drawn = rng.standard_normal((end - begin, len(influence)))
            largest[begin:end] = np.maximum(largest[begin:end], np.abs(drawn @ scaled).max(axis=1))
    return max(float(np.quantile(largest, level, method="higher")), normal)


def alone(auc: float, influence: Floats, positives: Bools, *, blocks: int, level: float) -> tuple[float, float, float]:
    """Low, high and standard error of one figure; NaN limits where users do not differ.

    Args:
        auc: The figure.
        influence: Shape (users,).
        positives: Who has the value; for a mean over values, anyone's: it only bends the limits.
        blocks: Number of blocks.
        level: Two-sided confidence.
    """
    held = Separation(np.array([auc]), influence[:, None], positives, blocks)
    limits = _limits(held, NormalDist().inv_cdf(0.5 + level / 2))
    error = float(limits.standard_error[0])
    if not error > 0:
        return float("nan"), float("nan"), error
    return float(limits.low[0]), float(limits.high[0]), error


def _limits(held: Separation, critical: float) -> Limits:
    users = held.influence.shape[0]
    count = int(held.positives.sum())
    others = users - count
    squared = held.influence**2
    inside, outside = squared[held.positives].sum(axis=0) / users**2, squared[~held.positives].sum(axis=0) / users**2
    variance = inside + outside
    freedom = (count - held.blocks, others - held.blocks)
    with np.errstate(divide="ignore", invalid="ignore"):
        degrees = variance**2 / (inside**2 / max(freedom[0], 1) + outside**2 / max(freedom[1], 1))
    degrees = np.where(variance > 0, degrees, float(max(min(freedom), 1)))
    # The family's critical value is one of normal errors; few users have a longer tail.
    tail = NormalDist().cdf(-critical)
    wide = student.isf(tail, degrees)
    typical = variance_at(held.auc, count, others)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.where(typical > 0, variance / typical, 1.0)
    # Near 0 and 1 a handful of swapped pairs makes the spread: it may be larger than is typical, not much smaller.
    extreme = np.minimum(held.auc, 1 - held.auc) * min(count, others) < _FEW
    spread = np.where(extreme, np.maximum(spread, 1.0), spread)
    low, high = (_inverted(held.auc, wide, spread, count, others, side) for side in (-1, 1))
    return Limits(
        low=low,
        high=high,
        standard_error=np.sqrt(variance),
        critical=wide,
        detectable=minimum_detectable_effect(
            np.sqrt(spread * variance_at(np.full_like(held.auc, 0.5), count, others)), critical=wide
        ),
    )


def variance_at(auc: Floats, positives: int, others: int) -> Floats:
    """Variance that an AUC typically has, by its true value: symmetric in the two kinds of users, 0 at 0 and at 1.

    Source: Newcombe (2006), Part 2, method 5, after Hanley and McNeil (1982).
    """
    many = (positives + others) / 2 - 1
    shape: Floats = auc * (1 - auc) * (1 + many * ((1 - auc) / (2 - auc) + auc / (1 + auc)))
    return shape / (positives * others)


def _inverted(auc: Floats, critical: Floats, spread: Floats, positives: int, others: int, side: int) -> Floats:
    """The farthest true AUC on one side that is `critical` of its own standard errors away from what was found."""
    near, far = auc.copy(), np.full_like(auc, 0.0 if side < 0 else 1.0)
    for _ in range(_STEPS):
        middle = (near + far) / 2
        reach = critical * np.sqrt(spread * variance_at(middle, positives, others))
        within = np.abs(auc - middle) <= reach
        near, far = np.where(within, middle, near), np.where(within, far, middle)
    return near
