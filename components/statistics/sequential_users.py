"""Two arms, user by user: the ratio of their rates (clicks a list) with a variance between users, looked at as often as wanted.

    rows (user, stratum, arm, lists, outcomes) -> Contrast -> ratio and limits that hold at every look

The unit is the user. Whoever likes clicking clicks again tomorrow, so lists of a user are no independent trials, and a user
who came back is more evidence about that user only. Strata are stretches in which the shares of traffic stood still (steps):
arms are compared within each, so that a step that moved traffic at noon cannot look like a difference.

That limits hold at every look although users return: what a user adds later goes along with what the user added before, so the
estimate at two looks is *more* alike than a Brownian motion of the same variances would be, and the more alike, the less often
is any bound crossed at all (Slepian 1962). `tests/components/statistics/test_sequential_users.py` holds this against
simulated users who return for days.

Sources: Fieller (1954) for the ratio; Liang and Zeger (1986) for the variance between clusters; boundaries as in `sequential`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from components.statistics.sequential import width

Floats = NDArray[np.float64]

_WIDEST = 50.0
"""Ratios beyond it are not looked for."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """Sums over users from which every ratio of the two arms can be judged. All shares of `canary` over `stable`."""

    canary: float
    """Outcomes of the canary, each list weighted by the other arm's share of lists in its stratum."""
    stable: float
    canary_square: float
    """Sum over users of the square of what the user has beyond the stratum's rate."""
    product: float
    """Of users who were in both arms; 0 where nobody moved."""
    stable_square: float
    canary_users: int
    stable_users: int
    canary_lists: float
    stable_lists: float

    @property
    def ratio(self) -> float:
        """Rate of the canary over that of the stable arm; NaN without outcomes in the stable arm."""
        return self.canary / self.stable if self.stable > 0 else math.nan

    def variance(self, ratio: float) -> float:
        """Of the estimate, were `ratio` the truth; infinite where either arm has fewer than two users or no outcome."""
        fewest = min(self.canary_users, self.stable_users)
        if fewest < 2 or self.stable <= 0:
            return math.inf
        square = self.canary_square - 2 * ratio * self.product + ratio**2 * self.stable_square
        spread = square * fewest / (fewest - 1) / self.stable**2
        return spread if spread > 0 else math.inf

    def limits(self, *, margin: float, alpha: float) -> tuple[float, float]:
        """Ratios that are not refuted, each side at `alpha`; (0, infinity) where little is known.

        The variance is that of each candidate ratio (Fieller), as if it were the truth.
        """
        estimate = self.ratio
        if not math.isfinite(estimate) or not math.isfinite(self.variance(estimate)):
            return 0.0, math.inf

        def refuted(ratio: float) -> bool:
            return abs(ratio - estimate) >= float(width(self.variance(ratio), margin=margin, alpha=alpha))

        # Far from the estimate the variance of a candidate grows as fast as its distance: look outward, from within.
        step = float(width(self.variance(estimate), margin=margin, alpha=alpha))
        below = next((x for x in (estimate - step * 2**k for k in range(-1, 12)) if x > 0 and refuted(x)), None)
        above = next((x for x in (estimate + step * 2**k for k in range(-1, 12)) if x < _WIDEST and refuted(x)), None)
        low = 0.0 if below is None else _edge(refuted, below, estimate)
        high = math.inf if above is None else _edge(refuted, above, estimate)
        return low, high


def _edge(refuted: Callable[[float], bool], outside: float, inside: float) -> float:
    for _ in range(60):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if refuted(middle) else (outside, middle)
    return outside


def contrast(
    users: ArrayLike, strata: ArrayLike, in_canary: ArrayLike, lists: ArrayLike, outcomes: ArrayLike
) -> Contrast:
    """Sums over users.

    Args:
        users: Number of the user of each row, shape (rows,), whole, at least 0. A user may have any number of rows.
        strata: Number of the stretch of time, shape (rows,), whole, at least 0.
        in_canary: Whether the row is of the canary, shape (rows,).
        lists: What the rate is counted by, shape (rows,), at least 0.
        outcomes: What is counted, shape (rows,), finite.

    Returns:
        Strata in which an arm has no list are left out.

    Raises:
        ValueError: If shapes differ or numbers are out of range.
    """
    u, h = np.asarray(users, dtype=np.int64), np.asarray(strata, dtype=np.int64)
    c = np.asarray(in_canary, dtype=np.bool_)
    n, y = np.asarray(lists, dtype=np.float64), np.asarray(outcomes, dtype=np.float64)
    if not u.shape == h.shape == c.shape == n.shape == y.shape or u.ndim != 1:
        raise ValueError("rows: found arrays of different shapes; needed one value a row in each.")
    if u.size and (u.min() < 0 or h.min() < 0):
        raise ValueError("rows: found a negative user or stratum; needed numbers from 0.")
    if not (np.isfinite(n).all() and np.isfinite(y).all()) or (n < 0).any():
        raise ValueError("rows: found lists below 0, NaN or infinity; needed finite numbers.")
    strata_count = int(h.max()) + 1 if h.size else 0
    side = h * 2 + c
    all_lists = np.bincount(side, weights=n, minlength=2 * strata_count).reshape(-1, 2)
    all_outcomes = np.bincount(side, weights=y, minlength=2 * strata_count).reshape(-1, 2)
    stable_n, canary_n = all_lists[:, 0], all_lists[:, 1]
    both = (stable_n > 0) & (canary_n > 0)
    total = np.where(both, stable_n + canary_n, 1.0)
    weight = np.stack([np.where(both, canary_n / total, 0.0), np.where(both, stable_n / total, 0.0)], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.where(all_lists > 0, all_outcomes / all_lists, 0.0)
    own_weight = weight[h, c.astype(np.int64)]
    beyond = own_weight * (y - rate[h, c.astype(np.int64)] * n)
    kept = own_weight > 0
    people = int(u.max()) + 1 if u.size else 0
    of_canary = np.bincount(u[c], weights=beyond[c], minlength=people)
    of_stable = np.bincount(u[~c], weights=beyond[~c], minlength=people)
    seen = np.bincount(u[kept] * 2 + c[kept], minlength=2 * people).reshape(-1, 2) > 0
    return Contrast(
        canary=float((weight[:, 1] * all_outcomes[:, 1]).sum()),
        stable=float((weight[:, 0] * all_outcomes[:, 0]).sum()),
        canary_square=float((of_canary**2).sum()),
        product=float((of_canary * of_stable).sum()),
        stable_square=float((of_stable**2).sum()),
        canary_users=int(seen[:, 1].sum()),
        stable_users=int(seen[:, 0].sum()),
        canary_lists=float(canary_n[both].sum()),
        stable_lists=float(stable_n[both].sum()),
    )
