"""The candidate against what it would replace: the same metrics of both, their paired difference, and what the gates said.

The rival is the incumbent where there is one, else the best of the baselines by the main metric.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from components.card.contract import Card
from components.card.pictures.tracks import Mark, Tracks, tracks
from components.card.words import ANSWERS, DASH, count, figure, interval, metric, segment
from components.evidence.contract import Estimate
from components.ranker.contract import BASELINES, CANDIDATE, INCUMBENT
from components.verdict.contract import Finding, Outcome, Verdict
from components.verdict.outcomes import deciding
from pipelines.review.drawing import cut

_ORDER = ("ndcg", "map", "recall", "mrr", "hit_rate")
"""Shares in [0, 1], which can stand on one axis."""
_MOST_GROUPS = 16


@dataclass(frozen=True, slots=True)
class Row:
    """One metric of both, as text."""

    name: str
    candidate: str
    rival: str
    difference: str
    mde: str
    users: str
    tone: str
    """`bad` or `good` where the whole interval of the difference lies on one side of 0 and more is better; else `plain`."""


@dataclass(frozen=True, slots=True)
class GateRow:
    """One criterion, of this run and of the incumbent's own."""

    criterion: str
    title: str
    answer: str
    tone: str
    found: str
    rival_answer: str
    rival_tone: str
    rival_found: str


@dataclass(frozen=True, slots=True)
class SideBySide:
    """What the page shows of both."""

    rival: str
    levels: Tracks | None
    differences: Tracks | None
    groups: Tracks | None
    groups_of: int
    """How many groups have a difference; the picture shows the worst."""
    level: float
    rows: tuple[Row, ...]
    gates: tuple[GateRow, ...]
    """Every criterion, those first that were answered otherwise; none where the incumbent's run is not here."""

    @property
    def turned(self) -> tuple[GateRow, ...]:
        """The criteria that were answered otherwise."""
        return tuple(row for row in self.gates if row.answer != row.rival_answer)


def side_by_side(card: Card, rival_card: Card | None) -> SideBySide | None:
    """The candidate and its rival; None where quality was not measured.

    Args:
        card: The candidate's.
        rival_card: The incumbent's own, where its run lies on this machine.
    """
    quality = card.evidence.get("quality")
    if quality is None:
        return None
    overall = [e for e in quality.estimates if not e.segment]
    main = quality.conventions.get("main metric", "")
    rival = _rival(overall, main)
    if not rival:
        return None
    values = {(e.subject, e.metric): e for e in overall if e.statistic == "value" and not e.versus}
    gaps = {e.metric: e for e in overall if _is_gap(e, rival)}
    shown = _shown(main, gaps)
    bounds = {o.metric: o.findings[0] for o in card.verdict.outcomes if _judges(o, rival)}
    groups = [e for e in quality.estimates if e.segment and e.metric == main and _is_gap(e, rival)]
    return SideBySide(
        rival=rival,
        levels=_levels(values, shown, rival),
        differences=_differences(gaps, shown, bounds),
        groups=_groups(groups, card.verdict),
        groups_of=len(groups),
        level=next((e.level for e in gaps.values()), 0.95),
        rows=tuple(_row(name, values, gaps.get(name), rival) for name in _metrics(values, gaps)),
        gates=_gates(card.verdict, rival_card.verdict) if rival_card else (),
    )


def _rival(overall: list[Estimate], main: str) -> str:
    values = {e.subject: e.value or 0.0 for e in overall if e.metric == main and e.statistic == "value"}
    if INCUMBENT in values:
        return INCUMBENT
    return max((name for name in BASELINES if name in values), key=lambda name: values[name], default="")


def _is_gap(estimate: Estimate, rival: str) -> bool:
    return (estimate.statistic, estimate.subject, estimate.versus) == ("difference", CANDIDATE, rival)


def _judges(outcome: Outcome, rival: str) -> bool:
    return (
        (outcome.evidence, outcome.statistic) == ("quality", "difference")
        and len(outcome.findings) == 1
        and outcome.findings[0].versus == rival
        and not outcome.findings[0].segment
    )


