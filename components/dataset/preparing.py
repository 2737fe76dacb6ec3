"""Makes the bucket tables of a snapshot: DuckDB joins, partitions and counts; the arrays are laid out to be mapped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.artifacts import documents
from components.dataset.contract import Feature
from components.dataset.covisitation import Takings, cosine_neighbours, taken_matrix
from components.dataset.features import ANY_OUTCOME, FIRST_OUTCOME
from components.dataset.kernel import Ints, Trail
from components.dataset.tables import (
    MANIFEST,
    MOST_KEYS,
    NUMBER,
    PRICE_UNITS,
    SCHEMA_VERSION,
    TRAILS,
    TablesManifest,
    counted_windows,
    file_name,
    in_buckets,
)
from components.errors import InputError

_NEIGHBOURS = 50


@dataclass(frozen=True, slots=True)
class Entities:
    """Attributes of users and items as arrays, in their order in the data set."""

    user_attributes: dict[str, NDArray[np.float32]]
    item_attributes: dict[str, NDArray[np.float32]]
    item_category: NDArray[np.int32]
    item_provider: NDArray[np.int32]
    """-1 where unknown, as in `item_category`."""
    item_price: NDArray[np.float64]
    """NaN where unknown."""
    item_available: Ints
    """Bucket in which the team's table says that the item became available; `NEVER` where it does not say."""
    categories: int
    providers: int


