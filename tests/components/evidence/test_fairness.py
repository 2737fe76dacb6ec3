"""Quality by group of users, against a plain groupby."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.artifacts import documents
from components.artifacts.digests import digest_tree
from components.dataset.contract import Dataset
from components.errors import EvidenceError
from components.evidence.contract import Evidence
from components.evidence.fairness import POOLED, measure_user_fairness
from components.evidence.quality import measure_quality

World = Any


def _measured(world: World, folder: Path, seed: int = 3) -> Evidence:
    folder.mkdir()
    measure_quality(world.dataset, world.rankings, out=folder, seed=seed)
    return measure_user_fairness(world.dataset, world.rankings, folder, out=folder, seed=seed)


@pytest.fixture(scope="module")
def measured(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Evidence, Path]:
    folder = tmp_path_factory.mktemp("fairness") / "evidence"
    return _measured(world, folder), folder


def _groups(world: World, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """NDCG@10 of each measured user, and their country."""
    table = pq.read_table(folder / "quality-users.parquet")
    values = table["ndcg@10:candidate"].to_numpy()
    known = table["n_requests"].to_numpy() > 0
    country = np.array([value or "unknown" for value in world.truth["country"]])[table["user"].to_numpy()]
    return values[known], country[known]


def test_values_differences_and_ratios_are_those_of_a_plain_groupby(
    world: World, measured: tuple[Evidence, Path]
) -> None:
    evidence, folder = measured
    values, country = _groups(world, folder)
    found = {
        (estimate.statistic, estimate.segment["country"]): estimate
        for estimate in evidence.estimates
        if estimate.metric == "ndcg@10" and "country" in estimate.segment
    }
    for name in np.unique(country):
        inside, outside = values[country == name].mean(), values[country != name].mean()
        assert found["value", name].value == pytest.approx(inside)
        assert found["difference", name].value == pytest.approx(inside - outside)
        assert found["ratio", name].value == pytest.approx(inside / outside)
        assert found["difference", name].n_users == (country == name).sum()


def test_fairlearns_frame_holds_the_same_means(world: World, measured: tuple[Evidence, Path]) -> None:
    evidence, folder = measured
    values, country = _groups(world, folder)
    frame = pq.read_table(folder / evidence.tables["groups"]).to_pandas()
    frame = frame[(frame["metric"] == "ndcg@10") & (frame["attribute"] == "country")].set_index("group")
    assert set(frame.index) == set(country)
    for name in frame.index:
        assert frame.loc[name, "mean"] == pytest.approx(values[country == name].mean())
        assert frame.loc[name, "users"] == (country == name).sum()


def test_the_unknown_are_a_group_and_small_groups_are_shown_and_pooled(
    world: World, measured: tuple[Evidence, Path]
) -> None:
    evidence, folder = measured
    _, country = _groups(world, folder)
    segments = [estimate.segment for estimate in evidence.estimates if estimate.statistic == "difference"]
    assert {"country": "unknown"} in segments
    small = [name for name in np.unique(country) if (country == name).sum() < 30]
    assert len(small) > 1
    pooled = [e for e in evidence.estimates if e.segment == POOLED and e.statistic == "difference"]
    assert {e.n_users for e in pooled if e.metric == "ndcg@10"} == {int(np.isin(country, small).sum())}


def test_the_change_of_a_gap_is_the_candidates_less_the_incumbents(
    world: World, measured: tuple[Evidence, Path]
) -> None:
    evidence, folder = measured
    table = pq.read_table(folder / "quality-users.parquet")
    known = table["n_requests"].to_numpy() > 0
    gained = (table["ndcg@10:candidate"].to_numpy() - table["ndcg@10:incumbent"].to_numpy())[known]
    _, country = _groups(world, folder)
    change = next(
        e
        for e in evidence.estimates
        if e.statistic == "change" and e.metric == "ndcg@10" and e.segment == {"country": "DE"}
    )
    assert change.value == pytest.approx(gained[country == "DE"].mean() - gained[country != "DE"].mean())
    assert change.versus == "incumbent"


def test_the_same_inputs_give_the_same_bytes(world: World, measured: tuple[Evidence, Path], tmp_path: Path) -> None:
    _measured(world, tmp_path / "again")
    assert digest_tree(tmp_path / "again") == digest_tree(measured[1])


def test_a_spoiled_group_is_shown_to_lose(write_world: Callable[..., World], tmp_path: Path) -> None:
    world = write_world(users=600, requests_per_user=2)
    table = pq.read_table(world.rankings / "rankings.parquet")
    requests = pq.read_table(world.rankings / "requests.parquet")
    french = np.array(world.truth["country"])[requests["user"].to_numpy()] == "FR"
    spoiled = french[table["request"].to_numpy()] & (np.array(table["system"].to_pylist()) == "candidate")
    # Upside down: the best item of each spoiled list goes last.
    ranks, gains = table["rank"].to_numpy().copy(), table["gain"].to_numpy()
    order = np.arange(table.num_rows)
    order[spoiled] = order[spoiled].reshape(-1, 12)[:, ::-1].ravel()
    flipped = table.take(order).set_column(table.column_names.index("rank"), "rank", [ranks])
    assert not np.array_equal(gains, flipped["gain"].to_numpy())
    pq.write_table(flipped, world.rankings / "rankings.parquet")
    evidence = _measured(world, tmp_path / "evidence")
    found = {
        e.segment["country"]: e
        for e in evidence.estimates
        if e.metric == "ndcg@10" and e.statistic == "difference" and "country" in e.segment
    }
    assert found["FR"].high is not None
    assert found["FR"].high < -0.1
    assert any("country FR" in sentence for sentence in evidence.sentences)


def test_without_declared_groups_users_are_compared_by_what_was_known_of_them(
    write_world: Callable[..., World], tmp_path: Path
) -> None:
    world = write_world(users=20, segments=())
    evidence = _measured(world, tmp_path / "evidence")
    assert {tuple(e.segment) for e in evidence.estimates} == {("history",)}
    assert "No groups of users are declared" in evidence.sentences[0]


def test_beside_a_groups_own_value_stands_the_best_guess_between_it_and_the_others(
    measured: tuple[Evidence, Path],
) -> None:
    values = [e for e in measured[0].estimates if (e.metric, e.statistic) == ("ndcg@10", "value")]
    found = [e.value for e in values if e.value is not None]
    for estimate in values:
        assert min(found) <= estimate.detail["shrunk"] <= max(found)
    smallest, largest = (choose(values, key=lambda e: e.n_users) for choose in (min, max))
    pulled = [abs(e.detail["shrunk"] - (e.value or 0.0)) for e in (smallest, largest)]
    assert pulled[0] > pulled[1]


def test_users_by_history_are_compared_with_the_rest_as_groups_that_nobody_declared(
    world: World, measured: tuple[Evidence, Path]
) -> None:
    evidence, folder = measured
    table = pq.read_table(folder / "quality-users.parquet")
    known = table["n_requests"].to_numpy() > 0
    taken = np.bincount(world.truth["history_user"], minlength=table.num_rows)[table["user"].to_numpy()][known]
    values, _ = _groups(world, folder)
    gained = (table["ndcg@10:candidate"].to_numpy() - table["ndcg@10:incumbent"].to_numpy())[known]
    found = {
        (e.statistic, e.segment["history"]): e
        for e in evidence.estimates
        if e.metric == "ndcg@10" and "history" in e.segment
    }
    new = taken == 0
    assert 0 < new.sum() < new.size
    assert found["difference", "none"].value == pytest.approx(values[new].mean() - values[~new].mean())
    assert found["ratio", "none"].value == pytest.approx(values[new].mean() / values[~new].mean())
    assert found["change", "none"].value == pytest.approx(gained[new].mean() - gained[~new].mean())
    assert found["value", "none"].n_users == new.sum()
    for estimate in evidence.estimates:
        assert estimate.detail.get("declared", 1.0) == (0.0 if "history" in estimate.segment else 1.0)
    assert any(f"nothing was known before the test ({new.sum()})" in sentence for sentence in evidence.sentences)


def test_newcomers_whose_lists_were_spoiled_are_shown_to_fall_back_though_no_group_is_declared(
    write_world: Callable[..., World], tmp_path: Path
) -> None:
    world = write_world(users=500, requests_per_user=2, segments=())
    history = pq.read_table(world.dataset / "history.parquet")
    # Of every third user nothing is known.
    kept = history["user"].to_numpy() % 3 > 0
    pq.write_table(history.filter(pa.array(kept)), world.dataset / "history.parquet")
    manifest = documents.load(Dataset, world.dataset / "dataset.json")
    cuts = tuple(replace(cut, history_rows=int(kept[: cut.history_rows].sum())) for cut in manifest.cuts)
    documents.save(replace(manifest, cuts=cuts), world.dataset / "dataset.json")
    table = pq.read_table(world.rankings / "rankings.parquet")
    owner = pq.read_table(world.rankings / "requests.parquet")["user"].to_numpy()[table["request"].to_numpy()]
    spoiled = (owner % 3 == 0) & (np.array(table["system"].to_pylist()) == "candidate")
    ranks, order = table["rank"], np.arange(table.num_rows)
    order[spoiled] = order[spoiled].reshape(-1, 12)[:, ::-1].ravel()
    pq.write_table(table.take(order).set_column(2, "rank", ranks), world.rankings / "rankings.parquet")
    evidence = _measured(world, tmp_path / "evidence")
    change = next(
        e
        for e in evidence.estimates
        if (e.metric, e.statistic, e.segment) == ("ndcg@10", "change", {"history": "none"})
    )
    assert change.high is not None
    assert change.high < -0.05


def test_intersections_are_groups_of_their_own(write_world: Callable[..., World], tmp_path: Path) -> None:
    world = write_world(users=60)
    copied = tmp_path / "dataset"
    shutil.copytree(world.dataset, copied)
    users = pq.read_table(copied / "users.parquet")
    gender = [["f", "m"][row % 2] for row in range(users.num_rows)]
    pq.write_table(users.append_column("gender", [gender]), copied / "users.parquet")
    manifest = documents.load(Dataset, copied / "dataset.json")
    documents.save(
        replace(manifest, sensitive=("gender",), intersections=(("country", "gender"),)), copied / "dataset.json"
    )
    evidence = _measured(replace(world, dataset=copied), tmp_path / "evidence")
    segments = [estimate.segment for estimate in evidence.estimates]
    assert {"country": "DE", "gender": "f"} in segments
    assert {"gender": "m"} in segments


def test_empty_requests_as_zero_count_every_user_of_the_test_requests(
    write_world: Callable[..., World], tmp_path: Path
) -> None:
    world = write_world(users=120, requests_per_user=2, bias=-4.5, seed=2)
    evidence = _measured(world, tmp_path / "evidence")
    table = pq.read_table(tmp_path / "evidence" / "quality-users.parquet").to_pandas()
    assert (table["n_requests"] == 0).any()
    share = table["n_requests"] / (table["n_requests"] + table["n_empty_requests"])
    value = (table["ndcg@10:candidate"].fillna(0.0) * share).to_numpy()
    country = np.array([name or "unknown" for name in world.truth["country"]])[table["user"].to_numpy()]
    found = {
        (e.statistic, e.segment["country"]): e
        for e in evidence.estimates
        if e.metric == "ndcg_empty_as_zero@10" and "country" in e.segment
    }
    for name in np.unique(country):
        inside, outside = value[country == name].mean(), value[country != name].mean()
        assert found["value", name].value == pytest.approx(inside)
        assert found["difference", name].value == pytest.approx(inside - outside)
        assert found["difference", name].n_users == (country == name).sum()
    assert any("counted as 0" in sentence for sentence in evidence.sentences)


def test_a_group_without_anything_to_measure_is_shown_without_a_value(
    write_world: Callable[..., World], tmp_path: Path
) -> None:
    world = write_world(users=40)
    dataset, rankings = tmp_path / "dataset", tmp_path / "rankings"
    shutil.copytree(world.dataset, dataset)
    shutil.copytree(world.rankings, rankings)
    users = pq.read_table(dataset / "users.parquet")
    names = ["XX" if row == 7 else "DE" for row in range(users.num_rows)]
    pq.write_table(users.set_column(users.column_names.index("country"), "country", [names]), dataset / "users.parquet")
    # Nothing that user 7 was shown led to anything.
    requests = pq.read_table(rankings / "requests.parquet").to_pandas()
    lost = (requests["user"] == 7).to_numpy()
    requests["n_relevant"] = requests["n_relevant"].mask(lost, 0).astype("int32")
    requests["ideal_gains"] = [
        [0.0] * 12 if gone else list(gains) for gone, gains in zip(lost, requests["ideal_gains"], strict=True)
    ]
    _rewritten(requests, rankings / "requests.parquet")
    rows = pq.read_table(rankings / "rankings.parquet").to_pandas()
    gone = lost[rows["request"].to_numpy()]
    rows["gain"] = rows["gain"].mask(gone, 0.0).astype("float32")
    rows["positive"] = rows["positive"] & ~gone
    _rewritten(rows, rankings / "rankings.parquet")
    evidence = _measured(replace(world, dataset=dataset, rankings=rankings), tmp_path / "evidence")
    empty = [e for e in evidence.estimates if e.segment == {"country": "XX"} and e.metric == "ndcg@10"]
    assert {e.statistic for e in empty} == {"value", "difference", "ratio", "change"}
    for estimate in empty:
        assert (estimate.value, estimate.low, estimate.high, estimate.n_users) == (None, None, None, 0)


def test_a_single_group_has_no_rest_and_it_says_so(write_world: Callable[..., World], tmp_path: Path) -> None:
    world = write_world(users=20)
    dataset = tmp_path / "dataset"
    shutil.copytree(world.dataset, dataset)
    users = pq.read_table(dataset / "users.parquet")
    same = [["DE"] * users.num_rows]
    pq.write_table(users.set_column(users.column_names.index("country"), "country", same), dataset / "users.parquet")
    evidence = _measured(replace(world, dataset=dataset), tmp_path / "evidence")
    value, difference = (
        next(e for e in evidence.estimates if e.metric == "ndcg@10" and e.statistic == statistic)
        for statistic in ("value", "difference")
    )
    assert value.value is not None
    assert (difference.value, difference.low, difference.high) == (None, None, None)
    assert "No declared group could be compared" in evidence.sentences[0]


def test_a_missing_table_of_users_is_told(world: World, tmp_path: Path) -> None:
    measure_quality(world.dataset, world.rankings, out=tmp_path, seed=0)
    documents.save(replace(documents.load(Evidence, tmp_path / "quality.json"), tables={}), tmp_path / "quality.json")
    with pytest.raises(EvidenceError, match="names no table of users"):
        measure_user_fairness(world.dataset, world.rankings, tmp_path, out=tmp_path, seed=0)


def _rewritten(frame: pd.DataFrame, path: Path) -> None:
    pq.write_table(pa.Table.from_pandas(frame, schema=pq.read_schema(path), preserve_index=False), path)
