"""From a finding back to the estimate that it judged: what a verdict says is read off an evidence, and can be led back to it."""

from __future__ import annotations

from collections.abc import Mapping

from components.evidence.contract import Estimate, Evidence
from components.verdict.contract import Finding, Outcome


def estimate_of(outcome: Outcome, finding: Finding, evidence: Mapping[str, Evidence]) -> Estimate | None:
    """The estimate that a finding of a criterion judged.

    Args:
        outcome: The criterion's outcome.
        finding: One of its findings.
        evidence: The run's evidence, by question.

    Returns:
        None where the finding is that something was not measured, and where two estimates fit: nothing is guessed.
    """
    held = evidence.get(outcome.evidence)
    if held is None:
        return None
    fits = [
        estimate
        for estimate in held.estimates
        if (estimate.metric, estimate.statistic) == (outcome.metric, outcome.statistic)
        and (estimate.subject, estimate.versus, estimate.segment) == (finding.subject, finding.versus, finding.segment)
        and (finding.value is None or estimate.value == finding.value)
    ]
    return fits[0] if len(fits) == 1 else None


def measured_on(segment: Mapping[str, str], evidence: Mapping[str, Evidence]) -> tuple[tuple[str, Estimate], ...]:
    """Everything measured on the very same users, whatever the question: (question, estimate), in the evidence's order."""
    return tuple(
        (question, estimate)
        for question, held in sorted(evidence.items())
        for estimate in held.estimates
        if estimate.segment == segment
    )
