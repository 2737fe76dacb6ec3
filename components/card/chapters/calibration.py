"""Scores as chances: what the calibrated score says against what came."""

from __future__ import annotations

from components.card.chapters.looking import absent, estimates, notes, sentences
from components.card.parts import Picture, Section, Table
from components.card.pictures.plots import reliability
from components.card.sources import Opened
from components.card.words import DASH, count, counted, figure, interval, metric, segment

_TITLE = "Scores as chances"
_ASKS = "When the score says one in five, is it one in five?"


def calibration(opened: Opened) -> Section:
    """The reliability diagram, and every group's gap."""
    if missing := absent(opened, "calibration", "calibration", _TITLE, _ASKS):
        return missing
    picture = _picture(opened)
    return Section(
        "calibration",
        _TITLE,
        _ASKS,
        sentences(opened, "calibration"),
        (picture,) if picture else (),
        (_overall(opened), _by_group(opened)),
        notes(opened, "calibration"),
    )


def _picture(opened: Opened) -> Picture | None:
    rows = opened.tables.get("calibration.bins", [])
    known = [row for row in rows if row.get("predicted") is not None and row.get("observed") is not None]
    plot = reliability([(r["predicted"], r["observed"], r["observed_low"], r["observed_high"]) for r in known])
    if plot is None:
        return None
    farthest = max(known, key=lambda row: abs(row["observed"] - row["predicted"]))
    table = tuple(
        (
            f"{figure(r['lowest'])} to {figure(r['highest'])}",
            figure(r["predicted"]),
            figure(r["observed"]),
            f"{figure(r['observed_low'])} to {figure(r['observed_high'])}" if r["observed_low"] is not None else DASH,
            count(r["rows"]),
            count(r["users"]),
        )
        for r in known
    )
    return Picture(
        "Predicted against observed",
        f"Of {counted(len(known), 'bin')} the farthest from the diagonal says {figure(farthest['predicted'])} where "
        f"{figure(farthest['observed'])} came.",
        "Each dot is a bin of the test rows with its interval. On the dashed diagonal, of a hundred items told a chance of "
        "20% just twenty lead to an outcome.",
        Table(
            "These figures as a table",
            ("predicted between", "mean predicted", "observed", "interval", "rows", "users"),
            table,
        ),
        plot=plot,
    )


def _overall(opened: Opened) -> Table:
    found = [e for e in estimates(opened, "calibration") if not e.segment]
    rows = tuple((metric(e.metric), interval(e, 4), count(e.n_users)) for e in found)
    return Table("Calibration of the whole", ("figure", "found", "users"), rows)


def _by_group(opened: Opened) -> Table:
    found = [e for e in estimates(opened, "calibration") if e.segment and e.metric == "calibration_gap"]
    found.sort(key=lambda e: (len(e.segment), segment(e.segment)))
    rows = tuple((segment(e.segment), interval(e, signed=True), count(e.n_users)) for e in found)
    return Table("Observed less predicted share, by group", ("group", "gap", "users"), rows)
