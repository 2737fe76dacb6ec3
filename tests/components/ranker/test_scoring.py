"""What a service gets from an opened ranker: the same lists as offline, for known and for unknown ids."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from components.dataset.reading import open_dataset
from components.errors import FaultyInputError, InputError
from components.ranker.candidates.index import SOURCES
from components.ranker.scoring import LoadedRanker


@pytest.fixture(scope="module")
def shop(logged) -> LoadedRanker:
    return LoadedRanker.open(logged.ranker)


@pytest.fixture(scope="module")
def purchases(sampled) -> LoadedRanker:
    return LoadedRanker.open(sampled.ranker)


def names(answer: list[tuple[str, float]]) -> list[str]:
    return [name for name, _ in answer]


def test_a_logged_request_is_answered_online_as_it_was_ranked_offline(logged, shop):
    data = open_dataset(logged.dataset)
    users, items = data.users["user_id"].to_pylist(), data.items["item_id"].to_pylist()
    table = pq.read_table(logged.rankings / "rankings.parquet")
    candidate = table.filter(pc.equal(table["system"], "candidate"))
    for row in data.requests.filter(pc.equal(data.requests["split"], "test")).slice(0, 25).to_pylist():
        offline = candidate.filter(pc.equal(candidate["request"], row["request"]))
        listed = [items[item] for item in offline["item"].to_pylist()]
        context = {name: row[name] for name in data.manifest.context if row[name] is not None}
        online = shop.rank(users[row["user"]], sorted(listed), context=context, k=len(listed), bucket=row["bucket"])
        scores = dict(online)
        assert [np.float32(scores[item]) for item in listed] == offline["score"].to_pylist()
        assert [np.float32(score) for _, score in online] == sorted(offline["score"].to_pylist(), reverse=True)


def test_scores_descend_and_k_cuts_the_same_list(shop):
    items = [f"{item}" for item in shop.item_ids[:40]]
    whole = shop.rank(None, items, k=40)
    assert [score for _, score in whole] == sorted((score for _, score in whole), reverse=True)
    assert shop.rank(None, items, k=7) == whole[:7]
    assert sorted(names(whole)) == sorted(items)


def test_the_order_of_asking_does_not_matter_and_a_repeated_item_is_ranked_once(shop):
    items = shop.item_ids[:20]
    assert shop.rank(None, [*items, *items], k=40) == shop.rank(None, list(reversed(items)), k=40)


def test_unknown_users_and_items_are_ranked_too(shop):
    answer = shop.rank("nobody", ["no such item", *shop.item_ids[:3], "nor this"], k=10)
    assert sorted(names(answer)) == sorted(["no such item", "nor this", *shop.item_ids[:3]])
    scores = dict(answer)
    assert scores["no such item"] == scores["nor this"]
    assert names(answer).index("no such item") < names(answer).index("nor this")


def test_a_list_of_unknown_items_only_keeps_its_order(shop):
    assert names(shop.rank(None, ["z", "a", "m"], k=3)) == ["z", "a", "m"]


def test_nothing_to_rank_is_an_empty_list(shop):
    assert shop.rank("nobody", [], k=5) == []


def test_context_changes_scores_only_by_names_that_the_data_set_knows(shop):
    items = shop.item_ids[:10]
    assert shop.rank(None, items, k=10, context={"device": "a device of next year"}) == shop.rank(None, items, k=10)
    with pytest.raises(InputError, match="needed one of: device"):
        shop.rank(None, items, k=10, context={"devise": "mobile"})


@pytest.mark.parametrize("ask", ["rank", "recommend"])
def test_k_below_one_is_refused(shop, ask):
    with pytest.raises(InputError, match="needed at least 1"):
        shop.rank(None, ["a"], k=0) if ask == "rank" else shop.recommend(None, k=0)


def test_recommendations_are_new_to_the_user(sampled, purchases):
    data = open_dataset(sampled.dataset)
    users, items = data.users["user_id"].to_pylist(), data.items["item_id"].to_pylist()
    taken: dict[str, set[str]] = {}
    for user, item in zip(data.history["user"].to_pylist(), data.history["item"].to_pylist(), strict=True):
        taken.setdefault(users[user], set()).add(items[item])
    for user in users[:20]:
        answer = purchases.recommend(user, k=8)
        assert 0 < len(answer) <= 8
        assert not set(names(answer)) & taken.get(user, set())
        assert len(set(names(answer))) == len(answer)


def test_a_visitor_gets_recommendations_and_they_are_those_of_any_unknown_user(purchases):
    assert len(purchases.recommend(None, k=5)) == 5
    assert purchases.recommend("nobody", k=5) == purchases.recommend(None, k=5)


def test_recommending_is_ranking_what_was_retrieved(purchases):
    user = next(iter(purchases._users))
    whole = purchases.recommend(user, k=1000)
    assert purchases.rank(user, names(whole), k=1000) == whole


def test_each_place_says_where_its_item_comes_from(purchases):
    user = purchases.user_ids[0]
    shown = purchases.show(user, None, k=50)
    assert {one.source for one in shown} <= set(SOURCES)
    assert {one.source for one in purchases.show(None, None, k=50)} <= {"popularity", "newest"}
    assert {one.source for one in purchases.show(user, [one.item_id for one in shown], k=50)} == {"given"}
    assert "covisitation" in {one.source for one in shown}


def test_more_threads_give_the_same_answer(sampled, purchases):
    other = LoadedRanker.open(sampled.ranker, threads=2)
    for user in list(purchases._users)[:5]:
        assert other.recommend(user, k=10) == purchases.recommend(user, k=10)


def test_probabilities_rise_with_scores_and_stay_probabilities(shop):
    chances = [shop.probability(score) for score in (-100.0, -0.5, 0.0, 0.5, 100.0)]
    assert chances == sorted(chances)
    assert 0 <= chances[0] <= chances[-1] <= 1


def test_an_altered_ranker_is_not_opened(sampled, tmp_path):
    import shutil

    shutil.copytree(sampled.ranker, tmp_path / "ranker")
    with (tmp_path / "ranker" / "model.ubj").open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(FaultyInputError, match=r"model\.ubj"):
        LoadedRanker.open(tmp_path / "ranker")


def test_the_latest_bucket_begins_when_the_log_had_ended(sampled, purchases):
    data = open_dataset(sampled.dataset)
    last = pc.max(data.history["ts"]).as_py().timestamp()
    assert last <= purchases.latest_bucket_start <= last + data.manifest.bucket_seconds


def test_serving_imports_no_training_or_measuring_library():
    program = (
        "import sys; import components.ranker.scoring; "
        "found = {'sklearn', 'pandas', 'evidently', 'fairlearn', 'kfp', 'bentoml', 'duckdb'} & set(sys.modules); "
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
