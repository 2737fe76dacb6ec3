"""Which estimates of an evidence a criterion looks at, and what it asked for that is not there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from components.evidence.contract import Estimate, Evidence
from components.verdict.policy import ANY, CROSS, Criterion, Segments
from components.verdict.words import asked_for


@dataclass(frozen=True, slots=True)
class Selection:
    """What a criterion found."""

    estimates: tuple[Estimate, ...]
    """In the evidence's order."""
    lacking: tuple[str, ...]
    """A sentence for each thing that was asked for and is not there."""
    knows_metric: bool
    """Whether the evidence speaks of the criterion's metric at all, of whatever subject or group."""


def select(criterion: Criterion, evidence: Evidence) -> Selection:
    """The estimates that fit a criterion; everything it names and the evidence lacks is told, never skipped."""
    same = [
        estimate
        for estimate in evidence.estimates
        if (estimate.metric, estimate.statistic) == (criterion.metric, criterion.statistic)
    ]
    about = [estimate for estimate in same if _is_about(criterion, estimate)]
    segments = criterion.select.segments
    found = [estimate for estimate in about if _is_in(segments, estimate)]
    return Selection(
        estimates=tuple(found),
        lacking=tuple(_lacking(criterion, evidence, same, about, found)),
        knows_metric=any(estimate.metric == criterion.metric for estimate in evidence.estimates),
    )


def _is_about(criterion: Criterion, estimate: Estimate) -> bool:
    return _names(criterion, estimate) and not _left_out(criterion, estimate)


def _names(criterion: Criterion, estimate: Estimate) -> bool:
    select = criterion.select
    return select.subject in (ANY, estimate.subject) and select.versus in (ANY, estimate.versus)


def _left_out(criterion: Criterion, estimate: Estimate) -> dict[str, float]:
    """The further figures by which a criterion leaves an estimate out, and what each had to be."""
    wanted = criterion.select.detail_at_least
    return {name: least for name, least in wanted.items() if estimate.detail.get(name, least) < least}


def _is_in(segments: Segments, estimate: Estimate) -> bool:
    if not segments.slices:
        return not estimate.segment
    if segments.every:
        return bool(estimate.segment)
    return any(_is_of(attribute, estimate) for attribute in segments.each)


def _is_of(attribute: str, estimate: Estimate) -> bool:
    if attribute == ANY:
        return len(estimate.segment) == 1
    return set(estimate.segment) == set(attribute.split(CROSS))


def _lacking(
    criterion: Criterion, evidence: Evidence, same: list[Estimate], about: list[Estimate], found: list[Estimate]
) -> Iterator[str]:
    file = f"{evidence.question}.json"
    if not found:
        yield f"{file} holds no {asked_for(criterion)}{_hint(criterion, evidence, same, about)}"
        return
    for attribute in criterion.select.segments.each:
        if not any(_is_of(attribute, estimate) for estimate in found):
            yield f"{file} holds no {asked_for(criterion)} by {attribute}{_hint(criterion, evidence, same, about)}"


def _hint(criterion: Criterion, evidence: Evidence, same: list[Estimate], about: list[Estimate]) -> str:
    """What there is instead."""
    if not evidence.estimates:
        return "; it holds no estimate at all"
    if not any(estimate.metric == criterion.metric for estimate in evidence.estimates):
        metrics = sorted({estimate.metric for estimate in evidence.estimates})
        close = get_close_matches(criterion.metric, metrics, n=1)
        return f"; did the policy mean {close[0]}?" if close else f"; its metrics are {', '.join(metrics)}"
    if not same:
        statistics = sorted({e.statistic for e in evidence.estimates if e.metric == criterion.metric})
        return f"; of that metric it holds {', '.join(statistics)}"
    if not about:
        left = {name: least for e in same if _names(criterion, e) for name, least in _left_out(criterion, e).items()}
        if left:
            figures = ", ".join(f"{name} below {least:g}" for name, least in sorted(left.items()))
            return f"; the rule leaves out what it has ({figures})"
        known = sorted({f"{e.subject}{f' against {e.versus}' if e.versus else ''}" for e in same})
        return f"; it has this for {', '.join(known[:8])}{' and others' if len(known) > 8 else ''}"
    groups = sorted({CROSS.join(sorted(e.segment)) or "everyone together" for e in about})
    return f"; it has this by {', '.join(groups)}"
