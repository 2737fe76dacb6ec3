"""A rollout policy's suite: sample canaries, and what must be said of them. A policy without one is refused.

    schema: rankgate/rollout-suite/v1
    policy: default
    cases:
      - name: a canary that fails
        sample: samples/harmless.yaml
        change: {rates: {errors: {canary: 0.05}}}    # keys of the sample, put in place of its own
        expect:
          action: roll_back
          answers: {errors: harm}                    # every guardrail that is not named must be within
          messages: [more errors in a hundred requests]

A sample says what each arm does in every window, always the same: there is nothing random in a suite. Every guardrail needs a
case in which harm is ruled out, one in which it is shown, and, where it is sampled, one in which it is neither.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, model_validator

from components.artifacts.digests import digest_bytes, digest_json
from components.artifacts.strict_yaml import Declared, Filled, Number, Text, parse_model, parse_value, read_text
from components.errors import Fault, FaultyInputError, InputError, nearest
from components.rollout.contract import CANARY, STABLE, Action, Answer, Memory, Reading, StepVerdict
from components.rollout.judging import judge
from components.rollout.memory import begin, moved, taken_in
from components.rollout.policy import (
    ROLLOUT_FILE,
    Latency,
    Plain,
    RolloutPolicy,
    parse_rollout_policy,
)
from components.statistics.sequential_users import Contrast

SUITE_FILE = "suite.yaml"
_BEFORE = 12
"""Windows of a step before the one that is judged."""
ARMS = (CANARY, STABLE)

Count = Annotated[int, Field(strict=True, ge=0)]


class Pair(Declared):
    """One figure of each arm."""

    canary: Number
    stable: Number


class Users(Declared):
    """What users of both arms did, in short."""

    users: Pair
    ratio: Annotated[float, Field(strict=True, gt=0)]
    """Rate of the canary's users over that of the stable arm's."""
    spread: Annotated[float, Field(strict=True, gt=0)]
    """Standard deviation of a user's own rate, in units of the mean."""


class Missing(Declared):
    """What could not be read in the last windows."""

    windows: Annotated[int, Field(strict=True, ge=1)]
    arms: tuple[Literal["canary", "stable"], ...] = ()
    measures: tuple[Text, ...] = ()


class Sample(Declared):
    """A canary in one step: the same in every window."""

    schema_: Literal["rankgate/rollout-sample/v1"] = Field(alias="schema")
    description: str = ""
    step: Annotated[int, Field(strict=True, ge=1)]
    """From 1; of each step before it were a few windows, all the same."""
    windows: Count
    """Of this step."""
    requests: Pair
    """A window, of both arms; shares are the step's."""
    rates: dict[str, Pair]
    """By measure, a request (or list)."""
    latency: dict[str, dict[str, Number]]
    """Share of requests by the bound of their bucket, in seconds."""
    score: tuple[Number, ...]
    """Share of scores in each bucket, of the canary."""
    expected_score: tuple[Number, ...]
    gauges: dict[str, Number]
    new_users: Pair
    """A window."""
    outcomes: dict[str, Users] = Field(default_factory=dict)
    """By guardrail, or guardrail@segment."""
    segments: dict[str, dict[str, Pair]] = Field(default_factory=dict)
    """By segment: rates of it, where they differ; a segment has a fifth of the requests."""
    missing: Missing | None = None
    revoked: bool = False

    @model_validator(mode="after")
    def _shares(self) -> Sample:
        if len(self.score) != len(self.expected_score):
            raise ValueError("score and expected_score of one length")
        if set(self.latency) != set(ARMS):
            raise ValueError("latency of canary and of stable")
        return self


class Expectation(Declared):
    """What the judge must say."""

    action: Literal["continue", "hold", "roll_back"]
    answers: dict[str, Literal["within", "harm", "insufficient", "missing", "void"]] = Field(default_factory=dict)
    """By guardrail or guardrail@segment; a guardrail that is not named must be within."""
    messages: tuple[Text, ...] = ()
    """Each must stand in the reason."""


class Case(Declared):
    """One case."""

    name: Text
    sample: Text
    change: dict[str, Any] = Field(default_factory=dict)
    expect: Expectation


class Suite(Declared):
    """All cases of a rollout policy."""

    schema_: Literal["rankgate/rollout-suite/v1"] = Field(alias="schema")
    policy: Text
    cases: Annotated[tuple[Case, ...], Filled]


