"""Looks features up as of a bucket: the one function that makes training rows and answers requests.

A row is (user, item, bucket, context). Features of a user or an item do not depend on the rest of the row, so each is
computed once for every distinct (entity, bucket) and handed out to the rows that share it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from components.artifacts import documents
from components.dataset.contract import Feature
from components.dataset.covisitation import Takings
from components.dataset.kernel import Ints, Trail
from components.dataset.tables import (
    MANIFEST,
    TablesManifest,
    load_attribute,
    load_neighbours,
    load_takings,
    load_trail,
)
from components.errors import InputError

Matrix = NDArray[np.float32]
Column = NDArray[np.float64]

_PRIOR_IMPRESSIONS = 20.0
"""A rate starts as this many impressions at the catalogue's own rate."""
_PRICE_UNITS = 10_000.0
_BLOCK_ROWS = 1 << 19


class FeatureTables:
    """The bucket tables of one data set or release, opened for looking up."""

    def __init__(self, folder: Path, manifest: TablesManifest) -> None:
        self._manifest = manifest
        self._trails = {name: load_trail(folder, name, manifest) for name in manifest.trails}
        self._takings: Takings = load_takings(folder)
        self._boundaries = np.array(manifest.boundaries, dtype=np.int64)
        self._near = [load_neighbours(folder, boundary).matrix() for boundary in manifest.boundaries]
        self._category: NDArray[np.int32] = load_attribute(folder, "items", "category!")
        self._price: NDArray[np.float64] = load_attribute(folder, "items", "price!")
        self._first_bucket: Ints = load_attribute(folder, "items", "first_bucket!")
        self._attributes = {
            feature.name: load_attribute(folder, f"{feature.entity}s", feature.attribute)
            for feature in manifest.features
            if feature.family == "attribute"
        }
        self._codes = {
            name: {value: code for code, value in enumerate(values)} for name, values in manifest.context.items()
        }

    @classmethod
    def open(cls, path: Path) -> FeatureTables:
        """Open a `tables` folder; its arrays are mapped into memory, not read.

        Raises:
            InputError: If the folder is not one, or an array of it is missing.
        """
        manifest = documents.load(TablesManifest, path / MANIFEST)
        try:
            return cls(path, manifest)
        except (OSError, ValueError) as error:
            raise InputError(f"bucket tables {path}: cannot be opened ({error}); build the data set again.") from error

    @property
    def features(self) -> tuple[Feature, ...]:
        """The declarative list, in the order of the matrix's columns."""
        return self._manifest.features

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features, in the order of the matrix's columns."""
        return tuple(feature.name for feature in self._manifest.features)

    @property
    def bucket_seconds(self) -> int:
        return self._manifest.bucket_seconds

    @property
    def latest_bucket(self) -> int:
        """The first bucket that may know everything in the tables."""
        return self._manifest.latest_bucket

    def matrix(
        self,
        users: NDArray[np.int32],
        items: NDArray[np.int32],
        buckets: NDArray[np.int64],
        context: Mapping[str, Sequence[str | None]] | None = None,
    ) -> Matrix:
        """Features of each row as of its bucket.

        Args:
            users: Shape (rows,); -1 where unknown.
            items: Shape (rows,); -1 where unknown.
            buckets: Shape (rows,).
            context: Values of each context column, shape (rows,) each; an absent column or None is unknown.

        Returns:
            Shape (rows, features), float32; NaN where a number is unknown, -1 where a category is.
        """
        rows = len(users)
        result = np.empty((rows, len(self._manifest.features)), dtype=np.float32)
        for begin in range(0, rows, _BLOCK_ROWS):
            part = slice(begin, begin + _BLOCK_ROWS)
            view = _Rows(
                self,
                users[part].astype(np.int64),
                items[part].astype(np.int64),
                buckets[part].astype(np.int64),
                {name: values[part] for name, values in (context or {}).items()},
            )
            for place, feature in enumerate(self._manifest.features):
                result[part, place] = view.column(feature)
        return result


