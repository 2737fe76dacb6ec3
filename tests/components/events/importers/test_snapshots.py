"""What the importers write and the shop generates, taken through the events room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from components.events.contract import Snapshot, TableCount
from components.events.declaration import load_contract
from components.events.importers.movielens import import_movielens
from components.events.importers.online_retail import import_online_retail
from components.events.shop import generate_shop
from components.events.snapshot import take_snapshot

Taken = tuple[Snapshot, Path]


def taken(folder: Path, write: Callable[[Path], Path]) -> Taken:
    """Write a data set below `folder`, and take its snapshot as of the moment its contract names."""
    data, out = folder / "data", folder / "snapshot"
    data.mkdir()
    out.mkdir()
    contract = load_contract(write(data))
    assert contract.as_of is not None
    return take_snapshot(contract, base=data, as_of=contract.as_of, out=out), out


def count_of(snapshot: Snapshot, table: str) -> TableCount:
    return next(count for count in snapshot.tables if count.table == table)


@pytest.fixture(scope="module")
def online_retail(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Taken:
    raw = shared_data / "online_retail" / "raw.parquet"
    return taken(tmp_path_factory.mktemp("online-retail"), lambda out: import_online_retail(raw, out=out))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Taken:
    return taken(tmp_path_factory.mktemp("shop"), lambda out: generate_shop(out, seed=11, scale=0.1))


def test_snapshot_of_online_retail_holds_exactly_the_published_clean_purchases(online_retail: Taken) -> None:
    snapshot, out = online_retail
    events = pq.read_table(out / "events.parquet")
    assert snapshot.event_counts == {"purchase": 397_884}
    assert events.num_rows == 397_884
    assert (snapshot.users, snapshot.items) == (4_338, 3_665)
    assert pc.count_distinct(events["user_id"]).as_py() == 4_338
    assert pc.count_distinct(events["item_id"]).as_py() == 3_665
    assert pc.count_distinct(events["request_id"]).as_py() == 18_532
    assert pc.sum(events["value"]).as_py() == pytest.approx(8_911_407.90, abs=0.01)


def test_the_rest_of_online_retail_is_in_quarantine_with_its_reasons(online_retail: Taken) -> None:
    snapshot, out = online_retail
    count = count_of(snapshot, "events")
    assert count.read == 541_909
    assert count.rejected == {"no customer": 135_080, "cancelled": 8_905, "price not positive": 40}
    assert count.excluded == {}
    reasons = pq.read_table(out / "quarantine.parquet", columns=["reason"])["reason"]
    assert {row["values"]: row["counts"] for row in reasons.value_counts().to_pylist()} == count.rejected


def test_a_tenth_of_online_retail_is_held_out_as_the_reference_does(online_retail: Taken) -> None:
    """Rows are kept in the order the reference sorts by, so that its 358 096 training rows are the first nine tenths."""
    rows = pq.read_table(online_retail[1] / "events.parquet", columns=["ts", "user_id", "item_id"])
    last, first = rows.slice(358_095, 2).to_pylist()
    assert (last["user_id"], last["item_id"]) == ("12462", "21231")
    assert (first["user_id"], first["item_id"]) == ("12462", "21232")


def test_snapshot_of_movielens_keeps_low_ratings_apart(tmp_path: Path) -> None:
    folder = tmp_path / "ml"
    folder.mkdir()
    (folder / "ratings.dat").write_text("1::10::5::978300760\n1::11::3::978302109\n2::11::4::978303109\n")
    (folder / "users.dat").write_text("1::F::1::10::48067\n2::M::25::6::11106\n")
    (folder / "movies.dat").write_text("10::Alpha (1990)::Drama\n11::Beta (1991)::Comedy\n")
    snapshot, out = taken(tmp_path, lambda data: import_movielens(folder, out=data))
    assert snapshot.event_counts == {"rating": 2}
    assert count_of(snapshot, "events").rejected == {}
    assert sum(count_of(snapshot, "events").excluded.values()) == 1
    users = pq.read_table(out / "users.parquet").to_pylist()
    assert [(row["user_id"], row["gender"], row["age"]) for row in users] == [
        ("1", "F", "under 18"),
        ("2", "M", "25-34"),
    ]


def test_dirt_of_the_shop_is_rejected_and_those_who_refuse_leave_no_row(shop: Taken) -> None:
    snapshot, out = shop
    count = count_of(snapshot, "events")
    assert set(count.rejected) == {
        "user_id missing",
        "item_id missing",
        "ts missing",
        "event unknown",
        "ts in the future",
        "position not 1 or more",
        "duplicate row",
    }
    assert sum(count.rejected.values()) / count.read < 0.02
    assert count.kept == sum(snapshot.event_counts.values()) == pq.read_metadata(out / "events.parquet").num_rows
    assert count.kept + sum(count.rejected.values()) + sum(count.excluded.values()) == count.read
    assert set(count.excluded) == {"no consent"}
    refused = pq.read_table(out.parent / "data" / "users.parquet").filter(pc.field("consent") == "refused")["user_id"]
    for table in ("events", "users"):
        kept = pq.read_table(out / f"{table}.parquet", columns=["user_id"])["user_id"]
        assert not pc.any(pc.is_in(kept, value_set=refused.combine_chunks())).as_py()


def test_delisted_items_of_the_shop_stay_with_unknown_attributes(shop: Taken) -> None:
    items = pq.read_table(shop[1] / "items.parquet")
    unknown = items.filter(pc.is_null(items["category"]))
    assert 0 < unknown.num_rows < 0.05 * items.num_rows
    assert unknown["price"].null_count == unknown["launched_at"].null_count == unknown.num_rows