@dataclass(frozen=True, slots=True)
class RolloutSuiteResult:
    """What a run of a suite found."""

    policy: RolloutPolicy
    policy_digest: str
    suite_digest: str
    cases: int
    failures: tuple[str, ...]


def check_rollout_suite(place: Path) -> RolloutSuiteResult:
    """As `run_rollout_suite`, but refuses a policy that its own suite does not bear out.

    Raises:
        InputError: As `run_rollout_suite`, and if anything fails; names the cases.
    """
    result = run_rollout_suite(place)
    if result.failures:
        label = f"rollout policy {result.policy.label}"
        head = f"{label}: its suite of {result.cases} cases does not bear it out; mend one of them:"
        raise InputError("\n".join([head, *(f"  - {failure}" for failure in result.failures)]))
    return result


def run_rollout_suite(place: Path) -> RolloutSuiteResult:
    """Run the suite beside a rollout policy.

    Args:
        place: The policy's file, or its folder.

    Raises:
        InputError: If policy, suite or a sample is missing or cannot be read.
    """
    file = place / ROLLOUT_FILE if place.is_dir() else place
    text = read_text(file, subject=f"rollout policy {file}")
    policy = parse_rollout_policy(text, subject=f"rollout policy {file}")
    suite_place = file.parent / SUITE_FILE
    if not suite_place.is_file():
        raise InputError(f"rollout policy {policy.label}: found no {SUITE_FILE} beside it; needed one.")
    suite_text = read_text(suite_place, subject=f"suite {suite_place}")
    suite = parse_model(Suite, suite_text, subject=f"suite {suite_place}")
    if faults := _faults(suite, policy):
        raise FaultyInputError(f"suite {suite_place}", faults)
    failures, digests = [], {SUITE_FILE: digest_bytes(suite_text.encode())}
    for case in suite.cases:
        sample_text = _sample_text(file.parent, case.sample)
        digests[case.sample] = digest_bytes(sample_text.encode())
        sample = _changed(sample_text, case)
        verdict = _judged(policy, sample)
        failures += [f"case '{case.name}': {difference}" for difference in _differences(case.expect, verdict)]
    return RolloutSuiteResult(
        policy,
        digest_bytes(text.encode()),
        digest_json(digests),
        len(suite.cases),
        (*failures, *_uncovered(suite, policy)),
    )


def _sample_text(folder: Path, name: str) -> str:
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise InputError(f"suite: found the sample {name!r}; needed a path inside the policy's folder.")
    return read_text(folder / relative, subject=f"sample {folder / relative}")


def _changed(text: str, case: Case) -> Sample:
    value = parse_value(text, subject=f"sample {case.sample}")
    merged = _merged(value, case.change) if isinstance(value, dict) else value
    # Through the strict reader again: a change is held to the sample's format as well.
    return parse_model(Sample, yaml.safe_dump(merged), subject=f"case '{case.name}' on {case.sample}")


