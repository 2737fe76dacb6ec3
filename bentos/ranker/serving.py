"""What the routes answer with: opened when the service starts, looked at by every request and every scrape."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from bentos.ranker.openapi import document
from bentos.ranker.refusals import RefusedError
from components.approval.contract import Release
from components.errors import Fault
from components.serving.answering import Answerer
from components.serving.exposures import ExposureLog
from components.serving.logs import AccessLog
from components.serving.metrics import ServingMetrics, State
from components.serving.traces import Traces

if TYPE_CHECKING:
    from components.serving.features import FeatureWatch
    from components.serving.shared_store import SharedStore

EXPLAINED = "explain"
"""Where metrics count lists that nobody is shown."""


class Serving:
    """What the routes answer with: nothing until a ranker is opened, nothing new while the process drains."""

    def __init__(self) -> None:
        self.answerer: Answerer | None = None
        self.release: Release | None = None
        self.exposures: ExposureLog | None = None
        self.access = AccessLog(0)
        self.traces: Traces | None = None
        self.features: FeatureWatch | None = None
        self.store: SharedStore | None = None
        self.ready = False
        self.draining = False
        self.count_by(())
        self._document: tuple[tuple[str, ...], bytes] | None = None

    def count_by(self, surfaces: Sequence[str]) -> None:
        """Begin to count anew; these surfaces, or without any the first that come, have figures of their own."""
        self.registry = CollectorRegistry()
        told_apart = [*surfaces, EXPLAINED] if surfaces else ()
        self.metrics = ServingMetrics(self.registry, look=self.state, surfaces=told_apart)

    def state(self) -> State:
        """How things stand, for whoever watches."""
        answerer, approval = self.answerer, self.release.approval if self.release else None
        return State(
            ready=self.ready,
            draining=self.draining,
            release=answerer.release if answerer else "",
            run=approval.run if approval else "",
            arm=answerer.arm if answerer else "",
            features_as_of=float(answerer.ranker.latest_bucket_start) if answerer else None,
            exposures=self.exposures.counts() if self.exposures else None,
            features=self.features.state() if self.features else None,
        )

    def opened(self) -> Answerer:
        """The answerer.

        Raises:
            RefusedError: 503 as long as there is none.
        """
        if self.answerer is None:
            raise RefusedError(503, Fault("service", "no ranker opened yet", "to be ready", "Ask /readyz before."))
        return self.answerer

    def document(self) -> bytes:
        """The OpenAPI document, with the context and the events that the ranker knows; made when it is first asked for."""
        ranker = self.opened().ranker
        context = ranker.context
        if self._document is None or self._document[0] != context:
            self._document = context, json.dumps(document(context, ranker.events), ensure_ascii=False).encode()
        return self._document[1]
