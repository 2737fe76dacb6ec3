"""Curves as points of an SVG of fixed size: the reliability diagram and the validation curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from components.card.pictures.tracks import Tick, ticks

WIDTH, HEIGHT = 320.0, 220.0
LEFT, BOTTOM, TOP, RIGHT = 40.0, 28.0, 8.0, 10.0


@dataclass(frozen=True, slots=True)
class Point:
    """A point, and the ends of its interval (equal to `y` where there is none); in units of the SVG."""

    x: float
    y: float
    y_low: float
    y_high: float
    label: str


@dataclass(frozen=True, slots=True)
class Plot:
    """What to draw: points, a path through them, the diagonal's ends, ticks in units of the SVG."""

    points: tuple[Point, ...]
    path: str
    diagonal: tuple[float, float, float, float] | None
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    mark: Point | None = None


def _scales(x_end: float, y_low: float, y_high: float) -> tuple[float, float]:
    return (WIDTH - LEFT - RIGHT) / (x_end or 1.0), (HEIGHT - TOP - BOTTOM) / ((y_high - y_low) or 1.0)


def reliability(bins: Sequence[tuple[float, float, float | None, float | None]]) -> Plot | None:
    """Predicted against observed share, both from 0 to the largest of either; None without bins.

    Args:
        bins: (predicted, observed, lower limit, upper limit) of each bin.
    """
    if not bins:
        return None
    end = max(max(p, o, high if high is not None else o) for p, o, _, high in bins) * 1.05 or 1.0
    sx, sy = _scales(end, 0.0, end)

    def x(value: float) -> float:
        return round(LEFT + value * sx, 2)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - value * sy, 2)

    points = tuple(
        Point(
            x(p),
            y(o),
            y(o if low is None else low),
            y(o if high is None else high),
            f"predicted {p:.3f}, observed {o:.3f}",
        )
        for p, o, low, high in bins
    )
    placed = ticks(0.0, end)
    return Plot(
        points,
        _path(points),
        (x(0.0), y(0.0), x(end), y(end)),
        tuple(Tick(x(end * tick.at / 100), tick.label) for tick in placed),
        tuple(Tick(y(end * tick.at / 100), tick.label) for tick in placed),
    )


def curve(values: Sequence[float], *, chosen: int) -> Plot | None:
    """A metric by number of trees; `chosen` (1-based) is marked. None without values."""
    if not values:
        return None
    low, high = min(values), max(values)
    pad = (high - low) * 0.1 or abs(high) * 0.1 or 1.0
    low, high = low - pad, high + pad
    sx, sy = _scales(max(len(values) - 1, 1), low, high)
    points = tuple(
        Point(
            round(LEFT + place * sx, 2),
            round(HEIGHT - BOTTOM - (value - low) * sy, 2),
            0.0,
            0.0,
            f"{place + 1} trees: {value:.4f}",
        )
        for place, value in enumerate(values)
    )
    mark = points[chosen - 1] if 0 < chosen <= len(points) else None
    last = len(values)
    x_ticks = tuple(
        Tick(points[number - 1].x, str(number)) for number in sorted({1, chosen, last}) if 0 < number <= last
    )
    y_ticks = tuple(
        Tick(round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * tick.at / 100, 2), tick.label)
        for tick in ticks(low, high, most=4)
    )
    return Plot(points, _path(points), None, x_ticks, y_ticks, mark)


def _path(points: Sequence[Point]) -> str:
    return "M" + " L".join(f"{point.x:g} {point.y:g}" for point in points)
