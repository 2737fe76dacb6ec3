"""A small dataset and rankings directory, written as their contracts say, with known harms in it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.artifacts import documents
from components.dataset.build import build_dataset
from components.dataset.contract import Cut, Dataset
from components.events.declaration import load_contract
from components.events.shop import generate_shop
from components.events.snapshot import take_snapshot
from components.ranker.contract import Rankings, System
from components.ranker.ranking import rank
from components.ranker.train import train_ranker

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
KINDS = {"candidate": "candidate", "incumbent": "incumbent"}


@dataclass(frozen=True, slots=True)
class World:
    """Where the two directories lie, and what was put into them."""

    dataset: Path
    rankings: Path
    truth: dict[str, np.ndarray]


@pytest.fixture(scope="session")
def write_world(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., World]:
    """Writes a world; skill is how much of the true taste a system's scores know, by system."""

    def write(
        *,
        users: int = 80,
        items: int = 50,
        shown: int = 12,
        requests_per_user: int = 3,
        seed: int = 0,
        skills: dict[str, float] | None = None,
        cutoffs: Sequence[int] = (5, 10),
        bias: float = -2.2,
        miscalibration: float = 0.0,
        segments: tuple[str, ...] = ("country",),
        category: str = "category",
    ) -> World:
        folder = tmp_path_factory.mktemp("world")
        dataset, rankings = folder / "dataset", folder / "rankings"
        dataset.mkdir()
        rankings.mkdir()
        rng = np.random.default_rng(seed)
        skills = skills or {"candidate": 1.0, "incumbent": 0.9, "item-knn": 0.5, "popularity": 0.3, "random": 0.0}
        country = rng.choice(["DE", "FR", "IT"], users, p=[0.6, 0.3, 0.1]).astype(object)
        country[:5] = None
        n_requests = users * requests_per_user * 2
        user = np.tile(np.arange(users), requests_per_user * 2)
        split = np.repeat(["validation", "test"], n_requests // 2)
        taste = rng.standard_normal((n_requests, shown))
        item = np.argsort(rng.random((n_requests, items)), axis=1)[:, :shown]
        spread = np.where(split == "test", miscalibration, 0.0)[:, None]
        chance = 1 / (1 + np.exp(-(bias + spread + 1.5 * taste)))
        positive = rng.random(chance.shape) < chance
        gain = np.where(positive, rng.choice([1.0, 3.0], chance.shape, p=[0.8, 0.2]), 0.0).astype(np.float32)

        rows = []
        for system in sorted(skills):
            skill = skills[system]
            score = (skill * taste + (1 - skill) * rng.standard_normal(taste.shape)).astype(np.float32)
            for request in range(n_requests):
                if split[request] == "validation" and system != "candidate":
                    continue
                order = np.lexsort((item[request], -score[request]))
                rows.append(
                    pa.table(
                        {
                            "system": pa.array([system] * shown),
                            "request": pa.array(np.full(shown, request), pa.int32()),
                            "rank": pa.array(np.arange(1, shown + 1), pa.int32()),
                            "item": pa.array(item[request][order], pa.int32()),
                            "score": pa.array(score[request][order]),
                            "gain": pa.array(gain[request][order]),
                            "positive": pa.array(positive[request][order]),
                        }
                    )
                )
        pq.write_table(pa.concat_tables(rows), rankings / "rankings.parquet")
        pq.write_table(
            pa.table(
                {
                    "request": pa.array(np.arange(n_requests), pa.int32()),
                    "request_id": [f"r{i}" for i in range(n_requests)],
                    "user": pa.array(user, pa.int32()),
                    "split": split.tolist(),
                    "ts": pa.array([BEGIN + timedelta(hours=i) for i in range(n_requests)], pa.timestamp("us", "UTC")),
                    "n_candidates": pa.array(np.full(n_requests, shown), pa.int32()),
                    "n_relevant": pa.array(positive.sum(axis=1), pa.int32()),
                    "ideal_gains": pa.array((-np.sort(-gain, axis=1)).tolist(), pa.list_(pa.float32())),
                }
            ),
            rankings / "requests.parquet",
        )
        popularity = np.floor(100 / (1 + np.arange(items)))
        pq.write_table(
            pa.table(
                {
                    "item": pa.array(np.arange(items), pa.int32()),
                    "eligible": pa.array(np.arange(items) < items - 2),
                    "popularity": pa.array(popularity),
                }
            ),
            rankings / "catalogue.parquet",
        )
        documents.save(
            Rankings(
                schema_version=1,
                dataset="0" * 64,
                ranker="1" * 64,
                mode="logged",
                systems=tuple(System(name, KINDS.get(name, "baseline"), "", name) for name in sorted(skills)),
                depth=shown,
                cutoffs=tuple(cutoffs),
                test_requests=n_requests // 2,
                test_users=users,
                catalogue=items - 2,
            ),
            rankings / "rankings.json",
        )
        history_user = np.repeat(np.arange(1, users), 4)
        history_item = rng.integers(0, items, history_user.size)
        known_history = max(history_user.size - 8, 0)
        pq.write_table(
            pa.table(
                {
                    "user": pa.array(history_user, pa.int32()),
                    "item": pa.array(history_item, pa.int32()),
                    "ts": pa.array([BEGIN] * history_user.size, pa.timestamp("us", "UTC")),
                    "bucket": pa.array(np.zeros(history_user.size, np.int64)),
                    "gain": pa.array(np.ones(history_user.size, np.float32)),
                    "event": ["click"] * history_user.size,
                }
            ),
            dataset / "history.parquet",
        )
        pq.write_table(
            pa.table(
                {
                    "user": pa.array(np.arange(users), pa.int32()),
                    "user_id": [f"u{i:05d}" for i in range(users)],
                    "country": pa.array(country.tolist(), pa.string()),
                }
            ),
            dataset / "users.parquet",
        )
        pq.write_table(
            pa.table(
                {
                    "item": pa.array(np.arange(items), pa.int32()),
                    "item_id": [f"i{i:05d}" for i in range(items)],
                    "category": pa.array([None if i % 7 == 0 else f"c{i % 5}" for i in range(items)], pa.string()),
                }
            ),
            dataset / "items.parquet",
        )
        manifest = Dataset(
            schema_version=1,
            snapshot="2" * 64,
            name="small",
            mode="logged",
            bucket_seconds=3600,
            features=(),
            cuts=(
                Cut("test", BEGIN.isoformat(), 1, known_history),
                Cut("release", BEGIN.isoformat(), 2, history_user.size),
            ),
            outcomes=("click",),
            context=(),
            segments=segments,
            sensitive=(),
            intersections=(),
            category=category,
            provider="",
            price="",
            cutoffs=tuple(cutoffs),
            exclude_seen=False,
            users=users,
            items=items,
            requests={"train": 0, "validation": n_requests // 2, "test": n_requests // 2},
            rows={"train": 0, "validation": 0, "test": 0},
            positives={"train": 0, "validation": 0, "test": 0},
            seed=seed,
        )
        documents.save(manifest, dataset / "dataset.json")
        truth = {
            "user": user,
            "split": split,
            "item": item,
            "gain": gain,
            "positive": positive,
            "popularity": popularity,
            "history_user": history_user[:known_history],
            "history_item": history_item[:known_history],
            "country": country,
        }
        return World(dataset, rankings, truth)

    return write


@pytest.fixture(scope="session")
def world(write_world: Callable[..., World]) -> World:
    """The default world, shared: tests must not change it."""
    return write_world()


@dataclass(frozen=True, slots=True)
class Run:
    """Folders of one honest run."""

    dataset: Path
    ranker: Path
    rankings: Path


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A small shop, really trained on and ranked; shared: tests must not change it."""
    folder = tmp_path_factory.mktemp("honest")
    for name in ("shop", "snapshot", "dataset", "ranker", "rankings"):
        (folder / name).mkdir()
    contract = load_contract(generate_shop(folder / "shop", seed=4, scale=0.05))
    assert contract.as_of is not None
    take_snapshot(contract, base=folder / "shop", as_of=contract.as_of, out=folder / "snapshot")
    build_dataset(folder / "snapshot", out=folder / "dataset", seed=4)
    train_ranker(folder / "dataset", out=folder / "ranker", seed=4, threads=1)
    rank(folder / "dataset", folder / "ranker", incumbent=None, out=folder / "rankings", seed=4, threads=1)
    return Run(folder / "dataset", folder / "ranker", folder / "rankings")


@pytest.fixture(scope="session")
def processes_of() -> Callable[[Path], list[int]]:
    """Tells which other programs run whose environment names a folder; one that ended and was not waited for does not run."""

    def running(folder: Path) -> list[int]:
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            try:
                # Of one that has ended the environment is empty.
                if str(folder).encode() in (place / "environ").read_bytes():
                    found.append(int(place.name))
            except OSError:
                continue
        return [pid for pid in found if pid != os.getpid()]

    return running


@pytest.fixture(scope="session")
def changed_manifest() -> Callable[..., None]:
    """Rewrites fields of a document in place."""

    def change(kind: type, path: Path, **fields: object) -> None:
        documents.save(replace(documents.load(kind, path), **fields), path)

    return change


@pytest.fixture(scope="session")
def documented(repository: Path) -> dict[str, set[str]]:
    """Metric names that docs/evidence.md lists, by question; `@k` stands for any cut-off."""
    found: dict[str, set[str]] = {}
    question = ""
    for line in (repository / "docs" / "evidence.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            question = line.split()[1]
        elif line.startswith("|"):
            names = re.findall(r"`([^`]+)`", line.split("|")[1])
            found.setdefault(question, set()).update(re.sub(r"@\w+", "@k", name) for name in names)
    return found
