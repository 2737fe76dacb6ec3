"""The shop's files: a log in one Parquet file for each week of arrival, users, items, and the dataset contract."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.artifacts.progress import Progress, silent
from components.errors import InputError
from components.events.shop.behaviour import EVENTS, SLOTS, Log, simulate
from components.events.shop.contract_text import CONTRACT
from components.events.shop.dirt import soiled
from components.events.shop.traffic import DEVICES, draw_requests
from components.events.shop.world import (
    CATEGORIES,
    DAYS,
    PROVIDERS,
    START,
    Bools,
    Catalogue,
    Floats,
    Ints,
    People,
    draw_catalogue,
    draw_people,
)

USERS = 5_000
ITEMS = 800
REQUESTS = 35_000
BOTS = 8
SMALLEST_SCALE = 0.01
LARGEST_SCALE = 100.0

_END = DAYS * 86_400.0
_UTC = pa.timestamp("us", tz="UTC")


def generate_shop(out: Path, *, seed: int, scale: float = 1.0, progress: Progress = silent) -> Path:
    """Write the log, the tables and the contract into `out`; see the package's docstring for what they hold.

    Args:
        out: An existing, empty directory.
        seed: At least 0; the same seed and scale give the same bytes.
        scale: Users and requests grow with it, items with its square root; the ten weeks stay. At 1: 5 000 users, 800
            items, 35 000 requests of 12 impressions.
        progress: Told what is being done.

    Returns:
        The dataset contract, `out / "dataset.yaml"`.

    Raises:
        InputError: If seed or scale is out of range.
    """
    if not SMALLEST_SCALE <= scale <= LARGEST_SCALE:
        raise InputError(f"scale: found {scale}; needed a number from {SMALLEST_SCALE} to {LARGEST_SCALE:g}.")
    if seed < 0:
        raise InputError(f"seed: found {seed}; needed an integer of at least 0.")
    rng = np.random.default_rng(seed)
    progress("drawing users and items")
    people = draw_people(rng, n=max(round(USERS * scale), 50), bots=max(round(BOTS * scale), 2))
    items = draw_catalogue(rng, m=max(round(ITEMS * scale**0.5), 80))
    requests = draw_requests(rng, people, n=max(round(REQUESTS * scale), 300))
    progress(f"showing {len(requests):,} lists of {SLOTS} to {len(people):,} users")
    log = simulate(rng, people, items, requests)
    log = log.take(log.arrived < _END)
    log = soiled(rng, log)
    progress(f"writing {len(log):,} events")
    _write_events(log, people, items, out / "events")
    pq.write_table(_users_table(rng, people), out / "users.parquet")
    pq.write_table(_items_table(items), out / "items.parquet")
    contract = out / "dataset.yaml"
    contract.write_text(CONTRACT, encoding="utf-8")
    return contract


def _write_events(log: Log, people: People, items: Catalogue, folder: Path) -> None:
    folder.mkdir()
    log = log.take(np.argsort(log.arrived, kind="stable"))
    week = (log.arrived // (7 * 86_400)).astype(np.int64)
    for number in np.unique(week):
        table = _events_table(log.take(week == number), people, items)
        pq.write_table(table, folder / f"week-{number + 1:02d}.parquet")


def _events_table(log: Log, people: People, items: Catalogue) -> pa.Table:
    requests = np.unique(log.request[log.request >= 0])
    request = np.where(log.request < 0, -1, np.searchsorted(requests, log.request))
    return pa.table(
        {
            "user_id": _decoded(log.user, people.ids),
            "item_id": pa.array(items.ids[log.item], mask=log.item < 0),
            "ts": _timestamps(log.second),
            "event": _decoded(log.event, np.array([*EVENTS, "product_view"])),
            "request_id": _decoded(request, np.array([f"r{number:07d}" for number in requests])),
            "position": pa.array(log.position.astype(np.int32), mask=log.position == 0),
            "value": pa.array(log.value, mask=np.isnan(log.value)),
            "ingested_at": _timestamps(log.arrived),
            "device": _decoded(log.device, np.array(DEVICES)),
            "policy": _decoded(log.explored.astype(np.int64), np.array(["ranked", "explore"])),
        }
    )


def _users_table(rng: np.random.Generator, people: People) -> pa.Table:
    """Registered users; one age in twenty-five is unknown."""
    rows = people.registered
    undisclosed = rng.random(int(rows.sum())) < 0.04
    return pa.table(
        {
            "user_id": pa.array(people.ids[rows]),
            "country": pa.array(people.country[rows]),
            "age_band": pa.array(people.age_band[rows], mask=undisclosed),
            "gender": pa.array(people.gender[rows]),
            "plan": pa.array(people.plan[rows]),
            "tenure_days": pa.array(np.floor(np.maximum(-people.joined[rows], 0.0))),
            "consent": pa.array(np.where(people.consents[rows], "granted", "refused")),
        }
    )


def _items_table(items: Catalogue) -> pa.Table:
    """Items that are still listed; what was shown before it was taken off the list is only in the log."""
    rows = items.listed
    return pa.table(
        {
            "item_id": pa.array(items.ids[rows]),
            "category": _decoded(items.category[rows], np.array(CATEGORIES)),
            "price": pa.array(items.price[rows]),
            "provider": _decoded(items.provider[rows], np.array(PROVIDERS)),
            "launched_at": _timestamps(items.launched[rows] * 86_400),
        }
    )


def _decoded(codes: Ints, texts: np.typing.NDArray[np.str_]) -> pa.Array:
    """Texts by code; null where the code is -1."""
    missing: Bools = codes < 0
    return pa.DictionaryArray.from_arrays(
        pa.array(codes.astype(np.int32), mask=missing), pa.array(texts)
    ).dictionary_decode()


def _timestamps(second: Floats) -> pa.Array:
    """Seconds after START as microseconds since the epoch; null where NaN."""
    missing = np.isnan(second)
    since_epoch = int(START.timestamp()) * 1_000_000 + np.round(np.where(missing, 0.0, second) * 1e6).astype(np.int64)
    return pa.array(since_epoch, mask=missing).cast(_UTC)
