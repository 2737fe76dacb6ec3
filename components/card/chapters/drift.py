"""Drift: how far each input moved, against how far it used to move."""

from __future__ import annotations

from components.card.chapters.looking import MOST_MARKS, absent, estimates, notes, sentences
from components.card.parts import Picture, Section, Table
from components.card.pictures.tracks import Mark, tracks
from components.card.sources import Opened
from components.card.words import counted, figure, interval, listed, share
from components.evidence.contract import Estimate

_TITLE = "Drift"
_ASKS = "Have the inputs moved between validation and test, by more than they used to?"
_WHOLE = ("score", "label")
"""Columns that are no input but what all inputs come to; they stand first."""


def drift(opened: Opened) -> Section:
    """Score and outcome first, then the features by their weight in the model."""
    if missing := absent(opened, "drift", "drift", _TITLE, _ASKS):
        return missing
    found = [e for e in estimates(opened, "drift") if e.metric == "distance"]
    found.sort(key=lambda e: (e.subject not in _WHOLE, -e.detail.get("importance", 0.0), e.subject))
    picture = _picture(found) if found else None
    return Section(
        "drift",
        _TITLE,
        _ASKS,
        sentences(opened, "drift"),
        (picture,) if picture else (),
        (),
        notes(opened, "drift"),
    )


def moved(estimate: Estimate) -> bool:
    """Whether the whole interval lies above the column's own threshold."""
    threshold = estimate.detail.get("threshold")
    return threshold is not None and estimate.low is not None and estimate.low > threshold


def _picture(found: list[Estimate]) -> Picture:
    marks = [
        Mark(
            e.subject,
            e.value,
            e.low,
            e.high,
            interval(e, 2),
            note="" if e.subject in _WHOLE else f"{share(e.detail.get('importance', 0.0), 0)} of the model",
            tone="bad" if moved(e) else "plain",
            threshold=e.detail.get("threshold"),
        )
        for e in found[:MOST_MARKS]
    ]
    over = [e.subject for e in found if moved(e)]
    takeaway = (
        f"{len(over)} of {counted(len(found), 'column')} moved beyond their threshold: {listed(over)}."
        if over
        else f"None of {counted(len(found), 'column')} is shown to have moved beyond its threshold."
    )
    reading = "What comes out of the model first, then its inputs by their weight."
    if len(found) > len(marks):
        reading += f" The first {len(marks)} are shown; the table has all {len(found)}."
    rows = tuple(
        (
            e.subject,
            share(e.detail.get("importance", 0.0)),
            interval(e),
            figure(e.detail.get("threshold")),
            figure(e.detail.get("null")),
            share(e.detail.get("missing_reference")),
            share(e.detail.get("missing_current")),
        )
        for e in found
    )
    headers = ("column", "weight", "distance", "threshold", "most it moved before", "missing then", "missing now")
    return Picture(
        "Distance of each column from its validation period",
        takeaway,
        reading,
        Table("Every column as a table", headers, rows),
        tracks=tracks(marks, reference=0.0),
        key=(("threshold", "the column’s own threshold: as far as it moved before, at least 0.1"),),
    )
