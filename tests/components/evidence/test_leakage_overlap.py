"""What splits share and when things were known, on tables of a few rows; where the log is cut and which rows are looked at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.events.contract import DatasetContract
from components.evidence.leakage_overlap import (
    Counted,
    known_when,
    late_rows,
    returning_users,
    shared_requests,
    shared_rows,
)
from components.evidence.leakage_past import ROWS, AsOf, different, latest_requests, moments_of

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
CUTS = {"validation": (BEGIN + timedelta(days=10)).isoformat(), "test": (BEGIN + timedelta(days=20)).isoformat()}


def contract(mode: str = "logged", **requests: str) -> DatasetContract:
    return DatasetContract.model_validate(
        {
            "schema": "rankgate/dataset/v1",
            "name": "small-shop",
            "tables": {"events": {"path": ["events.parquet"]}},
            "events": {"impression": {"role": "impression"}, "click": {"gain": 1}},
            "requests": {"mode": mode, **requests},
        }
    )


def asked(*rows: tuple[str, str, int, float]) -> pa.Table:
    """Requests of (request_id, split, user, day)."""
    return pa.table(
        {
            "request": pa.array(range(len(rows)), pa.int32()),
            "request_id": [row[0] for row in rows],
            "split": [row[1] for row in rows],
            "user": pa.array([row[2] for row in rows], pa.int32()),
            "ts": pa.array([BEGIN + timedelta(days=row[3]) for row in rows], pa.timestamp("us", tz="UTC")),
        }
    )


def shown(*rows: tuple[int, int]) -> pa.Table:
    """Rows of (request, item)."""
    return pa.table(
        {
            "request": pa.array([row[0] for row in rows], pa.int32()),
            "item": pa.array([row[1] for row in rows], pa.int32()),
        }
    )


def test_a_request_id_counts_once_however_often_it_is_in_other_splits() -> None:
    requests = asked(("a", "train", 0, 0), ("a", "test", 0, 21), ("a", "validation", 0, 11), ("b", "train", 0, 1))
    assert shared_requests(requests) == Counted(1, 2)


def test_a_request_id_twice_in_one_split_is_shared_with_no_other() -> None:
    assert shared_requests(asked(("a", "train", 0, 0), ("a", "train", 0, 1))) == Counted(0, 1)


def test_rows_are_shared_where_user_item_and_moment_agree() -> None:
    requests = asked(("a", "train", 0, 5), ("b", "test", 0, 5), ("c", "test", 1, 5), ("d", "test", 0, 6))
    rows = shown((0, 7), (0, 8), (1, 7), (1, 9), (2, 7), (3, 7))
    assert shared_rows(requests, rows) == Counted(1, 5)


def test_rows_twice_in_one_split_are_shared_with_no_other() -> None:
    requests = asked(("a", "train", 0, 5), ("b", "train", 0, 5))
    assert shared_rows(requests, shown((0, 7), (1, 7))) == Counted(0, 1)


def test_without_rows_there_is_nothing_to_share() -> None:
    assert shared_rows(asked(("a", "train", 0, 5)), shown()) == Counted(0, 0)


@pytest.mark.parametrize(("day", "late"), [(8.9, 0), (9.0, 0), (9.0001, 2), (25.0, 2)])
def test_a_label_that_is_complete_when_the_next_split_begins_is_not_late(day: float, late: int) -> None:
    requests = asked(("a", "train", 0, day), ("b", "train", 0, 1), ("c", "test", 0, 30))
    rows = np.array([0, 0, 1, 2])
    held = late_rows(requests, rows, contract(attribution="P1D"), CUTS, split="train", next_split="validation")
    assert held == Counted(late, 3)


def test_labels_of_a_ranked_catalogue_take_the_horizon_in_training_and_end_with_the_split_later() -> None:
    requests = asked(("a", "train", 0, 4), ("b", "validation", 0, 19))
    sampled = contract("sampled", horizon="P7D")
    rows = np.array([0, 1])
    assert late_rows(requests, rows, sampled, CUTS, split="train", next_split="validation") == Counted(1, 1)
    assert late_rows(requests, rows, sampled, CUTS, split="validation", next_split="test") == Counted(0, 1)


def test_returning_users_are_counted_once_each() -> None:
    requests = asked(("a", "train", 3, 0), ("b", "test", 3, 21), ("c", "test", 3, 22), ("d", "test", 4, 22))
    assert returning_users(requests) == Counted(1, 2)


def written(folder: Path, *rows: dict[str, Any]) -> Path:
    """A snapshot's events: days of happening and arriving."""
    blank = {"request_id": None, "user_id": "u", "item_id": "i", "arrives": None}
    held = [{**blank, **row} for row in rows]
    time = pa.timestamp("us", tz="UTC")
    arrives = [row["day"] if row["arrives"] is None else row["arrives"] for row in held]
    columns = {
        name: pa.array([row[name] for row in held], pa.string()) for name in ("user_id", "item_id", "request_id")
    }
    columns["event"] = pa.array([row["event"] for row in held], pa.string())
    columns["ts"] = pa.array([BEGIN + timedelta(days=row["day"]) for row in held], time)
    columns["ingested_at"] = pa.array([BEGIN + timedelta(days=day) for day in arrives], time)
    pq.write_table(pa.table(columns), folder / "events.parquet")
    return folder


