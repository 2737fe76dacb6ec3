"""Inference that holds at every look: evidence and limits from an estimate and its variance, however often they are read.

    estimate, variance   from sequential_windows (counts of moments) or sequential_users (totals of users)
    log_evidence         how much a bettor against "no harm beyond the margin" would have made; 1 / alpha is proof
    half_width           the limit that says the same; reading it again and again does not wear it out
    width                that limit for effects about a margin and for far larger ones, whichever is known sooner
    growth_needed        how many times the information it takes until it settles

An ordinary interval of 95 % that is read every five seconds excludes the truth sooner or later. Here the chance that the truth
is *ever* outside, at any of all looks, is at most alpha, because the evidence is a mixture of betting games none of which can
be expected to win (Ville 1939). Limits are those of a Brownian motion with the estimate's own variance: exact for normal
sums, and for others in the limit, which is why callers wait for a number of moments or users first.

Sources: Robbins (1970), Statistical methods related to the law of the iterated logarithm; Johari, Koomen, Pekelis and Walsh
(2022), Always valid inference; Howard, Ramdas, McAuliffe and Sekhon (2021), Time-uniform, nonparametric, nonasymptotic
confidence sequences; Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2024), Time-uniform central limit theory and asymptotic
confidence sequences; Bibaut, Kallus and Lindon (2022), Near-optimal non-parametric sequential tests (on waiting first).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_ndtr

Floats = NDArray[np.float64]

SIZES = (1.0, 8.0)
"""Of effects, in margins, that `width` is sharpest for."""
_ROUNDS = 12
"""Of a contraction by at least a factor of 5 each for alpha up to 0.25, by 50 at 0.05."""
_MOST_GROWTH = 1e6
"""Beyond it nobody would wait."""


def log_evidence(distance: ArrayLike, variance: ArrayLike, *, scale: float) -> Floats:
    """Natural logarithm of the evidence against "the quantity is at most the bound".

    A mixture of likelihood ratios over effects beyond the bound, spread as half a normal distribution of standard deviation
    `scale`: strongest against effects of about that size, and still sure to grow under any other.

    Args:
        distance: Estimate minus bound, any shape; positive is harm.
        variance: Of the estimate, same shape; infinite or NaN where nothing is known, which gives 0.
        scale: Size of effect that matters, above 0: the margin is a good choice.

    Returns:
        Same shape. Harm is shown at level alpha where it reaches log(1 / alpha).

    Raises:
        ValueError: If `scale` is not above 0.
    """
    _check(scale=scale)
    gap, spread = np.broadcast_arrays(np.asarray(distance, dtype=np.float64), np.asarray(variance, dtype=np.float64))
    known = np.isfinite(gap) & np.isfinite(spread) & (spread > 0)
    v = np.where(known, spread, 1.0)
    d = np.where(known, gap, 0.0)
    total = v + scale**2
    pull = scale * d / np.sqrt(v * total)
    value = math.log(2) + 0.5 * np.log(v / total) + 0.5 * pull**2 + log_ndtr(pull)
    return np.where(known, value, 0.0)


def half_width(variance: ArrayLike, *, scale: float, alpha: float) -> Floats:
    """Distance between an estimate and its limit on one side; `log_evidence` reaches log(1 / alpha) exactly there.

    Args:
        variance: Of the estimate, any shape; not finite or not above 0 gives infinity.
        scale: As in `log_evidence`.
        alpha: Chance that the truth is ever beyond the limit on this side, above 0 and at most 0.25.

    Raises:
        ValueError: If `scale` or `alpha` is out of range.
    """
    _check(scale=scale, alpha=alpha)
    spread = np.asarray(variance, dtype=np.float64)
    known = np.isfinite(spread) & (spread > 0)
    v = np.where(known, spread, 1.0)
    total = v + scale**2
    # u = distance * scale / sqrt(v * total) solves u^2 / 2 + log(ndtr(u)) = constant.
    constant = math.log(1 / (2 * alpha)) + 0.5 * np.log(total / v)
    u = np.sqrt(2 * (constant + math.log(2)))
    for _ in range(_ROUNDS):
        u = np.sqrt(2 * (constant - log_ndtr(u)))
    return np.where(known, u * np.sqrt(v * total) / scale, np.inf)


def width(variance: ArrayLike, *, margin: float, alpha: float) -> Floats:
    """Distance between an estimate and its limit, for effects of the size of a margin and for eight times as large ones.

    A mixture over effects of one size is slow to see far larger ones: with few requests an outage would look like bad luck for
    longer than it must. Both are asked, each with half of `alpha`, and the nearer limit holds.

    Args:
        variance: As in `half_width`.
        margin: The smaller size of effect, above 0.
        alpha: As in `half_width`.
    """
    each = [half_width(variance, scale=margin * size, alpha=alpha / len(SIZES)) for size in SIZES]
    return np.asarray(np.minimum.reduce(each))


def growth_needed(
    distance: float, variance_after: Callable[[float], float], *, margin: float, alpha: float, power: float = 0.8
) -> float | None:
    """How many times the present information it would take until the limit (`width`) on one side excludes the bound.

    Takes the estimate for the truth. For planning: it says how long a canary will be held at this traffic, not when.

    Args:
        distance: Between estimate and bound, of either sign.
        variance_after: Of the estimate with so many times the present information; mostly the present one divided by it.
        margin: As in `width`.
        alpha: As in `half_width`.
        power: Wanted chance to be settled by then, from 0.5 to below 1.

    Returns:
        At least 1; None where that cannot be said: nothing is known, the estimate lies on the bound, or it would take more
        than a million times as much.

    Raises:
        ValueError: If an argument is out of range.
    """
    _check(scale=margin, alpha=alpha)
    if not 0.5 <= power < 1:
        raise ValueError(f"power: found {power}; needed a probability from 0.5 to below 1, such as 0.8.")
    away, now = abs(distance), variance_after(1.0)
    if not (math.isfinite(away) and math.isfinite(now)) or away == 0 or now <= 0:
        return None
    luck = NormalDist().inv_cdf(power)

    def settled(growth: float) -> bool:
        v = variance_after(growth)
        return away >= float(width(v, margin=margin, alpha=alpha)) + luck * math.sqrt(v)

    if settled(1.0):
        return 1.0
    low, high = 1.0, 2.0
    while not settled(high):
        low, high = high, high * 2
        if high > _MOST_GROWTH:
            return None
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if settled(middle) else (middle, high)
    return high


def _check(*, scale: float, alpha: float = 0.1) -> None:
    if not (scale > 0 and math.isfinite(scale)):
        raise ValueError(f"scale: found {scale}; needed a size of effect above 0.")
    if not 0 < alpha <= 0.25:
        raise ValueError(f"alpha: found {alpha}; needed a chance above 0 and at most 0.25, such as 0.01.")
