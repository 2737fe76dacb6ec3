"""The features of one bucket, laid out for a service: what `FeatureTables` says of it, handed out without counting again.

A service asks about one user and a hundred items, always as of the same bucket. What the tables count for a request then, they
count for the next one too. Here each value is asked of the tables once, in bulk, and kept by what it depends on:

    an item                     one row an item, and one for an item that nobody knows
    a user                      one row a user, and one for a visitor
    a user and a category, provider or item
                                one row for each pair that anything is known of, and one for all others
    price ratio, co-visitation  put together at the request from the same parts, added in the same order

Nothing is defined a second time: a row here is the tables' row, to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from components.dataset.contract import Feature
from components.dataset.covisitation import Neighbours
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


class OnlineFeatures:
    """Features of any user and items as of one bucket."""

    def __init__(
        self,
        *,
        width: int,
        items: _Block,
        users: _Block,
        pairs: Sequence[_Pairs],
        prices: Sequence[tuple[int, Floats]],
        price: Floats,
        near: _Near | None,
        context: Sequence[tuple[int, str, Mapping[str, int]]],
    ) -> None:
        self._width = width
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
        chosen = range(len(tables.features)) if columns is None else [int(place) for place in columns]
        features = [tables.features[place] for place in chosen]
        kinds: dict[str, list[int]] = {}
        for place, feature in enumerate(features):
            kinds.setdefault(_kind(feature), []).append(place)
        keys = {kind: tables.known_keys(kind) for kind in kinds if kind.startswith("user_")}
        cells = (tables.items + 1) * len(kinds.get("item", ())) + (tables.users + 1) * len(kinds.get("user", ()))
        if cells + sum(len(held) * len(kinds[kind]) for kind, held in keys.items()) > MOST_CELLS:
            return None

        def block(kind: str, users: Ids, items: Ids) -> _Block:
            places = kinds.get(kind, [])
            return _Block(np.array(places, np.int64), _looked_up(tables, users, items, [features[p] for p in places]))

        every_item, every_user = _numbers(tables.items), _numbers(tables.users)
        bucket = tables.latest_bucket
        return cls(
            width=len(features),
            items=block("item", np.full_like(every_item, -1), every_item),
            users=block("user", every_user, np.full_like(every_user, -1)),
            pairs=[_pairs(tables, kind, keys[kind], kinds[kind], features) for kind in sorted(keys)],
            prices=[
                (place, tables.usual_prices(features[place], every_user, bucket)) for place in kinds.get("price", [])
            ],
            price=np.append(tables.prices.astype(np.float64), np.nan),
            near=_near(tables, {place: features[place] for place in kinds.get("covisitation", [])}),
            context=[
                (place, features[place].attribute, _codes(tables, features[place].attribute))
                for place in kinds.get("context", [])
            ],
        )

    def matrix(self, user: int, items: Ids, context: Mapping[str, str]) -> Matrix:
        """Features of one user with some items.

        Args:
            user: Number; -1 for a visitor who is not known.
            items: Numbers, shape (items,); -1 where unknown.
            context: Values that the request gives; an absent one is unknown.

        Returns:
            Shape (items, columns), float32, C-contiguous; as `FeatureTables.matrix` as of the latest bucket.
        """
        result = np.empty((len(items), self._width), dtype=np.float32)
        result[:, self._items.places] = self._items.rows[items]
        result[:, self._users.places] = self._users.rows[user]
        for pairs in self._pairs:
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


def _numbers(count: int) -> Ids:
    return np.append(np.arange(count, dtype=np.int32), np.int32(-1))


def _looked_up(tables: FeatureTables, users: Ids, items: Ids, features: Sequence[Feature]) -> Matrix:
    buckets = np.full(len(users), tables.latest_bucket, dtype=np.int64)
    return tables.matrix(users, items, buckets, features=features)


def _pairs(
    tables: FeatureTables, entity: str, keys: Ints, places: Sequence[int], features: Sequence[Feature]
) -> _Pairs:
    second, width = tables.second_keys(entity)
    # An item stands for all of its category: the tables only ask what its category is.
    example = np.full(width, -1, dtype=np.int32)
    having = np.flatnonzero(second >= 0)
    example[second[having][::-1]] = having[::-1]
    # What no item has any more cannot be asked for.
    keys = keys[example[keys % width] >= 0]
    users, seconds = keys // width, keys % width
    wanted = [features[place] for place in places]
    rows = [
        _looked_up(
            tables, users[begin : begin + _BLOCK].astype(np.int32), example[seconds[begin : begin + _BLOCK]], wanted
        )
        for begin in range(0, len(keys), _BLOCK)
    ]
    nobody = np.full(1, -1, dtype=np.int32)
    return _Pairs(
        places=np.array(places, dtype=np.int64),
        second=np.append(second, -1),
        starts=np.searchsorted(users, np.arange(tables.users + 1)),
        seconds=seconds,
        rows=np.concatenate([*rows, _looked_up(tables, nobody, nobody, wanted)]),
    )


def _near(tables: FeatureTables, features: Mapping[int, Feature]) -> _Near | None:
    if not features:
        return None
    places: dict[str, tuple[int, ...]] = {}
    for place, feature in features.items():
        places[feature.attribute] = (*places.get(feature.attribute, ()), place)
    bucket, takings = tables.latest_bucket, tables.takings
    nearby = tables.nearby(bucket)
    starts = takings.starts[:-1]
    if nearby is None:
        empty = Neighbours(np.zeros(tables.items + 1, np.int64), np.empty(0, np.int32), np.empty(0))
        return _Near(places, starts, starts, takings.items, empty)
    users = np.arange(tables.users, dtype=np.int64)
    known = np.add.reduceat(np.append(takings.enter <= bucket, False).astype(np.int64), starts) if len(users) else users
    # reduceat gives the next entry for a user who took nothing.
    ends = starts + np.where(takings.starts[1:] > starts, known, 0)
    return _Near(places, starts, ends, takings.items, nearby.turned())


def _codes(tables: FeatureTables, attribute: str) -> Mapping[str, int]:
    return {value: code for code, value in enumerate(tables.context_values[attribute])}
