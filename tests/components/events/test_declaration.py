"""Dataset contracts: read as people write them, and every fault of a file told at once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from components.errors import FaultyInputError, InputError
from components.events.declaration import load_contract, parse_contract

SMALL = """
schema: rankgate/dataset/v1
name: shop
tables:
  events: {path: events.parquet}
events:
  impression: {role: impression}
  click: {gain: 1}
requests: {mode: logged}
"""
FULL: dict[str, Any] = {
    "schema": "rankgate/dataset/v1",
    "name": "shop",
    "tables": {
        "events": {"path": ["events/*.parquet"], "columns": {"ts": "at"}},
        "users": {"path": "users.csv"},
        "items": {"path": "s3://bucket/items", "format": "csv", "columns": {"launched": "online_since"}},
    },
    "events": {"impression": {"role": "impression"}, "click": {"gain": 1}, "rating": {"per_value": True}},
    "attributes": {
        "users": {
            "country": {"role": "segment", "intersect": ["gender"]},
            "gender": {"role": "sensitive"},
            "age": {"role": "feature", "type": "number"},
        },
        "items": {
            "category": {"role": "feature"},
            "brand": {"role": "segment"},
            "price": {"role": "feature", "type": "number"},
            "internal": {"role": "ignore"},
        },
        "events": {"device": {"role": "context"}, "build": {"role": "ignore"}},
    },
    "item": {"category": "category", "provider": "brand", "price": "price", "available_from": "launched"},
    "requests": {"mode": "logged", "attribution": "24h"},
    "consent": {"column": "agreed"},
    "split": {"test": {"days": 7}, "validation": {"fraction": 0.1}, "gap": "90m"},
}


def faults(value: Any) -> list[str]:
    """What the contract's error says, a line a fault; empty where it is sound."""
    try:
        parse_contract(value if isinstance(value, str) else yaml.safe_dump(value), subject="dataset.yaml")
    except FaultyInputError as error:
        return [str(fault) for fault in error.faults]
    return []


def edited(*way: str, value: Any) -> dict[str, Any]:
    """The full contract with one key set, or removed where the value is None."""
    whole = deepcopy(FULL)
    place = whole
    for key in way[:-1]:
        place = place[key]
    if value is None:
        del place[way[-1]]
    else:
        place[way[-1]] = value
    return whole


def test_a_small_contract_gets_the_documented_defaults() -> None:
    contract = parse_contract(SMALL, subject="c")
    assert contract.tables.events.path == ("events.parquet",)
    assert contract.requests.attribution == timedelta(hours=24)
    assert contract.freshness == timedelta(days=7)
    assert contract.retention is None
    assert contract.consent is None
    assert contract.as_of is None
    assert contract.tolerance.rejected_share == 0.05
    assert (contract.split.test.days, contract.split.validation.days) == (7, 7)
    assert contract.evaluation.cutoffs == (5, 10, 20)


def test_a_full_contract_is_sound() -> None:
    assert faults(FULL) == []


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90m", timedelta(minutes=90)),
        ("24h", timedelta(hours=24)),
        ("1.5h", timedelta(minutes=90)),
        ("7d", timedelta(days=7)),
        ("2 w", timedelta(days=14)),
        ("30s", timedelta(seconds=30)),
        ("P14D", timedelta(days=14)),
        ("P2W", timedelta(days=14)),
        ("PT36H", timedelta(hours=36)),
        ("P1DT12H", timedelta(hours=36)),
        ("36500d", timedelta(days=36500)),
        ("P36500D", timedelta(days=36500)),
    ],
)
def test_lengths_of_time_are_read_as_people_and_iso_8601_write_them(text: str, length: timedelta) -> None:
    assert parse_contract(SMALL + f"retention: {text}\n", subject="c").retention == length


@pytest.mark.parametrize(
    "text",
    [
        *(
            "14",
            "'14'",
            "14.5",
            "-7d",
            "-P7D",
            "0h",
            "PT0S",
            "7 days",
            "1y",
            "P1Y",
            "P",
            "P1M",
            "01:30",
            "true",
            "[7d]",
        ),
        *("36501d", "P36501D", "9" * 400 + "d", "P" + "9" * 30 + "D", "''"),
    ],
)
@pytest.mark.parametrize("key", ["retention", "freshness"])
def test_what_is_no_length_of_time_above_zero_is_one_fault(key: str, text: str) -> None:
    (fault,) = faults(SMALL + f"{key}: {text}\n")
    assert fault.startswith(f"{key}: found ")


