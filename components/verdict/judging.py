"""One criterion held against the evidence: findings with three answers, and whether they stop the release. Pure.

Whatever cannot be judged is `insufficient`; nothing that is missing, contradictory or less sure than the policy asks can
pass, and nothing here raises for what an evidence holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from components.evidence.contract import Estimate, Evidence, Question
from components.evidence.quality_words import counted
from components.statistics import decide as decide_interval
from components.statistics import more_users_needed
from components.verdict.contract import Answer, Finding, Outcome
from components.verdict.policy import Bound, Criterion, Policy
from components.verdict.selection import Selection, select
from components.verdict.words import finding_words, needed_words, unusable_words

REST = "rest"
_NOTED = "The policy notes what neither holds nor breaks this rule."
_WORST_FIRST: tuple[Answer, ...] = ("fail", "insufficient", "pass")


def judge(
    policy: Policy,
    evidence: Mapping[Question, Evidence],
    broken: Mapping[Question, str],
    *,
    first_release: bool,
) -> tuple[Outcome, ...]:
    """Every criterion's outcome, in the policy's order.

    Args:
        policy: The rules.
        evidence: What could be read, by question.
        broken: Why a question could not be read; a question in neither is missing.
        first_release: Whether there is no incumbent.
    """
    return tuple(_outcome(criterion, policy, evidence, broken, first_release) for criterion in policy.criteria)


def answer_to(bound: Bound, low: float, high: float, *, exact: bool) -> Answer:
    """Three-valued answer for a quantity known to lie in [low, high].

    An exact figure on the bound holds, because "at most 5 %" allows 5 %: nothing about it is uncertain. An interval that
    ends on the bound is insufficient, as `components.statistics.decide` has it.
    """
    answers: list[Answer] = []
    if bound.low is not None:
        answers.append(_exactly(low >= bound.low) if exact else decide_interval(low, high, bound.low, "above"))
    if bound.high is not None:
        answers.append(_exactly(high <= bound.high) if exact else decide_interval(low, high, bound.high, "below"))
    return worst(answers)


def worst(answers: list[Answer]) -> Answer:
    """`fail` before `insufficient` before `pass`; of nothing at all: `insufficient`."""
    return min(answers, key=_WORST_FIRST.index, default="insufficient")


def _exactly(holds: bool) -> Answer:
    return "pass" if holds else "fail"


def _outcome(
    criterion: Criterion,
    policy: Policy,
    evidence: Mapping[Question, Evidence],
    broken: Mapping[Question, str],
    first_release: bool,
) -> Outcome:
    found = evidence.get(criterion.evidence)
    if found is None:
        reason = broken.get(criterion.evidence, f"the evidence {criterion.evidence}.json is missing")
        # Whatever its effect: a step that should have measured did not, so nothing it says elsewhere is to be relied on.
        return _conclude(criterion, (_nothing(criterion, policy, reason),), not_applicable="", always_blocks=True)
    selection = select(criterion, found)
    excuse = _excuse(criterion, policy, selection, first_release)
    if excuse:
        return _conclude(criterion, (), not_applicable=excuse)
    findings = [_finding(criterion, policy, estimate) for estimate in selection.estimates]
    findings += [_nothing(criterion, policy, reason) for reason in selection.lacking]
    if all(finding.excused and finding.excused != _NOTED for finding in findings):
        # Each group by itself may be too small to ask; that not one could be judged is no answer.
        findings.append(
            _nothing(criterion, policy, f"of {counted(len(findings), 'group')} none could be judged; each is too small")
        )
    return _conclude(criterion, tuple(findings), not_applicable="")


def _excuse(criterion: Criterion, policy: Policy, selection: Selection, first_release: bool) -> str:
    """Why the policy's own rules make the criterion not applicable; empty where it applies.

    What was measured is judged, whatever a rule would excuse.
    """
    if selection.estimates:
        return ""
    if first_release and criterion.when == "incumbent" and policy.first_release == "excuse":
        return "A first release has no incumbent to compare with (the policy's rule first_release: excuse)."
    return "" if selection.knows_metric else criterion.missing.not_applicable


def _conclude(
    criterion: Criterion, findings: tuple[Finding, ...], *, not_applicable: str, always_blocks: bool = False
) -> Outcome:
    answer: Answer = "pass" if not_applicable else worst([finding.answer for finding in findings])
    stopping = [finding for finding in findings if finding.answer != "pass" and not finding.excused]
    return Outcome(
        criterion=criterion.id,
        title=criterion.title,
        evidence=criterion.evidence,
        metric=criterion.metric,
        statistic=criterion.statistic,
        blocking=criterion.effect == "blocking",
        on_insufficient=criterion.on_insufficient,
        answer=answer,
        blocks=always_blocks or (criterion.effect == "blocking" and bool(stopping)),
        findings=findings,
        why=criterion.why,
        not_applicable=not_applicable,
        on_fail=criterion.on_fail,
    )


def _finding(criterion: Criterion, policy: Policy, estimate: Estimate) -> Finding:
    bound = criterion.bound
    reason = _unusable(estimate, level=policy.level_of(criterion))
    low, high, value = estimate.low, estimate.high, estimate.value
    if reason or value is None or low is None or high is None:
        message = unusable_words(criterion, reason, policy=policy.label, estimate=estimate)
        finding = _from_estimate(estimate, "insufficient", bound, message, limit=_side(bound, None), more_users=None)
        return replace(finding, excused=_too_small(criterion, estimate) or _without_rest(estimate))
    exact = is_exact(estimate)
    answer = answer_to(bound, low, high, exact=exact)
    limit = _side(bound, (value, low, high))
    more = None
    if answer == "insufficient":
        more = more_users_needed(value, low, high, estimate.n_users, limit, level=estimate.level)
    message = finding_words(criterion, estimate, answer, limit=limit, policy=policy.label, more_users=more, exact=exact)
    finding = _from_estimate(estimate, answer, bound, message, limit=limit, more_users=more)
    if answer == "pass":
        return finding
    if answer == "fail":
        return replace(finding, waivable=_is_waivable(criterion, criterion.on_fail))
    noted = _NOTED if criterion.on_insufficient == "note" else ""
    excused = noted or _too_small(criterion, estimate)
    return replace(
        finding, excused=excused, waivable=not excused and _is_waivable(criterion, criterion.on_insufficient)
    )


def _is_waivable(criterion: Criterion, rule: str) -> bool:
    """Of a finding that was measured. What was not is never signed away: nobody knows what they would sign for."""
    return criterion.effect == "blocking" and rule == "waive"


def _from_estimate(
    estimate: Estimate, answer: Answer, bound: Bound, message: str, *, limit: float, more_users: int | None
) -> Finding:
    return Finding(
        answer=answer,
        subject=estimate.subject,
        versus=estimate.versus,
        segment=dict(estimate.segment),
        value=_finite(estimate.value),
        low=_finite(estimate.low),
        high=_finite(estimate.high),
        level=estimate.level if math.isfinite(estimate.level) else 0.0,
        n_users=estimate.n_users,
        margin=limit,
        more_users=more_users,
        message=message,
        needed=needed_words(bound),
    )


def _nothing(criterion: Criterion, policy: Policy, reason: str) -> Finding:
    """The finding where there is no estimate."""
    select = criterion.select
    return Finding(
        answer="insufficient",
        subject=select.subject,
        versus=select.versus,
        segment={},
        value=None,
        low=None,
        high=None,
        level=policy.level_of(criterion),
        n_users=0,
        margin=_side(criterion.bound, None),
        more_users=None,
        message=unusable_words(criterion, reason, policy=policy.label),
        needed=needed_words(criterion.bound),
    )


def is_exact(estimate: Estimate) -> bool:
    """Whether a figure is counted, not sampled, by the evidence contract's own sign for it."""
    return estimate.method == "exact" and estimate.low == estimate.value == estimate.high


