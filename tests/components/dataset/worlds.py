"""Small logs as directories that `components/events/contract.py` describes, written without the events room.

Tests load this file by its path (they cannot import one another); `Happening` counts hours from `START`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from components.artifacts import documents
from components.dataset.features import declare, impression_of, outcomes_of
from components.dataset.lookup import FeatureTables
from components.dataset.preparing import build_tables
from components.dataset.staging import code, stage
from components.events.contract import SCHEMA_VERSION, DatasetContract, Snapshot
from components.events.declaration import parse_contract

START = datetime(2026, 3, 2, tzinfo=UTC)
"""A Monday's midnight, so that hours and days of the tests are whole buckets from here."""

LOGGED = """
schema: rankgate/dataset/v1
name: small-feed
tables: {events: {path: [events.parquet]}, users: {path: [users.parquet]}, items: {path: [items.parquet]}}
events:
  impression: {role: impression}
  click: {gain: 1}
  purchase: {gain: 4}
attributes:
  users:
    country: {role: segment}
    gender: {role: sensitive}
    plan: {role: feature}
    visits: {role: feature, type: number}
  items:
    category: {role: feature}
    provider: {role: feature}
    price: {role: feature, type: number}
  events:
    device: {role: context}
item: {category: category, provider: provider, price: price, available_from: launched_at}
requests: {mode: logged, attribution: PT2H}
bucket: hour
split: {test: {days: 2}, validation: {days: 2}}
evaluation: {cutoffs: [2, 3]}
"""

SAMPLED = """
schema: rankgate/dataset/v1
name: small-shop
tables: {events: {path: [events.parquet]}, users: {path: [users.parquet]}, items: {path: [items.parquet]}}
events:
  purchase: {gain: 1}
attributes:
  items:
    category: {role: feature}
item: {category: category}
requests: {mode: sampled, horizon: P2D, cuts: 2, negatives: 4}
bucket: hour
split: {test: {days: 2}, validation: {days: 2}}
evaluation: {cutoffs: [2], exclude_seen: true}
"""


@dataclass(frozen=True)
class Happening:
    """One row of the log."""

    user: str
    item: str
    hour: float
    event: str
    late: float = 0.0
    """Hours until it arrived."""
    request: str | None = None
    position: int | None = None
    value: float | None = None
    context: dict[str, str | None] = field(default_factory=dict)

    @property
    def ts(self) -> datetime:
        return START + timedelta(hours=self.hour)

    @property
    def ingested_at(self) -> datetime:
        return START + timedelta(hours=self.hour + self.late)


@dataclass(frozen=True)
class World:
    """A log with its users and items; attributes by id, in the contract's names."""

    contract: DatasetContract
    events: tuple[Happening, ...]
    users: dict[str, dict[str, object]]
    items: dict[str, dict[str, object]]
    as_of_hour: float = 24.0 * 365

    def before(self, hour: float) -> World:
        """The same world, had the log ended then; users and items are who they are."""
        return replace(self, events=tuple(row for row in self.events if row.hour < hour))


def contract_of(text: str) -> DatasetContract:
    return parse_contract(text, subject="test")


def write_snapshot(world: World, folder: Path) -> Path:
    """The world as a snapshot directory."""
    folder.mkdir(parents=True, exist_ok=True)
    contract = world.contract
    context = [name for name, held in contract.attributes.events.items() if held.role == "context"]
    rows = sorted(
        world.events,
        key=lambda row: (row.ts, row.user, row.item, row.event, row.request or "", row.position or 0, row.ingested_at),
    )
    time = pa.timestamp("us", tz="UTC")
    events = {
        "user_id": pa.array([row.user for row in rows], pa.string()),
        "item_id": pa.array([row.item for row in rows], pa.string()),
        "ts": pa.array([row.ts for row in rows], time),
        "event": pa.array([row.event for row in rows], pa.string()),
        "request_id": pa.array([row.request for row in rows], pa.string()),
        "position": pa.array([row.position for row in rows], pa.int32()),
        "value": pa.array([row.value for row in rows], pa.float64()),
        "ingested_at": pa.array([row.ingested_at for row in rows], time),
        **{name: pa.array([row.context.get(name) for row in rows], pa.string()) for name in context},
    }
    pq.write_table(pa.table(events), folder / "events.parquet")
    _write_entities(folder / "users.parquet", "user_id", world.users, _types(contract, "users"))
    item_types = _types(contract, "items")
    if contract.item.available_from:
        item_types[contract.item.available_from] = time
    _write_entities(folder / "items.parquet", "item_id", world.items, item_types)
    documents.save(contract, folder / "contract.json")
    times = [row.ts for row in rows] or [START]
    documents.save(
        Snapshot(
            schema_version=SCHEMA_VERSION,
            digest="0" * 64,
            name=contract.name,
            as_of=(START + timedelta(hours=world.as_of_hour)).isoformat(),
            first_ts=times[0].isoformat(),
            last_ts=times[-1].isoformat(),
            users=len(world.users),
            items=len(world.items),
            event_counts={},
            tables=(),
            id_types={},
            sources={},
        ),
        folder / "snapshot.json",
    )
    return folder


