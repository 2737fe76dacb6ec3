"""Evidence of a run, measured by the rooms' own functions, and what a policy answers to it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from components.evidence.calibration import measure_calibration
from components.evidence.contract import Evidence, Question
from components.evidence.data import measure_data
from components.evidence.drift import measure_drift
from components.evidence.exposure import measure_provider_fairness
from components.evidence.fairness import measure_user_fairness
from components.evidence.leakage import measure_leakage
from components.evidence.proxies import measure_proxies
from components.evidence.quality import measure_quality
from components.evidence.servability import measure_servability
from components.verdict.contract import Outcome
from components.verdict.judging import judge
from components.verdict.policy import Criterion, Policy
from pipelines.trials.worlds import Parts

Answer = Literal["fail", "insufficient", "pass"]

Measure = Callable[[Parts, Path, int], Evidence]
"""Parts of a run, folder for its evidence, seed."""

MEASURES: Mapping[Question, Measure] = {
    "data": lambda run, out, seed: measure_data(run.snapshot, run.dataset, out=out),  # noqa: ARG005  exact: no seed
    "leakage": lambda run, out, seed: measure_leakage(run.snapshot, run.dataset, run.rankings, out=out, seed=seed),
    "proxies": lambda run, out, seed: measure_proxies(run.dataset, run.ranker, run.rankings, out=out, seed=seed),
    "quality": lambda run, out, seed: measure_quality(run.dataset, run.rankings, out=out, seed=seed),
    "calibration": lambda run, out, seed: measure_calibration(run.dataset, run.rankings, out=out, seed=seed),
    "fairness-users": lambda run, out, seed: measure_user_fairness(run.dataset, run.rankings, out, out=out, seed=seed),
    "fairness-providers": lambda run, out, seed: measure_provider_fairness(
        run.dataset, run.rankings, out=out, seed=seed
    ),
    "servability": lambda run, out, seed: measure_servability(
        run.dataset, run.ranker, run.rankings, out=out, seed=seed, serve=False
    ),
    "drift": lambda run, out, seed: measure_drift(
        run.dataset, run.ranker, run.rankings, out=out, seed=seed, draw=False
    ),
}
"""In the order in which they must be measured: groups of users read the per-user values of quality."""

_NEEDS: Mapping[Question, Question] = {"fairness-users": "quality"}


@dataclass(frozen=True, slots=True)
class Judged:
    """What a policy made of one run."""

    answer: Answer
    """`fail` where a blocking criterion failed, `insufficient` where one merely could not be settled, else `pass`."""
    answers: dict[str, Answer]
    """By criterion; one that does not apply is absent."""
    stopping: frozenset[str]
    """Criteria whose answer stops the release."""


def measure(run: Parts, questions: Collection[Question], *, out: Path, seed: int) -> dict[Question, Evidence]:
    """Evidence for these questions and those they need, its tables in the existing, empty folder `out`."""
    wanted = set(questions) | {_NEEDS[question] for question in questions if question in _NEEDS}
    return {question: measured(run, out, seed) for question, measured in MEASURES.items() if question in wanted}


def judged(policy: Policy, evidence: Mapping[Question, Evidence]) -> Judged:
    """What the policy answers; a criterion whose question was not asked is left out, never passed.

    Of servability only parity of features is asked: trials start no service.
    """
    criteria = tuple(held for held in policy.criteria if held.evidence in evidence and _is_asked(held))
    asked = policy.model_copy(update={"criteria": criteria})
    outcomes = judge(asked, evidence, {}, first_release=False)
    return Judged(
        answer=_overall(outcomes),
        answers={held.criterion: held.answer for held in outcomes if not held.not_applicable},
        stopping=frozenset(held.criterion for held in outcomes if held.blocks),
    )


def _is_asked(criterion: Criterion) -> bool:
    return criterion.evidence != "servability" or criterion.metric == "skewed_share"


def _overall(outcomes: tuple[Outcome, ...]) -> Answer:
    stopping = [held for held in outcomes if held.blocks]
    if any(held.answer == "fail" for held in stopping):
        return "fail"
    return "insufficient" if stopping else "pass"