def _merged(value: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Keys put in place of others, mapping by mapping; histograms are put in place whole."""
    found = dict(value)
    for key, wanted in change.items():
        held, new = found.get(key), wanted
        if isinstance(held, dict) and isinstance(new, dict) and key != "latency":
            new = _merged(held, new)
        found[key] = new
    return found


def _judged(policy: RolloutPolicy, sample: Sample) -> StepVerdict:
    memory, at = begin(policy, at=0.0), 0.0
    for step in range(sample.step):
        if step:
            memory = moved(memory, step=step, at=at)
        last = step + 1 == sample.step
        for window in range(sample.windows if last else _BEFORE):
            lately = sample.missing is not None and window >= sample.windows - sample.missing.windows
            gap = sample.missing if last and lately else None
            memory = _window(policy, sample, memory, step, at, gap)
            at += policy.evaluate_seconds
    outcomes = {key: _contrast(users) for key, users in sample.outcomes.items()}
    return judge(policy, memory, outcomes=outcomes, at=at, revoked=sample.revoked)


def _window(policy: RolloutPolicy, sample: Sample, memory: Memory, step: int, at: float, gap: Missing | None) -> Memory:
    share = policy.steps[step].share
    readings = []
    for arm in ARMS:
        if gap and arm in gap.arms:
            continue
        own = _reading(policy, sample, arm, share if arm == CANARY else 1 - share, at)
        if gap:
            own = replace(
                own,
                counts={name: value for name, value in own.counts.items() if name not in gap.measures},
                histograms={name: value for name, value in own.histograms.items() if name not in gap.measures},
                gauges={name: value for name, value in own.gauges.items() if name not in gap.measures},
            )
        readings.append(own)
        for segment, rates in sample.segments.items():
            counts = {name: value / 5 for name, value in own.counts.items()}
            counts |= {name: _of(pair, arm) * counts["requests"] for name, pair in rates.items()}
            readings.append(replace(own, segment=segment, counts=counts, histograms={}, gauges={}, new_users=0))
    if not readings:
        return replace(memory, missing_since={arm: memory.missing_since.get(arm, at) for arm in ARMS})
    return taken_in(memory, policy, readings, expectations={"score": sample.expected_score})


def _reading(policy: RolloutPolicy, sample: Sample, arm: str, share: float, at: float) -> Reading:
    requests = _of(sample.requests, arm)
    counts = {"requests": requests, "lists": requests}
    counts |= {name: _of(pair, arm) * requests for name, pair in sample.rates.items()}
    bounds = next((g.bounds for g in policy.guardrails if isinstance(g, Latency)), ())
    shares = {float(bound): part for bound, part in sample.latency[arm].items()}
    return Reading(
        arm,
        share,
        at,
        policy.evaluate_seconds,
        counts=counts,
        histograms={
            "latency": tuple(shares.get(bound, 0.0) * requests for bound in (*bounds, float("inf"))),
            "score": tuple(part * requests for part in sample.score),
        },
        gauges=dict(sample.gauges),
        new_users=round(_of(sample.new_users, arm)),
    )


def _of(pair: Pair, arm: str) -> float:
    return pair.canary if arm == CANARY else pair.stable


def _contrast(users: Users) -> Contrast:
    own, other = users.users.canary, users.users.stable
    return Contrast(
        canary=users.ratio,
        stable=1.0,
        canary_square=(users.ratio * users.spread) ** 2 / own,
        product=0.0,
        stable_square=users.spread**2 / other,
        canary_users=round(own),
        stable_users=round(other),
        canary_lists=own,
        stable_lists=other,
    )


def _differences(expected: Expectation, verdict: StepVerdict) -> list[str]:
    differences = []
    action: Action = expected.action
    if verdict.action != action:
        differences.append(f"found {verdict.action}; needed {action}. It says: {verdict.reason}")
    for result in verdict.results:
        key = f"{result.guardrail}@{result.segment}" if result.segment else result.guardrail
        wanted: Answer | None = expected.answers.get(key, None if result.segment else "within")
        if wanted is not None and result.answer != wanted:
            differences.append(f"found {key}: {result.answer}; needed {wanted}. It says: {result.message}")
    unknown = set(expected.answers) - {
        f"{r.guardrail}@{r.segment}" if r.segment else r.guardrail for r in verdict.results
    }
    differences += [f"found no result of {key}" for key in sorted(unknown)]
    plain = " ".join(verdict.reason.split())
    differences += [
        f"found no {fragment!r} in the reason: {verdict.reason}"
        for fragment in expected.messages
        if " ".join(fragment.split()) not in plain
    ]
    return differences


def _faults(suite: Suite, policy: RolloutPolicy) -> list[Fault]:
    known = [guardrail.id for guardrail in policy.guardrails]
    faults = []
    if suite.policy != policy.name:
        faults.append(Fault("policy", repr(suite.policy), f"the name of the policy beside it, {policy.name!r}"))
    names = [case.name for case in suite.cases]
    for place, case in enumerate(suite.cases):
        if case.name in names[:place]:
            faults.append(Fault(f"cases.{place}.name", repr(case.name), "a name that no other case has"))
        faults += [
            Fault(f"cases.{place}.expect.answers", repr(key), "the id of a guardrail", nearest(key, known))
            for key in case.expect.answers
            if key.partition("@")[0] not in known
        ]
    return faults


def _uncovered(suite: Suite, policy: RolloutPolicy) -> list[str]:
    """Guardrails without a case for each answer, and actions that no case expects."""
    lacking = []
    for guardrail in policy.guardrails:
        seen = {case.expect.answers.get(guardrail.id, "within") for case in suite.cases}
        needed = ("within", "harm") if isinstance(guardrail, Plain) else ("within", "harm", "insufficient")
        if missing := [answer for answer in needed if answer not in seen]:
            lacking.append(
                f"guardrail {guardrail.id}: no case expects it to be {' or '.join(missing)}; needed one each"
            )
    actions = {case.expect.action for case in suite.cases}
    every: tuple[Action, ...] = ("continue", "hold", "roll_back")
    lacking += [f"no case expects the action {action}; needed one" for action in every if action not in actions]
    return lacking
