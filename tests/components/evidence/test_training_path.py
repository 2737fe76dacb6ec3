"""What must be answered, from the dataset's side, against the loaded ranker that a service asks: two paths, one list."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.artifacts import documents
from components.evidence.parity import ListParity, compare_lists
from components.evidence.training_path import Asked, Expected, TrainingPath, sample_requests
from components.ranker.contract import AttributeRule, Diversity, Ranker, RerankRules
from components.ranker.scoring import LoadedRanker
from components.ranker.storage import file_digests

Run = Any
PLAIN = RerankRules(max_per_category=0, max_per_provider=0, window=10, exclude_seen=False)
QUOTAS = {"covisitation": 15, "factors": 10, "newest": 5, "popularity": 20}
"""Far fewer than the catalogue has, so that it matters which are named."""
RULES = {
    "no rule": PLAIN,
    "what was taken is not shown": replace(PLAIN, exclude_seen=True),
    "caps": replace(PLAIN, max_per_category=2, max_per_provider=1),
    "blocked and excluded": replace(
        PLAIN, blocked_items=("10001", "10008"), exclude=(AttributeRule("category", ("books",)),)
    ),
    "diversity": replace(PLAIN, diversity=Diversity(0.4, pool=30, category=0.5, provider=0.3, price=0.2)),
}


def ruled(run: Run, folder: Path, rules: RerankRules = PLAIN, arrays: Mapping[str, np.ndarray] | None = None) -> Path:
    """The ranker with other rules, small quotas and perhaps other arrays, its manifest made to agree."""
    ranker = folder / "ranker"
    shutil.copytree(run.ranker, ranker)
    for name, values in (arrays or {}).items():
        np.save(ranker / f"{name}.npy", values, allow_pickle=False)
    manifest = documents.load(Ranker, ranker / "ranker.json")
    changed = replace(manifest, rerank=rules, candidate_sources=QUOTAS, files=file_digests(ranker))
    documents.save(changed, ranker / "ranker.json")
    return ranker


def asked_of(run: Run, calls: int = 25) -> list[Asked]:
    """Known users and visitors by turns."""
    asked = sample_requests(run.dataset, run.rankings, calls=calls, candidates=60, seed=1)
    return [one.by_a_visitor() if place % 3 == 2 else one for place, one in enumerate(asked)]


def served(loaded: LoadedRanker, asked: Asked, expected: Expected, *, retrieve: bool) -> ListParity:
    """The loaded ranker's answer beside the expected one."""
    listed = (
        loaded.recommend(asked.user_id, k=1_000, context=asked.context)
        if retrieve
        else loaded.rank(
            asked.user_id, [loaded.item_ids[item] for item in asked.items], context=asked.context, k=len(asked.items)
        )
    )
    number = {name: place for place, name in enumerate(loaded.item_ids)}
    return compare_lists(
        expected.items,
        expected.scores,
        expected.shown,
        np.array([number[name] for name, _ in listed], dtype=np.int32),
        np.array([score for _, score in listed], dtype=np.float64),
    )


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES.keys())
def test_the_training_path_and_the_loaded_ranker_give_one_list(run: Run, tmp_path: Path, rules: RerankRules) -> None:
    ranker, asked = ruled(run, tmp_path, rules), asked_of(run)
    path, loaded = TrainingPath(run.dataset, ranker), LoadedRanker.open(ranker)
    for retrieve, expected in ((False, path.ranked(asked)), (True, path.retrieved(asked))):
        assert all(0 < len(held.shown) <= len(held.items) for held in expected)
        found = [served(loaded, one, held, retrieve=retrieve) for one, held in zip(asked, expected, strict=True)]
        assert found == [ListParity(0.0, same=True, swapped=False)] * len(asked)


