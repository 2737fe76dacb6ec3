"""Sample evidence, as short as a person would write it: what a policy's suite holds the policy against.

    schema: rankgate/sample/v1
    evidence:
      quality:
        - {metric: ndcg@10, statistic: difference, versus: popularity, value: 0.03, interval: [0.02, 0.04], users: 4000}
      data:
        - {metric: rejected_share, subject: events, exact: 0.004}

A real evidence file (JSON) is a sample as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from components.artifacts import documents
from components.artifacts.strict_yaml import Declared, Number, Text, read_model
from components.evidence.contract import SCHEMA_VERSION, Estimate, Evidence, Question, Statistic

Key = tuple[str, str, str, str, tuple[tuple[str, str], ...]]


class SampleEstimate(Declared):
    """One estimate; what it leaves out is what a sample seldom needs to say."""

    metric: Text
    statistic: Statistic = "value"
    subject: Text = "candidate"
    versus: str = ""
    segment: dict[str, Text] = Field(default_factory=dict)
    value: Number | None = None
    interval: tuple[Number | None, Number | None] | None = None
    exact: Number | None = None
    level: Number = 0.95
    users: Annotated[int, Field(strict=True, ge=0)] = 1000
    family: str = ""
    detail: dict[str, Number] = Field(default_factory=dict)
    remove: bool = False
    """In a case: takes the estimate away instead of putting one in its place."""

    @model_validator(mode="after")
    def _one_way(self) -> SampleEstimate:
        if self.exact is not None and (self.value is not None or self.interval is not None):
            raise ValueError("exact alone, or value with interval")
        if self.remove and (self.exact is not None or self.value is not None):
            raise ValueError("remove without a value")
        return self

    @property
    def key(self) -> Key:
        """What the estimate is about; two of one key are the same estimate."""
        return (self.metric, self.statistic, self.subject, self.versus, tuple(sorted(self.segment.items())))

    def estimate(self) -> Estimate:
        """The estimate in full."""
        low, high = self.interval if self.interval else (None, None)
        is_exact = self.exact is not None
        return Estimate(
            metric=self.metric,
            statistic=self.statistic,
            subject=self.subject,
            versus=self.versus,
            segment=dict(self.segment),
            value=self.exact if is_exact else self.value,
            low=self.exact if is_exact else low,
            high=self.exact if is_exact else high,
            level=1.0 if is_exact else self.level,
            n_users=self.users,
            n_requests=self.users,
            method="exact" if is_exact else "sample",
            mde=None,
            family=self.family,
            detail=dict(self.detail),
        )


Changes = dict[Question, tuple[SampleEstimate, ...]]


class Sample(Declared):
    """Evidence for any number of questions."""

    schema_: Literal["rankgate/sample/v1"] = Field(alias="schema")
    description: str = ""
    evidence: Changes


def read_sample(path: Path, *, subject: str) -> dict[Question, tuple[Estimate, ...]]:
    """Estimates of a sample file: YAML as above, or one evidence document where the name ends in .json.

    Raises:
        InputError: If it cannot be read or holds anything else.
    """
    if path.suffix == ".json":
        found = documents.load(Evidence, path)
        return {found.question: found.estimates}
    sample = read_model(Sample, path, subject=subject)
    return {question: tuple(e.estimate() for e in estimates) for question, estimates in sample.evidence.items()}


def changed(
    estimates: Mapping[Question, Sequence[Estimate]], changes: Mapping[Question, Sequence[SampleEstimate]]
) -> dict[Question, tuple[Estimate, ...]]:
    """Estimates with some of them replaced, added or removed; what is replaced keeps its place."""
    result: dict[Question, tuple[Estimate, ...]] = {question: tuple(held) for question, held in estimates.items()}
    for question, wanted in changes.items():
        held = {key_of(estimate): estimate for estimate in result.get(question, ())}
        for change in wanted:
            if change.remove:
                held.pop(change.key, None)
            else:
                held[change.key] = change.estimate()
        result[question] = tuple(held.values())
    return result


def key_of(estimate: Estimate) -> Key:
    """As `SampleEstimate.key`."""
    about = (estimate.metric, estimate.statistic, estimate.subject, estimate.versus)
    return (*about, tuple(sorted(estimate.segment.items())))


def as_evidence(question: Question, estimates: Sequence[Estimate]) -> Evidence:
    """An evidence that holds nothing but estimates."""
    return Evidence(
        schema_version=SCHEMA_VERSION,
        question=question,
        estimates=tuple(estimates),
        conventions={},
        inputs={},
        tables={},
        reports={},
        libraries={},
        seed=0,
    )
