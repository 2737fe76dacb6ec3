"""Swaps newer features in while requests are answered: a thread looks, opens and warms up, the event loop swaps.

Opening shares the interpreter's lock with whoever answers. So for as long as it takes, the lock is asked back every half
millisecond instead of every five: opening takes a little longer, and nobody waits long for it. What would hold it for longer
than that in one step, laying features out above all, is done by whoever publishes (docs/decisions/0035-published-features.md).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from bentos.ranker.serving import Serving
from components.serving.answering import Answerer
from components.serving.features import FeatureWatch, Opened

_LOG = logging.getLogger("rankgate.features")

_SWITCH_SECONDS = 0.0005


class Refreshing:
    """Keeps a service's features as new as what is published; one a process."""

    def __init__(self, serving: Serving, watch: FeatureWatch, *, poll_seconds: float) -> None:
        """Nothing is looked at yet.

        Args:
            serving: Has an answerer already.
            watch: Of that answerer's ranker.
            poll_seconds: Between one look and the next.
        """
        self._serving, self._watch, self._poll = serving, watch, poll_seconds
        self._ending = threading.Event()

    def first(self) -> None:
        """Look once, before anything is answered: a new replica begins with what the others have."""
        try:
            opened = self._watch.look()
        except Exception:
            # As in `_run`: the features of the release are there to be served, and there will be another look.
            _LOG.exception("looking for published features failed")
            return
        if opened is None:
            return
        try:
            answerer = self._serving.opened().over(opened.ranker)
        except Exception as error:
            # Whatever it is: the features of the release are there to be served.
            self._watch.refuse(opened, error)
            return
        self._serving.answerer = answerer
        self._watch.took(opened)

    def begin(self) -> None:
        """Go on looking; to be called within the server's event loop."""
        thread = threading.Thread(
            target=self._run, args=(asyncio.get_running_loop(),), name="published-features", daemon=True
        )
        thread.start()

    def end(self) -> None:
        """Look no more."""
        self._ending.set()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._ending.wait(self._poll):
            try:
                self._look(loop)
            except Exception:
                # Without this thread features would silently grow old; it goes on, and the metrics say since when.
                _LOG.exception("looking for published features failed")

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        with _giving_way():
            if (opened := self._watch.look()) is None:
                return
            before = self._serving.opened()
            try:
                answerer = before.over(opened.ranker)
            except Exception as error:
                self._watch.refuse(opened, error)
                return
        asyncio.run_coroutine_threadsafe(self._swap(answerer, opened), loop).result()
        # `before` goes here, unless a request still holds it: not in the event loop, which has better things to do.

    async def _swap(self, answerer: Answerer, opened: Opened) -> None:
        # Between two requests: what began before ends with what it began with.
        self._serving.answerer = answerer
        self._watch.took(opened)
        # What has been opened stays, as at the start (docs/decisions/0033-service-speed.md); a whole collection would take long.
        gc.collect(1)
        gc.freeze()


@contextmanager
def _giving_way() -> Iterator[None]:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)