def _shown(main: str, gaps: Iterable[str]) -> tuple[str, ...]:
    """The metrics that are drawn: those at the main metric's cut-off."""
    cutoff = re.search(r"@\d+$", main)
    return tuple(f"{name}{cutoff[0]}" for name in _ORDER if f"{name}{cutoff[0]}" in gaps) if cutoff else ()


def _levels(values: dict[tuple[str, str], Estimate], shown: Iterable[str], rival: str) -> Tracks | None:
    marks = [
        Mark(
            metric(name),
            own.value,
            own.low,
            own.high,
            f"{figure(own.value)} · {figure(other.value)}",
            tone="own",
            ring=other.value,
        )
        for name in shown
        if (own := values.get((CANDIDATE, name))) and (other := values.get((rival, name)))
    ]
    return tracks(marks) if marks else None


def _differences(gaps: dict[str, Estimate], shown: Iterable[str], bounds: dict[str, Finding]) -> Tracks | None:
    marks = [
        Mark(
            metric(name),
            gap.value,
            gap.low,
            gap.high,
            interval(gap, signed=True),
            tone=_tone(gap),
            threshold=bounds[name].margin if name in bounds else None,
        )
        for name in shown
        if (gap := gaps.get(name))
    ]
    return tracks(marks, reference=0.0, signed=True) if marks else None


def _groups(gaps: list[Estimate], verdict: Verdict) -> Tracks | None:
    worst = sorted(gaps, key=lambda e: (float("inf") if e.value is None else e.value, segment(e.segment)))[
        :_MOST_GROUPS
    ]
    bound = next(
        (
            found.margin
            for o in verdict.outcomes
            if (o.evidence, o.statistic) == ("quality", "difference")
            for found in o.findings
            if found.segment and gaps and found.versus == gaps[0].versus and found.needed.startswith("at least")
        ),
        None,
    )
    marks = [
        Mark(
            segment(e.segment),
            e.value,
            e.low,
            e.high,
            interval(e, signed=True),
            note=f"{count(e.n_users)} users",
            tone=_tone(e),
        )
        for e in worst
    ]
    band = None if bound is None else (float("-inf"), bound)
    kept = (0.0,) if bound is None else (0.0, bound)
    return tracks(cut(marks, keep=kept), reference=0.0, band=band, signed=True) if marks else None


def _tone(gap: Estimate) -> str:
    if gap.high is not None and gap.high < 0:
        return "bad"
    return "good" if gap.low is not None and gap.low > 0 else "main"


def _metrics(values: dict[tuple[str, str], Estimate], gaps: dict[str, Estimate]) -> list[str]:
    return list(dict.fromkeys([*gaps, *(name for subject, name in values if subject == CANDIDATE)]))


def _row(name: str, values: dict[tuple[str, str], Estimate], gap: Estimate | None, rival: str) -> Row:
    own, other = values.get((CANDIDATE, name)), values.get((rival, name))
    better_is_more = name.partition("@")[0] in _ORDER
    return Row(
        name=metric(name),
        candidate=interval(own) if own else DASH,
        rival=interval(other) if other else DASH,
        difference=interval(gap, signed=True) if gap else DASH,
        mde=figure(gap.mde) if gap and gap.mde is not None else DASH,
        users=count(gap.n_users) if gap else count(own.n_users) if own else DASH,
        tone=_tone(gap) if gap and better_is_more else "plain",
    )


def _gates(verdict: Verdict, rival: Verdict) -> tuple[GateRow, ...]:
    others = {outcome.criterion: outcome for outcome in rival.outcomes}
    rows = []
    for outcome in verdict.outcomes:
        other = others.get(outcome.criterion)
        answer, tone, found = _said(outcome)
        rival_answer, rival_tone, rival_found = _said(other) if other else (DASH, "none", DASH)
        rows.append(
            GateRow(outcome.criterion, outcome.title, answer, tone, found, rival_answer, rival_tone, rival_found)
        )
    return tuple(sorted(rows, key=lambda row: row.answer == row.rival_answer))


def _said(outcome: Outcome) -> tuple[str, str, str]:
    if outcome.not_applicable and not outcome.blocks:
        return "Does not apply", "none", DASH
    finding = deciding(outcome)
    return ANSWERS[outcome.answer], outcome.answer, interval(finding) if finding else DASH
