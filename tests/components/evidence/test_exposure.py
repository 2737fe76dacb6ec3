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
from components.evidence.contract import Estimate, Evidence
from components.evidence.exposure import measure_provider_fairness
from components.evidence.provider_shares import TOGETHER, gini
from components.ranker.contract import Rankings

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


def test_a_provider_that_is_never_shown_is_surely_shown_too_little(
    write_world: Callable[..., World], tmp_path: Path
) -> None:
    names: list[str | None] = ["buried" if item < 2 else f"p{item % 3}" for item in range(60)]
    world = _with_brands(write_world(users=600, items=60), tmp_path, names=names)
    rankings = tmp_path / "rankings"
    shutil.copytree(world.rankings, rankings)
    rows = pq.read_table(rankings / "rankings.parquet")
    # Its two items go to the end of the candidate's lists of twelve: below the ten places that count.
    last = (rows["item"].to_numpy() < 2) & (np.array(rows["system"].to_pylist()) == "candidate")
    keys = (rows["rank"].to_numpy(), last, rows["request"].to_numpy(), np.array(rows["system"].to_pylist()))
    moved = rows.take(np.lexsort(keys)).set_column(rows.column_names.index("rank"), "rank", rows["rank"])
    pq.write_table(moved, rankings / "rankings.parquet")
    evidence = _measured(replace(world, rankings=rankings), tmp_path / "evidence")
    ratio = _estimate(evidence, "exposure@10", "ratio", "buried", "relevance")
    assert (ratio.value, ratio.low) == (0, 0)
    assert ratio.high is not None
    assert ratio.high < 0.5


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


def _estimate(evidence: Evidence, metric: str, statistic: str, subject: str, versus: str = "") -> Estimate:
    return next(
        e
        for e in evidence.estimates
        if (e.metric, e.statistic, e.subject, e.versus) == (metric, statistic, subject, versus)
    )


def test_differences_and_shares_of_places_are_those_counted_by_hand(provided: World, tmp_path: Path) -> None:
    evidence = _measured(provided, tmp_path / "evidence")
    expected = _by_hand(provided)
    for name in ("p0", "p1", "p2"):
        exposure, relevance, _ = expected[name]
        found = _estimate(evidence, "exposure@10", "difference", name, "relevance")
        assert found.value == pytest.approx(exposure - relevance)
        assert found.low is not None
        assert found.high is not None
        assert found.low < found.value < found.high
    names = pq.read_table(provided.dataset / "items.parquet")["brand"].to_pylist()
    table = pq.read_table(provided.rankings / "rankings.parquet").to_pandas()
    requests = pq.read_table(provided.rankings / "requests.parquet").to_pandas()
    tests = set(requests.loc[requests["split"] == "test", "request"])
    top = table[(table["system"] == "candidate") & (table["rank"] <= 10) & table["request"].isin(tests)]
    shown = [names[item] or "unknown" for item in top["item"]]
    assert _estimate(evidence, "place_share@10", "value", "p0").value == pytest.approx(shown.count("p0") / len(shown))


def test_change_against_the_incumbent_is_the_difference_of_the_tables_shares(provided: World, tmp_path: Path) -> None:
    evidence = _measured(provided, tmp_path / "evidence")
    table = pq.read_table(tmp_path / "evidence" / evidence.tables["providers"]).to_pylist()
    shares = {(row["system"], row["provider"]): row["exposure_share"] for row in table}
    found = _estimate(evidence, "exposure@10", "difference", "p1", "incumbent")
    assert found.value == pytest.approx(shares["candidate", "p1"] - shares["incumbent", "p1"])


def test_overall_figures_of_every_system_follow_from_the_table(provided: World, tmp_path: Path) -> None:
    evidence = _measured(provided, tmp_path / "evidence")
    frame = pq.read_table(tmp_path / "evidence" / evidence.tables["providers"]).to_pandas()
    for system, rows in frame.groupby("system"):
        for versus in ("relevance", "catalogue"):
            moved = (rows["exposure_share"] - rows[f"{versus}_share"]).clip(lower=0).sum()
            assert _estimate(evidence, "exposure_moved@10", "value", str(system), versus).value == pytest.approx(moved)
        large = rows[rows["relevance_share"] >= 0.005]
        least = (large["exposure_share"] / large["relevance_share"]).min()
        assert _estimate(evidence, "least_exposure@10", "value", str(system), "relevance").value == pytest.approx(least)


