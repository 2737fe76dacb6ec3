"""From the metrics of arms to readings of a window: what was counted since the last look, of everyone and of each surface.

    /metrics of replicas, counters of Envoy -> Scraped -> (one before, one now) -> Reading, one of everyone and one a surface

Requests are those whose users were drawn for an arm, and errors those of them that it did not answer, be it with a 500, by
failing so that another arm was asked, or by being left out while it is ill: a process that is gone counts nothing itself, and
who falls back on the stable arm must not make it look well. All else is what the arm says of its lists, replica by replica:
counters that went down belong to a new process and are counted from nothing; those of a replica that was not read at the last
look are counted from this one on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from components.errors import InputError
from components.rollout.contract import Reading
from components.rollout.envoy import drawn_cluster
from components.serving.contract import UNSCORED
from components.serving.metrics import OTHER, SCORES

Counts = Mapping[str, float]

EVERYONE = ""


@dataclass(frozen=True, slots=True)
class Surface:
    """What a replica has counted on one surface since its process began, or on all of them."""

    counts: Counts = field(default_factory=dict)
    latency: tuple[float, ...] = ()
    """Lists up to each bound and beyond the last, not cumulative."""
    scores: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Scraped:
    """An arm at one moment; counters since its processes, and Envoy's, began."""

    at: float
    """Seconds since 1970."""
    drawn: tuple[float, float] | None
    """See `drawn_counts`."""
    replicas: Mapping[str, Mapping[str, Surface]]
    """By replica, and of it by surface; `EVERYONE` is all of them. One that could not be read is absent."""
    gauges: Counts
    latency_bounds: tuple[float, ...]
    score_bounds: tuple[float, ...]


def scraped(texts: Mapping[str, str], envoy: Counts, *, arm: str, at: float) -> Scraped:
    """An arm as its replicas and Envoy tell it.

    Args:
        texts: Of /metrics, by replica; without any, only Envoy tells.
        envoy: Counters by Envoy's names.
        arm: The name of Envoy's cluster.
        at: When, seconds since 1970.

    Raises:
        InputError: If a text is no exposition, counts something that is no number, or by other bounds than another replica.
    """
    replicas: dict[str, Mapping[str, Surface]] = {}
    ages: list[float] = []
    bounds: set[tuple[float, ...]] = set()
    score_bounds: set[tuple[float, ...]] = set()
    for replica, text in texts.items():
        tables = _tables(text, ages, subject=f"metrics of the {arm} arm")
        replicas[replica] = {name: table.surface() for name, table in tables.items()}
        bounds |= {table.bounds("rankgate_answer_seconds") for table in tables.values()} - {()}
        score_bounds |= {table.bounds("rankgate_score") for table in tables.values()} - {()}
    if len(bounds) > 1 or len(score_bounds) > 1:
        raise InputError(
            f"metrics of the {arm} arm: its replicas count by different bounds; needed one release of them."
        )
    # The oldest features of any replica: somebody is served by them.
    gauges = {"features_age_seconds": max(ages)} if ages and len(ages) == len(texts) else {}
    return Scraped(at, drawn_counts(envoy, arm), replicas, gauges, next(iter(bounds), ()), next(iter(score_bounds), ()))


