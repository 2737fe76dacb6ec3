"""Small logs written as snapshots, through the events room itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from components.events.declaration import parse_contract
from components.events.snapshot import take_snapshot

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def contract_text(mode: str = "logged", **changes: Any) -> str:
    """A contract of a small shop; keyword arguments replace top-level keys."""
    value: dict[str, Any] = {
        "schema": "rankgate/dataset/v1",
        "name": "small-shop",
        "tables": {
            "events": {"path": "events.parquet"},
            "users": {"path": "users.parquet"},
            "items": {"path": "items.parquet"},
        },
        "events": {"purchase": {"gain": 3}, "click": {"gain": 1}},
        "attributes": {
            "users": {
                "country": {"role": "segment", "intersect": ["gender"]},
                "gender": {"role": "sensitive"},
                "plan": {"role": "feature"},
            },
            "items": {"category": {"role": "feature"}, "price": {"role": "feature", "type": "number"}},
        },
        "item": {"category": "category", "price": "price"},
        "requests": {"mode": mode, "horizon": "3d", "cuts": 2, "negatives": 8},
        "bucket": "hour",
        "as_of": (BEGIN + timedelta(days=30)).isoformat(),
        "split": {"test": {"days": 4}, "validation": {"days": 3}},
        "evaluation": {"cutoffs": [3, 5], "exclude_seen": mode == "sampled"},
    }
    if mode == "logged":
        value["events"]["impression"] = {"role": "impression"}
        value["attributes"]["events"] = {"device": {"role": "context"}}
    return yaml.safe_dump(value | changes)


def small_log(
    *, mode: str, users: int = 30, items: int = 20, days: int = 20, seed: int = 0, late: float = 0.1
) -> pa.Table:
    """Requests of six shown items with clicks and purchases (logged), or purchases and clicks alone (sampled)."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for request in range(users * days // 2):
        user, shown = int(rng.integers(users)), rng.permutation(items)[:6]
        ts = BEGIN + timedelta(seconds=int(rng.integers(0, days * 86_400)))
        for position, item in enumerate(shown.tolist(), start=1):
            row = {
                "user_id": f"u{user:03d}",
                "item_id": f"i{item:03d}",
                "ts": ts,
                "device": str(rng.choice(["phone", "web"])),
            }
            row["device"] = "phone" if request % 2 else "web"
            if mode == "logged":
                rows.append({**row, "event": "impression", "request_id": f"r{request}", "position": position})
            chance = 0.35 if item % 3 == user % 3 else 0.08
            for event, share in (("click", chance), ("purchase", chance / 3)):
                if rng.random() < share:
                    after = ts + timedelta(minutes=int(rng.integers(1, 90)))
                    rows.append(
                        {**row, "event": event, "ts": after, "request_id": f"r{request}" if mode == "logged" else None}
                    )
    for row in rows:
        delay = timedelta(hours=int(rng.integers(1, 30))) if rng.random() < late else timedelta(0)
        row["ingested_at"] = row["ts"] + delay
        row.setdefault("position", None)
    schema = pa.schema(
        [
            ("user_id", pa.string()),
            ("item_id", pa.string()),
            ("ts", pa.timestamp("us", "UTC")),
            ("event", pa.string()),
            ("request_id", pa.string()),
            ("position", pa.int32()),
            ("ingested_at", pa.timestamp("us", "UTC")),
            ("device", pa.string()),
        ]
    )
    return pa.Table.from_pylist(rows, schema)


class SnapshotWriter:
    """Writes a log and its entities below a folder, and takes their snapshot."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def __call__(self, log: pa.Table, *, contract: str, users: int = 30, items: int = 20) -> Path:
        self._count += 1
        base, out = self._folder / f"tables-{self._count}", self._folder / f"snapshot-{self._count}"
        base.mkdir()
        out.mkdir()
        pq.write_table(log, base / "events.parquet")
        people = [
            {
                "user_id": f"u{user:03d}",
                "country": ["DE", "FR", None][user % 3],
                "gender": ["f", "m"][user % 2],
                "plan": ["free", "paid"][user % 2],
            }
            for user in range(users)
        ]
        goods = [{"item_id": f"i{item:03d}", "category": f"c{item % 3}", "price": 1.5 + item} for item in range(items)]
        pq.write_table(pa.Table.from_pylist(people), base / "users.parquet")
        pq.write_table(pa.Table.from_pylist(goods), base / "items.parquet")
        parsed = parse_contract(contract, subject="contract")
        assert parsed.as_of
        take_snapshot(parsed, base=base, as_of=parsed.as_of, out=out)
        return out
