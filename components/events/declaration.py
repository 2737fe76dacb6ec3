"""Reads a dataset contract: YAML text in, `DatasetContract` out, or every fault of the file in one error.

Three passes, all heard before anything is raised: YAML (nothing twice, no surprises of YAML 1.1), the schema, and what the
keys mean together (`meaning.py`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from components.artifacts.strict_yaml import known_keys, read_value
from components.errors import Fault, FaultyInputError, InputError, nearest
from components.events.contract import DatasetContract
from components.events.meaning import LONGEST, meaning_faults

_LENGTH = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_UNIT = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
# Weeks, days and times of ISO 8601; its months and years have no one length.
_ISO_LENGTH = re.compile(r"-?P(?=\d|T\d)(\d+W)?(\d+D)?(T(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?")
_LENGTH_KEYS = (
    ("requests", "attribution"),
    ("requests", "horizon"),
    ("freshness",),
    ("retention",),
    ("split", "gap"),
)
_NEEDED_LENGTH = "a length of time with its unit, such as 90m, 24h, 7d or P14D, up to a hundred years"
_NEEDED = {
    "timezone_aware": "a time with its zone, such as 2026-05-10T00:00:00Z",
    "datetime_from_date_parsing": "a time with its zone, such as 2026-05-10T00:00:00Z",
    "datetime_parsing": "a time with its zone, such as 2026-05-10T00:00:00Z",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
    "dict_type": "a mapping of names",
    "tuple_type": "a list",
    "invalid_key": "a key that is text; put it in quotes",
}
_NOT_FINITE = re.compile(r"[-+]?\.(inf|nan)", re.IGNORECASE)
"""As YAML writes them; they are read as text, which no number is."""
_NAME_MUST_BE = "lower-case letters, digits and hyphens, at most 63, not a hyphen first"


def load_contract(path: Path) -> DatasetContract:
    """Read a contract file.

    Raises:
        InputError: If the file cannot be read.
        FaultyInputError: If anything in it is wrong; names every fault.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise InputError(
            f"dataset contract {path}: cannot be read ({reason}); needed a YAML file as docs/dataset-contract.md shows."
        ) from error
    return parse_contract(text, subject=str(path))


def parse_contract(text: str, *, subject: str) -> DatasetContract:
    """As `load_contract`, from text; `subject` names it in errors."""
    value, faults = _read_yaml(text, subject)
    if not isinstance(value, dict):
        found = "nothing" if value is None else f"a {type(value).__name__}"
        raise InputError(f"{subject}: found {found}; needed a mapping that begins with schema: rankgate/dataset/v1.")
    faults += _normalise(value)
    contract: DatasetContract | None
    try:
        contract = DatasetContract.model_validate(value)
    except ValidationError as error:
        wrong = error.errors()
        faults += [_fault(item) for item in wrong]
        contract = _without_faulty(value, wrong)
    if contract is not None:
        told = {fault.where for fault in faults}
        # What follows from a key that is wrong already need not be said again.
        faults += [fault for fault in meaning_faults(contract) if not _concerns(fault.where, told)]
    if faults or contract is None:
        raise FaultyInputError(subject, faults)
    return contract


def _read_yaml(text: str, subject: str) -> tuple[Any, list[Fault]]:
    """The value of a YAML text, and a fault for each key that stands twice in one mapping."""
    try:
        value, repeated = read_value(text)
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        reason = " ".join(str(getattr(error, "problem", None) or error).split())
        raise InputError(
            f"{subject}{where}: not readable as YAML ({reason}). Mend that line; indent with spaces."
        ) from error
    return value, [
        Fault(
            f"line {held.line}, {held.key}", f"the key a second time (first in line {held.first_line})", "each key once"
        )
        for held in repeated
    ]


def _normalise(value: dict[str, Any]) -> list[Fault]:
    """Turn `24h` into a length of time, one path into a list and values of consent into text, in place."""
    faults = []
    for way in _LENGTH_KEYS:
        place: Any = value
        for key in way[:-1]:
            place = place.get(key) if isinstance(place, dict) else None
        if not isinstance(place, dict) or place.get(way[-1]) is None:
            continue
        given = place[way[-1]]
        if (length := _length(given)) is not None:
            place[way[-1]] = length
        elif not isinstance(given, timedelta):
            faults.append(Fault(".".join(way), repr(given)[:80], _NEEDED_LENGTH))
            del place[way[-1]]
    tables = value.get("tables")
    for table in tables.values() if isinstance(tables, dict) else ():
        if isinstance(table, dict) and isinstance(table.get("path"), str):
            table["path"] = [table["path"]]
    consent = value.get("consent")
    if isinstance(consent, dict) and isinstance(consent.get("values"), list):
        consent["values"] = [_as_text(item) for item in consent["values"]]
    return faults


def _length(given: Any) -> timedelta | str | None:
    """A length of time, or ISO 8601 text for one that pydantic reads; None where it is neither.

    A bare number is neither: pydantic would read seconds, which nobody means by `horizon: 14`.
    """
    if not isinstance(given, str):
        return None
    text = given.strip()
    if match := _LENGTH.fullmatch(text):
        amount = float(match[1])
        unit = timedelta(**{_UNIT[match[2]]: 1})
        return amount * unit if amount <= LONGEST / unit else None
    return text if _ISO_LENGTH.fullmatch(text) else None


def _as_text(item: Any) -> Any:
    """`true` and `1` as the text that a table holds for them."""
    if isinstance(item, bool):
        return str(item).lower()
    return str(item) if isinstance(item, int) else item


def _without_faulty(value: dict[str, Any], wrong: Sequence[Any]) -> DatasetContract | None:
    """The contract as if its faulty keys were not there, so that its other faults can be told too; None without sense."""
    if any(item["type"] == "missing" or not all(isinstance(part, str) for part in item["loc"]) for item in wrong):
        return None
    for item in wrong:
        place: Any = value
        for key in item["loc"][:-1]:
            place = place.get(key, {}) if isinstance(place, dict) else {}
        place.pop(item["loc"][-1], None)
    try:
        return DatasetContract.model_validate({"name": "unnamed", "schema": "rankgate/dataset/v1", **value})
    except ValidationError:
        return None


def _concerns(where: str, told: set[str]) -> bool:
    """True where a fault at this place, or at a key below it, has been told."""
    return any(place == where or place.startswith(f"{where}.") for place in told)


def _fault(item: Any) -> Fault:
    way = [str(part) for part in item["loc"] if part != "[key]"]
    where = ".".join(way) or "contract"
    kind, found = item["type"], repr(item.get("input"))[:80]
    if kind == "extra_forbidden":
        known = known_keys(DatasetContract, way[:-1])
        return Fault(where, "an unknown key", "a key of the contract", nearest(way[-1], known) if known else "")
    if kind == "missing":
        return Fault(where, "nothing", "a value")
    if item["loc"][-1:] == ("[key]",):
        return Fault(where, f"a key that YAML reads as {type(item['input']).__name__}", _NEEDED["invalid_key"])
    if way == ["name"] and kind == "string_pattern_mismatch":
        return Fault(where, found, _NAME_MUST_BE)
    if (number := _not_finite(item.get("input"))) is not None:
        return Fault(where, number, "a finite number")
    return Fault(where, found, _NEEDED.get(kind) or item["msg"].removeprefix("Input should be "))


def _not_finite(given: Any) -> str | None:
    """`inf` or `nan`, where one was given; None for anything else."""
    if isinstance(given, str) and _NOT_FINITE.fullmatch(given):
        return given.replace(".", "").lower()
    return repr(given) if isinstance(given, float) and not math.isfinite(given) else None
