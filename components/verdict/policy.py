"""The policy as a person writes it: `rankgate/policy/v1`, read strictly, every fault of the file in one error.

A policy is a folder: policy.yaml (this module), suite.yaml and samples/ (`components.verdict.suite`). docs/policies.md is
the reference for whoever writes one.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from components.artifacts.strict_yaml import Declared, Filled, Number, Text, parse_model, read_text
from components.errors import Fault, FaultyInputError, InputError
from components.evidence.contract import Question, Statistic
from components.ranker.contract import INCUMBENT

POLICY_FILE = "policy.yaml"

ANY = "*"
"""As subject, versus or attribute: whatever the evidence holds."""
CROSS = " x "
"""Between the attributes of an intersection: `country x gender`."""

OnInsufficient = Literal["block", "waive", "note"]
OnFail = Literal["block", "waive"]

Level = Annotated[float, Field(strict=True, gt=0.5, lt=1)]


class Bound(Declared):
    """What a quantity is held against. The margin is how much harm is tolerated, in the metric's own unit."""

    at_least: Number | None = None
    at_most: Number | None = None
    within: tuple[Number, Number] | None = None
    margin: Annotated[float, Field(strict=True, ge=0)] = 0.0

    @model_validator(mode="after")
    def _one_kind(self) -> Bound:
        given = [name for name in ("at_least", "at_most", "within") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of at_least, at_most and within (found {', '.join(given) or 'none'})")
        if self.within and self.within[0] > self.within[1]:
            raise ValueError("within: [smaller, larger]")
        return self

    @property
    def low(self) -> float | None:
        """What the quantity must not be below, margin included; None where there is no such limit."""
        limit = self.within[0] if self.within else self.at_least
        return None if limit is None else _exact(limit - self.margin)

    @property
    def high(self) -> float | None:
        """What the quantity must not be above, margin included."""
        limit = self.within[1] if self.within else self.at_most
        return None if limit is None else _exact(limit + self.margin)


def _exact(number: float) -> float:
    """0.3 - 0.1 as a person means it: 0.2, not 0.19999999999999998. Evidence is kept to 12 digits as well."""
    return float(f"{number:.12g}")


class Segments(Declared):
    """Which groups of users: `none` (everyone together), `every`, or `{each: [attributes]}`."""

    each: tuple[Text, ...] = ()
    every: bool = False

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, value: Any) -> Any:
        if value in ("none", {}):
            return {}
        if value == "every":
            return {"every": True}
        if isinstance(value, dict) and list(value) == ["each"] and value["each"]:
            return value
        raise ValueError("none, every, or {each: [attributes, or *, or pairs such as 'country x gender']}")

    @property
    def slices(self) -> bool:
        """Whether groups are looked at, not everyone together."""
        return self.every or bool(self.each)


class Select(Declared):
    """Which estimates of the evidence a criterion looks at: all that fit, each judged by itself."""

    subject: Text = "candidate"
    versus: str = ""
    segments: Segments = Segments()
    detail_at_least: dict[str, Number] = Field(default_factory=dict)
    """Only estimates whose further figure is at least this; one that lacks the figure is looked at."""
    minimum_users: Annotated[int, Field(strict=True, ge=2)] | None = None
    """A group of fewer users that answers `insufficient` is shown and excused; one that fails still fails."""


class Missing(Declared):
    """What it means that the evidence, though readable, has no such metric at all: `block`, or not applicable, and why."""

    not_applicable: str = ""

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, value: Any) -> Any:
        if value in ("block", {}):
            return {}
        if isinstance(value, dict) and list(value) == ["not_applicable"] and str(value["not_applicable"] or "").strip():
            return value
        raise ValueError("block, or {not_applicable: the reason}")


class Criterion(Declared):
    """One rule."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60)]
    title: Text
    why: Text
    evidence: Question
    metric: Text
    statistic: Statistic = "value"
    select: Select = Select()
    bound: Bound
    effect: Literal["blocking", "advisory"] = "blocking"
    on_insufficient: OnInsufficient = "block"
    on_fail: OnFail = "block"
    """`block`: no waiver lets a shown harm through."""
    when: Literal["always", "incumbent"] = "always"
    missing: Missing = Missing()
    level: Level | None = None
    """Confidence that this criterion needs; the policy's own where absent."""


