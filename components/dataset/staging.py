"""A snapshot's tables as codes in DuckDB: users and items by ascending id, events with the buckets they count and arrive in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.dataset.features import impression_of, outcomes_of
from components.dataset.preparing import Entities
from components.dataset.requests import History
from components.dataset.tables import NEVER
from components.events.columns import literal, quoted
from components.events.contract import DatasetContract


@dataclass(frozen=True, slots=True)
class Coded:
    """The users and items of a snapshot in code order, with their attributes coded."""

    users: pa.Table
    """user, user_id, attributes as the snapshot has them."""
    items: pa.Table
    """item, item_id, attributes, first_bucket."""
    entities: Entities
    context: dict[str, tuple[str, ...]]


def stage(connection: duckdb.DuckDBPyConnection, snapshot: Path, contract: DatasetContract, *, bucket_us: int) -> None:
    """Make the table `ev` that `tables.build_tables` and `requests` read.

    Columns: user, item, category, provider: INTEGER codes; event; ts, own, enter: BIGINT; request_id; position; gain: FLOAT;
    outcome, impression, first: BOOLEAN; then the context columns.
    """
    # The files are in ascending order of their id, so a row's number is its code.
    connection.execute(
        "CREATE TABLE users AS SELECT file_row_number::INTEGER AS user, user_id "
        f"FROM read_parquet('{_path(snapshot / 'users.parquet')}', file_row_number = true)"
    )
    items = pq.read_table(snapshot / "items.parquet")
    codes = pa.table(
        {
            "item": np.arange(items.num_rows, dtype=np.int32),
            "item_id": items["item_id"],
            "category": _part(items, contract.item.category),
            "provider": _part(items, contract.item.provider),
        }
    )
    connection.register("item_codes", codes)
    impression, outcomes = impression_of(contract), outcomes_of(contract)
    gains = " ".join(
        f"WHEN {literal(name)} THEN {contract.events[name].gain!r}"
        + (" * coalesce(value, 0)" if contract.events[name].per_value else "")
        for name in outcomes
    )
    won = ", ".join(literal(name) for name in outcomes)
    context = "".join(
        f", e.{quoted(name)}" for name, attribute in contract.attributes.events.items() if attribute.role == "context"
    )
    connection.execute(
        f"""
        CREATE TABLE ev AS
        WITH coded AS (
            SELECT u.user, i.item, i.category, i.provider, e.event, epoch_us(e.ts) AS ts, e.request_id, e.position,
                epoch_us(e.ts) // {bucket_us} + 1 AS own, epoch_us(e.ingested_at) // {bucket_us} + 1 AS enter,
                (CASE e.event {gains} ELSE 0 END)::FLOAT AS gain, e.event = {literal(impression)} AS impression{context}
            FROM read_parquet('{_path(snapshot / "events.parquet")}') e
            JOIN users u ON u.user_id = e.user_id JOIN item_codes i ON i.item_id = e.item_id
        )
        SELECT *, event IN ({won}) AND gain > 0 AS outcome FROM coded
        """
    )
    # The first by arrival: which outcome came first must not change when an earlier one arrives later.
    connection.execute("ALTER TABLE ev ADD COLUMN first BOOLEAN DEFAULT false")
    connection.execute(
        """
        UPDATE ev SET first = true FROM (
            SELECT rowid AS place FROM ev WHERE outcome
            QUALIFY row_number() OVER (PARTITION BY user, item ORDER BY enter, ts, event) = 1
        ) WHERE ev.rowid = place
        """
    )


def history_of(connection: duckdb.DuckDBPyConnection, outcomes: tuple[str, ...]) -> History:
    """Outcome events in history order."""
    held = connection.sql(
        "SELECT user, item, ts, enter, gain, event FROM ev WHERE outcome ORDER BY enter, ts, user, item, event, gain"
    ).to_arrow_table()
    events = pc.index_in(held["event"], pa.array(outcomes, pa.string()))
    return History(
        _numpy(held["user"], np.int32),
        _numpy(held["item"], np.int32),
        _numpy(held["ts"], np.int64),
        _numpy(held["enter"], np.int64),
        _numpy(held["gain"], np.float32),
        _numpy(events, np.int32),
    )


def leave_out_after(connection: duckdb.DuckDBPyConnection, bucket: int) -> int:
    """Take events off `ev` that a bucket cannot know yet; returns how many."""
    before = connection.sql("SELECT count(*) FROM ev WHERE enter > $bucket", params={"bucket": bucket}).fetchall()
    connection.execute("DELETE FROM ev WHERE enter > $bucket", {"bucket": bucket})
    return int(before[0][0])


Texts = Mapping[tuple[str, str], Sequence[str]]
"""Texts of a category attribute by its table and name: a text's place is its code."""


