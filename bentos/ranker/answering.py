"""What BentoML starts: a ranker is opened, warmed up and answered with, whatever service it was opened for."""

from __future__ import annotations

import gc
import os
from typing import Any

import bentoml

from bentos.ranker.application import Application, Serving
from bentos.ranker.draining import drain_on_sigterm, drain_seconds
from components.approval.contract import Release
from components.ranker.scoring import LoadedRanker
from components.serving.answering import Answerer
from components.serving.exposures import log_of
from components.serving.logs import AccessLog, LogSettings, start_logs

UNRELEASED = "unreleased"
"""What a measured candidate answers in place of a release's digest."""
ARM_VARIABLE = "RANKGATE_ARM"
"""Names the arm of a rollout that this process answers for."""
SURFACES_VARIABLE = "RANKGATE_SURFACES"
"""Names, with commas between them, that metrics tell apart; without it the first few that are asked for."""

SETTINGS: dict[str, Any] = {
    "workers": 1,
    "traffic": {"timeout": 10},
    "http": {"host": "127.0.0.1", "port": 3000},
    # docs/decisions/0033-service-speed.md: what each of these costs a request, and what takes its place.
    "metrics": {"enabled": False},
    "logging": {"access": {"enabled": False}},
    "tracing": {"excluded_urls": [".*"]},
}


class Answering:
    """Answers with an opened ranker; the service that inherits this says what it opens."""

    serving: Serving
    drain = 5.0
    """Seconds from SIGTERM to the end of accepting, unless the environment says otherwise."""

    def open(self, ranker: LoadedRanker, release: Release | None) -> None:
        """Serve this ranker, of this release where there is one."""
        answerer = Answerer(
            ranker, release=release.digest if release else UNRELEASED, arm=os.environ.get(ARM_VARIABLE, "")
        )
        answerer.warm_up()
        self.serving.release, self.serving.answerer = release, answerer
        self.serving.count_by(
            [name.strip() for name in os.environ.get(SURFACES_VARIABLE, "").split(",") if name.strip()]
        )
        self._drain = drain_seconds(self.drain)
        self._logs = LogSettings.of(os.environ)
        # What a measured candidate answers nobody sees.
        self.serving.exposures = log_of(os.environ) if release else None
        # What has been loaded stays: without this the collector walks through all of it again and again.
        gc.collect()
        gc.freeze()
        self.serving.ready = True

    @bentoml.on_startup
    async def ending(self) -> None:
        """Within the server's loop, which has its handlers by now."""
        self._end_logs = start_logs(self._logs)
        self.serving.access = AccessLog(self._logs.sample)
        drain_on_sigterm(self.serving, self._drain)

    @bentoml.on_shutdown
    def ended(self) -> None:
        """After the last answer."""
        if self.serving.exposures is not None:
            self.serving.exposures.close()
        self._end_logs()


def answers(service: Any) -> Any:
    """Decorates a BentoML service: the routes are ours, before anything of BentoML's."""
    service.add_asgi_middleware(Application, serving=service.inner.serving)
    return service
