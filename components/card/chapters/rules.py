"""The verdict, rule by rule: what blocks first, with every message; then what is unsure, passed, or does not apply."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from components.card.words import ANSWERS, DASH, count, counted, figure, limits, plain, segment, typeset
from components.verdict.contract import Finding, Outcome, Verdict
from components.verdict.outcomes import by_concern, deciding, gravity, is_waivable, still_blocking

_MOST_MESSAGES, _MOST_NOTES = 8, 2


@dataclass(frozen=True, slots=True)
class Rule:
    """One criterion as its row shows it; the figures are of the finding that decided."""

    criterion: str
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
    """True where it stops the release; not where it is waived."""
    remark: str
    """What the answer means for the release, where that is not plain."""
    row: str
    """CSS class of its row."""


def rules(verdict: Verdict, waived: Mapping[str, str]) -> tuple[Rule, ...]:
    """All criteria, what needs reading first; `waived` tells until when, by criterion."""
    ordered = sorted(by_concern(verdict.outcomes), key=lambda o: 2 if not o.blocks else int(o.criterion in waived))
    return tuple(_rule(outcome, waived.get(outcome.criterion, "")) for outcome in ordered)


def headline(verdict: Verdict) -> str:
    """The verdict's own sentence, without the word that stands above it."""
    said = re.sub(r"^(Passed|Blocked):?\s+", "", verdict.summary)
    return said[:1].upper() + said[1:]


def tally(verdict: Verdict, waived: Mapping[str, str]) -> tuple[tuple[str, str, int], ...]:
    """(tone, words, number) of each kind of answer that occurs."""
    stopping = still_blocking(verdict.outcomes, waived)
    kinds = (
        ("fail", "stop the release", stopping),
        ("insufficient", "waived", [o for o in verdict.outcomes if o.blocks and o not in stopping]),
        ("insufficient", "to read before deciding", [o for o in verdict.outcomes if _to_read(o)]),
        ("pass", "passed", [o for o in verdict.outcomes if o.answer == "pass" and not o.not_applicable]),
        ("none", "do not apply", [o for o in verdict.outcomes if o.not_applicable and not o.blocks]),
    )
    return tuple((tone, words, len(held)) for tone, words, held in kinds if held)


def _to_read(outcome: Outcome) -> bool:
    return not outcome.blocks and outcome.answer != "pass" and not outcome.not_applicable


def _rule(outcome: Outcome, waived_until: str) -> Rule:
    applies = not outcome.not_applicable or outcome.blocks
    finding = deciding(outcome) if applies else None
    answer = ANSWERS[outcome.answer] if applies else "Does not apply"
    if _to_read(outcome):
        answer += ", noted"
    return Rule(
        criterion=outcome.criterion,
        answer=answer,
        tone=outcome.answer if applies else "none",
        title=outcome.title,
        why=typeset(outcome.why),
        about=_about(outcome, finding) if finding else "",
        found=_found(finding) if finding else DASH,
        between=limits(finding) if finding else "",
        needed=typeset(finding.needed or plain(finding.margin)) if finding else DASH,
        users=count(finding.n_users) if finding and finding.n_users else DASH,
        messages=messages(outcome) if applies else (typeset(outcome.not_applicable),),
        blocks=outcome.blocks and not waived_until,
        remark=_remark(outcome, waived_until),
        row="waived" if waived_until else "blocks" if outcome.blocks else outcome.answer if applies else "none",
    )


def _remark(outcome: Outcome, waived_until: str) -> str:
    if waived_until:
        return f"waived until {waived_until}"
    if outcome.blocks:
        return "stops the release unless waived" if is_waivable(outcome) else "stops the release"
    return "" if outcome.blocking else "advice only"


def _found(finding: Finding) -> str:
    if finding.value is None:
        return "not measured"
    counted_ones = finding.low is None or finding.low == finding.high
    return plain(finding.value) if counted_ones else figure(finding.value)


def _about(outcome: Outcome, finding: Finding) -> str:
    if len(outcome.findings) < 2:
        return ""
    thing = segment(finding.segment) if finding.segment else finding.subject
    return f"of {count(len(outcome.findings))} looked at, nearest its bound: {thing}"


def messages(outcome: Outcome) -> tuple[str, ...]:
    """What was found wrong, the gravest first; the reason that excuses findings stands once, at the end."""
    if outcome.answer == "pass":
        return ()
    wrong = sorted((f for f in outcome.findings if f.answer == outcome.answer), key=gravity)
    told = ([f for f in wrong if not f.excused] if outcome.blocks else []) or wrong
    most = _MOST_MESSAGES if outcome.blocks else _MOST_NOTES
    shown = [_message(outcome, f) for f in told[:most]]
    if len(told) > most:
        shown.append(f"{counted(len(told) - most, 'further finding')} of this kind: see card.json.")
    return (*shown, *dict.fromkeys(typeset(f.excused) for f in told if f.excused))


def _message(outcome: Outcome, finding: Finding) -> str:
    """The finding's message without what the row says already: the rule's name, and the file it read."""
    text = finding.message.removeprefix(f"{outcome.criterion}: ").removesuffix(f" See {outcome.evidence}.json.")
    return typeset(text[:1].upper() + text[1:])