def code(
    connection: duckdb.DuckDBPyConnection,
    snapshot: Path,
    contract: DatasetContract,
    *,
    bucket_us: int,
    texts: Texts | None = None,
) -> Coded:
    """Users, items and context values, coded.

    Args:
        connection: Holds `ev`.
        snapshot: A snapshot directory.
        contract: Of the snapshot.
        bucket_us: Length of a bucket.
        texts: What attributes are coded by; another text is unknown. Without it by the texts that the snapshot has.
    """
    users = pq.read_table(snapshot / "users.parquet")
    items = pq.read_table(snapshot / "items.parquet")
    available = _available(items, contract, bucket_us)
    category, provider = _part(items, contract.item.category), _part(items, contract.item.provider)
    price = contract.item.price
    entities = Entities(
        user_attributes=_attributes(users, contract, "users", texts),
        item_attributes=_attributes(items, contract, "items", texts),
        item_category=category,
        item_provider=provider,
        item_price=(
            _numpy(pc.fill_null(items[price], float("nan")), np.float64) if price else np.full(items.num_rows, np.nan)
        ),
        item_available=available,
        categories=int(category.max(initial=-1)) + 1,
        providers=int(provider.max(initial=-1)) + 1,
    )
    context = {
        name: tuple(
            row[0]
            for row in connection.sql(
                f"SELECT DISTINCT {quoted(name)} FROM ev WHERE {quoted(name)} IS NOT NULL ORDER BY 1"
            ).fetchall()
        )
        for name, attribute in contract.attributes.events.items()
        if attribute.role == "context"
    }
    return Coded(
        users=users.add_column(0, "user", pa.array(np.arange(users.num_rows, dtype=np.int32))),
        items=items.add_column(0, "item", pa.array(np.arange(items.num_rows, dtype=np.int32))).append_column(
            "first_bucket", pa.array(_first_buckets(connection, available))
        ),
        entities=entities,
        context=context,
    )


def _attributes(
    table: pa.Table, contract: DatasetContract, owner: str, texts: Texts | None
) -> dict[str, NDArray[np.float32]]:
    found = {}
    for name, attribute in getattr(contract.attributes, owner).items():
        if attribute.role == "feature":
            if attribute.type == "number":
                found[name] = _numpy(pc.fill_null(table[name], float("nan")), np.float32)
            else:
                known = None if texts is None else pa.array(texts[owner, name], pa.string())
                found[name] = _codes(table[name], known).astype(np.float32)
    return found


def _part(items: pa.Table, name: str | None) -> NDArray[np.int32]:
    """Codes of the attribute that plays a part; -1 where unknown or where none does."""
    return _codes(items[name]).astype(np.int32) if name else np.full(items.num_rows, -1, dtype=np.int32)


def _codes(column: pa.ChunkedArray, texts: pa.Array | None = None) -> NDArray[np.int64]:
    """Place of each value among the texts, or its own distinct ones in ascending order; -1 for null and for any other."""
    values = pc.unique(column.drop_null()).sort() if texts is None else texts
    return _numpy(pc.fill_null(pc.index_in(column, values), -1), np.int64)


def _available(items: pa.Table, contract: DatasetContract, bucket_us: int) -> NDArray[np.int64]:
    """Bucket in which the items table says that each item became available, `NEVER` where it does not say."""
    column = contract.item.available_from
    if not column:
        return np.full(items.num_rows, NEVER)
    declared = items[column].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    buckets = pc.fill_null(declared, 0).to_numpy() // bucket_us
    return np.where(pc.is_valid(declared).to_numpy(), buckets, NEVER)


def _first_buckets(connection: duckdb.DuckDBPyConnection, available: NDArray[np.int64]) -> NDArray[np.int64]:
    """First bucket in which each item may be shown.

    When it became available or was first seen, whichever is earlier: whatever the table says, an item that was seen was
    there. The log's end where neither is known: it is in the team's list by then.
    """
    seen = connection.sql("SELECT item, min(own) - 1 AS first FROM ev GROUP BY item").fetchnumpy()
    first = available.copy()
    place = np.asarray(seen["item"], np.int64)
    first[place] = np.minimum(first[place], np.asarray(seen["first"], np.int64))
    end = int(connection.sql("SELECT max(enter) FROM ev").fetchall()[0][0])
    return np.where(first == NEVER, end, first)


def _numpy(column: Any, kind: type[np.generic]) -> NDArray[Any]:
    held: NDArray[Any] = column.to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else column.to_numpy()
    return held.astype(kind)


def _path(path: Path) -> str:
    return str(path).replace("'", "''")
