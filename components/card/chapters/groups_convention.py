"""Whether an answer on groups of users rests on leaving out requests that led to nothing: the rules, asked both ways."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from components.card.chapters.looking import MOST_MARKS
from components.card.parts import Picture, Table
from components.card.pictures.tracks import Mark, tracks
from components.card.sources import Opened
from components.card.words import ANSWERS, counted, interval, listed, metric, segment
from components.evidence.fairness_words import as_zero
from components.statistics import Answer
from components.verdict.contract import Finding
from components.verdict.judging import judge
from components.verdict.policy import Criterion

_QUESTION = "fairness-users"
_WORST_FIRST: tuple[Answer, ...] = ("fail", "insufficient", "pass")
_HEADERS = ("rule and group", "left out", "answer", "counted as 0", "answer then")


@dataclass(frozen=True, slots=True)
class _Twice:
    """One group under one rule, with requests that led to nothing left out and counted as 0."""

    rule: Criterion
    judged: Finding
    counted: Finding

    @property
    def differs(self) -> bool:
        return _stops(self.judged) != _stops(self.counted)


def convention(opened: Opened) -> Picture | None:
    """Each rule's answer as it is, and with requests that led to nothing counted as 0; None where no rule has both."""
    asked = list(_asked(opened))
    if not asked:
        return None
    first = next((pair.rule for pair in asked if pair.rule.effect == "blocking"), asked[0].rule)
    drawn = [pair for pair in asked if pair.rule is first]
    drawn = sorted(drawn, key=lambda pair: (not pair.differs, pair.counted.value or 0.0))[:MOST_MARKS]
    signed = first.statistic != "ratio"
    marks = [
        Mark(
            segment(pair.counted.segment),
            pair.counted.value,
            pair.counted.low,
            pair.counted.high,
            interval(pair.counted, signed=signed),
            note=counted(pair.counted.n_users, "user"),
            tone="bad" if pair.differs else "plain",
            ring=pair.judged.value,
        )
        for pair in drawn
    ]
    rows = tuple(
        (
            f"{pair.rule.id}, {segment(pair.judged.segment)}",
            interval(pair.judged, signed=pair.rule.statistic != "ratio"),
            _said(pair.judged),
            interval(pair.counted, signed=pair.rule.statistic != "ratio"),
            _said(pair.counted),
        )
        for pair in asked
    )
    low, high = first.bound.low, first.bound.high
    band = (float("-inf"), low) if low is not None else (high or 0.0, float("inf"))
    return Picture(
        f"{metric(first.metric)} of each judged group against the rest, with requests that led to nothing counted as 0",
        _takeaway(asked),
        "Rings are the figures that the rules judged, which leave such requests out; dots count them as 0. Coloured groups "
        "would get another answer.",
        Table("Each rule’s answer under both conventions", _HEADERS, rows),
        tracks=tracks(marks, reference=0.0 if signed else 1.0, band=band, signed=signed),
        key=(("band", "beyond the policy’s margin"),),
    )


def _asked(opened: Opened) -> Iterator[_Twice]:
    """Groups that a rule judges under either convention; excused under both, there is no answer to rest on anything."""
    held = opened.evidence.get(_QUESTION)
    if held is None or opened.policy is None:
        return
    measured = {estimate.metric for estimate in held.estimates}
    for rule in opened.policy.criteria:
        twin = as_zero(rule.metric)
        if rule.evidence != _QUESTION or twin not in measured:
            continue
        other = rule.model_copy(update={"metric": twin})
        both = opened.policy.model_copy(update={"criteria": (rule, other)})
        as_is, as_nought = judge(both, {_QUESTION: held}, {}, first_release=False)
        found = {(f.versus, tuple(sorted(f.segment.items()))): f for f in as_nought.findings}
        for judged in as_is.findings:
            counted_too = found.get((judged.versus, tuple(sorted(judged.segment.items()))))
            if counted_too and judged.segment and not (judged.excused and counted_too.excused):
                yield _Twice(rule, judged, counted_too)


def _stops(finding: Finding) -> Answer:
    """The answer as far as it counts: an excused group stops nothing."""
    return "pass" if finding.excused else finding.answer


def _said(finding: Finding) -> str:
    return f"{ANSWERS[finding.answer]}, excused" if finding.excused else ANSWERS[finding.answer]


def _takeaway(asked: list[_Twice]) -> str:
    rules = list(dict.fromkeys(pair.rule.id for pair in asked))
    changed = []
    for rule in rules:
        pairs = [pair for pair in asked if pair.rule.id == rule]
        before = min((_stops(pair.judged) for pair in pairs), key=_WORST_FIRST.index)
        after = min((_stops(pair.counted) for pair in pairs), key=_WORST_FIRST.index)
        if before != after:
            changed.append(f"{rule} would answer {ANSWERS[after].lower()} instead of {ANSWERS[before].lower()}")
    asking = f"{counted(len(rules), 'rule')} on {counted(len(asked), 'judged group')}"
    differing = [pair for pair in asked if pair.differs]
    if not differing:
        return f"No answer of {asking} rests on leaving out requests that led to nothing."
    groups = list(dict.fromkeys(segment(pair.judged.segment) for pair in differing))
    verdicts = "; ".join(changed) or "no rule’s answer as a whole changes"
    return (
        f"Of {asking}, {counted(len(differing), 'answer')} would be another with requests that led to nothing counted as 0 "
        f"({listed(groups)}): {verdicts}."
    )
