"""Counts that are looked at as they come: shares of independent trials, and whether users were split as they should be.

Exact for any number of trials and any number of looks. Trials that are not independent (requests of one user, moments of one
outage) belong to `sequential_windows` and `sequential_users`; here the unit is a user who is counted once.

Sources: Robbins (1970) for the mixture; Lindon and Malek (2022), Anytime-valid inference for multinomial count data, for the
split; Howard and Ramdas (2022), Sequential estimation of quantiles, for what follows from the former for quantiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincc, betaln, gammaln

Floats = NDArray[np.float64]

_CERTAINTY = 1000.0
"""Users that the mixture over other splits is worth: tuned to deviations of about three in a hundred from an even split."""

_LEAST = 1e-290


def share_limits(events: float, trials: float, *, alpha: float) -> tuple[float, float]:
    """Limits of a share of independent trials, which the truth leaves at no look but with probability `alpha`.

    Args:
        events: Of the trials, from 0 to `trials`; need not be whole (see `quantile_limits` on dependence).
        trials: At least 0.
        alpha: For both sides together.

    Returns:
        (0, 1) without trials.

    Raises:
        ValueError: If counts or `alpha` are out of range.
    """
    if not 0 <= events <= trials or not 0 < alpha < 1:
        raise ValueError(
            f"share: found {events} of {trials} at alpha {alpha}; needed 0 <= events <= trials, alpha in (0, 1)."
        )
    if trials == 0:
        return 0.0, 1.0
    mixed = betaln(0.5 + events, 0.5 + trials - events) - betaln(0.5, 0.5)

    def refuted(share: float) -> bool:
        log_likelihood = (events * math.log(share) if events else 0.0) + (
            (trials - events) * math.log1p(-share) if trials > events else 0.0
        )
        return float(mixed - log_likelihood) >= math.log(1 / alpha)

    centre = events / trials
    low = 0.0 if events == 0 else _edge(refuted, 0.0, centre)
    high = 1.0 if events == trials else _edge(refuted, 1.0, centre)
    return low, high


def _edge(refuted: Callable[[float], bool], outside: float, inside: float) -> float:
    for _ in range(60):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if refuted(middle) else (outside, middle)
    return outside


def log_excess(events: ArrayLike, trials: ArrayLike, *, share: float) -> Floats:
    """Logarithm of the evidence that trials succeed more often than `share`.

    A mixture over all larger shares (Jeffreys' prior, cut at `share`): exact for independent trials each of which succeeds with
    at most that chance, given all that was before.

    Args:
        events: Any shape.
        trials: Same shape.
        share: In (0, 1).
    """
    y, n = np.broadcast_arrays(np.asarray(events, dtype=np.float64), np.asarray(trials, dtype=np.float64))
    log_mixture = betaln(0.5 + y, 0.5 + n - y) - betaln(0.5, 0.5)
    above = betaincc(0.5 + y, 0.5 + n - y, share)
    log_cut = np.log(np.maximum(above, _LEAST)) - math.log(float(betaincc(0.5, 0.5, share)))
    value = log_mixture + log_cut - y * math.log(share) - (n - y) * math.log1p(-share)
    # The tail left the range of a double: far fewer events than expected, which is evidence of anything but an excess.
    return np.asarray(np.where(above > _LEAST, value, -math.inf))


def log_shortfall(events: ArrayLike, trials: ArrayLike, *, share: float) -> Floats:
    """As `log_excess`, that they succeed less often."""
    y, n = np.broadcast_arrays(np.asarray(events, dtype=np.float64), np.asarray(trials, dtype=np.float64))
    return log_excess(n - y, n, share=1 - share)


def log_split(counts: ArrayLike, shares: ArrayLike) -> Floats:
    """Logarithm of the evidence that users are not split as they should be.

    Args:
        counts: Users who were first seen in each arm, shape (..., arms). A user counts once: requests of one user all go to
            one arm, and would make any split look wrong.
        shares: Chance of each arm while they came, shape (arms,), each above 0, together 1. Where shares change, evidence of
            each stretch with its own counts is added up.

    Returns:
        Shape (...,). A mismatch is shown at level alpha where it reaches log(1 / alpha).

    Raises:
        ValueError: If shares do not add up to 1 or one is not above 0, or a count is negative.
    """
    n = np.asarray(counts, dtype=np.float64)
    p = np.asarray(shares, dtype=np.float64)
    if p.ndim != 1 or p.shape[0] != n.shape[-1] or (p <= 0).any() or abs(float(p.sum()) - 1) > 1e-9:
        raise ValueError(f"shares: found {p.tolist()}; needed one above 0 for each arm, together 1.")
    if (n < 0).any() or not np.isfinite(n).all():
        raise ValueError("counts: found a negative or infinite one; needed users.")
    prior = _CERTAINTY * p
    total = n.sum(axis=-1)
    return np.asarray(
        gammaln(_CERTAINTY)
        - gammaln(_CERTAINTY + total)
        + (gammaln(prior + n) - gammaln(prior) - n * np.log(p)).sum(axis=-1)
    )
