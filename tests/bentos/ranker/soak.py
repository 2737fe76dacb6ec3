"""Holds the service at half of what it can, for minutes, then kills its worker under load; `task soak:serving`.

    python tests/bentos/ranker/soak.py [--minutes 10] [--kills 3] [--json FILE]

The requests are all different: known users and users that nobody has heard of, items that come and go, a request id each, and
one in a hundred is wrong, so that whatever is kept by user, request, item or fault would show as memory. Memory is read once
a second; its slope in the second half has an interval that heeds how much one second is like the next. Latency counts from
when a request was due.

Each kill is `kill -9` of the process that answers, at the same rate. Lost is a request that was sent and never answered; no more
may be lost than were in flight at that moment. Ends with 1 where memory grew, an answer was 500 or above, or more was lost.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
from killing import Killed, kill_worker, logged
from numpy.typing import NDArray
from scipy import stats
from serving_client import Sample, ask, closed, paced, reading, request
from serving_processes import Server, cores, pinned
from serving_release import released
from serving_world import Size, ranker_of, work_folder

from components.ranker.scoring import LoadedRanker

CONNECTIONS = 16
GROWTH = 0.01
"""Share of its memory that a service may grow by during a soak before it is called growth, whatever the interval says."""
_WRONG_EVERY, _STRANGER_EVERY = 100, 20
_STRETCHES = 10
_CALM = 0.5
"""Share of a soak at its beginning that memory is not judged by: what is made once, and allocators, come to rest."""


class Traffic(Sequence[bytes]):
    """Requests that are all different, made as they are asked for; the same place gives the same request."""

    def __init__(self, ranker: Path, *, candidates: int = 100, seed: int = 0) -> None:
        opened = LoadedRanker.open(ranker)
        self._users, self._items = opened.user_ids, np.array(opened.item_ids, dtype=object)
        self._candidates, self._seed = min(candidates, len(self._items)), seed

    def __len__(self) -> int:
        return 2**31

    @overload
    def __getitem__(self, place: int) -> bytes: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[bytes]: ...
    def __getitem__(self, place: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        rng = np.random.default_rng((self._seed, place))
        stranger = place % _STRANGER_EVERY == 1
        body: dict[str, Any] = {
            "user_id": f"stranger-{place}" if stranger else self._users[int(rng.integers(len(self._users)))],
            "request_id": f"soak-{self._seed}-{place}",
            "surface": ("home", "e-mail")[place % 2],
            "k": 20,
        }
        if place % _WRONG_EVERY == 2:
            return request("/rank", json.dumps({**body, f"unknown-{place}": place}).encode())
        if place % 10 == 3:
            return request("/recommend", json.dumps(body).encode())
        drawn = self._items[rng.integers(len(self._items), size=self._candidates)].tolist()
        return request("/rank", json.dumps({**body, "candidates": [*drawn, f"new-{place}"]}).encode())


@dataclass(slots=True)
class Soaked:
    """What minutes of load did to the service."""

    rate: float
    seconds: float
    answers: int
    statuses: dict[int, int]
    late: int = 0
    """Answers whose list the model had no time to order."""
    windows: list[dict[str, float]] = field(default_factory=list)
    """p50, p99 and the longest of each tenth of the time, milliseconds from when due."""
    memory: list[tuple[float, int]] = field(default_factory=list)
    """Seconds since the start, bytes resident."""
    slope: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Bytes a second, and its 95 % interval."""

    @property
    def failed(self) -> int:
        """Requests that were lost or answered 500 or above."""
        return sum(count for status, count in self.statuses.items() if status == 0 or status >= 500)

    @property
    def grew(self) -> bool:
        """Memory rose, beyond what its own ups and downs explain and by more than `GROWTH` of it."""
        slope, low, _ = self.slope
        held = float(np.median([size for _, size in self.memory]))
        return low > 0 and slope * self.seconds > GROWTH * held