def test_a_bound_that_is_null_is_none() -> None:
    assert parse_contract(SMALL + "freshness: null\n", subject="c").freshness is None


def test_every_fault_is_told_at_once_whichever_pass_sees_it() -> None:
    text = """
schema: rankgate/dataset/v1
name: My Shop
owner: a
owner: b
tables:
  events: {path: events.txt}
events:
  impression: {role: impression}
  click: {gian: 2, gain: 0}
requests: {mode: logged, atribution: 24h}
horizon: 3d
retention: 30
split: {test: {days: 7, fraction: 0.1}}
tolerance: {rejected_share: 1.5}
"""
    assert faults(text) == [
        "line 5, owner: found the key a second time (first in line 4); needed each key once.",
        "retention: found 30; needed a length of time with its unit, such as 90m, 24h, 7d or P14D, up to a hundred years.",
        "name: found 'My Shop'; needed lower-case letters, digits and hyphens, at most 63, not a hyphen first.",
        "events.click.gian: found an unknown key; needed a key of the contract. Did you mean 'gain'?",
        "requests.atribution: found an unknown key; needed a key of the contract. Did you mean 'attribution'?",
        "tolerance.rejected_share: found 1.5; needed less than or equal to 1.",
        "horizon: found an unknown key; needed a key of the contract. Known: as_of, attributes, bucket, consent, "
        "description, evaluation, events, freshness, item, name, owner, requests, retention, schema, split, tables, tolerance.",
        "tables.events.path: found 'events.txt'; needed a name ending in .parquet, .csv or .csv.gz, or `format`.",
        "split.test: found both of days and fraction; needed one of the two.",
    ]


