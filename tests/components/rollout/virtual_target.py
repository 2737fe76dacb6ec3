"""A target in memory over virtual time: arms that start slowly, users who come and go, faults, and a place to be killed at."""

from __future__ import annotations

import hashlib
import random
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from prometheus_client.core import CollectorRegistry

from components.rollout.contract import BASELINE, CANARY, STABLE
from components.rollout.envoy import WHOLE, Split, drawn_cluster
from components.serving.contract import FAILED, Answer, Ask, Place
from components.serving.exposure_files import Shown
from components.serving.metrics import ServingMetrics, State, exposition

STARTS_AFTER = 7.0
RATE = 40
ITEMS = ("i1", "i2", "i3")


class KilledError(BaseException):
    """As `kill -9` would: nothing that runs here catches it."""


@dataclass
class Arm:
    """One process."""

    release: str
    ready_at: float
    registry: CollectorRegistry
    metrics: ServingMetrics


@dataclass
class VirtualTarget:
    """`Target`, and the world around it. Everything that it holds outlives a controller."""

    now: float = 1_000_000.0
    faults: dict[str, str] = field(default_factory=dict)
    """By release: errors, slow, fallbacks, empty, scores, stale, dead, unlogged, harmful; by arm: unread."""
    arms: dict[str, Arm] = field(default_factory=dict)
    shares: dict[str, int] = field(default_factory=dict)
    drawn_by: str = ""
    counts: dict[str, float] = field(default_factory=dict)
    lists: dict[str, list[Shown]] = field(default_factory=dict)
    clicks: list[tuple[str, str]] = field(default_factory=list)
    crooked: bool = False
    """Whether half of the canary's users are sent to the stable arm, unseen."""
    lost: int = 0
    """Requests that nobody answered."""
    on_call: Callable[[str], None] = lambda _: None
    random: random.Random = field(default_factory=lambda: random.Random(7))
    read: dict[str, int] = field(default_factory=dict)
    asked: int = 0

    def serve(self, arm: str, release: str) -> bool:
        self.on_call(f"serve {arm}")
        held = self.arms.get(arm)
        if held is None or held.release != release:
            self._begin(arm, release)
        self.on_call(f"served {arm}")
        return self._is_up(arm)

    def stop(self, arm: str) -> bool:
        self.on_call(f"stop {arm}")
        self.arms.pop(arm, None)
        self.on_call(f"stopped {arm}")
        return True

    def split(self, split: Split) -> None:
        self.on_call("split")
        assert sum(split.shares.values()) == WHOLE
        self.shares, self.drawn_by = dict(split.shares), split.release
        for arm in (CANARY, STABLE, BASELINE):
            self.counts.setdefault(f"cluster.{drawn_cluster(arm)}.upstream_rq_completed", 0.0)
        self.on_call("has split")

    def metrics(self, arm: str) -> Mapping[str, str]:
        self.on_call(f"metrics {arm}")
        held = self.arms.get(arm)
        if held is None or not self._is_up(arm) or self.faults.get(arm) == "unread":
            return {}
        return {"one": b"".join(exposition(held.registry)).decode()}

    def traffic(self) -> Mapping[str, float]:
        self.on_call("traffic")
        return dict(self.counts)

    def shown(self, arm: str) -> Iterable[Shown]:
        self.on_call(f"shown {arm}")
        lists = self.lists.get(arm, [])
        start = self.read.get(arm, 0)
        self.read[arm] = len(lists)
        return lists[start:]

    def taken_up(self) -> None:
        """Another controller's target reads what was shown from the beginning."""
        self.read.clear()

    def pass_time(self, seconds: float, *, rate: int = RATE) -> None:
        """Let users come."""
        for _ in range(int(seconds * rate)):
            self.now += 1 / rate
            self._request(f"u{self.random.randrange(4_000)}")

    def _begin(self, arm: str, release: str) -> None:
        registry = CollectorRegistry()
        stale = self.faults.get(release) == "stale"

        def look() -> State:
            return State(True, False, release, "run", arm, self.now - (1e6 if stale else 60.0), None)

        metrics = ServingMetrics(registry, look=look, clock=lambda: self.now)
        self.arms[arm] = Arm(release, self.now + STARTS_AFTER, registry, metrics)

    def _is_up(self, arm: str) -> bool:
        held = self.arms.get(arm)
        return held is not None and self.now >= held.ready_at and self.faults.get(held.release) != "dead"

    def _drawn(self, user: str) -> str:
        place = int.from_bytes(hashlib.sha256(f"{user}|{self.drawn_by}".encode()).digest()[:4]) % WHOLE
        for arm in (CANARY, STABLE, BASELINE):
            place -= self.shares.get(arm, 0)
            if place < 0:
                break
        if self.crooked and arm == CANARY and zlib.crc32(user.encode()) % 2:
            return STABLE
        return arm

    def _request(self, user: str) -> None:
        self.asked += 1
        if not self.shares:
            return
        drawn = self._drawn(user)
        cluster = drawn_cluster(drawn)
        self._count(f"cluster.{cluster}.upstream_rq_completed")
        answering = drawn
        if not self._is_up(drawn):
            answering = STABLE
            if drawn == STABLE or not self._is_up(STABLE):
                self._count(f"cluster.{cluster}.upstream_rq_5xx")
                self.lost += 1
                return
        else:
            self._count(f"cluster.{drawn}.upstream_rq_total")
        held = self.arms[answering]
        fault = self.faults.get(held.release, "")
        if fault == "errors" and self.random.random() < 0.5:
            self._count(f"cluster.{cluster}.upstream_rq_5xx")
            return
        self._show(held, answering, user, fault)

    def _show(self, held: Arm, arm: str, user: str, fault: str) -> None:
        request = f"q{self.asked}"
        middle = 2.5 if fault == "scores" else 0.3
        places = tuple(
            Place(item, self.random.gauss(middle, 0.2), rank, 1.0, False, "given") for rank, item in enumerate(ITEMS, 1)
        )
        bad = self.random.random() < 0.5
        answer = Answer(
            request_id=request,
            places=() if fault == "empty" and bad else places,
            release=held.release,
            arm=arm,
            fallbacks=(FAILED,) if fault == "fallbacks" and bad else (),
            stages={},
        )
        ask = Ask(request, user, None, 3, surface=("home", "cart")[self.asked % 2])
        seconds = self.random.lognormvariate(-5.5, 0.5) * (5 if fault == "slow" else 1)
        held.metrics.observe(ask, answer, seconds)
        if fault != "unlogged":
            shown = Shown.of(datetime.fromtimestamp(self.now, UTC), request, user, ask.surface, {}, answer)
            self.lists.setdefault(arm, []).append(shown)
        if self.random.random() < (0.1 if fault == "harmful" else 0.5):
            self.clicks.append((request, "click"))

    def _count(self, name: str) -> None:
        self.counts[name] = self.counts.get(name, 0.0) + 1.0
