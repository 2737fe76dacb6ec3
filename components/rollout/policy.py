"""The rollout policy as a person writes it: `rankgate/rollout/v1`, read strictly, every fault of the file in one error.

    policies/rollout/default.yaml    steps, guardrails, budgets
    policies/rollout/suite.yaml      what it must say about sample canaries (`components.rollout.suite`)

docs/canary-judge.md is the reference for whoever writes one.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from components.artifacts.strict_yaml import Declared, Filled, Number, Text, parse_model, read_text
from components.errors import Fault, FaultyInputError, InputError
from components.rollout.contract import Budget

ROLLOUT_FILE = "default.yaml"
SCHEMA = "rankgate/rollout/v1"

Positive = Annotated[float, Field(strict=True, gt=0)]
Share = Annotated[float, Field(strict=True, gt=0, lt=1)]
Chance = Annotated[float, Field(strict=True, gt=0, le=0.2)]
Seconds = Annotated[float, Field(strict=True, ge=0)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60)]


class Step(Declared):
    """A stretch with a share of traffic."""

    share: Share
    dwell_seconds: Seconds
    """At least so long, whatever is known."""
    least_requests: Annotated[int, Field(strict=True, ge=0)] = 0
    """Of the canary in this step, before it may go on."""


class Segments(Declared):
    """Groups of requests or users that a guardrail is asked of one by one."""

    by: Annotated[tuple[Text, ...], Filled]
    """Attributes: a segment is `surface=home`."""
    most: Annotated[int, Field(strict=True, ge=1, le=200)] = 10
    """So many have a part of the budget, in the order in which they first appear; others are looked at only with everyone."""


class _Guardrail(Declared):
    id: Name
    title: Text
    why: Text
    weight: Positive = 1.0
    """Part of the budget of false rollbacks, beside those of the others."""
    ruled_out_from: Annotated[int, Field(strict=True, ge=1)] | Literal["never"] = 1
    """Step, counted from 1, from which a canary goes on only if harm beyond the margin is ruled out. Before it, and with `never`,
    it is enough that harm is not shown."""


class Rate(_Guardrail):
    """A share of requests or lists, compared with the stable arm's of the same moments."""

    kind: Literal["rate"]
    measure: Text
    of: Text
    harm: Literal["more", "less"] = "more"
    margin: Share
    """How much more (or less) of a share is tolerated: 0.005 is half a point."""
    segments: Segments | None = None


class Latency(_Guardrail):
    """A quantile of latency, compared with the stable arm's."""

    kind: Literal["latency"]
    measure: Text
    bounds: Annotated[tuple[Positive, ...], Filled]
    """Seconds, ascending: of the histogram."""
    quantile: Annotated[float, Field(strict=True, ge=0.5, lt=1)]
    ratio: Annotated[float, Field(strict=True, gt=1)]
    """Harm is a quantile more than so many times the stable arm's, to the next bound of the histogram."""
    segments: Segments | None = None

    @property
    def margin(self) -> float:
        """Share of requests that may be slower than that, beyond the stable arm's own share."""
        return float(f"{1 - self.quantile:.12g}")


class Outcome(_Guardrail):
    """What users do, a list, compared with the stable arm's; the user is the unit."""

    kind: Literal["outcome"]
    measure: Text
    margin: Share
    """Relative loss that is tolerated: 0.05 is a twentieth of the stable arm's rate."""
    least_users: Annotated[int, Field(strict=True, ge=2)] = 200
    """Of each arm, before limits are believed."""
    segments: Segments | None = None


class Distribution(_Guardrail):
    """A histogram of the canary, against the shares that the evidence led one to expect."""

    kind: Literal["distribution"]
    measure: Text
    margin: Share
    """Largest tolerated distance between the two cumulative distributions (Kolmogorov's)."""


class Plain(_Guardrail):
    """A figure that is counted or read, not sampled: no statistics, only how long it may be out of bounds."""

    kind: Literal["plain"]
    measure: Text
    at_most: Number
    for_seconds: Seconds = 0.0
    """Out of bounds for less holds; for so long rolls back."""
    ruled_out_from: Literal[1] = 1


Guardrail = Annotated[Rate | Latency | Outcome | Distribution | Plain, Field(discriminator="kind")]
Sampled = Rate | Latency | Outcome | Distribution


