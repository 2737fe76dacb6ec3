"""From the metrics of arms to readings of a window: what was counted since the last look, of everyone and of each surface.

    text of /metrics, counters of Envoy -> Scraped -> (one before, one now) -> Reading, one of everyone and one a surface

Requests are those whose users were drawn for an arm, and errors those of them that it did not answer, be it with a 500, by
failing so that another arm was asked, or by being left out while it is ill: a process that is gone counts nothing itself, and
who falls back on the stable arm must not make it look well. All else is what the arm says of its lists. Counters that went
down belong to a new process and are counted from nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from components.errors import InputError
from components.rollout.contract import Reading
from components.rollout.envoy import drawn_cluster
from components.serving.contract import UNSCORED

Counts = Mapping[str, float]

EVERYONE = ""


@dataclass(frozen=True, slots=True)
class Surface:
    """What an arm has counted on one surface since its process began, or on all of them."""

    counts: Counts = field(default_factory=dict)
    latency: tuple[float, ...] = ()
    """Lists up to each bound and beyond the last, not cumulative."""
    scores: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Scraped:
    """An arm at one moment; counters since its process, and Envoy's, began."""

    at: float
    """Seconds since 1970."""
    surfaces: Mapping[str, Surface]
    """By name; `EVERYONE` is all of them."""
    gauges: Counts
    latency_bounds: tuple[float, ...]
    score_bounds: tuple[float, ...]


def scraped(texts: Sequence[str], envoy: Counts, *, arm: str, at: float) -> Scraped:
    """An arm as its replicas and Envoy tell it.

    Args:
        texts: Of /metrics, one a replica.
        envoy: Counters by Envoy's names.
        arm: The name of Envoy's cluster.
        at: When, seconds since 1970.

    Raises:
        InputError: If a text is no exposition, or histograms of replicas have other bounds.
    """
    from prometheus_client.parser import text_string_to_metric_families

    tables: dict[str, _Counted] = {EVERYONE: _Counted()}
    ages: list[float] = []
    for text in texts:
        try:
            families = list(text_string_to_metric_families(text))
        except ValueError as error:
            raise InputError(f"metrics of the {arm} arm: are not as Prometheus has them ({error}).") from error
        for family in families:
            for sample in family.samples:
                if sample.name == "rankgate_features_age_seconds":
                    ages.append(sample.value)
                name = sample.labels.get("surface")
                if name is not None:
                    for key in {EVERYONE, name} if name else {EVERYONE}:
                        tables.setdefault(key, _Counted()).add(sample.name, sample.labels, sample.value)
    surfaces = {name: table.surface() for name, table in tables.items()}
    drawn = drawn_counts(envoy, arm)
    if drawn is not None:
        everyone = surfaces[EVERYONE]
        counts = {**everyone.counts, "requests": drawn[0], "errors": drawn[1]}
        surfaces[EVERYONE] = Surface(counts, everyone.latency, everyone.scores)
    bounds = {table.bounds("rankgate_answer_seconds") for table in tables.values()} - {()}
    score_bounds = {table.bounds("rankgate_score") for table in tables.values()} - {()}
    if len(bounds) > 1 or len(score_bounds) > 1:
        raise InputError(
            f"metrics of the {arm} arm: its replicas count by different bounds; needed one release of them."
        )
    gauges = {"features_age_seconds": max(ages)} if ages else {}
    return Scraped(at, surfaces, gauges, next(iter(bounds), ()), next(iter(score_bounds), ()))


def drawn_counts(envoy: Counts, arm: str) -> tuple[float, float] | None:
    """Requests that were drawn for an arm and have ended, and those of them that it did not answer.

    A request that is asked again was sent and failed, or found no connection, which is not counted as sent. What was never sent,
    for the arm was left out, is the rest. None where Envoy does not know the arm.
    """
    drawn = drawn_cluster(arm)
    ended = envoy.get(f"cluster.{drawn}.upstream_rq_completed")
    if ended is None:
        return None
    refused = envoy.get(f"cluster.{drawn}.upstream_rq_5xx", 0.0)
    again = envoy.get(f"cluster.{drawn}.upstream_rq_retry", 0.0)
    if drawn == arm:
        return ended, min(refused + again, ended)
    unconnected = envoy.get(f"cluster.{arm}.upstream_cx_connect_fail", 0.0)
    sent = envoy.get(f"cluster.{arm}.upstream_rq_total", 0.0) - envoy.get(f"cluster.{arm}.upstream_rq_active", 0.0)
    answered = sent - max(0.0, again - unconnected) - refused
    return ended, min(max(0.0, ended - answered), ended)


