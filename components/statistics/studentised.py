"""Limits from an estimate, its standard error and their resamples: bootstrap-t, alone or simultaneous over families.

Why these limits and no others, with figures: docs/decisions/0010-intervals.md.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from components.statistics.power import normal_critical

Floats = NDArray[np.float64]
Sides = tuple[NDArray[np.bool_], NDArray[np.bool_]]


def critical_values(pivots: Floats, *, level: float) -> tuple[Floats, Floats]:
    """Standard errors to go below and above each estimate.

    Args:
        pivots: Studentised resamples (resample - estimate) / standard error of the resample, shape (..., resamples);
            infinite where a resample has no spread of its own, NaN where it has fewer than two users: those are left
            out, because how many users a resample happens to have says nothing about their values.
        level: Two-sided confidence.

    Returns:
        Two arrays of shape (...), each >= 0, infinite where too many resamples are. Skewed values make them differ: the
        limits of a mean of mostly zeros reach further up than down.
    """
    tail = (1 - level) / 2
    ordered = np.sort(pivots, axis=-1)  # NaN last
    last = np.maximum(np.sum(~np.isnan(pivots), axis=-1) - 1, 0)
    # The nearest resample outward: never a little too narrow.
    outer = np.minimum(np.ceil((1 - tail) * last).astype(np.intp), last)
    inner = np.floor(tail * last).astype(np.intp)
    below = np.take_along_axis(ordered, outer[..., None], axis=-1)[..., 0]
    above = -np.take_along_axis(ordered, inner[..., None], axis=-1)[..., 0]
    unknown = np.isnan(below) | np.isnan(above)
    return np.where(unknown, np.inf, np.maximum(below, 0.0)), np.where(unknown, np.inf, np.maximum(above, 0.0))


def tail_bounded(pivots: Floats, degrees: Floats, tails: Sides, *, level: float) -> tuple[Floats, Floats]:
    """`critical_values`, on sides that have a tail (low, high) not below Student's for these degrees of freedom."""
    below, above = critical_values(pivots, level=level)
    student = student_critical(degrees, level=level)
    return np.where(tails[0], np.fmax(below, student), below), np.where(tails[1], np.fmax(above, student), above)


def simultaneous_values(pivots: Floats, degrees: Floats, tails: Sides, *, level: float) -> tuple[Floats, Floats]:
    """Critical values with which all members of a family hold together: max-t on limits of equal chance.

    Each pivot is measured in its own critical value on its own side, so that a small skewed group does not dictate the
    width of a large one; the quantile of the largest of them widens all alike. One member alone keeps its own values. A
    member with infinite resamples (so few users differ that some resamples hold none) would make the largest infinite
    for all: it stands apart with its even share of the permitted error (Bonferroni).

    Args:
        pivots: Shape (members, resamples).
        degrees: Shape (members,).
        tails: As in `tail_bounded`, shape (members,) each.
        level: Confidence that all intervals hold.
    """
    members = pivots.shape[0]
    below, above = np.empty(members), np.empty(members)
    apart = np.isinf(pivots).any(axis=-1)
    share = (1 - level) / max(members, 1)
    for chosen, joint in ((apart, 1 - share), (~apart, 1 - share * int((~apart).sum()))):
        if not chosen.any():
            continue
        own_tails = (tails[0][chosen], tails[1][chosen])
        own = joint if chosen is apart else level
        below[chosen], above[chosen] = tail_bounded(pivots[chosen], degrees[chosen], own_tails, level=own)
        if chosen is not apart:
            factor = _family_factor(pivots[chosen], below[chosen], above[chosen], level=joint)
            below[chosen] *= factor
            above[chosen] *= factor
    return below, above


def _family_factor(pivots: Floats, below: Floats, above: Floats, *, level: float) -> float:
    usable = (below > 0) & (above > 0)
    if not usable.any():
        return 1.0
    chosen = pivots[usable]
    relative = np.where(chosen > 0, chosen / below[usable, None], -chosen / above[usable, None])
    largest = np.where(np.isnan(relative), 0.0, relative).max(axis=0)
    return max(float(np.quantile(largest, level, method="higher")), 1.0)


def student_critical(degrees: Floats, *, level: float | Floats) -> Floats:
    """Standard errors on each side of a mean in Student's interval; NaN below one degree of freedom.

    Degrees are rounded down, and above 200 an expansion takes over; either agrees with exact quantiles to 1e-7.

    Source: Abramowitz and Stegun (1964), 26.7.3, 26.7.4 and 26.7.5.
    """
    levels = np.broadcast_to(level, np.shape(degrees)).ravel().tolist()
    pairs = zip(np.ravel(degrees).tolist(), levels, strict=True)
    flat = [math.nan if not d >= 1 else _student(int(min(d, 1e9)), one_level) for d, one_level in pairs]
    return np.array(flat, dtype=np.float64).reshape(np.shape(degrees))


@lru_cache(maxsize=4096)
def _student(degrees: int, level: float) -> float:
    z = normal_critical(level)
    if degrees > 200:
        z3, z5, z7 = z**3, z**5, z**7
        return (
            z
            + (z3 + z) / (4 * degrees)
            + (5 * z5 + 16 * z3 + 3 * z) / (96 * degrees**2)
            + (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * degrees**3)
        )
    # The share within +-t grows with the angle atan(t / sqrt(degrees)), which has both ends.
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _share_within(middle, degrees) < level else (low, middle)
    return math.tan((low + high) / 2) * math.sqrt(degrees)


def _share_within(angle: float, degrees: int) -> float:
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2 == 1
    term, total = (cosine, cosine) if odd else (1.0, 1.0)
    for step in range(2 if odd else 1, degrees - 1, 2):
        term *= cosine**2 * step / (step + 1)
        total += term
    if not odd:
        return sine * total
    return 2 / math.pi * (angle + (sine * total if degrees > 1 else 0.0))
