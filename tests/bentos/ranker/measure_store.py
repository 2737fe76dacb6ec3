"""What a shared store of users costs and saves: memory of a process, bytes of a user, CPU of a list, seconds of sharing.

    python tests/bentos/ranker/measure_store.py [--scale 1] [--trees 300] [--features 40]

A server that speaks the Redis protocol is started on this machine. Each way of knowing users is measured in a process of its
own: laid out in memory, from the store, and from the tables while the store is away. CPU is the process's own, so it lasts on a
machine that others use; what the server spends is told apart.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import uvloop
from serving_world import REPOSITORY, Size, ranker_of, work_folder

sys.path.insert(0, str(REPOSITORY / "tests" / "components" / "serving"))
from redis_process import RedisServer

from components.ranker.scoring import LoadedRanker
from components.serving.answering import Answerer
from components.serving.contract import Ask, Looked
from components.serving.shared_store import SharedStore, StoreSettings
from components.serving.shared_store_address import address_of
from components.serving.shared_store_writing import share_users

_LISTS, _CANDIDATES, _SHOWN = 3_000, 100, 20
_BUDGET = 0.5
_QUIET = 0.1
"""Of all lists, the share that CPU is read at: on a machine that others use most lists cost more than they would alone."""
_PAUSE = 0.0001
"""Seconds before each list where no store is asked: whoever has waited finds its caches colder than whoever has not."""


def memory() -> dict[str, float]:
    """Megabytes of this process: its own, and pages of files, which the system can take back."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return {name: int(lines[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile")}


def asks_of(ranker: LoadedRanker, count: int) -> list[Ask]:
    rng = np.random.default_rng(0)
    users = rng.integers(len(ranker.user_ids), size=count).tolist()
    most = min(_CANDIDATES, len(ranker.item_ids))
    return [
        Ask(
            f"r-{number}",
            ranker.user_ids[user],
            tuple(ranker.item_ids[item] for item in rng.choice(len(ranker.item_ids), most, replace=False).tolist()),
            _SHOWN,
        )
        for number, user in enumerate(users)
    ]


async def lists(answerer: Answerer, asks: list[Ask], way: str, url: str) -> dict[str, float]:
    """Microseconds a list, of this process's CPU and of waiting for the store."""
    ranker = answerer.ranker
    store = SharedStore(StoreSettings(address_of(url, {}), _BUDGET), wanted=lambda: ranker.user_set)
    if way == "store":
        store.start()
        while not store.state().whole:
            await asyncio.sleep(0.01)
    took, waited, asked = [], [], []
    for ask in asks:
        if way != "store":
            await asyncio.sleep(_PAUSE)
        began, at = time.process_time_ns(), time.perf_counter_ns()
        looked = None if way == "memory" else Looked(None, "lost", 0.0)
        if way == "store" and ask.user_id:
            looked = (await store.users(ranker, [ask.user_id], seconds=answerer.spare(ask)))[ask.user_id]
            waited.append(time.perf_counter_ns() - at)
            asked.append(time.process_time_ns() - began)
            if looked.reason:
                raise SystemExit(f"the store did not give a user: {looked.reason}")
        answerer.answer(ask, looked)
        took.append(time.process_time_ns() - began)
    await store.close()
    found = {"cpu_us": float(np.quantile(took, _QUIET)) / 1e3}
    if waited:
        found |= {"wait_us": float(np.median(waited)) / 1e3, "wait_p99_us": float(np.quantile(waited, 0.99)) / 1e3}
        found["asking_us"] = float(np.quantile(asked, _QUIET)) / 1e3
    return found


def measure(way: str, folder: Path, url: str) -> None:
    """One way, in this process; a line of JSON."""
    before, began = memory(), time.process_time()
    ranker = LoadedRanker.open(folder, users_elsewhere=way != "memory")
    answerer = Answerer(ranker, release="d" * 64, arm="")
    opened = time.process_time() - began
    asks = asks_of(ranker, _LISTS)
    gc.collect()
    laid = memory()
    answerer.warm_up()
    found = uvloop.run(lists(answerer, asks, way, url))
    gc.collect()
    after = memory()
    told = {
        f"{name}_{when}": held[name]
        for when, held in (("before", before), ("opened", laid), ("after", after))
        for name in held
    }
    print(json.dumps({"way": way, "open_cpu_s": opened, **found, **told}))


def server_memory(server: RedisServer) -> int:
    said = server.ask("INFO", "memory").decode()
    return int(next(line for line in said.splitlines() if line.startswith("used_memory:")).partition(":")[2])


def main() -> None:
    """Measure every way, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--trees", type=int, default=300)
    parser.add_argument("--features", type=int, default=40)
    parser.add_argument("--one", nargs=3, metavar=("WAY", "FOLDER", "URL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure(options.one[0], Path(options.one[1]), options.one[2])
        return
    size = Size(options.trees, options.features, options.scale)
    folder = ranker_of(size, work=work_folder(), progress=print)
    ranker = LoadedRanker.open(folder, users_elsewhere=True)
    users = len(ranker.user_ids)
    with tempfile.TemporaryDirectory(prefix="rankgate-store-") as place:
        server = RedisServer(Path(place))
        try:
            empty = server_memory(server)
            began, began_cpu = time.perf_counter(), time.process_time()
            done = asyncio.run(share_users(ranker, address_of(server.url, {}), keep_seconds=86_400))
            seconds, cpu = time.perf_counter() - began, time.process_time() - began_cpu
            held = server_memory(server) - empty
            print(f"{users} users, {len(ranker.item_ids)} items, {size.features} features, {size.trees} trees")
            print(f"shared in {seconds:.1f} s ({cpu:.1f} s of CPU, {users / cpu:.0f} users a second of it)")
            print(f"a value {done.value_bytes / users:.0f} bytes, in the server {held / users:.0f} with its key")
            for way in ("memory", "store", "tables"):
                words = [sys.executable, __file__, "--one", way, str(folder), server.url]
                made = subprocess.run(words, check=True, capture_output=True, text=True)
                told = json.loads(made.stdout)
                own = told["RssAnon_after"] - told["RssAnon_before"]
                files = told["RssFile_after"] - told["RssFile_before"]
                wait = ""
                if way == "store":
                    wait = f", {told['asking_us']:.0f} of it for asking, which takes {told['wait_us']:.0f} us"
                    wait += f" (p99 {told['wait_p99_us']:.0f})"
                print(
                    f"{way:7} {told['cpu_us']:6.0f} us of CPU a list{wait}; opening {told['open_cpu_s']:.2f} s; "
                    f"own memory +{own:.1f} MB, pages of files +{files:.1f} MB"
                )
        finally:
            server.kill()


if __name__ == "__main__":
    main()
