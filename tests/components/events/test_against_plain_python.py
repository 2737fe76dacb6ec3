"""Cleaning in SQL against the same rules in plain Python, one row after another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

AS_OF = datetime(2026, 3, 10, tzinfo=UTC)
RETENTION = timedelta(days=30)
ORDER = ("ts", "user_id", "item_id", "event", "request_id", "position", "value", "ingested_at", "device")
Row = dict[str, Any]

OLDEST = AS_OF - RETENTION
SECOND = timedelta(seconds=1)
times = st.sampled_from(
    [AS_OF - timedelta(days=2), AS_OF - SECOND, AS_OF, AS_OF + SECOND, OLDEST, OLDEST - SECOND, None]
)
# Few values each, so that rows repeat, share requests and contradict each other.
rows = st.fixed_dictionaries(
    {
        "user_id": st.sampled_from(["u0", "u0", "u1", "refused", "stranger", None]),
        "item_id": st.sampled_from(["i0", "i1", "i1", None]),
        "ts": times,
        "event": st.sampled_from(["impression", "impression", "click", "rating", "hover", "swipe", None]),
        "request_id": st.sampled_from(["a", "a", "b", None]),
        "position": st.sampled_from([1, 1, 2, 0, None]),
        "value": st.sampled_from([None, 1.0, -1.0, float("inf"), float("nan"), 0.0, -0.0]),
        "ingested_at": times,
        "device": st.sampled_from(["web", None]),
    }
)


def excluded(row: Row) -> str | None:
    if row["user_id"] is not None and row["user_id"] not in ("u0", "u1", "u2"):
        return "no consent"
    if row["ts"] is not None and row["ts"] < OLDEST:
        return "beyond retention"
    return "event ignored" if row["event"] == "hover" else None


def rejected(row: Row) -> str | None:
    value, rating = row["value"], row["event"] == "rating"
    faults = {
        "user_id missing": row["user_id"] is None,
        "item_id missing": row["item_id"] is None,
        "ts missing": row["ts"] is None,
        "event unknown": row["event"] not in ("impression", "click", "rating"),
        "ts in the future": row["ts"] is not None and row["ts"] > AS_OF,
        "position not 1 or more": row["position"] is not None and row["position"] < 1,
        "value not finite": value is not None and value - value != 0,
        "ingested_at in the future": row["ingested_at"] is not None and row["ingested_at"] > AS_OF,
        "value missing": rating and value is None,
        "value negative": rating and value is not None and value < 0,
        "impression without request_id": row["event"] == "impression" and row["request_id"] is None,
    }
    return next((reason for reason, faulty in faults.items() if faulty), None)


def clean(log: list[Row]) -> tuple[list[tuple[Any, ...]], Counter[str], Counter[str]]:
    """Kept rows in canonical order, counts of rejected and of excluded rows."""
    out, bad = Counter(map(excluded, log)), Counter[str | None]()
    sound: list[Row] = []
    for row in log:
        if excluded(row):
            continue
        bad[rejected(row)] += 1
        if not rejected(row):
            arrival = max(row["ts"], row["ingested_at"] or row["ts"])
            value = None if row["value"] is None else row["value"] + 0.0
            sound.append({**row, "ingested_at": arrival, "value": value})
    different = {tuple(row[name] for name in ORDER) for row in sound}
    bad["duplicate row"] = len(sound) - len(different)
    ordered = sorted(different, key=lambda row: [(value is None, value or 0) if value != "" else "" for value in row])
    users: dict[str, set[str]] = {}
    for row in ordered:
        users.setdefault(row[4], set()).add(row[1])
    alone = [row for row in ordered if row[4] is None or len(users[row[4]]) == 1]
    bad["request of several users"] = len(ordered) - len(alone)
    kept, shown = [], set()
    for row in alone:
        if row[3] == "impression" and (row[4], row[2]) in shown:
            bad["duplicate request row"] += 1
            continue
        if row[3] == "impression":
            shown.add((row[4], row[2]))
        kept.append(row)
    del out[None], bad[None]
    return kept, +Counter({str(reason): number for reason, number in bad.items()}), Counter(map(str, out.elements()))


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(dirt=st.lists(rows, min_size=10, max_size=60))
def test_rows_are_kept_rejected_and_excluded_as_plain_python_would(
    new_shop: Callable[[], Any], dirt: list[Row]
) -> None:
    shop = new_shop()
    shop.contract |= {
        "tolerance": {"rejected_share": 1},
        "retention": f"{RETENTION.days}d",
        "consent": {"column": "agreed"},
    }
    shop.users = [{**row, "agreed": "yes"} for row in shop.users]
    shop.users.append({"user_id": "refused", "country": "DE", "agreed": "no"})
    shop.events += deepcopy(dirt)
    kept, bad, out = clean(shop.events)
    snapshot, folder = shop.take()
    assert snapshot.tables[0].rejected == bad
    assert snapshot.tables[0].excluded == out
    assert snapshot.tables[0].kept == len(kept)
    table = pq.read_table(folder / "events.parquet")
    assert [tuple(row[name] for name in ORDER) for row in table.to_pylist()] == kept
    quarantined = pq.read_table(folder / "quarantine.parquet")["reason"].to_pylist()
    assert Counter(quarantined) == bad
