"""Datasets built from small logs: what is in them, and what cannot be."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from components.artifacts.digests import digest_tree
from components.dataset.build import build_dataset
from components.dataset.contract import Dataset
from components.dataset.reading import OpenDataset, open_dataset
from components.errors import InputError

WriteSnapshot = Callable[..., Path]


def _small_logs() -> ModuleType:
    name = "dataset_small_logs"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("small_logs.py"))
        assert spec
        assert spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


small = _small_logs()


def _built(snapshot: Path, out: Path, seed: int = 0) -> tuple[Dataset, OpenDataset]:
    out.mkdir()
    manifest = build_dataset(snapshot, out=out, seed=seed)
    return manifest, open_dataset(out)


@pytest.fixture
def write_snapshot(tmp_path: Path) -> WriteSnapshot:
    writer: WriteSnapshot = small.SnapshotWriter(tmp_path)
    return writer


@pytest.fixture(params=["logged", "sampled"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def built(mode: str, write_snapshot: WriteSnapshot, tmp_path: Path) -> OpenDataset:
    snapshot = write_snapshot(small.small_log(mode=mode), contract=small.contract_text(mode))
    return _built(snapshot, tmp_path / "dataset")[1]


def test_the_same_snapshot_and_seed_give_the_same_bytes(
    mode: str, write_snapshot: WriteSnapshot, tmp_path: Path
) -> None:
    snapshot = write_snapshot(small.small_log(mode=mode), contract=small.contract_text(mode))
    _built(snapshot, tmp_path / "one")
    _built(snapshot, tmp_path / "two")
    assert digest_tree(tmp_path / "one") == digest_tree(tmp_path / "two")


def test_splits_follow_each_other_in_time_and_requests_are_contiguous(built: OpenDataset) -> None:
    table = built.requests
    assert table["request"].to_pylist() == list(range(table.num_rows))
    order = {"train": 0, "validation": 1, "test": 2}
    places = [order[name] for name in table["split"].to_pylist()]
    assert places == sorted(places)
    times = {name: table.filter(pc.equal(table["split"], name))["ts"].cast(pa.int64()).to_numpy() for name in order}
    assert times["train"].max() < times["validation"].min() <= times["validation"].max() < times["test"].min()
    rows = built.rows("train")["request"].to_numpy()
    assert (np.diff(rows) >= 0).all()


def test_recorded_rows_hold_exactly_what_the_lookup_gives(built: OpenDataset) -> None:
    rows = built.rows("train")
    asked = built.requests.take(rows["request"])
    context = {name: asked[name].to_pylist() for name in built.manifest.context}
    matrix = built.features.matrix(
        asked["user"].to_numpy(), rows["item"].to_numpy(), asked["bucket"].to_numpy(), context or None
    )
    for place, name in enumerate(built.features.names):
        np.testing.assert_array_equal(rows[name].to_numpy(), matrix[:, place], err_msg=name)


def test_one_row_alone_is_looked_up_as_it_is_among_others(built: OpenDataset) -> None:
    rows = built.rows("train").slice(0, 40)
    asked = built.requests.take(rows["request"])
    users, items, buckets = asked["user"].to_numpy(), rows["item"].to_numpy(), asked["bucket"].to_numpy()
    whole = built.features.matrix(users, items, buckets, None)
    for row in range(len(users)):
        one = slice(row, row + 1)
        np.testing.assert_array_equal(built.features.matrix(users[one], items[one], buckets[one], None)[0], whole[row])


def test_unknown_users_and_items_have_no_past(built: OpenDataset) -> None:
    found = built.features.matrix(
        np.array([-1, 0], np.int32), np.array([0, -1], np.int32), np.array([built.features.latest_bucket] * 2), None
    )
    by_name = dict(zip(built.features.names, found.T, strict=True))
    assert by_name["user_outcomes_all"][0] == 0
    assert np.isnan(by_name["item_age_days"][1])
    assert by_name["user_plan"][0] == -1
    assert by_name["covisitation_all"].tolist() == [0, 0]


def test_segments_and_sensitive_attributes_are_kept_for_measuring_and_are_no_features(built: OpenDataset) -> None:
    assert built.manifest.segments == ("country",)
    assert built.manifest.sensitive == ("gender",)
    assert built.manifest.intersections == (("country", "gender"),)
    attributes = {feature.attribute for feature in built.manifest.features}
    assert not attributes & {"country", "gender"}
    assert {"country", "gender"} <= set(built.users.column_names)
    assert not any(name in ("country", "gender") for name in built.rows("train").column_names)


def test_negatives_were_available_and_nobody_took_them(write_snapshot: WriteSnapshot, tmp_path: Path) -> None:
    snapshot = write_snapshot(small.small_log(mode="sampled"), contract=small.contract_text("sampled"))
    manifest, data = _built(snapshot, tmp_path / "dataset")
    rows = data.rows("train")
    negative = rows.filter(pc.invert(rows["positive"]))
    asked = data.requests.take(negative["request"])
    history = data.history
    for user, item, cut in zip(
        asked["user"].to_pylist(), negative["item"].to_pylist(), asked["cut"].to_pylist(), strict=True
    ):
        known = history.slice(0, manifest.cuts[cut].history_rows)
        assert item in known["item"].to_pylist()
        assert not pc.any(pc.and_(pc.equal(known["user"], user), pc.equal(known["item"], item))).as_py()
    marks = rows["request"].to_numpy().astype(np.int64) * 1000 + rows["item"].to_numpy()
    assert len(np.unique(marks)) == rows.num_rows


def test_relevance_is_what_users_took_later_and_had_not_taken_before(
    write_snapshot: WriteSnapshot, tmp_path: Path
) -> None:
    snapshot = write_snapshot(small.small_log(mode="sampled"), contract=small.contract_text("sampled"))
    manifest, data = _built(snapshot, tmp_path / "dataset")
    cut = next(cut for cut in manifest.cuts if cut.name == "test")
    history = data.history.to_pylist()
    before = {(row["user"], row["item"]) for row in history[: cut.history_rows]}
    after: dict[tuple[int, int], float] = {}
    for row in history[cut.history_rows :]:
        key = (row["user"], row["item"])
        after[key] = max(after.get(key, 0.0), row["gain"])
    users = data.requests["user"].to_pylist()
    splits = data.requests["split"].to_pylist()
    found = {
        (users[row["request"]], row["item"]): row["gain"]
        for row in data.relevance.to_pylist()
        if splits[row["request"]] == "test"
    }
    assert found == {key: gain for key, gain in after.items() if key not in before}


def test_a_label_is_the_largest_gain_that_followed_within_the_window(
    write_snapshot: WriteSnapshot, tmp_path: Path
) -> None:
    log = small.small_log(mode="logged", late=0.0)
    _, data = _built(write_snapshot(log, contract=small.contract_text("logged")), tmp_path / "dataset")
    events = log.to_pylist()
    gains = {"click": 1.0, "purchase": 3.0}
    expected: dict[tuple[str, str], float] = {}
    shown = {(row["request_id"], row["item_id"]): row["ts"] for row in events if row["event"] == "impression"}
    for row in events:
        at = shown[row["request_id"], row["item_id"]]
        if row["event"] in gains and at <= row["ts"] <= at + timedelta(hours=24):
            key = (row["request_id"], row["item_id"])
            expected[key] = max(expected.get(key, 0.0), gains[row["event"]])
    names, items = data.requests["request_id"].to_pylist(), data.items["item_id"].to_pylist()
    for split in ("train", "validation", "test"):
        for row in data.rows(split).to_pylist():
            assert row["gain"] == expected.get((names[row["request"]], items[row["item"]]), 0.0)
            assert row["position"] >= 1


def test_a_gap_keeps_labels_away_from_the_next_split(write_snapshot: WriteSnapshot, tmp_path: Path) -> None:
    split = {"test": {"days": 4}, "validation": {"days": 3}, "gap": "2d"}
    snapshot = write_snapshot(small.small_log(mode="logged"), contract=small.contract_text("logged", split=split))
    manifest, data = _built(snapshot, tmp_path / "dataset")
    begins = {cut.name: cut.ts for cut in manifest.cuts}
    last = pc.max(data.requests.filter(pc.equal(data.requests["split"], "train"))["ts"]).as_py()
    from datetime import datetime

    assert last + timedelta(hours=24) <= datetime.fromisoformat(begins["validation"]) - timedelta(days=2)


def _without(log: pa.Table, moment: object) -> pa.Table:
    return log.filter(pc.less(log["ingested_at"], pa.scalar(moment, log.schema.field("ingested_at").type)))


def test_dropping_everything_that_arrived_after_a_moment_changes_no_feature_before_it(
    mode: str, write_snapshot: WriteSnapshot, tmp_path: Path
) -> None:
    """The test that a leak cannot pass: the future, and what was late, is taken away."""
    log = small.small_log(mode=mode, days=24)
    whole = _built(write_snapshot(log, contract=small.contract_text(mode)), tmp_path / "whole")[1]
    validation = next(cut for cut in whole.manifest.cuts if cut.name == "validation")
    for hours in (24, 50, 101):
        bucket = validation.bucket - hours
        moment = small.BEGIN.fromtimestamp(bucket * 3600, tz=small.BEGIN.tzinfo)
        cut_log = _without(log, moment)
        short = {"test": {"days": 2}, "validation": {"days": 2}}
        text = small.contract_text(
            mode, split=short, requests={"mode": mode, "horizon": "2d", "cuts": 1, "negatives": 8}
        )
        cut = _built(write_snapshot(cut_log, contract=text), tmp_path / f"cut-{hours}")[1]
        users, items = np.meshgrid(np.arange(30, dtype=np.int32), np.arange(20, dtype=np.int32))
        users, items = users.ravel(), items.ravel()
        # Co-visitation depends on where a data set puts its boundaries, which its length decides: tested by itself.
        names = [name for name in whole.features.names if not name.startswith("covisitation")]
        columns = [whole.features.names.index(name) for name in names]
        for back in (0, 1, 30):
            buckets = np.full(len(users), bucket - back)
            first = whole.features.matrix(users, items, buckets, None)[:, columns]
            second = cut.features.matrix(users, items, buckets, None)[:, columns]
            np.testing.assert_array_equal(first, second)


def test_what_arrives_late_is_not_seen_early(write_snapshot: WriteSnapshot, tmp_path: Path) -> None:
    log = small.small_log(mode="sampled", late=0.0)
    at = small.BEGIN + timedelta(days=10, minutes=30)
    extra = {name: [None] for name in log.column_names} | {
        "user_id": ["u000"], "item_id": ["i007"], "ts": [at], "event": ["purchase"],
        "ingested_at": [at + timedelta(hours=20)], "device": ["web"],
    }  # fmt: skip
    late = pa.concat_tables([log, pa.table(extra, schema=log.schema)])
    contract = small.contract_text("sampled")
    without = _built(write_snapshot(log, contract=contract), tmp_path / "without")[1]
    with_it = _built(write_snapshot(late, contract=contract), tmp_path / "with")[1]
    bucket = int(at.timestamp()) // 3600

    def count(data: OpenDataset, when: int) -> float:
        place = data.features.names.index("item_purchase_all")
        one = data.features.matrix(np.array([0], np.int32), np.array([7], np.int32), np.array([when]), None)
        return float(one[0, place])

    for hours in range(1, 20):
        assert count(with_it, bucket + hours) == count(without, bucket + hours)
    assert count(with_it, bucket + 21) == count(without, bucket + 21) + 1


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({"split": {"test": {"days": 15}, "validation": {"days": 9}}}, "needed some days before them to train on"),
        ({"requests": {"mode": "sampled", "horizon": "30d"}}, "no history before a training cut"),
    ],
)
def test_a_log_too_short_for_its_splits_is_bad_input(
    changes: dict[str, object], needed: str, write_snapshot: WriteSnapshot, tmp_path: Path
) -> None:
    snapshot = write_snapshot(small.small_log(mode="sampled"), contract=small.contract_text("sampled", **changes))
    with pytest.raises(InputError, match=needed):
        _built(snapshot, tmp_path / "dataset")


def test_labels_that_are_all_alike_are_bad_input(write_snapshot: WriteSnapshot, tmp_path: Path) -> None:
    log = small.small_log(mode="logged", late=0.0)
    end = pa.scalar(small.BEGIN + timedelta(days=15), log.schema.field("ts").type)
    quiet = log.filter(pc.or_(pc.equal(log["event"], "impression"), pc.less(log["ts"], end)))
    snapshot = write_snapshot(quiet, contract=small.contract_text("logged"))
    with pytest.raises(InputError, match="no positive label in the test requests"):
        _built(snapshot, tmp_path / "dataset")


def test_a_feature_that_nobody_has_is_bad_input(write_snapshot: WriteSnapshot, tmp_path: Path) -> None:
    text = small.contract_text("logged").replace("price: price", "category: category")
    attributes = {
        "users": {"country": {"role": "segment"}},
        "items": {"category": {"role": "feature"}, "weight": {"role": "feature", "type": "number"}},
        "events": {"device": {"role": "context"}},
    }
    text = small.contract_text("logged", attributes=attributes, item={"category": "category"})
    text = text.replace("path: items.parquet", "path: items.parquet\n    columns: {weight: nothing}")
    log = small.small_log(mode="logged")
    from components.events import snapshot as taking

    base = tmp_path / "tables"
    base.mkdir()
    import pyarrow.parquet as pq

    pq.write_table(log, base / "events.parquet")
    people = [{"user_id": f"u{user:03d}", "country": "DE"} for user in range(30)]
    goods = [{"item_id": f"i{item:03d}", "category": "c", "nothing": None} for item in range(20)]
    pq.write_table(pa.Table.from_pylist(people), base / "users.parquet")
    schema = pa.schema([("item_id", pa.string()), ("category", pa.string()), ("nothing", pa.float64())])
    pq.write_table(pa.Table.from_pylist(goods, schema), base / "items.parquet")
    from components.events.declaration import parse_contract

    contract = parse_contract(text, subject="contract")
    out = tmp_path / "snapshot"
    out.mkdir()
    assert contract.as_of
    taking.take_snapshot(contract, base=base, as_of=contract.as_of, out=out)
    with pytest.raises(
        InputError, match=r"items.weight: found no value in any row; needed some, because its role is feature"
    ):
        _built(out, tmp_path / "dataset")