def _tables(text: str, ages: list[float], *, subject: str) -> dict[str, _Counted]:
    """What one replica counts, by surface; the age of its features goes to `ages`."""
    from prometheus_client.parser import text_string_to_metric_families

    tables: dict[str, _Counted] = {EVERYONE: _Counted()}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "rankgate_features_age_seconds" and math.isfinite(sample.value):
                    ages.append(sample.value)
                name = sample.labels.get("surface")
                if name is None:
                    continue
                if sample.name in _COUNTED and not 0 <= sample.value < math.inf:
                    raise InputError(f"{subject}: {sample.name} is {sample.value}; needed a count.")
                # What is other depends on what came first, which is another on each arm.
                for key in {EVERYONE, name} - {OTHER}:
                    tables.setdefault(key, _Counted()).add(sample.name, sample.labels, sample.value)
    except ValueError as error:
        raise InputError(f"{subject}: are not as Prometheus has them ({error}).") from error
    return tables


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
    latency_bounds: tuple[float, ...] | None = None,
    most_surfaces: int = 20,
) -> tuple[Reading, ...]:
    """What an arm did between two moments: of everyone, then of each surface.

    What could not be read at both moments is absent: what a replica counted before it was first seen is no part of the window.

    Args:
        before: The earlier moment.
        now: The later one.
        arm: Its name.
        share: Of the traffic, that it was set to have meanwhile.
        new_users: See `Reading.new_users`.
        extra: Gauges that metrics do not tell.
        latency_bounds: Those that latency is judged by; counted by others, it is absent. None: any.
        most_surfaces: Surfaces beyond are counted with everyone only.
    """
    both = [replica for replica in now.replicas if replica in before.replicas]
    named = {name for replica in both for name in now.replicas[replica] if name != EVERYONE}
    same_bounds = latency_bounds is None or now.latency_bounds in ((), latency_bounds)
    found = []
    for name in [EVERYONE, *sorted(named)[:most_surfaces]]:
        counts: dict[str, float] = {}
        histograms: dict[str, tuple[float, ...]] = {}
        for replica in both:
            later = now.replicas[replica].get(name)
            if later is None:
                continue
            earlier = before.replicas[replica].get(name, Surface())
            anew = _began_anew(earlier, later)
            for key, value in later.counts.items():
                counts[key] = counts.get(key, 0.0) + value - (0.0 if anew else earlier.counts.get(key, 0.0))
            if same_bounds:
                _add(histograms, "latency", later.latency, () if anew else earlier.latency)
            _add(histograms, "score", later.scores, () if anew else earlier.scores)
        if name == EVERYONE:
            if both:
                # Who is there and was asked for nothing has counted nothing, which is not the same as unread.
                _add(histograms, "score", _zeros(SCORES), ())
                if same_bounds and latency_bounds:
                    _add(histograms, "latency", _zeros(latency_bounds), ())
            counts |= _drawn_since(before.drawn, now.drawn)
        found.append(
            Reading(
                arm=arm,
                share=share,
                began=before.at,
                seconds=now.at - before.at,
                segment=f"surface={name}" if name else "",
                counts=counts,
                histograms=histograms,
                gauges={**now.gauges, **(extra or {})} if name == EVERYONE else {},
                new_users=new_users if name == EVERYONE else 0,
            )
        )
    return tuple(found)


def _began_anew(before: Surface, now: Surface) -> bool:
    """Whether these are counters of another process: counters of one never go down."""
    pairs = [
        *((before.counts.get(key, 0.0), value) for key, value in now.counts.items()),
        *(zip(before.latency, now.latency, strict=False)),
        *(zip(before.scores, now.scores, strict=False)),
    ]
    return any(later < earlier for earlier, later in pairs)


def _zeros(bounds: tuple[float, ...]) -> tuple[float, ...]:
    return (0.0,) * (len(bounds) + 1)


def _add(held: dict[str, tuple[float, ...]], name: str, now: tuple[float, ...], before: tuple[float, ...]) -> None:
    if now:
        gone = tuple(b - a for a, b in zip(before or (0.0,) * len(now), now, strict=True))
        so_far = held.get(name, (0.0,) * len(now))
        # Where bounds are others than expected the judge takes none of it.
        held[name] = tuple(a + b for a, b in zip(so_far, gone, strict=True)) if len(so_far) == len(gone) else ()


def _drawn_since(before: tuple[float, float] | None, now: tuple[float, float] | None) -> dict[str, float]:
    """Requests and errors of a window; of an Envoy that began anew, since it did. Empty where it was not asked twice."""
    if before is None or now is None:
        return {}
    if now[0] < before[0]:
        return {"requests": now[0], "errors": now[1]}
    requests = now[0] - before[0]
    # What is in flight may be counted on either side: errors can seem to go down by one.
    return {"requests": requests, "errors": min(max(0.0, now[1] - before[1]), requests)}


class _Counted:
    """What a replica tells of one surface; arms of an answer are summed."""

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
_COUNTED = {*_BUCKETS, "rankgate_answer_seconds_count", "rankgate_empty_answers_total", "rankgate_fallbacks_total"}
