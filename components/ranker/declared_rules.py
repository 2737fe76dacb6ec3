"""rerank.yaml: what a team does to a scored list before it is shown, declared beside the policy and fixed with it.

    schema: rankgate/rerank/v1
    description: Home feed.
    window: 10                      # the first ranks, which caps, diversity and exploration are about
    caps: {category: 3, provider: 2}
    blocked_items: ["4711"]
    exclude: {item.adult: [true, null]}
    require: {item.locale: [request.locale, null]}
    diversity: {strength: 0.3, likeness: {category: 0.5, provider: 0.3, price: 0.2}}
    exploration: {probability: 0.1, ranks: [4, 6, 8], pool: 50}

The file lies in the policy's folder, travels with it and is frozen by the run's first step. Everything but `schema` may be
left out. docs/serving.md is the reference for whoever writes one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from components.artifacts.digests import digest_bytes
from components.artifacts.strict_yaml import Declared, Filled, Text, parse_model, read_text
from components.errors import Fault, FaultyInputError, nearest
from components.events.contract import DatasetContract
from components.ranker.contract import AttributeRule, Diversity, Exploration, RerankRules

RERANK_FILE = "rerank.yaml"

_ITEM = "item."
_REQUEST = "request."

Count = Annotated[int, Field(strict=True, ge=1, le=1000)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]


class Caps(Declared):
    """Most items of one category or provider within the window; absent = no cap."""

    category: Count | None = None
    provider: Count | None = None


class Among(Declared):
    """Values that an attribute is held against; `[...]` alone stands for `among`."""

    among: Annotated[tuple[str | float | bool | None, ...], Filled]
    request_unknown: Literal["skip", "refuse"] = "skip"

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return value
        return {"among": value if isinstance(value, list) else [value]}

    @model_validator(mode="after")
    def _one_reference(self) -> Among:
        if len(self.references) > 1:
            raise ValueError(f"at most one {_REQUEST}<context> (found {', '.join(self.references)})")
        return self

    @property
    def references(self) -> tuple[str, ...]:
        """Context names among the values."""
        return tuple(v.removeprefix(_REQUEST) for v in self.among if isinstance(v, str) and v.startswith(_REQUEST))

    @property
    def literals(self) -> tuple[str | float | None, ...]:
        """The other values. Tables keep yes-or-no attributes as text, so true is `true` here."""
        rest = (v for v in self.among if not (isinstance(v, str) and v.startswith(_REQUEST)))
        return tuple(str(v).lower() if isinstance(v, bool) else v for v in rest)


class Likeness(Declared):
    """What makes two items alike, in shares of each other."""

    category: Share = 0.0
    provider: Share = 0.0
    price: Share = 0.0

    @model_validator(mode="after")
    def _something(self) -> Likeness:
        if not self.category + self.provider + self.price > 0:
            raise ValueError("at least one of category, provider and price above 0")
        return self


class DeclaredDiversity(Declared):
    """Maximal marginal relevance within the window."""

    strength: Annotated[float, Field(strict=True, gt=0, lt=1)]
    pool: Count = 50
    likeness: Likeness


class DeclaredExploration(Declared):
    """One slot for what the list would not show."""

    probability: Annotated[float, Field(strict=True, gt=0, le=1)]
    ranks: Annotated[tuple[Count, ...], Filled]
    pool: Count = 50
    seed: Annotated[int, Field(strict=True, ge=0, lt=1 << 31)] = 0

    @model_validator(mode="after")
    def _each_once(self) -> DeclaredExploration:
        if len(set(self.ranks)) < len(self.ranks):
            raise ValueError(f"ranks that differ (found {', '.join(map(str, self.ranks))})")
        return self


class DeclaredRules(Declared):
    """The whole file."""

    schema_: Literal["rankgate/rerank/v1"] = Field(alias="schema")
    description: str = ""
    window: Count = 10
    caps: Caps = Caps()
    blocked_items: tuple[Text, ...] = ()
    exclude: dict[str, Among] = Field(default_factory=dict)
    require: dict[str, Among] = Field(default_factory=dict)
    diversity: DeclaredDiversity | None = None
    exploration: DeclaredExploration | None = None


@dataclass(frozen=True, slots=True)
class Names:
    """What rules may speak of: a data set's item attributes by type, its context, and the parts its items play."""

    categories: Collection[str]
    numbers: Collection[str]
    context: Collection[str]
    parts: Collection[str]
    """Of category, provider and price, those that the data set has."""


def read_rules(policy: Path) -> RerankRules | None:
    """The re-rank rules in a policy's folder (or beside its file), frozen or not; None where it has none.

    Raises:
        InputError: If the file cannot be read as YAML.
        FaultyInputError: If it does not hold rules; names every fault.
    """
    folder = policy if policy.is_dir() else policy.parent
    path = folder / RERANK_FILE
    return parse_rules(read_text(path, subject=str(path)), subject=str(path)) if path.exists() else None


