from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.artifacts.digests import digest_tree
from components.errors import FaultyInputError, InputError
from components.events.declaration import load_contract
from components.events.importers.online_retail import import_online_retail


def line(**changes: Any) -> dict[str, Any]:
    return {
        "invoice": "536365",
        "item_id": "85123A",
        "description": "WHITE HANGING HEART T-LIGHT HOLDER",
        "quantity": 6,
        "ts": datetime(2010, 12, 1, 8, 26, tzinfo=UTC),
        "unit_price": 2.55,
        "user_id": 17850,
        "country": "United Kingdom",
        "cancelled": False,
    } | changes


def imported(tmp_path: Path, lines: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    raw, out = tmp_path / "raw.parquet", tmp_path / "out"
    out.mkdir()
    pq.write_table(pa.Table.from_pylist(lines), raw)
    import_online_retail(raw, out=out)
    return {name: pq.read_table(out / f"{name}.parquet").to_pylist() for name in ("events", "users", "items")}


def test_every_line_stays_and_tells_the_first_reason_against_it(tmp_path: Path) -> None:
    events = imported(
        tmp_path,
        [
            line(),
            line(user_id=None, cancelled=True),
            line(invoice="C536365", cancelled=True, quantity=-6),
            line(quantity=0),
            line(quantity=None),
            line(unit_price=0.0),
            line(unit_price=float("nan")),
            line(unit_price=0.001),
        ],
    )["events"]
    assert [row["reject_reason"] for row in events] == [
        None,
        "no customer",
        "cancelled",
        "quantity not positive",
        "quantity not positive",
        "price not positive",
        "price not positive",
        None,
    ]
    assert events[0]["value"] == pytest.approx(15.30)


def test_equal_lines_of_an_invoice_are_told_apart_by_their_number(tmp_path: Path) -> None:
    events = imported(tmp_path, [line(), line(invoice="536366"), line(), line(invoice="536366"), line()])["events"]
    assert [(row["invoice"], row["line"]) for row in events] == [
        ("536365", 1),
        ("536366", 1),
        ("536365", 2),
        ("536366", 2),
        ("536365", 3),
    ]


def test_users_and_items_are_those_of_clean_lines_as_first_seen(tmp_path: Path) -> None:
    later = datetime(2011, 6, 1, tzinfo=UTC)
    tables = imported(
        tmp_path,
        [
            line(ts=later, unit_price=9.99, country="Spain", description="HEART T-LIGHT HOLDER, NEW"),
            line(unit_price=0.0, description="LOST", ts=datetime(2010, 12, 1, tzinfo=UTC)),
            line(),
            line(user_id=12350, country="Norway", item_id="22423", description=" REGENCY CAKESTAND 3 TIER "),
            line(user_id=99999, quantity=-1, item_id="D"),
        ],
    )
    assert tables["users"] == [
        {"user_id": 12350, "country": "Norway", "region": "other"},
        {"user_id": 17850, "country": "United Kingdom", "region": "UK"},
    ]
    assert tables["items"] == [
        {"item_id": "22423", "category": "kitchen", "price": 2.55, "description": "REGENCY CAKESTAND 3 TIER"},
        {
            "item_id": "85123A",
            "category": "candle holder",
            "price": 2.55,
            "description": "WHITE HANGING HEART T-LIGHT HOLDER",
        },
    ]


def test_contract_is_valid(tmp_path: Path) -> None:
    imported(tmp_path, [line()])
    contract = load_contract(tmp_path / "out" / "dataset.yaml")
    assert contract.requests.mode == "sampled"
    assert contract.split.test.fraction == 0.1
    assert contract.split.test.days is None
    assert contract.evaluation.exclude_seen
    assert contract.evaluation.cutoffs == (5, 10, 20)
    assert contract.as_of == datetime(2011, 12, 10, tzinfo=UTC)


def test_all_faults_of_the_file_come_at_once(tmp_path: Path) -> None:
    raw = tmp_path / "raw.parquet"
    row = line(quantity="six")
    del row["country"], row["cancelled"]
    pq.write_table(pa.Table.from_pylist([row]), raw)
    (tmp_path / "out").mkdir()
    with pytest.raises(FaultyInputError) as caught:
        import_online_retail(raw, out=tmp_path / "out")
    assert caught.value.exit_code == 2
    assert [fault.where for fault in caught.value.faults] == ["column country", "column cancelled", "column quantity"]
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("content", [None, b"InvoiceNo,StockCode\n", b""])
def test_a_file_that_is_absent_or_no_parquet_is_refused(tmp_path: Path, content: bytes | None) -> None:
    raw = tmp_path / "raw.parquet"
    if content is not None:
        raw.write_bytes(content)
    with pytest.raises(InputError, match="needed the Online Retail lines"):
        import_online_retail(raw, out=tmp_path)


def test_a_file_without_lines_is_refused(tmp_path: Path) -> None:
    raw = tmp_path / "raw.parquet"
    pq.write_table(pa.Table.from_pylist([line()]).slice(0, 0), raw)
    with pytest.raises(FaultyInputError, match="no rows"):
        import_online_retail(raw, out=tmp_path)


@pytest.fixture(scope="module")
def real(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("online-retail")
    import_online_retail(shared_data / "online_retail" / "raw.parquet", out=out)
    return out


def test_real_file_has_the_published_clean_purchases_and_keeps_the_rest_with_reasons(real: Path) -> None:
    events = pq.read_table(real / "events.parquet").to_pandas()
    clean = events[events.reject_reason.isna()]
    assert len(events) == 541_909
    assert len(clean) == 397_884
    assert clean.user_id.nunique() == 4_338 == pq.read_metadata(real / "users.parquet").num_rows
    assert clean.item_id.nunique() == 3_665 == pq.read_metadata(real / "items.parquet").num_rows
    assert clean.invoice.nunique() == 18_532
    assert clean.value.sum() == pytest.approx(8_911_407.90, abs=0.01)
    assert events.reject_reason.value_counts().to_dict() == {
        "no customer": 135_080,
        "cancelled": 8_905,
        "price not positive": 40,
    }
    assert not events.duplicated().any()


def test_real_file_imports_to_the_same_bytes_twice(real: Path, shared_data: Path, tmp_path: Path) -> None:
    import_online_retail(shared_data / "online_retail" / "raw.parquet", out=tmp_path)
    assert digest_tree(tmp_path) == digest_tree(real)


def test_categories_of_the_real_shop_are_neither_rare_nor_a_catch_all(real: Path) -> None:
    categories = pq.read_table(real / "items.parquet").to_pandas().category.value_counts(normalize=True)
    assert len(categories) > 40
    assert categories["other"] < 0.10
    assert categories.max() < 0.10