@pytest.mark.parametrize(
    ("way", "value", "fault"),
    [
        (("events", "click", "gain"), 0, None),
        (
            ("events",),
            {"impression": {"role": "impression"}, "click": {"gain": 0}},
            "events: found no outcome with a gain",
        ),
        (("events", "impression"), None, "events: found 0 events of role impression; needed exactly one"),
        (("events", "view"), {"role": "impression"}, "events: found 2 events of role impression; needed exactly one"),
        (("events", "impression", "per_value"), True, "events.impression.per_value: found true for role impression"),
        (("events", " "), {"gain": 1}, "events: found ' '; needed a name"),
        (("events", "click", "gain"), -1, "events.click.gain: found -1; needed greater than or equal to 0"),
        (("events", "click", "gain"), float("inf"), "events.click.gain: found inf; needed a finite number"),
        (("events", "click", "gain"), float("nan"), "events.click.gain: found nan; needed a finite number"),
        (("events", "click", "role"), "outcme", "events.click.role: found 'outcme'; needed 'impression', 'outcome'"),
        (("tables", "events"), None, "tables.events: found nothing; needed a value"),
        (("tables", "events", "path"), [], "tables.events.path: found no file; needed at least one"),
        (
            ("tables", "events", "columns", "tz"),
            "x",
            "tables.events.columns.tz: found an unknown column; needed a column",
        ),
        (("tables", "items", "columns", "item"), "x", "Did you mean 'item_id'?"),
        (("tables", "items", "columns", "internal"), "x", None),
        (("tables", "events", "columns", "device"), "x", None),
        (("tables", "items", "format"), None, "tables.items.path: found 's3://bucket/items'; needed a name ending in"),
        (("tables", "events", "format"), "json", "tables.events.format: found 'json'; needed 'parquet' or 'csv'"),
        (("tables", "users"), None, "attributes.users: found attributes; needed tables.users"),
        (("tables", "users"), None, "consent.table: found 'users'; needed a table that the contract has"),
        (("tables", "items"), None, "item.available_from: found 'launched'; needed tables.items"),
        (("attributes", "users", "user_id"), {"role": "segment"}, "attributes.users.user_id: found the name of one of"),
        (
            ("attributes", "items", "First_Bucket"),
            {"role": "feature"},
            "attributes.items.First_Bucket: found the name of",
        ),
        (
            ("attributes", "events", "ts"),
            {"role": "context"},
            "attributes.events.ts: found the name of one of rankgate's",
        ),
        (
            ("attributes", "users", "age band"),
            {"role": "segment"},
            "attributes.users.age band: found the name 'age band'",
        ),
        (("attributes", "users", "x" * 63), {"role": "segment"}, None),
        (
            ("attributes", "users", "x" * 64),
            {"role": "segment"},
            "needed a letter, then letters, digits and underscores",
        ),
        (("attributes", "users", "Country"), {"role": "segment"}, "found another attribute that differs only in case"),
        (
            ("attributes", "users", "country", "role"),
            "context",
            "attributes.users.country.role: found 'context'; needed",
        ),
        (
            ("attributes", "items", "brand", "role"),
            "sensitive",
            "attributes.items.brand.role: found 'sensitive'; needed",
        ),
        (
            ("attributes", "events", "device", "role"),
            "feature",
            "attributes.events.device.role: found 'feature'; needed",
        ),
        (("attributes", "users", "country", "type"), "number", "attributes.users.country.type: found 'number'; needed"),
        (("attributes", "users", "country", "intersect"), ["gendr"], "Did you mean 'gender'?"),
        (
            ("attributes", "users", "country", "intersect"),
            ["country"],
            "found 'country'; needed another attribute of users",
        ),
        (
            ("attributes", "users", "country", "intersect"),
            ["age"],
            "needed two attributes of role segment or sensitive",
        ),
        (("attributes", "users", "age", "intersect"), ["gender"], "needed two attributes of role segment or sensitive"),
        (("item", "category"), "categry", "item.category: found 'categry'; needed an attribute under attributes.items"),
        (("item", "category"), "categry", "Did you mean 'category'?"),
        (
            ("item", "category"),
            "internal",
            "item.category: found 'internal'; needed an attribute under attributes.items",
        ),
        (
            ("item", "category"),
            "price",
            "item.category: found 'price' of type number; needed an attribute of type category",
        ),
        (
            ("item", "provider"),
            "price",
            "item.provider: found 'price' of type number; needed an attribute of type category",
        ),
        (("item", "price"), "brand", "item.price: found 'brand' of type category; needed an attribute of type number"),
        (("item", "available_from"), "price", "item.available_from: found 'price', an attribute too; needed a column"),
        (("item", "available_from"), "internal", "tables.items.columns.launched: found an unknown column"),
        (("consent", "column"), "", "consent.column: found an empty name"),
        (("consent", "values"), [], "consent.values: found none; needed at least one value"),
        (("consent", "table"), "items", "consent.table: found 'items'; needed 'users' or 'events'"),
        (("requests", "mode"), "shown", "requests.mode: found 'shown'; needed 'logged' or 'sampled'"),
        (("requests", "cuts"), 0, "requests.cuts: found 0; needed greater than or equal to 1"),
        (("requests", "cuts"), 52, None),
        (("requests", "cuts"), 53, "requests.cuts: found 53; needed less than or equal to 52"),
        (("split", "test"), {}, "split.test: found neither of days and fraction; needed one of the two"),
        (("split", "test"), {"days": 7, "fraction": 0.1}, "split.test: found both of days and fraction"),
        (("split", "test"), {"fraction": 1}, "split.test.fraction: found 1; needed less than 1"),
        (("split", "gap"), "PT0S", None),
        (("split", "gap"), "-PT1S", "split.gap: found -1 day, 23:59:59; needed a length of time of 0 or more"),
        (("evaluation",), {"cutoffs": []}, "evaluation.cutoffs: found []; needed one or more different numbers"),
        (
            ("evaluation",),
            {"cutoffs": [5, 5]},
            "evaluation.cutoffs: found [5, 5]; needed one or more different numbers",
        ),
        (("evaluation",), {"cutoffs": [0]}, "evaluation.cutoffs.0: found 0; needed greater than or equal to 1"),
        (("tolerance",), {"rejected_share": 1}, None),
        (
            ("tolerance",),
            {"rejected_share": -0.1},
            "tolerance.rejected_share: found -0.1; needed greater than or equal to 0",
        ),
        (("bucket",), "week", "bucket: found 'week'; needed 'hour' or 'day'"),
        (("schema",), "rankgate/dataset/v2", "schema: found 'rankgate/dataset/v2'; needed 'rankgate/dataset/v1'"),
        (("schema",), None, "schema: found nothing; needed a value"),
        (("name",), "a" * 63, None),
        (("name",), "a" * 64, "name: found "),
        (("as_of",), "2026-05-10T00:00:00Z", None),
        (("as_of",), "2026-05-10 00:00:00", "as_of: found '2026-05-10 00:00:00'; needed a time with its zone"),
        (("as_of",), "2026-05-10", "as_of: found '2026-05-10'; needed a time with its zone"),
        (("as_of",), "soon", "as_of: found 'soon'; needed a time with its zone"),
    ],
)
def test_each_fault_names_key_found_and_needed(way: tuple[str, ...], value: Any, fault: str | None) -> None:
    found = faults(edited(*way, value=value))
    if fault is None:
        assert found == []
    else:
        assert any(fault in line for line in found), found


