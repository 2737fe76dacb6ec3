"""A snapshot's tables as codes in DuckDB: users and items by ascending id, events with the buckets they count and arrive in."""

from __future__ import annotations

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
from components.dataset.requests import History
from components.dataset.tables import Entities
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

    Columns: user, item, category: INTEGER codes; event; ts, own, enter: BIGINT; request_id; position; gain: FLOAT; outcome,
    impression, first: BOOLEAN; then the context columns.
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
            "category": _categories(items, contract).astype(np.int32),
        }
    )
    connection.register("item_codes", codes)
    impression, outcomes = impression_of(contract), outcomes_of(contract)
    gains = " ".join(
        f"WHEN {_literal(name)} THEN {contract.events[name].gain!r}"
        + (" * coalesce(value, 0)" if contract.events[name].per_value else "")
        for name in outcomes
    )
    won = ", ".join(_literal(name) for name in outcomes)
    context = "".join(
        f", e.{_quoted(name)}" for name, attribute in contract.attributes.events.items() if attribute.role == "context"
    )
    connection.execute(
        f"""
        CREATE TABLE ev AS
        WITH coded AS (
            SELECT u.user, i.item, i.category, e.event, epoch_us(e.ts) AS ts, e.request_id, e.position,
                epoch_us(e.ts) // {bucket_us} + 1 AS own, epoch_us(e.ingested_at) // {bucket_us} + 1 AS enter,
                (CASE e.event {gains} ELSE 0 END)::FLOAT AS gain, e.event = {_literal(impression)} AS impression{context}
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
        "SELECT user, item, ts, enter, gain, event FROM ev WHERE outcome ORDER BY enter, ts, user, item, event"
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


def code(connection: duckdb.DuckDBPyConnection, snapshot: Path, contract: DatasetContract, *, bucket_us: int) -> Coded:
    """Users, items and context values, coded."""
    users = pq.read_table(snapshot / "users.parquet")
    items = pq.read_table(snapshot / "items.parquet")
    first = _first_buckets(connection, items, contract, bucket_us)
    categories = _categories(items, contract)
    price = contract.item.price
    entities = Entities(
        user_attributes=_attributes(users, contract, "users"),
        item_attributes=_attributes(items, contract, "items"),
        item_category=categories.astype(np.int32),
        item_price=(
            _numpy(pc.fill_null(items[price], float("nan")), np.float64) if price else np.full(items.num_rows, np.nan)
        ),
        item_first_bucket=first,
        categories=int(categories.max(initial=-1)) + 1,
    )
    context = {
        name: tuple(
            row[0]
            for row in connection.sql(
                f"SELECT DISTINCT {_quoted(name)} FROM ev WHERE {_quoted(name)} IS NOT NULL ORDER BY 1"
            ).fetchall()
        )
        for name, attribute in contract.attributes.events.items()
        if attribute.role == "context"
    }
    return Coded(
        users=users.add_column(0, "user", pa.array(np.arange(users.num_rows, dtype=np.int32))),
        items=items.add_column(0, "item", pa.array(np.arange(items.num_rows, dtype=np.int32))).append_column(
            "first_bucket", pa.array(first)
        ),
        entities=entities,
        context=context,
    )


def _attributes(table: pa.Table, contract: DatasetContract, owner: str) -> dict[str, NDArray[np.float32]]:
    found = {}
    for name, attribute in getattr(contract.attributes, owner).items():
        if attribute.role == "feature":
            if attribute.type == "number":
                found[name] = _numpy(pc.fill_null(table[name], float("nan")), np.float32)
            else:
                found[name] = _codes(table[name]).astype(np.float32)
    return found


def _categories(items: pa.Table, contract: DatasetContract) -> NDArray[np.int64]:
    name = contract.item.category
    return _codes(items[name]) if name else np.full(items.num_rows, -1, dtype=np.int64)


def _codes(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Place of each value among the distinct ones in ascending order; -1 for null."""
    values = pc.unique(column.drop_null()).sort()
    return _numpy(pc.fill_null(pc.index_in(column, values), -1), np.int64)


def _first_buckets(
    connection: duckdb.DuckDBPyConnection, items: pa.Table, contract: DatasetContract, bucket_us: int
) -> NDArray[np.int64]:
    """First bucket in which each item may be shown: when it became available, else when first seen, else from the start."""
    seen = connection.sql("SELECT item, min(own) - 1 AS first FROM ev GROUP BY item").fetchnumpy()
    start = int(connection.sql("SELECT min(own) - 1 FROM ev").fetchall()[0][0])
    first = np.full(items.num_rows, start, dtype=np.int64)
    first[np.asarray(seen["item"], np.int64)] = np.asarray(seen["first"], np.int64)
    column = contract.item.available_from
    if column:
        declared = items[column].cast(pa.int64())
        known = pc.is_valid(declared).to_numpy()
        buckets = pc.fill_null(declared, 0).to_numpy() // bucket_us
        # Whatever the table says, an item that was seen was there.
        first = np.where(
            known, np.minimum(buckets, np.where(np.isin(np.arange(len(first)), seen["item"]), first, buckets)), first
        )
    return first


def _numpy(column: Any, kind: type[np.generic]) -> NDArray[Any]:
    held: NDArray[Any] = column.to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else column.to_numpy()
    return held.astype(kind)


def _path(path: Path) -> str:
    return str(path).replace("'", "''")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