def test_events_that_arrive_before_they_happen_and_at_once_are_counted(tmp_path: Path) -> None:
    snapshot = written(
        tmp_path,
        {"event": "click", "day": 2.0, "arrives": 1.0},
        {"event": "click", "day": 2.0},
        {"event": "click", "day": 2.0, "arrives": 3.0},
    )
    known = known_when(snapshot, contract())
    assert known.early_arrivals == Counted(1, 3)
    assert known.same_arrivals == Counted(1, 3)


def test_an_outcome_is_early_where_its_own_impression_came_later(tmp_path: Path) -> None:
    snapshot = written(
        tmp_path,
        {"event": "impression", "day": 1.0, "request_id": "r"},
        {"event": "impression", "day": 1.5, "request_id": "r"},
        {"event": "click", "day": 0.5, "request_id": "r"},
        {"event": "click", "day": 1.0, "request_id": "r"},
        {"event": "click", "day": 0.5},
        {"event": "click", "day": 0.5, "request_id": "r", "item_id": "another"},
    )
    assert known_when(snapshot, contract()).early_outcomes == Counted(1, 2)


def test_moments_are_the_cuts_and_the_busiest_buckets_each_once_in_order() -> None:
    requests = pa.table(
        {
            "split": ["train"] * 4 + ["validation"] + ["test"] * 3,
            "bucket": pa.array([3, 5, 5, 8, 10, 20, 20, 21], pa.int64()),
        }
    )
    cuts = [("start", 1), ("validation", 10), ("test", 20), ("release", 30)]
    assert [(moment.bucket, moment.name) for moment in moments_of(requests, cuts)] == [
        (5, "the busiest bucket of train"),
        (10, "the validation cut"),
        (20, "the test cut"),
    ]


def test_the_latest_requests_are_looked_at_whole_and_none_that_an_earlier_moment_saw() -> None:
    bucket = np.array([1, 2, 3, 4, 5])
    half = ROWS // 2
    of_row = np.repeat([0, 1, 2, 3, 4], [10, half, half, half, 10])
    rng = np.random.default_rng(0)
    assert latest_requests(of_row, bucket, AsOf(4, ""), since=-1, rng=rng).tolist() == [2, 3]
    assert latest_requests(of_row, bucket, AsOf(4, ""), since=3, rng=rng).tolist() == [3]
    assert latest_requests(of_row, bucket, AsOf(4, ""), since=4, rng=rng).size == 0


def test_a_request_larger_than_the_most_is_looked_at_all_the_same() -> None:
    of_row = np.zeros(ROWS + 1, np.int64)
    assert latest_requests(of_row, np.array([1]), AsOf(1, ""), since=-1, rng=np.random.default_rng(0)).tolist() == [0]


def test_values_differ_by_their_bits_and_one_missing_number_is_like_another() -> None:
    one = np.array([1.0, np.nan, 0.0, np.nan, 1.0], np.float32)
    odd = np.array([0x7FC00001], np.uint32).view(np.float32)[0]
    other = np.array([np.nextafter(np.float32(1), np.float32(2)), odd, -0.0, 1.0, 1.0], np.float32)
    assert different(one, other).tolist() == [True, False, True, True, False]
