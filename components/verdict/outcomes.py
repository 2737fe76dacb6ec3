"""From the outcomes of all criteria to one answer, one sentence and the messages that stop a release."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from components.verdict.contract import Finding, FrozenPolicy, Outcome


def is_passed(outcomes: Sequence[Outcome]) -> bool:
    """Whether nothing stops the release and something could have: where no blocking rule applied, nothing was judged."""
    applied = any(outcome.blocking and not outcome.not_applicable for outcome in outcomes)
    return applied and not any(outcome.blocks for outcome in outcomes)


def summarise(outcomes: Sequence[Outcome], frozen: FrozenPolicy) -> str:
    """The verdict in one sentence."""
    label = f"policy {frozen.name}@{frozen.version}"
    applied = [outcome for outcome in outcomes if not outcome.not_applicable]
    stopping = [outcome for outcome in applied if outcome.blocks]
    blocking = [outcome for outcome in applied if outcome.blocking or outcome.blocks]
    excused = len(outcomes) - len(applied)
    aside = f" ({excused} {'does' if excused == 1 else 'do'} not apply)" if excused else ""
    criteria = f"{len(blocking)} blocking {'criterion' if len(blocking) == 1 else 'criteria'}"
    if not blocking:
        return f"Blocked: no blocking criterion of {label} applied, so nothing was judged{aside}."
    if stopping:
        named = ", ".join(f"{outcome.criterion} ({outcome.answer})" for outcome in stopping)
        return f"Blocked by {len(stopping)} of {criteria} of {label}: {named}{aside}."
    noted = [outcome.criterion for outcome in applied if outcome.answer != "pass"]
    remark = f"; to read before approving: {', '.join(noted)}" if noted else ""
    return f"Passed: nothing stops the release under the {criteria} of {label}{aside}{remark}."


def stopping_messages(outcome: Outcome) -> list[str]:
    """Messages of the findings for which an outcome stops the release; none where it does not."""
    return [finding.message for finding in stopping(outcome)]


def stopping(outcome: Outcome) -> tuple[Finding, ...]:
    """The findings for which an outcome stops the release; none where it does not."""
    if not outcome.blocks:
        return ()
    return tuple(finding for finding in outcome.findings if finding.answer != "pass" and not finding.excused)


def is_waivable(outcome: Outcome) -> bool:
    """Whether the policy lets a signed waiver stand in for all that an outcome stops a release for."""
    found = stopping(outcome)
    return outcome.blocking and bool(found) and all(finding.waivable and _allows(outcome, finding) for finding in found)


def _allows(outcome: Outcome, finding: Finding) -> bool:
    return (outcome.on_fail if finding.answer == "fail" else outcome.on_insufficient) == "waive"


def still_blocking(outcomes: Sequence[Outcome], waived: Collection[str]) -> tuple[Outcome, ...]:
    """The outcomes that stop a release although these criteria are waived."""
    return tuple(o for o in outcomes if o.blocks and not (o.criterion in waived and is_waivable(o)))


def by_concern(outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """What blocks first, then what is broken or unsure, then what passed, then what does not apply."""
    return tuple(
        sorted(outcomes, key=lambda o: (not o.blocks, bool(o.not_applicable), o.answer == "pass", not o.blocking))
    )


def deciding(outcome: Outcome) -> Finding | None:
    """The finding that gave the outcome its answer: the farthest beyond its bound where broken, else the nearest to it."""
    same = [finding for finding in outcome.findings if finding.answer == outcome.answer]
    if outcome.blocks:
        same = [finding for finding in same if not finding.excused] or same
    known = [finding for finding in same if finding.value is not None]
    return min(known or same, key=gravity, default=None)


def gravity(finding: Finding) -> float:
    """Smaller is graver: what is broken by most, what is unsettled nearest its bound; what has no figure first."""
    if finding.value is None:
        return float("-inf")
    away = abs(finding.value - finding.margin)
    return -away if finding.answer == "fail" else away