def readings(
    before: Scraped,
    now: Scraped,
    *,
    arm: str,
    share: float,
    new_users: int = 0,
    extra: Counts | None = None,
    most_surfaces: int = 20,
) -> tuple[Reading, ...]:
    """What an arm did between two moments: of everyone, then of each surface.

    Args:
        before: The earlier moment.
        now: The later one.
        arm: Its name.
        share: Of the traffic, that it was set to have meanwhile.
        new_users: See `Reading.new_users`.
        extra: Gauges that metrics do not tell.
        most_surfaces: Surfaces beyond are counted with everyone only.
    """
    found = []
    names = [EVERYONE, *sorted(name for name in now.surfaces if name != EVERYONE)[:most_surfaces]]
    for name in names:
        later, earlier = now.surfaces[name], before.surfaces.get(name, Surface())
        counts = {key: _since(earlier.counts.get(key, 0.0), value) for key, value in later.counts.items()}
        if "errors" in counts and later.counts["requests"] >= earlier.counts.get("requests", 0.0):
            # What is in flight may be counted on either side: errors can seem to go down by one.
            counts["errors"] = min(
                max(0.0, later.counts["errors"] - earlier.counts.get("errors", 0.0)), counts["requests"]
            )
        found.append(
            Reading(
                arm=arm,
                share=share,
                began=before.at,
                seconds=now.at - before.at,
                segment=f"surface={name}" if name else "",
                counts=counts,
                histograms={
                    key: gone
                    for key, gone in (
                        ("latency", _all_since(earlier.latency, later.latency)),
                        ("score", _all_since(earlier.scores, later.scores)),
                    )
                    if gone
                },
                gauges={**now.gauges, **(extra or {})} if name == EVERYONE else {},
                new_users=new_users if name == EVERYONE else 0,
            )
        )
    return tuple(found)


class _Counted:
    """Sums over replicas of what one surface is told of."""

    def __init__(self) -> None:
        self._lists = self._empty = self._unscored = 0.0
        self._cumulative: dict[str, dict[float, float]] = {}

    def add(self, name: str, labels: Mapping[str, str], value: float) -> None:
        if name == "rankgate_answer_seconds_count":
            self._lists += value
        elif name == "rankgate_empty_answers_total":
            self._empty += value
        elif name == "rankgate_fallbacks_total" and labels.get("reason") in UNSCORED:
            self._unscored += value
        elif name in _BUCKETS:
            held = self._cumulative.setdefault(_BUCKETS[name], {})
            bound = float(labels["le"])
            held[bound] = held.get(bound, 0.0) + value

    def bounds(self, name: str) -> tuple[float, ...]:
        return tuple(bound for bound in sorted(self._cumulative.get(name, {})) if math.isfinite(bound))

    def surface(self) -> Surface:
        counts = {"lists": self._lists, "empty": self._empty, "fallbacks": self._unscored}
        return Surface(counts, self._apart("rankgate_answer_seconds"), self._apart("rankgate_score"))

    def _apart(self, name: str) -> tuple[float, ...]:
        held = [count for _, count in sorted(self._cumulative.get(name, {}).items())]
        return tuple(count - before for count, before in zip(held, [0.0, *held], strict=False))


_BUCKETS: Mapping[str, str] = {
    "rankgate_answer_seconds_bucket": "rankgate_answer_seconds",
    "rankgate_score_bucket": "rankgate_score",
}


def _since(before: float, now: float) -> float:
    return now - before if now >= before else now


def _all_since(before: Sequence[float], now: Sequence[float]) -> tuple[float, ...]:
    if len(before) != len(now) or sum(before) > sum(now):
        return tuple(now)
    return tuple(_since(a, b) for a, b in zip(before, now, strict=True))