def test_a_provider_that_few_took_from_gets_no_interval_for_its_difference(
    provided: World, write_world: Callable[..., World], tmp_path: Path
) -> None:
    few = write_world(users=15, items=50)
    evidence = _measured(_with_brands(few, tmp_path), tmp_path / "evidence")
    found = _estimate(evidence, "exposure@10", "difference", "p0", "relevance")
    assert found.detail["users_who_took"] < 20
    assert found.value is not None
    assert (found.low, found.high, found.mde) == (None, None, None)


def test_a_single_provider_has_all_exposure_and_all_relevance(
    write_world: Callable[..., World], tmp_path: Path
) -> None:
    world = write_world(users=40, items=30)
    evidence = _measured(_with_brands(world, tmp_path, names=["only"] * 30), tmp_path / "evidence")
    ratio = _estimate(evidence, "exposure@10", "ratio", "only", "relevance")
    assert ratio.value == pytest.approx(1.0)
    assert ratio.low is not None
    assert ratio.high is not None
    assert ratio.low <= 1.0 <= ratio.high
    assert _estimate(evidence, "exposure_gini@10", "value", "candidate").value == 0.0
    assert _estimate(evidence, "exposure_moved@10", "value", "candidate", "relevance").value == pytest.approx(0.0)


def test_nothing_taken_gives_no_ratio_and_it_says_so(write_world: Callable[..., World], tmp_path: Path) -> None:
    world = _with_brands(write_world(users=10, items=30, bias=-60.0), tmp_path)
    evidence = _measured(world, tmp_path / "evidence")
    assert not [e for e in evidence.estimates if e.statistic in ("ratio", "difference")]
    moved = _estimate(evidence, "exposure_moved@10", "value", "candidate", "relevance")
    assert moved.value is None
    assert "No test request led to anything" in evidence.sentences[0]


def test_sampled_relevance_counts_what_a_system_ranked_too_deep_to_be_listed(provided: World, tmp_path: Path) -> None:
    """Rankings end at a depth; what users took from a provider whose items all lie below it was earned all the same."""
    dataset, rankings = tmp_path / "dataset", tmp_path / "rankings"
    shutil.copytree(provided.dataset, dataset)
    shutil.copytree(provided.rankings, rankings)
    documents.save(replace(documents.load(Dataset, dataset / "dataset.json"), mode="sampled"), dataset / "dataset.json")
    documents.save(
        replace(documents.load(Rankings, rankings / "rankings.json"), mode="sampled"), rankings / "rankings.json"
    )
    names = [name or "unknown" for name in pq.read_table(dataset / "items.parquet")["brand"].to_pylist()]
    table = pq.read_table(rankings / "rankings.parquet").to_pandas()
    taken = table[(table["system"] == "random") & (table["gain"] > 0)]
    late = taken.assign(eligible=taken["item"] % 2 == 0)[["request", "item", "gain", "eligible"]]
    pq.write_table(pa.Table.from_pandas(late, preserve_index=False), dataset / "relevance.parquet")
    # The candidate's lists lose every item of p1.
    kept = ~((table["system"] == "candidate") & table["item"].map(lambda item: names[item] == "p1"))
    schema = pq.read_schema(rankings / "rankings.parquet")
    shorter = table[kept].copy()
    shorter["rank"] = shorter.groupby(["system", "request"]).cumcount().astype("int32") + 1
    pq.write_table(pa.Table.from_pandas(shorter, schema=schema, preserve_index=False), rankings / "rankings.parquet")
    _measured(replace(provided, dataset=dataset, rankings=rankings), tmp_path / "evidence")
    requests = pq.read_table(rankings / "requests.parquet").to_pandas()
    tests = set(requests.loc[requests["split"] == "test", "request"])
    counted = late[late["eligible"] & late["request"].isin(tests)]
    provider = counted["item"].map(lambda item: names[item])
    expected = counted["gain"][provider == "p1"].sum() / counted["gain"].sum()
    found = pq.read_table(tmp_path / "evidence" / "fairness-providers.parquet").to_pandas()
    own = found[(found["system"] == "candidate") & (found["provider"] == "p1")].iloc[0]
    assert own["exposure_share"] == 0.0
    assert own["relevance_share"] == pytest.approx(expected)


def _with_brands(world: World, folder: Path, names: list[str | None] | None = None) -> World:
    dataset = folder / "branded"
    shutil.copytree(world.dataset, dataset)
    items = pq.read_table(dataset / "items.parquet")
    brands = names or [f"p{row % 3}" for row in range(items.num_rows)]
    pq.write_table(items.append_column("brand", pa.array(brands, pa.string())), dataset / "items.parquet")
    manifest = documents.load(Dataset, dataset / "dataset.json")
    documents.save(replace(manifest, provider="brand"), dataset / "dataset.json")
    return replace(world, dataset=dataset)
