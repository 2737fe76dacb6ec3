"""What every chapter asks of the evidence: its estimates, its sentences, its conventions, the policy's bounds on it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from components.card.parts import Section
from components.card.sources import Opened
from components.card.words import QUESTION_NAMES, typeset
from components.evidence.contract import Estimate, Question
from components.verdict.contract import Outcome

MOST_MARKS = 16
"""Rows of a picture; the table below it has all."""


def estimates(opened: Opened, question: Question) -> tuple[Estimate, ...]:
    """All estimates of a question; none where it was not measured."""
    held = opened.evidence.get(question)
    return held.estimates if held else ()


def notes(opened: Opened, question: Question) -> tuple[tuple[str, str], ...]:
    """The conventions under which a question's figures are made."""
    held = opened.evidence.get(question)
    return tuple(sorted(held.conventions.items())) if held else ()


def sentences(opened: Opened, question: Question) -> tuple[str, ...]:
    """What the evidence says in words; that there is none, where there is none."""
    held = opened.evidence.get(question)
    if held is None:
        return (f"This was not measured: the run has no readable evidence on {QUESTION_NAMES[question]}.",)
    return tuple(map(typeset, held.sentences)) or ("The evidence holds figures, but no sentence about them.",)


def absent(opened: Opened, question: Question, id_: str, title: str, asks: str) -> Section | None:
    """The section of a question without evidence; None where there is evidence."""
    if question in opened.evidence:
        return None
    return Section(id_, title, asks, sentences(opened, question), measured=False)


def main_cutoff(opened: Opened) -> int:
    """The cut-off whose figures are shown first: that of quality's main metric, else the one nearest to ten."""
    held = opened.evidence.get("quality")
    named = re.fullmatch(r"[a-z]+@(\d+)", held.conventions.get("main metric", "") if held else "")
    if named:
        return int(named[1])
    ordered = sorted(opened.rankings.cutoffs)
    return min(ordered, key=lambda k: (abs(k - 10), k)) if ordered else 10


def harm_band(
    opened: Opened,
    evidence: str,
    metric: str,
    statistic: str,
    *,
    among: Iterable[Estimate] | None = None,
) -> tuple[float, float] | None:
    """Figures that the policy calls harm: those beyond the bound of its first criterion on them, blocking ones first.

    With `among`, only a criterion counts that judges one of these estimates: the same segment against the same versus.
    """
    judged = None if among is None else [(e.versus, e.segment) for e in among]
    found = [o for o in opened.verdict.outcomes if _is_on(o, evidence, metric, statistic)]
    for outcome in sorted(found, key=lambda o: not o.blocking):
        for finding in outcome.findings:
            if judged is not None and (finding.versus, finding.segment) not in judged:
                continue
            if finding.needed.startswith("at least"):
                return float("-inf"), finding.margin
            if finding.needed.startswith("at most"):
                return finding.margin, float("inf")
            break
    return None


def _is_on(outcome: Outcome, evidence: str, metric: str, statistic: str) -> bool:
    return (outcome.evidence, outcome.metric, outcome.statistic) == (evidence, metric, statistic)


def lowest(found: Iterable[Estimate]) -> Estimate | None:
    """The estimate with the smallest value; None where none has a value."""
    return min((e for e in found if e.value is not None), key=lambda e: e.value or 0.0, default=None)


def beyond(estimate: Estimate, band: tuple[float, float] | None) -> bool:
    """Whether an estimate's whole interval lies in the band."""
    if band is None or estimate.low is None or estimate.high is None:
        return False
    return band[0] <= estimate.low and estimate.high <= band[1]


def tone(estimate: Estimate, reference: float = 0.0) -> str:
    """`bad` or `good` where the whole interval lies on one side of the reference; else `plain`."""
    if estimate.high is not None and estimate.high < reference:
        return "bad"
    return "good" if estimate.low is not None and estimate.low > reference else "plain"
