"""Evidence on the data, against counting by hand, on the generated shop."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.artifacts import documents
from components.artifacts.digests import digest_tree
from components.dataset.build import build_dataset
from components.errors import EvidenceError
from components.events.contract import DatasetContract, Snapshot
from components.events.declaration import load_contract
from components.events.shop import generate_shop
from components.events.snapshot import take_snapshot
from components.evidence.contract import Evidence
from components.evidence.data import busy_bound, measure_data, never_rests, volume_ratio


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
    found = next(e for e in evidence.estimates if (e.metric, e.subject) == (metric, subject))
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
