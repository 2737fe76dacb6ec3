"""What Prometheus is told of answering: counts and histograms of every list, and at each scrape how things stand.

    observe(ask, answer, seconds)   one answered list       replied(route, status, seconds)   one HTTP request
    look() -> State                 asked for at each scrape

Labels are bounded: a surface that a client makes up does not become a series. The histograms are our own lists of counts, handed
to prometheus_client when it asks: BentoML sets PROMETHEUS_MULTIPROC_DIR for every service, and with it each of the library's
own metrics writes to a mapped file, at several times the cost, in a folder that all services of a machine share and clear.
So the figures are those of this process; a service has one (docs/decisions/0034-exposure-log.md).
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from components.serving.contract import FALLBACK, Answer, Ask
from components.serving.exposures import Counts
from components.serving.features_contract import FeatureState

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
# Finer where a canary is judged by them: "half as slow again" must not have to wait for a bound that is twice as far.
ANSWER_SECONDS = (
    *(0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0),
)
# Prometheus knows no sum where bounds are negative, and no count beside the bucket +Inf.
SCORES = (-8.0, -4.0, -2.0, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)

OTHER = "other"
RELEASED = "release"
"""Where metrics and /release speak of features that lie in the release itself."""
UNSAID = "unsaid"
MOST_SURFACES = 8
_MOST_ARMS = 4


@dataclass(frozen=True, slots=True)
class State:
    """How things stand when a scrape asks."""

    ready: bool
    draining: bool
    release: str
    """Digest; empty while nothing is opened."""
    run: str
    arm: str
    features_as_of: float | None
    """Features know events before this moment, seconds since 1970."""
    exposures: Counts | None
    """None where nothing is logged."""
    features: FeatureState | None = None
    """None where nobody publishes features for it."""


class Bounded:
    """Values of a label, of which there are only so many; all others are one."""

    def __init__(self, declared: Sequence[str] = (), *, most: int) -> None:
        """Take the declared values, or where there are none the first `most` that come."""
        self._known = {value: value for value in declared} | {"": UNSAID}
        self._room = 0 if declared else most

    def __call__(self, value: str) -> str:
        """The label of a value."""
        known = self._known.get(value)
        if known is not None:
            return known
        if self._room == 0:
            return OTHER
        self._room -= 1
        self._known[value] = value
        return value


class Histogram:
    """Counts of values between bounds."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds, self._counts, self._sum = bounds, [0] * (len(bounds) + 1), 0.0

    def observe(self, value: float) -> None:
        """Count a value; one that equals a bound is below it."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def buckets(self) -> tuple[list[tuple[str, float]], float]:
        """(bound, values up to it), ascending, and the sum of all values."""
        found, total = [], 0
        for bound, count in zip([*map(str, self._bounds), "+Inf"], self._counts, strict=True):
            total += count
            found.append((bound, float(total)))
        return found, self._sum


class _Cell:
    """Of one arm on one surface."""

    __slots__ = ("empty", "fallbacks", "places", "scores", "seconds", "stages")

    def __init__(self) -> None:
        self.seconds = Histogram(ANSWER_SECONDS)
        self.scores = Histogram(SCORES)
        self.stages: dict[str, Histogram] = {}
        self.fallbacks: dict[str, int] = {}
        self.empty = self.places = 0


class ServingMetrics(Collector):
    """All of a service's own metrics. Observed and collected in one thread, the one that answers."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        look: Callable[[], State],
        surfaces: Sequence[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Register with a registry.

        Args:
            registry: Collects these metrics from now on.
            look: Asked at each scrape.
            surfaces: Those that have series of their own; without any, the first `MOST_SURFACES` that are asked for.
            clock: Seconds since 1970.
        """
        self._look, self._clock = look, clock
        self._surfaces, self._arms = Bounded(surfaces, most=MOST_SURFACES), Bounded(most=_MOST_ARMS)
        self._cells: dict[tuple[str, str], _Cell] = {}
        self._replies: dict[tuple[str, int], int] = {}
        self._routes: dict[str, Histogram] = {}
        self._turn = 0
        registry.register(self)

    def observe(self, ask: Ask, answer: Answer, seconds: float) -> None:
        """Count an answered list.

        Args:
            ask: What was asked.
            answer: The list; of its places one, each in turn, has its score looked at.
            seconds: That answering took, without what HTTP adds.
        """
        key = self._arms(answer.arm), self._surfaces(ask.surface)
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = _Cell()
        cell.seconds.observe(seconds)
        stages = cell.stages
        for stage, took in answer.stages.items():
            if stage not in stages:
                stages[stage] = Histogram(SECONDS)
            stages[stage].observe(took)
        for reason in answer.fallbacks:
            cell.fallbacks[reason] = cell.fallbacks.get(reason, 0) + 1
        places = answer.places
        if not places:
            cell.empty += 1
            return
        cell.places += len(places)
        self._turn += 1
        place = places[self._turn % len(places)]
        if place.source != FALLBACK:
            cell.scores.observe(place.score)

    def replied(self, route: str, status: int, seconds: float) -> None:
        """Count an HTTP request.

        Args:
            route: One of the service's own routes, `other` for any other path: never what a client wrote.
            status: Of the answer.
            seconds: From the request's first byte to the answer's last.
        """
        key = route, status
        self._replies[key] = self._replies.get(key, 0) + 1
        if route not in self._routes:
            self._routes[route] = Histogram(SECONDS)
        self._routes[route].observe(seconds)

    def describe(self) -> list[Metric]:
        """Nothing: the library would collect once to learn of names that are all our own."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Everything, as of now."""
        yield from self._of_requests()
        yield from self._of_answers()
        state = self._look()
        yield from self._of_state(state)
        if state.features is not None:
            yield from self._of_features(state.features)
        if state.exposures is not None:
            yield from _of_exposures(state.exposures)

    def _of_requests(self) -> Iterator[Metric]:
        replies = CounterMetricFamily("rankgate_requests", "HTTP requests.", labels=["route", "status"])
        for (route, status), count in self._replies.items():
            replies.add_metric([route, str(status)], count)
        yield replies
        seconds = HistogramMetricFamily("rankgate_request_seconds", "Of HTTP requests, in and out.", labels=["route"])
        for route, histogram in self._routes.items():
            seconds.add_metric([route], *histogram.buckets())
        yield seconds

    def _of_answers(self) -> Iterator[Metric]:
        labels = ["arm", "surface"]
        seconds = HistogramMetricFamily("rankgate_answer_seconds", "From an ask to its list.", labels=labels)
        stages = HistogramMetricFamily("rankgate_stage_seconds", "Of a stage of it.", labels=["stage", *labels])
        scores = HistogramMetricFamily(
            "rankgate_score", "Of the model: one place of each list that it ordered, each in turn.", labels=labels
        )
        fallbacks = CounterMetricFamily(
            "rankgate_fallbacks", "Lists that were not as asked, by reason.", labels=["reason", *labels]
        )
        empty = CounterMetricFamily("rankgate_empty_answers", "Lists without a place.", labels=labels)
        places = CounterMetricFamily("rankgate_places", "Places of all lists.", labels=labels)
        for key, cell in self._cells.items():
            seconds.add_metric(key, *cell.seconds.buckets())
            scores.add_metric(key, *cell.scores.buckets())
            empty.add_metric(key, cell.empty)
            places.add_metric(key, cell.places)
            for stage, histogram in cell.stages.items():
                stages.add_metric([stage, *key], *histogram.buckets())
            for reason, count in cell.fallbacks.items():
                fallbacks.add_metric([reason, *key], count)
        yield from (seconds, stages, scores, fallbacks, empty, places)

    def _of_state(self, state: State) -> Iterator[Metric]:
        yield GaugeMetricFamily("rankgate_ready", "1 where /readyz says so.", float(state.ready and not state.draining))
        yield GaugeMetricFamily("rankgate_draining", "1 after the process was told to end.", float(state.draining))
        if state.release:
            info = GaugeMetricFamily(
                "rankgate_release_info", "What is served; always 1.", labels=["release", "run", "arm"]
            )
            info.add_metric([state.release, state.run, state.arm], 1.0)
            yield info
        if state.features_as_of is not None:
            age = max(0.0, self._clock() - state.features_as_of)
            yield GaugeMetricFamily(
                "rankgate_features_as_of_seconds", "Features know events before it; since 1970.", state.features_as_of
            )
            yield GaugeMetricFamily("rankgate_features_age_seconds", "From that moment until now.", age)

    def _of_features(self, features: FeatureState) -> Iterator[Metric]:
        info = GaugeMetricFamily(
            "rankgate_features_info",
            "The publication in service, `release` where it is none; always 1.",
            labels=["publication"],
        )
        info.add_metric([features.digest or RELEASED], 1.0)
        yield info
        yield CounterMetricFamily("rankgate_features_swaps", "Publications put in service.", features.swaps)
        refused = CounterMetricFamily("rankgate_features_refused", "Publications refused.", labels=["reason"])
        for reason, count in features.refused.items():
            refused.add_metric([reason], count)
        yield refused
        looked = max(0.0, self._clock() - features.looked_at) if features.looked_at else float("inf")
        yield GaugeMetricFamily(
            "rankgate_features_looked_seconds", "Since it was last seen what is published; +Inf for never.", looked
        )


def _of_exposures(counts: Counts) -> Iterator[Metric]:
    places = CounterMetricFamily("rankgate_exposure_places", "Places, by what became of them.", labels=["outcome"])
    for outcome, count in (("written", counts.written), ("dropped", counts.dropped), ("lost", counts.lost)):
        places.add_metric([outcome], count)
    yield places
    yield GaugeMetricFamily("rankgate_exposure_waiting_places", "Not yet in a file.", counts.waiting)
    yield CounterMetricFamily("rankgate_exposure_bytes", "Written.", counts.bytes_written)
    yield CounterMetricFamily("rankgate_exposure_failures", "Times that no file could be written.", counts.failures)
    files = CounterMetricFamily("rankgate_exposure_files", "Files begun, and removed to make room.", labels=["event"])
    files.add_metric(["begun"], counts.files)
    files.add_metric(["removed"], counts.removed_files)
    yield files


class _One(Collector):
    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        yield self._metric


def exposition(*registries: Collector) -> Iterator[bytes]:
    """The text of a scrape in parts, a metric each: whoever answers requests in the same thread may do so in between."""
    for registry in registries:
        for metric in registry.collect():
            yield generate_latest(_One(metric))
