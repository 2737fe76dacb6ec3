"""Features of a service that is really started are swapped while it answers: nobody is refused, nothing is mixed."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from shutil import copytree
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families
from serving_release import DIGEST, released

from bentos.ranker.refreshing import Refreshing
from bentos.ranker.serving import Serving
from components.evidence.serving import Client
from components.ranker.scoring import LoadedRanker
from components.serving import features_root
from components.serving.features import FeatureWatch
from components.serving.publishing import put_back

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


def _world() -> Any:
    name, path = "publishing_world", Path(__file__).parents[2] / "components" / "serving" / "publishing_world.py"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec
        assert spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


world = _world()


@pytest.fixture(scope="module")
def shop(small_ranker: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    one = world.shop_of(small_ranker, tmp_path_factory.mktemp("keys"))
    return replace(one, release=replace(one.release, digest=DIGEST))


def until(held: Callable[[], bool], *, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not held():
        assert time.monotonic() < end
        time.sleep(0.05)


class Asking:
    """A client that asks for the same lists over and over on connections of its own, until it is told to stop."""

    def __init__(self, port: int, asks: list[tuple[str, dict[str, Any]]]) -> None:
        self._port, self._asks = port, asks
        self.statuses: Counter[int] = Counter()
        self.lists: list[tuple[int, str]] = []
        self.slowest = 0.0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(2)]

    def __enter__(self) -> Asking:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with closing(Client(self._port)) as client:
            while not self._stop.is_set():
                for place, (path, body) in enumerate(self._asks):
                    began = time.monotonic()
                    answer = client.post(path, body)
                    self.slowest = max(self.slowest, time.monotonic() - began)
                    self.statuses[answer.status] += 1
                    self.lists.append((place, told(answer.body)))


def told(body: bytes) -> str:
    """Items and scores of a list, and what was not as asked."""
    found = json.loads(body)
    return json.dumps([[(one["item_id"], one["score"]) for one in found["items"]], found.get("fallbacks")])


def expected(ranker: LoadedRanker, asks: list[tuple[str, dict[str, Any]]]) -> list[str]:
    found = []
    for path, body in asks:
        items = body.get("candidates") if path == "/rank" else None
        shown = ranker.show(body["user_id"], items, k=body["k"])
        found.append(json.dumps([[(one.item_id, one.score) for one in shown], []]))
    return found


def test_features_are_swapped_under_load_and_back_and_what_does_not_hold_changes_nothing(
    shop: Any, small_ranker: Path, repository: Path, tmp_path: Path
) -> None:
    root, local = tmp_path / "root", tmp_path / "local"
    first = shop.publish(root, hours=2)
    own = LoadedRanker.open(small_ranker)
    variables = {
        "RANKGATE_FEATURES": str(root),
        "RANKGATE_FEATURES_TRUST": str(shop.trust),
        "RANKGATE_FEATURES_POLL_SECONDS": "0.2",
        "RANKGATE_FEATURES_LOCAL": str(local),
    }
    asks: list[tuple[str, dict[str, Any]]] = []
    for user in own.user_ids[:8]:
        asks.append(("/rank", {"user_id": user, "candidates": own.item_ids[:60], "k": 60, "deadline_ms": 60_000}))
        asks.append(("/recommend", {"user_id": user, "k": 30, "deadline_ms": 60_000}))
    with released(small_ranker, exposures=tmp_path / "shown", variables=variables) as server:

        def get(path: str) -> bytes:
            with closing(Client(server.port)) as client:
                return client.send("GET", path, b"", {}).body

        def served() -> str:
            return str(json.loads(get("/release"))["features"])

        def metric(name: str, **labels: str) -> float:
            for family in text_string_to_metric_families(get("/metrics").decode()):
                for sample in family.samples:
                    if sample.name == name and labels.items() <= sample.labels.items():
                        return float(sample.value)
            return float("nan")

        # A new replica begins with what the others have.
        assert served() == first.digest
        assert json.loads(get("/release"))["latest_bucket_start"] == "2026-05-10T02:00:00+00:00"
        before = expected(own.refreshed(first.folder), asks)
        with Asking(server.port, asks) as load:
            until(lambda: len(load.lists) > 2 * len(asks))
            second = shop.publish(root, hours=20)
            until(lambda: served() == second.digest)
            seen = len(load.lists)
            until(lambda: len(load.lists) > seen + 4 * len(asks))
        after = expected(own.refreshed(second.folder), asks)
        assert before != after
        assert set(load.statuses) == {200}
        # Each list is of the one or the other, and those that were asked for afterwards of the other.
        assert all(found in (before[place], after[place]) for place, found in load.lists)
        assert all(found == after[place] for place, found in load.lists[seen + 4 :])
        assert all(found == before[place] for place, found in load.lists[: len(asks)])
        assert metric("rankgate_features_info", publication=second.digest) == 1.0
        assert metric("rankgate_features_swaps_total") == 2.0
        assert metric("rankgate_features_as_of_seconds") == second.manifest.latest_bucket * 3_600
        assert metric("rankgate_features_looked_seconds") < 30.0
        assert metric("rankgate_fallbacks_total", reason="failed") != metric(
            "rankgate_fallbacks_total", reason="failed"
        )

        # A publisher that is killed half way changes nothing.
        words = [str(world.__file__), str(small_ranker), str(shop.key.parent), str(root), "21", DIGEST]
        environment = {**os.environ, "PYTHONPATH": str(repository)}
        with subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout
            for line in process.stdout:
                if line.startswith("opening"):
                    process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        assert served() == second.digest

        # Nor does a publication whose bytes are not what was signed.
        third = shop.publish(tmp_path / "elsewhere", hours=22, clock=lambda: world.NOW + timedelta(hours=1))
        content = bytearray((third.folder / "users.parquet").read_bytes())
        content[len(content) // 2] ^= 1
        (third.folder / "users.parquet").write_bytes(content)
        copytree(third.folder, second.folder.parent / third.digest)
        features_root.point_at(second.folder.parent, third.digest)
        until(lambda: metric("rankgate_features_refused_total", reason="changed") == 1.0)
        assert served() == second.digest

        # An earlier one is put back by whoever may.
        put_back(first.digest, root=root, release=DIGEST, key=str(shop.key), publisher="rita")
        until(lambda: served() == first.digest)
        assert json.loads(get("/release"))["features_published_by"] == "rita"
        with closing(Client(server.port)) as client:
            assert [told(client.post(path, body).body) for path, body in asks] == before
        assert not list(local.iterdir())


class Failing:
    """A watch whose looks fail in a way that nobody thought of, until it is told not to."""

    def __init__(self) -> None:
        self.looks, self.fails = 0, True

    def look(self) -> None:
        self.looks += 1
        if self.fails:
            raise ZeroDivisionError


def test_a_look_that_fails_ends_neither_the_start_nor_the_looking(caplog: pytest.LogCaptureFixture) -> None:
    watch, serving = Failing(), Serving()
    refreshing = Refreshing(serving, cast(FeatureWatch, watch), poll_seconds=0.01)
    refreshing.first()
    assert serving.answerer is None

    async def run() -> None:
        refreshing.begin()
        while watch.looks < 5:
            await asyncio.sleep(0.01)
        watch.fails = False
        while watch.looks < 8:
            await asyncio.sleep(0.01)
        refreshing.end()

    usual = sys.getswitchinterval()
    asyncio.run(run())
    until(lambda: sys.getswitchinterval() == usual)
    assert {record.message for record in caplog.records} == {"looking for published features failed"}
