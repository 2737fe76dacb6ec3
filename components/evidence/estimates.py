"""From intervals to the estimates that an evidence file holds."""

from __future__ import annotations

import math
from collections.abc import Mapping

from components.evidence.contract import Estimate, Statistic
from components.statistics import Intervals


def number(value: float) -> float | None:
    """The value, or None where there is none: NaN, or an infinite limit, which JSON cannot hold and no gate may pass on.

    Kept to 12 significant digits: another processor's logarithm may differ in the last of 16, and a replay there must get
    the same bytes.
    """
    return float(f"{value:.12g}") if math.isfinite(value) else None


def from_intervals(
    found: Intervals,
    place: tuple[int, int],
    *,
    metric: str,
    statistic: Statistic,
    subject: str,
    versus: str = "",
    segment: Mapping[str, str] | None = None,
    n_requests: int,
    family: str = "",
    detail: Mapping[str, float] | None = None,
) -> Estimate:
    """One estimate from the (group, column) `place` of intervals."""
    value = number(found.estimate[place])
    return Estimate(
        metric=metric,
        statistic=statistic,
        subject=subject,
        versus=versus,
        segment=dict(segment or {}),
        value=value,
        low=number(found.low[place]) if value is not None else None,
        high=number(found.high[place]) if value is not None else None,
        level=found.level,
        n_users=int(found.n_users[place]),
        n_requests=n_requests,
        method=found.method,
        mde=_detectable(found, place, statistic),
        family=family,
        detail=figures(detail),
    )


def exactly(
    value: float | None,
    *,
    metric: str,
    subject: str,
    versus: str = "",
    n_users: int,
    n_requests: int,
    detail: Mapping[str, float] | None = None,
) -> Estimate:
    """A count or share that is known, not sampled; None where there was nothing to count."""
    return Estimate(
        metric=metric,
        statistic="value",
        subject=subject,
        versus=versus,
        segment={},
        value=None if value is None else number(value),
        low=None if value is None else number(value),
        high=None if value is None else number(value),
        level=1.0,
        n_users=n_users,
        n_requests=n_requests,
        method="exact",
        mde=None,
        detail=figures(detail),
    )


def figures(detail: Mapping[str, float] | None) -> dict[str, float]:
    """The figures that there are, as `number` gives them."""
    rounded = {name: number(figure) for name, figure in (detail or {}).items()}
    return {name: figure for name, figure in rounded.items() if figure is not None}


def _detectable(found: Intervals, place: tuple[int, int], statistic: Statistic) -> float | None:
    """Smallest detectable effect; None where users are all alike, because a spread of zero is no promise of power."""
    if not found.standard_error[place] > 0:
        return None
    effect = float(found.minimum_detectable_effect()[place])
    # A ratio's standard error is of its logarithm: the effect is the relative change.
    return number(math.expm1(effect)) if statistic == "ratio" and effect < 50 else number(effect)
