"""Ranking quality: the candidate, the incumbent and the baselines on the same requests."""

from __future__ import annotations

from components.card.chapters.looking import (
    MOST_MARKS,
    absent,
    beyond,
    estimates,
    harm_band,
    lowest,
    main_cutoff,
    notes,
    sentences,
    tone,
)
from components.card.parts import Picture, Section, Table
from components.card.pictures.tracks import Mark, tracks
from components.card.sources import Opened
from components.card.words import DASH, count, counted, figure, interval, limits, listed, metric, segment
from components.evidence.contract import Estimate
from components.ranker.contract import CANDIDATE, INCUMBENT

_TITLE = "Ranking quality"
_ASKS = "Are the lists better than simple ones, and no worse than what is in service?"


def quality(opened: Opened) -> Section:
    """Every metric of every system, and the paired differences."""
    if missing := absent(opened, "quality", "quality", _TITLE, _ASKS):
        return missing
    every = estimates(opened, "quality")
    found = [e for e in every if not e.segment]
    systems = [system.name for system in opened.rankings.systems]
    main = f"ndcg@{main_cutoff(opened)}"
    pictures = (_levels(found, main, systems), _differences(found, main), _groups(opened, every, main))
    return Section(
        "quality",
        _TITLE,
        _ASKS,
        sentences(opened, "quality"),
        tuple(picture for picture in pictures if picture),
        (_every_metric(found, systems), _every_difference(found), _by_group(every, main, systems), _systems(opened)),
        notes(opened, "quality"),
    )


def _levels(found: list[Estimate], main: str, systems: list[str]) -> Picture | None:
    values = [e for e in found if e.metric == main and e.statistic == "value" and e.subject in systems]
    if not values:
        return None
    values.sort(key=lambda e: (-(e.value if e.value is not None else -1.0), e.subject))
    marks = [
        Mark(e.subject, e.value, e.low, e.high, interval(e), tone="own" if e.subject == CANDIDATE else "plain")
        for e in values
    ]
    first = values[0]
    takeaway = (
        f"{first.subject.capitalize()} comes first of {len(values)} with {figure(first.value)}, "
        f"measured on {count(first.n_users)} users."
    )
    if len(values) == 1:
        takeaway = f"{first.subject.capitalize()}: {interval(first)}, measured on {count(first.n_users)} users."
    rows = tuple((e.subject, figure(e.value), limits(e) or DASH, count(e.n_users), count(e.n_requests)) for e in values)
    return Picture(
        f"{metric(main)} of each system",
        takeaway,
        f"Dots are means over users, bars {values[0].level:.0%} intervals. 1 would be the best order there is.",
        Table("These figures as a table", ("system", metric(main), "interval", "users", "requests"), rows),
        tracks=tracks(marks),
    )


def _differences(found: list[Estimate], main: str) -> Picture | None:
    gaps = [e for e in found if e.metric == main and e.statistic == "difference" and e.subject == CANDIDATE]
    if not gaps:
        return None
    marks = [Mark(f"against {e.versus}", e.value, e.low, e.high, interval(e, signed=True), tone=tone(e)) for e in gaps]
    better = [e.versus for e in gaps if tone(e) == "good"]
    worse = [e.versus for e in gaps if tone(e) == "bad"]
    unsure = [e.versus for e in gaps if tone(e) == "plain"]
    said = [
        f"{words} {listed(names)}"
        for words, names in (("better than", better), ("worse than", worse), ("not told apart from", unsure))
        if names
    ]
    rows = tuple(
        (e.versus, figure(e.value, signed=True), limits(e, signed=True) or DASH, count(e.n_users), figure(e.mde))
        for e in gaps
    )
    return Picture(
        f"{metric(main)} of the candidate less each other system",
        f"The candidate is {'; '.join(said)}.",
        "Right of the dashed line the candidate is better. Each user is compared with themselves on the same requests, so "
        "these bars are narrower than those above.",
        Table("These figures as a table", ("against", "difference", "interval", "users", "detectable"), rows),
        tracks=tracks(marks, reference=0.0, signed=True),
    )


