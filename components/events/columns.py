"""How the team's columns become ours: which type each may have, and the SQL that reads it.

Every expression gives null for what it cannot read; the cleaning step tells null that was given from null that was made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import duckdb

from components.errors import Fault, nearest
from components.events.contract import DatasetContract

Kind = Literal["id", "time", "text", "whole", "number"]

# What every view of source files has beside the team's own columns: the file's name, and the row's 0-based number in it.
SOURCE, ROW = "_rankgate_source", "_rankgate_row"

_WHOLE = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
    "UHUGEINT",
)
_FLOAT = ("FLOAT", "DOUBLE")
_TIME = (
    "TIMESTAMP",
    "TIMESTAMP_S",
    "TIMESTAMP_MS",
    "TIMESTAMP_NS",
    "TIMESTAMP WITH TIME ZONE",
    "TIMESTAMPTZ_NS",
    "DATE",
)
# An all-null column of a Parquet file reads as INTEGER; it carries nothing, so any kind may have it.
_FITS: dict[Kind, tuple[str, ...]] = {
    "id": (*_WHOLE, "VARCHAR", "UUID"),
    "time": (*_TIME, *_WHOLE, "VARCHAR"),
    "text": ("VARCHAR", "BOOLEAN", "ENUM", "UUID", *_WHOLE, *_FLOAT, *_TIME, "DECIMAL"),
    "whole": (*_WHOLE, *_FLOAT, "DECIMAL", "VARCHAR"),
    "number": (*_WHOLE, *_FLOAT, "DECIMAL", "VARCHAR"),
}
_NEEDED: dict[Kind, str] = {
    "id": "text or whole numbers",
    "time": "timestamps, ISO 8601 text, or whole seconds, milli-, micro- or nanoseconds since 1970",
    "text": "text, numbers, truth values or times",
    "whole": "whole numbers",
    "number": "numbers",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One of our columns: its name, the team's, its kind, and whether a table may lack it."""

    name: str
    source: str
    kind: Kind
    required: bool


def event_columns(contract: DatasetContract) -> list[Column]:
    """Columns of the events table, rankgate's own first, then the context in the contract's order."""
    mapping = contract.tables.events.columns
    logged = contract.requests.mode == "logged"
    counted = any(kind.per_value for kind in contract.events.values())
    own: Sequence[tuple[str, Kind, bool]] = (
        ("user_id", "id", True),
        ("item_id", "id", True),
        ("ts", "time", True),
        ("event", "text", True),
        ("request_id", "id", logged),
        ("position", "whole", "position" in mapping),
        ("value", "number", counted or "value" in mapping),
        ("ingested_at", "time", "ingested_at" in mapping),
        ("reject_reason", "text", "reject_reason" in mapping),
    )
    columns = [Column(name, mapping.get(name, name), kind, required) for name, kind, required in own]
    columns += [Column(name, mapping.get(name, name), "text", True) for name in context_of(contract)]
    if contract.consent and contract.consent.table == "events":
        columns.append(Column("_consent", contract.consent.column, "text", True))
    return columns


def context_of(contract: DatasetContract) -> list[str]:
    """Names of the context columns, in the contract's order."""
    return [name for name, attribute in contract.attributes.events.items() if attribute.role == "context"]


def entity_columns(contract: DatasetContract, table: Literal["users", "items"]) -> list[Column]:
    """The id of a users or items table, then its attributes in the contract's order, then what else is read from it."""
    source = getattr(contract.tables, table)
    mapping: Mapping[str, str] = source.columns if source else {}
    key = "user_id" if table == "users" else "item_id"
    columns = [Column(key, mapping.get(key, key), "id", True)]
    for name, attribute in getattr(contract.attributes, table).items():
        if attribute.role != "ignore":
            kind: Kind = "number" if attribute.type == "number" else "text"
            columns.append(Column(name, mapping.get(name, name), kind, True))
    start = contract.item.available_from
    if table == "items" and start and start not in {column.name for column in columns}:
        columns.append(Column(start, mapping.get(start, start), "time", True))
    if table == "users" and contract.consent and contract.consent.table == "users":
        columns.append(Column("_consent", contract.consent.column, "text", True))
    return columns


