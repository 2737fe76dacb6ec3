"""What a swap of features does to those who are answered meanwhile: the longest stalls of the event loop, and lists' times.

    python tests/bentos/ranker/measure_swap.py RELEASE ROOT TRUST

RELEASE is a release as it lies in a bento, ROOT where features for it are published, TRUST their publisher's public key. The
service's parts run in this process as they do in a worker: lists are asked for one after another, and a ticker of 1 ms says how
long nothing else got its turn. First without a swap, then with swaps of the published features, each from the release's own.

Beside each stall stands the CPU time that this process spent from one tick to the next, in all of its threads. On a machine that
others use a stall may be theirs; this is what was our own, at most.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import tempfile
import time
from pathlib import Path

import numpy as np

from bentos.ranker.refreshing import Refreshing
from bentos.ranker.serving import Serving
from components.package.release import open_release
from components.serving.answering import Answerer
from components.serving.contract import Ask
from components.serving.features import FeatureWatch
from components.serving.features_settings import FeatureSettings

_SECONDS, _ROUNDS = 4.0, 10


async def _tick(gaps: list[tuple[float, float]], until: asyncio.Event) -> None:
    last, spent = time.perf_counter(), time.process_time()
    while not until.is_set():
        await asyncio.sleep(0.001)
        now, cpu = time.perf_counter(), time.process_time()
        gaps.append((now - last - 0.001, cpu - spent))
        last, spent = now, cpu


async def _ask(serving: Serving, times: list[float], until: asyncio.Event) -> None:
    ranker = serving.opened().ranker
    users, items = ranker.user_ids, ranker.item_ids
    number = 0
    while not until.is_set():
        number += 1
        candidates = tuple(items[(number * 37 + place) % len(items)] for place in range(100))
        began = time.perf_counter()
        serving.opened().answer(Ask(f"r{number}", users[number % len(users)], candidates, 20))
        times.append(time.perf_counter() - began)
        await asyncio.sleep(0.002)


async def _during(
    serving: Serving, seconds: float, refreshing: Refreshing | None, *, asking: bool
) -> tuple[list[tuple[float, float]], list[float]]:
    gaps: list[tuple[float, float]] = []
    times: list[float] = []
    until = asyncio.Event()
    tasks = [asyncio.create_task(_tick(gaps, until))]
    if asking:
        tasks.append(asyncio.create_task(_ask(serving, times, until)))
    if refreshing is None:
        await asyncio.sleep(seconds)
    else:
        swaps = serving.features.state().swaps if serving.features else 0
        refreshing.begin()
        while serving.features and serving.features.state().swaps == swaps:
            await asyncio.sleep(0.01)
        refreshing.end()
        await asyncio.sleep(0.2)
    until.set()
    await asyncio.gather(*tasks)
    return gaps, times


def _told(what: str, gaps: list[tuple[float, float]], times: list[float]) -> None:
    stalls, own = (np.sort(column)[::-1] * 1e3 for column in np.array(gaps).T)
    said = f"{what:30s} stalls: longest {stalls[0]:6.1f} ms, 5th {stalls[4]:5.1f}, p99 {np.percentile(stalls, 99):5.2f}"
    said += f"; own CPU: longest {own[0]:5.1f} ms, 5th {own[4]:5.1f}, p99 {np.percentile(own, 99):5.2f}"
    if times:
        lists = np.array(times) * 1e3
        said += f" | {len(lists):5d} lists: p50 {np.median(lists):5.2f}, p99 {np.percentile(lists, 99):6.2f}"
        said += f", slowest {lists.max():6.1f} ms"
    print(said, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("release", "root", "trust"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    served = open_release(given.release, threads=1)
    serving = Serving()
    serving.release = served.release
    own = Answerer(served.ranker, release=served.release.digest, arm="")
    own.warm_up()
    serving.answerer = own
    gc.collect()
    gc.freeze()
    settings = FeatureSettings(given.root, given.trust, 0.1, Path(tempfile.gettempdir()))
    for asking in (False, True):
        words = "asked all the time" if asking else "asked nothing"
        everything: tuple[list[tuple[float, float]], list[float]] = ([], [])
        gaps, times = asyncio.run(_during(serving, _SECONDS, None, asking=asking))
        _told(f"no swap, {words}", gaps, times)
        spent = []
        for _ in range(_ROUNDS):
            serving.answerer = own
            serving.features = FeatureWatch(settings, release=served.release, ranker=served.ranker)
            refreshing = Refreshing(serving, serving.features, poll_seconds=0.1)
            began, cpu = time.perf_counter(), time.process_time()
            gaps, times = asyncio.run(_during(serving, 0.0, refreshing, asking=asking))
            spent.append((time.perf_counter() - began - 0.3, time.process_time() - cpu))
            everything[0].extend(gaps)
            everything[1].extend(times)
        _told(f"{_ROUNDS} swaps, {words}", *everything)
        wall, used = np.median(np.array(spent), axis=0)
        print(f"    a swap: {wall:.2f} s, {used:.2f} s of CPU with all that was answered meanwhile", flush=True)


if __name__ == "__main__":
    main()
