"""Exposure of providers: what each is shown against what its items earned."""

from __future__ import annotations

from typing import Any

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
from components.card.words import DASH, counted, interval, number, share
from components.evidence.contract import Estimate
from components.ranker.contract import CANDIDATE, INCUMBENT

_TITLE = "Exposure of providers"
_ASKS = "Do providers get the exposure that their items earn?"


def providers(opened: Opened) -> Section:
    """The ratio that a policy judges, and the shares behind it."""
    if missing := absent(opened, "fairness-providers", "providers", _TITLE, _ASKS):
        return missing
    name = f"exposure@{main_cutoff(opened)}"
    found = estimates(opened, "fairness-providers")
    names = sorted({e.metric for e in found if e.statistic == "ratio"})
    name = name if name in names else next(iter(names), name)
    merit = sorted(
        (e for e in found if (e.metric, e.statistic, e.versus) == (name, "ratio", "relevance")),
        key=lambda e: (e.value if e.value is not None else float("inf"), e.subject),
    )
    held = [row for row in opened.tables.get("fairness-providers.providers", []) if row["system"] == CANDIDATE]
    held.sort(key=lambda row: (-(row["exposure_share"] or 0.0), str(row["provider"])))
    others: dict[tuple[str, str, str], Estimate] = {
        (e.subject, e.statistic, e.versus): e for e in found if e.metric == name
    }
    pictures = (_ratios(opened, merit, name, others), _shares(held))
    return Section(
        "providers",
        _TITLE,
        _ASKS,
        sentences(opened, "fairness-providers"),
        tuple(picture for picture in pictures if picture),
        (),
        notes(opened, "fairness-providers"),
    )


def _ratios(
    opened: Opened, merit: list[Estimate], name: str, others: dict[tuple[str, str, str], Estimate]
) -> Picture | None:
    """Merit drawn; parity and the change against the incumbent beside it in the table, because they can disagree."""
    if not merit:
        return None

    def other(subject: str, statistic: str, versus: str, *, signed: bool = False) -> str:
        held = others.get((subject, statistic, versus))
        return interval(held, signed=signed) if held else DASH

    band = harm_band(opened, "fairness-providers", name, "ratio")
    marks = [
        Mark(e.subject, e.value, e.low, e.high, interval(e, 2), tone="bad" if beyond(e, band) else "plain")
        for e in merit[:MOST_MARKS]
    ]
    worst = lowest(merit)
    over = sum(beyond(e, band) for e in merit)
    takeaway = f"Of {counted(len(merit), 'provider')}, "
    takeaway += (
        f"{number(over)} {'is' if over < 2 else 'are'} shown to lie beyond the policy’s margin. " if band else ""
    )
    if worst:
        words = f"{worst.subject} gets the least for what it earned: {interval(worst, 2)} times."
        takeaway += words if not band else words[0].upper() + words[1:]
    reading = "At the dashed line a provider gets just the exposure that its items earned; left of it, less."
    if len(merit) > len(marks):
        reading += f" The {len(marks)} with the least are shown; the table has all {len(merit)}."
    rows = tuple(
        (
            e.subject,
            interval(e),
            other(e.subject, "ratio", "catalogue"),
            other(e.subject, "difference", INCUMBENT, signed=True),
            share(e.detail.get("exposure_share")),
            share(e.detail.get("relevance_share")),
            share(e.detail.get("catalogue_share")),
        )
        for e in merit
    )
    headers = (
        "provider",
        "exposure by gains",
        "exposure by catalogue",
        "less the incumbent’s share",
        "of exposure",
        "of gains",
        "of the catalogue",
    )
    return Picture(
        "Exposure of each provider against what it earned",
        takeaway,
        reading,
        Table("Every provider as a table", headers, rows),
        tracks=tracks(marks, reference=1.0, band=band),
        key=(("band", "beyond the policy’s margin"),) if band else (),
    )


def _shares(held: list[dict[str, Any]]) -> Picture | None:
    if not held:
        return None
    marks = [
        Mark(
            str(row["provider"]),
            row["exposure_share"],
            None,
            None,
            f"{share(row['exposure_share'])} for {share(row['relevance_share'])}",
            tone="main",
            ring=row["relevance_share"],
        )
        for row in held[:MOST_MARKS]
    ]
    most = held[0]
    few = held[:3]
    takeaway = (
        f"The largest, {most['provider']}, gets {share(most['exposure_share'])} of exposure for "
        f"{share(most['relevance_share'])} of gains"
    )
    if len(held) > len(few):
        together = sum(row["exposure_share"] or 0.0 for row in few)
        takeaway += f"; the three largest of {len(held)} together get {share(together)} of exposure"
    rows = tuple(
        (str(row["provider"]), *(share(row[name]) for name in ("exposure_share", "relevance_share", "catalogue_share")))
        for row in held
    )
    reading = "A dot to the left of its ring: shown less than it earned."
    if len(held) > len(marks):
        reading += f" The {len(marks)} with the most exposure are shown; the table has all {len(held)}."
    return Picture(
        "Share of exposure and share of gains, under the candidate",
        f"{takeaway}.",
        reading,
        Table("Every provider's shares as a table", ("provider", "of exposure", "of gains", "of the catalogue"), rows),
        tracks=tracks(marks, reference=0.0),
        key=(("dot", "share of exposure"), ("ring", "share of gains")),
    )
