"""Whether an answer on groups of users rests on leaving out requests that led to nothing."""

from __future__ import annotations

from dataclasses import dataclass

from components.card.chapters.looking import MOST_MARKS
from components.card.parts import Picture, Table
from components.card.pictures.tracks import Mark, tracks
from components.card.sources import Opened
from components.card.words import ANSWERS, counted, interval, listed, metric, segment
from components.evidence.contract import Estimate
from components.evidence.fairness_words import as_zero
from components.statistics import Answer, decide
from components.verdict.contract import Finding, Outcome

_WORST_FIRST: tuple[Answer, ...] = ("fail", "insufficient", "pass")


@dataclass(frozen=True, slots=True)
class _Twice:
    """One finding of a rule, and the same question under the other convention."""

    rule: Outcome
    finding: Finding
    counted: Estimate
    answer: Answer
    """What the rule would answer to `counted`."""

    @property
    def differs(self) -> bool:
        return self.answer != self.finding.answer


def convention(opened: Opened, found: tuple[Estimate, ...]) -> Picture | None:
    """Each rule's answer as it is, and with requests that led to nothing counted as 0; None where no rule has both."""
    asked = [pair for outcome in opened.verdict.outcomes for pair in _twice(outcome, found)]
    if not asked:
        return None
    first = next((pair.rule for pair in asked if pair.rule.blocking), asked[0].rule)
    drawn = [pair for pair in asked if pair.rule is first]
    drawn = sorted(drawn, key=lambda pair: (not pair.differs, pair.counted.value or 0.0))[:MOST_MARKS]
    signed = first.statistic != "ratio"
    marks = [
        Mark(
            segment(pair.finding.segment),
            pair.counted.value,
            pair.counted.low,
            pair.counted.high,
            interval(pair.counted, signed=signed),
            note=counted(pair.counted.n_users, "user"),
            tone="bad" if pair.differs else "plain",
            ring=pair.finding.value,
        )
        for pair in drawn
    ]
    rows = tuple(
        (
            f"{pair.rule.criterion}, {segment(pair.finding.segment)}",
            interval(pair.finding, signed=signed),
            ANSWERS[pair.finding.answer],
            interval(pair.counted, signed=signed),
            ANSWERS[pair.answer],
        )
        for pair in asked
    )
    side = drawn[0].finding
    edge = (float("-inf"), side.margin) if side.needed.startswith("at least") else (side.margin, float("inf"))
    return Picture(
        f"{metric(first.metric)} of each judged group against the rest, with requests that led to nothing counted as 0",
        _takeaway(asked),
        "Rings are the figures that the rules judged, which leave such requests out; dots count them as 0. Coloured groups "
        "would get another answer.",
        Table("Each rule’s answer under both conventions", _HEADERS, rows),
        tracks=tracks(marks, reference=0.0 if signed else 1.0, band=edge, signed=signed),
        key=(("band", "beyond the policy’s margin"),),
    )


_HEADERS = ("rule and group", "left out", "answer", "counted as 0", "answer then")


def _twice(outcome: Outcome, found: tuple[Estimate, ...]) -> list[_Twice]:
    """The findings of a rule that were not excused, with their twins; none where the evidence has no twin."""
    twin = as_zero(outcome.metric)
    if outcome.evidence != "fairness-users" or not twin:
        return []
    held = {
        (e.versus, tuple(sorted(e.segment.items()))): e
        for e in found
        if e.metric == twin and e.statistic == outcome.statistic
    }
    pairs = []
    for finding in outcome.findings:
        other = held.get((finding.versus, tuple(sorted(finding.segment.items()))))
        if other is None or finding.excused or finding.value is None:
            continue
        answer = decide(
            other.low, other.high, finding.margin, "above" if finding.needed.startswith("at least") else "below"
        )
        pairs.append(_Twice(outcome, finding, other, answer))
    return pairs


def _takeaway(asked: list[_Twice]) -> str:
    rules = list(dict.fromkeys(pair.rule.criterion for pair in asked))
    changed = []
    for rule in rules:
        pairs = [pair for pair in asked if pair.rule.criterion == rule]
        before = min((pair.finding.answer for pair in pairs), key=_WORST_FIRST.index)
        after = min((pair.answer for pair in pairs), key=_WORST_FIRST.index)
        if before != after:
            changed.append(f"{rule} would answer {ANSWERS[after].lower()} instead of {ANSWERS[before].lower()}")
    groups = [segment(pair.finding.segment) for pair in asked if pair.differs]
    asking = f"{counted(len(rules), 'rule')} on {counted(len(asked), 'judged group')}"
    if not groups:
        return f"No answer of {asking} rests on leaving out requests that led to nothing."
    verdicts = "; ".join(changed) or "no rule’s answer as a whole changes"
    return (
        f"Of {asking}, {counted(len(groups), 'answer')} would be another with requests that led to nothing counted as 0 "
        f"({listed(groups)}): {verdicts}."
    )