def _groups(opened: Opened, every: tuple[Estimate, ...], main: str) -> Picture | None:
    """What each group gains or loses against the incumbent; against popularity on a first release; None without groups."""
    compared = [e for e in every if e.metric == main and e.statistic == "difference" and e.segment]
    versus = next((name for name in (INCUMBENT, "popularity") if any(e.versus == name for e in compared)), "")
    gaps = [e for e in compared if e.versus == versus]
    worst = lowest(gaps)
    if worst is None:
        return None
    band = harm_band(opened, "quality", main, "difference", among=gaps)
    # Every group by one attribute first: the reader looks for a name; then the crossed ones that lose most.
    ordered = sorted(gaps, key=lambda e: (len(e.segment) > 1, e.value if e.value is not None else 1.0))
    drawn = ordered[:MOST_MARKS]
    marks = [
        Mark(
            segment(e.segment),
            e.value,
            e.low,
            e.high,
            interval(e, signed=True),
            note=counted(e.n_users, "user"),
            tone="bad" if beyond(e, band) else "plain",
        )
        for e in drawn
    ]
    losing = [segment(e.segment) for e in gaps if tone(e) == "bad"]
    other = "the incumbent" if versus == INCUMBENT else versus
    rows = tuple((segment(e.segment), count(e.n_users), interval(e, signed=True), figure(e.mde)) for e in gaps)
    more = f" {len(drawn)} of {len(gaps)} groups are shown; the table has all." if len(drawn) < len(gaps) else ""
    return Picture(
        f"{metric(main)} of the candidate less {other}, by group of users",
        f"Shown to be worse off than with {other}: {listed(losing)}. The lowest figure is that of {segment(worst.segment)}: "
        f"{interval(worst, signed=True)} on {counted(worst.n_users, 'user')}.",
        "Left of the dashed line a group loses. Users by how much was known of them (history) are among the groups, whatever "
        f"the contract declares. The bars hold for all groups together.{more}",
        Table("These figures as a table", ("group", "users", "difference", "detectable"), rows),
        tracks=tracks(marks, reference=0.0, band=band, signed=True),
        key=(("band", "beyond the policy’s margin"),) if band else (),
    )


def _every_metric(found: list[Estimate], systems: list[str]) -> Table:
    named = {(e.metric, e.subject): e for e in found if e.statistic in ("value", "ratio")}
    metrics = sorted({name for name, subject in named if subject in systems}, key=_by_name)
    rows = tuple(
        (metric(name), *(interval(named[name, s]) if (name, s) in named else DASH for s in systems)) for name in metrics
    )
    return Table("Every metric of every system", ("metric", *systems), rows)


def _every_difference(found: list[Estimate]) -> Table:
    rows = tuple(
        (f"{metric(e.metric)} against {e.versus}", interval(e, signed=True), count(e.n_users), figure(e.mde))
        for e in sorted(found, key=lambda e: (_by_name(e.metric), e.versus))
        if e.statistic == "difference"
    )
    headers = ("comparison", "difference", "users", "detectable difference")
    return Table("The candidate against the others, every metric, paired by user", headers, rows)


def _by_group(every: tuple[Estimate, ...], main: str, systems: list[str]) -> Table:
    """What each group of users gains or loses by the candidate; against the incumbent first, where there is one."""
    found: dict[tuple[tuple[str, str], ...], dict[str, Estimate]] = {}
    for e in every:
        if e.metric == main and e.statistic == "difference" and e.segment:
            found.setdefault(tuple(sorted(e.segment.items())), {})[e.versus] = e
    others = sorted({name for by in found.values() for name in by}, key=lambda name: (name != INCUMBENT, name))
    others = [name for name in others if name in systems]
    rows = tuple(
        (
            segment(dict(key)),
            count(max(e.n_users for e in found[key].values())),
            *(interval(found[key][name], signed=True) if name in found[key] else DASH for name in others),
        )
        for key in sorted(found, key=lambda key: (len(key), key))
    )
    headers = ("group", "users", *(f"against {name}" for name in others))
    return Table(f"What each group of users gains or loses by the candidate, in {metric(main)}", headers, rows)


def _systems(opened: Opened) -> Table:
    rows = tuple((system.name, system.kind, system.description) for system in opened.rankings.systems)
    return Table("What the systems are", ("system", "kind", "what it does"), rows)


def _by_name(name: str) -> tuple[str, int]:
    base, _, cutoff = name.partition("@")
    return base, int(cutoff) if cutoff.isdigit() else 0
