"""Measures what the dataset room costs on a generated log: `python tests/components/dataset/measure_speed.py --events 2000000`.

Prints events a second for preparing the bucket tables, rows a second for looking training rows up, and how long one request
of 100 candidates takes. Ids are even-handed (a bounded power law), a tenth of the events arrives hours late.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.dataset.features import declare, impression_of, outcomes_of
from components.dataset.lookup import FeatureTables
from components.dataset.preparing import build_tables
from components.dataset.staging import code, stage

HOUR_US = 3_600_000_000


def load_worlds() -> Any:
    spec = importlib.util.spec_from_file_location("dataset_worlds", Path(__file__).with_name("worlds.py"))
    assert spec
    assert spec.loader
    module = sys.modules["dataset_worlds"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_log(worlds: Any, folder: Path, *, events: int, users: int, items: int, days: int) -> Path:
    """A snapshot of the LOGGED contract with arrays for rows."""
    contract = worlds.contract_of(worlds.LOGGED)
    people = {f"u{n:07d}": row for n, row in enumerate(worlds.people(users).values())}
    goods = {f"i{n:07d}": row for n, row in enumerate(worlds.goods(items).values())}
    worlds.write_snapshot(worlds.World(contract, (), people, goods), folder)
    rng = np.random.default_rng(0)
    begin = int(worlds.START.timestamp() * 1e6)
    ts = np.sort(rng.integers(begin, begin + days * 24 * HOUR_US, events))
    late = np.where(rng.random(events) < 0.1, rng.integers(0, 48 * HOUR_US, events), 0)
    user = (users * rng.random(events) ** 2).astype(np.int64)
    item = (items * rng.random(events) ** 3).astype(np.int64)
    time_type = pa.timestamp("us", tz="UTC")
    columns = {
        "user_id": pa.array(list(people)).take(pa.array(user)),
        "item_id": pa.array(list(goods)).take(pa.array(item)),
        "ts": pa.array(ts).cast(time_type),
        "event": pa.array(["impression", "click", "purchase"]).take(
            pa.array(rng.choice(3, events, p=[0.88, 0.1, 0.02]))
        ),
        "request_id": pa.nulls(events, pa.string()),
        "position": pa.nulls(events, pa.int32()),
        "value": pa.nulls(events, pa.float64()),
        "ingested_at": pa.array(ts + late).cast(time_type),
        "device": pa.array(["phone", "web"]).take(pa.array(rng.integers(0, 2, events))),
    }
    pq.write_table(pa.table(columns), folder / "events.parquet")
    return folder


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--events", type=int, default=2_000_000)
    arguments.add_argument("--users", type=int, default=50_000)
    arguments.add_argument("--items", type=int, default=5_000)
    arguments.add_argument("--days", type=int, default=70)
    arguments.add_argument("--rows", type=int, default=500_000)
    asked = arguments.parse_args()
    worlds = load_worlds()
    with tempfile.TemporaryDirectory() as name, duckdb.connect(f"{name}/work.duckdb") as connection:
        snapshot, out = Path(name) / "snapshot", Path(name) / "tables"
        write_log(worlds, snapshot, events=asked.events, users=asked.users, items=asked.items, days=asked.days)
        out.mkdir()
        contract = worlds.contract_of(worlds.LOGGED)
        connection.execute("SET TimeZone = 'UTC'")
        begin = time.perf_counter()
        stage(connection, snapshot, contract, bucket_us=HOUR_US)
        coded = code(connection, snapshot, contract, bucket_us=HOUR_US)
        staged = time.perf_counter()
        first = worlds.bucket_at(0)
        manifest = build_tables(
            connection,
            replace(coded.entities),
            features=declare(contract),
            bucket_seconds=3_600,
            boundaries=range(first + 168, first + 24 * asked.days, 168),
            outcomes=outcomes_of(contract),
            impression=impression_of(contract),
            context=coded.context,
            users=asked.users,
            out=out,
        )
        built = time.perf_counter()
        size = sum(path.stat().st_size for path in out.iterdir())
        print(
            f"{asked.events:,} events, {len(manifest.features)} features, {len(manifest.boundaries)} refits of co-visitation"
        )
        print(f"coding       {staged - begin:6.2f} s  {asked.events / (staged - begin):12,.0f} events/s")
        print(
            f"bucket tables{built - staged:6.2f} s  {asked.events / (built - staged):12,.0f} events/s, {size / 1e6:,.0f} MB"
        )
        tables = FeatureTables.open(out)
        rng = np.random.default_rng(1)
        requests = asked.rows // 20
        users = np.repeat((asked.users * rng.random(requests) ** 2).astype(np.int32), 20)
        buckets = np.repeat(rng.integers(first + 168, first + 24 * asked.days, requests), 20)
        items = (asked.items * rng.random(len(users)) ** 3).astype(np.int32)
        begin = time.perf_counter()
        tables.matrix(users, items, buckets, {"device": ["web"] * len(users)})
        looked = time.perf_counter() - begin
        print(f"training rows{looked:6.2f} s  {len(users) / looked:12,.0f} rows/s")
        taken = []
        for _ in range(500):
            user = np.full(100, rng.integers(0, asked.users), np.int32)
            some = rng.choice(asked.items, 100, replace=False).astype(np.int32)
            begin = time.perf_counter()
            tables.matrix(user, some, np.full(100, tables.latest_bucket), {"device": ["web"] * 100})
            taken.append((time.perf_counter() - begin) * 1e3)
        middle, most = np.percentile(taken, [50, 99])
        print(
            f"one request of 100 candidates: {min(taken):.2f} ms at best, {middle:.2f} ms median, {most:.2f} ms at p99"
        )


if __name__ == "__main__":
    main()
