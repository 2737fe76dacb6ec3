"""What a finding says: which thing, what was found, what was needed, by which policy, and where to read on."""

from __future__ import annotations

import math

from components.evidence.contract import Estimate
from components.evidence.quality_words import counted
from components.ranker.contract import BASELINES, CANDIDATE, INCUMBENT
from components.verdict.contract import Answer
from components.verdict.policy import ANY, Bound, Criterion

_ACRONYMS = {"ndcg": "NDCG", "map": "MAP", "mrr": "MRR", "ece": "ECE", "psi": "PSI", "auc": "AUC"}
_OTHERS = {
    "": "",
    "rest": "the rest",
    INCUMBENT: "the incumbent",
    "reference": "the reference period",
    "relevance": "its share of relevance",
    "catalogue": "its share of the catalogue",
    "predicted": "what was predicted",
}
DRIFT_RATIOS = ("drift_ratio", "mix_ratio")
"""Against the reference period, but counted in their own thresholds."""
FEATURE_AUC = "feature_auc"
"""What a feature tells of an attribute, which is no rival of it."""
_SERVING = {
    "skewed_share": "share served otherwise",
    "score_difference": "largest difference of a served score",
    "order_parity": "share of lists in the measured order",
    "error_share": "share of failed calls",
    "latency_p99": "latency at 99 % in ms",
    "memory_mb": "memory in MiB",
    "malformed_refused": "share of wrong requests refused",
    "well_afterwards": "wellness after wrong requests",
}
_MOST_DECIMALS = 6


def metric_words(metric: str) -> str:
    """`NDCG@10`, `hit rate@5`."""
    name, at, cutoff = metric.partition("@")
    if metric in DRIFT_RATIOS:
        return "drift"
    if metric in _SERVING:
        return _SERVING[metric]
    return f"{' '.join(_ACRONYMS.get(word, word) for word in name.split('_'))}{at}{cutoff}"


def asked_for(criterion: Criterion) -> str:
    """What a criterion looks for, where there is nothing to show: `NDCG@10 difference of candidate against rest`."""
    select = criterion.select
    words = f"{metric_words(criterion.metric)} {criterion.statistic}"
    words += "" if select.subject == ANY else f" of {select.subject}"
    return words + (f" against {select.versus}" if select.versus and select.versus != ANY else "")


def needed_words(bound: Bound) -> str:
    """`at least -0.02`."""
    if bound.low is not None and bound.high is not None:
        return f"from {bound.low:g} to {bound.high:g}"
    return f"at least {bound.low:g}" if bound.low is not None else f"at most {bound.high:g}"


def finding_words(
    criterion: Criterion,
    estimate: Estimate,
    answer: Answer,
    *,
    limit: float,
    policy: str,
    more_users: int | None,
    exact: bool,
) -> str:
    """The message of an estimate that was held against its bound.

    Args:
        criterion: The rule.
        estimate: What was measured; value and limits are numbers.
        answer: What the rule answers.
        limit: The side of the bound that decided.
        policy: Name and version.
        more_users: How many more users would settle an insufficient answer; None where nothing can be said.
        exact: Whether the figure is counted, not sampled.
    """
    text = (
        f"{criterion.id}: {_quantity(estimate)} {_found(estimate, limit)} ({_how_sure(estimate, limit, exact=exact)})"
    )
    text += f"{_held_against(criterion, answer, policy)}."
    if answer == "insufficient":
        text += f" {_what_would_settle(more_users)}"
        text += " Else it takes a signed waiver." if criterion.on_insufficient == "waive" else ""
    if answer == "fail" and criterion.on_fail == "waive":
        text += " Only a signed waiver lets it through."
    return text + _read_on(criterion)


def unusable_words(criterion: Criterion, reason: str, *, policy: str, estimate: Estimate | None = None) -> str:
    """The message where there is nothing that could be held against the bound."""
    about = f"{_quantity(estimate)}: " if estimate else ""
    return (
        f"{criterion.id}: {about}{reason}; policy {policy} needs {needed_words(criterion.bound)}. "
        f"What is not measured cannot pass.{_read_on(criterion)}"
    )