def test_rules_shorten_what_must_be_shown(run: Run, tmp_path: Path) -> None:
    asked = asked_of(run)
    (tmp_path / "plain").mkdir()
    (tmp_path / "strict").mkdir()
    plain = TrainingPath(run.dataset, ruled(run, tmp_path / "plain"))
    strict = TrainingPath(run.dataset, ruled(run, tmp_path / "strict", RULES["blocked and excluded"]))
    before = sum(len(held.shown) for held in plain.ranked(asked))
    assert before == sum(len(one.items) for one in asked)
    assert sum(len(held.shown) for held in strict.ranked(asked)) < before


def test_an_index_that_is_another_than_the_history_gives_another_list(run: Run, tmp_path: Path) -> None:
    popularity = np.load(run.ranker / "candidates" / "popularity.npy", allow_pickle=False)
    ranker = ruled(run, tmp_path, arrays={"candidates/popularity": -popularity})
    path, loaded, asked = TrainingPath(run.dataset, ranker), LoadedRanker.open(ranker), asked_of(run)
    parity = [served(loaded, one, held, retrieve=True) for one, held in zip(asked, path.retrieved(asked), strict=True)]
    assert not any(one.same for one in parity)
    ranked = [served(loaded, one, held, retrieve=False) for one, held in zip(asked, path.ranked(asked), strict=True)]
    assert all(one.same for one in ranked)


def test_what_must_be_answered_rests_on_no_table_of_the_ranker(run: Run, tmp_path: Path) -> None:
    asked = asked_of(run, 6)
    honest = TrainingPath(run.dataset, run.ranker)
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("ranker.json", "model.ubj"):
        shutil.copyfile(run.ranker / name, bare / name)
    alone = TrainingPath(run.dataset, bare)
    for one, other in zip(
        honest.ranked(asked) + honest.retrieved(asked), alone.ranked(asked) + alone.retrieved(asked), strict=True
    ):
        assert one.items.tolist() == other.items.tolist()
        assert one.scores.tolist() == other.scores.tolist()
        assert one.shown.tolist() == other.shown.tolist()


def test_where_the_rules_leave_nothing_an_empty_list_is_expected(run: Run, tmp_path: Path) -> None:
    every = tuple(pq.read_table(run.dataset / "items.parquet")["item_id"].to_pylist())
    ranker = ruled(run, tmp_path, replace(PLAIN, blocked_items=every))
    path, loaded, asked = TrainingPath(run.dataset, ranker), LoadedRanker.open(ranker), asked_of(run, 4)
    for retrieve, expected in ((False, path.ranked(asked)), (True, path.retrieved(asked))):
        for one, held in zip(asked, expected, strict=True):
            assert not len(held.shown)
            assert served(loaded, one, held, retrieve=retrieve).same


def test_the_sample_asks_what_users_asked_with_a_hundred_candidates(run: Run) -> None:
    asked = sample_requests(run.dataset, run.rankings, calls=40, candidates=100, seed=3)
    again = sample_requests(run.dataset, run.rankings, calls=40, candidates=100, seed=3)
    assert asked == again
    assert asked != sample_requests(run.dataset, run.rankings, calls=40, candidates=100, seed=4)
    assert all(len(held.items) == len(set(held.items)) == 100 for held in asked)
    test = pq.read_table(run.rankings / "rankings.parquet").to_pandas().query("system == 'candidate'")
    for held in asked:
        assert set(test[test.request == held.request]["item"]) <= set(held.items)


def test_requests_come_again_where_there_are_too_few(run: Run) -> None:
    table = pq.read_table(run.dataset / "requests.parquet", columns=["split"])
    tests = sum(split == "test" for split in table["split"].cast(pa.string()).to_pylist())
    asked = sample_requests(run.dataset, run.rankings, calls=2 * tests, candidates=20, seed=0)
    assert len(asked) == 2 * tests
    assert {one.request for one in asked[:tests]} == {one.request for one in asked[tests:]}


def test_a_visitor_asks_the_same_and_is_nobody(run: Run) -> None:
    (one,) = sample_requests(run.dataset, run.rankings, calls=1, candidates=20, seed=0)
    visitor = one.by_a_visitor()
    assert (visitor.user, visitor.user_id) == (-1, None)
    assert (visitor.items, visitor.context, visitor.request) == (one.items, one.context, one.request)
