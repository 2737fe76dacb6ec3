"""What a dataset contract must mean, beyond its schema: names that exist, keys that exclude or need each other."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

from components.errors import Fault, nearest
from components.events.contract import DatasetContract, TableSource

EVENT_COLUMNS = ("user_id", "item_id", "ts", "event")
OPTIONAL_EVENT_COLUMNS = ("request_id", "position", "value", "ingested_at", "reject_reason")

# Attribute names become columns of files, metric labels and SQL names, so they are plain and no other column's.
_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")
_TAKEN = {
    "users": ("user", "user_id"),
    "items": ("item", "item_id", "first_bucket"),
    "events": (*EVENT_COLUMNS, *OPTIONAL_EVENT_COLUMNS, "user", "item", "request", "bucket", "split", "cut"),
}
_ROLES = {
    "users": ("feature", "segment", "sensitive", "ignore"),
    "items": ("feature", "segment", "ignore"),
    "events": ("context", "ignore"),
}
_GROUPING = ("segment", "sensitive")

LONGEST = timedelta(days=36_500)
"""No length of time in a contract is longer: times minus it stay within what every engine can hold."""


def meaning_faults(contract: DatasetContract) -> list[Fault]:
    """Every fault of a contract that its schema cannot see, in the order of its keys."""
    return [
        *_table_faults(contract),
        *_event_faults(contract),
        *_attribute_faults(contract),
        *_item_faults(contract),
        *_consent_faults(contract),
        *_time_faults(contract),
        *_evaluation_faults(contract),
    ]


def _table_faults(contract: DatasetContract) -> Iterator[Fault]:
    known: dict[str, list[str]] = {
        "events": [*EVENT_COLUMNS, *OPTIONAL_EVENT_COLUMNS, *contract.attributes.events],
        "users": ["user_id", *contract.attributes.users],
        "items": ["item_id", *contract.attributes.items],
    }
    if contract.item.available_from and contract.item.available_from not in known["items"]:
        known["items"].append(contract.item.available_from)
    for table, columns in known.items():
        source: TableSource | None = getattr(contract.tables, table)
        if source is None:
            if getattr(contract.attributes, table):
                yield Fault(f"attributes.{table}", "attributes", f"tables.{table}, where they are read from")
            continue
        if not source.path:
            yield Fault(f"tables.{table}.path", "no file", "at least one")
        for place in source.path:
            if source.format is None and format_of(place) is None:
                yield Fault(
                    f"tables.{table}.path", repr(place), "a name ending in .parquet, .csv or .csv.gz, or `format`"
                )
        for column in source.columns:
            if column not in columns:
                yield Fault(
                    f"tables.{table}.columns.{column}",
                    "an unknown column",
                    "a column of rankgate's or a declared attribute",
                    nearest(column, columns),
                )


def format_of(name: str) -> str | None:
    """The format that a file's name tells, or None."""
    lowered = name.lower()
    if lowered.endswith(".parquet"):
        return "parquet"
    return "csv" if lowered.endswith((".csv", ".csv.gz")) else None


def _event_faults(contract: DatasetContract) -> Iterator[Fault]:
    kinds = contract.events
    if not any(kind.role == "outcome" and kind.gain > 0 for kind in kinds.values()):
        yield Fault("events", "no outcome with a gain above 0", "at least one event that a ranking should earn")
    impressions = [name for name, kind in kinds.items() if kind.role == "impression"]
    if contract.requests.mode == "logged" and len(impressions) != 1:
        found = f"{len(impressions)} events of role impression"
        yield Fault("events", found, "exactly one, because requests.mode is logged")
    for name, kind in kinds.items():
        if not name.strip():
            yield Fault("events", repr(name), "a name that the column `event` holds")
        if kind.per_value and kind.role != "outcome":
            yield Fault(f"events.{name}.per_value", f"true for role {kind.role}", "an outcome, or per_value: false")


