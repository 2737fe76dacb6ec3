"""Exposure files become tables that the next snapshot takes in: an impression for each place, as Parquet.

    20260510T090000.000000Z-17-9f2c1a3b.exposures  ->  20260510T090000.000000Z-17-9f2c1a3b.parquet   the rows
                                                       20260510T090000.000000Z-17-9f2c1a3b.json      what they were made of

A closed file is converted once: its rows are kept as long as they have the digest that the document beside them promises. The
same file gives the same bytes. What a visitor was shown is counted and left out, for a snapshot needs to know whose event it is.
Consent and retention are the dataset contract's: whoever refused leaves no row in the snapshot, nor does what is too old.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from components.artifacts import documents
from components.artifacts.digests import digest_file
from components.artifacts.files import replacing
from components.artifacts.progress import Progress, silent
from components.errors import Fault, FaultyInputError, InputError
from components.serving.contract import SCHEMA_VERSION
from components.serving.exposure_files import TORN, Damage, Shown, closed, files_in, read_file

IMPRESSION = "impression"
FRAGMENT = "dataset-fragment.yaml"

_ROWS = 100_000
"""Of a row group, about: memory grows with it."""
_TIME = pa.timestamp("us", tz="UTC")
_EVENT = [
    ("user_id", pa.string()),
    ("item_id", pa.string()),
    ("ts", _TIME),
    ("event", pa.string()),
    ("request_id", pa.string()),
    ("position", pa.int32()),
]
_SERVED = [
    ("served_surface", pa.string()),
    ("served_release", pa.string()),
    ("served_arm", pa.string()),
    ("served_source", pa.string()),
    ("served_score", pa.float32()),
    ("served_propensity", pa.float64()),
    ("served_explored", pa.bool_()),
    ("served_fallbacks", pa.string()),
]
"""Beside an event's columns and the context's, which may well be called `surface` or `source` themselves."""


@dataclass(frozen=True, slots=True)
class Naming:
    """What the team's other event files call things: one contract reads all of them."""

    event: str = IMPRESSION
    columns: Mapping[str, str] = field(default_factory=dict)
    """Our name: theirs, as `tables.events.columns` of the contract."""

    def __post_init__(self) -> None:
        known = [name for name, _ in _EVENT]
        faults = [
            Fault(f"column {name}", "no column of an event", f"one of {', '.join(known)}")
            for name in self.columns
            if name not in known
        ]
        if not self.event:
            faults.append(Fault("event", "nothing", "the name of the impressions' event"))
        if faults:
            raise FaultyInputError("names", faults)

    def of(self, name: str) -> str:
        return self.columns.get(name, name)


@dataclass(frozen=True, slots=True)
class ConvertedFile:
    """Beside the rows of one exposure file: what they were made of."""

    schema_version: int
    sha256: str
    """Of the Parquet file."""
    source_bytes: int
    event: str
    columns: dict[str, str]
    context: tuple[str, ...]
    lists: int
    rows: int
    visitors: int
    """Places that were shown to nobody known, left out."""
    torn_bytes: int
    """Of a line that its writer was ended in."""
    damaged_lines: int


@dataclass(frozen=True, slots=True)
class Conversion:
    """What has become of a folder's files."""

    converted: int
    kept: int
    """Converted before, and whole."""
    unfinished: int
    """Still written to, or taken by another program: converted another time."""
    removed: int
    lists: int
    rows: int
    visitors: int
    torn_files: int
    damaged_lines: int
    context: tuple[str, ...]


def convert_exposures(
    folder: Path, *, out: Path, naming: Naming | None = None, remove: bool = False, progress: Progress = silent
) -> Conversion:
    """Convert every closed file of a log that has not been converted before.

    Args:
        folder: Where the log writes.
        out: Folder for the tables; those of earlier conversions stay.
        naming: What the team calls events and columns.
        remove: Remove each exposure file once its rows are whole: they name people, and should not lie about twice.
        progress: Told of every file.

    Returns:
        Of this call's files, those kept from earlier ones included.

    Raises:
        InputError: If there is no such folder, a file cannot be read or written, or `out` holds a table of another schema.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: found no folder; needed the one that the service's RANKGATE_EXPOSURES names.")
    naming = naming or Naming()
    try:
        out.mkdir(parents=True, exist_ok=True)
        made, kept, unfinished, removed = _convert_all(files_in(folder), out, naming, remove, progress)
    except OSError as error:
        raise InputError(
            f"{error.filename or out}: {error.strerror or error}; needed files that can be read, and room to write."
        ) from error
    conversion = Conversion(
        converted=len(made) - kept,
        kept=kept,
        unfinished=unfinished,
        removed=removed,
        lists=sum(one.lists for one in made),
        rows=sum(one.rows for one in made),
        visitors=sum(one.visitors for one in made),
        torn_files=sum(one.torn_bytes > 0 for one in made),
        damaged_lines=sum(one.damaged_lines for one in made),
        context=tuple(sorted({name for one in made for name in one.context})),
    )
    if made:
        with replacing(out / FRAGMENT) as beside:
            beside.write_text(contract_fragment(conversion.context, naming), encoding="utf-8")
    return conversion


def _convert_all(
    paths: Sequence[Path], out: Path, naming: Naming, remove: bool, progress: Progress
) -> tuple[list[ConvertedFile], int, int, int]:
    made: list[ConvertedFile] = []
    kept = unfinished = removed = 0
    for number, path in enumerate(paths, start=1):
        with closed(path) as free:
            if not free:
                unfinished += 1
                progress(f"{number} of {len(paths)}: {path.name} is being written, left for another time")
                continue
            told = _kept(path, out, naming)
            kept += told is not None
            if told is None:
                told = _convert(path, out, naming)
                progress(f"{number} of {len(paths)}: {path.name}, {told.rows} impressions")
            made.append(told)
            if remove:
                path.unlink(missing_ok=True)
                removed += 1
    return made, kept, unfinished, removed


def contract_fragment(context: tuple[str, ...], naming: Naming) -> str:
    """The part of a dataset contract that reads the tables, as YAML: to be joined with the team's outcomes, users and items."""
    events: dict[str, Any] = {"path": ["*.parquet"]}
    if naming.columns:
        events["columns"] = dict(naming.columns)
    said = {
        "tables": {"events": events},
        "events": {naming.event: {"role": "impression"}},
        "attributes": {"events": {name: {"role": "context"} for name in context}},
        "requests": {"mode": "logged"},
    }
    head = "# What the dataset contract says of these tables. Outcomes come from the team's own log: another path beside.\n"
    return head + yaml.safe_dump(said, sort_keys=False, allow_unicode=True)


