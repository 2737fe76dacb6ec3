"""From a criterion to its findings, to the estimate that each judged, to all that was measured on the same users."""

from __future__ import annotations

import math
from dataclasses import dataclass

from components.card.contract import Card
from components.card.pictures.tracks import Mark, Tracks, tracks
from components.card.words import ANSWERS, DASH, count, figure, interval, limits, metric, plain, segment, typeset
from components.evidence.contract import Estimate
from components.verdict.contract import Finding, Outcome
from components.verdict.outcomes import gravity
from components.verdict.tracing import estimate_of, measured_on
from components.verdict.words import planning_figure
from pipelines.review.drawing import cut

_MOST_MARKS = 24
_WORST_FIRST = {"fail": 0, "insufficient": 1, "pass": 2}


@dataclass(frozen=True, slots=True)
class FindingRow:
    """One finding as the page of its criterion lists it."""

    number: int
    """Its place in the verdict: what its own page is called by."""
    answer: str
    tone: str
    about: str
    found: str
    between: str
    needed: str
    users: str
    more: str
    """How many more users would settle it, about."""
    excused: str


@dataclass(frozen=True, slots=True)
class CriterionView:
    outcome: Outcome
    answer: str
    tone: str
    why_not: str
    """Why it does not apply; empty where it does."""
    findings: tuple[FindingRow, ...]
    drawn: Tracks | None
    drawn_of: int
    left_out: int
    """Findings that the picture has no room for."""
    conventions: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of what is known of an estimate; `help` says what the word means."""

    name: str
    text: str
    help: str = ""


@dataclass(frozen=True, slots=True)
class EstimateRow:
    question: str
    name: str
    found: str
    users: str
    tone: str
    is_this: bool


@dataclass(frozen=True, slots=True)
class FindingView:
    outcome: Outcome
    finding: Finding
    row: FindingRow
    message: str
    facts: tuple[Fact, ...]
    drawn: Tracks | None
    beside: tuple[EstimateRow, ...]
    """Everything measured on the same users."""
    group: str
    before: int | None
    after: int | None
    """Neighbours in the order of the criterion's page."""
    position: int
    of: int
    traced: bool
    """Whether the estimate that was judged stands in the evidence."""


def criterion_view(card: Card, criterion: str) -> CriterionView | None:
    """A criterion with its findings, the gravest first; None where the verdict has none of that name."""
    outcome = _outcome(card, criterion)
    if outcome is None:
        return None
    ordered = _ordered(outcome)
    known = [(number, finding) for number, finding in ordered if finding.value is not None]
    held = card.evidence.get(outcome.evidence)
    applies = not outcome.not_applicable or outcome.blocks
    return CriterionView(
        outcome=outcome,
        answer=ANSWERS[outcome.answer] if applies else "Does not apply",
        tone=outcome.answer if applies else "none",
        why_not="" if applies else typeset(outcome.not_applicable),
        findings=tuple(_row(number, finding) for number, finding in ordered),
        drawn=_drawn([finding for _, finding in known[:_MOST_MARKS]]) if len(known) > 1 else None,
        drawn_of=len(known),
        left_out=max(0, len(known) - _MOST_MARKS),
        conventions=tuple(sorted(held.conventions.items())) if held else (),
    )


def finding_view(card: Card, criterion: str, number: int) -> FindingView | None:
    """One finding with the estimate behind it; None where there is no such finding."""
    outcome = _outcome(card, criterion)
    if outcome is None or not 0 <= number < len(outcome.findings):
        return None
    finding = outcome.findings[number]
    order = [at for at, _ in _ordered(outcome)]
    position = order.index(number)
    estimate = estimate_of(outcome, finding, card.evidence)
    text = finding.message.removeprefix(f"{outcome.criterion}: ").removesuffix(f" See {outcome.evidence}.json.")
    beside = measured_on(finding.segment, card.evidence) if finding.segment else ()
    return FindingView(
        outcome=outcome,
        finding=finding,
        row=_row(number, finding),
        message=typeset(text[:1].upper() + text[1:]),
        facts=_facts(outcome, finding, estimate),
        drawn=_drawn([finding]) if finding.value is not None else None,
        beside=tuple(_beside(question, held, held is estimate) for question, held in beside),
        group=segment(finding.segment),
        before=order[position - 1] if position else None,
        after=order[position + 1] if position + 1 < len(order) else None,
        position=position + 1,
        of=len(order),
        traced=estimate is not None,
    )


def _outcome(card: Card, criterion: str) -> Outcome | None:
    return next((outcome for outcome in card.verdict.outcomes if outcome.criterion == criterion), None)


