"""The features of one bucket, laid out for a service: what `FeatureTables` says of it, handed out without counting again.

A service asks about one user and a hundred items, always as of the same bucket. What the tables count for a request then, they
count for the next one too. Here each value is asked of the tables once, in bulk, and kept by what it depends on:

    an item                     one row an item, and one for an item that nobody knows
    a user                      one row a user, and one for a visitor
    a user and a category, provider or item
                                one row for each pair that anything is known of, and one for all others
    price ratio, co-visitation  put together at the request from the same parts, added in the same order

Nothing is defined a second time: a row here is the tables' row, to the bit.

What is kept of items is small and what is kept of users grows with them. So users may be laid out all, some at a time, or not at
all: `UserPart` is everything that is kept of one, and `of_one` answers with a part that comes from elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from components.dataset.contract import Feature
from components.dataset.covisitation import Neighbours, Takings
from components.dataset.features import NEAREST
from components.dataset.lookup import FeatureTables, Matrix, price_ratio

Ints = NDArray[np.int64]
Ids = NDArray[np.int32]
Floats = NDArray[np.float64]

MOST_CELLS = 1 << 27
"""Most cells that may be laid out: 512 MB of features. Beyond, a service asks the tables."""
_OF_ITEMS, _OF_USERS = ("item", "catalogue"), ("user",)
_COUNTED_BY_PAIR = ("count", "rate", "share", "recency", "trend", "tenure")
_BLOCK = 1 << 18


@dataclass(frozen=True, slots=True)
class PartShape:
    """Which arrays a `UserPart` has; the same for all users of one layout."""

    user: int
    """Columns that depend on the user alone."""
    prices: int
    pairs: tuple[tuple[str, int], ...]
    """(entity, columns), ascending by entity."""


@dataclass(frozen=True, slots=True)
class UserPart:
    """All that is kept of one user."""

    row: NDArray[np.float32]
    """Shape (columns,): what depends on the user alone."""
    usual: Floats
    """Shape (price features,): what the user usually pays."""
    pairs: tuple[tuple[Ints, Matrix], ...]
    """By entity the other half of each pair, shape (pairs,), ascending, and its row, shape (pairs, columns)."""
    taken: Ids
    """Items in the order in which it became known that the user took them, repeats included."""


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows of features, by a number; the last row is for what is not known."""

    places: Ints
    """Columns of the answer that they fill."""
    rows: Matrix
    """Shape (numbers + 1, columns)."""


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Rows of features of pairs of a user and something of an item."""

    places: Ints
    second: Ints
    """What of each item a pair is made with, shape (items + 1,); -1 where there is none."""
    starts: Ints
    """Where each user's pairs begin, shape (users + 1,)."""
    seconds: Ints
    """The other half of each pair, shape (pairs,), ascending within a user."""
    rows: Matrix
    """Shape (pairs + 1, columns)."""

    def of(self, user: int, items: Ids) -> Matrix:
        """Shape (items, columns)."""
        if user < 0:
            return np.broadcast_to(self.rows[-1], (len(items), self.rows.shape[1]))
        begin, end = int(self.starts[user]), int(self.starts[user + 1])
        mine, asked = self.seconds[begin:end], self.second[items]
        if not len(mine):
            return np.broadcast_to(self.rows[-1], (len(items), self.rows.shape[1]))
        place = np.minimum(np.searchsorted(mine, asked), len(mine) - 1)
        found: Matrix = self.rows[np.where(mine[place] == asked, place + begin, -1)]
        return found

    def part(self, user: int) -> tuple[Ints, Matrix]:
        """What is kept of one user."""
        begin, end = int(self.starts[user]), int(self.starts[user + 1])
        return self.seconds[begin:end], self.rows[begin:end]

    def of_one(self, seconds: Ints, rows: Matrix) -> _Pairs:
        """The pairs of a single user."""
        starts = np.array([0, len(seconds)], dtype=np.int64)
        return _Pairs(self.places, self.second, starts, seconds, np.concatenate([rows, self.rows[-1:]]))


@dataclass(frozen=True, slots=True)
class _Near:
    """Co-visitation, by what a user took."""

    places: Mapping[str, tuple[int, ...]]
    """Columns by the feature's attribute: how many of the latest takings count, or the nearest."""
    starts: Ints
    """Where each user's known takings begin, shape (users,)."""
    ends: Ints
    taken: Ids
    """Shape (takings,), in the order they became known."""
    nearest: Neighbours
    """By the item that was taken: the items that it is among the nearest of, ascending."""

    def part(self, user: int) -> Ids:
        """What one user took."""
        return self.taken[int(self.starts[user]) : int(self.ends[user])]

    def of_one(self, taken: Ids) -> _Near:
        """The takings of a single user."""
        return _Near(self.places, np.zeros(1, np.int64), np.array([len(taken)]), taken, self.nearest)


