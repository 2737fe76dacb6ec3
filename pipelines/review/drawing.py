"""What keeps a picture readable: one group of three users must not stretch the axis on which hundreds are compared."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

from components.card.pictures.tracks import Mark

_WIDTHS = 4.0
"""Half-widths of a typical interval that the axis keeps free to either side of the estimates."""


def cut(marks: Sequence[Mark], *, keep: Sequence[float] = ()) -> list[Mark]:
    """The marks, their intervals cut off where they reach far beyond all estimates; the figures beside them stay whole.

    Args:
        marks: The rows of a picture.
        keep: Figures that must stay on the axis, such as a bound.
    """
    values = [mark.value for mark in marks if mark.value is not None]
    widths = [mark.high - mark.low for mark in marks if mark.low is not None and mark.high is not None]
    if not values or not widths:
        return list(marks)
    room = _WIDTHS * statistics.median(widths) / 2
    low, high = min((*values, *keep)) - room, max((*values, *keep)) + room
    return [
        replace(
            mark,
            low=None if mark.low is None else max(mark.low, low),
            high=None if mark.high is None else min(mark.high, high),
        )
        for mark in marks
    ]
