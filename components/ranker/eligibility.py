"""Which items a request may be shown: blocked ids, excluded and required attribute values, one answer offline and online.

Every item has a place in these arrays, and the last place, which -1 points at, is an item nobody knows: its id may be
blocked and its attributes say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.ranker.candidates.interactions import Bools, Ids
from components.ranker.contract import AttributeRule, RerankRules
from components.ranker.declared_rules import Names, check_names

_NO_SUCH_TEXT = -2
"""Code of a request's value that no item has."""
_NOT_SAID = -3

Context = Mapping[str, Sequence[str | None] | NDArray[np.object_]]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A rule whose answer depends on what the request says."""

    context: str
    codes: Ids
    """Shape (items + 1,); -1 where an item does not say."""
    texts: Mapping[str, int]
    fixed: Bools
    """Items whose value is one of the rule's own, shape (items + 1,)."""
    wanted: bool
    """True for `require`."""
    refuse: bool

    def places(self, said: Sequence[str | None] | NDArray[np.object_]) -> Ids:
        """Code of each request's value."""
        return np.array(
            [_NOT_SAID if value is None else self.texts.get(value, _NO_SUCH_TEXT) for value in said], dtype=np.int32
        )

    def passes(self, codes: Ids, fixed: Bools, asked: Ids) -> Bools:
        """What the rule says of items with these codes, asked for by requests with those; shapes broadcast."""
        found: Bools = fixed | (codes == asked)
        if not self.wanted:
            return ~found
        return found if self.refuse else found | (asked == _NOT_SAID)


class Eligibility:
    """The eligibility rules of one ranker on the items of one data set."""

    def __init__(self, rules: RerankRules, items: pa.Table) -> None:
        """Work out what can be known before a request comes; `items` ascend, and have every attribute the rules name."""
        self._blocked = frozenset(rules.blocked_items)
        self._fixed: Bools = np.ones(items.num_rows + 1, dtype=np.bool_)
        if self._blocked:
            listed = pc.is_in(items["item_id"].cast(pa.string()), pa.array(sorted(self._blocked), pa.string()))
            self._fixed[:-1] &= ~listed.to_numpy()
        asked = []
        for rule, wanted in [*((r, False) for r in rules.exclude), *((r, True) for r in rules.require)]:
            matches = _matches(items[rule.attribute], rule)
            if rule.request:
                asked.append(_depending(items[rule.attribute], rule, matches, wanted=wanted))
            else:
                self._fixed &= matches == wanted
        self._asked = tuple(asked)

    @property
    def limits(self) -> bool:
        """False where every item may be shown to everyone."""
        return bool(self._blocked) or bool(self._asked) or not bool(self._fixed.all())

    @property
    def blocks_some(self) -> bool:
        """False where `blocks` is False of every id."""
        return bool(self._blocked)

    def of_rows(self, items: Ids, owner: NDArray[np.integer], context: Context, *, requests: int) -> Bools:
        """Whether each row's item may be shown, shape (rows,).

        Args:
            items: Shape (rows,); -1 for an item nobody knows.
            owner: Request of each row, shape (rows,), each in [0, requests).
            context: Values of each context column, shape (requests,) each; an absent column or None says nothing.
            requests: How many there are.
        """
        allowed: Bools = self._fixed[items]
        for rule in self._asked:
            asked = rule.places(context.get(rule.context, [None] * requests))
            allowed = allowed & rule.passes(rule.codes[items], rule.fixed[items], asked[owner])
        return allowed

    def of_catalogue(self, context: Context, *, requests: int) -> Bools:
        """Whether each item may be shown, shape (requests, items), or (items,) where no request makes a difference."""
        allowed: Bools = self._fixed[:-1]
        for rule in self._asked:
            asked = rule.places(context.get(rule.context, [None] * requests))
            allowed = allowed & rule.passes(rule.codes[:-1], rule.fixed[:-1], asked[:, None])
        return allowed

    def blocks(self, item_id: str) -> bool:
        """Whether an id is blocked, known or not."""
        return item_id in self._blocked


def eligibility_of(
    rules: RerankRules, items: pa.Table, *, context: Sequence[str], parts: Sequence[str], subject: str
) -> Eligibility:
    """Rules held against a data set, then laid out for its items.

    Args:
        rules: The rules.
        items: The data set's items, ascending.
        context: Its context columns.
        parts: Of category, provider and price, those that its items have.
        subject: Whose rules they are, for errors.

    Raises:
        FaultyInputError: If the rules speak of what the data set does not have.
    """
    check_names(rules, names_of(items, context=context, parts=parts), subject=subject)
    return Eligibility(rules, items)


def names_of(items: pa.Table, *, context: Sequence[str], parts: Sequence[str]) -> Names:
    """What rules may say of a data set."""
    attributes = [field for field in items.schema if field.name not in ("item", "item_id", "first_bucket")]
    numbers = [field.name for field in attributes if pa.types.is_floating(field.type)]
    texts = [field.name for field in attributes if pa.types.is_string(field.type)]
    return Names(categories=texts, numbers=numbers, context=context, parts=parts)


def _matches(column: pa.ChunkedArray, rule: AttributeRule) -> Bools:
    """Items whose value is one of the rule's own, shape (items + 1,)."""
    values = pa.array([value for value in rule.values if value is not None], type=column.type)
    listed = pc.is_in(column, values).to_numpy()
    unknown = None in rule.values
    missing = pc.is_null(column, nan_is_null=True).to_numpy()
    return np.append(np.where(missing, unknown, listed), unknown)


def _depending(column: pa.ChunkedArray, rule: AttributeRule, matches: Bools, *, wanted: bool) -> _Asked:
    texts = pc.unique(column.drop_null()).sort()
    codes = pc.fill_null(pc.index_in(column, texts), -1).to_numpy().astype(np.int32)
    return _Asked(
        context=rule.request,
        codes=np.append(codes, np.int32(-1)),
        texts={text: code for code, text in enumerate(texts.to_pylist())},
        fixed=matches,
        wanted=wanted,
        refuse=rule.request_unknown == "refuse",
    )
