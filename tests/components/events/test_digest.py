"""A snapshot's digest names its content: not the order, the files or the format of the rows, and every value of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.artifacts.documents import load
from components.events.canonical import BLOCK_ROWS, blocks, digest_rows
from components.events.contract import DatasetContract, Snapshot

AS_OF = datetime(2026, 3, 10, tzinfo=UTC)
FILES = ("events.parquet", "users.parquet", "items.parquet")
MORE = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

# Text that CSV and Parquet both hold: CSV knows no difference between empty and missing, and no bare line ends.
_LETTERS = st.characters(codec="utf-8", categories=("L", "N", "P", "S"))
ids = st.one_of(
    st.sampled_from(["007", "7", "u'1", 'say "hi"', "a,b", "é", "e\u0301", "-0"]),
    st.text(_LETTERS, min_size=1, max_size=8),
)
moments = st.datetimes(datetime(2026, 1, 1), datetime(2026, 3, 9)).map(lambda at: at.replace(tzinfo=UTC))  # noqa: DTZ001
events = st.fixed_dictionaries(
    {
        "user_id": ids,
        "item_id": ids,
        "ts": moments,
        "event": st.sampled_from(["impression", "click"]),
        "request_id": st.none() | ids,
        "position": st.none() | st.integers(-1, 40),
        "value": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "ingested_at": st.none() | moments,
        "device": st.none() | st.sampled_from(["web", "app"]),
    }
)


def content(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in FILES]


@MORE
@given(extra=st.lists(events, max_size=30), seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, 40), max_size=3))
def test_order_files_and_format_of_the_rows_do_not_count(
    new_shop: Callable[[], Any], extra: list[dict[str, Any]], seed: int, cuts: list[int]
) -> None:
    shop = new_shop()
    shop.contract["tolerance"] = {"rejected_share": 1}
    shop.events += deepcopy(extra)
    one, whole = shop.take()
    shuffle = random.Random(seed)
    for rows in (shop.events, shop.users, shop.items):
        shuffle.shuffle(rows)
    for form in ("parquet", "csv"):
        other, split = shop.take(form=form, cuts=[cut for cut in cuts if cut < len(shop.events)])
        assert other.digest == one.digest
        assert content(split) == content(whole)
        assert [(count.kept, count.rejected) for count in other.tables] == [
            (count.kept, count.rejected) for count in one.tables
        ]


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("events", "user_id", "u9"),
        ("events", "item_id", "i9"),
        ("events", "ts", AS_OF - timedelta(days=9)),
        ("events", "event", "click"),
        ("events", "position", 7),
        ("events", "value", 0.0),
        ("events", "ingested_at", AS_OF),
        ("events", "device", "app"),
        ("events", "device", None),
        ("users", "country", "FR"),
        ("users", "country", None),
        ("items", "category", "games"),
        ("items", "price", 2.5000000000000004),
        ("items", "launched", AS_OF),
    ],
)
def test_one_changed_value_changes_the_digest(shop: Any, table: str, column: str, value: Any) -> None:
    before, _ = shop.take()
    for row in shop.events:  # a request of its own, so that it spans no other user
        row["request_id"] = "r0" if row is shop.events[0] else row["request_id"] + "-"
    middle, _ = shop.take()
    getattr(shop, table)[0][column] = value
    after, _ = shop.take()
    assert all(count.rejected == {} for count in after.tables)
    assert len({before.digest, middle.digest, after.digest}) == 3


def test_one_row_more_changes_the_digest(shop: Any) -> None:
    before, _ = shop.take()
    shop.users.append({"user_id": "u7", "country": "DE"})
    assert shop.take()[0].digest != before.digest


def test_rows_that_are_rejected_do_not_count(shop: Any) -> None:
    before, _ = shop.take()
    shop.events.append({**shop.events[0], "user_id": None})
    shop.events.append(dict(shop.events[0]))
    after, _ = shop.take()
    assert after.digest == before.digest
    assert after.tables[0].rejected == {"user_id missing": 1, "duplicate row": 1}


def test_names_of_columns_paths_owner_and_description_are_not_meaning(shop: Any) -> None:
    before, _ = shop.take()
    shop.contract["tables"]["events"]["columns"] = {"ts": "happened_at", "device": "Device Kind"}
    for row in shop.events:
        row["happened_at"], row["Device Kind"] = row.pop("ts"), row.pop("device")
    shop.types = {"happened_at": pa.timestamp("us", tz="UTC")}
    shop.contract |= {"owner": "someone else", "description": "other words"}
    after, _ = shop.take()
    assert after.digest == before.digest


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bucket", "day"),
        ("retention", "365d"),
        ("freshness", None),
        ("split", {"test": {"days": 3}}),
        ("requests", {"mode": "logged", "attribution": "1h"}),
        ("evaluation", {"cutoffs": [3]}),
        ("name", "other-shop"),
    ],
)
def test_what_the_contract_means_counts(shop: Any, key: str, value: Any) -> None:
    before, _ = shop.take()
    shop.contract[key] = value
    assert shop.take()[0].digest != before.digest


def test_the_same_length_of_time_in_other_words_means_the_same(shop: Any) -> None:
    shop.contract["retention"] = "30d"
    before, _ = shop.take()
    shop.contract["retention"] = "P30D"
    assert shop.take()[0].digest == before.digest


def test_minus_zero_is_zero(shop: Any) -> None:
    taken = []
    for zero in (0.0, -0.0):
        shop.events[0]["value"] = shop.items[0]["price"] = zero
        snapshot, out = shop.take()
        taken.append((snapshot.digest, content(out)))
    assert taken[0] == taken[1]


def test_integer_ids_are_kept_as_decimal_text_whatever_held_them(shop: Any, new_shop: Any) -> None:
    taken = []
    for form, kind in (("parquet", pa.int64()), ("parquet", pa.uint16()), ("csv", None)):
        other = new_shop()
        for row in [*other.events, *other.users, *other.items]:
            for key in ("user_id", "item_id"):
                if key in row:
                    row[key] = int(row[key][1:])
        other.types = {"user_id": kind, "item_id": kind} if kind else {}
        taken.append(other.take(form=form))
    assert len({snapshot.digest for snapshot, _ in taken}) == 1
    assert all(snapshot.id_types == {"user_id": "integer", "item_id": "integer"} for snapshot, _ in taken)
    assert pq.read_table(taken[0][1] / "users.parquet")["user_id"].to_pylist() == ["0", "1", "2"]


def test_leading_zeros_of_csv_ids_survive(shop: Any) -> None:
    for row in [*shop.events, *shop.users]:
        row["user_id"] = {"u0": "007", "u1": "7", "u2": "0"}[row["user_id"]]
    snapshot, out = shop.take(form="csv")
    assert pq.read_table(out / "users.parquet")["user_id"].to_pylist() == ["0", "007", "7"]
    assert snapshot.id_types == {"user_id": "string", "item_id": "string"}
    assert snapshot.unjoined == {"users": 0, "items": 0}


def test_events_lie_in_one_total_order(shop: Any) -> None:
    random.Random(4).shuffle(shop.events)
    rows = pq.read_table(shop.take()[1] / "events.parquet").to_pylist()
    order = ["ts", "user_id", "item_id", "event", "request_id", "position", "value", "ingested_at", "device"]
    assert list(rows[0]) == order

    def key(row: dict[str, Any]) -> list[Any]:
        # Text by its UTF-8 bytes, null last: told apart from DuckDB's own sorting.
        return [(value is None, value.encode() if isinstance(value, str) else value or 0) for value in row.values()]

    assert rows == sorted(rows, key=key)


def test_a_snapshot_says_nothing_of_the_machine_it_was_taken_on(shop: Any, tmp_path: Path) -> None:
    shop.contract["tables"]["users"]["path"] = str(shop.write() / "users.parquet")
    _, out = shop.take()
    for path in out.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), path.name


def test_a_snapshot_reads_back_as_it_was_returned(shop: Any) -> None:
    snapshot, out = shop.take(cuts=[5])
    assert load(Snapshot, out / "snapshot.json") == snapshot
    contract = load(DatasetContract, out / "contract.json")
    assert contract.tables.events.path == ("events-0.parquet", "events-1.parquet")
    assert sorted(path.name for path in out.iterdir()) == [
        "contract.json",
        "events.parquet",
        "items.parquet",
        "quarantine.parquet",
        "snapshot.json",
        "users.parquet",
    ]
    assert set(snapshot.sources) == {
        "events: events-0.parquet",
        "events: events-1.parquet",
        "users: users.parquet",
        "items: items.parquet",
    }


def test_taking_a_snapshot_twice_gives_the_same_bytes(shop: Any) -> None:
    base = shop.write()
    first = {path.name: path.read_bytes() for path in shop.take(base=base)[1].iterdir()}
    (base / "snapshot").rename(base.parent / "before")
    second = {path.name: path.read_bytes() for path in shop.take(base=base)[1].iterdir()}
    assert first == second


# The digest of rows, apart from any snapshot.

SCHEMA = pa.schema([("t", pa.string()), ("n", pa.int32()), ("x", pa.float64()), ("at", pa.timestamp("us", tz="UTC"))])
values = st.fixed_dictionaries(
    {
        "t": st.none() | st.text(st.characters(codec="utf-8"), max_size=6),
        "n": st.none() | st.integers(-(2**31), 2**31 - 1),
        "x": st.none() | st.floats(allow_nan=False),
        "at": st.none() | moments,
    }
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(rows=st.lists(values, max_size=12), size=st.integers(1, 5), other=st.lists(values, max_size=12))
def test_how_rows_are_split_into_batches_does_not_count_and_what_they_hold_does(
    rows: list[dict[str, Any]], size: int, other: list[dict[str, Any]]
) -> None:
    table = pa.Table.from_pylist(rows, SCHEMA)
    whole = digest_rows(table.to_batches(), SCHEMA)
    assert digest_rows(table.to_batches(max_chunksize=size), SCHEMA) == whole
    # Sliced arrays share their parents' buffers; bytes outside the slice must not be read.
    padded = pa.concat_tables([pa.Table.from_pylist(other, SCHEMA), table]).combine_chunks().slice(len(other))
    assert digest_rows(padded.to_batches(), SCHEMA) == whole
    if other != rows:
        different = digest_rows(pa.Table.from_pylist(other, SCHEMA).to_batches(), SCHEMA)
        assert (different == whole) == pa.Table.from_pylist(other, SCHEMA).equals(table)


def test_null_differs_from_empty_and_zero_and_text_from_text_beside_it() -> None:
    def digest(*values: Any) -> str:
        return digest_rows(pa.table({"a": pa.array(values)}).to_batches(), pa.schema([("a", pa.array(values).type)]))

    assert digest("", "a") != digest(None, "a")
    assert digest(0, 1) != digest(None, 1)
    assert digest("ab", "c") != digest("a", "bc")
    assert digest(0, 1) != digest(0.0, 1.0)


def test_blocks_have_exactly_the_asked_size_but_for_the_last() -> None:
    table = pa.table({"a": pa.array(np.arange(BLOCK_ROWS * 2 + 1))})
    sizes = [block.num_rows for block in blocks(table.to_batches(max_chunksize=999), table.schema)]
    assert sizes == [BLOCK_ROWS, BLOCK_ROWS, 1]
