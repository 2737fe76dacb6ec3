"""Reads a dataset contract: YAML text in, `DatasetContract` out, or every fault of the file in one error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from components.errors import Fault, FaultyInputError, InputError, nearest
from components.events.contract import DatasetContract, TableSource

_DURATION = re.compile(r"^(\d+(?:\.\d+)?)\s*([smhdw])$")
_UNIT = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION_KEYS = (
    ("requests", "attribution"),
    ("requests", "horizon"),
    ("freshness",),
    ("retention",),
    ("split", "gap"),
)

EVENT_COLUMNS = ("user_id", "item_id", "ts", "event")
OPTIONAL_EVENT_COLUMNS = ("request_id", "position", "value", "ingested_at", "reject_reason")


def load_contract(path: Path) -> DatasetContract:
    """Read a contract file.

    Raises:
        InputError: If the file cannot be read.
        FaultyInputError: If anything in it is wrong; names every fault.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"dataset contract {path}: cannot be read ({reason}); needed a YAML file as docs/dataset-contract.md shows."
        ) from error
    return parse_contract(text, subject=str(path))


def parse_contract(text: str, *, subject: str) -> DatasetContract:
    """As `load_contract`, from text; `subject` names it in errors."""
    try:
        value = yaml.load(text, Loader=_StrictLoader)  # noqa: S506  a SafeLoader that refuses repeated keys
    except yaml.YAMLError as error:
        raise InputError(f"{subject}: not readable as YAML ({_one_line(error)}).") from error
    if not isinstance(value, dict):
        raise InputError(f"{subject}: found {type(value).__name__}; needed a mapping with schema: rankgate/dataset/v1.")
    faults = list(_normalise(value))
    try:
        contract = DatasetContract.model_validate(value)
    except ValidationError as error:
        raise FaultyInputError(subject, [*faults, *(_fault(item) for item in error.errors())]) from error
    faults += _meaning_faults(contract)
    if faults:
        raise FaultyInputError(subject, faults)
    return contract


class _StrictLoader(yaml.SafeLoader):
    """Refuses repeated keys, of which YAML would silently keep the last, and keeps times as the text they are."""


def _mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    seen: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} stands here a second time", key_node.start_mark
            )
        seen[key] = loader.construct_object(value_node, deep=True)
    return seen


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _one_line(error: yaml.YAMLError) -> str:
    return " ".join(str(error).split())


def _normalise(value: dict[str, Any]) -> Iterator[Fault]:
    """Turn `24h` into a length of time and a single path into a list, in place; yields what is neither."""
    for way in _DURATION_KEYS:
        place: Any = value
        for key in way[:-1]:
            place = place.get(key) if isinstance(place, dict) else None
        if not isinstance(place, dict) or way[-1] not in place:
            continue
        given = place[way[-1]]
        if isinstance(given, str) and (match := _DURATION.match(given.strip())):
            place[way[-1]] = timedelta(**{_UNIT[match.group(2)]: float(match.group(1))})
        elif isinstance(given, int | float) and not isinstance(given, bool):
            # pydantic would read a bare number as seconds, which nobody means by `horizon: 14`.
            yield Fault(".".join(way), repr(given), "a length with its unit, such as 24h, 7d or P14D")
            place[way[-1]] = timedelta(0)
    tables = value.get("tables")
    for table in tables.values() if isinstance(tables, dict) else ():
        if isinstance(table, dict) and isinstance(table.get("path"), str):
            table["path"] = [table["path"]]


def _fault(item: Any) -> Fault:
    way = [str(part) for part in item["loc"]]
    where = ".".join(way) or "contract"
    if item["type"] == "extra_forbidden":
        known = _known_keys(way[:-1])
        return Fault(where, "an unknown key", "a key of the contract", nearest(way[-1], known) if known else "")
    if item["type"] == "missing":
        return Fault(where, "nothing", "a value")
    return Fault(where, repr(item.get("input"))[:80], item["msg"].removeprefix("Input should be "))


def _known_keys(way: list[str]) -> list[str]:
    """Keys that the contract knows at a place, where that place is a model."""
    model: Any = DatasetContract
    for part in way:
        fields = model.model_fields if isinstance(model, type) and issubclass(model, BaseModel) else {}
        field = next((held for name, held in fields.items() if (held.alias or name) == part), None)
        if field is not None:
            model = _model_of(field.annotation)
        elif not (isinstance(model, type) and issubclass(model, BaseModel)):
            return []
        # Otherwise `part` is a name of the team's own inside a mapping, whose values are `model`.
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return []
    return [held.alias or name for name, held in model.model_fields.items()]


def _model_of(annotation: Any) -> Any:
    """The model in `Model`, `Model | None` or `dict[str, Model]`."""
    for part in getattr(annotation, "__args__", ()):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return annotation