def soak(held: Server, traffic: Traffic, *, seconds: float, rate: float) -> Soaked:
    """Ask at a steady rate, and watch."""
    memory: list[tuple[float, int]] = []
    done = threading.Event()
    began = time.perf_counter()

    def watch() -> None:
        while not done.wait(1.0):
            memory.append((time.perf_counter() - began, held.resident()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        sample = paced(held.port, traffic, rate=rate, seconds=seconds, connections=CONNECTIONS, mark=b'"deadline"')
    finally:
        done.set()
        watcher.join()
    found = Soaked(rate, seconds, len(sample.seconds), dict(sample.statuses), sample.marked, windows_of(sample), memory)
    calm = [(at, size) for at, size in memory if at >= _CALM * seconds]
    if len(calm) > 10:
        times, sizes = np.array(calm, dtype=np.float64).T
        found.slope = slope_of(times, sizes)
    return found


def windows_of(sample: Sample, *, count: int = 10) -> list[dict[str, float]]:
    """Latencies of each tenth of the time, by when requests were due."""
    sent, taken = np.array(sample.sent), np.array(sample.seconds) * 1e3
    if not len(sent):
        return []
    edges = np.linspace(sent.min(), sent.max(), count + 1)
    parts = [taken[part] for part in np.array_split(np.argsort(sent), np.searchsorted(np.sort(sent), edges[1:-1]))]
    return [
        {"p50": float(np.median(part)), "p99": float(np.percentile(part, 99)), "longest": float(part.max())}
        for part in parts
        if len(part)
    ]


def slope_of(times: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Least-squares slope through the means of ten stretches, and its 95 % interval.

    One second's memory is much like the next one's; means of stretches are less so, and Student's t knows how few they are.

    Args:
        times: Shape (n,), n at least 10.
        values: Shape (n,).
    """
    parts = np.array_split(np.arange(len(times)), _STRETCHES)
    fitted = stats.linregress([times[part].mean() for part in parts], [values[part].mean() for part in parts])
    half = float(stats.t.ppf(0.975, _STRETCHES - 2) * fitted.stderr)
    return float(fitted.slope), float(fitted.slope) - half, float(fitted.slope) + half


def is_ready(port: int) -> bool:
    with suppress(OSError):
        return ask(port, reading("/readyz"))[0] == 200
    return False


def main() -> None:
    """Soak, kill, print, and say by the exit code whether anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--rate", type=float, help="requests a second; half of what is reached, without it")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    ranker = ranker_of(Size(), work=work_folder(), progress=lambda told: print(told, flush=True))
    with tempfile.TemporaryDirectory(dir=work_folder()) as exposures:
        soaked, kills, well = run(ranker, Path(exposures), minutes=given.minutes, kills=given.kills, rate=given.rate)
        answered = frozenset().union(*(one.answered for one in kills))
        log = logged(Path(exposures), answered=answered, recent=frozenset().union(*(one.recent for one in kills)))
    print(log.told() if log.lists else "the service wrote no exposure log")
    if given.json:
        told = [{"in_flight": one.in_flight, "lost": one.lost, "back_after": one.back_after} for one in kills]
        found = {"soak": asdict(soaked), "kills": told, "log": asdict(log)}
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    wrong = soaked.grew or soaked.failed or not well or any(one.lost > one.in_flight or one.failed for one in kills)
    raise SystemExit(bool(wrong or not log.readable))


def run(
    ranker: Path, exposures: Path, *, minutes: float, kills: int, rate: float | None
) -> tuple[Soaked, list[Killed], bool]:
    """Soak, then kill so often; and whether the service is ready afterwards."""
    traffic = Traffic(ranker)
    serving, asking = cores()
    with ExitStack() as stack:
        with pinned(serving):
            held = stack.enter_context(released(ranker, exposures=exposures))
        with pinned(asking):
            few = [one for one in traffic[10_000:11_000] if b"unknown-" not in one]
            most = closed(held.port, few, connections=8, seconds=5.0).rate
            rate = rate or most / 2
            print(f"{most:.0f} answers/s at most; {rate:.0f}/s for {minutes:g} minutes", flush=True)
            soaked = soak(held, traffic, seconds=minutes * 60, rate=rate)
            print(told_of(soaked), flush=True)
            killed = []
            for number in range(kills):
                more = Traffic(ranker, seed=number + 1)
                killed.append(kill_worker(held, more, rate=rate, connections=CONNECTIONS))
                print(killed[-1].told(), flush=True)
            return soaked, killed, is_ready(held.port)


def told_of(found: Soaked) -> str:
    """A soak in words."""
    slope, low, high = (value * 3600 / 2**20 for value in found.slope)
    sizes = [size / 2**20 for _, size in found.memory] or [0.0]
    lines = [
        f"{found.answers} answers of 200, statuses {dict(sorted(found.statuses.items()))} (one in {_WRONG_EVERY} was wrong); "
        f"{found.failed} lost or 500 and above, {found.late} lists that there was no time to score",
        f"memory {sizes[0]:.1f} MB at first, {sizes[-1]:.1f} at last, {max(sizes):.1f} at most; in the second half "
        f"{slope:+.1f} MB an hour ({low:+.1f} to {high:+.1f}): {'it grew' if found.grew else 'no growth'}",
        "p50 / p99 / longest by tenths of the time, ms from when due: "
        + ", ".join(f"{part['p50']:.1f}/{part['p99']:.1f}/{part['longest']:.0f}" for part in found.windows),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
