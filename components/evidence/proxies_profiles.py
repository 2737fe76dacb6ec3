"""One row a user of what the model is given about them, and of what it shows them: columns that an attribute is looked for in.

A user has many rows (requests x items); nothing is to be counted twice because someone came often. So every feature
becomes a few columns of means over the user's own rows: its mean and, where it has gaps, how often it is missing; for a
category, the share of rows with each of its commonest codes. A feature of a user *and* a category ("share of the user's
clicks in this category") means little on average: it is also taken within each of the commonest categories, because that
is how the model sees that somebody likes garments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.dataset.contract import Feature

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Column = tuple[str, Floats]

MOST_CODES = 12
"""Commonest codes of a category that get a column of their own."""


@dataclass(frozen=True, slots=True, eq=False)
class Profiles:
    """Columns of users; NaN where a user has no value."""

    columns: Floats
    """Shape (users, columns)."""
    names: tuple[str, ...]
    """Of each column, such as `price (missing)` or `user_category_share_all in 3`."""
    owners: Ints
    """Shape (columns,): the feature each column is made of, an index into `features`."""
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows of requests, and whose they are."""

    user: Ints
    """Shape (rows,): dense index of the user, 0 to users - 1."""
    users: int
    codes: Mapping[str, Ints]
    """Shape (rows,) each: what the row's item is, by entity that a feature may share with a user (`user_category`)."""


def input_profiles(rows: Rows, values: pa.Table, features: tuple[Feature, ...]) -> Profiles:
    """What the model is given: columns of each feature.

    Args:
        rows: The rows' users and items.
        values: One float column a feature, row by row.
        features: The features that the model takes.
    """
    found: list[tuple[int, Column]] = []
    for place, feature in enumerate(features):
        column = values[feature.name].to_numpy().astype(np.float64)
        found += [(place, held) for held in _of_feature(rows, column, feature)]
    return _profiles(found, tuple(feature.name for feature in features), rows.users)


def list_profiles(rows: Rows, *, score: Floats, weight: Floats) -> Profiles:
    """What the model shows: how high it scores, and each commonest category's and provider's share of a user's exposure.

    Args:
        rows: The shown places' users and items.
        score: Shape (rows,).
        weight: Shape (rows,), >= 0: exposure of the place.
    """
    found: list[tuple[int, Column]] = [(0, ("score", _mean(rows.user, score, rows.users)))]
    total = np.bincount(rows.user, weight, minlength=rows.users)
    for place, (name, codes) in enumerate(rows.codes.items(), start=1):
        for code in _commonest(codes):
            part = np.bincount(rows.user, np.where(codes == code, weight, 0.0), minlength=rows.users)
            found.append((place, (f"{name}={code}", _over(part, total))))
    return _profiles(found, ("score", *rows.codes), rows.users)


def _of_feature(rows: Rows, values: Floats, feature: Feature) -> Iterator[Column]:
    if feature.type == "category":
        codes = np.where(np.isfinite(values), values, -1).astype(np.int64)
        for code in _commonest(codes):
            yield f"{feature.name}={code}", _mean(rows.user, (codes == code).astype(np.float64), rows.users)
        return
    missing = ~np.isfinite(values)
    yield feature.name, _mean(rows.user, values, rows.users)
    if missing.any():
        yield f"{feature.name} (missing)", _mean(rows.user, missing.astype(np.float64), rows.users)
    codes = rows.codes.get(feature.entity, np.empty(0, dtype=np.int64))
    for code in _commonest(codes):
        yield f"{feature.name} in {code}", _mean(rows.user, np.where(codes == code, values, np.nan), rows.users)


def _mean(user: Ints, values: Floats, users: int) -> Floats:
    """Mean of each user's known values; NaN where a user has none."""
    known = np.isfinite(values)
    counts = np.bincount(user[known], minlength=users)
    return _over(np.bincount(user[known], values[known], minlength=users), counts)


def _over(part: NDArray[np.number], whole: NDArray[np.number]) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        share: Floats = np.where(whole > 0, part / whole, np.nan)
    return share


def _commonest(codes: Ints) -> list[int]:
    """The commonest codes, ties to the smaller; an only one tells nobody apart."""
    found, counts = np.unique(codes, return_counts=True)
    if found.size < 2:
        return []
    return sorted(found[np.lexsort((found, -counts))][:MOST_CODES].tolist())


def _profiles(found: list[tuple[int, Column]], features: tuple[str, ...], users: int) -> Profiles:
    columns = [values for _, (_, values) in found]
    return Profiles(
        columns=np.stack(columns, axis=1) if columns else np.empty((users, 0)),
        names=tuple(name for _, (name, _) in found),
        owners=np.array([owner for owner, _ in found], dtype=np.int64),
        features=features,
    )
