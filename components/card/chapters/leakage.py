"""Leakage: what the features know that nobody can know when the model is asked."""

from __future__ import annotations

from components.card.chapters.looking import MOST_MARKS, absent, beyond, estimates, harm_band, notes, sentences
from components.card.parts import Picture, Section, Table
from components.card.pictures.tracks import Mark, tracks
from components.card.sources import Opened
from components.card.words import DASH, count, counted, figure, interval, share
from components.evidence.contract import Estimate
from components.ranker.contract import CANDIDATE

_TITLE = "Leakage"
_ASKS = "Do the features know what nobody can know when the model is asked?"
_COIN = 0.5
_SPLITS = {"test": "test", "train": "training"}
_OVERLAPS = {
    "requests": "Requests in more than one split",
    "rows": "The same user, item and moment in more than one split",
    "labels of train": "Training rows whose label was not complete when validation began",
    "labels of validation": "Validation rows whose label was not complete when test began",
}


def leakage(opened: Opened) -> Section:
    """Single features beside the whole model, then every feature without the future, then what splits share."""
    if missing := absent(opened, "leakage", "leakage", _TITLE, _ASKS):
        return missing
    found = estimates(opened, "leakage")
    picture = _picture(opened, found)
    tables = (_without_future(found), _shared(found))
    return Section(
        "leakage",
        _TITLE,
        _ASKS,
        sentences(opened, "leakage"),
        (picture,) if picture else (),
        tuple(table for table in tables if table.rows),
        notes(opened, "leakage"),
    )


def _picture(opened: Opened, found: tuple[Estimate, ...]) -> Picture | None:
    """The strongest single features and, where it can be said, the whole model on the same rows."""
    split = next((name for name in _SPLITS if _values(found, f"power@{name}")), "")
    if not split:
        return None
    known = sorted(_values(found, f"power@{split}").values(), key=lambda e: (-(e.value or 0.0), e.subject))
    other = _values(found, "power@train") if split == "test" else {}
    model = _values(found, f"model_power@{split}").get(CANDIDATE)
    band = harm_band(opened, "leakage", f"power@{split}", "value")
    marks = (
        [Mark("the whole model", model.value, model.low, model.high, interval(model, 2), tone="own")] if model else []
    )
    for e in known[: MOST_MARKS - len(marks)]:
        ring = other[e.subject].value if e.subject in other else None
        tone = "bad" if beyond(e, band) else "plain"
        marks.append(Mark(e.subject, e.value, e.low, e.high, interval(e, 2), tone=tone, ring=ring))
    rows = "Test" if split == "test" else "Training"
    best = known[0]
    takeaway = f"Of {counted(len(known), 'feature')} {best.subject} alone orders most pairs: {interval(best, 2)}"
    takeaway += f"; the whole model {interval(model, 2)}." if model else "."
    shown = len(marks) - bool(model)
    reading = (
        f"{rows} rows. Of two items of one request, one taken and one not, the share of pairs in which the feature alone puts "
        "the taken one first; at the dashed line it is a coin, at 1 the feature is the answer."
    )
    if len(known) > shown:
        reading += f" The {shown} strongest are shown; the table has all {len(known)}."
    told, requests = _values(found, f"told@{split}"), _values(found, f"outcome_told@{split}")
    table = tuple(
        (
            e.subject,
            interval(e, 3),
            interval(other[e.subject], 3) if e.subject in other else DASH,
            interval(told[e.subject], 3) if e.subject in told else DASH,
            interval(requests[e.subject], 3) if e.subject in requests else DASH,
            count(e.n_users),
        )
        for e in known
    )
    headers = (
        "feature",
        "pairs ordered",
        "on training rows",
        "of the label told",
        "of a request’s success told",
        "users",
    )
    return Picture(
        "How well single features order what was shown",
        takeaway,
        reading,
        Table("Every feature as a table", headers, table),
        tracks=tracks(marks, reference=_COIN, band=band),
        key=(
            ("dot", f"on {_SPLITS[split]} rows"),
            *((("ring", "on training rows"),) if other else ()),
            *((("band", "beyond the policy’s bound"),) if band else ()),
        ),
    )


def _values(found: tuple[Estimate, ...], metric: str) -> dict[str, Estimate]:
    return {e.subject: e for e in found if (e.metric, e.statistic) == (metric, "value") and e.value is not None}


def _without_future(found: tuple[Estimate, ...]) -> Table:
    """Every feature that was made again, those that changed first."""
    made = [e for e in found if e.metric == "changed_without_future"]
    made.sort(key=lambda e: (e.value is not None, -(e.value or 0.0), e.subject))
    rows = tuple(
        (
            e.subject,
            DASH if e.value is None else count(e.value),
            count(e.detail.get("values", 0.0)),
            figure(e.detail.get("largest")),
        )
        for e in made
    )
    headers = ("feature", "values that changed", "of", "by at most")
    return Table("Features made again from a log that ends earlier", headers, rows, shown=any(e.value for e in made))


def _shared(found: tuple[Estimate, ...]) -> Table:
    """What training and test share, and when things were known."""
    rows = [
        (_OVERLAPS[e.subject], DASH if e.value is None else count(e.value), count(e.detail.get("of", 0.0)))
        for e in found
        if e.metric == "overlap" and e.subject in _OVERLAPS
    ]
    words = {
        "early_arrivals": "Events that arrived before they happened",
        "same_arrival_share": "Events that arrived the moment they happened",
        "early_outcome_share": "Outcomes dated before what they followed was shown",
        "returning_users": "Test users who were in training as well (no leak)",
    }
    for metric, said in words.items():
        for e in (held for held in found if held.metric == metric):
            value = count(e.value or 0.0) if metric == "early_arrivals" else share(e.value)
            rows.append((said, DASH if e.value is None else value, count(e.detail.get("of", 0.0))))
    return Table("What splits share, and when things were known", ("what", "found", "of"), tuple(rows))