def types_of(connection: duckdb.DuckDBPyConnection, view: str) -> dict[str, str]:
    """DuckDB type of each column of a view."""
    return {row[0]: row[1] for row in connection.execute(f"DESCRIBE {view}").fetchall()}


def column_faults(table: str, columns: Sequence[Column], types: Mapping[str, str]) -> Iterator[Fault]:
    """What a table lacks, and which of its columns have a type that cannot be read as they should."""
    have = [name for name in types if name not in (SOURCE, ROW)]
    for column in columns:
        where = f"{table}.{column.source}"
        if column.source not in types:
            if column.required:
                yield Fault(where, "no such column", f"a column for {column.name}", nearest(column.source, have))
            continue
        found = types[column.source]
        base = found.partition("(")[0]
        if base not in _FITS[column.kind]:
            yield Fault(where, f"type {found}", _NEEDED[column.kind], "Write the column as that, or map another one.")


def read_as(column: Column, types: Mapping[str, str]) -> str:
    """SQL that reads a column as its kind: VARCHAR, TIMESTAMPTZ, INTEGER or DOUBLE; null where it cannot."""
    if column.source not in types:
        return {"time": "NULL::TIMESTAMPTZ", "whole": "NULL::INTEGER", "number": "NULL::DOUBLE"}.get(
            column.kind, "NULL::VARCHAR"
        )
    name, found = quoted(column.source), types[column.source].partition("(")[0]
    text = found == "VARCHAR"
    match column.kind:
        case "id":
            # Ids are taken as they are, blanks and all: the service will be asked with them.
            return f"CASE WHEN trim({name}) <> '' THEN {name} END" if text else f"{name}::VARCHAR"
        case "text":
            return f"nullif({name}, '')" if text else f"{name}::VARCHAR"
        case "whole":
            # 2.5 is no position; a cast would round it.
            number = f"TRY_CAST({name} AS DOUBLE)"
            return f"CASE WHEN {number} = floor({number}) AND abs({number}) < 2147483648 THEN {number}::INTEGER END"
        case "number":
            # -0.0 equals 0.0 yet has other bytes; adding 0 leaves one of them.
            return f"TRY_CAST({name} AS DOUBLE) + 0.0::DOUBLE"
        case "time":
            return _time(name, found)


def _time(name: str, found: str) -> str:
    if found in _WHOLE:
        return _epoch(f"TRY_CAST({name} AS BIGINT)")
    if found == "VARCHAR":
        # Without an offset a time is UTC: the session's zone is. A whole number of 9 to 19 digits counts from 1970.
        return (
            f"CASE WHEN regexp_full_match(trim({name}), '[0-9]{{9,19}}') THEN {_epoch(f'TRY_CAST({name} AS BIGINT)')} "
            f"ELSE TRY_CAST(trim({name}) AS TIMESTAMPTZ) END"
        )
    return f"{name}::TIMESTAMPTZ"


def _epoch(whole: str) -> str:
    """Time of a whole number since 1970, its unit told by its size.

    Below 10^11 seconds (until the year 5138), below 10^14 milliseconds, below 10^17 microseconds (both from 1973 on), else
    nanoseconds.
    """
    return (
        f"CASE WHEN {whole} < 0 THEN NULL "
        f"WHEN {whole} < 100000000000 THEN make_timestamptz({whole} * 1000000) "
        f"WHEN {whole} < 100000000000000 THEN make_timestamptz({whole} * 1000) "
        f"WHEN {whole} < 100000000000000000 THEN make_timestamptz({whole}) "
        f"ELSE make_timestamptz({whole} // 1000) END"
    )


def quoted(name: str) -> str:
    """A column name as SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as SQL literal."""
    return "'" + text.replace("'", "''") + "'"
