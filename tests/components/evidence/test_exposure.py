"""Providers' exposure, against counting by hand."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.artifacts import documents
from components.artifacts.digests import digest_tree
from components.dataset.contract import Dataset
from components.evidence.contract import Evidence
from components.evidence.exposure import measure_provider_fairness
from components.evidence.provider_shares import TOGETHER, gini

World = Any


@pytest.fixture(scope="module")
def provided(write_world: Callable[..., World], tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world whose items have four providers, one of them tiny, and some without."""
    world = write_world(users=60, items=50)
    folder = tmp_path_factory.mktemp("provided") / "dataset"
    shutil.copytree(world.dataset, folder)
    items = pq.read_table(folder / "items.parquet")
    names = [None if i % 11 == 0 else "tiny" if i == 1 else f"p{i % 3}" for i in range(items.num_rows)]
    pq.write_table(items.append_column("brand", pa.array(names, pa.string())), folder / "items.parquet")
    manifest = documents.load(Dataset, folder / "dataset.json")
    documents.save(replace(manifest, provider="brand"), folder / "dataset.json")
    return replace(world, dataset=folder)


def _measured(world: World, folder: Path) -> Evidence:
    folder.mkdir()
    return measure_provider_fairness(world.dataset, world.rankings, out=folder, seed=1)


def _by_hand(world: World) -> dict[str, tuple[float, float, float]]:
    """Exposure, relevance and catalogue share of each provider, with plain loops."""
    names = pq.read_table(world.dataset / "items.parquet")["brand"].to_pylist()
    tests = {
        row["request"]
        for row in pq.read_table(world.rankings / "requests.parquet").to_pylist()
        if row["split"] == "test"
    }
    exposure: dict[str, float] = {}
    relevance: dict[str, float] = {}
    for row in pq.read_table(world.rankings / "rankings.parquet").to_pylist():
        if row["system"] != "candidate" or row["request"] not in tests:
            continue
        name = names[row["item"]] or "unknown"
        exposure[name] = exposure.get(name, 0.0) + (1 / math.log2(1 + row["rank"]) if row["rank"] <= 10 else 0.0)
        relevance[name] = relevance.get(name, 0.0) + row["gain"]
    catalogue: dict[str, float] = {}
    for row in pq.read_table(world.rankings / "catalogue.parquet").to_pylist():
        if row["eligible"]:
            name = names[row["item"]] or "unknown"
            catalogue[name] = catalogue.get(name, 0.0) + 1
    totals = [sum(part.values()) for part in (exposure, relevance, catalogue)]
    return {
        name: (exposure[name] / totals[0], relevance[name] / totals[1], catalogue[name] / totals[2])
        for name in exposure
    }


def test_every_provider_is_in_the_table_with_the_shares_counted_by_hand(provided: World, tmp_path: Path) -> None:
    evidence = _measured(provided, tmp_path / "evidence")
    table = pq.read_table(tmp_path / "evidence" / evidence.tables["providers"]).to_pylist()
    found = {
        row["provider"]: (row["exposure_share"], row["relevance_share"], row["catalogue_share"])
        for row in table
        if row["system"] == "candidate"
    }
    expected = _by_hand(provided)
    assert found.keys() == expected.keys()
    for name, shares in expected.items():
        assert found[name] == pytest.approx(shares)


def test_ratios_are_of_these_shares_and_their_intervals_hold_them(provided: World, tmp_path: Path) -> None:
    evidence = _measured(provided, tmp_path / "evidence")
    expected = _by_hand(provided)
    alone = [e for e in evidence.estimates if e.statistic == "ratio" and e.subject != TOGETHER]
    assert {e.subject for e in alone} >= {"p0", "p1", "p2", "unknown"}
    for estimate in alone:
        exposure, relevance, catalogue = expected[estimate.subject]
        against = relevance if estimate.versus == "relevance" else catalogue
        assert estimate.value == pytest.approx(exposure / against)
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low < estimate.value < estimate.high


def test_a_buried_provider_is_shown_to_get_less_than_it_earns(provided: World, tmp_path: Path) -> None:
    copied = tmp_path / "rankings"
    shutil.copytree(provided.rankings, copied)
    names = np.array(
        [name or "unknown" for name in pq.read_table(provided.dataset / "items.parquet")["brand"].to_pylist()]
    )
    table = pq.read_table(copied / "rankings.parquet").to_pandas()
    table["buried"] = (names[table["item"].to_numpy()] == "p1") & (table["system"] == "candidate")
    table = table.sort_values(["system", "request", "buried", "rank"], kind="stable")
    table["rank"] = table.groupby(["system", "request"]).cumcount().astype("int32") + 1
    table = table.drop(columns="buried")
    schema = pq.read_schema(copied / "rankings.parquet")
    pq.write_table(pa.Table.from_pandas(table, schema=schema, preserve_index=False), copied / "rankings.parquet")
    evidence = _measured(replace(provided, rankings=copied), tmp_path / "evidence")
    buried = next(e for e in evidence.estimates if (e.subject, e.versus) == ("p1", "relevance"))
    assert buried.high is not None
    assert buried.high < 0.9
    assert "p1" in evidence.sentences[0]


def test_without_providers_there_is_no_estimate_and_it_says_so(world: World, tmp_path: Path) -> None:
    evidence = _measured(world, tmp_path / "evidence")
    assert evidence.estimates == ()
    assert "no provider" in evidence.sentences[0]


def test_the_same_inputs_give_the_same_bytes(provided: World, tmp_path: Path) -> None:
    _measured(provided, tmp_path / "one")
    _measured(provided, tmp_path / "two")
    assert digest_tree(tmp_path / "one") == digest_tree(tmp_path / "two")


@pytest.mark.parametrize(
    ("shares", "expected"), [([1.0], 0.0), ([0.25] * 4, 0.0), ([0.0, 0.0, 0.0, 1.0], 0.75), ([0.5, 0.25, 0.25], 1 / 6)]
)
def test_gini_of_known_shares(shares: list[float], expected: float) -> None:
    assert gini(np.array(shares)) == pytest.approx(expected)