def _ordered(outcome: Outcome) -> list[tuple[int, Finding]]:
    numbered = list(enumerate(outcome.findings))
    return sorted(numbered, key=lambda pair: (_WORST_FIRST[pair[1].answer], bool(pair[1].excused), gravity(pair[1])))


def about(finding: Finding) -> str:
    """What a finding is about: a group of users, or a feature, a provider, a system, and what it is held against."""
    thing = segment(finding.segment) if finding.segment else finding.subject
    if finding.segment and finding.subject not in ("candidate", ""):
        thing = f"{finding.subject}, {thing}"
    return f"{thing} against {finding.versus}" if finding.versus and not finding.segment else thing


def _row(number: int, finding: Finding) -> FindingRow:
    return FindingRow(
        number=number,
        answer=ANSWERS[finding.answer],
        tone=finding.answer,
        about=about(finding) or "everything",
        found=_found(finding),
        between=limits(finding),
        needed=typeset(finding.needed or plain(finding.margin)),
        users=count(finding.n_users) if finding.n_users else DASH,
        more=f"about {count(planning_figure(finding.more_users))} more" if finding.more_users else "",
        excused=typeset(finding.excused),
    )


def _found(finding: Finding) -> str:
    if finding.value is None:
        return "not measured"
    exact = finding.low is None or finding.low == finding.high
    return plain(finding.value) if exact else figure(finding.value)


def _drawn(found: list[Finding]) -> Tracks | None:
    if not found:
        return None
    marks = [
        Mark(
            about(finding) or "everything",
            finding.value,
            finding.low,
            finding.high,
            interval(finding) if limits(finding) else _found(finding),
            note=f"{count(finding.n_users)} users" if finding.n_users else "",
            tone={"fail": "bad", "pass": "good"}.get(finding.answer, "main"),
        )
        for finding in found
    ]
    band = _band(found)
    return tracks(cut(marks, keep=_edges(band)), band=band)


def _band(found: list[Finding]) -> tuple[float, float] | None:
    """What the policy calls harm, where all findings have the one bound."""
    bounds = {(finding.needed[:8], finding.margin) for finding in found}
    if len(bounds) != 1:
        return None
    finding = found[0]
    if finding.needed.startswith("at least"):
        return float("-inf"), finding.margin
    if finding.needed.startswith("at most"):
        return finding.margin, float("inf")
    return None


def _edges(band: tuple[float, float] | None) -> tuple[float, ...]:
    return tuple(edge for edge in band or () if math.isfinite(edge))


def _facts(outcome: Outcome, finding: Finding, estimate: Estimate | None) -> tuple[Fact, ...]:
    facts = [
        Fact("Metric", f"{metric(outcome.metric)}, {outcome.statistic}", outcome.metric),
        Fact("Estimate", plain(finding.value) if finding.value is not None else "not measured"),
        Fact("Interval", limits(finding, 4) or "none: counted, not estimated"),
        Fact("Level", f"{finding.level:.4g}", "how often such intervals hold the true figure"),
        Fact("Needed", typeset(finding.needed or plain(finding.margin)), "the policy’s bound"),
        Fact("Users", count(finding.n_users), "the unit of statistics"),
    ]
    if estimate:
        facts += [
            Fact("Requests", count(estimate.n_requests)),
            Fact("Method", typeset(estimate.method), "how the interval was made"),
            Fact(
                "Smallest effect it would show",
                plain(estimate.mde) if estimate.mde is not None else DASH,
                "with power 0.8 at this level and number of users",
            ),
            Fact("Holds together with", typeset(estimate.family) or "nothing: it stands alone", "family of intervals"),
            *(Fact(name.replace("_", " "), plain(value)) for name, value in sorted(estimate.detail.items())),
        ]
    if finding.answer == "insufficient":
        more = finding.more_users
        text = f"about {count(planning_figure(more))}" if more else "unknown: more users may not settle it"
        facts.append(Fact("More users that would settle it", text))
    return tuple(facts)


def _beside(question: str, estimate: Estimate, is_this: bool) -> EstimateRow:
    versus = f" against {estimate.versus}" if estimate.versus else ""
    value = estimate.value
    found = interval(estimate, 4) if limits(estimate) else plain(value) if value is not None else "not measured"
    return EstimateRow(
        question=question,
        name=f"{metric(estimate.metric)}, {estimate.statistic} of {estimate.subject}{versus}",
        found=found,
        users=count(estimate.n_users),
        tone="own" if is_this else "plain",
        is_this=is_this,
    )
