"""Stand-ins: what the model's inputs, and its lists, give away of an attribute that it never sees."""

from __future__ import annotations

from components.card.chapters.looking import MOST_MARKS, absent, beyond, estimates, harm_band, notes, sentences
from components.card.parts import Picture, Section, Table
from components.card.pictures.tracks import Mark, tracks
from components.card.sources import Opened
from components.card.words import count, counted, figure, interval, listed, number, segment, share
from components.evidence.contract import Estimate

_TITLE = "Stand-ins for sensitive attributes"
_ASKS = "Could the inputs stand in for an attribute that the model must not see?"
_GUESS = 0.5
_WHAT_AUC_IS = "At the dashed line it is a guess; at 1 it is certain"


def proxies(opened: Opened) -> Section:
    """All inputs at once by value, then each attribute's features."""
    if missing := absent(opened, "proxies", "proxies", _TITLE, _ASKS):
        return missing
    found = estimates(opened, "proxies")
    names = list(dict.fromkeys(e.subject for e in found if e.metric == "proxied_importance"))
    pictures = (_together(opened, found), *(_alone(opened, found, name) for name in names))
    return Section(
        "proxies",
        _TITLE,
        _ASKS,
        sentences(opened, "proxies"),
        tuple(picture for picture in pictures if picture),
        (_by_attribute(found, names),) if names else (),
        notes(opened, "proxies"),
    )


def _together(opened: Opened, found: tuple[Estimate, ...]) -> Picture | None:
    """What all inputs tell of each value, and what the lists do."""
    inputs = [e for e in found if e.metric == "inputs_auc"]
    known = [e for e in inputs if e.value is not None]
    if not known:
        return None
    lists = {segment(e.segment): e for e in found if e.metric == "lists_auc"}
    band = harm_band(opened, "proxies", "inputs_auc", "value")
    known.sort(key=lambda e: (-(e.value or 0.0), segment(e.segment)))
    marks = [
        Mark(
            segment(e.segment),
            e.value,
            e.low,
            e.high,
            interval(e, 2),
            note=counted(e.n_users, "user"),
            tone="bad" if beyond(e, band) else "main",
            ring=lists[segment(e.segment)].value if segment(e.segment) in lists else None,
        )
        for e in known[:MOST_MARKS]
    ]
    best, shown = known[0], sum((e.low or 0.0) > _GUESS for e in known)
    takeaway = (
        f"{number(shown)} of {counted(len(known), 'value')} {'is' if shown < 2 else 'are'} shown to be told better than by a "
        f"guess; {segment(best.segment)} is told best, with AUC {interval(best, 2)}."
    )
    reading = f"{_WHAT_AUC_IS}: of one user with the value and one without, the inputs pick the right one in that share of tries."
    if len(known) > len(marks):
        reading += f" The {len(marks)} that are told best are shown; the table has all {len(inputs)}."
    rows = tuple(
        (
            segment(e.segment),
            interval(e, 3),
            interval(lists[segment(e.segment)], 3) if segment(e.segment) in lists else figure(None),
            count(e.n_users),
            figure(e.mde),
        )
        for e in [*known, *(e for e in inputs if e.value is None)]
    )
    headers = ("value", "from the inputs", "from the lists", "users", "detectable above 0.5")
    return Picture(
        "How well each value is told from the rest, AUC",
        takeaway[0].upper() + takeaway[1:],
        reading,
        Table("Every value as a table", headers, rows),
        tracks=tracks(marks, reference=_GUESS, band=band),
        key=(
            ("dot", "from all inputs together"),
            ("ring", "from the lists that are shown"),
            *((("band", "beyond the policy’s bound"),) if band else ()),
        ),
    )


def _alone(opened: Opened, found: tuple[Estimate, ...], attribute: str) -> Picture | None:
    """The features that tell an attribute best, with their weight in the model."""
    known = [e for e in found if e.metric == "feature_auc" and e.versus == attribute and e.value is not None]
    if not known:
        return None
    band = harm_band(opened, "proxies", "feature_auc", "value")
    known.sort(key=lambda e: (-(e.low or 0.0), -(e.value or 0.0), e.subject))
    marks = [
        Mark(
            e.subject,
            e.value,
            e.low,
            e.high,
            interval(e, 2),
            note=f"{share(e.detail.get('importance', 0.0), 0)} of the model",
            tone="bad" if beyond(e, band) else "plain",
        )
        for e in known[:MOST_MARKS]
    ]
    name = attribute.replace("_", " ")
    telling = [e for e in known if (e.low or 0.0) > _GUESS]
    if telling:
        weight = sum(e.detail.get("importance", 0.0) for e in telling)
        takeaway = (
            f"{counted(len(telling), 'feature')} of {count(len(known))} {'is' if len(telling) == 1 else 'are'} shown to tell "
            f"something of {name}: {listed([e.subject for e in telling])}, {share(weight, 0)} of the model."
        )
    else:
        takeaway = f"None of {counted(len(known), 'feature')} alone is shown to tell {name} better than a guess."
    reading = f"{_WHAT_AUC_IS}. Each feature for the value of {name} that it tells best, whichever way it points."
    if len(known) > len(marks):
        reading += f" The {len(marks)} that are shown to tell most come first; the table has all {len(known)}."
    rows = tuple((e.subject, share(e.detail.get("importance", 0.0)), interval(e, 3), figure(e.mde)) for e in known)
    return Picture(
        f"What each feature alone tells of {name}, AUC",
        takeaway,
        reading,
        Table(f"Every feature against {name} as a table", ("feature", "weight", "AUC", "detectable above 0.5"), rows),
        tracks=tracks(marks, reference=_GUESS, band=band),
        key=(("band", "beyond the policy’s bound"),) if band else (),
    )


def _by_attribute(found: tuple[Estimate, ...], names: list[str]) -> Table:
    held = {(e.metric, e.subject): e for e in found if e.subject in names}

    def told(metric: str, name: str) -> str:
        return interval(held[metric, name], 3) if (metric, name) in held else figure(None)

    rows = tuple(
        (name, told("inputs_macro_auc", name), told("lists_macro_auc", name), told("proxied_importance", name))
        for name in names
    )
    headers = ("attribute", "inputs, mean of values", "lists, mean of values", "weight of features above 0.75")
    return Table("Each attribute as a whole", headers, rows)
