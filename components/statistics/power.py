"""What a sample of users could have shown, and how many more would settle a question."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import overload

import numpy as np
from numpy.typing import NDArray

_NORMAL = NormalDist()


def normal_critical(level: float) -> float:
    """Standard errors on each side of an estimate in a normal interval of this two-sided level."""
    if not 0 < level < 1:
        raise ValueError(f"level: found {level}; needed a share between 0 and 1, such as 0.95.")
    return _NORMAL.inv_cdf(0.5 + level / 2)


@overload
def minimum_detectable_effect(
    standard_error: float, *, level: float = ..., power: float = ..., critical: float | None = ...
) -> float: ...
@overload
def minimum_detectable_effect(
    standard_error: NDArray[np.float64],
    *,
    level: float = ...,
    power: float = ...,
    critical: float | NDArray[np.float64] | None = ...,
) -> NDArray[np.float64]: ...
def minimum_detectable_effect(
    standard_error: float | NDArray[np.float64],
    *,
    level: float = 0.95,
    power: float = 0.8,
    critical: float | NDArray[np.float64] | None = None,
) -> float | NDArray[np.float64]:
    """Smallest true effect that an interval would exclude zero for, with probability `power`.

    Args:
        standard_error: Of the estimate, >= 0; for a mean over users the standard deviation / sqrt(users).
        level: Two-sided confidence of the interval.
        power: Wanted probability, above one half.
        critical: Standard errors between estimate and limit, where the interval is wider than the normal one (a family
            of simultaneous intervals, a skewed small group); replaces `level`.

    Returns:
        In the estimate's unit; NaN where the standard error is. A standard deviation of 0.18 over 100 users gives 0.050.

    Raises:
        ValueError: If level or power is out of range.
    """
    if not 0.5 <= power < 1:
        raise ValueError(f"power: found {power}; needed a probability from 0.5 to below 1, such as 0.8.")
    width = normal_critical(level) if critical is None else critical
    return (width + _NORMAL.inv_cdf(power)) * standard_error


def more_users_needed(
    value: float | None,
    low: float | None,
    high: float | None,
    n_users: int,
    bound: float,
    *,
    level: float = 0.95,
    power: float = 0.8,
) -> int | None:
    """How many more users would, about, settle on which side of `bound` a quantity lies.

    Takes the estimate for the truth and the spread between users for constant, so that both interval and sampling error
    shrink with the root of the number of users; then asks for the sample whose interval excludes the bound with
    probability `power`. A planning figure, not a promise.

    Args:
        value: The estimate.
        low: Lower limit now.
        high: Upper limit now.
        n_users: Users that it was measured on.
        bound: What the quantity is held against.
        level: Two-sided confidence of [low, high].
        power: As in `minimum_detectable_effect`.

    Returns:
        0 where the interval already excludes the bound; None where nothing can be said: a limit is missing or infinite,
        there are no users, the estimate lies on the bound itself, or the interval has no width.

    Raises:
        ValueError: If level or power is out of range.
    """
    critical = normal_critical(level)
    if not 0.5 <= power < 1:
        raise ValueError(f"power: found {power}; needed a probability from 0.5 to below 1, such as 0.8.")
    if value is None or low is None or high is None or n_users < 1:
        return None
    if not all(math.isfinite(number) for number in (value, low, high, bound)):
        return None
    if low > bound or high < bound:
        return 0
    distance = abs(value - bound)
    half_width = value - low if bound <= value else high - value
    if distance == 0 or half_width <= 0:
        return None
    standard_error = (high - low) / (2 * critical)
    needed = n_users * ((half_width + _NORMAL.inv_cdf(power) * standard_error) / distance) ** 2
    # A sample of 10**12 users settles nothing for anyone; the estimate is on the bound for all practical ends.
    return None if needed > 1e12 else max(math.ceil(needed) - n_users, 1)
