"""A policy's own test: sample evidence, and what the policy must say about it. A policy without one is not accepted.

suite.yaml lies beside policy.yaml:

    schema: rankgate/suite/v1
    policy: default
    cases:
      - name: a country that is served worse is found
        samples: [samples/honest.yaml]          # later files go over earlier ones
        change:                                 # then these estimates
          fairness-users:
            - {metric: ndcg@10, statistic: difference, versus: rest, segment: {country: DE},
               value: -0.09, interval: [-0.12, -0.06], users: 400}
        expect:
          verdict: blocked
          answers: {fairness-users-groups: fail}   # every criterion that is not named must pass
          violations: 1                            # findings that stop the release
          messages: ["country 'DE' is 0.090 below the rest"]

Every criterion needs a case in which it passes, one in which it fails and one in which it is insufficient.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import Field

from components.artifacts.digests import digest_bytes, digest_json
from components.artifacts.strict_yaml import Declared, Filled, Text, parse_model, read_text
from components.errors import Fault, FaultyInputError, InputError, nearest
from components.evidence.contract import Estimate, Question
from components.verdict.contract import Outcome
from components.verdict.judging import judge
from components.verdict.outcomes import is_passed, is_waivable, stopping_messages
from components.verdict.policy import POLICY_FILE, Policy, parse_policy, policy_folder
from components.verdict.samples import Changes, as_evidence, changed, read_sample

SUITE_FILE = "suite.yaml"

Expected = Literal["pass", "fail", "insufficient", "not applicable"]
COVERED: tuple[Expected, ...] = ("pass", "fail", "insufficient")


class Expectation(Declared):
    """What the policy must say."""

    verdict: Literal["passed", "blocked"]
    answers: dict[str, Expected] = Field(default_factory=dict)
    """By criterion; one that is not named must pass."""
    violations: Annotated[int, Field(strict=True, ge=0)]
    messages: tuple[Text, ...] = ()
    """Each must stand in the message of a violation."""
    waivable: tuple[Text, ...] = ()
    """The criteria that stop the release and that a signed waiver could let through; no other may be."""


class Case(Declared):
    """One case."""

    name: Text
    samples: Annotated[tuple[Text, ...], Filled]
    change: Changes = Field(default_factory=dict)
    without: tuple[Question, ...] = ()
    """Questions whose evidence is missing."""
    first_release: bool = False
    expect: Expectation


class Suite(Declared):
    """All cases of a policy."""

    schema_: Literal["rankgate/suite/v1"] = Field(alias="schema")
    policy: Text
    cases: Annotated[tuple[Case, ...], Filled]


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """What a run of a suite found."""

    policy: Policy
    policy_digest: str
    """sha256 of the policy.yaml that was judged."""
    suite_digest: str
    """sha256 over suite.yaml and the samples it names."""
    cases: int
    failures: tuple[str, ...]
    """What did not come out as a case says, and criteria that no case covers; empty where the policy is accepted."""


def check_suite(policy: Path) -> SuiteResult:
    """As `run_suite`, but refuses a policy that its own suite does not bear out.

    Raises:
        InputError: As `run_suite`, and if anything fails; names the cases.
    """
    result = run_suite(policy)
    if result.failures:
        raise InputError(
            "\n".join(
                [
                    f"policy {result.policy.label}: its suite of {result.cases} cases does not bear it out; "
                    "mend the policy or the suite:",
                    *(f"  - {failure}" for failure in result.failures),
                ]
            )
        )
    return result


def run_suite(policy: Path) -> SuiteResult:
    """Run the suite beside a policy.

    Args:
        policy: The policy's folder or its policy.yaml.

    Raises:
        InputError: If policy, suite or a sample is missing or cannot be read.
    """
    folder = policy_folder(policy)
    text = read_text(folder / POLICY_FILE, subject=f"policy {folder / POLICY_FILE}")
    rules = parse_policy(text, subject=f"policy {folder / POLICY_FILE}")
    place = folder / SUITE_FILE
    if not place.is_file():
        raise InputError(
            f"policy {rules.label}: found no {SUITE_FILE} beside {POLICY_FILE} in {folder}; needed one, because a policy "
            "that was never held against samples is not known to mean what it says. docs/policies.md shows how."
        )
    suite_text = read_text(place, subject=f"suite {place}")
    suite = parse_model(Suite, suite_text, subject=f"suite {place}")
    if faults := _faults(suite, rules):
        raise FaultyInputError(f"suite {place}", faults)
    samples = _Samples(folder)
    failures = [failure for case in suite.cases for failure in _run(case, rules, samples)]
    return SuiteResult(
        policy=rules,
        policy_digest=digest_bytes(text.encode()),
        suite_digest=digest_json({SUITE_FILE: digest_bytes(suite_text.encode()), **samples.digests}),
        cases=len(suite.cases),
        failures=(*failures, *_uncovered(suite, rules)),
    )


class _Samples:
    """Sample files of a policy's folder, each read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, dict[Question, tuple[Estimate, ...]]] = {}
        self.digests: dict[str, str] = {}

    def read(self, name: str) -> dict[Question, tuple[Estimate, ...]]:
        if name not in self._read:
            relative = PurePosixPath(name)
            if relative.is_absolute() or ".." in relative.parts:
                raise InputError(f"suite: found the sample {name!r}; needed a path inside the policy's folder.")
            path = self._folder / relative
            self.digests[name] = digest_bytes(read_text(path, subject=f"sample {path}").encode())
            self._read[name] = read_sample(path, subject=f"sample {path}")
        return self._read[name]