class RolloutPolicy(Declared):
    """How a release is let out."""

    schema_: Literal["rankgate/rollout/v1"] = Field(alias="schema")
    name: Name
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    description: Text
    evaluate_seconds: Annotated[float, Field(strict=True, ge=1, le=300)]
    """From look to look; the window of a reading."""
    false_rollback: Chance
    """Chance that a canary within all margins is ever rolled back by a sampled guardrail: looks, segments, steps together."""
    false_continue: Chance
    """Chance, for each guardrail, that a harm just beyond its margin is ever called ruled out."""
    split_level: Chance
    """Chance that users split as set are ever called mismatched."""
    patience_seconds: Seconds
    """How long a figure may be missing, or the split wrong, before the canary is rolled back."""
    restart_seconds: Annotated[float, Field(strict=True, ge=60)]
    """How often reading begins anew beside the reading since the beginning; each step does so as well."""
    hold_at_most_seconds: Annotated[float, Field(strict=True, gt=0)]
    """A step that has not gone on by then is rolled back."""
    compare_with: Literal["stable", "baseline"] = "stable"
    steps: Annotated[tuple[Step, ...], Filled]
    guardrails: Annotated[tuple[Guardrail, ...], Filled]

    @model_validator(mode="after")
    def _long_enough(self) -> RolloutPolicy:
        if self.hold_at_most_seconds <= max((step.dwell_seconds for step in self.steps), default=0):
            raise ValueError("hold_at_most_seconds above every step's dwell_seconds")
        return self

    @property
    def label(self) -> str:
        """`default@1.0.0`."""
        return f"{self.name}@{self.version}"


def budget_of(policy: RolloutPolicy) -> Budget:
    """Divide the chance of a false rollback among guardrails by weight, and within one half to everyone, half to its segments.

    A weighted Bonferroni division of e-values: it holds under any dependence between guardrails, and each keeps an interval of
    its own. Steps and looks get no part: evidence that holds at every look is not divided by looks.
    """
    sampled = [guardrail for guardrail in policy.guardrails if not isinstance(guardrail, Plain)]
    weights = sum(guardrail.weight for guardrail in sampled)
    everyone, segments = {}, {}
    for guardrail in sampled:
        part = policy.false_rollback * guardrail.weight / weights
        held = segments_of(guardrail)
        everyone[guardrail.id] = part / 2 if held else part
        if held:
            segments[guardrail.id] = part / 2 / held.most
    return Budget(policy.false_rollback, everyone, segments)


def segments_of(guardrail: Guardrail) -> Segments | None:
    """Of which segments a guardrail is asked; None: of everyone only."""
    return None if isinstance(guardrail, Plain | Distribution) else guardrail.segments


def rollout_place(path: Path) -> Path | None:
    """The file of a rollout policy that is named by its folder or itself; None where the path is something else."""
    place = path / ROLLOUT_FILE if path.is_dir() else path
    if not place.is_file() or place.name in ("suite.yaml", "policy.yaml"):
        return None
    return place if f"schema: {SCHEMA}" in read_text(place, subject=f"rollout policy {place}") else None


def load_rollout_policy(path: Path) -> RolloutPolicy:
    """Read a rollout policy, by its file or by a folder that has a `default.yaml`.

    Raises:
        InputError: If the file cannot be read or is no YAML.
        FaultyInputError: If anything in it is wrong; names every fault.
    """
    place = path / ROLLOUT_FILE if path.is_dir() else path
    if not place.is_file():
        raise InputError(
            f"rollout policy {path}: found no {place.name}; needed a file such as policies/rollout/default.yaml."
        )
    return parse_rollout_policy(read_text(place, subject=f"rollout policy {place}"), subject=f"rollout policy {place}")


def parse_rollout_policy(text: str, *, subject: str) -> RolloutPolicy:
    """As `load_rollout_policy`, from text; `subject` names it in errors."""
    policy = parse_model(RolloutPolicy, text, subject=subject)
    if faults := _meaning_faults(policy):
        raise FaultyInputError(subject, faults)
    return policy


def _meaning_faults(policy: RolloutPolicy) -> list[Fault]:
    """What the schema cannot say: rules that would never do what they seem to."""
    faults = [
        Fault(f"guardrails.{name}", f"the id {times} times", "ids that differ")
        for name, times in sorted(Counter(guardrail.id for guardrail in policy.guardrails).items())
        if times > 1
    ]
    shares = [step.share for step in policy.steps]
    if any(later <= earlier for earlier, later in pairwise(shares)):
        faults.append(Fault("steps", f"the shares {shares}", "shares that grow from step to step"))
    if all(isinstance(guardrail, Plain) for guardrail in policy.guardrails):
        faults.append(Fault("guardrails", "plain bounds alone", "at least one that is compared with the stable arm"))
    for guardrail in policy.guardrails:
        where = f"guardrails.{guardrail.id}"
        if isinstance(guardrail, Latency) and any(late <= early for early, late in pairwise(guardrail.bounds)):
            faults.append(Fault(f"{where}.bounds", str(list(guardrail.bounds)), "bounds that ascend"))
        first = guardrail.ruled_out_from
        if first != "never" and first > len(policy.steps):
            faults.append(
                Fault(
                    f"{where}.ruled_out_from",
                    f"step {first} of {len(policy.steps)}",
                    f"a step from 1 to {len(policy.steps)}, or never",
                    "A harm would never have to be ruled out; say never if that is meant.",
                )
            )
    return faults
