"""Evidence on the data, against counting by hand, on the generated shop."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from components.artifacts import documents
from components.artifacts.digests import digest_tree
from components.dataset.build import build_dataset
from components.dataset.contract import Dataset
from components.errors import EvidenceError
from components.events.contract import DatasetContract, Snapshot
from components.events.declaration import load_contract
from components.events.shop import generate_shop
from components.events.snapshot import take_snapshot
from components.evidence.contract import Estimate, Evidence
from components.evidence.data import busy_bound, measure_data, never_rests, volume_ratio
from components.evidence.data_values import new_and_missing


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("data")
    found = {name: folder / name for name in ("shop", "snapshot", "dataset", "evidence")}
    for place in found.values():
        place.mkdir()
    contract = load_contract(generate_shop(found["shop"], seed=3, scale=0.1))
    assert contract.as_of
    take_snapshot(contract, base=found["shop"], as_of=contract.as_of, out=found["snapshot"])
    build_dataset(found["snapshot"], out=found["dataset"], seed=0)
    return found


@pytest.fixture(scope="module")
def evidence(places: dict[str, Path]) -> Evidence:
    return measure_data(places["snapshot"], places["dataset"], out=places["evidence"])


def _value(evidence: Evidence, metric: str, subject: str) -> float:
    found = next(e for e in evidence.estimates if (e.metric, e.statistic, e.subject) == (metric, "value", subject))
    assert found.value is not None
    assert found.low == found.value == found.high
    assert found.method == "exact"
    return found.value


def test_rejections_are_the_quarantines(places: dict[str, Path], evidence: Evidence) -> None:
    quarantined = Counter(pq.read_table(places["snapshot"] / "quarantine.parquet")["table"].to_pylist())
    snapshot = documents.load(Snapshot, places["snapshot"] / "snapshot.json")
    for table in snapshot.tables:
        assert _value(evidence, "rejected_share", table.table) == pytest.approx(quarantined[table.table] / table.read)


def test_freshness_is_from_the_last_event_to_the_moment_of_judging(places: dict[str, Path], evidence: Evidence) -> None:
    last = max(pq.read_table(places["snapshot"] / "events.parquet")["ts"].to_pylist())
    contract = documents.load(DatasetContract, places["snapshot"] / "contract.json")
    assert contract.as_of
    assert contract.freshness
    hours = (contract.as_of - last).total_seconds() / 3600
    assert _value(evidence, "freshness_hours", "events") == pytest.approx(hours)
    bound = contract.freshness.total_seconds() / 3600
    assert _value(evidence, "freshness_of_bound", "events") == pytest.approx(hours / bound)


def test_missing_values_late_arrivals_and_joins_are_counted(places: dict[str, Path], evidence: Evidence) -> None:
    users = pq.read_table(places["snapshot"] / "users.parquet").to_pylist()
    assert _value(evidence, "null_share", "users.age_band") == pytest.approx(
        sum(user["age_band"] is None for user in users) / len(users)
    )
    events = pq.read_table(places["snapshot"] / "events.parquet").to_pylist()

    def hour(moment: object) -> object:
        return moment.replace(minute=0, second=0, microsecond=0)  # type: ignore[attr-defined]

    late = sum(hour(event["ingested_at"]) > hour(event["ts"]) for event in events)
    assert _value(evidence, "late_share", "events") == pytest.approx(late / len(events))
    shown = {(event["request_id"], event["item_id"]) for event in events if event["event"] == "impression"}
    won = [event for event in events if event["event"] != "impression" and event["request_id"] is not None]
    joined = sum((event["request_id"], event["item_id"]) in shown for event in won)
    assert _value(evidence, "join_rate", "outcomes") == pytest.approx(joined / len(won))


def test_sentences_tell_of_quarantine_and_of_what_was_left_out_lawfully(evidence: Evidence) -> None:
    text = " ".join(evidence.sentences)
    assert "in quarantine" in text
    assert "left out lawfully (no consent)" in text


def test_split_windows_are_those_of_the_requests(places: dict[str, Path], evidence: Evidence) -> None:
    requests = pq.read_table(places["dataset"] / "requests.parquet", columns=["ts", "split"]).to_pylist()
    last = None
    for split in ("train", "validation", "test"):
        moments = [row["ts"] for row in requests if row["split"] == split]
        hours = (max(moments) - min(moments)).total_seconds() / 3600
        assert _value(evidence, "window_hours", split) == pytest.approx(hours)
        found = next(e for e in evidence.estimates if (e.metric, e.subject) == ("window_hours", split))
        assert found.n_requests == len(moments)
        if last is None:
            assert found.detail == {}
        else:
            after = (min(moments) - last).total_seconds() / 3600
            assert found.detail["hours_after_the_split_before"] == pytest.approx(after)
            assert after >= 0
        last = max(moments)
    table = pq.read_table(places["evidence"] / evidence.tables["splits"])
    assert table["split"].to_pylist() == ["train", "validation", "test"]


@pytest.mark.parametrize(
    ("daily", "expected"),
    [
        ([10.0] * 14, 1.0),
        ([10.0] * 7 + [5.0] * 7, 0.5),
        # Four days without an event in the last week: the usual recent day is empty.
        ([10.0] * 7 + [10.0] * 3 + [0.0] * 4, 0.0),
        ([10.0] * 7 + [10.0] * 4 + [0.0] * 3, 1.0),
        ([10.0] * 7, None),
        ([0.0] * 7 + [10.0] * 7, None),
        ([], None),
    ],
)
def test_volume_compares_the_last_week_with_what_is_usual(daily: list[float], expected: float | None) -> None:
    assert volume_ratio(np.array(daily)) == expected


def _clock(*hours: int) -> np.int64:
    return np.int64(sum(1 << hour for hour in hours))


def test_whoever_sleeps_two_hours_in_a_row_is_no_machine_also_past_midnight() -> None:
    every, even = _clock(*range(24)), _clock(*range(0, 24, 2))
    sleeps_at_noon = _clock(*(hour for hour in range(24) if hour not in (12, 13)))
    sleeps_at_midnight = _clock(*range(1, 23))
    clock = np.array([every, even, sleeps_at_noon, sleeps_at_midnight, every])
    hours = np.array([30, 30, 500, 500, 29])
    assert never_rests(clock, hours).tolist() == [True, True, False, False, False]


def test_busy_is_measured_by_how_uneven_the_log_is() -> None:
    rng = np.random.default_rng(0)
    even = rng.poisson(100, 1000)
    assert 200 <= busy_bound(even) < 250
    uneven = np.ceil(np.exp(rng.normal(4, 1, 1000))).astype(np.int64)
    # A wholesaler at three deviations is no machine; twenty medians would have said so.
    assert np.exp(7) < busy_bound(uneven)
    assert busy_bound(np.array([1])) == 200


def test_the_generated_shops_bots_are_found_and_few_people_with_them(evidence: Evidence) -> None:
    found = next(e for e in evidence.estimates if e.metric == "bot_share")
    assert found.value is not None
    assert found.detail["likely_bots"] == found.detail["tireless"] + found.detail["busy"]
    assert 0 < found.detail["likely_bots"] <= 4


def test_the_same_inputs_give_the_same_bytes(places: dict[str, Path], evidence: Evidence, tmp_path: Path) -> None:
    assert measure_data(places["snapshot"], places["dataset"], out=tmp_path) == evidence
    assert digest_tree(tmp_path) == digest_tree(places["evidence"])


def test_outcomes_join_impressions_of_any_name(places: dict[str, Path], tmp_path: Path) -> None:
    """A second impression event, and an outcome whose request shows nothing."""
    snapshot = tmp_path / "snapshot"
    shutil.copytree(places["snapshot"], snapshot)
    contract = json.loads((snapshot / "contract.json").read_text())
    contract["events"]["teaser"] = {"role": "impression", "gain": 1.0, "per_value": False}
    (snapshot / "contract.json").write_text(json.dumps(contract))
    events = pq.read_table(snapshot / "events.parquet").to_pylist()
    for place, event in enumerate(events):
        if event["event"] == "impression" and place % 2:
            event["event"] = "teaser"
    lost = next(event for event in events if event["event"] == "click")
    lost["request_id"] = "no-such-request"
    schema = pq.read_schema(snapshot / "events.parquet")
    pq.write_table(pa.Table.from_pylist(events, schema=schema), snapshot / "events.parquet")
    found = measure_data(snapshot, places["dataset"], out=tmp_path)
    named = [event for event in events if event["event"] not in ("impression", "teaser") and event["request_id"]]
    before = measure_data(places["snapshot"], places["dataset"], out=tmp_path)
    assert _value(found, "join_rate", "outcomes") == pytest.approx(
        _value(before, "join_rate", "outcomes") - 1 / len(named)
    )


def test_a_snapshot_that_cannot_be_read_is_told(places: dict[str, Path], tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot"
    shutil.copytree(places["snapshot"], snapshot)
    (snapshot / "events.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(EvidenceError, match="cannot be read"):
        measure_data(snapshot, places["dataset"], out=tmp_path)


def test_the_reference_lists_these_metrics(evidence: Evidence, documented: dict[str, set[str]]) -> None:
    assert {estimate.metric for estimate in evidence.estimates} == documented["data"]


def _changed(places: dict[str, Path], tmp_path: Path, table: str, change: Callable[[pa.Table], pa.Table]) -> Evidence:
    """Evidence where a table of the dataset (or of the snapshot, `snapshot/...`) is another."""
    folder = tmp_path / "changed"
    for part in ("snapshot", "dataset"):
        shutil.copytree(places[part], folder / part)
    path = folder / table
    pq.write_table(change(pq.read_table(path)), path)
    out = folder / "evidence"
    out.mkdir()
    return measure_data(folder / "snapshot", folder / "dataset", out=out)


def _estimate(evidence: Evidence, metric: str, statistic: str, subject: str) -> Estimate:
    return next(e for e in evidence.estimates if (e.metric, e.statistic, e.subject) == (metric, statistic, subject))


def test_values_that_training_never_saw_are_counted_by_the_requests_that_hold_them(
    places: dict[str, Path], evidence: Evidence, tmp_path: Path
) -> None:
    assert all(e.value == 0 for e in evidence.estimates if e.metric == "new_category_share")

    def on_a_watch(requests: pa.Table) -> pa.Table:
        device = requests["device"].to_pylist()
        places_ = [place for place, split in enumerate(requests["split"].to_pylist()) if split == "test"]
        for place in places_[: len(places_) // 4]:
            device[place] = "watch"
        return requests.set_column(requests.column_names.index("device"), "device", pa.array(device))

    found = _changed(places, tmp_path, "dataset/requests.parquet", on_a_watch)
    new = _estimate(found, "new_category_share", "value", "context.device")
    assert new.value == pytest.approx(0.25, abs=0.01)
    assert (new.detail["new_values"], new.detail["known_values"], new.method) == (1.0, 3.0, "exact")
    assert any("context.device were never seen in training" in sentence for sentence in found.sentences)
    # Prices differ from item to item: a new number is no new category.
    assert not any(e.subject == "items.price" for e in found.estimates if e.metric == "new_category_share")


def test_items_of_a_new_kind_are_counted_by_how_often_they_are_shown(places: dict[str, Path], tmp_path: Path) -> None:
    rows = pq.read_table(places["dataset"] / "rows.parquet", columns=["request", "item"])
    requests = pq.read_table(places["dataset"] / "requests.parquet", columns=["request", "split"]).to_pylist()
    split = {row["request"]: row["split"] for row in requests}
    shown = [(split[row["request"]], row["item"]) for row in rows.to_pylist()]
    only_now = {item for part, item in shown if part == "test"} - {item for part, item in shown if part == "train"}

    def renamed(items: pa.Table) -> pa.Table:
        category = items["category"].to_pylist()
        for item in only_now:
            category[item] = "hovercraft"
        return items.set_column(items.column_names.index("category"), "category", pa.array(category))

    found = _changed(places, tmp_path, "dataset/items.parquet", renamed)
    now = [item for part, item in shown if part == "test"]
    category = pq.read_table(places["dataset"] / "items.parquet")["category"].to_pylist()
    known = [item for item in now if category[item] is not None or item in only_now]
    new = _estimate(found, "new_category_share", "value", "items.category")
    assert new.value == pytest.approx(sum(item in only_now for item in known) / len(known), abs=1e-3)


def test_a_field_that_stops_arriving_shows_as_a_change_and_one_that_never_came_does_not(
    places: dict[str, Path], evidence: Evidence, tmp_path: Path
) -> None:
    quiet = _estimate(evidence, "null_share", "difference", "context.device")
    assert quiet.value == 0
    assert quiet.high is not None
    # Nobody's is missing, but some users' may be: not more than so many users leave possible.
    assert 0 < quiet.high < 0.03

    def lost(requests: pa.Table) -> pa.Table:
        rng = np.random.default_rng(0)
        gone = [part == "test" and rng.random() < 0.2 for part in requests["split"].to_pylist()]
        device = [None if at else value for at, value in zip(gone, requests["device"].to_pylist(), strict=True)]
        return requests.set_column(requests.column_names.index("device"), "device", pa.array(device))

    found = _estimate(
        _changed(places, tmp_path, "dataset/requests.parquet", lost), "null_share", "difference", "context.device"
    )
    assert found.value == pytest.approx(0.2, abs=0.04)
    assert found.low is not None
    assert found.low > 0.05
    assert found.detail["train"] == 0.0
    assert found.mde is not None
    assert 0 < found.mde < 0.1


def test_the_change_of_what_is_missing_is_covered_by_its_interval(tmp_path: Path) -> None:
    """Users differ in how often a field of theirs is missing: rows of one user are no independent witnesses."""
    rng = np.random.default_rng(1)
    missed = rounds = 0
    users, each = 120, 12
    built = SimpleNamespace(context=("device",), mode="logged", requests={"test": users * each})
    pq.write_table(pa.table({"user": pa.array(range(users), pa.int32())}), tmp_path / "users.parquet")
    pq.write_table(pa.table({"item": pa.array([], pa.int32())}), tmp_path / "items.parquet")
    for _ in range(150):
        habit = rng.beta(0.5, 4.5, users)
        user = np.tile(np.repeat(np.arange(users), each // 2), 2)
        gone = rng.random(len(user)) < habit[user] + np.where(np.arange(len(user)) * 2 >= len(user), 0.05, 0.0)
        split = np.where(np.arange(len(user)) * 2 >= len(user), "test", "train")
        table = {"request": np.arange(len(user)), "user": user, "split": split, "device": np.where(gone, None, "phone")}
        pq.write_table(pa.table(table), tmp_path / "requests.parquet")
        found = next(e for e in new_and_missing(tmp_path, cast(Dataset, built)) if e.statistic == "difference")
        assert found.low is not None
        assert found.high is not None
        # habit + 0.05 may pass 1 for hardly anyone.
        missed += not found.low <= 0.05 <= found.high
        rounds += 1
    assert 0.0 <= missed / rounds <= 0.093  # 95 % stated; the 99 % quantile of misses


@pytest.mark.parametrize(("flood", "caught"), [(0.05, False), (0.2, True), (0.5, True)])
def test_a_flood_of_tireless_users_is_above_a_tenth_from_a_fifth_more_events_on(
    places: dict[str, Path], evidence: Evidence, tmp_path: Path, flood: float, caught: bool
) -> None:
    def flooded(events: pa.Table) -> pa.Table:
        rng = np.random.default_rng(0)
        rows = events.take(pa.array(rng.integers(0, events.num_rows, round(flood * events.num_rows))))
        begin = pc.max(events["ts"]).value - 14 * 86_400_000_000
        ts = pa.array(begin + rng.integers(0, 14 * 86_400_000_000, rows.num_rows)).cast(events["ts"].type)
        crawlers = pa.array([f"crawler-{at}" for at in rng.integers(0, 3, rows.num_rows)]).cast(events["user_id"].type)
        for name, column in (("ts", ts), ("ingested_at", ts), ("user_id", crawlers)):
            rows = rows.set_column(rows.column_names.index(name), events.schema.field(name), column)
        return pa.concat_tables([events, rows])

    found = _value(_changed(places, tmp_path, "snapshot/events.parquet", flooded), "bot_share", "events")
    before = _value(evidence, "bot_share", "events")
    assert found == pytest.approx((flood + before) / (1 + flood), abs=0.01)
    assert (found > 0.1) is caught


def test_a_kind_of_event_that_stops_arriving_shows_though_the_log_is_as_large_as_ever(
    places: dict[str, Path], evidence: Evidence, tmp_path: Path
) -> None:
    def without_clicks(events: pa.Table) -> pa.Table:
        end = pc.max(events["ts"]).value
        recent = pc.greater(events["ts"].cast(pa.int64()), end - 8 * 86_400_000_000)
        return events.filter(pc.invert(pc.and_(recent, pc.equal(events["event"].cast(pa.string()), "click"))))

    found = _changed(places, tmp_path, "snapshot/events.parquet", without_clicks)
    assert _value(found, "volume_ratio", "events") > 0.8 * _value(evidence, "volume_ratio", "events")
    assert _value(found, "volume_ratio", "click") == 0.0
    assert "click holds up least: 0.00 times" in " ".join(found.sentences)
