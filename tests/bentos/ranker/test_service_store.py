"""The service as it is really started, with its users in a store that comes, goes and changes."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from serving_client import ask, reading, request
from serving_processes import Server
from serving_release import released

from components.ranker.scoring import LoadedRanker
from components.serving.shared_store_address import address_of
from components.serving.shared_store_writing import share_users

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "components" / "serving"))
import redis_process

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(120),
    pytest.mark.skipif(redis_process.BINARY is None, reason=redis_process.ABSENT),
]


@pytest.fixture(scope="module")
def ranker(small_ranker: Path) -> LoadedRanker:
    return LoadedRanker.open(small_ranker)


@pytest.fixture(scope="module")
def elsewhere(small_ranker: Path) -> LoadedRanker:
    return LoadedRanker.open(small_ranker, users_elsewhere=True)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[redis_process.RedisServer]:
    server = redis_process.RedisServer(tmp_path)
    yield server
    server.kill()


def share(elsewhere: LoadedRanker, url: str) -> None:
    asyncio.run(share_users(elsewhere, address_of(url, {}), keep_seconds=3_600))


def post(service: Server, path: str, said: dict[str, Any]) -> dict[str, Any]:
    status, body = ask(service.port, request(path, json.dumps(said).encode()))
    assert status == 200, body
    found: dict[str, Any] = json.loads(body)
    return found


def metric(service: Server, name: str) -> float:
    lines = ask(service.port, reading("/metrics"))[1].decode().splitlines()
    return float(next(line for line in lines if line.startswith(name)).rpartition(" ")[2])


def until(holds: Callable[[], bool], *, within: float = 20.0) -> None:
    limit = time.monotonic() + within
    while not holds():
        assert time.monotonic() < limit, "it never came to that"
        time.sleep(0.05)


def test_a_service_whose_users_are_in_a_store_answers_as_one_that_has_them_and_outlives_the_store(
    small_ranker: Path, ranker: LoadedRanker, elsewhere: LoadedRanker, redis: redis_process.RedisServer
) -> None:
    share(elsewhere, redis.url)
    users, items = ranker.user_ids, ranker.item_ids[:30]
    lists = {user: ranker.rank(user, items, k=30) for user in users}

    def listed(service: Server, user: str) -> tuple[list[tuple[str, float]], list[str]]:
        found = post(service, "/rank", {"user_id": user, "candidates": items, "k": 30})
        return [(one["item_id"], one["score"]) for one in found["items"]], found["fallbacks"]

    variables = {"RANKGATE_STORE": redis.url, "RANKGATE_STORE_BUDGET_MS": "1000"}
    with released(small_ranker, variables=variables) as service:
        until(lambda: metric(service, "rankgate_store_whole") == 1.0)
        for user in users[:40]:
            assert listed(service, user) == (lists[user], [])
            shown = post(service, "/recommend", {"user_id": user, "k": 9})["items"]
            assert [(one["item_id"], one["score"]) for one in shown] == ranker.recommend(user, k=9)
        together = [{"user_id": user, "candidates": items, "k": 30} for user in users[:30]]
        for user, found in zip(users, post(service, "/batch", {"requests": together})["answers"], strict=False):
            assert [(one["item_id"], one["score"]) for one in found["items"]] == lists[user]
            assert found["fallbacks"] == []
        why = post(service, "/explain", {"user_id": users[3], "candidates": items[:2]})
        assert [one["score"] for one in why["items"]] == [one.score for one in ranker.explain(users[3], [
            one["item_id"] for one in why["items"]])]  # fmt: skip
        assert listed(service, "nobody")[1] == ["unknown_user"]
        assert metric(service, 'rankgate_store_users_total{outcome="found"}') == 40 + 40 + 30 + 1

        redis.kill()
        for user in users[:20]:
            assert listed(service, user) == (lists[user], ["missing_features"])
        assert ask(service.port, reading("/readyz"))[0] == 200
        assert metric(service, "rankgate_store_reached") == 0.0
        assert metric(service, 'rankgate_fallbacks_total{arm="unsaid",reason="missing_features"') == 20

        redis.start()
        share(elsewhere, redis.url)
        until(lambda: metric(service, "rankgate_store_whole") == 1.0)
        assert listed(service, users[0]) == (lists[users[0]], [])


def test_no_request_fails_while_the_store_stands_still_dies_and_is_shared_anew(
    small_ranker: Path, ranker: LoadedRanker, elsewhere: LoadedRanker, redis: redis_process.RedisServer
) -> None:
    share(elsewhere, redis.url)
    items = ranker.item_ids[:20]
    lists = {user: [one for one, _ in ranker.rank(user, items, k=5)] for user in ranker.user_ids}
    statuses, fallbacks, ended = Counter[int](), Counter[tuple[str, ...]](), threading.Event()
    wrong: list[str] = []

    def load(port: int, number: int) -> None:
        while not ended.is_set():
            user = ranker.user_ids[number % len(ranker.user_ids)]
            said = json.dumps({"user_id": user, "candidates": items, "k": 5}).encode()
            status, body = ask(port, request("/rank", said))
            found = json.loads(body)
            statuses[status] += 1
            fallbacks[tuple(found.get("fallbacks", ["none"]))] += 1
            if [one["item_id"] for one in found.get("items", [])] != lists[user]:
                wrong.append(user)
            number += 7

    variables = {"RANKGATE_STORE": redis.url, "RANKGATE_STORE_BUDGET_MS": "50"}
    with released(small_ranker, variables=variables) as service:
        until(lambda: metric(service, "rankgate_store_whole") == 1.0)
        threads = [threading.Thread(target=load, args=(service.port, number)) for number in range(3)]
        for thread in threads:
            thread.start()
        try:
            time.sleep(0.5)
            redis.freeze()
            until(lambda: metric(service, "rankgate_store_trips_total") >= 1.0)
            time.sleep(0.3)
            redis.thaw()
            until(lambda: metric(service, "rankgate_store_whole") == 1.0)
            redis.kill()
            time.sleep(0.5)
            redis.start()
            share(elsewhere, redis.url)
            until(lambda: metric(service, "rankgate_store_whole") == 1.0)
            time.sleep(0.5)
        finally:
            ended.set()
            for thread in threads:
                thread.join()
    assert set(statuses) == {200}
    assert set(fallbacks) == {(), ("missing_features",)}
    assert fallbacks[()] > 20
    assert wrong == []
