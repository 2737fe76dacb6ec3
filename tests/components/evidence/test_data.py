"""Evidence on the data, against counting by hand, on the generated shop."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from components.artifacts import documents
from components.dataset.build import build_dataset
from components.events.contract import DatasetContract, Snapshot
from components.events.declaration import load_contract
from components.events.shop import generate_shop
from components.events.snapshot import take_snapshot
from components.evidence.contract import Evidence
from components.evidence.data import measure_data


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