def _meaning_faults(contract: DatasetContract) -> list[Fault]:
    """What the schema cannot say: names that must exist, keys that exclude or need each other."""
    return [
        *_event_faults(contract),
        *_attribute_faults(contract),
        *_table_faults(contract),
        *_time_faults(contract),
    ]


def _event_faults(contract: DatasetContract) -> Iterator[Fault]:
    kinds = contract.events
    if not any(kind.role == "outcome" and kind.gain > 0 for kind in kinds.values()):
        yield Fault("events", "no outcome with a gain above 0", "at least one event that a ranking should earn")
    impressions = [name for name, kind in kinds.items() if kind.role == "impression"]
    if contract.requests.mode == "logged" and len(impressions) != 1:
        yield Fault(
            "events", f"{len(impressions)} events of role impression", "exactly one, because requests.mode is logged"
        )


def _attribute_faults(contract: DatasetContract) -> Iterator[Fault]:
    reserved = {"users": {"user_id"}, "items": {"item_id"}, "events": {*EVENT_COLUMNS, *OPTIONAL_EVENT_COLUMNS}}
    for table in ("users", "items", "events"):
        attributes = getattr(contract.attributes, table)
        for name, attribute in attributes.items():
            where = f"attributes.{table}.{name}"
            if name in reserved[table]:
                yield Fault(where, "the name of one of rankgate's own columns", "another name")
            if (attribute.role == "context") != (table == "events") and attribute.role != "ignore":
                needed = "context or ignore" if table == "events" else "feature, segment, sensitive or ignore"
                yield Fault(f"{where}.role", repr(attribute.role), needed)
            for other in attribute.intersect:
                if other not in attributes or other == name:
                    yield Fault(
                        f"{where}.intersect",
                        repr(other),
                        f"another attribute of {table}",
                        nearest(other, list(attributes)),
                    )
                elif attribute.role not in ("segment", "sensitive") or attributes[other].role not in (
                    "segment",
                    "sensitive",
                ):
                    yield Fault(f"{where}.intersect", repr(other), "two attributes of role segment or sensitive")
    items = contract.attributes.items
    for part in ("category", "provider", "price"):
        name = getattr(contract.item, part)
        if name is None:
            continue
        if name not in items or items[name].role == "ignore":
            yield Fault(
                f"item.{part}", repr(name), "an attribute of items that is not ignored", nearest(name, list(items))
            )
        elif part == "price" and items[name].type != "number":
            yield Fault("item.price", f"{name!r} of type {items[name].type}", "an attribute of type number")
    if any(attribute.role == "sensitive" for attribute in items.values()):
        yield Fault(
            "attributes.items", "the role sensitive", "feature, segment or ignore: items have no protected groups"
        )


def _table_faults(contract: DatasetContract) -> Iterator[Fault]:
    known = {
        "events": (*EVENT_COLUMNS, *OPTIONAL_EVENT_COLUMNS, *contract.attributes.events),
        "users": ("user_id", *contract.attributes.users),
        "items": ("item_id", *contract.attributes.items),
    }
    for name, columns in known.items():
        source: TableSource | None = getattr(contract.tables, name)
        if source is None:
            if getattr(contract.attributes, name):
                yield Fault(f"attributes.{name}", "attributes", f"tables.{name}, where they are read from")
            continue
        if not source.path:
            yield Fault(f"tables.{name}.path", "no file", "at least one")
        for place in source.path:
            if source.format is None and Path(place).suffix.lower() not in (".parquet", ".csv"):
                yield Fault(f"tables.{name}.path", repr(place), "a name that ends in .parquet or .csv, or `format`")
        for column in source.columns:
            if column not in columns and not (name == "items" and column == contract.item.available_from):
                yield Fault(
                    f"tables.{name}.columns.{column}", "an unknown column", "one of ours", nearest(column, columns)
                )
    if contract.consent and getattr(contract.tables, contract.consent.table) is None:
        yield Fault("consent.table", repr(contract.consent.table), "a table that the contract has")


def _time_faults(contract: DatasetContract) -> Iterator[Fault]:
    for name, rule in (("test", contract.split.test), ("validation", contract.split.validation)):
        if (rule.days is None) == (rule.fraction is None):
            found = "neither" if rule.days is None else "both"
            yield Fault(f"split.{name}", f"{found} of days and fraction", "one of the two")
    lengths = (
        ("requests.attribution", contract.requests.attribution),
        ("requests.horizon", contract.requests.horizon),
        ("freshness", contract.freshness),
        ("retention", contract.retention),
    )
    for where, length in lengths:
        if length is not None and length <= timedelta(0):
            yield Fault(where, str(length), "a length of time above 0")
    if contract.split.gap < timedelta(0):
        yield Fault("split.gap", str(contract.split.gap), "a length of time of 0 or more")
