"""Quality by group of users: each group and intersection against everyone else, held against the policy's margin."""

from __future__ import annotations

from components.card.chapters.groups_convention import convention
from components.card.chapters.groups_history import history, is_declared, judged_gap
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
)
from components.card.parts import Picture, Section, Table
from components.card.pictures.tracks import Mark, tracks
from components.card.sources import Opened
from components.card.words import DASH, count, counted, figure, interval, metric, number, segment
from components.evidence.contract import Estimate

_TITLE = "Quality by group of users"
_ASKS = "Is any group served worse than the rest, by more than the policy allows?"
_Band = tuple[float, float] | None


def groups(opened: Opened) -> Section:
    """The gap of every group, first those that stand alone, then intersections."""
    if missing := absent(opened, "fairness-users", "groups", _TITLE, _ASKS):
        return missing
    found = estimates(opened, "fairness-users")
    metrics = sorted({e.metric for e in found if e.statistic == "difference"})
    wanted = f"ndcg@{main_cutoff(opened)}"
    main = wanted if wanted in metrics else next(iter(metrics), "")
    shown = _picture(opened, found, main) if main else None
    pictures = (shown, history(opened, found, main), _change(opened, found, main), convention(opened))
    return Section(
        "groups",
        _TITLE,
        _ASKS,
        sentences(opened, "fairness-users"),
        tuple(picture for picture in pictures if picture),
        tuple(_table(found, name) for name in metrics if name != main or shown is None),
        notes(opened, "fairness-users"),
    )


def _picture(opened: Opened, found: tuple[Estimate, ...], main: str) -> Picture | None:
    ours = [e for e in found if e.metric == main and is_declared(e)]
    statistic, band = judged_gap(opened, ours, main)
    signed = statistic == "difference"
    reference = 0.0 if signed else 1.0
    gaps = [e for e in ours if e.statistic == statistic]
    if not gaps:
        return None
    drawn = _drawn(gaps)
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
        for e in drawn
    ]
    reading = "The dashed line is “as good as everyone else”; left of it, worse."
    if all(e.family for e in gaps):
        reading += " The bars hold for all groups together, so they are wider than if each stood alone."
    key: tuple[tuple[str, str], ...] = ()
    if band:
        key = (("band", "beyond the policy’s margin: a group whose bar lies wholly in it fails"),)
    if len(drawn) < len(gaps):
        reading += (
            f" Shown are groups by one attribute and the intersections with the largest gaps, {len(drawn)} of "
            f"{len(gaps)}; the table has all."
        )
    return Picture(
        f"{metric(main)} of each group {'less that of' if signed else 'as a ratio to'} the rest",
        _takeaway(gaps, band, signed=signed),
        reading,
        _table(found, main, caption="Every group, the small and the unknown included, as a table"),
        tracks=tracks(marks, reference=reference, band=band, signed=signed),
        key=key,
    )


def _change(opened: Opened, found: tuple[Estimate, ...], main: str) -> Picture | None:
    """Whether a group's gap has grown since the incumbent; None without one."""
    changes = [e for e in found if e.metric == main and e.statistic == "change"]
    if not changes:
        return None
    band = harm_band(opened, "fairness-users", main, "change")
    drawn = _drawn(changes)
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
    worst = lowest(changes)
    takeaway = "No group has a figure."
    if worst:
        takeaway = f"Most ground against the rest is lost by {segment(worst.segment)}: {interval(worst, signed=True)}."
        if (worst.value or 0.0) >= 0:
            takeaway = "By the estimates, no group loses ground against the rest."
    rows = tuple((segment(e.segment), count(e.n_users), interval(e, signed=True)) for e in changes)
    return Picture(
        f"Change of each group’s gap in {metric(main)} since the incumbent",
        takeaway,
        "Left of the dashed line a group has lost ground against the rest, on the same requests."
        + (
            f" {len(drawn)} of {len(changes)} groups are shown; the table has all." if len(drawn) < len(changes) else ""
        ),
        Table("These figures as a table", ("group", "users", "change of the gap"), rows),
        tracks=tracks(marks, reference=0.0, band=band, signed=True),
        key=(("band", "beyond the policy’s margin"),) if band else (),
    )


def _drawn(gaps: list[Estimate]) -> list[Estimate]:
    """Groups of one attribute by name and size, then the worst intersections; the worst of all where they are too many."""
    single = [e for e in gaps if len(e.segment) <= 1]
    crossed = sorted((e for e in gaps if len(e.segment) > 1), key=_badness)
    if len(single) > MOST_MARKS:
        single = sorted(single, key=_badness)[:MOST_MARKS]
    single.sort(key=lambda e: (sorted(e.segment), -e.n_users, segment(e.segment)))
    return [*single, *crossed[: max(0, MOST_MARKS - len(single))]]


def _badness(estimate: Estimate) -> tuple[float, str]:
    return (estimate.value if estimate.value is not None else float("inf"), segment(estimate.segment))


def _takeaway(gaps: list[Estimate], band: _Band, *, signed: bool) -> str:
    worst = lowest(gaps)
    if worst is None:
        return "No group has a figure."
    figures = interval(worst, signed=signed)
    found = f"{segment(worst.segment)} has the lowest figure, {figures} on {counted(worst.n_users, 'user')}"
    if band is None:
        return f"Of {counted(len(gaps), 'group')}, {found}. The policy sets no margin here."
    over = sum(beyond(e, band) for e in gaps)
    outside = sum(e.low is not None and e.low > band[1] for e in gaps) if band[0] == float("-inf") else 0
    words = (
        f"Of {counted(len(gaps), 'group')}, {number(over)} {'is' if over < 2 else 'are'} shown to lie beyond the policy’s "
        f"margin and {number(outside)} {'is' if outside < 2 else 'are'} shown to lie within it"
    )
    rest = len(gaps) - over - outside
    unsettled = f"; for {count(rest)} these users do not settle it" if rest else ""
    return f"{words}{unsettled}. {found[0].upper()}{found[1:]}."


def _table(found: tuple[Estimate, ...], name: str, *, caption: str = "") -> Table:
    held: dict[tuple[tuple[str, str], ...], dict[str, Estimate]] = {}
    for e in found:
        if e.metric == name:
            held.setdefault(tuple(sorted(e.segment.items())), {})[e.statistic] = e
    rows = []
    for key in sorted(held, key=lambda key: (len(key), key)):
        by = held[key]
        gap = by.get("difference")
        one = gap or next(iter(by.values()))
        rows.append(
            (
                segment(dict(key)),
                count(one.n_users),
                interval(by["value"]) if "value" in by else DASH,
                figure(by["value"].detail.get("shrunk")) if "value" in by else DASH,
                interval(by["difference"], signed=True) if "difference" in by else DASH,
                interval(by["ratio"]) if "ratio" in by else DASH,
                interval(by["change"], signed=True) if "change" in by else DASH,
                figure(gap.mde) if gap else DASH,
            )
        )
    headers = (
        "group",
        "users",
        metric(name),
        "best guess",
        "less the rest",
        "ratio",
        "change against incumbent",
        "detectable gap",
    )
    return Table(caption or f"{metric(name)} of every group", headers, tuple(rows))
