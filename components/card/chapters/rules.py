"""The verdict, rule by rule: what blocks first, with every message; then what is unsure, passed, or does not apply."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from components.card.words import ANSWERS, DASH, count, counted, figure, limits, plain, segment
from components.verdict.contract import Finding, Outcome, Verdict

_MOST_MESSAGES = 8


@dataclass(frozen=True, slots=True)
class Rule:
    """One criterion as its row shows it; the figures are of the finding that decided."""

    answer: str
    tone: str
    title: str
    why: str
    about: str
    """What the figure is of, where the rule looks at more than one thing."""
    found: str
    between: str
    needed: str
    users: str
    messages: tuple[str, ...]
    blocks: bool
    advisory: bool


def rules(verdict: Verdict) -> tuple[Rule, ...]:
    """All criteria, what needs reading first."""
    return tuple(_rule(outcome) for outcome in by_concern(verdict.outcomes))


def by_concern(outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """What blocks first, then what is broken or unsure, then what passed, then what does not apply."""
    return tuple(
        sorted(outcomes, key=lambda o: (not o.blocks, bool(o.not_applicable), o.answer == "pass", not o.blocking))
    )


def headline(verdict: Verdict) -> str:
    """The verdict's own sentence, without the word that stands above it."""
    said = re.sub(r"^(Passed|Blocked):?\s+", "", verdict.summary)
    return said[:1].upper() + said[1:]


def tally(verdict: Verdict) -> tuple[tuple[str, str, int], ...]:
    """(tone, words, number) of each kind of answer that occurs."""
    kinds = (
        ("fail", "stop the release", [o for o in verdict.outcomes if o.blocks]),
        ("insufficient", "to read before deciding", [o for o in verdict.outcomes if _to_read(o)]),
        ("pass", "passed", [o for o in verdict.outcomes if o.answer == "pass" and not o.not_applicable]),
        ("none", "do not apply", [o for o in verdict.outcomes if o.not_applicable and not o.blocks]),
    )
    return tuple((tone, words, len(held)) for tone, words, held in kinds if held)


def _to_read(outcome: Outcome) -> bool:
    return not outcome.blocks and outcome.answer != "pass" and not outcome.not_applicable


def _rule(outcome: Outcome) -> Rule:
    applies = not outcome.not_applicable or outcome.blocks
    finding = deciding(outcome) if applies else None
    answer = ANSWERS[outcome.answer] if applies else "Does not apply"
    if _to_read(outcome):
        answer += ", noted"
    return Rule(
        answer=answer,
        tone=outcome.answer if applies else "none",
        title=outcome.title,
        why=" ".join(outcome.why.split()),
        about=_about(outcome, finding) if finding else "",
        found=_found(finding) if finding else DASH,
        between=limits(finding) if finding else "",
        needed=(finding.needed or plain(finding.margin)).replace("-", "\N{MINUS SIGN}") if finding else DASH,
        users=count(finding.n_users) if finding and finding.n_users else DASH,
        messages=_messages(outcome) if applies else (outcome.not_applicable,),
        blocks=outcome.blocks,
        advisory=not outcome.blocking,
    )


def _found(finding: Finding) -> str:
    if finding.value is None:
        return "not measured"
    counted_ones = finding.low is None or finding.low == finding.high
    return plain(finding.value) if counted_ones else figure(finding.value)


def _about(outcome: Outcome, finding: Finding) -> str:
    if len(outcome.findings) < 2:
        return ""
    thing = segment(finding.segment) if finding.segment else finding.subject
    return f"nearest its bound of {count(len(outcome.findings))} looked at: {thing}"


def _messages(outcome: Outcome) -> tuple[str, ...]:
    if outcome.answer == "pass":
        return ()
    wrong = [f for f in outcome.findings if f.answer == outcome.answer]
    unexcused = [f for f in wrong if not f.excused] if outcome.blocks else []
    told = unexcused or wrong
    messages = [_message(f) for f in told[:_MOST_MESSAGES]]
    if len(told) > _MOST_MESSAGES:
        messages.append(f"{counted(len(told) - _MOST_MESSAGES, 'further finding')} of this kind: see card.json.")
    return tuple(messages)


def _message(finding: Finding) -> str:
    return f"{finding.message} {finding.excused}".strip()


def deciding(outcome: Outcome) -> Finding | None:
    """The finding that gave the outcome its answer: the farthest beyond its bound where broken, else the nearest to it."""
    same = [finding for finding in outcome.findings if finding.answer == outcome.answer]
    if outcome.blocks:
        same = [finding for finding in same if not finding.excused] or same
    known = [finding for finding in same if finding.value is not None]
    if not known:
        return same[0] if same else None
    far = -1.0 if outcome.answer == "fail" else 1.0
    return min(known, key=lambda finding: far * abs((finding.value or 0.0) - finding.margin))
