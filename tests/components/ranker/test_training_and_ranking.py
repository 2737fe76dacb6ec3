"""The two entry functions on two small worlds that the rooms upstream built."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from components.artifacts import documents
from components.artifacts.digests import digest_tree
from components.dataset.reading import open_dataset
from components.errors import FaultyInputError, InputError
from components.ranker.contract import Ranker, Rankings
from components.ranker.ranking import rank
from components.ranker.storage import file_digests, open_ranker
from components.ranker.train import train_ranker

SYSTEMS = ["candidate", "item-knn", "popularity", "random"]


@pytest.fixture(params=["logged", "sampled"])
def trained(request):
    return request.getfixturevalue(request.param)


def rows_of(trained, system: str) -> dict[str, np.ndarray]:
    table = pq.read_table(trained.rankings / "rankings.parquet")
    table = table.filter(pc.equal(table["system"], system))
    return {name: table[name].to_numpy() for name in table.column_names}


def requests_of(trained, split: str) -> pa.Table:
    table = pq.read_table(trained.rankings / "requests.parquet")
    return table.filter(pc.equal(table["split"], split))


def test_the_same_seed_gives_the_same_bytes_on_one_thread_or_two(trained, train_and_rank, tmp_path):
    again = train_and_rank(trained.dataset, tmp_path, threads=2)
    one, two = file_digests(trained.ranker), file_digests(again.ranker)
    assert one == two
    assert replace(again.manifest, threads=1) == trained.manifest
    names = ("rankings", "requests", "features", "catalogue")
    for name in names:
        first, second = ((run.rankings / f"{name}.parquet").read_bytes() for run in (trained, again))
        assert first == second


def test_manifests_read_back_and_name_every_file(trained):
    assert documents.load(Ranker, trained.ranker / "ranker.json") == trained.manifest
    assert documents.load(Rankings, trained.rankings / "rankings.json") == trained.ranked
    assert set(trained.manifest.files) == {
        path.relative_to(trained.ranker).as_posix()
        for path in trained.ranker.rglob("*")
        if path.is_file() and path.name != "ranker.json"
    }
    assert trained.ranked.ranker == digest_tree(trained.ranker)
    assert trained.ranked.dataset == trained.manifest.dataset == digest_tree(trained.dataset)
    assert trained.manifest.trees == int(np.argmax(trained.manifest.validation_curve)) + 1
    assert sum(one.gain_share for one in trained.manifest.importance) == pytest.approx(1, abs=1e-4)


def test_positions_are_corrected_for_only_where_they_were_logged(logged, sampled):
    assert logged.manifest.parameters["lambdarank_unbiased"] is True
    assert len(logged.manifest.position_bias) == 12
    assert logged.manifest.position_bias[0] == 1.0
    assert logged.manifest.position_bias[-1] < 0.9
    assert sampled.manifest.parameters["lambdarank_unbiased"] is False
    assert sampled.manifest.position_bias == ()


def test_no_segment_or_sensitive_attribute_leaves_with_the_users(logged, sampled):
    withheld = {"country", "age_band", "gender"}
    for trained in (logged, sampled):
        names = set(pq.read_schema(trained.ranker / "users.parquet").names)
        assert {"user", "user_id"} <= names
        assert not names & withheld
    assert "plan" in pq.read_schema(logged.ranker / "users.parquet").names


def test_every_system_ranks_every_test_request_and_only_the_candidate_validation(trained):
    test = set(requests_of(trained, "test")["request"].to_pylist())
    validation = set(requests_of(trained, "validation")["request"].to_pylist())
    table = pq.read_table(trained.rankings / "rankings.parquet")
    assert sorted(set(table["system"].to_pylist())) == SYSTEMS
    for system in SYSTEMS:
        expected = test | validation if system == "candidate" else test
        assert set(rows_of(trained, system)["request"].tolist()) == expected
    assert [system.name for system in trained.ranked.systems] == ["candidate", "random", "popularity", "item-knn"]


def test_lists_are_dense_and_in_the_one_total_order(trained):
    table = pq.read_table(trained.rankings / "rankings.parquet")
    keys = list(zip(table["system"].to_pylist(), table["request"].to_pylist(), table["rank"].to_pylist(), strict=True))
    assert keys == sorted(set(keys))
    popularity = pq.read_table(trained.rankings / "catalogue.parquet")["popularity"].to_numpy()
    test = requests_of(trained, "test")["request"].to_numpy()
    for system in SYSTEMS:
        rows = rows_of(trained, system)
        kept = np.isin(rows["request"], test)
        rows = {name: values[kept] for name, values in rows.items()}
        starts = np.flatnonzero(rows["rank"] == 1)
        for begin, end in zip(starts, np.append(starts[1:], len(rows["rank"])), strict=True):
            part = slice(begin, end)
            assert rows["rank"][part].tolist() == list(range(1, end - begin + 1))
            order = np.lexsort((rows["item"][part], -popularity[rows["item"][part]], -rows["score"][part]))
            assert order.tolist() == list(range(end - begin))


def test_gains_and_ideals_are_those_of_the_data_set(trained):
    data = open_dataset(trained.dataset)
    gains = {}
    for table in (data.relevance, data.rows("validation"), data.rows("test")):
        for request, item, gain in zip(*(table[name].to_pylist() for name in ("request", "item", "gain")), strict=True):
            gains[request, item] = gain
    table = pq.read_table(trained.rankings / "rankings.parquet")
    found = zip(*(table[name].to_pylist() for name in ("request", "item", "gain", "positive")), strict=True)
    for request, item, gain, positive in found:
        assert gain == gains.get((request, item), 0.0)
        assert positive == (gain > 0)
    relevant = {}
    for (request, _), gain in gains.items():
        if gain > 0:
            relevant.setdefault(request, []).append(gain)
    requests = pq.read_table(trained.rankings / "requests.parquet").to_pylist()
    for row in requests:
        ideal = sorted(relevant.get(row["request"], []), reverse=True)
        assert row["n_relevant"] == len(ideal)
        assert row["ideal_gains"] == ideal[: trained.ranked.depth]


def test_logged_lists_hold_what_was_shown(logged):
    data = open_dataset(logged.dataset)
    shown = data.rows("test")
    for system in SYSTEMS:
        rows = rows_of(logged, system)
        kept = np.isin(rows["request"], requests_of(logged, "test")["request"].to_numpy())
        pairs = sorted(zip(rows["request"][kept].tolist(), rows["item"][kept].tolist(), strict=True))
        assert pairs == sorted(zip(shown["request"].to_pylist(), shown["item"].to_pylist(), strict=True))


def test_sampled_lists_hold_nothing_seen_or_not_yet_there(sampled):
    data = open_dataset(sampled.dataset)
    cut = next(cut for cut in data.manifest.cuts if cut.name == "test")
    known = data.history.slice(0, cut.history_rows)
    seen = set(zip(known["user"].to_pylist(), known["item"].to_pylist(), strict=True))
    catalogue = pq.read_table(sampled.rankings / "catalogue.parquet")
    eligible = np.array(catalogue["eligible"].to_pylist())
    users = dict(zip(data.requests["request"].to_pylist(), data.requests["user"].to_pylist(), strict=True))
    test = set(requests_of(sampled, "test")["request"].to_pylist())
    for system in SYSTEMS:
        rows = rows_of(sampled, system)
        for request, item in zip(rows["request"].tolist(), rows["item"].tolist(), strict=True):
            if request in test:
                assert (users[request], item) not in seen
                assert eligible[item]
    counts = {row["request"]: row["n_candidates"] for row in requests_of(sampled, "test").to_pylist()}
    for request, count in counts.items():
        taken = sum(1 for item in np.flatnonzero(eligible).tolist() if (users[request], item) in seen)
        assert count == eligible.sum() - taken


def test_popularity_and_item_knn_know_the_test_cuts_history_and_no_more(sampled):
    data = open_dataset(sampled.dataset)
    cut = next(cut for cut in data.manifest.cuts if cut.name == "test")
    known = data.history.slice(0, cut.history_rows)
    takers: dict[int, set[int]] = {}
    for user, item in zip(known["user"].to_pylist(), known["item"].to_pylist(), strict=True):
        takers.setdefault(item, set()).add(user)
    users = dict(zip(data.requests["request"].to_pylist(), data.requests["user"].to_pylist(), strict=True))
    rows = rows_of(sampled, "popularity")
    assert rows["score"].tolist() == [len(takers.get(item, ())) for item in rows["item"].tolist()]
    rows = rows_of(sampled, "item-knn")
    for request, item, score in list(zip(*(rows[n].tolist() for n in ("request", "item", "score")), strict=True))[:200]:
        near = [
            len(takers[item] & others) / (len(takers[item]) * len(others)) ** 0.5
            for other, others in takers.items()
            if users[request] in others and other != item and item in takers
        ]
        assert score == pytest.approx(sum(near), rel=1e-5)


def test_drift_rows_are_the_models_inputs_for_what_is_shown(trained):
    data = open_dataset(trained.dataset)
    table = pq.read_table(trained.rankings / "features.parquet")
    assert set(table["split"].to_pylist()) == {"validation", "test"}
    assert table.column_names[8:] == list(trained.manifest.features)
    requests = data.requests.take(pc.index_in(table["request"], data.requests["request"]))
    context = {name: requests[name].to_pylist() for name in data.manifest.context}
    matrix = data.features.matrix(
        table["user"].to_numpy(), table["item"].to_numpy(), requests["bucket"].to_numpy(), context or None
    )
    held = np.column_stack([table[name].to_numpy() for name in trained.manifest.features])
    np.testing.assert_array_equal(matrix, held)
    scores = open_ranker(trained.ranker, threads=1).booster.scores(held)
    np.testing.assert_array_equal(scores, table["score"].to_numpy())


def test_calibration_keeps_the_share_of_positives_on_validation(logged):
    data, ranker = open_dataset(logged.dataset), open_ranker(logged.ranker, threads=1)
    rows = data.rows("validation")
    features = np.column_stack([rows[name].to_numpy() for name in logged.manifest.features])
    chances = ranker.calibration.probability(ranker.booster.scores(features))
    assert chances.mean() == pytest.approx(np.mean(rows["positive"].to_pylist()), abs=1e-4)
    assert ranker.calibration.rows == rows.num_rows


def copied(trained, folder: Path, change: Callable[[Path], None]) -> Path:
    shutil.copytree(trained.ranker, folder / "copy")
    change(folder / "copy")
    return folder / "copy"


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["model.ubj", "calibration.json", "items.parquet", "candidates/factors.npy"])
def test_a_flipped_byte_is_refused(sampled, tmp_path, name):
    altered = copied(sampled, tmp_path, lambda folder: flip_a_byte(folder / name))
    with pytest.raises(FaultyInputError, match=name):
        open_ranker(altered, threads=1)


def test_missing_and_foreign_files_are_all_named_at_once(sampled, tmp_path):
    def change(folder: Path) -> None:
        (folder / "model.ubj").unlink()
        (folder / "extra.pkl").write_bytes(b"no")

    with pytest.raises(FaultyInputError, match="2 faults") as caught:
        open_ranker(copied(sampled, tmp_path, change), threads=1)
    assert {fault.where for fault in caught.value.faults} == {"model.ubj", "extra.pkl"}


def test_a_manifest_that_does_not_name_the_model_is_refused(sampled, tmp_path):
    def change(folder: Path) -> None:
        manifest = json.loads((folder / "ranker.json").read_bytes())
        del manifest["files"]["model.ubj"]
        (folder / "ranker.json").write_text(json.dumps(manifest))
        (folder / "model.ubj").unlink()

    with pytest.raises(FaultyInputError, match=r"model\.ubj: found not named in the manifest"):
        open_ranker(copied(sampled, tmp_path, change), threads=1)


def test_an_incumbent_is_ranked_on_the_same_requests(trained, tmp_path):
    (tmp_path / "out").mkdir()
    rankings = rank(trained.dataset, trained.ranker, incumbent=trained.ranker, out=tmp_path / "out", seed=0, threads=1)
    assert [system.kind for system in rankings.systems[:2]] == ["candidate", "incumbent"]
    again = replace(trained, rankings=tmp_path / "out")
    incumbent, candidate = rows_of(again, "incumbent"), rows_of(again, "candidate")
    test = np.isin(candidate["request"], requests_of(again, "test")["request"].to_numpy())
    for name in ("request", "rank", "item", "score", "gain"):
        np.testing.assert_array_equal(incumbent[name], candidate[name][test])


def test_an_incumbent_whose_feature_is_gone_is_refused_by_name(logged, sampled, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="item_click_1d"):
        rank(sampled.dataset, sampled.ranker, incumbent=logged.ranker, out=tmp_path / "out", seed=0, threads=1)


def test_a_candidate_of_another_data_set_is_refused(logged, sampled, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="it was trained on data set"):
        rank(sampled.dataset, logged.ranker, incumbent=None, out=tmp_path / "out", seed=0, threads=1)


def relabelled(trained, folder: Path, change: Callable[[pa.Table], pa.Table]) -> Path:
    shutil.copytree(trained.dataset, folder / "dataset")
    rows = pq.read_table(folder / "dataset" / "rows.parquet")
    pq.write_table(change(rows), folder / "dataset" / "rows.parquet")
    (folder / "out").mkdir()
    return folder / "dataset"


def with_labels(rows: pa.Table, gain: float) -> pa.Table:
    rows = rows.set_column(rows.column_names.index("gain"), "gain", pa.array(np.full(rows.num_rows, gain, np.float32)))
    return rows.set_column(rows.column_names.index("positive"), "positive", pa.array(np.full(rows.num_rows, gain > 0)))


@pytest.mark.parametrize(
    ("gain", "message"), [(0.0, "no row with a positive"), (1.0, "both a positive and a negative")]
)
def test_labels_of_one_class_are_refused(logged, tmp_path, gain, message):
    dataset = relabelled(logged, tmp_path, lambda rows: with_labels(rows, gain))
    with pytest.raises(FaultyInputError, match=message) as caught:
        train_ranker(dataset, out=tmp_path / "out", seed=0, threads=1)
    assert len(caught.value.faults) == 2


def test_features_that_say_nothing_are_refused(logged, tmp_path):
    def blank(rows: pa.Table) -> pa.Table:
        for name in logged.manifest.features:
            place = rows.column_names.index(name)
            rows = rows.set_column(place, name, pa.array(np.full(rows.num_rows, np.nan, np.float32)))
        return rows

    with pytest.raises(FaultyInputError, match="none that differs"):
        train_ranker(relabelled(logged, tmp_path, blank), out=tmp_path / "out", seed=0, threads=1)
