"""What the estimates of users' fairness say, in sentences for a product manager: measured facts, no verdict."""

from __future__ import annotations

from collections.abc import Sequence

from components.evidence.contract import Estimate
from components.evidence.quality_words import interval, named, spaced
from components.evidence.segments import NO_HISTORY

_AS_ZERO = {"ndcg": "ndcg_empty_as_zero", "recall": "recall_empty_as_zero"}
"""A metric, and its name where requests that led to nothing count as 0."""


def as_zero(metric: str) -> str:
    """Name of a metric under the other convention, such as `ndcg_empty_as_zero@10`; empty where it has none."""
    name, _, cutoff = metric.partition("@")
    return f"{_AS_ZERO[name]}@{cutoff}" if name in _AS_ZERO else ""


def describe(estimates: Sequence[Estimate], *, main: str, declared: bool, smallest: int) -> tuple[str, ...]:
    """The findings in reading order: declared groups, newcomers, the other convention, small groups, the unknown.

    Args:
        estimates: All of the evidence.
        main: The metric that is told of.
        declared: Whether the dataset contract declares a group.
        smallest: Users from which a group stands alone.
    """
    gaps = _differences(estimates, main)
    if not gaps:
        return ("No group of users could be compared: no test request led to anything, or there is only one group.",)
    told = []
    ours = [gap for gap in gaps if gap.detail.get("declared", 1.0)]
    if ours:
        worst = min(ours, key=_value_of)
        told.append(
            f"Of {len(ours)} declared groups, {named(worst.segment)} ({spaced(worst.n_users)} users) has the lowest "
            f"{main.upper()} against the rest: {worst.value:+.3f} ({interval(worst, signed=True)})."
        )
    elif declared:
        told.append("No declared group could be compared: everyone who was measured is in one.")
    if not declared:
        told.append("No groups of users are declared; they are compared only by how much was known of them.")
    shown = [e for e in ours if e.high is not None and e.high < 0]
    if shown:
        names = ", ".join(named(estimate.segment) for estimate in shown)
        told.append(f"A gap below the rest is shown, whatever its size, for: {names}.")
    told += _of_newcomers(estimates, main)
    zeros = [gap for gap in _differences(estimates, as_zero(main)) if gap.detail.get("declared", 1.0)]
    if zeros:
        lowest = min(zeros, key=_value_of)
        told.append(
            f"With requests that led to nothing counted as 0, the lowest is {named(lowest.segment)}: {lowest.value:+.3f} "
            f"({interval(lowest, signed=True)})."
        )
    small = [e for e in gaps if e.n_users < smallest]
    if small:
        told.append(f"{len(small)} groups have fewer than {smallest} users; little can be said of each alone.")
    for estimate in estimates:
        if estimate.metric == "unknown_share" and estimate.value:
            told.append(f"{estimate.subject} is not known for {estimate.value:.1%} of the measured users.")
    return tuple(told)


def _of_newcomers(estimates: Sequence[Estimate], main: str) -> list[str]:
    """What users of whom nothing was known get, and whether the candidate changed it."""
    found = {
        e.statistic: e
        for e in estimates
        if e.metric == main and e.value is not None and not e.detail.get("declared", 1.0)
        if list(e.segment.values()) == [NO_HISTORY]
    }
    if "difference" not in found:
        return []
    gap = found["difference"]
    text = (
        f"Users of whom nothing was known before the test ({spaced(gap.n_users)}) have {main.upper()} {gap.value:+.3f} "
        f"against the others ({interval(gap, signed=True)})"
    )
    if "change" in found:
        change = found["change"]
        text += f"; with the candidate that gap changed by {change.value:+.3f} ({interval(change, signed=True)})"
    return [f"{text}."]


def _value_of(estimate: Estimate) -> float:
    return estimate.value if estimate.value is not None else float("inf")


def _differences(estimates: Sequence[Estimate], metric: str) -> list[Estimate]:
    return [e for e in estimates if e.metric == metric and e.statistic == "difference" and e.value is not None]