def test_a_fault_in_one_key_does_not_bring_others_that_follow_from_it() -> None:
    assert len(faults(edited("split", "test", value={"dys": 7}))) == 1
    assert len(faults(edited("events", "impression", "role", value="impresion"))) == 1


def test_unknown_keys_name_the_nearest_of_their_own_place() -> None:
    value = edited("tables", "users", "pth", value="x")
    value["attributes"]["users"]["country"]["rol"] = "segment"
    value["events"]["gain"] = {"gian": 1}
    assert faults(value) == [
        "tables.users.pth: found an unknown key; needed a key of the contract. Did you mean 'path'?",
        "events.gain.gian: found an unknown key; needed a key of the contract. Did you mean 'gain'?",
        "attributes.users.country.rol: found an unknown key; needed a key of the contract. Did you mean 'role'?",
    ]


def test_repeated_keys_are_refused_wherever_they_stand() -> None:
    assert faults(SMALL.replace("click: {gain: 1}", "click: {gain: 1, gain: 2}")) == [
        "line 8, gain: found the key a second time (first in line 8); needed each key once."
    ]


def test_a_merged_mapping_may_be_overridden() -> None:
    text = SMALL.replace("{role: impression}", "&seen {role: impression}").replace(
        "{gain: 1}", "{<<: *seen, role: outcome}"
    )
    assert parse_contract(text, subject="c").events["click"].role == "outcome"


def test_yes_no_and_on_are_words_and_dates_are_text() -> None:
    text = (
        SMALL
        + "consent: {column: agreed, table: events, values: [yes, true, 1, on]}\nas_of: 2026-05-10T02:00:00+02:00\n"
    )
    contract = parse_contract(text.replace("click:", "no:"), subject="c")
    assert contract.consent is not None
    assert contract.consent.values == ("yes", "true", "1", "on")
    assert contract.as_of == datetime(2026, 5, 10, tzinfo=UTC)
    assert "no" in contract.events


def test_a_key_that_is_no_text_asks_for_quotes() -> None:
    assert faults(SMALL.replace("click:", "7:")) == [
        "events.7: found a key that YAML reads as int; needed a key that is text; put it in quotes."
    ]
    assert any(line.startswith("3: found 3; needed a key that is text") for line in faults(SMALL + "3: x\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "c: found nothing; needed a mapping that begins with schema: rankgate/dataset/v1."),
        ("- a\n", "c: found a list; needed a mapping"),
        ("a: [1\nb: 2\n", "c, line 2: not readable as YAML ("),
        ("a: 1\n---\nb: 2\n", "c, line 2: not readable as YAML ("),
        ("? [a]\n: b\n", "c, line 1: not readable as YAML (found unhashable key)"),
        ("a: &a [*a]\n", "needed"),
        (
            "a: !!python/object/apply:os.system [echo]\n",
            "c, line 1: not readable as YAML (could not determine a constructor",
        ),
        ("[" * 5000, "c, line 1: not readable as YAML (nested too deeply)"),
        ("- " * 5000, "c, line 1: not readable as YAML (nested too deeply)"),
        ("a: \x00\n", "not readable as YAML ("),
    ],
)
def test_what_is_no_yaml_mapping_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_contract(text, subject="c")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda _: None, "No such file or directory"),
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "not UTF-8 text"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, write: Callable[[Path], Any], reason: str) -> None:
    path = tmp_path / "dataset.yaml"
    write(path)
    with pytest.raises(InputError, match=r"needed a YAML file as docs/dataset-contract\.md shows") as caught:
        load_contract(path)
    assert str(path) in str(caught.value)
    assert reason in str(caught.value)


def test_a_file_is_read_as_its_text_is(tmp_path: Path) -> None:
    path = tmp_path / "dataset.yaml"
    path.write_text(SMALL)
    assert load_contract(path) == parse_contract(SMALL, subject="c")


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["24h", "users"])
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def _ways(value: Any, way: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(value, dict):
        return [way]
    return [*([way] if way else []), *(found for key, inner in value.items() for found in _ways(inner, (*way, key)))]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(way=st.sampled_from(_ways(FULL)), value=anything)
def test_whatever_stands_at_a_key_is_taken_or_refused_as_input(way: tuple[str, ...], value: Any) -> None:
    with suppress(InputError):
        parse_contract(yaml.safe_dump(edited(*way, value=value), allow_unicode=True), subject="c")