class OnlineFeatures:
    """Features of any user and items as of one bucket."""

    def __init__(
        self,
        *,
        features: Sequence[Feature],
        items: _Block,
        users: _Block,
        pairs: Mapping[str, _Pairs],
        prices: Sequence[tuple[int, Floats]],
        price: Floats,
        near: _Near | None,
        context: Sequence[tuple[int, str, Mapping[str, int]]],
    ) -> None:
        self._features, self._width = features, len(features)
        self._items, self._users, self._pairs = items, users, pairs
        self._prices, self._price = prices, price
        self._near, self._context = near, context

    @classmethod
    def of(cls, tables: FeatureTables, columns: Sequence[int] | Ints | None = None) -> Self | None:
        """Lay out the latest bucket of some tables.

        Args:
            tables: The tables.
            columns: Places in the tables' list of the wanted features, in the order of the answer; all without it.

        Returns:
            None where it would take more than `MOST_CELLS`.
        """
        kinds = _kinds(_chosen(tables, columns))
        cells = (tables.items + 1) * len(kinds.get("item", ())) + (tables.users + 1) * len(kinds.get("user", ()))
        everyone = range(tables.users)
        for kind in filter(_is_pair, kinds):
            cells += len(tables.known_keys(kind, everyone)) * len(kinds[kind])
        return None if cells > MOST_CELLS else cls.of_items(tables, columns).holding(tables, everyone)

    @classmethod
    def of_items(cls, tables: FeatureTables, columns: Sequence[int] | Ints | None = None) -> Self:
        """As `of`, with what is known of items and none of the users: it answers for visitors, and for `of_one`."""
        features = _chosen(tables, columns)
        kinds = _kinds(features)
        every_item = _numbers(range(tables.items))
        in_items = kinds.get("item", [])
        return cls(
            features=features,
            items=_Block(
                np.array(in_items, np.int64),
                _looked_up(tables, np.full_like(every_item, -1), every_item, [features[place] for place in in_items]),
            ),
            users=_user_rows(tables, features, range(0)),
            pairs={
                kind: _pairs(tables, kind, kinds[kind], features, range(0)) for kind in sorted(filter(_is_pair, kinds))
            },
            prices=[(place, np.full(1, np.nan)) for place in kinds.get("price", [])],
            price=np.append(tables.prices.astype(np.float64), np.nan),
            near=_near(tables, {place: features[place] for place in kinds.get("covisitation", [])}),
            context=[
                (place, features[place].attribute, _codes(tables, features[place].attribute))
                for place in kinds.get("context", [])
            ],
        )

    def holding(self, tables: FeatureTables, users: range) -> Self:
        """The same of other users.

        Args:
            tables: Those that this was laid out from.
            users: Consecutive numbers; here they count from 0.
        """
        numbers = _numbers(users)
        return type(self)(
            features=self._features,
            items=self._items,
            users=_user_rows(tables, self._features, users),
            pairs={
                kind: _pairs(tables, kind, held.places.tolist(), self._features, users)
                for kind, held in self._pairs.items()
            },
            prices=[
                (place, tables.usual_prices(self._features[place], numbers, tables.latest_bucket))
                for place, _ in self._prices
            ],
            price=self._price,
            near=None if self._near is None else _taken_by(self._near, tables, users),
            context=self._context,
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that was counted, by name: what `of_arrays` makes the same features of again."""
        found: dict[str, NDArray[Any]] = {"items": self._items.rows, "users": self._users.rows, "price": self._price}
        for kind, pairs in self._pairs.items():
            for name in ("second", "starts", "seconds", "rows"):
                found[f"{kind}.{name}"] = getattr(pairs, name)
        for number, (_, usual) in enumerate(self._prices):
            found[f"usual.{number}"] = usual
        if self._near is not None:
            near = self._near
            found |= {"near.starts": near.starts, "near.ends": near.ends, "near.taken": near.taken}
            for name in ("starts", "items", "similarity"):
                found[f"nearest.{name}"] = getattr(near.nearest, name)
        return found

    @classmethod
    def of_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], tables: FeatureTables, columns: Sequence[int] | Ints | None = None
    ) -> Self:
        """What `arrays` gave of features of the same tables and columns, without asking the tables again.

        Raises:
            KeyError: If an array is missing.
        """
        features = _chosen(tables, columns)
        kinds = _kinds(features)

        def block(kind: str, rows: Matrix) -> _Block:
            return _Block(np.array(kinds.get(kind, []), np.int64), rows)

        def pairs(kind: str) -> _Pairs:
            parts = (arrays[f"{kind}.{name}"] for name in ("second", "starts", "seconds", "rows"))
            return _Pairs(np.array(kinds[kind], np.int64), *parts)

        near = None
        if "covisitation" in kinds:
            nearest = Neighbours(*(arrays[f"nearest.{name}"] for name in ("starts", "items", "similarity")))
            places = _near_places({place: features[place] for place in kinds["covisitation"]})
            near = _Near(places, arrays["near.starts"], arrays["near.ends"], arrays["near.taken"], nearest)
        return cls(
            features=features,
            items=block("item", arrays["items"]),
            users=block("user", arrays["users"]),
            pairs={kind: pairs(kind) for kind in sorted(filter(_is_pair, kinds))},
            prices=[(place, arrays[f"usual.{number}"]) for number, place in enumerate(kinds.get("price", []))],
            price=arrays["price"],
            near=near,
            context=[
                (place, features[place].attribute, _codes(tables, features[place].attribute))
                for place in kinds.get("context", [])
            ],
        )

    @property
    def users(self) -> int:
        """How many users are laid out; their numbers are 0 .. users - 1."""
        return len(self._users.rows) - 1

    @property
    def shape(self) -> PartShape:
        """Of `part`."""
        pairs = tuple((kind, held.rows.shape[1]) for kind, held in self._pairs.items())
        return PartShape(self._users.rows.shape[1], len(self._prices), pairs)

    def part(self, user: int) -> UserPart:
        """What is laid out of one user, not copied."""
        return UserPart(
            row=self._users.rows[user],
            usual=np.array([usual[user] for _, usual in self._prices]),
            pairs=tuple(held.part(user) for held in self._pairs.values()),
            taken=np.empty(0, np.int32) if self._near is None else self._near.part(user),
        )

    def of_one(self, part: UserPart) -> Self:
        """The same of a single user, number 0.

        Args:
            part: Of the same tables and features, of this `shape`.
        """
        return type(self)(
            features=self._features,
            items=self._items,
            users=_Block(self._users.places, np.stack([part.row, self._users.rows[-1]])),
            pairs={
                kind: held.of_one(*pairs) for (kind, held), pairs in zip(self._pairs.items(), part.pairs, strict=True)
            },
            prices=[
                (place, np.append(usual, np.nan)) for (place, _), usual in zip(self._prices, part.usual, strict=True)
            ],
            price=self._price,
            near=None if self._near is None else self._near.of_one(part.taken),
            context=self._context,
        )

    def matrix(self, user: int, items: Ids, context: Mapping[str, str]) -> Matrix:
        """Features of one user with some items.

        Args:
            user: Number, of those laid out; -1 for a visitor who is not known.
            items: Numbers, shape (items,); -1 where unknown.
            context: Values that the request gives; an absent one is unknown.

        Returns:
            Shape (items, columns), float32, C-contiguous; as `FeatureTables.matrix` as of the latest bucket.
        """
        result = np.empty((len(items), self._width), dtype=np.float32)
        result[:, self._items.places] = self._items.rows[items]
        result[:, self._users.places] = self._users.rows[user]
        for pairs in self._pairs.values():
            result[:, pairs.places] = pairs.of(user, items)
        for place, usual in self._prices:
            result[:, place] = price_ratio(self._price[items], np.broadcast_to(usual[user], len(items)))
        if self._near is not None:
            self._add_nearness(result, self._near, user, items)
        for place, name, codes in self._context:
            value = context.get(name)
            result[:, place] = -1 if value is None else codes.get(value, -1)
        return result

    def _add_nearness(self, result: Matrix, near: _Near, user: int, items: Ids) -> None:
        begin, end = (int(near.starts[user]), int(near.ends[user])) if user >= 0 else (0, 0)
        # Each item taken, ascending, with how many takings lie after its latest one.
        taken, after = np.unique(near.taken[begin:end][::-1], return_index=True)
        lengths = near.nearest.starts[taken + 1] - near.nearest.starts[taken]
        entry = np.repeat(near.nearest.starts[taken] - (np.cumsum(lengths) - lengths), lengths) + np.arange(
            lengths.sum()
        )
        reached, similarity = near.nearest.items[entry], near.nearest.similarity[entry]
        known = items >= 0
        n_items = len(near.nearest.starts) - 1
        for attribute, places in near.places.items():
            values: Floats = np.zeros(n_items)
            if attribute == NEAREST:
                np.maximum.at(values, reached, similarity)
            elif count := int(attribute):
                late = np.repeat(after < count, lengths)
                values += np.bincount(reached[late], weights=similarity[late], minlength=n_items)
            else:
                # Adds one by one, ascending by what was taken: the order in which the tables add.
                values += np.bincount(reached, weights=similarity, minlength=n_items)
            column = np.where(known, values[items], 0.0)
            for place in places:
                result[:, place] = column


def _kind(feature: Feature) -> str:
    """What the value of a feature depends on: an entity, or a family that is put together at the request."""
    if feature.family in ("price", "covisitation", "context"):
        return feature.family
    if feature.entity in _OF_ITEMS:
        return "item"
    if feature.entity in _OF_USERS:
        return "user"
    if feature.family in _COUNTED_BY_PAIR:
        return feature.entity
    raise ValueError(f"feature {feature.name}: family {feature.family} of {feature.entity} is not served")


def _is_pair(kind: str) -> bool:
    return kind.startswith("user_")


def _chosen(tables: FeatureTables, columns: Sequence[int] | Ints | None) -> tuple[Feature, ...]:
    return tables.features if columns is None else tuple(tables.features[int(place)] for place in columns)


def _kinds(features: Sequence[Feature]) -> dict[str, list[int]]:
    """Places of the features of each kind."""
    kinds: dict[str, list[int]] = {}
    for place, feature in enumerate(features):
        kinds.setdefault(_kind(feature), []).append(place)
    return kinds


def _numbers(known: range) -> Ids:
    """The known numbers, and -1."""
    return np.append(np.arange(known.start, known.stop, dtype=np.int32), np.int32(-1))


def _looked_up(tables: FeatureTables, users: Ids, items: Ids, features: Sequence[Feature]) -> Matrix:
    buckets = np.full(len(users), tables.latest_bucket, dtype=np.int64)
    return tables.matrix(users, items, buckets, features=features)


def _user_rows(tables: FeatureTables, features: Sequence[Feature], users: range) -> _Block:
    places = _kinds(features).get("user", [])
    numbers = _numbers(users)
    rows = _looked_up(tables, numbers, np.full_like(numbers, -1), [features[place] for place in places])
    return _Block(np.array(places, np.int64), rows)


def _pairs(
    tables: FeatureTables, entity: str, places: Sequence[int], features: Sequence[Feature], users: range
) -> _Pairs:
    second, width = tables.second_keys(entity)
    # An item stands for all of its category: the tables only ask what its category is.
    example = np.full(width, -1, dtype=np.int32)
    having = np.flatnonzero(second >= 0)
    example[second[having][::-1]] = having[::-1]
    keys = tables.known_keys(entity, users)
    # What no item has any more cannot be asked for.
    keys = keys[example[keys % width] >= 0]
    owners, seconds = keys // width, keys % width
    wanted = [features[place] for place in places]
    rows = [
        _looked_up(
            tables, owners[begin : begin + _BLOCK].astype(np.int32), example[seconds[begin : begin + _BLOCK]], wanted
        )
        for begin in range(0, len(keys), _BLOCK)
    ]
    nobody = np.full(1, -1, dtype=np.int32)
    return _Pairs(
        places=np.array(places, dtype=np.int64),
        second=np.append(second, -1),
        starts=np.searchsorted(owners, np.arange(users.start, users.stop + 1)),
        seconds=seconds,
        rows=np.concatenate([*rows, _looked_up(tables, nobody, nobody, wanted)]),
    )


def _near(tables: FeatureTables, features: Mapping[int, Feature]) -> _Near | None:
    """Of no user."""
    if not features:
        return None
    nearby = tables.nearby(tables.latest_bucket)
    nobody = np.empty(0, np.int64)
    if nearby is None:
        nearest = Neighbours(np.zeros(tables.items + 1, np.int64), np.empty(0, np.int32), np.empty(0))
    else:
        nearest = nearby.turned()
    return _Near(_near_places(features), nobody, nobody, np.empty(0, np.int32), nearest)


def _near_places(features: Mapping[int, Feature]) -> dict[str, tuple[int, ...]]:
    places: dict[str, tuple[int, ...]] = {}
    for place, feature in features.items():
        places[feature.attribute] = (*places.get(feature.attribute, ()), place)
    return places


def _taken_by(near: _Near, tables: FeatureTables, users: range) -> _Near:
    takings: Takings = tables.takings
    bounds = takings.starts[users.start : users.stop + 1]
    starts = bounds[:-1]
    if not users or tables.nearby(tables.latest_bucket) is None:
        return replace(near, starts=starts, ends=starts, taken=takings.items)
    entered = takings.enter[int(bounds[0]) : int(bounds[-1])] <= tables.latest_bucket
    known = np.add.reduceat(np.append(entered, False).astype(np.int64), starts - bounds[0])
    # reduceat gives the next entry for a user who took nothing.
    ends = starts + np.where(bounds[1:] > starts, known, 0)
    return replace(near, starts=starts, ends=ends, taken=takings.items)


def _codes(tables: FeatureTables, attribute: str) -> Mapping[str, int]:
    return {value: code for code, value in enumerate(tables.context_values[attribute])}