class Policy(Declared):
    """A set of rules under one name and version."""

    schema_: Literal["rankgate/policy/v1"] = Field(alias="schema")
    name: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60)]
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    description: Text
    level: Level
    """Confidence that every judged interval must have, for all estimates of its family together."""
    first_release: Literal["excuse", "block"]
    """What a criterion with `when: incumbent` answers where there is no incumbent."""
    criteria: Annotated[tuple[Criterion, ...], Filled]

    @property
    def label(self) -> str:
        """`default@1.2.0`."""
        return f"{self.name}@{self.version}"

    def level_of(self, criterion: Criterion) -> float:
        """Confidence that the criterion needs of an interval."""
        return self.level if criterion.level is None else criterion.level


def policy_folder(path: Path) -> Path:
    """The folder of a policy that is named by its folder or its policy.yaml.

    Raises:
        InputError: If there is no policy.
    """
    folder = path if path.is_dir() else path.parent
    if not (folder / POLICY_FILE).is_file():
        raise InputError(
            f"policy {path}: found no {POLICY_FILE} in {folder}; needed a policy folder such as policies/default."
        )
    return folder


def load_policy(path: Path) -> Policy:
    """Read a policy, by its folder or its policy.yaml.

    Raises:
        InputError: If the file cannot be read or is no YAML.
        FaultyInputError: If anything in it is wrong; names every fault.
    """
    place = policy_folder(path) / POLICY_FILE
    return parse_policy(read_text(place, subject=f"policy {place}"), subject=f"policy {place}")


def parse_policy(text: str, *, subject: str) -> Policy:
    """As `load_policy`, from text; `subject` names it in errors."""
    policy = parse_model(Policy, text, subject=subject)
    if faults := _meaning_faults(policy):
        raise FaultyInputError(subject, faults)
    return policy


def _meaning_faults(policy: Policy) -> list[Fault]:
    """What the schema cannot say: rules that would never do what they seem to."""
    faults = [
        Fault(f"criteria.{name}", f"the id {times} times", "ids that differ")
        for name, times in sorted(Counter(criterion.id for criterion in policy.criteria).items())
        if times > 1
    ]
    if not any(criterion.effect == "blocking" for criterion in policy.criteria):
        faults.append(Fault("criteria", "only advisory ones", "at least one that is blocking, or everything passes"))
    for criterion in policy.criteria:
        where, select = f"criteria.{criterion.id}", criterion.select
        many = select.segments.slices or ANY in (select.subject, select.versus)
        if select.minimum_users is not None and not many:
            faults.append(
                Fault(
                    f"{where}.select.minimum_users",
                    str(select.minimum_users),
                    "a criterion that looks at several groups: one alone is always judged",
                    "Leave it out, or name segments.",
                )
            )
        if criterion.when == "incumbent" and criterion.statistic != "change" and select.versus != INCUMBENT:
            faults.append(
                Fault(
                    f"{where}.when",
                    f"incumbent, but versus is {select.versus!r}",
                    f"versus: {INCUMBENT}, or statistic: change",
                    "A first release would be excused from a rule that has nothing to do with an incumbent.",
                )
            )
        if criterion.effect == "blocking" and criterion.on_insufficient == "note" and not many:
            faults.append(
                Fault(
                    f"{where}.on_insufficient",
                    "note on a blocking criterion that looks at one estimate",
                    "block or waive",
                    "A rule that blocks only when harm is proven would pass whatever is measured on too few users; "
                    "make it advisory if that is meant.",
                )
            )
        if criterion.on_fail == "waive" and criterion.effect == "advisory":
            faults.append(
                Fault(
                    f"{where}.on_fail",
                    "waive on an advisory criterion",
                    "block, which is the default",
                    "An advisory rule never stops a release, so there is nothing to waive.",
                )
            )
        elif criterion.on_fail == "waive" and criterion.on_insufficient == "block":
            faults.append(
                Fault(
                    f"{where}.on_fail",
                    "waive, but on_insufficient: block",
                    "on_insufficient: waive as well",
                    "A harm that is shown could be signed for, and one that is merely not ruled out could not.",
                )
            )
        for attribute in select.segments.each:
            parts = attribute.split(CROSS)
            if any(not part.strip() or part != part.strip() for part in parts) or (ANY in parts and len(parts) > 1):
                faults.append(
                    Fault(f"{where}.select.segments.each", repr(attribute), f"an attribute, {ANY}, or 'a{CROSS}b'")
                )
    return faults
