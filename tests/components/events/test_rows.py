"""Every reason for which a row is rejected or excluded: just inside, just outside, and missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.errors import FaultyInputError

AS_OF = datetime(2026, 3, 10, tzinfo=UTC)
SECOND = timedelta(seconds=1)
Spoil = Callable[[Any], None]


def change(row: int, **values: Any) -> Spoil:
    """Set values of one event; event 0 is an impression, event 1 its click."""

    def spoil(shop: Any) -> None:
        shop.events[row] = {**shop.events[row], **values}

    return spoil


def test_a_clean_log_is_kept_whole(shop: Any) -> None:
    snapshot, out = shop.take()
    assert [(count.table, count.read, count.kept) for count in snapshot.tables] == [
        ("events", 24, 24),
        ("users", 3, 3),
        ("items", 4, 4),
    ]
    assert all(not count.rejected and not count.excluded for count in snapshot.tables)
    assert snapshot.event_counts == {"click": 6, "impression": 18}
    assert snapshot.unjoined == {"users": 0, "items": 0}
    assert pq.read_metadata(out / "quarantine.parquet").num_rows == 0


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (change(0, user_id=None), "user_id missing"),
        (change(0, user_id="  "), "user_id missing"),
        (change(0, item_id=None), "item_id missing"),
        (change(0, item_id=""), "item_id missing"),
        (change(0, ts=None), "ts missing"),
        (change(0, ts=AS_OF + timedelta(microseconds=1)), "ts in the future"),
        (change(0, ts=datetime(1970, 1, 1, tzinfo=UTC)), "ts not after 1970-01-01"),
        (change(0, event="impresion"), "event unknown"),
        (change(0, event="Impression"), "event unknown"),
        (change(0, event=None), "event unknown"),
        (change(0, position=0), "position not 1 or more"),
        (change(0, position=-1), "position not 1 or more"),
        (change(1, value=float("nan")), "value not finite"),
        (change(1, value=float("inf")), "value not finite"),
        (change(1, event="rating"), "value missing"),
        (change(1, event="rating", value=-0.5), "value negative"),
        (change(0, ingested_at=AS_OF + timedelta(microseconds=1)), "ingested_at in the future"),
        (change(0, request_id=None), "impression without request_id"),
        (change(0, request_id=" "), "impression without request_id"),
    ],
)
def test_a_faulty_row_is_rejected_under_its_reason(shop: Any, spoil: Spoil, reason: str) -> None:
    spoil(shop)
    count = shop.counts()
    assert count.rejected == {reason: 1}
    assert (count.read, count.kept, count.excluded) == (24, 23, {})


@pytest.mark.parametrize(
    "spoil",
    [
        change(0, ts=AS_OF, ingested_at=AS_OF),
        change(0, ts=datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        change(0, position=1),
        change(0, position=2**31 - 1),
        change(0, position=None),
        change(0, value=None),
        change(1, value=-3.5),
        change(1, event="rating", value=0.0),
        change(0, ingested_at=AS_OF),
        change(0, ingested_at=None),
        change(1, request_id=None),
        change(0, device=None),
    ],
)
def test_a_row_at_the_boundary_is_kept(shop: Any, spoil: Spoil) -> None:
    spoil(shop)
    count = shop.counts()
    assert (count.kept, count.rejected, count.excluded) == (24, {}, {})


@pytest.mark.parametrize(
    ("column", "text", "reason"),
    [
        ("ts", "yesterday", "ts unreadable"),
        ("ts", "2026-02-30T00:00:00Z", "ts unreadable"),
        ("ts", "infinity", "ts unreadable"),
        ("ts", "-1700000000", "ts unreadable"),
        ("ts", "9999999999999999999", "ts unreadable"),
        ("ingested_at", "soon", "ingested_at unreadable"),
        ("ingested_at", "infinity", "ingested_at unreadable"),
        ("position", "1.5", "position not 1 or more"),
        ("position", "first", "position not 1 or more"),
        ("position", "2147483648", "position not 1 or more"),
        ("value", "much", "value not finite"),
        ("value", "nan", "value not finite"),
        ("value", "1e999", "value not finite"),
    ],
)
def test_text_that_cannot_be_read_is_rejected_not_taken_for_missing(
    shop: Any, column: str, text: str, reason: str
) -> None:
    change(0, **{column: text})(shop)
    assert shop.counts(form="csv").rejected == {reason: 1}


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-04T19:00:00Z",
        "2026-03-04 19:00:00",
        "2026-03-04T20:00:00+01:00",
        " 2026-03-04T19:00:00.000000Z ",
        "1772650800",
        "1772650800000",
        "1772650800000000",
        "1772650800000000000",
    ],
)
def test_times_are_read_as_iso_or_counted_from_1970_in_utc(shop: Any, text: str) -> None:
    change(0, ts=text)(shop)
    snapshot, out = shop.take(form="csv")
    assert snapshot.tables[0].rejected == {}
    times = pq.read_table(out / "events.parquet", columns=["ts"])["ts"].to_pylist()
    assert times[0] == datetime(2026, 3, 3, 19, tzinfo=UTC)
    assert datetime(2026, 3, 4, 19, tzinfo=UTC) in times


def test_whole_numbers_and_zoneless_timestamps_of_parquet_are_times_too(shop: Any, new_shop: Any) -> None:
    wanted, _ = shop.take()
    for unit, kind in (("s", pa.int64()), ("ms", pa.int64()), ("us", pa.int64()), ("ns", pa.int64())):
        factor = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
        other = new_shop()
        other.types = {"ts": kind}
        other.events = [{**row, "ts": int(row["ts"].timestamp()) * factor} for row in other.events]
        assert other.take()[0].digest == wanted.digest, unit
    for kind in (pa.timestamp("s"), pa.timestamp("ms"), pa.timestamp("ns"), pa.timestamp("ns", tz="UTC")):
        other = new_shop()
        other.types = {"ts": kind}
        other.events = [{**row, "ts": row["ts"].replace(tzinfo=kind.tz and UTC)} for row in other.events]
        assert other.take()[0].digest == wanted.digest, kind


def test_an_arrival_before_the_event_counts_as_at_the_event(shop: Any) -> None:
    early = shop.events[0]["ts"] - timedelta(days=3)
    change(0, ingested_at=early)(shop)
    snapshot, out = shop.take()
    assert snapshot.tables[0].rejected == {}
    rows = pq.read_table(out / "events.parquet").to_pylist()
    assert all(row["ingested_at"] >= row["ts"] for row in rows)
    assert rows[0]["ingested_at"] == rows[0]["ts"]


def test_a_log_without_arrival_times_has_each_row_arrive_as_it_happens(shop: Any) -> None:
    for row in shop.events:
        del row["ingested_at"]
    table = pq.read_table(shop.take()[1] / "events.parquet")
    assert table["ingested_at"].to_pylist() == table["ts"].to_pylist()


def test_exact_duplicates_leave_one_row(shop: Any) -> None:
    shop.events += [dict(shop.events[0]), dict(shop.events[0]), dict(shop.events[1])]
    count = shop.counts()
    assert count.rejected == {"duplicate row": 3}
    assert count.kept == 24


def test_rows_that_differ_in_any_kept_column_are_no_duplicates(shop: Any) -> None:
    shop.events.append({**shop.events[1], "device": "app"})
    shop.events.append({**shop.events[1], "value": 0.0})
    shop.events.append({**shop.events[1], "value": -0.0})
    count = shop.counts()
    assert count.rejected == {"duplicate row": 1}  # 0.0 and -0.0 are one value


def test_an_item_shown_twice_in_a_request_counts_once_as_first_shown(shop: Any) -> None:
    first = shop.events[0]
    shop.events.append({**first, "ts": first["ts"] + SECOND, "position": 9})
    snapshot, out = shop.take()
    assert snapshot.tables[0].rejected == {"duplicate request row": 1}
    rows = pq.read_table(out / "events.parquet").to_pylist()
    kept = [row for row in rows if (row["request_id"], row["item_id"], row["event"]) == ("r0", "i1", "impression")]
    assert [row["position"] for row in kept] == [1]


def test_an_item_clicked_twice_in_a_request_is_two_clicks(shop: Any) -> None:
    shop.events.append({**shop.events[1], "ts": shop.events[1]["ts"] + SECOND})
    assert shop.counts().rejected == {}


@pytest.mark.parametrize("row", [0, 1], ids=["impression", "click"])
def test_a_request_that_spans_users_is_rejected_whole(shop: Any, row: int) -> None:
    rows_of_request = sum(held["request_id"] == "r0" for held in shop.events)
    change(row, user_id="u1")(shop)
    assert shop.counts().rejected == {"request of several users": rows_of_request}


def test_the_first_reason_is_the_one_that_is_told(shop: Any) -> None:
    change(0, user_id=None, item_id=None, ts=None, event="?", position=-1)(shop)
    assert shop.counts().rejected == {"user_id missing": 1}


def test_a_reason_that_the_table_brings_comes_before_ours(shop: Any) -> None:
    for row in shop.events:
        row["reject_reason"] = None
    change(0, user_id=None, reject_reason="cancelled")(shop)
    change(1, reject_reason="")(shop)
    assert shop.counts().rejected == {"cancelled": 1}


def test_quarantine_holds_the_row_as_given_and_where_it_stood(shop: Any) -> None:
    change(5, position=-1, item_id="00'7\"")(shop)
    _, out = shop.take(cuts=[3])
    (row,) = pq.read_table(out / "quarantine.parquet").to_pylist()
    assert (row["table"], row["source"], row["source_row"]) == ("events", "events-1.parquet", 2)
    assert row["reason"] == "position not 1 or more"
    held = json.loads(row["row"])
    assert (held["item_id"], held["position"], held["value"]) == ("00'7\"", "-1", None)
    assert set(held) == set(shop.events[5])


def test_quarantine_is_json_even_of_numbers_that_json_does_not_know(shop: Any) -> None:
    change(0, value=float("nan"))(shop)
    _, out = shop.take()
    (text,) = pq.read_table(out / "quarantine.parquet")["row"].to_pylist()
    assert json.loads(text, parse_constant=pytest.fail)["value"] == "nan"


@pytest.mark.parametrize(
    ("table", "row", "reason"),
    [
        ("users", {"user_id": None, "country": "DE"}, "user_id missing"),
        ("users", {"user_id": "u0", "country": "DE"}, "id repeated"),
        ("users", {"user_id": "u0", "country": "FR"}, "id repeated"),
        ("items", {"item_id": None, "category": "a", "price": 1.0, "launched": AS_OF}, "item_id missing"),
        ("items", {"item_id": "i9", "category": "a", "price": float("nan"), "launched": AS_OF}, "price not a number"),
        ("items", {"item_id": "i9", "category": "a", "price": float("inf"), "launched": AS_OF}, "price not a number"),
        ("items", {"item_id": "i0", "category": "a", "price": 1.0, "launched": AS_OF}, "id repeated"),
    ],
)
def test_a_faulty_row_of_users_or_items_is_rejected(shop: Any, table: str, row: dict[str, Any], reason: str) -> None:
    rows = getattr(shop, table)
    before = len(rows)
    rows.append(row)
    count = shop.counts(table)
    assert count.rejected == {reason: 1}
    assert (count.read, count.kept) == (before + 1, before)


def test_text_in_place_of_a_number_or_time_of_an_item_is_rejected(shop: Any) -> None:
    shop.items.append({"item_id": "i8", "category": "a", "price": "dear", "launched": ""})
    shop.items.append({"item_id": "i9", "category": "a", "price": "", "launched": "soon"})
    assert shop.counts("items", form="csv").rejected == {"price not a number": 1, "launched not a time": 1}


def test_unknown_attributes_are_null_and_no_fault(shop: Any) -> None:
    shop.items.append({"item_id": "i9", "category": None, "price": None, "launched": None})
    snapshot, out = shop.take()
    assert snapshot.tables[2].rejected == {}
    assert pq.read_table(out / "items.parquet").to_pylist()[-1] == {
        "item_id": "i9",
        "category": None,
        "price": None,
        "launched": None,
    }


def test_users_and_items_that_only_events_name_get_a_row_and_are_counted(shop: Any) -> None:
    del shop.users[2], shop.items[0]
    snapshot, out = shop.take()
    assert snapshot.unjoined == {"users": 1, "items": 1}
    assert (snapshot.users, snapshot.items) == (3, 4)
    users = pq.read_table(out / "users.parquet").to_pylist()
    assert users == [
        {"user_id": "u0", "country": "DE"},
        {"user_id": "u1", "country": "DE"},
        {"user_id": "u2", "country": None},
    ]
    assert snapshot.event_counts == {"click": 6, "impression": 18}


def test_events_that_the_contract_ignores_are_excluded_not_rejected(shop: Any) -> None:
    change(1, event="hover")(shop)
    count = shop.counts()
    assert (count.excluded, count.rejected, count.kept) == ({"event ignored": 1}, {}, 23)


def test_retention_keeps_an_event_exactly_as_old_as_it_allows(shop: Any) -> None:
    shop.contract["retention"] = "5d"
    change(0, ts=AS_OF - timedelta(days=5))(shop)
    change(1, ts=AS_OF - timedelta(days=5, microseconds=1))(shop)
    count = shop.counts()
    older = sum(row["ts"] < AS_OF - timedelta(days=5) for row in shop.events)
    assert count.excluded == {"beyond retention": older}
    assert count.kept == 24 - older
    assert older > 1


@pytest.mark.parametrize(("table", "value"), [("users", "no"), ("users", None), ("users", ""), ("events", "no")])
def test_who_does_not_consent_leaves_no_trace(shop: Any, table: str, value: str | None) -> None:
    shop.contract["consent"] = {"column": "agreed", "table": table, "values": ["YES"]}
    for row in getattr(shop, table):
        row["agreed"] = value if row["user_id"] == "u1" else "yes"
    secret = next(number for number, row in enumerate(shop.events) if row["user_id"] == "u1")
    change(secret, ts=None)(shop)  # a faulty row would be kept in quarantine
    snapshot, out = shop.take()
    assert snapshot.tables[0].excluded == {"no consent": 8}
    assert snapshot.tables[0].rejected == {}
    assert "u1" not in str(pq.read_table(out / "quarantine.parquet").to_pylist())
    assert "u1" not in pq.read_table(out / "events.parquet")["user_id"].to_pylist()
    if table == "users":
        assert snapshot.tables[1].excluded == {"no consent": 1}
        assert "u1" not in pq.read_table(out / "users.parquet")["user_id"].to_pylist()


def test_a_user_whom_the_consent_table_does_not_know_has_not_consented(shop: Any) -> None:
    shop.contract["consent"] = {"column": "agreed", "table": "users"}
    del shop.users[1]
    for row in shop.users:
        row["agreed"] = "true"
    assert shop.counts().excluded == {"no consent": 8}


def test_one_refusal_outweighs_every_consent_of_the_same_user(shop: Any) -> None:
    shop.contract["consent"] = {"column": "agreed", "table": "users"}
    for row in shop.users:
        row["agreed"] = "true"
    shop.users.append({"user_id": "u0", "country": "FR", "agreed": "false"})
    snapshot, _ = shop.take()
    assert snapshot.tables[0].excluded == {"no consent": 8}
    assert snapshot.tables[1].excluded == {"no consent": 2}


def test_truth_values_of_parquet_can_be_consent(shop: Any) -> None:
    shop.contract["consent"] = {"column": "agreed", "table": "users", "values": [True]}
    shop.types = {"agreed": pa.bool_()}
    for number, row in enumerate(shop.users):
        row["agreed"] = number > 0
    assert shop.counts().excluded == {"no consent": 8}


@pytest.mark.parametrize(("bound", "passes"), [(3 / 24, True), (0.1249, False), (0.0, False), (1.0, True)])
def test_tolerance_holds_to_the_exact_share(shop: Any, bound: float, passes: bool) -> None:
    shop.contract["tolerance"] = {"rejected_share": bound}
    change(0, position=0)(shop)
    change(2, user_id=None)(shop)
    change(3, position=-4)(shop)
    if passes:
        assert shop.counts().kept == 21
        return
    with pytest.raises(FaultyInputError) as caught:
        shop.take()
    assert caught.value.exit_code == 2
    assert "3 of 24 rows faulty, 12.50% (position not 1 or more: 2, user_id missing: 1)" in str(caught.value)


def test_no_tolerance_is_needed_for_a_clean_log(shop: Any) -> None:
    shop.contract["tolerance"] = {"rejected_share": 0}
    assert shop.counts().kept == 24
