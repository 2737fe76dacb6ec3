"""Two small worlds, built by the rooms upstream: a shop whose lists were logged, and one that only knows purchases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.dataset.build import build_dataset
from components.events.declaration import load_contract
from components.events.shop import generate_shop
from components.events.snapshot import take_snapshot
from components.ranker.contract import Ranker, Rankings
from components.ranker.ranking import rank
from components.ranker.train import train_ranker

PURCHASES = """
schema: rankgate/dataset/v1
name: small-shop
tables:
  events: {path: [events.parquet]}
  users: {path: [users.parquet]}
  items: {path: [items.parquet]}
events:
  purchase: {gain: 1}
  gift: {gain: 3}
attributes:
  users: {country: {role: segment}}
  items:
    category: {role: feature}
    price: {role: feature, type: number}
item: {category: category, price: price}
requests: {mode: sampled, horizon: P7D, cuts: 3, negatives: 20}
bucket: day
as_of: "2026-03-01T00:00:00Z"
split: {test: {days: 7}, validation: {days: 7}}
evaluation: {cutoffs: [3, 10], exclude_seen: true}
"""


@dataclass(frozen=True)
class Trained:
    """A data set with its ranker and rankings."""

    dataset: Path
    ranker: Path
    rankings: Path
    manifest: Ranker
    ranked: Rankings


def write_purchases(folder: Path, *, users: int = 60, items: int = 50, days: int = 80, seed: int = 0) -> Path:
    """A shop of four tastes: each user mostly buys items of their own, some of which come into fashion."""
    rng = np.random.default_rng(seed)
    end = datetime(2026, 3, 1, tzinfo=UTC)
    rows = []
    for user in range(users):
        for _ in range(int(rng.integers(8, 30))):
            day = rng.random() * days
            fashion = np.exp(-0.5 * ((np.arange(items) * 2 - day) / 15) ** 2)
            weight = fashion * np.where(np.arange(items) % 4 == user % 4, 8.0, 1.0)
            item = int(rng.choice(items, p=weight / weight.sum()))
            event = "gift" if rng.random() < 0.2 else "purchase"
            rows.append((f"u{user:03d}", f"i{item:03d}", end - timedelta(days=days - day), event))
    columns = list(zip(*rows, strict=True))
    names = ("user_id", "item_id", "ts", "event")
    types = (pa.string(), pa.string(), pa.timestamp("us", tz="UTC"), pa.string())
    arrays = [pa.array(column, type=kind) for column, kind in zip(columns, types, strict=True)]
    pq.write_table(pa.table(dict(zip(names, arrays, strict=True))), folder / "events.parquet")
    ids = [f"u{user:03d}" for user in range(users)]
    pq.write_table(
        pa.table({"user_id": ids, "country": ["NL" if len(i) % 2 else "BE" for i in ids]}), folder / "users.parquet"
    )
    described = {
        "item_id": [f"i{item:03d}" for item in range(items)],
        "category": [f"taste {item % 4}" for item in range(items)],
        "price": [float(5 + item % 7) for item in range(items)],
    }
    pq.write_table(pa.table(described), folder / "items.parquet")
    (folder / "dataset.yaml").write_text(PURCHASES, encoding="utf-8")
    return folder / "dataset.yaml"


def build(contract_path: Path, work: Path) -> Path:
    """Snapshot and data set of a contract; the data set's folder."""
    contract = load_contract(contract_path)
    snapshot, dataset = work / "snapshot", work / "dataset"
    for folder in (snapshot, dataset):
        folder.mkdir()
    take_snapshot(contract, base=contract_path.parent, as_of=contract.as_of, out=snapshot)
    build_dataset(snapshot, out=dataset, seed=0)
    return dataset


def run_both(dataset: Path, work: Path, *, incumbent: Path | None = None, seed: int = 0, threads: int = 1) -> Trained:
    ranker, rankings = work / "ranker", work / "rankings"
    for folder in (ranker, rankings):
        folder.mkdir(parents=True)
    manifest = train_ranker(dataset, out=ranker, seed=seed, threads=threads)
    ranked = rank(dataset, ranker, incumbent=incumbent, out=rankings, seed=seed, threads=threads)
    return Trained(dataset, ranker, rankings, manifest, ranked)


@pytest.fixture(scope="session")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    work = tmp_path_factory.mktemp("logged")
    shop = work / "shop"
    shop.mkdir()
    return run_both(build(generate_shop(shop, seed=1, scale=0.05), work), work)


@pytest.fixture(scope="session")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    work = tmp_path_factory.mktemp("sampled")
    source = work / "source"
    source.mkdir()
    return run_both(build(write_purchases(source), work), work)


@pytest.fixture(scope="session")
def train_and_rank() -> Callable[..., Trained]:
    return run_both


@pytest.fixture(scope="session")
def build_dataset_of() -> Callable[[Path, Path], Path]:
    return build
