"""The picture of a trial: for each harm and strength what the gates said, and beside it what peers' defaults said."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from pipelines.trials.harms import BY_NAME, CLEAN
from pipelines.trials.peers import PEERS
from pipelines.trials.tallies import Rate, Tally

_ROW, _TOP, _WIDTH = 22, 84, 1080
_TEXT, _BAR, _PEER, _PEER_STEP = 300, 330, 700, 125
_BAR_WIDTH = 340
_INK, _QUIET_INK, _LINE = "#1d2733", "#5b6673", "#d9dee4"
# Told apart by lightness as well as by hue, and each named in the legend.
_FAIL, _UNSURE, _PASS = "#b3261e", "#f2c14e", "#9fc5b1"


def picture(tallies: Sequence[Tally], world: str) -> str:
    """An SVG of one world's trials.

    Args:
        tallies: In the order to draw.
        world: Label of the world whose rows are drawn.
    """
    shown = [held for held in tallies if held.world == world]
    height = _TOP + _ROW * len(shown) + (_ROW + 4) * len({held.harm for held in shown}) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="12" role="img" aria-labelledby="title">',
        f'<title id="title">What the gates said of {escape(world)}, harm by harm, beside the defaults of peers</title>',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        *_head(world),
    ]
    y, harm = _TOP, ""
    for held in shown:
        if held.harm != harm:
            harm = held.harm
            y += 6
            title = "Clean retrains (nothing wrong)" if harm == CLEAN else BY_NAME[harm].title
            parts.append(_text(16, y + 13, title, weight=600))
            y += _ROW - 2
        parts += _row(held, y)
        y += _ROW
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _head(world: str) -> list[str]:
    found = [_text(16, 28, f"Trials, {world}: what the gates said", weight=700, size=17)]
    x = 16
    for colour, name in ((_FAIL, "fail"), (_UNSURE, "insufficient"), (_PASS, "pass")):
        found.append(f'<rect x="{x}" y="44" width="14" height="12" fill="{colour}"/>')
        found.append(_text(x + 20, 55, name))
        x += 40 + 8 * len(name)
    found.append(
        _text(x + 20, 55, "share of seeds; the last columns: share that a peer's defaults flag", colour=_QUIET_INK)
    )
    for place, name in enumerate(PEERS):
        found.append(_text(_PEER + place * _PEER_STEP, _TOP - 8, name, weight=600))
    return found


def _row(held: Tally, y: int) -> list[str]:
    label = held.strength or f"{held.fail.of} seeds"
    found = [_text(_TEXT + 16, y + 13, label, anchor="end", colour=_QUIET_INK)]
    x = float(_BAR)
    for rate, colour in ((held.fail, _FAIL), (held.insufficient, _UNSURE), (held.passed, _PASS)):
        width = rate.value * _BAR_WIDTH
        if width:
            found.append(f'<rect x="{x:.1f}" y="{y + 2}" width="{width:.1f}" height="14" fill="{colour}"/>')
        x += width
    for place, name in enumerate(PEERS):
        if name in held.peers:
            found += _peer(held.peers[name], _PEER + place * _PEER_STEP, y)
    return found


def _peer(rate: Rate, x: int, y: int) -> list[str]:
    width = 60
    return [
        f'<rect x="{x}" y="{y + 5}" width="{width}" height="8" fill="{_LINE}"/>',
        f'<rect x="{x}" y="{y + 5}" width="{rate.value * width:.1f}" height="8" fill="{_FAIL}"/>',
        _text(x + width + 8, y + 13, f"{rate.value:.0%}", colour=_QUIET_INK),
    ]


def _text(
    x: float, y: float, text: str, *, weight: int = 400, size: int = 12, anchor: str = "start", colour: str = _INK
) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" font-weight="{weight}" font-size="{size}" text-anchor="{anchor}" fill="{colour}">'
        f"{escape(text)}</text>"
    )