def _attribute_faults(contract: DatasetContract) -> Iterator[Fault]:
    for table, roles in _ROLES.items():
        attributes = getattr(contract.attributes, table)
        spelt = Counter(name.lower() for name in attributes)
        for name, attribute in attributes.items():
            where = f"attributes.{table}.{name}"
            if name.lower() in _TAKEN[table]:
                yield Fault(where, "the name of one of rankgate's own columns", "another name", _MAP.format(table))
            elif not _PLAIN_NAME.fullmatch(name):
                needed = "a letter, then letters, digits and underscores, 63 at most"
                yield Fault(where, f"the name {name!r}", needed, _MAP.format(table))
            if spelt[name.lower()] > 1:
                yield Fault(where, "another attribute that differs only in case", "names that differ in more")
            if attribute.role not in roles:
                yield Fault(f"{where}.role", repr(attribute.role), f"one of {', '.join(roles)} in table {table}")
            if attribute.role in _GROUPING and attribute.type != "category":
                yield Fault(f"{where}.type", repr(attribute.type), f"category: {attribute.role} makes groups", _BINS)
            for other in attribute.intersect:
                place = f"{where}.intersect"
                if other not in attributes or other == name:
                    others = [known for known in attributes if known != name]
                    hint = nearest(other, others) if others else ""
                    yield Fault(place, repr(other), f"another attribute of {table}", hint)
                elif attribute.role not in _GROUPING or attributes[other].role not in _GROUPING:
                    yield Fault(place, repr(other), "two attributes of role segment or sensitive")


_MAP = "The team's own column name can be mapped under tables.{0}.columns."
_BINS = "Write bands into a column of the table."


def _item_faults(contract: DatasetContract) -> Iterator[Fault]:
    items = contract.attributes.items
    for part, kind in (("category", "category"), ("provider", "category"), ("price", "number")):
        name = getattr(contract.item, part)
        if name is None:
            continue
        if name not in items or items[name].role == "ignore":
            usable = [known for known, attribute in items.items() if attribute.role != "ignore"]
            hint = nearest(name, usable) if usable else ""
            yield Fault(f"item.{part}", repr(name), "an attribute under attributes.items that is not ignored", hint)
        elif items[name].type != kind:
            yield Fault(f"item.{part}", f"{name!r} of type {items[name].type}", f"an attribute of type {kind}")
    start = contract.item.available_from
    if start is None:
        return
    if contract.tables.items is None:
        yield Fault("item.available_from", repr(start), "tables.items, where it is read from")
    if start in items and items[start].role != "ignore":
        yield Fault("item.available_from", f"{start!r}, an attribute too", "a column of times that is no attribute")
    elif start.lower() in _TAKEN["items"] or not _PLAIN_NAME.fullmatch(start):
        yield Fault("item.available_from", repr(start), "a plain name of a column of times", _MAP.format("items"))


def _consent_faults(contract: DatasetContract) -> Iterator[Fault]:
    if contract.consent is None:
        return
    if getattr(contract.tables, contract.consent.table) is None:
        yield Fault("consent.table", repr(contract.consent.table), "a table that the contract has")
    if not contract.consent.column:
        yield Fault("consent.column", "an empty name", "the column that holds the consent")
    if not contract.consent.values:
        yield Fault("consent.values", "none", "at least one value that means consent")


def _time_faults(contract: DatasetContract) -> Iterator[Fault]:
    lengths = (
        ("requests.attribution", contract.requests.attribution),
        ("requests.horizon", contract.requests.horizon),
        ("freshness", contract.freshness),
        ("retention", contract.retention),
    )
    for where, length in lengths:
        if length is not None and not timedelta(0) < length <= LONGEST:
            yield Fault(where, str(length), "a length of time above 0, up to a hundred years")
    for name, rule in (("test", contract.split.test), ("validation", contract.split.validation)):
        if (rule.days is None) == (rule.fraction is None):
            found = "neither" if rule.days is None else "both"
            yield Fault(f"split.{name}", f"{found} of days and fraction", "one of the two")
    if not timedelta(0) <= contract.split.gap <= LONGEST:
        yield Fault("split.gap", str(contract.split.gap), "a length of time of 0 or more, up to a hundred years")


def _evaluation_faults(contract: DatasetContract) -> Iterator[Fault]:
    cutoffs = contract.evaluation.cutoffs
    if not cutoffs or len(set(cutoffs)) != len(cutoffs):
        yield Fault("evaluation.cutoffs", str(list(cutoffs)), "one or more different numbers")