def _kept(path: Path, out: Path, naming: Naming) -> ConvertedFile | None:
    """What was converted before from this very file under these names, if it is whole."""
    beside, table = out / f"{path.stem}.json", out / f"{path.stem}.parquet"
    if not (beside.is_file() and table.is_file()):
        return None
    told = documents.load(ConvertedFile, beside)
    same = (told.source_bytes, told.event, told.columns) == (path.stat().st_size, naming.event, dict(naming.columns))
    return told if same and told.sha256 == digest_file(table) else None


def _convert(path: Path, out: Path, naming: Naming) -> ConvertedFile:
    damages: list[Damage] = []
    # A first reading for the names that the context has in this file: a Parquet file needs its columns before its rows.
    context = tuple(sorted({name for shown in read_file(path, damaged=damages.append) for name in shown.context}))
    lists = rows = visitors = 0
    schema = _schema(context, naming)
    table = out / f"{path.stem}.parquet"
    with replacing(table) as beside, pq.ParquetWriter(beside, schema) as writer:
        for portion in _portions(path):
            known = [shown for shown in portion if shown.user_id is not None]
            lists += len(portion)
            places = sum(len(shown.places) for shown in known)
            rows += places
            visitors += sum(len(shown.places) for shown in portion) - places
            writer.write_batch(_batch(known, context, naming, schema))
    told = ConvertedFile(
        schema_version=SCHEMA_VERSION,
        sha256=digest_file(table),
        source_bytes=path.stat().st_size,
        event=naming.event,
        columns=dict(naming.columns),
        context=context,
        lists=lists,
        rows=rows,
        visitors=visitors,
        torn_bytes=sum(damage.size for damage in damages if damage.kind == TORN),
        damaged_lines=sum(damage.kind != TORN for damage in damages),
    )
    documents.save(told, out / f"{path.stem}.json")
    return told


def _schema(context: tuple[str, ...], naming: Naming) -> pa.Schema:
    own = [(naming.of(name), kind) for name, kind in _EVENT] + _SERVED
    names = {name.lower() for name, _ in own}
    if taken := [name for name in context if name.lower() in names]:
        raise FaultyInputError(
            "context of the exposures",
            [Fault(name, "the name of a column of events", "another name", "Rename the column.") for name in taken],
        )
    return pa.schema(own + [(name, pa.string()) for name in context])


def _portions(path: Path) -> Iterator[list[Shown]]:
    portion: list[Shown] = []
    places = 0
    for shown in read_file(path, damaged=_told_already):
        portion.append(shown)
        places += len(shown.places)
        if places >= _ROWS:
            yield portion
            portion, places = [], 0
    if portion:
        yield portion


def _told_already(_: Damage) -> None:
    """Of a second reading."""


def _batch(lists: list[Shown], context: tuple[str, ...], naming: Naming, schema: pa.Schema) -> pa.RecordBatch:
    """One row a place: what a list says once is said for each of its places."""
    each = pa.array(np.repeat(np.arange(len(lists), dtype=np.int32), [len(shown.places) for shown in lists]))
    places = [place for shown in lists for place in shown.places]

    def of_lists(values: list[Any], kind: pa.DataType) -> pa.Array:
        return pa.array(values, kind).take(each)

    text = pa.string()
    moments = pa.array([shown.at for shown in lists], text).cast(_TIME)
    return pa.record_batch(
        [
            of_lists([shown.user_id for shown in lists], text),
            pa.array([place.item_id for place in places], text),
            moments.take(each),
            pa.array([naming.event] * len(places), text),
            of_lists([shown.request_id for shown in lists], text),
            pa.array([place.rank for place in places], pa.int32()),
            of_lists([shown.surface for shown in lists], text),
            of_lists([shown.release for shown in lists], text),
            of_lists([shown.arm for shown in lists], text),
            pa.array([place.source for place in places], text),
            pa.array([place.score for place in places], pa.float32()),
            pa.array([place.propensity for place in places], pa.float64()),
            pa.array([place.explored for place in places], pa.bool_()),
            of_lists([",".join(shown.fallbacks) for shown in lists], text),
            *(of_lists([shown.context.get(name) for shown in lists], text) for name in context),
        ],
        schema=schema,
    )
