"""What BentoML starts: a ranker is opened, warmed up and answered with, whatever service it was opened for.

BentoML imports a service twice: in the worker that answers, and in a process that does nothing but watch over it. So whatever
is heavy is imported where a worker gets to: 95 MB and most of a second that the watching process does without.
"""

from __future__ import annotations

import gc
import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

import bentoml

from bentos.ranker.draining import drain_on_sigterm, drain_seconds

if TYPE_CHECKING:
    from bentos.ranker.reading import Inner
    from bentos.ranker.refreshing import Refreshing
    from bentos.ranker.serving import Serving
    from components.approval.contract import Release
    from components.ranker.scoring import LoadedRanker
    from components.serving.features_settings import FeatureSettings

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


class Desk:
    """What the routes of one service answer with, made by the worker that needs it."""

    @cached_property
    def serving(self) -> Serving:
        from bentos.ranker.serving import Serving

        return Serving()


class Answering:
    """Answers with an opened ranker; the service that inherits this says what it opens, and has a desk of its own."""

    desk: Desk
    drain = 5.0
    """Seconds from SIGTERM to the end of accepting, unless the environment says otherwise."""
    _refreshing: Refreshing | None = None

    def open(self, ranker: LoadedRanker, release: Release | None) -> None:
        """Serve this ranker, of this release where there is one."""
        from components.serving.answering import Answerer
        from components.serving.exposures import log_of
        from components.serving.features_settings import FeatureSettings
        from components.serving.logs import LogSettings
        from components.serving.traces import traces_of

        serving = self.desk.serving
        answerer = Answerer(
            ranker, release=release.digest if release else UNRELEASED, arm=os.environ.get(ARM_VARIABLE, "")
        )
        answerer.warm_up()
        serving.release, serving.answerer = release, answerer
        serving.count_by([name.strip() for name in os.environ.get(SURFACES_VARIABLE, "").split(",") if name.strip()])
        self._drain = drain_seconds(self.drain)
        self._logs = LogSettings.of(os.environ)
        serving.traces = traces_of(os.environ)
        # What a measured candidate answers nobody sees.
        serving.exposures = log_of(os.environ) if release else None
        if release and (settings := FeatureSettings.of(os.environ)):
            self._begin_with_published(settings, release, ranker)
        if ranker.users_elsewhere:
            self._share()
        # What has been loaded stays: without this the collector walks through all of it again and again.
        gc.collect()
        gc.freeze()
        serving.ready = True

    def _begin_with_published(self, settings: FeatureSettings, release: Release, ranker: LoadedRanker) -> None:
        """Look for what is published now, before anything is answered."""
        from bentos.ranker.refreshing import Refreshing
        from components.serving.features import FeatureWatch

        watch = self.desk.serving.features = FeatureWatch(settings, release=release, ranker=ranker)
        self._refreshing = Refreshing(self.desk.serving, watch, poll_seconds=settings.poll_seconds)
        self._refreshing.first()

    def _share(self) -> None:
        """Users come from a shared store: the one of the features in service, whichever these are by then."""
        from components.serving.shared_store import store_of
        from components.serving.shared_store_metrics import StoreMetrics

        serving = self.desk.serving
        if (store := store_of(os.environ, wanted=lambda: serving.opened().ranker.user_set)) is not None:
            serving.store = store
            serving.registry.register(StoreMetrics(store.state))

    @bentoml.on_startup
    async def ending(self) -> None:
        """Within the server's loop, which has its handlers by now."""
        from components.serving.logs import AccessLog, start_logs

        self._end_logs = start_logs(self._logs)
        self.desk.serving.access = AccessLog(self._logs.sample)
        drain_on_sigterm(self.desk.serving, self._drain)
        if self._refreshing is not None:
            self._refreshing.begin()
        if self.desk.serving.store is not None:
            self.desk.serving.store.start()

    @bentoml.on_shutdown
    async def ended(self) -> None:
        """After the last answer."""
        if self._refreshing is not None:
            self._refreshing.end()
        if self.desk.serving.store is not None:
            await self.desk.serving.store.close()
        if self.desk.serving.exposures is not None:
            self.desk.serving.exposures.close()
        if self.desk.serving.traces is not None:
            self.desk.serving.traces.end()
        self._end_logs()


def answers(service: Any) -> Any:
    """Decorates a BentoML service: the routes are ours, outside of everything of BentoML's.

    `add_asgi_middleware` would put them inside: behind a timeout that makes a task, a future and a timer of ten seconds for each
    request (docs/decisions/0033-service-speed.md).
    """

    class Outermost(type(service)):  # type: ignore[misc]
        # The service is looked up by where it was declared, so it changes its class instead of being made anew.
        __slots__ = ()

        def to_asgi(self, is_main: bool = True) -> Inner:
            from bentos.ranker.application import Application

            return Application(super().to_asgi(is_main), serving=self.inner.desk.serving)

    service.__class__ = Outermost
    return service
