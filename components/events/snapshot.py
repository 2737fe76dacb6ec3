"""Takes a snapshot: the team's tables, validated under their contract and kept in one canonical order.

    sources.py     files, local or s3://, as one view a table
    columns.py     the team's columns as ours, and what is wrong with a table
    cleaning.py    each row kept, excluded or rejected with its reason
    usable.py      whether what is left can carry a ranking
    writing.py     canonical rows as Parquet, and their digest (canonical.py)

DuckDB reads, checks and sorts, out of core; PyArrow writes. What is wrong with a row sends it to quarantine with its reason;
what is wrong with a table stops the run with every fault in one error.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import duckdb
import pyarrow.parquet as pq

from components.artifacts import documents
from components.artifacts.digests import digest_file, digest_json
from components.artifacts.progress import Progress, silent
from components.errors import Fault, FaultyInputError, InputError
from components.events.cleaning import KEPT, count, stage_entities, stage_events
from components.events.columns import column_faults, entity_columns, event_columns, literal, types_of
from components.events.contract import SCHEMA_VERSION, DatasetContract, Snapshot, TableCount
from components.events.sources import (
    SourceFile,
    create_view,
    fetch,
    find_unreadable,
    is_csv,
    locate,
    source_digests,
    tables_of,
)
from components.events.usable import check_tolerance, check_usable
from components.events.writing import write_tables

__all__ = ["source_digests", "take_snapshot"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INTEGER = "-?(0|[1-9][0-9]*)"

Files = Mapping[str, Sequence[SourceFile]]


def take_snapshot(
    contract: DatasetContract, *, base: Path, as_of: datetime, out: Path, progress: Progress = silent
) -> Snapshot:
    """Validate the tables of a contract and write them into `out` as `contract.py` describes.

    Args:
        contract: What the tables should be.
        base: Folder that relative paths start from.
        as_of: Moment the log is judged from, with its zone: later events are faulty, and retention counts back from it.
        out: Empty folder.
        progress: Told what is being done.

    Raises:
        FaultyInputError: If a table lacks a column or has one of the wrong type, is empty, or more of its rows are faulty
            than the contract tolerates; names every fault.
        InputError: If a file cannot be read, or what is left could not train a ranking.
    """
    if as_of.tzinfo is None:
        raise InputError(f"as_of: found {as_of.isoformat()} without a zone; needed one, such as 2026-05-10T00:00:00Z.")
    with tempfile.TemporaryDirectory(prefix="rankgate-events-") as folder:
        scratch = Path(folder)
        connection = _connect(scratch)
        try:
            files = _fetch(contract, base, scratch, progress)
            _open(connection, contract, files)
            with _naming_unreadable_files(connection, contract, files):
                progress("checking rows")
                counts = _stage(connection, contract, as_of)
                check_tolerance(contract, counts)
                unjoined = check_usable(connection, contract)
                progress(f"sorting and writing {counts[0].kept:,} events")
                digests = write_tables(connection, contract, out)
            snapshot = _manifest(
                connection, contract, as_of, files=files, counts=counts, unjoined=unjoined, digests=digests, out=out
            )
        finally:
            connection.close()
    documents.save(_without_places(contract, files), out / "contract.json")
    documents.save(snapshot, out / "snapshot.json")
    return snapshot


def _connect(scratch: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(str(scratch / "events.duckdb"))
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET default_null_order = 'nulls_last'")
    connection.execute(f"SET temp_directory = {literal(str(scratch / 'spill'))}")
    return connection


def _fetch(contract: DatasetContract, base: Path, scratch: Path, progress: Progress) -> dict[str, list[SourceFile]]:
    files = {}
    for name, source in tables_of(contract):
        progress(f"reading {name}")
        (scratch / name).mkdir()
        files[name] = fetch(locate(source, base=base), scratch=scratch / name)
    return files


def _open(connection: duckdb.DuckDBPyConnection, contract: DatasetContract, files: Files) -> None:
    """Make a view of each table, and check its columns and that it has rows."""
    faults: list[Fault] = []
    for name, source in tables_of(contract):
        create_view(connection, f"source_{name}", source, files[name])
        columns = event_columns(contract) if name == "events" else entity_columns(contract, name)  # type: ignore[arg-type]
        faults += column_faults(name, columns, types_of(connection, f"source_{name}"))
        if not connection.execute(f"SELECT 1 FROM source_{name} LIMIT 1").fetchall():
            faults.append(Fault(name, "no rows", "at least one", "Check the paths and what wrote the files."))
    if faults:
        raise FaultyInputError(f"tables of {contract.name}", faults)


@contextmanager
def _naming_unreadable_files(
    connection: duckdb.DuckDBPyConnection, contract: DatasetContract, files: Files
) -> Iterator[None]:
    """A file whose damage lies beyond its first rows is only met while all are read; say which one it is."""
    try:
        yield
    except duckdb.Error:
        for name, source in tables_of(contract):
            find_unreadable(connection, f"source_{name}", source, files[name])
        raise


def _stage(connection: duckdb.DuckDBPyConnection, contract: DatasetContract, as_of: datetime) -> tuple[TableCount, ...]:
    if contract.tables.users:
        stage_entities(connection, contract, "users")
    if contract.tables.items:
        stage_entities(connection, contract, "items")
    stage_events(connection, contract, as_of)
    return tuple(count(connection, name) for name, _ in tables_of(contract))


def _manifest(
    connection: duckdb.DuckDBPyConnection,
    contract: DatasetContract,
    as_of: datetime,
    *,
    files: Files,
    counts: tuple[TableCount, ...],
    unjoined: dict[str, int],
    digests: dict[str, str],
    out: Path,
) -> Snapshot:
    kinds = connection.execute(
        f"SELECT event, count(*) FROM staged_events WHERE {KEPT} GROUP BY event ORDER BY event"
    ).fetchall()
    first, last = connection.execute(
        f"SELECT epoch_us(min(ts)), epoch_us(max(ts)) FROM staged_events WHERE {KEPT}"
    ).fetchall()[0]
    return Snapshot(
        schema_version=SCHEMA_VERSION,
        digest=digest_json({**digests, "contract": _meaning(contract)}),
        name=contract.name,
        as_of=as_of.astimezone(UTC).isoformat(),
        first_ts=_iso(first),
        last_ts=_iso(last),
        users=pq.read_metadata(out / "users.parquet").num_rows,
        items=pq.read_metadata(out / "items.parquet").num_rows,
        event_counts=dict(kinds),
        tables=counts,
        id_types={key: _id_type(connection, contract, files, key) for key in ("user_id", "item_id")},
        sources={f"{table}: {file.name}": _digest(file) for table, held in files.items() for file in held},
        unjoined=unjoined,
    )


def _digest(file: SourceFile) -> str:
    if file.path is None:
        raise ValueError(f"{file.name} was not fetched")
    return digest_file(file.path)


def _iso(microseconds: int) -> str:
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat()


def _meaning(contract: DatasetContract) -> dict[str, Any]:
    """The contract without where its tables lie, what their columns are called there, and who owns it."""
    value: dict[str, Any] = documents.as_json(contract)
    for key in ("tables", "owner", "description"):
        del value[key]
    return value


def _without_places(contract: DatasetContract, files: Files) -> DatasetContract:
    """The contract with the names of the files that were read instead of where they lie on this machine."""
    tables = {
        name: source.model_copy(update={"path": tuple(file.name for file in files[name])})
        for name, source in tables_of(contract)
    }
    return contract.model_copy(update={"tables": contract.tables.model_copy(update=tables)})


def _id_type(
    connection: duckdb.DuckDBPyConnection, contract: DatasetContract, files: Files, key: str
) -> Literal["string", "integer"]:
    """What ids were in the events table: by its type, and in CSV by whether every one is a plain whole number."""
    source = contract.tables.events
    held = types_of(connection, "source_events")[source.columns.get(key, key)]
    if held != "VARCHAR":
        return "string" if held == "UUID" else "integer"
    if not all(is_csv(source, file) for file in files["events"]):
        return "string"
    odd = connection.execute(
        f"SELECT 1 FROM staged_events WHERE {KEPT} AND NOT regexp_full_match({key}, '{_INTEGER}') LIMIT 1"
    ).fetchall()
    return "string" if odd else "integer"
