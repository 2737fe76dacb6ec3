"""Takes a snapshot: the team's tables, validated under their contract and kept in one canonical order.

DuckDB reads, checks and sorts, out of core; PyArrow writes. What is wrong with a row sends it to quarantine with its reason;
what is wrong with a table stops the run with every fault in one error.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from components.artifacts import documents
from components.artifacts.digests import digest_file, digest_json
from components.artifacts.progress import Progress, silent
from components.errors import Fault, FaultyInputError, InputError
from components.events.canonical import blocks, digest_rows
from components.events.cleaning import canonical_columns, count, stage_entities, stage_events
from components.events.columns import (
    column_faults,
    context_of,
    entity_columns,
    event_columns,
    literal,
    quoted,
    types_of,
)
from components.events.contract import SCHEMA_VERSION, DatasetContract, Snapshot, TableCount
from components.events.sources import create_view, fetch, source_digests, tables_of

__all__ = ["source_digests", "take_snapshot"]

_ENTITIES: tuple[Literal["users", "items"], ...] = ("users", "items")
_ROW_GROUP_ROWS = 1_048_576
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


def take_snapshot(
    contract: DatasetContract, *, base: Path, as_of: datetime, out: Path, progress: Progress = silent
) -> Snapshot:
    """Validate the tables of a contract and write them into `out` as `contract.py` describes.

    Args:
        contract: What the tables should be.
        base: Folder that relative paths start from.
        as_of: Moment the log is judged from: later events are faulty, and retention counts back from it.
        out: Empty folder.
        progress: Told what is being done.

    Raises:
        FaultyInputError: If a table lacks a column or has one of the wrong type, is empty, or more of its rows are faulty
            than the contract tolerates; names every fault.
        InputError: If a file cannot be read, or what is left could not train a ranking.
    """
    with tempfile.TemporaryDirectory(prefix="rankgate-events-") as folder:
        scratch = Path(folder)
        connection = _connect(scratch)
        try:
            sources = _open(connection, contract, base, scratch, progress)
            progress("checking rows")
            if contract.tables.users:
                stage_entities(connection, contract, "users")
            if contract.tables.items:
                stage_entities(connection, contract, "items")
            stage_events(connection, contract, as_of)
            counts = tuple(count(connection, name) for name, _ in tables_of(contract))
            _check_tolerance(contract, counts)
            _check_usable(connection, contract)
            progress("sorting and writing")
            return _write(connection, contract, as_of, counts, sources=sources, out=out)
        finally:
            connection.close()


def _connect(scratch: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(str(scratch / "events.duckdb"))
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"SET temp_directory = {literal(str(scratch / 'spill'))}")
    return connection


def _open(
    connection: duckdb.DuckDBPyConnection, contract: DatasetContract, base: Path, scratch: Path, progress: Progress
) -> dict[str, str]:
    """Make a view of each table and check its columns; returns the sha256 of each file that was read."""
    faults: list[Fault] = []
    sources: dict[str, str] = {}
    for name, source in tables_of(contract):
        progress(f"reading {name}")
        files = fetch(source, base=base, scratch=scratch / name)
        sources |= {f"{name}: {file.name}": digest_file(file.path) for file in files}
        view = f"source_{name}"
        create_view(connection, view, source, files)
        types = types_of(connection, view)
        columns = event_columns(contract) if name == "events" else entity_columns(contract, name)  # type: ignore[arg-type]
        faults += column_faults(name, columns, types)
        if not _scalar(connection, f"SELECT count(*) FROM (SELECT * FROM {view} LIMIT 1)"):
            faults.append(Fault(name, "no rows", "at least one", "Check the paths and what wrote the files."))
    if faults:
        raise FaultyInputError(f"tables of {contract.name}", faults)
    return sources


def _scalar(connection: duckdb.DuckDBPyConnection, query: str) -> Any:
    return connection.execute(query).fetchall()[0][0]


def _check_tolerance(contract: DatasetContract, counts: tuple[TableCount, ...]) -> None:
    bound = contract.tolerance.rejected_share
    faults = []
    for table in counts:
        rejected = sum(table.rejected.values())
        if table.read and rejected / table.read > bound:
            most = sorted(table.rejected.items(), key=lambda item: (-item[1], item[0]))
            reasons = ", ".join(f"{reason}: {number:,}" for reason, number in most)
            faults.append(
                Fault(
                    table.table,
                    f"{rejected:,} of {table.read:,} rows faulty, {rejected / table.read:.1%} ({reasons})",
                    f"at most {bound:.1%}",
                    "Mend what writes the table, or raise tolerance.rejected_share if this is known and harmless.",
                )
            )
    if faults:
        raise FaultyInputError(f"tables of {contract.name}", faults)


def _check_usable(connection: duckdb.DuckDBPyConnection, contract: DatasetContract) -> None:
    """Refuse tables that no ranking could be learnt from, whatever the tolerance."""
    kept = "_excluded IS NULL AND _rejected IS NULL"
    users = _scalar(connection, f"SELECT count(DISTINCT user_id) FROM staged_events WHERE {kept}")
    # An item that nobody took yet can be ranked all the same.
    known_items = f"SELECT item_id FROM staged_events WHERE {kept}"
    if contract.tables.items:
        known_items += f" UNION SELECT item_id FROM staged_items WHERE {kept}"
    items = _scalar(connection, f"SELECT count(DISTINCT item_id) FROM ({known_items})")
    gains = [literal(name) for name, kind in contract.events.items() if kind.role == "outcome" and kind.gain > 0]
    outcomes = _scalar(connection, f"SELECT count(*) FROM staged_events WHERE {kept} AND event IN ({', '.join(gains)})")
    impressions = [literal(name) for name, kind in contract.events.items() if kind.role == "impression"]
    subject = f"tables of {contract.name}"
    if not users:
        raise InputError(f"{subject}: found no event left after consent, retention and checks; needed some.")
    if not outcomes:
        raise InputError(
            f"{subject}: found no outcome among the kept events, so every label would be 0; needed both kinds. "
            f"Check that the log holds {', '.join(sorted(gains))}."
        )
    if impressions:
        shown = _scalar(
            connection, f"SELECT count(*) FROM staged_events WHERE {kept} AND event IN ({', '.join(impressions)})"
        )
        if contract.requests.mode == "logged" and not shown:
            raise InputError(
                f"{subject}: found no impression among the kept events, so there is nothing to rank; needed them. "
                "Log impressions, or use requests.mode: sampled."
            )
    if users == 1:
        raise InputError(f"{subject}: found one user; needed at least two. Nothing can be said of others from one.")
    if items == 1:
        raise InputError(f"{subject}: found one item; needed at least two. One item has only one order.")
    for table in _ENTITIES:
        if getattr(contract.tables, table):
            _check_join(connection, contract, table)


def _check_join(
    connection: duckdb.DuckDBPyConnection, contract: DatasetContract, table: Literal["users", "items"]
) -> None:
    key = "user_id" if table == "users" else "item_id"
    joined, mine, theirs = connection.execute(
        f"""
        SELECT (SELECT count(*) FROM (
                    SELECT DISTINCT {key} FROM staged_events WHERE _excluded IS NULL AND _rejected IS NULL
                    INTERSECT SELECT {key} FROM staged_{table} WHERE _excluded IS NULL AND _rejected IS NULL)),
            (SELECT min({key}) FROM staged_events WHERE _excluded IS NULL AND _rejected IS NULL),
            (SELECT min({key}) FROM staged_{table} WHERE _excluded IS NULL AND _rejected IS NULL)
        """
    ).fetchall()[0]
    if not joined:
        raise InputError(
            f"{table} of {contract.name}: found not one {key} of the events in the {table} table "
            f"(events have {mine!r}, {table} have {theirs!r}); needed the same ids in both. "
            f"Check tables.{table}.columns.{key}."
        )


def _write(
    connection: duckdb.DuckDBPyConnection,
    contract: DatasetContract,
    as_of: datetime,
    counts: tuple[TableCount, ...],
    *,
    sources: dict[str, str],
    out: Path,
) -> Snapshot:
    kept = "_excluded IS NULL AND _rejected IS NULL"
    context = context_of(contract)
    columns = ", ".join(quoted(name) for name in canonical_columns(contract))
    schema = pa.schema([*_EVENT_TYPES.items(), *((name, pa.string()) for name in context)])
    digests = {
        "events": _write_table(
            connection,
            f"SELECT {columns} FROM staged_events WHERE {kept} ORDER BY {columns}",
            schema,
            out / "events.parquet",
        )
    }
    rows = {}
    for table in _ENTITIES:
        query, table_schema = _entity_query(contract, table)
        digests[table] = _write_table(connection, query, table_schema, out / f"{table}.parquet")
        rows[table] = pq.read_metadata(out / f"{table}.parquet").num_rows
    _write_table(connection, _quarantine_query(contract), _QUARANTINE, out / "quarantine.parquet")
    documents.save(contract, out / "contract.json")
    kinds = connection.execute(
        f"SELECT event, count(*) FROM staged_events WHERE {kept} GROUP BY event ORDER BY event"
    ).fetchall()
    first, last = connection.execute(
        f"SELECT epoch_us(min(ts)), epoch_us(max(ts)) FROM staged_events WHERE {kept}"
    ).fetchall()[0]
    snapshot = Snapshot(
        schema_version=SCHEMA_VERSION,
        digest=digest_json({**digests, "contract": _meaning(contract)}),
        name=contract.name,
        as_of=as_of.astimezone(UTC).isoformat(),
        first_ts=_iso(first),
        last_ts=_iso(last),
        users=rows["users"],
        items=rows["items"],
        event_counts=dict(kinds),
        tables=counts,
        id_types={key: _id_type(connection, contract, key) for key in ("user_id", "item_id")},
        sources=sources,
    )
    documents.save(snapshot, out / "snapshot.json")
    return snapshot


def _iso(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat()


def _meaning(contract: DatasetContract) -> dict[str, Any]:
    """The contract without where its tables lie, what their columns are called there, and who owns it."""
    value: dict[str, Any] = documents.as_json(contract)
    for key in ("tables", "owner", "description"):
        del value[key]
    return value


def _entity_query(contract: DatasetContract, table: Literal["users", "items"]) -> tuple[str, pa.Schema]:
    """Everyone in the table, and everyone who only occurs in events with null attributes."""
    key = "user_id" if table == "users" else "item_id"
    kinds = {"number": pa.float64(), "time": _TIME}
    columns = [column for column in entity_columns(contract, table) if column.name != "_consent"]
    schema = pa.schema([(column.name, kinds.get(column.kind, pa.string())) for column in columns])
    mentioned = f"SELECT DISTINCT {key} FROM staged_events WHERE _excluded IS NULL AND _rejected IS NULL"
    if not getattr(contract.tables, table):
        return f"{mentioned} ORDER BY {key}", schema
    names = ", ".join(quoted(column.name) for column in columns)
    attributes = "".join(f", NULL AS {quoted(column.name)}" for column in columns[1:])
    own = f"SELECT {names} FROM staged_{table} WHERE _excluded IS NULL AND _rejected IS NULL"
    return (
        f"WITH own AS ({own}), mentioned AS ({mentioned}) SELECT * FROM own UNION ALL "
        f"SELECT {key}{attributes} FROM mentioned WHERE {key} NOT IN (SELECT {key} FROM own) ORDER BY {key}",
        schema,
    )


def _quarantine_query(contract: DatasetContract) -> str:
    """Every rejected row as it was given, with the reason; excluded rows leave no trace here."""
    parts = []
    for name, _ in tables_of(contract):
        parts.append(
            f"""
            SELECT '{name}' AS "table", staged._source AS source, staged._row AS source_row, staged._rejected AS reason,
                CAST(to_json(raw) AS VARCHAR) AS "row"
            FROM (SELECT _source, _row, _rejected FROM staged_{name} WHERE _excluded IS NULL AND _rejected IS NOT NULL) staged
            JOIN (SELECT * FROM source_{name}) raw ON raw._source = staged._source AND raw._row = staged._row
            """
        )
    return f'SELECT * FROM ({" UNION ALL ".join(parts)}) ORDER BY "table", source, source_row'


def _write_table(connection: duckdb.DuckDBPyConnection, query: str, schema: pa.Schema, path: Path) -> str:
    """Write a query's rows as Parquet, the same bytes for the same rows; returns the digest of the rows."""
    reader = connection.sql(query).to_arrow_reader(_ROW_GROUP_ROWS)

    with pq.ParquetWriter(path, schema, compression="zstd") as writer:

        def passing() -> Iterator[pa.RecordBatch]:
            cast = (_conform(batch, schema) for batch in reader)
            for group in blocks(cast, schema, _ROW_GROUP_ROWS):
                writer.write_batch(group, row_group_size=_ROW_GROUP_ROWS)
                yield group

        return digest_rows(passing(), schema)


def _conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([batch.column(field.name).cast(field.type) for field in schema], schema=schema)


def _id_type(
    connection: duckdb.DuckDBPyConnection, contract: DatasetContract, key: str
) -> Literal["string", "integer"]:
    """What ids were in the events table: by its type, and in CSV by whether every one is a plain whole number."""
    source = contract.tables.events.columns.get(key, key)
    types = types_of(connection, "source_events")
    if types[source] != "VARCHAR":
        return "integer" if types[source] != "UUID" else "string"
    csv = (contract.tables.events.format or Path(contract.tables.events.path[0]).suffix.removeprefix(".")) == "csv"
    if not csv:
        return "string"
    odd = _scalar(
        connection,
        f"SELECT count(*) FROM staged_events WHERE _excluded IS NULL AND _rejected IS NULL "
        f"AND NOT regexp_full_match({key}, '-?(0|[1-9][0-9]*)')",
    )
    return "string" if odd else "integer"
