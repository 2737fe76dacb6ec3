"""A canary as a picture: each guardrail over time, its limits that hold at every look, and the bound that they are held against.

    verdicts in order of time -> timeline(...) -> SVG

One panel a guardrail, all on the same time. What lies beyond the red line is harm: a band wholly beyond it is harm shown, one
wholly on the near side harm ruled out. Nothing is measured here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

from components.rollout.contract import GuardrailResult, StepVerdict

_WIDTH, _LEFT, _RIGHT, _TOP = 960, 250, 190, 92
_PANEL, _GAP = 74, 16
_INK, _QUIET, _LINE = "#1d2733", "#5b6673", "#d9dee4"
_BAND, _VALUE, _HARM, _GOOD, _UNSURE = "#c9d7ea", "#2b5797", "#b3261e", "#2e7d57", "#8a6d1b"
_SAID = {
    "harm": ("harm shown", _HARM),
    "within": ("ruled out", _GOOD),
    "insufficient": ("not settled", _UNSURE),
    "missing": ("not read", _HARM),
    "void": ("void", _HARM),
}
_Scale = Callable[[float], float]
"""Figures to places."""
_DONE = {"continue": "goes on", "hold": "holds", "roll_back": "rolled back"}


def timeline(verdicts: Sequence[StepVerdict], *, title: str, names: Mapping[str, str]) -> str:
    """An SVG of a canary so far.

    Args:
        verdicts: In order of time; at most a few hundred are drawn, evenly chosen.
        title: Heading.
        names: Words for each guardrail (`id` or `id@segment`) that gets a panel, in the order of panels.

    Raises:
        ValueError: If there is no verdict.
    """
    if not verdicts:
        raise ValueError("verdicts: found none; needed at least one.")
    drawn = _thinned(verdicts)
    begin, end = drawn[0].at, max(drawn[-1].at, drawn[0].at + 1)
    height = _TOP + (_PANEL + _GAP) * len(names) + 34

    def x(at: float) -> float:
        return _LEFT + (at - begin) / (end - begin) * (_WIDTH - _LEFT - _RIGHT)

    last = drawn[-1]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="12" role="img" aria-labelledby="title">',
        f'<title id="title">{escape(title)}</title>',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(16, 28, title, weight=700, size=17),
        _text(16, 48, f"{_DONE[last.action]}: {_short(last.reason, 130)}", colour=_QUIET),
    ]
    parts += _steps(drawn, x, height)
    for place, (key, words) in enumerate(names.items()):
        parts += _panel(drawn, key, words, _TOP + place * (_PANEL + _GAP), x)
    parts += _axis(begin, end, x, height)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _thinned(verdicts: Sequence[StepVerdict], most: int = 300) -> list[StepVerdict]:
    if len(verdicts) <= most:
        return list(verdicts)
    chosen = sorted({round(place * (len(verdicts) - 1) / (most - 1)) for place in range(most)})
    return [verdicts[place] for place in chosen]


def _steps(drawn: Sequence[StepVerdict], x: _Scale, height: float) -> list[str]:
    parts = []
    for place, verdict in enumerate(drawn):
        if place and verdict.step == drawn[place - 1].step:
            continue
        parts.append(_line(x(verdict.at), 66, x(verdict.at), height - 30, colour=_LINE))
        parts.append(_text(x(verdict.at) + 4, 76, f"{100 * verdict.share:g} %", colour=_QUIET))
    if drawn[-1].action == "roll_back":
        parts.append(_line(x(drawn[-1].at), 66, x(drawn[-1].at), height - 30, colour=_HARM, wide=2))
    return parts


def _panel(drawn: Sequence[StepVerdict], key: str, words: str, top: float, x: _Scale) -> list[str]:
    guardrail, _, segment = key.partition("@")
    found = [
        (verdict.at, result)
        for verdict in drawn
        for result in verdict.results
        if result.guardrail == guardrail and result.segment == segment
    ]
    parts = [
        f'<rect x="{_LEFT}" y="{top}" width="{_WIDTH - _LEFT - _RIGHT}" height="{_PANEL}" fill="none" stroke="{_LINE}"/>'
    ]
    parts += [_text(16, top + 20 + 16 * row, text, weight=600) for row, text in enumerate(_wrapped(words, 30))]
    known = [(at, result) for at, result in found if result.estimate is not None]
    if not known:
        return [*parts, _text(_LEFT + 10, top + _PANEL / 2, "nothing was read", colour=_QUIET)]
    bound = known[-1][1].bound
    y = _up(known, bound, top)
    band = [(at, r) for at, r in known if r.low is not None and r.high is not None]
    if band:
        edge = [f"{x(at):.1f},{y(r.high):.1f}" for at, r in band if r.high is not None]
        back = [f"{x(at):.1f},{y(r.low):.1f}" for at, r in reversed(band) if r.low is not None]
        parts.append(f'<polygon points="{" ".join(edge + back)}" fill="{_BAND}"/>')
    line = " ".join(f"{x(at):.1f},{y(r.estimate):.1f}" for at, r in known if r.estimate is not None)
    parts.append(f'<polyline points="{line}" fill="none" stroke="{_VALUE}" stroke-width="1.5"/>')
    parts.append(_line(_LEFT, y(bound), _WIDTH - _RIGHT, y(bound), colour=_HARM, dashed=True))
    parts.append(_text(_LEFT - 6, y(bound) + 4, _figure(bound), anchor="end", colour=_HARM))
    said, colour = _SAID[found[-1][1].answer]
    parts.append(_text(_WIDTH - _RIGHT + 12, top + 26, said, weight=600, colour=colour))
    parts.append(_text(_WIDTH - _RIGHT + 12, top + 44, _limits(known[-1][1]), colour=_QUIET))
    if known[-1][1].n:
        parts.append(_text(_WIDTH - _RIGHT + 12, top + 60, f"{known[-1][1].n} {known[-1][1].unit}", colour=_QUIET))
    return parts


def _up(known: Sequence[tuple[float, GuardrailResult]], bound: float, top: float) -> _Scale:
    """From the figures shown: the bound, the estimates, and the limits once they have come near (early ones reach far)."""
    values = [bound, *(r.estimate for _, r in known if r.estimate is not None)]
    late = known[len(known) // 3 :]
    values += [limit for _, r in late for limit in (r.low, r.high) if limit is not None and math.isfinite(limit)]
    low, high = min(values), max(values)
    pad = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    low, high = low - pad, high + pad

    def up(value: float) -> float:
        inside = min(max(value, low), high)
        return top + _PANEL - (inside - low) / (high - low) * _PANEL

    return up


def _axis(begin: float, end: float, x: _Scale, height: float) -> list[str]:
    minutes = (end - begin) / 60
    unit, size, name = (1.0, 60.0, "min") if minutes <= 180 else (60.0, 3600.0, "h")
    step = _round_step(minutes / unit / 6)
    count = int(minutes / unit / step + 1e-9)
    parts = []
    for tick in range(count + 1):
        at = begin + tick * step * size
        parts.append(_text(x(at), height - 12, f"{tick * step:g} {name}", anchor="middle", colour=_QUIET))
    return parts


def _round_step(least: float) -> float:
    """1, 2 or 5 times a power of ten, not below `least`."""
    size = 10.0 ** math.floor(math.log10(max(least, 1e-9)))
    return next(size * factor for factor in (1, 2, 5, 10) if size * factor >= least)


def _limits(result: GuardrailResult) -> str:
    if result.low == result.high:
        return _figure(result.estimate)
    return f"{_figure(result.low)} to {_figure(result.high)}"


def _figure(value: float | None) -> str:
    return "?" if value is None or not math.isfinite(value) else f"{value:.3g}"


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: text.rfind(" ", 0, most)] + " ..."


def _wrapped(text: str, most: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > most:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _line(x: float, y: float, to_x: float, to_y: float, *, colour: str, dashed: bool = False, wide: int = 1) -> str:
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" stroke="{colour}" stroke-width="{wide}"{dash}/>'


def _text(
    x: float, y: float, text: str, *, weight: int = 400, size: int = 12, anchor: str = "start", colour: str = _INK
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-weight="{weight}" font-size="{size}" text-anchor="{anchor}" fill="{colour}">'
        f"{escape(text)}</text>"
    )