def _run(case: Case, policy: Policy, samples: _Samples) -> list[str]:
    """What does not come out as the case says."""
    estimates: dict[Question, tuple[Estimate, ...]] = {}
    for name in case.samples:
        estimates.update(samples.read(name))
    estimates = changed(estimates, case.change)
    evidence = {q: as_evidence(q, held) for q, held in estimates.items() if q not in case.without}
    outcomes = judge(policy, evidence, {}, first_release=case.first_release)
    return [f"case '{case.name}': {difference}" for difference in _differences(case.expect, outcomes)]


def _differences(expected: Expectation, outcomes: tuple[Outcome, ...]) -> list[str]:
    differences = []
    verdict = "passed" if is_passed(outcomes) else "blocked"
    if verdict != expected.verdict:
        differences.append(f"found the verdict {verdict}; needed {expected.verdict}")
    for outcome in outcomes:
        found = "not applicable" if outcome.not_applicable else outcome.answer
        wanted = expected.answers.get(outcome.criterion, "pass")
        if found != wanted:
            said = next((f.message for f in outcome.findings if f.answer == outcome.answer), outcome.not_applicable)
            differences.append(f"found {outcome.criterion}: {found}; needed {wanted}. It says: {said}")
    messages = [message for outcome in outcomes for message in stopping_messages(outcome)]
    if len(messages) != expected.violations:
        told = "".join(f"\n      {message}" for message in messages)
        differences.append(f"found {len(messages)} violations; needed {expected.violations}{told}")
    waivable = {outcome.criterion for outcome in outcomes if is_waivable(outcome)}
    if waivable != set(expected.waivable):
        told = ", ".join(sorted(waivable)) or "none"
        needed = ", ".join(sorted(expected.waivable)) or "none"
        differences.append(f"found that a waiver could let through: {told}; needed {needed}")
    plain = [_plain(message) for message in messages]
    for fragment in expected.messages:
        if not any(_plain(fragment) in message for message in plain):
            differences.append(f"found no violation that says {fragment!r} among: {' | '.join(messages) or 'none'}")
    return differences


def _plain(text: str) -> str:
    """Text with every run of white space as one space: a suite need not know which of them a message uses."""
    return " ".join(text.split())


def _faults(suite: Suite, policy: Policy) -> list[Fault]:
    known = [criterion.id for criterion in policy.criteria]
    faults = []
    if suite.policy != policy.name:
        faults.append(Fault("policy", repr(suite.policy), f"the name of the policy beside it, {policy.name!r}"))
    names = [case.name for case in suite.cases]
    for place, case in enumerate(suite.cases):
        if case.name in names[:place]:
            faults.append(Fault(f"cases.{place}.name", repr(case.name), "a name that no other case has"))
        named = [("answers", name) for name in case.expect.answers]
        named += [("waivable", name) for name in case.expect.waivable]
        faults += [
            Fault(f"cases.{place}.expect.{key}", repr(name), "the id of a criterion", nearest(name, known))
            for key, name in named
            if name not in known
        ]
        if case.expect.verdict == "passed" and case.expect.violations:
            faults.append(
                Fault(f"cases.{place}.expect", f"passed with {case.expect.violations} violations", "one or the other")
            )
    return faults


def _uncovered(suite: Suite, policy: Policy) -> list[str]:
    """Criteria without a case for each of the three answers."""
    lacking = []
    for criterion in policy.criteria:
        seen = {case.expect.answers.get(criterion.id, "pass") for case in suite.cases}
        if missing := [answer for answer in COVERED if answer not in seen]:
            lacking.append(
                f"criterion {criterion.id}: no case expects it to be {' or '.join(missing)}; needed one each"
            )
    return lacking
