"""Where two artefacts that should be the same bytes part: the file, then the key, the column and row, the line or the byte."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.artifacts.digests import digest_file, tree_files
from components.evidence.timed import CALLS_FILE, SERVABILITY_FILE, TIMED_COLUMNS, TIMED_METRICS, without_times

SERVING_EVIDENCE = "evidence-serving"
_SHOWN = 120
_TEXT = {".html", ".md", ".yaml", ".txt", ".csv"}
_CHUNK = 1 << 20

LEFT_OUT = {
    SERVABILITY_FILE: f"value, low and high of {', '.join(TIMED_METRICS)}, and these figures in its sentences",
    CALLS_FILE: f"the column {', '.join(TIMED_COLUMNS)}",
}
"""What is not compared of each file of the evidence on serving, because it is time or memory itself."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place in which one file differs."""

    file: str
    place: str
    """`estimates[3].value`, `column score, row 17`, `line 4`, `byte 1024`, or `the file`."""
    then: str
    now: str


def differences(then: Path, now: Path, *, artefact: str) -> tuple[Difference, ...]:
    """The first difference of each file that differs, by file name; what is declared to be time does not count.

    Args:
        then: Folder of the recorded artefact.
        now: Folder of the same one, made again.
        artefact: Its name; times are left out of `evidence-serving` only.
    """
    before, after = dict(tree_files(then)), dict(tree_files(now))
    timed = artefact == SERVING_EVIDENCE
    found = []
    for name in sorted({*before, *after}):
        if name not in before or name not in after:
            words = ("there", "missing")
            found.append(Difference(name, "the file", *(words if name in before else words[::-1])))
        elif digest_file(before[name]) != digest_file(after[name]):
            found += _in_file(name, before[name], after[name], timed=timed and name in LEFT_OUT)
    return tuple(found)


def _in_file(name: str, then: Path, now: Path, *, timed: bool) -> list[Difference]:
    try:
        if then.suffix == ".json":
            return _in_json(name, then, now, timed=timed)
        if then.suffix == ".parquet":
            return _in_parquet(name, then, now, timed=timed)
    except (ValueError, pa.ArrowException):
        # No longer what its name says it is: then its bytes tell.
        pass
    if then.suffix in _TEXT:
        return [_in_lines(name, then, now)]
    return [_in_bytes(name, then, now)]


def _in_json(name: str, then: Path, now: Path, *, timed: bool) -> list[Difference]:
    one, two = json.loads(then.read_bytes()), json.loads(now.read_bytes())
    if timed:
        one, two = without_times(one), without_times(two)
    first = next(json_differences(one, two), None)
    if first:
        return [Difference(name, first[0] or "the document", _short(first[1]), _short(first[2]))]
    return [] if timed else [_in_bytes(name, then, now)]


_ABSENT = object()


def json_differences(then: Any, now: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Path and both values of each leaf in which two JSON values differ, keys ascending; an absent one is told as such."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in sorted({*then, *now}):
            inner = f"{path}.{key}" if path else key
            yield from json_differences(then.get(key, _ABSENT), now.get(key, _ABSENT), inner)
    elif isinstance(then, list) and isinstance(now, list):
        for index in range(max(len(then), len(now))):
            one, two = (values[index] if index < len(values) else _ABSENT for values in (then, now))
            yield from json_differences(one, two, f"{path}[{index}]")
    elif type(then) is not type(now) or then != now:
        yield path, then, now


def _short(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _in_parquet(name: str, then: Path, now: Path, *, timed: bool) -> list[Difference]:
    one, two = pq.read_table(then), pq.read_table(now)
    if timed:
        one, two = (table.drop_columns([c for c in TIMED_COLUMNS if c in table.column_names]) for table in (one, two))
    if one.schema != two.schema:
        fields = [tuple(str(field) for field in table.schema) for table in (one, two)]
        first, second = next(
            ((a, b) for a, b in _padded(*fields) if a != b), (f"{one.schema.metadata}", f"{two.schema.metadata}")
        )
        return [Difference(name, "schema", first[:_SHOWN], second[:_SHOWN])]
    if one.num_rows != two.num_rows:
        return [Difference(name, "number of rows", f"{one.num_rows:,}", f"{two.num_rows:,}")]
    for column in one.column_names:
        row = first_difference(one[column], two[column])
        if row is not None:
            values = (str(table[column][row].as_py())[:_SHOWN] for table in (one, two))
            return [Difference(name, f"column {column}, row {row}", *values)]
    if timed:
        return []
    writers = [pq.read_metadata(path).created_by for path in (then, now)]
    if writers[0] != writers[1]:
        return [Difference(name, "the writer; every value is the same", *writers)]
    return [_in_bytes(name, then, now, aside="; every value is the same")]


def _padded(one: tuple[str, ...], two: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for index in range(max(len(one), len(two))):
        yield one[index] if index < len(one) else "absent", two[index] if index < len(two) else "absent"


def first_difference(then: Any, now: Any) -> int | None:
    """First row in which two columns of one type and length differ; two nulls are the same, and so are two NaNs."""
    if then.equals(now):
        return None
    for index, (one, two) in enumerate(zip(then.to_pylist(), now.to_pylist(), strict=True)):
        both_nan = isinstance(one, float) and isinstance(two, float) and math.isnan(one) and math.isnan(two)
        if one != two and not both_nan:
            return index
    return None


def _in_lines(name: str, then: Path, now: Path) -> Difference:
    texts = [path.read_text(encoding="utf-8", errors="replace").splitlines() for path in (then, now)]
    for index, (one, two) in enumerate(_padded(*(tuple(lines) for lines in texts))):
        if one != two:
            start = _first_other(one, two)
            # A page may be one long line: what surrounds the difference is what tells.
            cut = slice(max(0, start - 30), start + 90)
            return Difference(name, f"line {index + 1}", one[cut], two[cut])
    return _in_bytes(name, then, now)


def _first_other(one: str, two: str) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))


def _in_bytes(name: str, then: Path, now: Path, *, aside: str = "") -> Difference:
    with then.open("rb") as before, now.open("rb") as after:
        offset = 0
        while True:
            one, two = before.read(_CHUNK), after.read(_CHUNK)
            if one != two or not one:
                break
            offset += len(one)
    inside = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
    shown = [chunk[inside : inside + 8].hex(" ") or "end of file" for chunk in (one, two)]
    return Difference(name, f"byte {offset + inside}{aside}", *shown)