def _unusable(estimate: Estimate, *, level: float) -> str:
    """Why an estimate cannot be held against anything; empty where it can."""
    numbers = {"value": estimate.value, "lower limit": estimate.low, "upper limit": estimate.high}
    if estimate.value is None:
        return f"there is no value ({estimate.method or 'no method'}; {counted(estimate.n_users, 'user')})"
    for name, number in numbers.items():
        if number is None:
            return f"the value {estimate.value:g} has no {name} ({counted(estimate.n_users, 'user')})"
        if not math.isfinite(number):
            return f"the {name} is {number}, which is not a finite number"
    return _contradiction(estimate, level=level)


def _contradiction(estimate: Estimate, *, level: float) -> str:
    value, low, high = (number if number is not None else math.nan for number in _triple(estimate))
    slack = 1e-9 * max(1.0, abs(value))
    if not low - slack <= value <= high + slack:
        return f"the value {value:g} lies outside its own interval {low:g}..{high:g}"
    if is_exact(estimate):
        return ""
    if estimate.method == "exact":
        return f"the figure is called exact but has the interval {low:g}..{high:g}"
    if estimate.n_users < 1:
        return "the interval rests on no user"
    if not estimate.level <= 1 or not estimate.level >= level:
        return f"the interval's level is {estimate.level:g}; needed {level:g}"
    return ""


def _triple(estimate: Estimate) -> tuple[float | None, float | None, float | None]:
    return estimate.value, estimate.low, estimate.high


def _side(bound: Bound, found: tuple[float, float, float] | None) -> float:
    """The limit that decides: of two, the one the interval crosses furthest, or else comes nearest to."""
    if bound.low is None or bound.high is None:
        # A bound has at least one side; the policy's schema sees to it.
        return bound.low if bound.low is not None else float(bound.high or 0.0)
    if found is None:
        return bound.low
    _, low, high = found
    return bound.low if bound.low - low > high - bound.high else bound.high


def _too_small(criterion: Criterion, estimate: Estimate) -> str:
    """Why a group is too small to be judged alone, by the policy's own size; empty where it is not."""
    least = criterion.select.minimum_users
    if least is None:
        return ""
    if estimate.n_users < least:
        return f"Fewer than the {least} users that the policy asks of a group before it judges it alone."
    share = estimate.detail.get("share_of_users", 0.0)
    # A comparison is as uncertain as its smaller side: nearly everyone against a handful says little of either.
    if _is_of_gap(estimate) and 0 < share <= 1 and round(estimate.n_users * (1 - share) / share) < least:
        return f"The rest that it is compared with has fewer than the {least} users that the policy asks for."
    return ""


def _without_rest(estimate: Estimate) -> str:
    """A group that is everybody has no rest to be compared with; if no other group is judged, the criterion still blocks."""
    if _is_of_gap(estimate) and estimate.detail.get("share_of_users") == 1:
        return "Everyone who was measured is in this group, so there is no rest."
    return ""


def _is_of_gap(estimate: Estimate) -> bool:
    """Whether a group is compared with its rest; a change is one of that gap, whomever it is held against."""
    return estimate.versus == REST or estimate.statistic == "change"


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None
