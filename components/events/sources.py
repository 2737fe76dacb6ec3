"""Where a table's files are, and the files as one DuckDB view with a name and a number for every row.

Local files are read in place. `s3://` objects are copied to a scratch folder first (see object_storage.py). A CSV is read
with what its header line says, all as text; nothing about it is guessed from a sample of its rows.
"""

from __future__ import annotations

import csv
import glob
import gzip
import io
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from components.artifacts.digests import digest_file
from components.errors import InputError
from components.events.columns import ROW, SOURCE, literal
from components.events.contract import DatasetContract, TableSource
from components.events.meaning import format_of
from components.events.object_storage import SCHEME, copy_object, digest_object, find_objects

_DELIMITERS = ",;\t|"
_HEADER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a table.

    `name` says nothing of the machine it lies on: relative to the folder that the table's files share, or the s3://
    address. `path` is where its bytes can be read, None while it is still in object storage.
    """

    name: str
    path: Path | None


def tables_of(contract: DatasetContract) -> list[tuple[str, TableSource]]:
    """The tables that a contract names, events first."""
    named = (("events", contract.tables.events), ("users", contract.tables.users), ("items", contract.tables.items))
    return [(name, source) for name, source in named if source is not None]


def source_digests(contract: DatasetContract, *, base: Path) -> dict[str, str]:
    """Content identity of every source file, by `table: name`: sha256 of local files, of ETag and size for `s3://`.

    Raises:
        InputError: If a file is missing or cannot be read.
    """
    return {
        f"{table}: {file.name}": digest_object(file.name.removeprefix(SCHEME))
        if file.path is None
        else _digest_local(file.path, file.name)
        for table, source in tables_of(contract)
        for file in locate(source, base=base)
    }


def _digest_local(path: Path, name: str) -> str:
    try:
        return digest_file(path)
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror}); needed read access.") from error


def locate(source: TableSource, *, base: Path) -> list[SourceFile]:
    """The files of a table, each once, in the order of their names, whatever order they were named in.

    Raises:
        InputError: If a path or glob names nothing, or object storage cannot be read.
    """
    remote, local = set(), set()
    for place in source.path:
        if place.startswith(SCHEME):
            remote.update(find_objects(place))
        else:
            local.update(_local_files(place, base))
    files = [SourceFile(SCHEME + path, None) for path in remote]
    if local:
        shared = os.path.commonpath([path.parent for path in local])
        files += [SourceFile(path.relative_to(shared).as_posix(), path) for path in local]
    return sorted(files, key=lambda file: file.name)


def fetch(files: Sequence[SourceFile], *, scratch: Path) -> list[SourceFile]:
    """The same files, those in object storage copied below `scratch`.

    Raises:
        InputError: If an object cannot be read to its end.
    """
    fetched = []
    for number, file in enumerate(files):
        if file.path is None:
            # The suffix tells DuckDB of compression; a key may hold what a file name may not.
            place = scratch / f"{number}-{Path(file.name).name[-64:]}"
            copy_object(file.name.removeprefix(SCHEME), place)
            fetched.append(replace(file, path=place))
        else:
            fetched.append(file)
    return fetched


def create_view(
    connection: duckdb.DuckDBPyConnection, view: str, source: TableSource, files: Sequence[SourceFile]
) -> None:
    """Make `view`: the columns of all files, then SOURCE (file name) and ROW (0-based row in it).

    CSV columns are all text, so that ids keep leading zeros; columns that single files lack are null there.

    Raises:
        InputError: If a file cannot be read as what it should be, or the files do not fit together.
    """
    parts = []
    for index, file in enumerate(files):
        try:
            connection.execute(f"CREATE VIEW {view}_{index} AS {_reading(source, file)}")
            connection.execute(f"SELECT count(COLUMNS(*)) FROM (SELECT * FROM {view}_{index} LIMIT 1)").fetchall()
        except duckdb.Error as error:
            raise _unreadable(source, file, error) from error
        parts.append(f"SELECT * FROM {view}_{index}")
    try:
        connection.execute(f"CREATE VIEW {view} AS {' UNION ALL BY NAME '.join(parts)}")
        connection.execute(f"DESCRIBE {view}").fetchall()
    except duckdb.Error as error:
        raise InputError(
            f"{files[0].name} and {len(files) - 1} more files: cannot be read as one table ({_reason(error)}); "
            "needed columns of the same types in every file."
        ) from error


def find_unreadable(
    connection: duckdb.DuckDBPyConnection, view: str, source: TableSource, files: Sequence[SourceFile]
) -> None:
    """Read every file of a view to its end, after reading the whole has failed.

    Raises:
        InputError: For the first file that cannot be read.
    """
    for index, file in enumerate(files):
        try:
            # Counting would be answered from Parquet's own statistics; hashing reads every value.
            connection.execute(f"SELECT bit_xor(hash(COLUMNS(*))) FROM {view}_{index}").fetchall()
        except duckdb.Error as error:
            raise _unreadable(source, file, error) from error


def is_csv(source: TableSource, file: SourceFile) -> bool:
    """True where a file is read as CSV."""
    return (source.format or format_of(file.name)) == "csv"


def _reading(source: TableSource, file: SourceFile) -> str:
    path, name = literal(str(file.path)), literal(file.name)
    if not is_csv(source, file):
        return (
            f"SELECT * EXCLUDE (file_row_number), {name} AS {SOURCE}, file_row_number AS {ROW} "
            f"FROM read_parquet({path}, file_row_number = true)"
        )
    delimiter, header = _header(file)
    columns = ", ".join(f"{literal(column)}: 'VARCHAR'" for column in header)
    return (
        f"SELECT *, {name} AS {SOURCE}, row_number() OVER () - 1 AS {ROW} FROM read_csv({path}, auto_detect = false, "
        f"header = true, columns = {{{columns}}}, delim = {literal(delimiter)}, quote = '\"', escape = '\"', "
        "nullstr = '', strict_mode = true)"
    )


def _header(file: SourceFile) -> tuple[str, list[str]]:
    """The delimiter of a CSV (the one its header line has most of) and its column names."""
    if file.path is None:
        raise ValueError(f"{file.name} was not fetched")
    opened = gzip.open if file.path.suffix == ".gz" else open
    try:
        with opened(file.path, "rb") as stream:
            text = stream.read(_HEADER_BYTES).decode("utf-8-sig", errors="replace")
    except (OSError, EOFError) as error:
        raise InputError(f"{file.name}: cannot be read ({error}); needed CSV, or gzip of it as .csv.gz.") from error
    line = text.splitlines()[0] if text else ""
    delimiter = max(_DELIMITERS, key=line.count)
    # DuckDB takes names that differ only in case for one; an index column that pandas wrote has no name at all.
    names = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
    if not any(names):
        raise InputError(f"{file.name}: found no header line; needed CSV whose first line names its columns.")
    header = [name or f"unnamed_{index}" for index, name in enumerate(names)]
    repeated = sorted(name for name, times in Counter(map(str.lower, header)).items() if times > 1)
    if repeated:
        raise InputError(f"{file.name}: found the column {repeated[0]} more than once; needed each column once.")
    return delimiter, header


def _unreadable(source: TableSource, file: SourceFile, error: duckdb.Error) -> InputError:
    kind = "CSV in UTF-8 with a header line" if is_csv(source, file) else "Parquet"
    return InputError(
        f"{file.name}: cannot be read ({_reason(error, file.path)}); needed {kind}. "
        "Write the file again, or name its format in the contract."
    )


def _reason(error: duckdb.Error, path: Path | None = None) -> str:
    """What DuckDB says is wrong, without its advice on options of its own, the SQL, the row (personal) and the path."""
    told: list[str] = []
    for line in str(error).strip().splitlines():
        if line.startswith(("Possible", "LINE ")):
            break
        if line.strip() and not line.startswith("Original Line"):
            told.append(line.strip())
    text = ", ".join(told).rstrip(".")
    return text.replace(str(path), path.name) if path else text


def _local_files(place: str, base: Path) -> list[Path]:
    """Files that a path or glob names."""
    exact = base.absolute() / place
    # A name may hold brackets of its own.
    names = [place] if exact.is_file() else glob.glob(place, root_dir=base, recursive=True)  # noqa: PTH207
    # By its text: Python 3.11 gives "file/" for "file/**", which a Path would take for the file.
    files = [name for name in names if os.path.isfile(os.path.join(base, name))]  # noqa: PTH113, PTH118
    paths = [Path(os.path.normpath(base.absolute() / name)) for name in files]
    if not paths:
        raise InputError(
            f"{place}: found no file at {exact}; needed at least one. Paths are relative to the contract's folder; "
            "a folder is named by a pattern such as events/*.parquet."
        )
    return paths
