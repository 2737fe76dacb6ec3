"""Looks features up as of a bucket: the one function that makes training rows and answers requests.

A row is (user, item, bucket, context). Features of a user or an item do not depend on the rest of the row, so each is
computed once for every distinct (entity, bucket) and handed out to the rows that share it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.artifacts import documents
from components.dataset.contract import Feature
from components.dataset.covisitation import Nearness, Neighbours, Takings, nearness
from components.dataset.features import NEAREST
from components.dataset.kernel import Ints
from components.dataset.tables import (
    MANIFEST,
    MOST_KEYS,
    PRICE_UNITS,
    TablesManifest,
    counted_windows,
    in_buckets,
    load_attribute,
    load_nearby,
    load_takings,
    load_trails,
)
from components.errors import InputError

Matrix = NDArray[np.float32]
Column = NDArray[np.float64]

_PRIOR_IMPRESSIONS = 20.0
"""A rate starts as this many impressions at the catalogue's own rate."""
_BLOCK_ROWS = 1 << 19


class FeatureTables:
    """The bucket tables of one data set or release, opened for looking up."""

    def __init__(self, folder: Path, manifest: TablesManifest) -> None:
        self._manifest = manifest
        self._trails = load_trails(folder, manifest)
        self._windows = counted_windows(manifest.features)
        self._takings: Takings = load_takings(folder)
        self._boundaries = np.array(manifest.boundaries, dtype=np.int64)
        self._nearby = [load_nearby(folder, boundary) for boundary in manifest.boundaries]
        covisitation = [feature.attribute for feature in manifest.features if feature.family == "covisitation"]
        self._latest = tuple(sorted({int(name) for name in covisitation if name != NEAREST}))
        self._category: NDArray[np.int32] = load_attribute(folder, "items", "category!")
        self._price: NDArray[np.float64] = load_attribute(folder, "items", "price!")
        self._provider: NDArray[np.int32] = load_attribute(folder, "items", "provider!")
        self._available: Ints = load_attribute(folder, "items", "available!")
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
        except (OSError, ValueError, KeyError) as error:
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
    def context_values(self) -> Mapping[str, tuple[str, ...]]:
        """Known values of each context column, ascending: a value's place is its code."""
        return self._manifest.context

    @property
    def impression(self) -> str:
        """Name of the event that says what was shown; empty where none does."""
        return self._manifest.impression

    @property
    def bucket_seconds(self) -> int:
        return self._manifest.bucket_seconds

    @property
    def boundaries(self) -> tuple[int, ...]:
        """Buckets as of which co-visitation was computed, ascending."""
        return self._manifest.boundaries

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
        *,
        features: Sequence[Feature] | None = None,
    ) -> Matrix:
        """Features of each row as of its bucket.

        Args:
            users: Shape (rows,); -1 where unknown.
            items: Shape (rows,); -1 where unknown.
            buckets: Shape (rows,); one beyond `latest_bucket` is answered as if nothing had happened since.
            context: Values of each context column, shape (rows,) each; an absent column or None is unknown.
            features: Of the declarative list, those that are wanted; all without it.

        Returns:
            Shape (rows, features), float32; NaN where a number is unknown, -1 where a category is.
        """
        rows, wanted = len(users), self._manifest.features if features is None else features
        result = np.empty((rows, len(wanted)), dtype=np.float32)
        for begin in range(0, rows, _BLOCK_ROWS):
            part = slice(begin, begin + _BLOCK_ROWS)
            view = _Rows(
                self,
                users[part].astype(np.int64),
                items[part].astype(np.int64),
                buckets[part].astype(np.int64),
                {name: values[part] for name, values in (context or {}).items()},
            )
            for place, feature in enumerate(wanted):
                result[part, place] = view.column(feature)
        return result

    @property
    def users(self) -> int:
        """How many users are known; their numbers are 0 .. users - 1."""
        return self._manifest.users

    @property
    def items(self) -> int:
        """How many items are known."""
        return self._manifest.items

    @property
    def takings(self) -> Takings:
        """What each user took."""
        return self._takings

    @property
    def prices(self) -> Column:
        """Price of each item; NaN where it has none."""
        return self._price

    def second_keys(self, entity: str) -> tuple[Ints, int]:
        """What a pair of `entity` is made of beside its user: key = user * how many there are + this.

        Returns:
            One number an item, shape (items,), -1 where the item has none; and how many different ones there are.
        """
        match entity:
            case "user_category":
                return self._category.astype(np.int64), max(self._manifest.categories, 1)
            case "user_provider":
                return self._provider.astype(np.int64), max(self._manifest.providers, 1)
            case _:
                return np.arange(self._manifest.items, dtype=np.int64), max(self._manifest.items, 1)

    def known_keys(self, entity: str, users: range) -> Ints:
        """Keys of pairs of some consecutive users that anything was ever counted for, ascending."""
        width = self.second_keys(entity)[1]
        first, stop = users.start * width, users.stop * width
        found = [trail.keys(first, stop) for name, trail in self._trails.items() if name.partition(":")[0] == entity]
        return np.unique(np.concatenate([np.empty(0, np.int64), *found]))

    def usual_prices(self, feature: Feature, users: NDArray[np.int32], bucket: int) -> Column:
        """What a `price` feature divides an item's price by, shape (users,); NaN where a user took nothing with a price."""
        nobody = np.full(len(users), -1, dtype=np.int64)
        view = _Rows(self, users.astype(np.int64), nobody, np.full(len(users), bucket, dtype=np.int64), {})
        return view.usual_price(feature)

    def nearby(self, bucket: int) -> Neighbours | None:
        """Co-visitation that a bucket knows, turned; None before the first boundary."""
        place = int(np.searchsorted(self._boundaries, bucket, side="right")) - 1
        return self._nearby[place] if place >= 0 else None