def parse_rules(text: str, *, subject: str) -> RerankRules:
    """As `read_rules`, from text."""
    given = parse_model(DeclaredRules, text, subject=subject)
    faults = [*_attribute_faults(given), *_rank_faults(given)]
    if faults:
        raise FaultyInputError(subject, faults)
    return RerankRules(
        max_per_category=given.caps.category or 0,
        max_per_provider=given.caps.provider or 0,
        window=given.window,
        exclude_seen=False,
        blocked_items=tuple(sorted(set(given.blocked_items))),
        exclude=_attribute_rules(given.exclude),
        require=_attribute_rules(given.require),
        diversity=_diversity(given.diversity),
        exploration=_exploration(given.exploration),
        declared=digest_bytes(text.encode()),
    )


def check_names(rules: RerankRules, known: Names, *, subject: str) -> None:
    """Hold rules against a data set that they are to be used on.

    Raises:
        FaultyInputError: If they speak of an attribute, a context or a part that it does not have, or hold a number
            against text; names every fault.
    """
    faults = [
        *_part_faults(rules, known),
        *_rule_faults("exclude", rules.exclude, known),
        *_rule_faults("require", rules.require, known),
    ]
    if faults:
        raise FaultyInputError(subject, faults)


def check_declared(policy: Path, contract: DatasetContract) -> None:
    """Hold the re-rank rules in a policy's folder, if there are any, against a dataset contract, before anything is built.

    Raises:
        InputError: If the file cannot be used.
        FaultyInputError: If the rules speak of what the contract does not declare.
    """
    rules = read_rules(policy)
    if rules is None:
        return
    items = {name: held for name, held in contract.attributes.items.items() if held.role != "ignore"}
    known = Names(
        categories=[name for name, held in items.items() if held.type == "category"],
        numbers=[name for name, held in items.items() if held.type == "number"],
        context=[name for name, held in contract.attributes.events.items() if held.role == "context"],
        parts=[part for part in ("category", "provider", "price") if getattr(contract.item, part)],
    )
    check_names(rules, known, subject=f"{RERANK_FILE} with dataset contract {contract.name}")


def _attribute_rules(given: dict[str, Among]) -> tuple[AttributeRule, ...]:
    return tuple(
        AttributeRule(
            name.removeprefix(_ITEM), among.literals, request="".join(among.references),
            request_unknown=among.request_unknown,
        )
        for name, among in sorted(given.items())
    )  # fmt: skip


def _diversity(given: DeclaredDiversity | None) -> Diversity | None:
    if given is None:
        return None
    like = given.likeness
    whole = like.category + like.provider + like.price
    return Diversity(given.strength, given.pool, like.category / whole, like.provider / whole, like.price / whole)


def _exploration(given: DeclaredExploration | None) -> Exploration | None:
    if given is None:
        return None
    return Exploration(given.probability, tuple(sorted(given.ranks)), given.pool, given.seed)


def _attribute_faults(given: DeclaredRules) -> Iterator[Fault]:
    for part, rules in (("exclude", given.exclude), ("require", given.require)):
        for name, among in rules.items():
            if among.request_unknown == "refuse" and (part == "exclude" or not among.references):
                needed = f"refuse only in `require`, of values that name a {_REQUEST}<context>"
                yield Fault(f"{part}.{name}.request_unknown", "refuse", needed)
            if not re.fullmatch(r"item\..+", name):
                yield Fault(f"{part}.{name}", repr(name), f"an item's attribute, such as {_ITEM}locale")


def _rank_faults(given: DeclaredRules) -> Iterator[Fault]:
    if given.exploration and max(given.exploration.ranks) > given.window:
        found = f"rank {max(given.exploration.ranks)}"
        yield Fault("exploration.ranks", found, f"ranks within the window of {given.window}")
    if given.diversity and given.diversity.pool < given.window:
        yield Fault("diversity.pool", str(given.diversity.pool), f"at least the window of {given.window}")


def _part_faults(rules: RerankRules, known: Names) -> Iterator[Fault]:
    like = rules.diversity
    used = {
        "caps.category": rules.max_per_category,
        "caps.provider": rules.max_per_provider,
        "diversity.likeness.category": like.category if like else 0,
        "diversity.likeness.provider": like.provider if like else 0,
        "diversity.likeness.price": like.price if like else 0,
    }
    for where, amount in used.items():
        part = where.rpartition(".")[2]
        if amount and part not in known.parts:
            yield Fault(
                where,
                f"a rule about {part}",
                f"item.{part} in the dataset contract",
                "Name the attribute that plays it.",
            )


def _rule_faults(where: str, rules: Collection[AttributeRule], known: Names) -> Iterator[Fault]:
    for rule in rules:
        place = f"{where}.{_ITEM}{rule.attribute}"
        if rule.attribute not in known.categories and rule.attribute not in known.numbers:
            names = [f"{_ITEM}{name}" for name in (*known.categories, *known.numbers)]
            yield Fault(place, "an unknown attribute", "one of the contract's", nearest(_ITEM + rule.attribute, names))
            continue
        if rule.request and rule.request not in known.context:
            needed = f"a context column of the contract: {', '.join(sorted(known.context)) or 'it has none'}"
            yield Fault(place, f"{_REQUEST}{rule.request}", needed)
        numeric = rule.attribute in known.numbers
        if numeric and rule.request:
            yield Fault(place, f"{_REQUEST}{rule.request}", "numbers: the attribute is one, and context is text")
        wrong = [v for v in rule.values if v is not None and isinstance(v, str) is numeric]
        if wrong:
            yield Fault(place, ", ".join(map(repr, wrong)), "numbers" if numeric else "text; put it in quotes")
