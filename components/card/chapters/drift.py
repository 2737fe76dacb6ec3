"""Drift: how far each input, the score and the crowd moved, against how far they use to move."""

from __future__ import annotations

from components.card.chapters.looking import MOST_MARKS, absent, estimates, notes, sentences
from components.card.parts import Picture, Section, Table
from components.card.pictures.tracks import Mark, tracks
from components.card.sources import Opened
from components.card.words import counted, figure, interval, listed, share
from components.evidence.contract import Estimate

_TITLE = "Drift"
_ASKS = "Have the inputs or the crowd moved between validation and test, by more than they use to?"
_WHOLE = ("score", "label")
"""Columns that are no input but what all inputs come to; they stand first."""
_MIX = "mix_distance"


def drift(opened: Opened) -> Section:
    """Score, outcome and crowd first, then the features by their weight in the model."""
    if missing := absent(opened, "drift", "drift", _TITLE, _ASKS):
        return missing
    found = [e for e in estimates(opened, "drift") if e.metric in ("distance", _MIX)]
    found.sort(key=lambda e: (_place(e), -e.detail.get("importance", 0.0), e.subject))
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


def _place(estimate: Estimate) -> int:
    return 0 if estimate.subject in _WHOLE else 1 if estimate.metric == _MIX else 2


def _note(estimate: Estimate) -> str:
    if estimate.subject in _WHOLE:
        return ""
    return (
        "of requests" if estimate.metric == _MIX else f"{share(estimate.detail.get('importance', 0.0), 0)} of the model"
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
            note=_note(e),
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
    reading = (
        "What comes out of the model first, then who asks and from where, then the model’s inputs by their weight."
    )
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
    headers = ("column", "weight", "distance", "threshold", "usual at most", "missing then", "missing now")
    return Picture(
        "Distance of each column from its validation period",
        takeaway,
        reading,
        Table("Every column as a table", headers, rows),
        tracks=tracks(marks, reference=0.0),
        key=(
            (
                "threshold",
                "the column’s own threshold: what one earlier window in a hundred would exceed, at least 0.1",
            ),
        ),
    )