def build_tables(
    connection: duckdb.DuckDBPyConnection,
    entities: Entities,
    *,
    features: Sequence[Feature],
    bucket_seconds: int,
    boundaries: Sequence[int],
    outcomes: Sequence[str],
    impression: str,
    context: Mapping[str, Sequence[str]],
    users: int,
    out: Path,
    latest_bucket: int | None = None,
) -> TablesManifest:
    """Write the tables of a snapshot.

    Args:
        connection: Holds the table `ev`: user, item, category, provider: INTEGER codes; event: VARCHAR; own, enter: BIGINT
            buckets; outcome, impression, first: BOOLEAN; ts: BIGINT microseconds.
        entities: Attributes in the data set's order.
        features: The declarative list.
        bucket_seconds: Length of a bucket.
        boundaries: Buckets at which co-visitation is computed, from what is known by then.
        outcomes: Outcome events.
        impression: The impression event, or empty.
        context: Known values of each context column.
        users: Number of users.
        out: Empty folder.
        latest_bucket: Bucket that the tables are to be asked as of, no earlier than the last event's; that one's without it.

    Raises:
        InputError: If users, items and buckets are too many to tell apart in 63 bits.
    """
    low, last = connection.sql("SELECT min(own), max(enter) FROM ev").fetchall()[0]
    high = last if latest_bucket is None else max(last, latest_bucket)
    windows = windows_needed(features, bucket_seconds)
    # One below the first, so that looking back to the origin finds nothing; up to where the longest window is empty again.
    origin, stride = int(low) - 1, int(high) - int(low) + max(windows) + 3
    trails, n_items = trails_needed(features), len(entities.item_category)
    if (largest := max(users, 1) * max(n_items, entities.categories, entities.providers, 1) * stride) >= MOST_KEYS:
        raise InputError(
            f"bucket tables: {users:,} users x {n_items:,} items x {stride:,} buckets make {largest:.1e} keys; needed fewer "
            f"than {MOST_KEYS:.1e}. Use daily buckets (`bucket: day`), or shorten the log with `retention`."
        )
    prices = np.nan_to_num(entities.item_price, nan=0.0)
    layout: dict[str, dict[str, tuple[int, int]]] = {name: {} for name in trails}
    with (out / TRAILS).open("wb") as stream:
        for name in trails:
            trail = _trail(connection, name, prices, entities, origin=origin, stride=stride, windows=windows)
            for array, values in trail.arrays():
                layout[name][array] = (stream.tell() // NUMBER.itemsize, len(values))
                np.ascontiguousarray(values, NUMBER).tofile(stream)
    takings = _takings(connection, users)
    for array, kept in (("starts", takings.starts), ("enter", takings.enter), ("items", takings.items)):
        _save(out, f"takings.{array}", kept)
    owners = np.repeat(np.arange(users, dtype=np.int32), np.diff(takings.starts))
    for boundary in boundaries:
        known = takings.enter <= boundary
        taken = taken_matrix(owners[known], takings.items[known], n_users=users, n_items=n_items)
        near = cosine_neighbours(taken, top=_NEIGHBOURS).turned()
        for array, found in (("starts", near.starts), ("items", near.items), ("similarity", near.similarity)):
            _save(out, f"nearby_{boundary}.{array}", found)
    for owner, attributes in (("users", entities.user_attributes), ("items", entities.item_attributes)):
        for name, held in attributes.items():
            _save(out, f"{owner}.{file_name(name)}", held)
    _save(out, "items.category!", entities.item_category)
    _save(out, "items.price!", entities.item_price)
    _save(out, "items.provider!", entities.item_provider)
    _save(out, "items.available!", entities.item_available)
    manifest = TablesManifest(
        schema_version=SCHEMA_VERSION,
        features=tuple(features),
        bucket_seconds=bucket_seconds,
        origin=origin,
        stride=stride,
        first_bucket=int(low),
        latest_bucket=int(high),
        windows=windows,
        trails=trails,
        layout=layout,
        boundaries=tuple(boundaries),
        users=users,
        items=n_items,
        categories=entities.categories,
        providers=entities.providers,
        outcomes=tuple(outcomes),
        impression=impression,
        context={name: tuple(values) for name, values in context.items()},
    )
    documents.save(manifest, out / MANIFEST)
    return manifest


def trails_needed(features: Sequence[Feature]) -> tuple[str, ...]:
    """Names `entity:event` of the trails that a feature list looks back on, ascending."""
    looked_at = {f"{feature.entity}:{feature.event}" for feature in features if feature.family in ("recency", "tenure")}
    return tuple(sorted(looked_at | set(counted_windows(features))))


def windows_needed(features: Sequence[Feature], bucket_seconds: int) -> tuple[int, ...]:
    """Window lengths in buckets, ascending; without 0, which looks back to the beginning."""
    days = {length for lengths in counted_windows(features).values() for length in lengths if length}
    return tuple(sorted({in_buckets(length, bucket_seconds) for length in days}))


_KEY = {
    "catalogue": "0",
    "item": "item",
    "user": "user",
    "user_category": "user::BIGINT * {categories} + category",
    "user_provider": "user::BIGINT * {providers} + provider",
    "user_item": "user::BIGINT * {items} + item",
}


def _trail(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    prices: NDArray[np.float64],
    entities: Entities,
    *,
    origin: int,
    stride: int,
    windows: Sequence[int],
) -> Trail:
    """The trail `entity:event`; DuckDB counts its events by key, bucket and arrival first.

    Events besides names: `*` any outcome, `+` first outcomes, `!` impressions, `#` outcomes with a price, `$` their prices;
    none: every event.
    """
    entity, _, event = name.partition(":")
    key = _KEY[entity].format(
        categories=max(entities.categories, 1),
        providers=max(entities.providers, 1),
        items=max(len(entities.item_category), 1),
    )
    priced = event in ("#", "$")
    where = {
        ANY_OUTCOME: "outcome",
        FIRST_OUTCOME: "first",
        "!": "impression",
        "#": "outcome AND priced",
        "$": "outcome AND priced",
        "": "true",
    }.get(event, "event = $event")
    if entity in ("user_category", "user_provider"):
        where += f" AND {entity.removeprefix('user_')} >= 0"
    weight = "sum(price_units)::BIGINT" if event == "$" else "count(*)::BIGINT"
    source = "ev"
    if priced:
        units = np.round(prices * PRICE_UNITS).astype(np.int64)
        has_price = np.isfinite(entities.item_price)
        connection.register(
            "item_prices",
            pa.table({"item": np.arange(len(units), dtype=np.int32), "price_units": units, "priced": has_price}),
        )
        source = "ev JOIN item_prices USING (item)"
    query = (
        f"SELECT ({key})::BIGINT AS key, own, enter, {weight} AS weight FROM {source} WHERE {where} "
        "GROUP BY ALL ORDER BY ALL"
    )
    relation = connection.sql(query, params={"event": event}) if "$event" in query else connection.sql(query)
    held = relation.fetchnumpy()
    return Trail.of(
        np.asarray(held["key"], np.int64),
        np.asarray(held["own"], np.int64),
        np.asarray(held["enter"], np.int64),
        np.asarray(held["weight"], np.int64),
        origin=origin,
        stride=stride,
        windows=np.array(windows, np.int64),
    )


def _takings(connection: duckdb.DuckDBPyConnection, users: int) -> Takings:
    held = connection.sql(
        "SELECT user, enter, item FROM ev WHERE outcome ORDER BY user, enter, ts, item, event"
    ).fetchnumpy()
    owners = np.asarray(held["user"], np.int64)
    starts = np.searchsorted(owners, np.arange(users + 1)).astype(np.int64)
    return Takings(starts, np.asarray(held["enter"], np.int64), np.asarray(held["item"], np.int32))


def _save(out: Path, name: str, values: NDArray[Any]) -> None:
    np.save(out / f"{name}.npy", np.ascontiguousarray(values), allow_pickle=False)
