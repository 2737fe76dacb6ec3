"""What leaves the rollout room: the manifests of a release, and what became of it while it was a canary.

Rendered manifests are a directory: overlay/ (kustomization.yaml, what `kubectl apply -k` takes), the base/ and components/
it stands on, and rollout.json (`RolloutPlan`).

A canary is judged from `Reading`s, one of each arm and window. What is kept of them is a `Memory`, which any process can go on
from (`components.rollout.memory`); what is said of it at each look is a `StepVerdict`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from components.statistics.sequential_bets import STAKES
from components.statistics.sequential_windows import NOTHING, Sums

SCHEMA_VERSION = 1

CANARY = "canary"
STABLE = "stable"
BASELINE = "baseline"
"""The stable release again, at the canary's size and age, so that cold caches are not blamed on the model; optional."""

Action = Literal["continue", "hold", "roll_back"]
Answer = Literal["within", "harm", "insufficient", "missing", "void"]
"""Of a guardrail: harm beyond the margin is ruled out, is shown, neither; could not be read; users were not split as set."""


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    schema_version: int
    run: str
    release: str
    image: str
    """By digest: `registry/name@sha256:...`."""
    namespace: str
    stable_release: str
    """Release that serves the rest; empty for a first release."""
    stable_image: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What one arm did in one window, of everyone or of one segment."""

    arm: str
    share: float
    """Of the traffic that the arm was set to have, above 0 and below 1."""
    began: float
    """Seconds since 1970."""
    seconds: float
    segment: str = ""
    """`surface=home`; empty: everyone."""
    counts: Mapping[str, float] = field(default_factory=dict)
    """What was counted, by name: requests, errors, lists, fallbacks, empty, ... What is absent, or NaN, was not measured."""
    histograms: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Counts up to each of the policy's bounds and beyond the last, not cumulative: latency, score."""
    gauges: Mapping[str, float] = field(default_factory=dict)
    """As of now: features_age_seconds, skewed_share."""
    new_users: int = 0
    """Users whose first request of this step was in this window; requests without a user count as one each."""


@dataclass(frozen=True, slots=True)
class Track:
    """What is kept of a guardrail for everyone or for one segment: since the canary began, and of the present epoch."""

    whole: Sums = NOTHING
    recent: Sums = NOTHING
    purses: tuple[float, ...] = (0.0,) * len(STAKES)
    """Logarithms, see `components.statistics.sequential_bets`."""
    recent_purses: tuple[float, ...] = (0.0,) * len(STAKES)


@dataclass(frozen=True, slots=True)
class Memory:
    """All that is kept of a canary between looks: a few thousand numbers, however long it runs."""

    schema_version: int
    policy: str
    """Name and version of the policy it was begun under."""
    began: float
    """Seconds since 1970, as all times."""
    step: int
    """From 0."""
    step_began: float
    epoch: int
    """From 1: how many times reading has begun anew, so that a fault of the third hour is not diluted by two good ones."""
    epoch_began: float
    until: float
    """End of the last window; no window is taken in twice."""
    requests: float = 0.0
    """Of the canary in this step."""
    tracks: Mapping[str, Track] = field(default_factory=dict)
    """By guardrail, or `guardrail@segment`."""
    shapes: Mapping[str, tuple[Sums, ...]] = field(default_factory=dict)
    """By guardrail: one for each bound of a histogram."""
    histograms: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """By `guardrail@arm`: all values so far."""
    split_counts: Mapping[str, int] = field(default_factory=dict)
    """Users by arm in this stretch of constant shares."""
    split_shares: Mapping[str, float] = field(default_factory=dict)
    split_stretch: int = 0
    """How many stretches there were, this one included."""
    split_evidence: float = 0.0
    """Logarithm, the largest of the stretches before, each less its part of the level; 0 where none was above it."""
    gauges: Mapping[str, float] = field(default_factory=dict)
    missing_since: Mapping[str, float] = field(default_factory=dict)
    """By guardrail, or arm: since when it could not be read."""
    breached_since: Mapping[str, float] = field(default_factory=dict)
    """By guardrail that is a plain bound."""
    mismatched_since: float | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """How the chance of a false rollback is divided."""

    total: float
    guardrails: Mapping[str, float]
    """Of each guardrail for everyone."""
    segments: Mapping[str, float]
    """Of each single segment of a guardrail; those without segments are absent."""


@dataclass(frozen=True, slots=True)
class GuardrailResult:
    """One guardrail at one look, for everyone or one segment."""

    guardrail: str
    segment: str
    answer: Answer
    estimate: float | None
    """Difference to the stable arm, harm upwards (rates, slow requests), ratio to it (outcomes), distance to what was expected
    (distributions), or the value itself (plain bounds)."""
    low: float | None
    high: float | None
    """Limits that hold at every look; the one on the harmful side decides on rolling back, the other on going on."""
    bound: float
    """What is harm."""
    n: int
    """Requests, lists or users of the canary that it rests on."""
    unit: str
    level: float | None
    """Confidence of the limit that decides on rolling back, its part of the family's; None for a plain bound."""
    continue_level: float | None
    """Confidence of the other limit."""
    method: str
    expected_seconds: float | None
    """Until it is settled, at the present traffic; None where that cannot be said, or it is settled."""
    message: str


@dataclass(frozen=True, slots=True)
class StepVerdict:
    """What is to be done now, and why."""

    schema_version: int
    policy: str
    at: float
    step: int
    share: float
    action: Action
    reason: str
    """One or two sentences, for a person."""
    waits_for: tuple[str, ...]
    """What stands in the way of the next step; empty where nothing does, or where the canary is rolled back."""
    expected_seconds: float | None
    """Until the next step at the earliest, as far as can be told; None where it cannot, or nothing is waited for."""
    results: tuple[GuardrailResult, ...]
    budget: Budget
