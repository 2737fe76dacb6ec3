"""Harms in the event log itself: a flood of bots, a log that stopped arriving."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.dataset.build import build_dataset
from components.errors import InputError
from components.events.contract import DatasetContract
from components.events.declaration import load_contract
from components.events.snapshot import take_snapshot
from pipelines.trials.planting.rows import trained
from pipelines.trials.worlds import Parts

_DAY_US = 86_400_000_000
_EVENTS_A_BOT = 6_000
"""Rows of one bot, about: far busier than any person of the shop."""


def stale(base: Path, parts: Parts, out: Path, *, bounds: float, seed: int) -> Parts:
    """The same log judged later: as old as so many times the contract's bound."""
    declared = load_contract(base / "source" / "dataset.yaml")
    if declared.freshness is None:
        raise InputError(f"{declared.name}: found no bound on the log's age; without one no log is stale.")
    later = _dated(declared) + bounds * declared.freshness
    return _again(declared.model_copy(update={"as_of": later}), base / "source", parts, out, seed=seed)


def flooded(base: Path, parts: Parts, out: Path, *, share: float, rng: np.random.Generator, seed: int) -> Parts:
    """Bots that ask round the clock in the last four weeks, and click on a third of what they are shown.

    Args:
        base: The base's folder.
        parts: Its parts.
        out: An existing folder for what changes.
        share: Rows of the bots by rows of everyone else.
        rng: Draws what they ask for, and when.
        seed: Of the dataset.
    """
    source, flooding = base / "source", out / "source"
    events = pa.concat_tables([pq.read_table(file) for file in sorted((source / "events").glob("*.parquet"))])
    declared = _dated(load_contract(source / "dataset.yaml"))
    extra, names = _of_bots(events, share, round(declared.timestamp() * 1e6), rng)
    (flooding / "events").mkdir(parents=True)
    pq.write_table(pa.concat_tables([events, extra]), flooding / "events" / "all.parquet")
    users = pq.read_table(source / "users.parquet")
    pq.write_table(pa.concat_tables([users, _registered(users, names)]), flooding / "users.parquet")
    pq.write_table(pq.read_table(source / "items.parquet"), flooding / "items.parquet")
    contract = flooding / "dataset.yaml"
    contract.write_bytes((source / "dataset.yaml").read_bytes())
    return _again(load_contract(contract), flooding, parts, out, seed=seed)


def told_afterwards(base: Path, parts: Parts, out: Path, *, share: float, rng: np.random.Generator, seed: int) -> Parts:
    """A context column that is written down after the outcome: in a share of the requests with a click it says so.

    It is `device`: `tablet` after a click, `mobile` in all others. Everything is made again from the log, and a ranker is
    trained on it.
    """
    source, telling = base / "source", out / "source"
    (telling / "events").mkdir(parents=True)
    events = pa.concat_tables([pq.read_table(file) for file in sorted((source / "events").glob("*.parquet"))])
    clicked = pc.unique(events.filter(pc.equal(events["event"], "click"))["request_id"]).drop_null()
    told = clicked.filter(pa.array(rng.random(len(clicked)) < share))
    device = pc.if_else(pc.is_in(events["request_id"], value_set=told), "tablet", "mobile")
    done = events.set_column(events.column_names.index("device"), "device", device)
    pq.write_table(done, telling / "events" / "all.parquet")
    for name in ("users.parquet", "items.parquet", "dataset.yaml"):
        (telling / name).write_bytes((source / name).read_bytes())
    changed = _again(load_contract(telling / "dataset.yaml"), telling, parts, out, seed=seed)
    return trained(base, changed, out, seed=2 * seed + 1)


def _of_bots(events: pa.Table, share: float, end: int, rng: np.random.Generator) -> tuple[pa.Table, list[str]]:
    shown = events.filter(pc.and_(pc.equal(events["event"], "impression"), pc.is_valid(events["request_id"]))).sort_by(
        "request_id"
    )
    wanted = round(share * events.num_rows)
    rows = shown.take(pa.array(rng.integers(0, shown.num_rows, size=max(round(wanted / 1.33), 1))))
    count = rows.num_rows
    names = [f"visitor-{number:04d}" for number in range(max(1, round(wanted / _EVENTS_A_BOT)))]
    ts = np.sort(rng.integers(end - 28 * _DAY_US, end, size=count))
    who = rng.integers(0, len(names), size=count)
    clicks = np.flatnonzero(rng.random(count) < 1 / 3)
    request = [f"crawl-{number}" for number in range(count)]

    def of(event: str, at: np.typing.NDArray[np.int64], later_us: int) -> pa.Table:
        when = pa.array(ts[at] + later_us).cast(pa.timestamp("us", tz="UTC"))
        columns = {
            "user_id": pa.array([names[number] for number in who[at].tolist()]),
            "item_id": rows["item_id"].take(pa.array(at)),
            "ts": when,
            "event": pa.array([event] * len(at)),
            "request_id": pa.array([request[number] for number in at.tolist()]),
            "position": pa.array([1 if event == "impression" else None] * len(at), pa.int32()),
            "value": pa.nulls(len(at), pa.float64()),
            "ingested_at": when,
            "device": pa.array(["desktop"] * len(at)),
            "policy": pa.array(["ranked"] * len(at)),
        }
        return pa.table(columns).cast(events.schema)

    return pa.concat_tables([of("impression", np.arange(count), 0), of("click", clicks, 2_000_000)]), names


def _registered(users: pa.Table, names: list[str]) -> pa.Table:
    """Rows of the users table for the bots: like the first user who gave consent, with nothing else said."""
    model = users.filter(pc.equal(users["consent"], "granted")).slice(0, 1)
    rows = pa.concat_tables([model] * len(names))
    return rows.set_column(rows.column_names.index("user_id"), "user_id", pa.array(names))


def _dated(contract: DatasetContract) -> datetime:
    if contract.as_of is None:
        raise InputError(f"{contract.name}: found no as_of; needed one, or a trial would depend on the clock.")
    return contract.as_of


def _again(contract: DatasetContract, base: Path, parts: Parts, out: Path, *, seed: int) -> Parts:
    (out / "snapshot").mkdir()
    (out / "dataset").mkdir()
    take_snapshot(contract, base=base, as_of=_dated(contract), out=out / "snapshot")
    build_dataset(out / "snapshot", out=out / "dataset", seed=seed)
    return replace(parts, snapshot=out / "snapshot", dataset=out / "dataset")
