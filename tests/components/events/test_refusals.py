"""Tables that no snapshot can be taken of: one paragraph that says what was found, what was needed and what to do next."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.errors import FaultyInputError, InputError
from components.events.declaration import parse_contract
from components.events.snapshot import take_snapshot

AS_OF = datetime(2026, 3, 10, tzinfo=UTC)


def refused(shop: Any, *, base: Path | None = None, **options: Any) -> str:
    """The message of the refusal; it must cost exit code 2 and leave no snapshot that reads as whole."""
    base = base or shop.write()
    with pytest.raises(InputError) as caught:
        shop.take(base=base, **options)
    assert caught.value.exit_code == 2
    assert not (base / "snapshot" / "snapshot.json").exists()
    return str(caught.value)


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_missing_columns_are_all_named_with_the_nearest_that_is_there(shop: Any, form: str) -> None:
    for row in shop.events:
        row["userid"] = row.pop("user_id")
        del row["request_id"]
    for row in shop.items:
        del row["category"]
    with pytest.raises(FaultyInputError) as caught:
        shop.take(form=form)
    message = str(caught.value)
    assert "tables of small-shop: 3 faults" in message
    assert "events.user_id: found no such column; needed a column for user_id." in message
    assert "Did you mean 'userid'?" in message
    assert "events.request_id: found no such column; needed a column for request_id." in message
    assert "items.category: found no such column; needed a column for category." in message


def test_a_renamed_column_that_is_missing_is_named_as_the_team_calls_it(shop: Any) -> None:
    shop.contract["tables"]["events"]["columns"] = {"ts": "happened_at", "position": "rank"}
    message = refused(shop)
    assert "events.happened_at: found no such column; needed a column for ts." in message
    assert "events.rank: found no such column; needed a column for position." in message


@pytest.mark.parametrize("column", ["position", "value", "ingested_at", "request_id"])
def test_an_optional_column_may_be_missing_only_while_nothing_needs_it(shop: Any, column: str) -> None:
    for row in shop.events:
        del row[column]
    shop.contract["requests"]["mode"] = "sampled"
    del shop.contract["events"]["rating"]
    assert shop.counts().kept == 24
    shop.contract["requests"]["mode"] = "logged"
    shop.contract["events"]["rating"] = {"per_value": True}
    if column in ("value", "request_id"):
        assert f"events.{column}: found no such column" in refused(shop)
    else:
        assert shop.counts().kept == 24


@pytest.mark.parametrize(
    ("table", "column", "kind", "values", "needed"),
    [
        ("events", "ts", pa.float64(), 1.5, "timestamps, ISO 8601 text, or whole seconds"),
        ("events", "ts", pa.bool_(), True, "timestamps"),
        ("events", "user_id", pa.float64(), 1.0, "text or whole numbers"),
        ("events", "item_id", pa.list_(pa.string()), ["i1"], "text or whole numbers"),
        ("events", "position", pa.timestamp("us"), datetime(2026, 3, 1), "whole numbers"),  # noqa: DTZ001
        ("events", "value", pa.bool_(), True, "numbers"),
        ("items", "price", pa.date32(), datetime(2026, 3, 1, tzinfo=UTC).date(), "numbers"),
        (
            "users",
            "country",
            pa.struct([("code", pa.string())]),
            {"code": "DE"},
            "text, numbers, truth values or times",
        ),
    ],
)
def test_a_column_of_the_wrong_type_is_named_with_its_type(
    shop: Any, table: str, column: str, kind: pa.DataType, values: Any, needed: str
) -> None:
    base = shop.write()
    path = base / f"{'events-0' if table == 'events' else table}.parquet"
    held = pq.read_table(path)
    spoilt = pa.array([values] * held.num_rows, kind)
    pq.write_table(held.set_column(held.column_names.index(column), column, spoilt), path)
    message = refused(shop, base=base)
    assert f"{table}.{column}: found type " in message
    assert needed in message
    assert "Write the column as that, or map another one." in message


@pytest.mark.parametrize("table", ["events", "users", "items"])
@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_a_table_without_rows_is_refused(shop: Any, table: str, form: str) -> None:
    base = shop.write(form=form)
    name = "events-0" if table == "events" else table
    if form == "csv":
        path = base / f"{name}.csv"
        path.write_text(path.read_text().splitlines()[0] + "\n")
    else:
        path = base / f"{name}.parquet"
        pq.write_table(pq.read_table(path).slice(0, 0), path)
    with pytest.raises(FaultyInputError, match=f"{table}: found no rows; needed at least one. Check the paths"):
        shop.take(form=form, base=base)


def test_future_timestamps_beyond_tolerance_are_counted_in_the_refusal(shop: Any) -> None:
    message = refused(shop, as_of=AS_OF - timedelta(days=30))
    assert "events: found 24 of 24 rows faulty, 100.00% (ts in the future: 24); needed at most 50.00%." in message
    assert "raise tolerance.rejected_share" in message


def test_duplicate_request_rows_beyond_tolerance_are_counted_in_the_refusal(shop: Any) -> None:
    shop.contract["tolerance"] = {"rejected_share": 0.05}
    shop.events += [
        {**row, "ts": row["ts"] + timedelta(seconds=1)} for row in shop.events if row["event"] == "impression"
    ]
    assert "18 of 42 rows faulty, 42.86% (duplicate request row: 18); needed at most 5.00%" in refused(shop)


def test_an_unknown_event_name_beyond_tolerance_is_counted_in_the_refusal(shop: Any) -> None:
    shop.contract["events"]["view"] = shop.contract["events"].pop("impression")
    assert "18 of 24 rows faulty, 75.00% (event unknown: 18)" in refused(shop)


def test_every_table_beyond_tolerance_is_named(shop: Any) -> None:
    shop.contract["tolerance"] = {"rejected_share": 0.01}
    shop.events[0]["position"] = 0
    shop.users.append(dict(shop.users[0]))
    shop.items.append({**shop.items[0], "item_id": None})
    message = refused(shop)
    assert "3 faults" in message
    assert all(f"{table}: found 1 of " in message for table in ("events", "users", "items"))


@pytest.mark.parametrize("name", ["events-0.parquet", "users.parquet"])
@pytest.mark.parametrize("content", [b"", b"PAR1 is not enough PAR1", b"user_id,item_id\n1,2\n"])
def test_unreadable_parquet_is_named(shop: Any, name: str, content: bytes) -> None:
    base = shop.write()
    (base / name).write_bytes(content)
    message = refused(shop, base=base)
    assert message.startswith(f"{name}: cannot be read (")
    assert "needed Parquet. Write the file again, or name its format in the contract." in message
    assert str(base) not in message


def test_parquet_damaged_beyond_its_first_rows_is_named(shop: Any) -> None:
    shop.events = [{**row, "value": float(number)} for number, row in enumerate(shop.events * 4000)]
    base = shop.write(cuts=[40_000])
    path = base / "events-1.parquet"
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4000] = b"\xff" * 4000
    path.write_bytes(content)
    assert refused(shop, base=base).startswith("events-1.parquet: cannot be read (")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda text: text + "u0,i1\n", "Expected Number of Columns: 9 Found: 2"),
        (lambda text: text + "u0,i1,1,2,3,4,5,6,7,8,9,10\n", "Expected Number of Columns: 9 Found: "),
        (lambda text: text + '"u0,i1\n', "unterminated quote"),
        (lambda text: text.replace("click", "cl\udcffick", 1), "utf-8"),
    ],
)
def test_a_broken_line_of_csv_is_told_by_number_and_without_what_it_holds(shop: Any, spoil: Any, reason: str) -> None:
    base = shop.write(form="csv")
    path = base / "events-0.csv"
    path.write_text(spoil(path.read_text()), errors="surrogateescape")
    with pytest.raises(InputError) as caught:
        shop.take(form="csv", base=base)
    message = str(caught.value)
    assert message.startswith("events-0.csv: cannot be read (")
    assert "Line: " in message
    assert reason in message
    assert "u0,i1" not in message
    assert "needed CSV in UTF-8 with a header line" in message


def test_an_empty_csv_and_one_with_a_column_twice_are_refused(shop: Any) -> None:
    base = shop.write(form="csv")
    (base / "users.csv").write_text("")
    with pytest.raises(InputError, match=r"users.csv: found no header line; needed CSV whose first line names"):
        shop.take(form="csv", base=base)
    (base / "users.csv").write_text("user_id,country,Country\nu0,DE,DE\n")
    (base / "snapshot").rmdir()
    with pytest.raises(InputError, match=r"users.csv: found the column country more than once"):
        shop.take(form="csv", base=base)


def test_what_is_no_gzip_is_named(shop: Any) -> None:
    base = shop.write(form="csv")
    (base / "events-0.csv").rename(base / "events-0.csv.gz")
    with pytest.raises(InputError, match=r"events-0.csv.gz: cannot be read .* or gzip of it as .csv.gz"):
        shop.take(form="csv", base=base)


def test_gzip_that_ends_too_early_is_named(shop: Any) -> None:
    base = shop.write(form="csv")
    packed = gzip.compress((base / "events-0.csv").read_bytes())
    (base / "events-0.csv").unlink()
    (base / "events-0.csv.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(InputError, match=r"events-0.csv.gz: cannot be read"):
        shop.take(form="csv", base=base)


def test_a_path_that_names_nothing_says_where_it_looked(shop: Any) -> None:
    shop.contract["tables"]["users"]["path"] = "people/*.parquet"
    message = refused(shop)
    assert "people/*.parquet: found no file at " in message
    assert "Paths are relative to the contract's folder" in message


@pytest.mark.parametrize(("table", "key"), [("users", "user_id"), ("items", "item_id")])
def test_a_table_that_does_not_join_shows_an_id_of_each_side(shop: Any, table: str, key: str) -> None:
    for row in getattr(shop, table):
        row[key] = f"customer-{row[key]}"
    message = refused(shop)
    assert f"{table} of small-shop: found not one {key} of the events in the {table} table" in message
    assert f"events have '{key[0]}0', {table} have 'customer-{key[0]}0'" in message
    assert f"Check tables.{table}.columns.{key}" in message


def test_one_user_is_refused(shop: Any) -> None:
    for row in shop.events:
        row["user_id"] = "u0"
    assert "found one user; needed at least two" in refused(shop)


def test_one_item_is_refused_unless_the_catalogue_has_more(shop: Any) -> None:
    shop.contract["tolerance"] = {"rejected_share": 1}
    for row in shop.events:
        row["item_id"] = "i0"
    assert shop.take()[0].items == 4
    shop.items = shop.items[:1]
    assert "found one item; needed at least two" in refused(shop)


def test_events_of_one_class_are_refused(shop: Any) -> None:
    clicks = [row for row in shop.events if row["event"] == "click"]
    shop.events = [row for row in shop.events if row["event"] == "impression"]
    message = refused(shop)
    assert "found no outcome among the kept events, so that every label would be 0" in message
    assert "Check that the log holds 'click', 'rating'." in message
    shop.events = clicks
    assert "found no impression among the kept events" in refused(shop)


def test_a_log_that_retention_or_consent_empties_is_refused(shop: Any) -> None:
    shop.contract["retention"] = "1h"
    message = refused(shop)
    assert "found no event left after consent, retention and checks" in message
    assert "Check consent.values, retention and as_of" in message


def test_a_log_that_is_all_rejected_is_refused_however_tolerant_the_contract(shop: Any) -> None:
    shop.contract["tolerance"] = {"rejected_share": 1}
    assert "found no event left" in refused(shop, as_of=AS_OF - timedelta(days=30))


def test_a_moment_without_zone_is_refused(shop: Any) -> None:
    assert "as_of: found 2026-03-10T00:00:00 without a zone" in refused(shop, as_of=AS_OF.replace(tzinfo=None))


def test_an_old_log_is_no_error_here(shop: Any) -> None:
    snapshot, _ = shop.take(as_of=AS_OF + timedelta(days=3650))
    assert snapshot.as_of.startswith("2036-")
    assert snapshot.last_ts.startswith("2026-03-08")


def test_progress_tells_what_is_being_done(shop: Any, tmp_path: Path) -> None:
    told: list[str] = []
    base, out = shop.write(), tmp_path / "out"
    out.mkdir()
    contract = parse_contract(json.dumps(shop.contract).replace('"}', '", "format": "parquet"}', 3), subject="c")
    take_snapshot(contract, base=base, as_of=AS_OF, out=out, progress=told.append)
    assert told == [
        "reading events",
        "reading users",
        "reading items",
        "checking rows",
        "sorting and writing 24 events",
    ]
