"""What was waived, by whom, why and until when; and how the run stands with it. The verdict's answers stay what they were."""

from __future__ import annotations

from dataclasses import dataclass

from components.card.chapters.rules import messages
from components.card.contract import Card, Waived
from components.card.words import ANSWERS, counted, date, listed, moment, one_line, short
from components.verdict.contract import Outcome
from components.verdict.outcomes import is_waivable, still_blocking

_WORDS = {"passed": "Passed", "blocked": "Blocked", "waived": "Blocked, waived", "partly": "Blocked, partly waived"}


@dataclass(frozen=True, slots=True)
class ToldWaiver:
    """One waiver as the page shows it."""

    title: str
    criterion: str
    answer: str
    tone: str
    findings: tuple[str, ...]
    """What the rule says, as if nobody had signed."""
    by: str
    at: str
    until: str
    reason: str
    signature: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Standing:
    """How the run stands: what a reviewer may do."""

    kind: str
    """`passed`, `blocked`, `waived` (all that blocks), or `partly`."""
    word: str
    decision: str
    open: bool
    """Whether it can be approved."""
    waivers: tuple[ToldWaiver, ...]
    left: tuple[str, ...]
    """Titles of the rules that still stop the release."""
    waivable: tuple[str, ...]
    """Criteria that stop the release and that the policy lets be waived."""


def standing(card: Card) -> Standing:
    """The verdict and the waivers together."""
    outcomes = {outcome.criterion: outcome for outcome in card.verdict.outcomes}
    waivers = tuple(w for w in card.waivers if w.criterion in outcomes and is_waivable(outcomes[w.criterion]))
    left = still_blocking(card.verdict.outcomes, {waived.criterion for waived in waivers})
    kind = _kind(card, len(waivers), len(left))
    return Standing(
        kind=kind,
        word=_WORDS[kind],
        decision=_decision(kind, len(waivers), len(left)),
        open=kind in ("passed", "waived"),
        waivers=tuple(_told(waived, outcomes[waived.criterion]) for waived in waivers),
        left=tuple(outcome.title for outcome in left),
        waivable=tuple(outcome.criterion for outcome in left if is_waivable(outcome)),
    )


def _kind(card: Card, waivers: int, left: int) -> str:
    if card.verdict.answer == "passed":
        return "passed"
    if not waivers:
        return "blocked"
    return "partly" if left else "waived"


def _decision(kind: str, waivers: int, left: int) -> str:
    if kind == "partly":
        return f"None can be taken: {counted(left, 'rule')} still {'blocks' if left == 1 else 'block'}"
    if kind == "waived":
        return f"Awaiting a reviewer, under {counted(waivers, 'waiver')}"
    return "Awaiting a reviewer" if kind == "passed" else "None can be taken: blocked"


def _told(waived: Waived, outcome: Outcome) -> ToldWaiver:
    return ToldWaiver(
        title=outcome.title,
        criterion=outcome.criterion,
        answer=ANSWERS[outcome.answer],
        tone=outcome.answer,
        findings=messages(outcome),
        by=waived.waived_by,
        at=moment(waived.waived_at),
        until=date(waived.until),
        reason=one_line(waived.reason),
        signature=(f"waiver {short(waived.digest)}", f"key {short(waived.key_id)}"),
    )


def sentence(stands: Standing) -> str:
    """What the waivers change, and what they do not, for the top of the page; empty without waivers."""
    if not stands.waivers:
        return ""
    named = listed([f"“{told.title}” until {told.until}, by {told.by}" for told in stands.waivers])
    left = f" Still stopping the release: {listed([f'“{title}”' for title in stands.left])}." if stands.left else ""
    return f"Waived, not passed: {named}.{left}"
