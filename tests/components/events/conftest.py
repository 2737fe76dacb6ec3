"""A small clean log that each test spoils in its own way."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.events.contract import Snapshot, TableCount
from components.events.declaration import parse_contract
from components.events.snapshot import take_snapshot

Row = dict[str, Any]

AS_OF = datetime(2026, 3, 10, tzinfo=UTC)
CONTRACT = {
    "schema": "rankgate/dataset/v1",
    "name": "small-shop",
    "tables": {
        "events": {"path": "events*"},
        "users": {"path": "users*"},
        "items": {"path": "items*"},
    },
    "events": {
        "impression": {"role": "impression"},
        "click": {"gain": 1},
        "rating": {"gain": 1, "per_value": True},
        "hover": {"role": "ignore"},
    },
    "attributes": {
        "users": {"country": {"role": "segment"}},
        "items": {"category": {"role": "feature"}, "price": {"role": "feature", "type": "number"}},
        "events": {"device": {"role": "context"}},
    },
    "item": {"category": "category", "price": "price", "available_from": "launched"},
    "requests": {"mode": "logged"},
    "tolerance": {"rejected_share": 0.5},
}
TYPES = {
    "ts": pa.timestamp("us", tz="UTC"),
    "ingested_at": pa.timestamp("us", tz="UTC"),
    "launched": pa.timestamp("us", tz="UTC"),
    "position": pa.int32(),
    "value": pa.float64(),
    "price": pa.float64(),
}


def _events() -> list[Row]:
    """Six requests of three users, three items shown in each, every second of the first two clicked."""
    rows = []
    for request in range(6):
        at = AS_OF - timedelta(days=6 - request, hours=5)
        common = {"user_id": f"u{request % 3}", "request_id": f"r{request}", "value": None, "device": "web"}
        for position in (1, 2, 3):
            shown = {"item_id": f"i{(request + position) % 4}", "ts": at, "ingested_at": at + timedelta(seconds=9)}
            rows.append({**common, **shown, "event": "impression", "position": position})
            if position == 1 + request % 2:
                clicked = {"ts": at + timedelta(seconds=30), "ingested_at": at + timedelta(minutes=1)}
                rows.append({**common, **shown, **clicked, "event": "click", "position": None})
    return rows


def as_text(value: Any) -> str:
    """A value as a CSV holds it."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    return repr(value) if isinstance(value, float) else str(value)


def write_csv(rows: Sequence[Row], path: Path, *, delimiter: str = ",") -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter=delimiter)
        writer.writerow(rows[0])
        writer.writerows([as_text(row[name]) for name in rows[0]] for row in rows)


def write_parquet(rows: Sequence[Row], path: Path, types: Mapping[str, pa.DataType]) -> None:
    columns = {
        name: pa.array([row[name] for row in rows], types.get(name, TYPES.get(name, pa.string()))) for name in rows[0]
    }
    pq.write_table(pa.table(columns), path)


@dataclass
class Shop:
    """Tables as lists of rows, the contract as its YAML would read, and what a test asks of the snapshot."""

    folder: Path
    events: list[Row] = field(default_factory=_events)
    users: list[Row] = field(default_factory=lambda: [{"user_id": f"u{n}", "country": "DE"} for n in range(3)])
    items: list[Row] = field(
        default_factory=lambda: [
            {"item_id": f"i{n}", "category": "toys", "price": 2.5 * n, "launched": AS_OF - timedelta(days=60 + n)}
            for n in range(4)
        ]
    )
    contract: dict[str, Any] = field(default_factory=lambda: deepcopy(CONTRACT))
    types: dict[str, pa.DataType] = field(default_factory=dict)
    taken: int = 0

    def write(self, *, form: Literal["parquet", "csv"] = "parquet", cuts: Sequence[int] = ()) -> Path:
        """Write the tables into a new folder; `cuts` splits the events into files. A table without rows is not written."""
        self.taken += 1
        base = self.folder / f"data-{self.taken}"
        base.mkdir()
        bounds = [0, *sorted(cuts), len(self.events)]
        parts = [self.events[low:high] for low, high in pairwise(bounds) if high > low]
        named = [(f"events-{number}", rows) for number, rows in enumerate(parts)]
        for name, rows in [*named, ("users", self.users), ("items", self.items)]:
            if rows and form == "csv":
                write_csv(rows, base / f"{name}.csv")
            elif rows:
                write_parquet(rows, base / f"{name}.parquet", self.types)
        return base

    def take(
        self,
        *,
        form: Literal["parquet", "csv"] = "parquet",
        cuts: Sequence[int] = (),
        as_of: datetime = AS_OF,
        base: Path | None = None,
    ) -> tuple[Snapshot, Path]:
        """Write the tables, unless they lie in `base`, and take their snapshot."""
        base = base or self.write(form=form, cuts=cuts)
        out = base / "snapshot"
        out.mkdir()
        value = deepcopy(self.contract)
        for table in value["tables"].values():
            table.setdefault("format", form)
        contract = parse_contract(json.dumps(value), subject="small-shop")
        return take_snapshot(contract, base=base, as_of=as_of, out=out), out

    def counts(self, table: str = "events", **options: Any) -> TableCount:
        """What became of the rows of a table."""
        snapshot, _ = self.take(**options)
        return next(count for count in snapshot.tables if count.table == table)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A clean log of three users, four items and six requests: 24 events."""
    return Shop(tmp_path)


@pytest.fixture
def new_shop(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Shop]:
    """Makes shops where a test needs several."""
    return lambda: Shop(tmp_path_factory.mktemp("shop"))
