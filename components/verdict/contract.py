"""What leaves the verdict room: a Verdict, and the policy it was reached under.

A frozen policy is a directory: policy.yaml and, where there are any, the re-rank rules rerank.yaml (the very bytes that were
given) and the team's words model-card.yaml, frozen.json (`FrozenPolicy`). A verdict is a directory: verdict.json (`Verdict`).

Three values, for each criterion and each slice it looks at: `pass` (harm beyond the margin is ruled out), `fail` (harm
beyond the margin is shown), `insufficient` (neither, or the evidence is missing). Never "not significant, so fair".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SCHEMA_VERSION = 1

Answer = Literal["pass", "fail", "insufficient"]


@dataclass(frozen=True, slots=True)
class FrozenPolicy:
    """The policy as fixed by the run's first step; a later one cannot judge this run."""

    schema_version: int
    name: str
    version: str
    digest: str
    """sha256 of policy.yaml's bytes."""
    frozen_at: str
    """ISO 8601, UTC."""
    suite: str
    """sha256 of the suite that was run and passed before freezing."""
    suite_cases: int
    rerank: str = ""
    """sha256 of rerank.yaml's bytes, which is frozen with the policy; empty where it has none."""
    model_card: str = ""
    """sha256 of model-card.yaml's bytes, which is frozen with the policy; empty where nobody wrote any."""


@dataclass(frozen=True, slots=True)
class Harm:
    """A harm that the team foresees, whom it would meet (empty: not said), and what is done about it."""

    harm: str
    mitigation: str
    affected: str = ""


@dataclass(frozen=True, slots=True)
class Purpose:
    """What only the team can say of its ranker (model-card.yaml); what is empty was not written."""

    owner: str = ""
    contact: str = ""
    licence: str = ""
    intended_use: str = ""
    intended_users: tuple[str, ...] = ()
    out_of_scope: tuple[str, ...] = ()
    surfaces: tuple[str, ...] = ()
    main_parameters: str = ""
    user_options: str = ""
    risks: tuple[Harm, ...] = ()
    oversight: str = ""
    rollout: str = ""
    """Canary and way back."""
    retention: str = ""
    changes: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One criterion on one estimate."""

    answer: Answer
    subject: str
    versus: str
    segment: dict[str, str]
    value: float | None
    low: float | None
    high: float | None
    level: float
    n_users: int
    margin: float
    """The bound of the criterion, in the metric's unit."""
    more_users: int | None
    """How many more users would settle an `insufficient`, about; None where that has no meaning."""
    message: str
    """Which thing, what was found, what was needed; one or two sentences with the figures."""
    needed: str = ""
    """The bound in words, such as `at least -0.02`; `margin` is the side of it that decided."""
    excused: str = ""
    """Why this `insufficient` does not stop a release by itself, by the policy's own rule; empty where it does."""
    waivable: bool = False
    """Whether the policy lets a signed waiver stand in for this finding: never for what was not measured."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One criterion: its answer is its worst finding's."""

    criterion: str
    title: str
    evidence: str
    metric: str
    statistic: str
    blocking: bool
    on_insufficient: Literal["block", "waive", "note"]
    answer: Answer
    blocks: bool
    """True where this outcome stops the release."""
    findings: tuple[Finding, ...]
    why: str
    """Why the criterion exists, from the policy."""
    not_applicable: str = ""
    """Reason the policy's own rule excuses it (a first release has no incumbent); answer is then `pass`."""
    on_fail: Literal["block", "waive"] = "block"
    """Whether the policy lets a signed waiver stand in for a `fail`."""


@dataclass(frozen=True, slots=True)
class Verdict:
    schema_version: int
    answer: Literal["passed", "blocked"]
    policy: FrozenPolicy
    evidence: dict[str, str]
    """sha256 of each evidence file that was read, by question."""
    outcomes: tuple[Outcome, ...]
    first_release: bool
    summary: str
    """One sentence."""