def _types(contract: DatasetContract, table: str) -> dict[str, pa.DataType]:
    held = getattr(contract.attributes, table)
    return {
        name: pa.float64() if attribute.type == "number" else pa.string()
        for name, attribute in held.items()
        if attribute.role != "ignore"
    }


def _write_entities(path: Path, key: str, rows: dict[str, dict[str, object]], types: dict[str, pa.DataType]) -> None:
    ids = sorted(rows)
    columns = {name: pa.array([rows[i].get(name) for i in ids], kind) for name, kind in types.items()}
    pq.write_table(pa.table({key: pa.array(ids, pa.string()), **columns}), path)


def build_features(world: World, work: Path, *, boundaries: Sequence[int] = ()) -> FeatureTables:
    """The bucket tables of a world, without requests: for tests of what is looked up."""
    snapshot, out = write_snapshot(world, work / "snapshot"), work / "tables"
    out.mkdir()
    contract = world.contract
    seconds = 3_600 if contract.bucket == "hour" else 86_400
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        stage(connection, snapshot, contract, bucket_us=seconds * 1_000_000)
        coded = code(connection, snapshot, contract, bucket_us=seconds * 1_000_000)
        build_tables(
            connection,
            coded.entities,
            features=declare(contract),
            bucket_seconds=seconds,
            boundaries=boundaries,
            outcomes=outcomes_of(contract),
            impression=impression_of(contract),
            context=coded.context,
            users=coded.users.num_rows,
            out=out,
        )
    return FeatureTables.open(out)


def bucket_at(hour: float, *, seconds: int = 3_600) -> int:
    """The bucket that contains an hour of the tests."""
    return int((START + timedelta(hours=hour)).timestamp() // seconds)


def feed(hours: Iterable[float], *, users: int = 6, items: int = 8, shown: int = 3) -> tuple[Happening, ...]:
    """A plain logged feed: at each hour one user is shown some items and clicks the first, at times buys it as well."""
    rows: list[Happening] = []
    for number, hour in enumerate(hours):
        user, request = f"u{number % users}", f"r{number:04d}"
        device: dict[str, str | None] = {"device": "phone" if number % 2 else "web"}
        for position in range(1, shown + 1):
            item = f"i{(number * 3 + position) % items}"
            rows.append(Happening(user, item, hour, "impression", 0.0, request, position, None, device))
            if position == 1:
                rows.append(Happening(user, item, hour + 0.1, "click", 0.0, request, None, None, device))
                if number % 3 == 0:
                    rows.append(Happening(user, item, hour + 0.2, "purchase", 0.0, request, None, 9.0, device))
    return tuple(rows)


def people(count: int) -> dict[str, dict[str, object]]:
    """Users with every attribute of LOGGED."""
    return {
        f"u{n}": {"country": "NL", "gender": "f", "plan": ("free", "plus")[n % 2], "visits": float(n)}
        for n in range(count)
    }


def goods(count: int) -> dict[str, dict[str, object]]:
    """Items with every attribute of LOGGED."""
    return {
        f"i{n}": {"category": f"c{n % 3}", "provider": f"p{n % 2}", "price": 1.0 + n, "launched_at": START}
        for n in range(count)
    }