def _read_on(criterion: Criterion) -> str:
    return f" See {criterion.evidence}.json."


def _quantity(estimate: Estimate) -> str:
    metric = metric_words(estimate.metric)
    if estimate.statistic == "change":
        metric = f"the gap in {metric}"
    if not estimate.segment:
        return f"{metric} of {_system(estimate.subject)}"
    groups = " and ".join(f"{attribute} '{value}'" for attribute, value in estimate.segment.items())
    by = "" if estimate.subject == CANDIDATE else f" under {_system(estimate.subject)}"
    return f"{metric} of {groups}{by}"


def _system(name: str) -> str:
    if name in (CANDIDATE, INCUMBENT):
        return f"the {name}"
    return f"the {name} baseline" if name in BASELINES else f"'{name}'"


def _other(versus: str) -> str:
    return _OTHERS.get(versus) or _system(versus)


def _found(estimate: Estimate, limit: float) -> str:
    value = estimate.value if estimate.value is not None else math.nan
    decimals = _decimals(estimate, limit)
    if estimate.statistic == "difference":
        if value == 0:
            return f"equals {_other(estimate.versus)}"
        way = "below" if value < 0 else "above"
        return f"is {_figure(abs(value), decimals)} {way} {_other(estimate.versus)}"
    if estimate.statistic == "ratio":
        other = "its threshold" if estimate.metric in DRIFT_RATIOS else _other(estimate.versus)
        return f"is {_figure(value, decimals)} times {other}"
    if estimate.statistic == "change":
        return f"changed by {_figure(value, decimals, signed=True)} against {_other(estimate.versus)}"
    way = "for" if estimate.metric == FEATURE_AUC else "against"
    return f"is {_figure(value, decimals)}" + (f" {way} {_other(estimate.versus)}" if estimate.versus else "")


def _how_sure(estimate: Estimate, limit: float, *, exact: bool) -> str:
    users = counted(estimate.n_users, "user")
    if exact or estimate.low is None or estimate.high is None:
        return f"counted, not sampled{f'; {users}' if estimate.n_users else ''}"
    decimals = _decimals(estimate, limit)
    low, high = (_figure(number, decimals) for number in (estimate.low, estimate.high))
    return f"{100 * estimate.level:g}% interval {low}..{high}, {users}"


def _held_against(criterion: Criterion, answer: Answer, policy: str) -> str:
    bound = criterion.bound
    asked = f"margin {bound.margin:g} of policy {policy}" if bound.margin else f"policy {policy}"
    if answer == "insufficient":
        if bound.margin:
            return f": harm beyond the {asked} is neither shown nor ruled out (needed {needed_words(bound)})"
        return f": neither shown to hold nor shown to break what {asked} needs, {needed_words(bound)}"
    if bound.margin:
        return f", {'beyond' if answer == 'fail' else 'within'} the {asked}"
    return f"; {asked} needs {needed_words(bound)}"


def _what_would_settle(more_users: int | None) -> str:
    if more_users is None:
        return (
            "The estimate lies too near the bound, or too little is known, to say how many more users would settle it."
        )
    return f"About {counted(planning_figure(more_users), 'more user')} would settle it."


def planning_figure(number: int) -> int:
    """How many more users, to two significant digits: it is no more exact."""
    size: int = 10 ** max(len(str(number)) - 2, 0)
    return -(-number // size) * size


def _decimals(estimate: Estimate, limit: float) -> int:
    """Enough decimals to tell the numbers of a message apart, at least three for shares and none for large counts."""
    numbers = [n for n in (estimate.value, estimate.low, estimate.high, limit) if n is not None and math.isfinite(n)]
    if all(number == int(number) and abs(number) < 1e15 for number in numbers):
        return 0
    largest = max(map(abs, numbers))
    least = 3 if largest < 10 else 1
    for decimals in range(least, _MOST_DECIMALS):
        if len({f"{number:.{decimals}f}" for number in numbers}) == len(set(numbers)):
            return decimals
    return _MOST_DECIMALS


def _figure(number: float, decimals: int, *, signed: bool = False) -> str:
    return f"{number:{'+' if signed else ''}.{decimals}f}"
