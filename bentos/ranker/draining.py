"""A process that is told to end first says so, for a while, and answers all the same.

    SIGTERM -> /readyz 503, every answer closes its connection -> some seconds -> the server's own ending: no new
    connections, what is in flight is answered, the process ends

Whoever balances load needs those seconds to notice; without them it sends requests to a port that is closed.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

from components.errors import InputError

if TYPE_CHECKING:
    from bentos.ranker.serving import Serving

VARIABLE = "RANKGATE_DRAIN_SECONDS"
_LONGEST = 600.0


def drain_seconds(default: float) -> float:
    """Seconds between SIGTERM and the end of accepting, as the environment says.

    Raises:
        InputError: If it says no number from 0 to 600.
    """
    said = os.environ.get(VARIABLE, "")
    if not said:
        return default
    try:
        found = float(said)
    except ValueError:
        found = -1.0
    if not 0.0 <= found <= _LONGEST:
        raise InputError(f"{VARIABLE}: found {said[:40]!r}; needed seconds from 0 to {_LONGEST:g}.")
    return found


def drain_on_sigterm(serving: Serving, seconds: float) -> None:
    """Stand before the server's own handler of SIGTERM; a second SIGTERM is passed on at once.

    To be called in the main thread, within the server's event loop, once the server has installed its handler.
    """
    ends = signal.getsignal(signal.SIGTERM)
    if not callable(ends):
        # Nobody ends this process in an orderly way: a program without a server, such as a test that opens a service.
        return
    signal.signal(signal.SIGTERM, _Draining(serving, seconds, ends, asyncio.get_running_loop()))


class _Draining:
    def __init__(
        self,
        serving: Serving,
        seconds: float,
        ends: Callable[[int, FrameType | None], object],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._serving, self._seconds, self._ends, self._loop = serving, seconds, ends, loop

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self._serving.draining or self._seconds == 0.0:
            self._serving.draining = True
            self._ends(number, frame)
            return
        self._serving.draining = True
        # A handler may run in the middle of anything: the loop is only told, which also wakes it up.
        self._loop.call_soon_threadsafe(self._loop.call_later, self._seconds, self._ends, number, None)
