"""What Prometheus is told of a shared store, at each scrape."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from components.serving.shared_store import StoreState


class StoreMetrics(Collector):
    """The state of one store."""

    def __init__(self, look: Callable[[], StoreState], *, clock: Callable[[], float] = time.time) -> None:
        """Ask `look` at each scrape; `clock` are seconds since 1970."""
        self._look, self._clock = look, clock

    def describe(self) -> list[Metric]:
        """Nothing: the library would collect once to learn of names that are all our own."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Everything, as of now."""
        state = self._look()
        yield GaugeMetricFamily("rankgate_store_reached", "1 where the shared store answers.", float(state.reached))
        yield GaugeMetricFamily(
            "rankgate_store_whole", "1 where it has all users of the features in service.", float(state.whole)
        )
        if state.until is not None:
            yield GaugeMetricFamily(
                "rankgate_store_expires_seconds", "Until that set expires.", max(0.0, state.until - self._clock())
            )
        outcomes = CounterMetricFamily(
            "rankgate_store_users", "Users that were asked for, by what came of it.", labels=["outcome"]
        )
        for outcome, count in state.outcomes.items():
            outcomes.add_metric([outcome], count)
        yield outcomes
        seconds = HistogramMetricFamily("rankgate_store_seconds", "Of asking for the users of a request.", labels=[])
        seconds.add_metric([], *state.seconds.buckets())
        yield seconds
        yield CounterMetricFamily("rankgate_store_trips", "Times it was left alone for failing too often.", state.trips)
        yield CounterMetricFamily("rankgate_store_connections", "Connections that were made.", state.connections)
