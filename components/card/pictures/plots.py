"""Curves and points on two axes, as places in an SVG of fixed size: reliability, validation, position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from components.card.pictures.tracks import Tick, ticks

WIDTH, HEIGHT = 400.0, 280.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 14.0, 30.0, 46.0


@dataclass(frozen=True, slots=True)
class Point:
    """A point and the ends of its interval (None where it has none), in units of the SVG."""

    x: float
    y: float
    label: str
    y_low: float | None = None
    y_high: float | None = None


@dataclass(frozen=True, slots=True)
class Plot:
    """What to draw: points, a path through them, a diagonal, ticks; all in units of the SVG."""

    x_label: str
    y_label: str
    points: tuple[Point, ...]
    path: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    diagonal: tuple[float, float, float, float] | None = None
    mark: Point | None = None
    dots: bool = True
    """Whether each point is drawn, or only the path."""
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    right: float = WIDTH - RIGHT
    top: float = TOP
    bottom: float = HEIGHT - BOTTOM


@dataclass(frozen=True, slots=True)
class _Scale:
    """Figures to places, on an axis that runs from `low` to `high`."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 2)

    def ticks(self, most: int) -> tuple[Tick, ...]:
        length = self.end - self.start
        return tuple(
            Tick(round(self.start + tick.at / 100 * length, 2), tick.label)
            for tick in ticks(self.low, self.high, most=most)
        )


def _across(low: float, high: float) -> _Scale:
    return _Scale(low, high if high > low else low + 1.0, LEFT, WIDTH - RIGHT)


def _up(low: float, high: float) -> _Scale:
    return _Scale(low, high if high > low else low + 1.0, HEIGHT - BOTTOM, TOP)


def reliability(bins: Sequence[tuple[float, float, float | None, float | None]]) -> Plot | None:
    """Predicted against observed share, both from 0 to the largest of either; None without bins.

    Args:
        bins: (predicted, observed, lower limit, upper limit) of each bin.
    """
    if not bins:
        return None
    end = max(max(p, o, high if high is not None else o) for p, o, _, high in bins) * 1.05 or 1.0
    across, up = _across(0.0, end), _up(0.0, end)
    points = tuple(
        Point(
            across.place(p),
            up.place(o),
            f"predicted {p:.3f}, observed {o:.3f}",
            None if low is None else up.place(low),
            None if high is None else up.place(high),
        )
        for p, o, low, high in bins
    )
    return Plot(
        "predicted share",
        "observed share",
        points,
        _path(points),
        across.ticks(5),
        up.ticks(5),
        diagonal=(across.place(0.0), up.place(0.0), across.place(end), up.place(end)),
    )


def curve(values: Sequence[float], *, chosen: int, x_label: str, y_label: str, dots: bool = False) -> Plot | None:
    """A figure by a whole number from 1; the `chosen` one is marked (0: none). None with fewer than two values."""
    if len(values) < 2:
        return None
    low, high = min(values), max(values)
    pad = (high - low) * 0.1 or abs(high) * 0.1 or 1.0
    across, up = _across(1.0, float(len(values))), _up(low - pad, high + pad)
    points = tuple(
        Point(across.place(float(place)), up.place(value), f"{place}: {value:.4f}")
        for place, value in enumerate(values, start=1)
    )
    ends = {1, len(values)} | ({chosen} if 0 < chosen <= len(values) else set())
    apart = (WIDTH - LEFT - RIGHT) * 0.08
    kept = [
        number
        for number in sorted(ends)
        if number == chosen or chosen not in ends or abs(points[number - 1].x - points[chosen - 1].x) >= apart
    ]
    return Plot(
        x_label,
        y_label,
        points,
        _path(points),
        tuple(Tick(points[number - 1].x, str(number)) for number in kept),
        up.ticks(4),
        mark=points[chosen - 1] if chosen in ends else None,
        dots=dots,
    )


def _path(points: Sequence[Point]) -> str:
    return "M" + " L".join(f"{point.x:g} {point.y:g}" for point in points)
