"""Certainty comes from users: the same users asking the same thing five times over are no more users."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from components.artifacts import documents
from components.dataset.contract import Dataset
from components.evidence.contract import Estimate, Evidence
from components.evidence.exposure import measure_provider_fairness
from components.evidence.fairness import measure_user_fairness
from components.evidence.quality import measure_quality

World = Any
TIMES = 5


@pytest.fixture(scope="module")
def once(write_world: Callable[..., World], tmp_path_factory: pytest.TempPathFactory) -> World:
    world = write_world(users=80)
    folder = tmp_path_factory.mktemp("once") / "dataset"
    shutil.copytree(world.dataset, folder)
    items = pq.read_table(folder / "items.parquet")
    brands = pa.array([f"p{row % 3}" for row in range(items.num_rows)], pa.string())
    pq.write_table(items.append_column("brand", brands), folder / "items.parquet")
    manifest = documents.load(Dataset, folder / "dataset.json")
    documents.save(replace(manifest, provider="brand"), folder / "dataset.json")
    return replace(world, dataset=folder)


@pytest.fixture(scope="module")
def often(once: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """The same world, each of its requests made five times with the same lists and outcomes."""
    folder = tmp_path_factory.mktemp("often") / "rankings"
    shutil.copytree(once.rankings, folder)
    for name in ("requests.parquet", "rankings.parquet"):
        table = pq.read_table(once.rankings / name)
        highest = pc.max(pq.read_table(once.rankings / "requests.parquet")["request"]).as_py() + 1
        column = table.column_names.index("request")
        copies = [
            table.set_column(column, "request", pc.add(table["request"], pa.scalar(time * highest, pa.int32())))
            for time in range(TIMES)
        ]
        order = [("request", "ascending")]
        if name == "rankings.parquet":
            order = [("system", "ascending"), *order, ("rank", "ascending")]
        pq.write_table(pa.concat_tables(copies).sort_by(order), folder / name)
    return replace(once, rankings=folder)


def _measured(world: World, out: Path) -> dict[tuple[Any, ...], Estimate]:
    out.mkdir()
    found: list[Evidence] = [
        measure_quality(world.dataset, world.rankings, out=out, seed=3),
        measure_user_fairness(world.dataset, world.rankings, out, out=out, seed=3),
        measure_provider_fairness(world.dataset, world.rankings, out=out, seed=3),
    ]
    return {
        (evidence.question, e.metric, e.statistic, e.subject, e.versus, tuple(sorted(e.segment.items()))): e
        for evidence in found
        for e in evidence.estimates
    }


def test_the_same_requests_five_times_over_make_no_interval_narrower(once: World, often: World, tmp_path: Path) -> None:
    first, second = _measured(once, tmp_path / "once"), _measured(often, tmp_path / "often")
    assert first.keys() == second.keys()
    sampled = [key for key, e in first.items() if e.method != "exact" and e.low is not None]
    assert {key[0] for key in sampled} == {"quality", "fairness-users", "fairness-providers"}
    assert len(sampled) > 100
    for key in sampled:
        one, five = first[key], second[key]
        assert five.n_requests == TIMES * one.n_requests, key
        assert five.n_users == one.n_users, key
        assert _figures(five) == pytest.approx(_figures(one), rel=1e-5, abs=1e-7, nan_ok=True), key


def _figures(estimate: Estimate) -> list[float]:
    return [math.nan if figure is None else figure for figure in (estimate.value, estimate.low, estimate.high)]


def test_the_interval_of_exposure_for_merit_is_as_wide_as_users_drawn_one_resample_at_a_time_say(
    once: World, tmp_path: Path
) -> None:
    found = _measured(once, tmp_path / "evidence")
    names = pq.read_table(once.dataset / "items.parquet")["brand"].to_pylist()
    owner = {row["request"]: row for row in pq.read_table(once.rankings / "requests.parquet").to_pylist()}
    exposure, gains = (np.zeros((80, 3)) for _ in range(2))
    for row in pq.read_table(once.rankings / "rankings.parquet").to_pylist():
        request = owner[row["request"]]
        if row["system"] == "candidate" and request["split"] == "test":
            provider = int(names[row["item"]][1:])
            exposure[request["user"], provider] += 1 / math.log2(1 + row["rank"]) if row["rank"] <= 10 else 0.0
            gains[request["user"], provider] += row["gain"]
    rng = np.random.default_rng(0)
    logs = []
    for _ in range(2000):
        users = rng.integers(0, 80, 80)
        shown, earned = exposure[users].sum(axis=0), gains[users].sum(axis=0)
        logs.append(np.log(shown / shown.sum()) - np.log(earned / earned.sum()))
    spread = np.std(logs, axis=0)
    for provider in range(3):
        key = ("fairness-providers", "exposure@10", "ratio", f"p{provider}", "relevance", ())
        estimate = found[key]
        assert estimate.low is not None
        assert estimate.high is not None
        width = math.log(estimate.high) - math.log(estimate.low)
        # Three intervals that hold together: between a plain one's 1.96 and Bonferroni's 2.39, and a little for skewness.
        assert 2 * 1.9 * spread[provider] < width < 2 * 2.8 * spread[provider]
