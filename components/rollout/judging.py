"""The canary's judge: what was read so far + the policy -> continue, hold or roll back, and why. Pure; may be asked at any time.

    memory (`components.rollout.memory`) + outcomes of users -> judge(...) -> StepVerdict

In this order: a revoked release is rolled back at once; harm that is shown is rolled back; what cannot be read, or a split of
users that is not as set, holds and is rolled back when the policy's patience ends; too little time or traffic, and harm that
would have to be ruled out and is not, hold, and say for about how long; a step held for too long is rolled back. Only then
it continues. Nothing here raises for what was measured, and nothing that is missing can let a canary go on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from components.rollout.contract import SCHEMA_VERSION, Action, GuardrailResult, Memory, StepVerdict
from components.rollout.guardrail_words import lasting
from components.rollout.guardrails import results
from components.rollout.memory import split_evidence
from components.rollout.policy import RolloutPolicy, budget_of
from components.statistics.sequential_users import Contrast

_MOST_REASONS = 3


@dataclass(frozen=True, slots=True)
class _Decision:
    action: Action
    reason: str
    waits_for: tuple[str, ...] = ()
    seconds: float | None = None


def judge(
    policy: RolloutPolicy,
    memory: Memory,
    *,
    outcomes: Mapping[str, Contrast] | None = None,
    at: float,
    revoked: bool = False,
) -> StepVerdict:
    """What is to be done with a canary now.

    Args:
        policy: The rules that the memory was begun under.
        memory: Everything taken in so far.
        outcomes: What users did so far, by guardrail of the kind `outcome` or `guardrail@segment`; strata are steps.
        at: Now, seconds since 1970.
        revoked: Whether the release's approval has been revoked.

    Returns:
        `continue` in the last step means that the release may be promoted.

    Raises:
        ValueError: If the memory was begun under another policy.
    """
    if memory.policy != policy.label:
        raise ValueError(f"memory: found one of policy {memory.policy}; needed {policy.label}.")
    budget = budget_of(policy)
    found = results(policy, memory, outcomes or {}, budget)
    decided = _decide(policy, memory, found, at, revoked)
    return StepVerdict(
        schema_version=SCHEMA_VERSION,
        policy=policy.label,
        at=at,
        step=memory.step,
        share=policy.steps[memory.step].share,
        action=decided.action,
        reason=decided.reason,
        waits_for=decided.waits_for,
        expected_seconds=decided.seconds,
        results=found,
        budget=budget,
    )


def _decide(
    policy: RolloutPolicy, memory: Memory, found: Sequence[GuardrailResult], at: float, revoked: bool
) -> _Decision:
    if revoked:
        return _Decision("roll_back", "The approval of this release has been revoked.")
    if harms := [result.message for result in found if result.answer == "harm"]:
        more = len(harms) - _MOST_REASONS
        return _Decision("roll_back", " ".join(harms[:_MOST_REASONS] + ([f"And {more} more."] if more > 0 else [])))
    silent = _silent(policy, memory, at)
    for since, what in ((memory.mismatched_since, _mismatch_words(memory, policy)), silent, _missing(memory, found)):
        if since is not None:
            return _patient(policy, at - since, what)
    waits, seconds = _waiting(policy, memory, found, at)
    if not waits:
        return _Decision("continue", _onward(policy, memory, found))
    held = at - memory.step_began
    if held >= policy.hold_at_most_seconds:
        return _Decision("roll_back", f"Held for {lasting(held)} without being settled. {waits[0]}", waits)
    return _Decision("hold", waits[0], waits, seconds)


def _patient(policy: RolloutPolicy, lasted: float, what: str) -> _Decision:
    left = policy.patience_seconds - lasted
    if left <= 0:
        return _Decision("roll_back", f"{what} That has lasted {lasting(lasted)}.")
    return _Decision("hold", f"{what} Rolled back in {lasting(left)} if it lasts.", (what,))


def _mismatch_words(memory: Memory, policy: RolloutPolicy) -> str:
    total = sum(memory.split_counts.values())
    arms = ", ".join(
        f"{arm} {memory.split_counts.get(arm, 0)} where {share * total:.0f} were expected"
        for arm, share in sorted(memory.split_shares.items())
    )
    odds = split_evidence(memory) / math.log(10)
    return (
        f"Users are not split as set ({arms} of {total}; odds of 10^{odds:.1f} to 1, where policy {policy.label} takes "
        f"10^{-math.log10(policy.split_level):.1f} for proof): no comparison of the arms can be trusted."
    )


def _silent(policy: RolloutPolicy, memory: Memory, at: float) -> tuple[float | None, str]:
    """Since when nothing was taken in, where that is longer than two looks: a source that hangs does not even say "missing"."""
    if at - memory.until <= 2 * policy.evaluate_seconds:
        return None, ""
    return memory.until, f"Nothing has been read for {lasting(at - memory.until)}."


def _missing(memory: Memory, found: Sequence[GuardrailResult]) -> tuple[float | None, str]:
    """Since when something that is needed could not be read, and what; (None, "") where all could."""
    since = {name: began for name, began in memory.missing_since.items() if began is not None}
    if not since:
        return None, ""
    named = {result.guardrail: result.message for result in found if result.answer == "missing"}
    first = min(since, key=lambda name: (since[name], name))
    arms = [name for name in since if name not in {result.guardrail for result in found}]
    if arms:
        return min(since[arm] for arm in arms), f"The {' and the '.join(sorted(arms))} arm could not be read."
    return since[first], named.get(first, f"{first} could not be read.")


def _waiting(
    policy: RolloutPolicy, memory: Memory, found: Sequence[GuardrailResult], at: float
) -> tuple[tuple[str, ...], float | None]:
    """What stands in the way of going on, the slowest first, and for about how long."""
    step = policy.steps[memory.step]
    elapsed = at - memory.step_began
    waits: list[tuple[float | None, str]] = []
    if elapsed < step.dwell_seconds:
        left = step.dwell_seconds - elapsed
        waits.append((left, f"This step lasts at least {lasting(step.dwell_seconds)}; {lasting(left)} are left."))
    if memory.requests < step.least_requests:
        rate = memory.requests / elapsed if elapsed > 0 else 0.0
        seconds = (step.least_requests - memory.requests) / rate if rate > 0 else None
        when = "no traffic so far" if seconds is None else f"about {lasting(seconds)} more at this traffic"
        waits.append(
            (seconds, f"The canary has answered {memory.requests:.0f} of {step.least_requests} requests; {when}.")
        )
    needed = {
        guardrail.id
        for guardrail in policy.guardrails
        if guardrail.ruled_out_from != "never" and guardrail.ruled_out_from <= memory.step + 1
    }
    # Segments are watched for harm; to rule it out in each of them would ask for several times the traffic.
    waits += [
        (result.expected_seconds, result.message)
        for result in found
        if result.guardrail in needed and not result.segment and result.answer != "within"
    ]
    ordered = sorted(waits, key=lambda wait: math.inf if wait[0] is None else wait[0], reverse=True)
    known = [seconds for seconds, _ in waits]
    longest = (
        None if any(seconds is None for seconds in known) else max((s for s in known if s is not None), default=None)
    )
    return tuple(text for _, text in ordered), longest


def _onward(policy: RolloutPolicy, memory: Memory, found: Sequence[GuardrailResult]) -> str:
    within = [result.guardrail for result in found if result.answer == "within" and not result.segment]
    watched = [result.guardrail for result in found if result.answer == "insufficient" and not result.segment]
    last = memory.step + 1 == len(policy.steps)
    where = "promotion" if last else f"{100 * policy.steps[memory.step + 1].share:g} % of the traffic"
    text = f"On to {where}: harm beyond the margin is ruled out for {', '.join(within)}"
    return text + (f"; not shown for {', '.join(watched)}." if watched else ".")
