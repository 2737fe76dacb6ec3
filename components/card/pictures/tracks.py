"""Rows of dots with intervals on one shared axis: quality, groups, providers, drift."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_MARGIN = 0.06


@dataclass(frozen=True, slots=True)
class Mark:
    """One row's figures: a value with its interval (None where unknown), a threshold of its own, and a tone."""

    label: str
    value: float | None
    low: float | None
    high: float | None
    figure: str
    """The figures as text."""
    note: str = ""
    tone: str = "plain"
    """plain, own (the candidate among others), main (coloured like it, all rows alike), bad or good: what CSS colours by."""
    threshold: float | None = None
    ring: float | None = None
    """A second figure to hold the value against, drawn as a ring."""
    bar: bool = False
    """Drawn as a bar from the reference instead of a dot."""


@dataclass(frozen=True, slots=True)
class PlacedMark:
    """A mark with its places on the track, in percent; None where there is nothing to draw."""

    mark: Mark
    at: float | None
    left: float | None
    right: float | None
    threshold: float | None
    ring: float | None


@dataclass(frozen=True, slots=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Tracks:
    """A drawn set of rows: marks, axis ticks, a reference line and a shaded band."""

    marks: tuple[PlacedMark, ...]
    ticks: tuple[Tick, ...]
    reference: float | None
    band: tuple[float, float] | None
    """Left edge and width of the shaded band."""


def tracks(
    marks: Sequence[Mark],
    *,
    reference: float | None = None,
    band: tuple[float, float] | None = None,
    signed: bool = False,
) -> Tracks:
    """Place marks on one axis that holds every finite figure, the reference and the band's inner edge.

    Args:
        marks: The rows, in the order drawn.
        reference: Where the reference line stands.
        band: Values that the shaded band covers; infinite ends reach the axis's end.
        signed: Whether ticks show their sign.
    """
    figures = [
        figure
        for mark in marks
        for figure in (mark.value, mark.low, mark.high, mark.threshold, mark.ring)
        if figure is not None and math.isfinite(figure)
    ]
    figures += [reference] if reference is not None else []
    figures += [edge for edge in band or () if math.isfinite(edge)]
    low, high = (min(figures), max(figures)) if figures else (0.0, 1.0)
    spread = (high - low) or abs(high) or 1.0
    # Nothing lies left of a share's zero.
    low = low if low == 0 and reference == 0 and not signed else low - spread * _MARGIN
    high += spread * _MARGIN

    def place(value: float | None) -> float | None:
        if value is None or math.isnan(value):
            return None
        if math.isinf(value):
            return 100.0 if value > 0 else 0.0
        return round(min(max((value - low) / (high - low), 0.0), 1.0) * 100, 2)

    placed = tuple(
        PlacedMark(mark, place(mark.value), place(mark.low), place(mark.high), place(mark.threshold), place(mark.ring))
        for mark in marks
    )
    shaded = None
    if band is not None:
        left, right = place(band[0]) or 0.0, place(band[1])
        shaded = (left, round((100.0 if right is None else right) - left, 2))
    return Tracks(placed, ticks(low, high, signed=signed), place(reference), shaded)


def ticks(low: float, high: float, *, signed: bool = False, most: int = 5) -> tuple[Tick, ...]:
    """Round values between two ends, at most `most` of them."""
    step = _round_step((high - low) / most)
    first = math.ceil(low / step)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    form = f"{{:{'+' if signed else ''}.{decimals}f}}"
    found = []
    number = first
    while number * step <= high:
        value = number * step
        text = form.format(value).replace("-", "\N{MINUS SIGN}") if number else "0"
        found.append(Tick(round((value - low) / (high - low) * 100, 2), text))
        number += 1
    return tuple(found)


def _round_step(rough: float) -> float:
    """The next of 1, 2, 5 times a power of ten at or above `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
