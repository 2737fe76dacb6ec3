"""What the quality estimates say, in sentences for a product manager: measured facts, no verdict."""

from __future__ import annotations

from collections.abc import Sequence

from components.evidence.contract import Estimate
from components.ranker.contract import CANDIDATE, INCUMBENT


def describe(estimates: Sequence[Estimate], *, main: str, cutoff: int) -> tuple[str, ...]:
    """The findings in reading order: the main metric, comparisons, groups, requests left out, lists beyond accuracy."""
    name = main.upper()
    overall = [estimate for estimate in estimates if not estimate.segment]
    sentences = [
        *_value(overall, main, name),
        *_comparisons(overall, main, name),
        *_groups(estimates, main, name),
        *_empty(overall, main, name),
        *_lists(overall, cutoff),
    ]
    return tuple(sentences)


def interval(estimate: Estimate, *, digits: int = 3, signed: bool = False) -> str:
    """The interval in words: `95% interval 0.301 to 0.323`; says so where a side is unknown."""
    if estimate.low is None and estimate.high is None:
        return "too few users for an interval"
    form = f"{{:{'+' if signed else ''}.{digits}f}}"
    low = "unknown" if estimate.low is None else form.format(estimate.low)
    high = "unknown" if estimate.high is None else form.format(estimate.high)
    return f"{estimate.level:.0%} interval {low} to {high}"


def counted(number: int, noun: str) -> str:
    """`1 user`, `1 204 users`."""
    return f"{spaced(number)} {noun}{'' if number == 1 else 's'}"


def spaced(number: int) -> str:
    """`1 204`, with a space that does not break."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def named(segment: dict[str, str]) -> str:
    """`country DE and plan free`."""
    return " and ".join(f"{attribute.replace('_', ' ')} {value}" for attribute, value in segment.items())


def _pick(estimates: Sequence[Estimate], metric: str, statistic: str, subject: str = CANDIDATE) -> list[Estimate]:
    return [e for e in estimates if (e.metric, e.statistic, e.subject) == (metric, statistic, subject)]


def _value(estimates: Sequence[Estimate], main: str, name: str) -> list[str]:
    for found in _pick(estimates, main, "value"):
        if found.value is None:
            return [f"{name} of the candidate could not be measured: no test request has a relevant item."]
        on = f"{counted(found.n_users, 'user')} with {counted(found.n_requests, 'request')}"
        return [f"{name} of the candidate is {found.value:.3f} ({interval(found)}; {on})."]
    return []


def _comparisons(estimates: Sequence[Estimate], main: str, name: str) -> list[str]:
    sentences = []
    for found in _pick(estimates, main, "difference"):
        if found.value is None:
            continue
        other = "the incumbent" if found.versus == INCUMBENT else f"the {found.versus} baseline"
        ratio = f", {found.detail['ratio'] - 1:+.1%}" if "ratio" in found.detail else ""
        if found.low is not None and found.low > 0:
            fact = "higher than"
        elif found.high is not None and found.high < 0:
            fact = "lower than"
        else:
            sentences.append(
                f"No difference in {name} between the candidate and {other} is shown: {found.value:+.3f} "
                f"({interval(found, signed=True)}){_smallest(found)}."
            )
            continue
        sentences.append(
            f"The candidate's {name} is {fact} that of {other} by {abs(found.value):.3f} "
            f"({interval(found, signed=True)}{ratio})."
        )
    return sentences


def _smallest(found: Estimate) -> str:
    return (
        "" if found.mde is None else f"; with these users a true difference below {found.mde:.3f} would often go unseen"
    )


def _groups(estimates: Sequence[Estimate], main: str, name: str) -> list[str]:
    sentences = []
    grouped = [e for e in estimates if e.segment and e.metric == main and e.value is not None]
    values = [e for e in grouped if e.statistic == "value" and e.subject == CANDIDATE]
    if len(values) > 1:
        worst, best = min(values, key=_value_of), max(values, key=_value_of)
        sentences.append(
            f"Over {len(values)} groups of users, {name} runs from {worst.value:.3f} "
            f"({named(worst.segment)}; {counted(worst.n_users, 'user')}) to {best.value:.3f} "
            f"({named(best.segment)}; {counted(best.n_users, 'user')})."
        )
    changes = [e for e in grouped if e.statistic == "difference" and e.versus == INCUMBENT]
    harmed = [e for e in changes if e.high is not None and e.high < 0]
    if changes:
        worst = min(changes, key=_value_of)
        shown = (
            f"{counted(len(harmed), 'group')} of {len(changes)} shown to be worse off than with the incumbent"
            if harmed
            else "No group is shown to be worse off than with the incumbent"
        )
        sentences.append(
            f"{shown}; the least favourable estimate is {worst.value:+.3f} for {named(worst.segment)} "
            f"({interval(worst, signed=True)}, which holds for all {len(changes)} groups together)."
        )
    return sentences


def _value_of(estimate: Estimate) -> float:
    return estimate.value if estimate.value is not None else float("nan")


def _empty(estimates: Sequence[Estimate], main: str, name: str) -> list[str]:
    for count in _pick(estimates, "empty_requests", "value", "requests"):
        if not count.value or not count.n_requests:
            return ["Every test request has a relevant item."] if count.n_requests else []
        found = _pick(estimates, main, "value")
        sentence = (
            f"{count.value / count.n_requests:.1%} of the test requests "
            f"({spaced(int(count.value))} of {spaced(count.n_requests)}) led to no positive outcome "
            "and count in no average"
        )
        if found and "empty_as_zero" in found[0].detail:
            sentence += f"; counted as zero they would make {name} {found[0].detail['empty_as_zero']:.3f}"
        return [f"{sentence}."]
    return []


def _lists(estimates: Sequence[Estimate], k: int) -> list[str]:
    sentences = []
    for found in _pick(estimates, f"coverage@{k}", "value"):
        if found.value is not None:
            items = counted(int(found.detail["eligible_items"]), "eligible item")
            sentences.append(f"The candidate's first {k} places show {found.value:.0%} of {items} at least once.")
    for found in _pick(estimates, f"popular_share@{k}", "value"):
        if found.value is not None:
            sentences.append(
                f"The most popular tenth of the eligible items gets {found.value:.0%} of the exposure "
                f"({interval(found, digits=2)})."
            )
    for found in _pick(estimates, f"popularity@{k}", "ratio"):
        if found.value is not None:
            sentences.append(
                f"The items shown are {found.value:.2f} times as popular as those in the users' own history "
                f"({interval(found, digits=2)})."
            )
    for found in _pick(estimates, f"overlap@{k}", "value"):
        if found.value is not None:
            sentences.append(
                f"On average {found.value * k:.1f} of the first {k} items are also among the incumbent's first {k}."
            )
    return sentences