@dataclass(slots=True)
class _Entity:
    """Distinct (key, bucket) pairs of one entity, and which pair each row has."""

    keys: Ints
    buckets: Ints
    of_row: Ints
    counts: dict[tuple[str, int], Column] = field(default_factory=dict)


class _Rows:
    """One block of rows: what has been computed for it so far."""

    def __init__(
        self,
        tables: FeatureTables,
        users: Ints,
        items: Ints,
        buckets: Ints,
        context: Mapping[str, Sequence[str | None]],
    ) -> None:
        self._tables = tables
        self._manifest = tables._manifest
        self._users, self._items, self._buckets, self._context = users, items, buckets, context
        self._entities: dict[str, _Entity] = {}

    def column(self, feature: Feature) -> Column | Matrix:
        """The values of one feature, shape (rows,)."""
        families: dict[str, Callable[[Feature], Column | Matrix]] = {
            "count": self._count,
            "rate": self._rate,
            "share": self._share,
            "recency": self._recency,
            "tenure": self._tenure,
            "trend": self._trend,
            "covisitation": self._covisitation,
            "attribute": self._attribute,
            "context": self._context_code,
            "price": self._price_ratio,
        }
        return families[feature.family](feature)

    def _entity(self, name: str) -> _Entity:
        if name not in self._entities:
            keys = self._keys(name)
            stride = self._manifest.stride
            # Buckets beyond the tables see what the latest one sees, so pairs stay distinct after clipping.
            buckets = np.clip(self._buckets - self._manifest.origin, 0, stride - 1)
            pairs, of_row = np.unique((keys + 1) * stride + buckets, return_inverse=True)
            self._entities[name] = _Entity(pairs // stride - 1, pairs % stride + self._manifest.origin, of_row)
        return self._entities[name]

    def _keys(self, name: str) -> Ints:
        match name:
            case "item":
                return self._items
            case "user":
                return self._users
            case "user_category":
                category = np.where(self._items >= 0, self._tables._category[np.maximum(self._items, 0)], -1)
                key = self._users * max(self._manifest.categories, 1) + category
                return np.where((self._users >= 0) & (category >= 0), key, -1)
            case "user_item":
                key = self._users * max(self._manifest.items, 1) + self._items
                return np.where((self._users >= 0) & (self._items >= 0), key, -1)
            case _:
                return np.zeros(len(self._users), dtype=np.int64)

    def _counted(self, entity: str, event: str, window_days: float) -> Column:
        """Count of each distinct pair of an entity, computed once for all features that need it."""
        window = round(window_days * 86_400 / self._manifest.bucket_seconds)
        held = self._entity(entity)
        if (event, window) not in held.counts:
            trail: Trail = self._tables._trails[f"{entity}:{event}"]
            held.counts[event, window] = trail.count(held.keys, held.buckets, window=window).astype(np.float64)
        return held.counts[event, window]

    def _spread(self, entity: str, values: Column) -> Column:
        spread: Column = values[self._entity(entity).of_row]
        return spread

    def _days(self, buckets: Column) -> Column:
        return buckets * (self._manifest.bucket_seconds / 86_400)

    def _count(self, feature: Feature) -> Column:
        return self._spread(feature.entity, self._counted(feature.entity, feature.event, feature.window_days))

    def _rate(self, feature: Feature) -> Column:
        entity, event, days = feature.entity, feature.event, feature.window_days
        everyone = self._spread("catalogue", self._counted("catalogue", event, 0.0))
        shown = self._spread("catalogue", self._counted("catalogue", "!", 0.0))
        prior = np.divide(everyone, shown, out=np.zeros_like(everyone), where=shown > 0)
        won = self._spread(entity, self._counted(entity, event, days))
        tried = self._spread(entity, self._counted(entity, "!", days))
        rate: Column = (won + prior * _PRIOR_IMPRESSIONS) / (tried + _PRIOR_IMPRESSIONS)
        return rate

    def _share(self, feature: Feature) -> Column:
        whole = "catalogue" if feature.entity == "item" else "user"
        part = self._spread(feature.entity, self._counted(feature.entity, feature.event, feature.window_days))
        total = self._spread(whole, self._counted(whole, feature.event, feature.window_days))
        return np.divide(part, total, out=np.zeros_like(part), where=total > 0)

    def _recency(self, feature: Feature) -> Column:
        held = self._entity(feature.entity)
        last = self._tables._trails[f"{feature.entity}:{feature.event}"].last(held.keys, held.buckets)
        return self._spread(feature.entity, self._days(held.buckets - last))

    def _tenure(self, feature: Feature) -> Column:
        if feature.entity == "item":
            first = self._tables._first_bucket[np.maximum(self._items, 0)].astype(np.float64)
            age = self._days(np.maximum(self._buckets - first, 0.0))
            return np.where(self._items >= 0, age, np.nan)
        held = self._entity(feature.entity)
        earliest = self._tables._trails[f"{feature.entity}:{feature.event}"].first(held.keys, held.buckets)
        return self._spread(feature.entity, self._days(held.buckets - earliest))

    def _trend(self, feature: Feature) -> Column:
        recent = self._counted(feature.entity, feature.event, 7.0)
        usual = self._counted(feature.entity, feature.event, feature.window_days) * (7.0 / feature.window_days)
        return self._spread(feature.entity, (recent + 1.0) / (usual + 1.0))

    def _price_ratio(self, feature: Feature) -> Column:
        paid = self._counted("user", "$", feature.window_days) / _PRICE_UNITS
        bought = self._counted("user", "#", feature.window_days)
        mean = np.divide(paid, bought, out=np.full_like(paid, np.nan), where=bought > 0)
        price = np.where(self._items >= 0, self._tables._price[np.maximum(self._items, 0)], np.nan)
        usual = self._spread("user", mean)
        return np.divide(price, usual, out=np.full_like(price, np.nan), where=usual > 0)

    def _attribute(self, feature: Feature) -> Matrix:
        rows = self._users if feature.entity == "user" else self._items
        values: Matrix = self._tables._attributes[feature.name][np.maximum(rows, 0)]
        unknown = np.float32(-1 if feature.type == "category" else np.nan)
        return np.where(rows >= 0, values, unknown)

    def _context_code(self, feature: Feature) -> Column:
        codes = self._tables._codes[feature.attribute]
        given = self._context.get(feature.attribute)
        if given is None:
            return np.full(len(self._users), -1.0)
        return np.array([codes.get(value, -1) if value is not None else -1 for value in given], dtype=np.float64)

    def _covisitation(self, feature: Feature) -> Column:
        """Sum of similarity between the item and the user's latest takings, as of the last boundary before the bucket."""
        near, most = self._tables._near, int(feature.attribute)
        result = np.zeros(len(self._users))
        if not near:
            return result
        held = self._entity("user")
        place = np.searchsorted(self._tables._boundaries, held.buckets, side="right") - 1
        row_place = place[held.of_row]
        for boundary in np.unique(place[place >= 0]).tolist():
            pairs = np.flatnonzero(place == boundary)
            rows = np.flatnonzero((row_place == boundary) & (self._items >= 0))
            recent = self._tables._takings.recent(
                held.keys[pairs], held.buckets[pairs], most=most, n_items=self._manifest.items
            )
            scores = sparse.csr_array(recent @ near[boundary])
            local = np.searchsorted(pairs, held.of_row[rows])
            result[rows] = _elements(scores, local, self._items[rows])
        return result


def _elements(matrix: sparse.csr_array, rows: Ints, columns: Ints) -> Column:
    """Single entries of a sparse matrix, 0 where it has none."""
    matrix.sort_indices()
    width = np.int64(matrix.shape[1])
    owners = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))
    marks = owners * width + matrix.indices
    if not len(marks):
        return np.zeros(len(rows))
    wanted = rows * width + columns
    place = np.minimum(np.searchsorted(marks, wanted), len(marks) - 1)
    data: NDArray[Any] = matrix.data[place]
    return np.where(marks[place] == wanted, data, 0.0)
