"""Groups of users: by declared attribute (every value, the unknown, intersections), and by how much is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.errors import EvidenceError

UNKNOWN = "unknown"
"""Users whose attribute is not known are a group like any other: a harm to them is a harm."""

HISTORY, NO_HISTORY = "history", "none"
"""Outcomes that were known of a user before the test: a group that every dataset has."""

_LITTLE = 4
"""Outcomes up to which little is known of a user."""
_MOST_NUMBERS = 12
_BANDS = 4


@dataclass(frozen=True, slots=True, eq=False)
class UserGroup:
    """Users who share the values in `segment`; `members` has one entry a user that was asked for."""

    segment: dict[str, str]
    members: NDArray[np.bool_]
    declared: bool = True
    """Whether the dataset contract names it; groups by history are there without."""


def group_detail(group: UserGroup) -> dict[str, float]:
    """What an estimate says of its group: its share of the users; `declared` 0 where no contract names it."""
    share = {"share_of_users": float(group.members.mean())}
    return share if group.declared else {**share, "declared": 0.0}


def user_groups(
    users: pa.Table,
    wanted: NDArray[np.integer],
    *,
    attributes: Sequence[str],
    intersections: Sequence[Sequence[str]] = (),
) -> list[UserGroup]:
    """The groups that `wanted` users fall into, attribute by attribute, values ascending, `unknown` last.

    A numeric attribute with more than 12 values is cut into quarters of the wanted users. Intersections hold only
    combinations that occur.

    Args:
        users: The dataset's users, row = user index.
        wanted: User indices.
        attributes: Columns of `users`.
        intersections: Tuples of `attributes`.

    Raises:
        EvidenceError: If a column is missing.
    """
    needed = [*attributes, *(name for crossed in intersections for name in crossed)]
    if missing := sorted({name for name in needed if name not in users.column_names}):
        raise EvidenceError(
            f"users.parquet: found columns {', '.join(users.column_names)}; needed also {', '.join(missing)}, "
            "which the dataset declares as attributes. Build the dataset again."
        )
    rows = users.take(pa.array(np.asarray(wanted, dtype=np.int64)))
    labels = {name: _labels(rows.column(name)) for name in dict.fromkeys(needed)}
    groups = []
    for names in [(name,) for name in attributes] + [tuple(crossed) for crossed in intersections]:
        combined = list(zip(*(labels[name] for name in names), strict=True))
        ordered = sorted(set(combined), key=lambda values: [(value == UNKNOWN, value) for value in values])
        for values in ordered:
            members = np.logical_and.reduce([labels[name] == value for name, value in zip(names, values, strict=True)])
            groups.append(UserGroup(dict(zip(names, map(str, values), strict=True)), members))
    return groups


def history_groups(taken: NDArray[np.integer], *, attributes: Sequence[str]) -> list[UserGroup]:
    """Groups by how much was known of a user before the test: every dataset has them, whatever it declares.

    Newcomers are ranked for by what is known of others; a model can serve them badly while every declared group does well.

    Args:
        taken: Outcomes of each user that were known at the test cut, shape (users,).
        attributes: Declared attributes; where one is called `history` the groups take a longer name.

    Returns:
        The groups that have members, `none` first.
    """
    name = "history before the test" if HISTORY in attributes else HISTORY
    bands = ((NO_HISTORY, taken == 0), (f"1 to {_LITTLE}", (taken > 0) & (taken <= _LITTLE)))
    more = (f"more than {_LITTLE}", taken > _LITTLE)
    return [UserGroup({name: value}, members, declared=False) for value, members in (*bands, more) if members.any()]


def _labels(column: pa.ChunkedArray) -> NDArray[np.object_]:
    """One text a row."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        return _number_labels(np.asarray(column.cast(pa.float64()).to_numpy(), dtype=np.float64))
    texts = pc.fill_null(column.cast(pa.string()), UNKNOWN)
    return np.asarray(texts.to_numpy(zero_copy_only=False), dtype=object)


def _number_labels(numbers: NDArray[np.float64]) -> NDArray[np.object_]:
    labels = np.full(numbers.shape, UNKNOWN, dtype=object)
    known = np.isfinite(numbers)
    values = np.unique(numbers[known])
    if values.size <= _MOST_NUMBERS:
        labels[known] = [f"{value:g}" for value in numbers[known]]
        return labels
    edges = np.unique(np.quantile(numbers[known], np.arange(1, _BANDS) / _BANDS))
    bounds = [f"{edge:g}" for edge in edges]
    names = [
        f"below {bounds[0]}",
        *(f"{a} to {b}" for a, b in pairwise(bounds)),
        f"{bounds[-1]} or more",
    ]
    labels[known] = np.array(names, dtype=object)[np.searchsorted(edges, numbers[known], side="right")]
    return labels
