"""Where a table's files are, and the files as one DuckDB view with a name and a number for every row.

Local files are read in place. `s3://` files are copied to a scratch folder first, through PyArrow's S3 client: DuckDB's
own needs an extension that is downloaded at run time. Endpoint and credentials come from the usual AWS_* variables.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb

from components.artifacts.digests import digest_file, digest_json
from components.errors import InputError
from components.events.contract import DatasetContract, TableSource

_COPY_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a table: its name as a person knows it, and where its bytes can be read."""

    name: str
    path: Path


def source_digests(contract: DatasetContract, *, base: Path) -> dict[str, str]:
    """Content identity of every source file: sha256 of local files, of ETag and size for `s3://`.

    Raises:
        InputError: If a file is missing or cannot be reached.
    """
    found = {}
    for _, source in tables_of(contract):
        for place in source.path:
            if place.startswith("s3://"):
                system, paths = _s3_files(place)
                for path in paths:
                    info = system.get_file_info(path)
                    etag = _etag(system, path)
                    found[f"s3://{path}"] = digest_json({"etag": etag, "size": info.size, "mtime": str(info.mtime)})
            else:
                for file in _local_files(place, base):
                    found[str(file)] = digest_file(file)
    return found


def tables_of(contract: DatasetContract) -> list[tuple[str, TableSource]]:
    """The tables that a contract names, events first."""
    named = (("events", contract.tables.events), ("users", contract.tables.users), ("items", contract.tables.items))
    return [(name, source) for name, source in named if source is not None]


def fetch(source: TableSource, *, base: Path, scratch: Path) -> list[SourceFile]:
    """The files of a table, each readable locally, in one order whatever order they were named in.

    Raises:
        InputError: If a file is missing or cannot be reached.
    """
    files, local = [], set()
    for place in source.path:
        if place.startswith("s3://"):
            system, paths = _s3_files(place)
            files += [SourceFile(f"s3://{path}", _copy(system, path, scratch)) for path in paths]
        else:
            local.update(_local_files(place, base))
    if local:
        # Named below the folder they share, so that a snapshot says nothing of the machine it was taken on.
        shared = os.path.commonpath([path.parent for path in local])
        files += [SourceFile(path.relative_to(shared).as_posix(), path) for path in local]
    return sorted({file.name: file for file in files}.values(), key=lambda file: file.name)


def create_view(
    connection: duckdb.DuckDBPyConnection, view: str, source: TableSource, files: Sequence[SourceFile]
) -> None:
    """Make `view`: the columns of all files, then `_source` (file name) and `_row` (0-based row in it).

    CSV columns are all text, so that ids keep leading zeros; missing columns of single files are null.

    Raises:
        InputError: If a file cannot be read as what it should be.
    """
    parts = []
    for index, file in enumerate(files):
        path = str(file.path).replace("'", "''")
        name = file.name.replace("'", "''")
        if _format(source, file) == "parquet":
            read = (
                f"SELECT * EXCLUDE (file_row_number), '{name}' AS _source, file_row_number AS _row "
                f"FROM read_parquet('{path}', file_row_number = true)"
            )
        else:
            read = (
                f"SELECT *, '{name}' AS _source, row_number() OVER () - 1 AS _row "
                f"FROM read_csv('{path}', header = true, all_varchar = true, nullstr = '', strict_mode = true)"
            )
        try:
            connection.execute(f"CREATE VIEW {view}_{index} AS {read}")
            connection.execute(f"SELECT count(*) FROM (SELECT * FROM {view}_{index} LIMIT 1)")
        except duckdb.Error as error:
            kind = "Parquet" if _format(source, file) == "parquet" else "CSV with a header line"
            raise InputError(
                f"{file.name}: cannot be read ({_first_line(error)}); needed {kind}. "
                "Write the file again, or name its format in the contract."
            ) from error
        parts.append(f"SELECT * FROM {view}_{index}")
    connection.execute(f"CREATE VIEW {view} AS {' UNION ALL BY NAME '.join(parts)}")


def _format(source: TableSource, file: SourceFile) -> str:
    return source.format or Path(file.name).suffix.lower().removeprefix(".")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")


def _local_files(place: str, base: Path) -> list[Path]:
    """Files that a path or glob names, ascending."""
    pattern = str(base.absolute() / place)
    names = sorted(glob.glob(pattern, recursive=True)) if glob.has_magic(pattern) else [pattern]  # noqa: PTH207
    paths = [Path(name) for name in names if Path(name).is_file()]
    if not paths:
        raise InputError(
            f"{place}: found no file at {pattern}; needed at least one. Paths are relative to the contract."
        )
    return paths


def _s3() -> Any:
    from pyarrow import fs

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    options: dict[str, Any] = {
        "region": os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    }
    if endpoint:
        address = urlsplit(endpoint)
        options |= {"endpoint_override": address.netloc or address.path, "scheme": address.scheme or "https"}
    if not (os.environ.get("AWS_ACCESS_KEY_ID") or os.environ.get("AWS_PROFILE") or os.environ.get("AWS_ROLE_ARN")):
        options["anonymous"] = True
    return fs.S3FileSystem(**options)


def _s3_files(place: str) -> tuple[Any, list[str]]:
    """The S3 client, and the bucket/key of every object that a path or glob names, ascending."""
    from fnmatch import fnmatchcase

    from pyarrow import fs

    wanted = place.removeprefix("s3://")
    try:
        system = _s3()
        if not glob.has_magic(wanted):
            infos = [system.get_file_info(wanted)]
        else:
            folder = wanted[: min(wanted.index(mark) for mark in "*?[" if mark in wanted)].rpartition("/")[0]
            infos = system.get_file_info(fs.FileSelector(folder, recursive=True))
    except OSError as error:
        raise InputError(
            f"{place}: cannot be reached ({_first_line(error)}); needed read access. "
            "Check AWS_ENDPOINT_URL, AWS_REGION and the AWS credentials."
        ) from error
    paths = sorted(
        info.path
        for info in infos
        if info.type == fs.FileType.File and (info.path == wanted or fnmatchcase(info.path, wanted))
    )
    if not paths:
        raise InputError(
            f"{place}: found no object; needed at least one. Check the bucket, the key and AWS_ENDPOINT_URL."
        )
    return system, paths


def _etag(system: Any, path: str) -> str:
    with system.open_input_stream(path) as stream:
        metadata = stream.metadata()
    return str((metadata or {}).get(b"ETag", b"").decode())


def _copy(system: Any, path: str, scratch: Path) -> Path:
    place = scratch / path
    place.parent.mkdir(parents=True, exist_ok=True)
    with system.open_input_stream(path) as stream, place.open("wb") as out:
        while chunk := stream.read(_COPY_BYTES):
            out.write(chunk)
    return place
