"""The log's window as one bar, true to scale: what was trained on, validated on, tested on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Part:
    """One stretch of the window: its left edge and width in percent, and what it is in words."""

    name: str
    left: float
    width: float
    text: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """Stretches in order of time, and moments (training cuts) as places in percent with their names."""

    parts: tuple[Part, ...]
    moments: tuple[tuple[float, str], ...]


def timeline(
    parts: Sequence[tuple[str, datetime, datetime, str]], moments: Sequence[tuple[str, datetime]] = ()
) -> Timeline | None:
    """Place stretches and moments on the time from the first start to the last end; None where no time passes.

    Args:
        parts: (name, start, end, words) of each stretch, in order of time.
        moments: (name, time); those outside of the window are left out.
    """
    if not parts:
        return None
    first, last = min(start for _, start, _, _ in parts), max(end for _, _, end, _ in parts)
    whole = (last - first).total_seconds()
    if whole <= 0:
        return None

    def place(at: datetime) -> float:
        return round((at - first).total_seconds() / whole * 100, 3)

    placed = tuple(
        Part(name, place(start), round(max(place(end) - place(start), 0.0), 3), text)
        for name, start, end, text in parts
    )
    return Timeline(placed, tuple((place(at), name) for name, at in moments if first <= at <= last))