def price_ratio(price: Column, usual: Column) -> Column:
    """Prices in units of what the user usually pays; NaN where either is unknown or nothing was ever paid."""
    return np.divide(price, usual, out=np.full_like(price, np.nan), where=usual > 0)


@dataclass(slots=True)
class _Entity:
    """Distinct (key, bucket) pairs of one entity, and which pair each row has."""

    keys: Ints
    buckets: Ints
    of_row: Ints
    counts: dict[tuple[str, float], Column] = field(default_factory=dict)


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
        self._near: Nearness | None = None

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
            first, last = int(self._buckets.min()), int(self._buckets.max())
            width = last - first + 1
            if (int(keys.max()) + 2) * width >= MOST_KEYS:
                raise InputError(
                    f"feature lookup: buckets from {first} to {last} are too far apart to be asked together; needed fewer. "
                    "Ask in portions, and check that buckets are whole periods since 1970."
                )
            pairs, of_row = np.unique((keys + 1) * width + self._buckets - first, return_inverse=True)
            self._entities[name] = _Entity(pairs // width - 1, pairs % width + first, of_row)
        return self._entities[name]

    def _keys(self, name: str) -> Ints:
        match name:
            case "item":
                return self._items
            case "user":
                return self._users
            case "user_category":
                return self._part_keys(self._tables._category, self._manifest.categories)
            case "user_provider":
                return self._part_keys(self._tables._provider, self._manifest.providers)
            case "user_item":
                key = self._users * max(self._manifest.items, 1) + self._items
                return np.where((self._users >= 0) & (self._items >= 0), key, -1)
            case _:
                return np.zeros(len(self._users), dtype=np.int64)

    def _part_keys(self, codes: NDArray[np.int32], parts: int) -> Ints:
        """Keys of each row's user with the category or provider of its item; -1 where either is unknown."""
        code = np.where(self._items >= 0, codes[np.maximum(self._items, 0)], -1)
        return np.where((self._users >= 0) & (code >= 0), self._users * max(parts, 1) + code, -1)

    def _counted(self, entity: str, event: str, window_days: float) -> Column:
        """Count of each distinct pair of an entity; all windows of a trail are looked up together, once."""
        held, seconds = self._entity(entity), self._manifest.bucket_seconds
        if (event, window_days) not in held.counts:
            name = f"{entity}:{event}"
            lengths = {days: in_buckets(days, seconds) for days in sorted(self._tables._windows[name])}
            found = self._tables._trails[name].counts(held.keys, held.buckets, sorted(set(lengths.values())))
            for days, window in lengths.items():
                held.counts[event, days] = found[window].astype(np.float64)
        return held.counts[event, window_days]

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
        held = self._entity(feature.entity)
        first = self._tables._trails[f"{feature.entity}:{feature.event}"].first(held.keys, held.buckets)
        if feature.entity == "item":
            # What happened in a bucket is known one later; an item was there in the bucket it was seen in.
            declared = self._tables._available[np.maximum(held.keys, 0)]
            there = np.where((held.keys >= 0) & (declared <= held.buckets), declared.astype(np.float64), np.nan)
            first = np.fmin(first - 1, there)
        return self._spread(feature.entity, self._days(held.buckets - first))

    def _trend(self, feature: Feature) -> Column:
        recent = self._counted(feature.entity, feature.event, 7.0)
        usual = self._counted(feature.entity, feature.event, feature.window_days) * (7.0 / feature.window_days)
        return self._spread(feature.entity, (recent + 1.0) / (usual + 1.0))

    def usual_price(self, feature: Feature) -> Column:
        """Mean price of what each row's user took, shape (rows,)."""
        paid = self._counted("user", "$", feature.window_days) / PRICE_UNITS
        bought = self._counted("user", "#", feature.window_days)
        return self._spread("user", np.divide(paid, bought, out=np.full_like(paid, np.nan), where=bought > 0))

    def _price_ratio(self, feature: Feature) -> Column:
        price = np.where(self._items >= 0, self._tables._price[np.maximum(self._items, 0)], np.nan)
        return price_ratio(price, self.usual_price(feature))

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
        """Similarity between the item and what the user took, as of the last boundary that the bucket does not precede."""
        if self._near is None:
            self._near = self._nearness()
        return self._near.nearest if feature.attribute == NEAREST else self._near.sums[int(feature.attribute)]

    def _nearness(self) -> Nearness:
        tables, rows = self._tables, len(self._users)
        found = Nearness({count: np.zeros(rows) for count in tables._latest}, np.zeros(rows))
        held = self._entity("user")
        place = np.searchsorted(tables._boundaries, held.buckets, side="right") - 1
        row_place = np.where(self._items >= 0, place[held.of_row], -1)
        for boundary in np.unique(row_place[row_place >= 0]).tolist():
            pairs, asked = np.flatnonzero(place == boundary), np.flatnonzero(row_place == boundary)
            near = nearness(
                tables._takings,
                tables._nearby[boundary],
                users=held.keys[pairs],
                buckets=held.buckets[pairs],
                of_row=np.searchsorted(pairs, held.of_row[asked]),
                items=self._items[asked],
                latest=tables._latest,
            )
            found.nearest[asked] = near.nearest
            for count, total in near.sums.items():
                found.sums[count][asked] = total
        return found
