"""The files of a snapshot: staged rows in canonical order as Parquet, and the digest of each table on the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from components.events.canonical import blocks, digest_rows
from components.events.cleaning import KEPT, canonical_columns
from components.events.columns import ROW, SOURCE, context_of, entity_columns, literal, quoted, types_of
from components.events.contract import DatasetContract
from components.events.sources import tables_of
from components.events.usable import ENTITIES

_ROW_GROUP_ROWS = 262_144
_TIME = pa.timestamp("us", tz="UTC")
_EVENT_TYPES = {
    "ts": _TIME,
    "user_id": pa.string(),
    "item_id": pa.string(),
    "event": pa.string(),
    "request_id": pa.string(),
    "position": pa.int32(),
    "value": pa.float64(),
    "ingested_at": _TIME,
}
_QUARANTINE = pa.schema(
    [
        ("table", pa.string()),
        ("source", pa.string()),
        ("source_row", pa.int64()),
        ("reason", pa.string()),
        ("row", pa.string()),
    ]
)


def write_tables(connection: duckdb.DuckDBPyConnection, contract: DatasetContract, out: Path) -> dict[str, str]:
    """Write events, users, items and quarantine; returns the digest of the rows of the first three, by table."""
    order = canonical_columns(contract)
    columns = ", ".join(quoted(name) for name in order)
    context = [(name, pa.string()) for name in context_of(contract)]
    schema = pa.schema([*((name, _EVENT_TYPES[name]) for name in order if name in _EVENT_TYPES), *context])
    events = f"SELECT {columns} FROM staged_events WHERE {KEPT} ORDER BY {columns}"
    digests = {"events": _write_table(connection, events, schema, out / "events.parquet")}
    for table, key in ENTITIES:
        query, schema = _entity_query(contract, table, key)
        digests[table] = _write_table(connection, query, schema, out / f"{table}.parquet")
    _write_table(connection, _quarantine_query(connection, contract), _QUARANTINE, out / "quarantine.parquet")
    return digests


def _entity_query(contract: DatasetContract, table: Literal["users", "items"], key: str) -> tuple[str, pa.Schema]:
    """Everyone in the table, and everyone who only occurs in events with null attributes."""
    kinds = {"number": pa.float64(), "time": _TIME}
    columns = [column for column in entity_columns(contract, table) if column.name != "_consent"]
    schema = pa.schema([(column.name, kinds.get(column.kind, pa.string())) for column in columns])
    mentioned = f"SELECT DISTINCT {key} FROM staged_events WHERE {KEPT}"
    if not getattr(contract.tables, table):
        return f"{mentioned} ORDER BY {key}", schema
    names = ", ".join(quoted(column.name) for column in columns)
    attributes = "".join(f", NULL AS {quoted(column.name)}" for column in columns[1:])
    return (
        f"WITH own AS (SELECT {names} FROM staged_{table} WHERE {KEPT}), mentioned AS ({mentioned}) "
        f"SELECT * FROM own UNION ALL "
        f"SELECT {key}{attributes} FROM mentioned ANTI JOIN own USING ({key}) ORDER BY {key}",
        schema,
    )


def _quarantine_query(connection: duckdb.DuckDBPyConnection, contract: DatasetContract) -> str:
    """Every rejected row as it was given, with the reason; excluded rows leave no trace here.

    Values are told as text: JSON knows no NaN, and a row reads the same out of CSV and out of Parquet.
    """
    parts = []
    for table, _ in tables_of(contract):
        given = [name for name in types_of(connection, f"source_{table}") if name not in (SOURCE, ROW)]
        pairs = ", ".join(f"{literal(name)}, given.{quoted(name)}::VARCHAR" for name in given)
        parts.append(
            f"""
            SELECT {literal(table)} AS "table", {SOURCE} AS source, {ROW} AS source_row, reason,
                json_object({pairs})::VARCHAR AS "row"
            FROM (
                SELECT {SOURCE}, {ROW}, _rejected AS reason FROM staged_{table}
                WHERE _excluded IS NULL AND _rejected IS NOT NULL
            ) JOIN source_{table} given USING ({SOURCE}, {ROW})
            """
        )
    return f'SELECT * FROM ({" UNION ALL ".join(parts)}) ORDER BY "table", source, source_row'


def _write_table(connection: duckdb.DuckDBPyConnection, query: str, schema: pa.Schema, path: Path) -> str:
    """Write a query's rows as Parquet, the same bytes for the same rows; returns the digest of the rows."""
    reader = connection.sql(query).to_arrow_reader(_ROW_GROUP_ROWS)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:

        def passing() -> Iterator[pa.RecordBatch]:
            fitting = (_conform(batch, schema) for batch in reader)
            for group in blocks(fitting, schema, _ROW_GROUP_ROWS):
                writer.write_batch(group, row_group_size=_ROW_GROUP_ROWS)
                yield group

        return digest_rows(passing(), schema)


def _conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([batch.column(field.name).cast(field.type) for field in schema], schema=schema)
