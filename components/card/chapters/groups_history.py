"""Users by how much was known of them before the test: groups that no contract has to declare."""

from __future__ import annotations

from collections.abc import Iterable

from components.card.chapters.looking import beyond, harm_band
from components.card.parts import Picture, Table
from components.card.pictures.tracks import Mark, tracks
from components.card.sources import Opened
from components.card.words import DASH, count, counted, interval, metric, segment
from components.evidence.contract import Estimate, Statistic


def is_declared(estimate: Estimate) -> bool:
    """Whether the dataset contract names the group that an estimate is of."""
    return bool(estimate.detail.get("declared", 1.0))


def judged_gap(opened: Opened, among: Iterable[Estimate], main: str) -> tuple[Statistic, tuple[float, float] | None]:
    """The statistic that the policy holds against a margin for these groups, and its harmful side; the difference if none."""
    among = list(among)
    statistics: tuple[Statistic, ...] = ("difference", "ratio")
    for statistic in statistics:
        if band := harm_band(opened, "fairness-users", main, statistic, among=among):
            return statistic, band
    return "difference", None


def history(opened: Opened, found: tuple[Estimate, ...], main: str) -> Picture | None:
    """How far little-known users are from the rest; None where there are no such groups."""
    ours = [e for e in found if e.metric == main and not is_declared(e)]
    statistic, band = judged_gap(opened, ours, main)
    gaps = [e for e in ours if e.statistic == statistic]
    if not any(e.value is not None for e in gaps):
        return None
    signed = statistic == "difference"
    marks = [
        Mark(
            segment(e.segment),
            e.value,
            e.low,
            e.high,
            interval(e, signed=signed),
            note=counted(e.n_users, "user"),
            tone="bad" if beyond(e, band) else "plain",
        )
        for e in gaps
    ]
    changes = {segment(e.segment): e for e in ours if e.statistic == "change"}
    rows = tuple(
        (
            name := segment(e.segment),
            count(e.n_users),
            interval(e, signed=signed),
            interval(changes[name], signed=True) if name in changes else DASH,
        )
        for e in gaps
    )
    headers = ("outcomes known before the test", "users", "against the rest", "change against incumbent")
    return Picture(
        f"{metric(main)} by how much was known of a user, {'less that' if signed else 'as a ratio to that'} of the rest",
        _takeaway(gaps, changes, band, signed=signed),
        "Nobody ranks as well for a user of whom nothing is known: being left of the dashed line is no harm by itself, moving "
        "left is.",
        Table("These figures as a table", headers, rows),
        tracks=tracks(marks, reference=0.0 if signed else 1.0, band=band, signed=signed),
        key=(("band", "beyond the policy’s margin"),) if band else (),
    )


def _takeaway(
    gaps: list[Estimate], changes: dict[str, Estimate], band: tuple[float, float] | None, *, signed: bool
) -> str:
    first = next(e for e in gaps if e.value is not None)
    text = f"{segment(first.segment)}: {interval(first, signed=signed)} on {counted(first.n_users, 'user')}"
    text = text[0].upper() + text[1:]
    changed = changes.get(segment(first.segment))
    if changed:
        text += f"; since the incumbent the gap moved by {interval(changed, signed=True)}"
    if band is None:
        return f"{text}. The policy sets no margin here."
    over = [segment(e.segment) for e in gaps if beyond(e, band)]
    return f"{text}. Shown to lie beyond the policy’s margin: {', '.join(over) or 'none'}."
