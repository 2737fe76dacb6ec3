"""Holds evidence against a frozen policy and writes the verdict. Evidence of any kind leads to a verdict, never to an error.

decide() must not raise for what it reads: Kubeflow drops a failed task's outputs (kubeflow/pipelines#12425), and a blocked
release without its evidence cannot be reviewed. Only a policy that is not the frozen one stops it, because then there is
nothing to decide by; `components.verdict.enforce` makes the run red.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from components.artifacts import documents
from components.verdict.contract import SCHEMA_VERSION, Verdict
from components.verdict.freezing import open_frozen
from components.verdict.judging import judge
from components.verdict.outcomes import is_passed, summarise
from components.verdict.reading import read_evidence

VERDICT_FILE = "verdict.json"


def decide(evidence: Sequence[Path], policy: Path, *, first_release: bool, out: Path) -> Verdict:
    """Judge evidence and write verdict.json into `out`. Equal evidence and policy give equal bytes.

    Args:
        evidence: Evidence directories; each question in at most one of them.
        policy: A frozen policy's directory.
        first_release: Whether there is no incumbent.
        out: An existing, empty directory.

    Returns:
        The verdict; `blocked` wherever something that the policy asks for is missing, unreadable or unsure.

    Raises:
        InputError: If the policy cannot be read or is not the one that was frozen.
    """
    frozen, rules = open_frozen(policy)
    read = read_evidence(evidence)
    outcomes = judge(rules, read.evidence, read.broken, first_release=first_release)
    verdict = Verdict(
        schema_version=SCHEMA_VERSION,
        answer="passed" if is_passed(outcomes) else "blocked",
        policy=frozen,
        evidence=read.digests,
        outcomes=outcomes,
        first_release=first_release,
        summary=summarise(outcomes, frozen),
    )
    documents.save(verdict, out / VERDICT_FILE)
    return verdict
