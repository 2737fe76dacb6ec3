"""How long scoring takes lately: what must be left of a deadline before it is begun.

An exponentially weighted mean, plus three times the weighted mean deviation: for times that scatter evenly about the mean
more than 98 of 100 are below it. Kept apart by kind of work, since a list of a thousand is no guide to one of ten.

Source: Jacobson (1988), "Congestion avoidance and control": the estimate that TCP resends by.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

_OF_MEAN = 1 / 8
_OF_DEVIATION = 1 / 4
_DEVIATIONS = 3.0
_EASED = 0.95


@dataclass(slots=True)
class _Seen:
    mean: float
    deviation: float


class Pace:
    """Estimates of seconds by kind of work; kinds are few, as many as the caller tells apart."""

    def __init__(self) -> None:
        self._seen: dict[Hashable, _Seen] = {}

    def needed(self, kind: Hashable) -> float:
        """Seconds to set aside; 0 for what was never done."""
        seen = self._seen.get(kind)
        return 0.0 if seen is None else seen.mean + _DEVIATIONS * seen.deviation

    def took(self, kind: Hashable, seconds: float) -> None:
        """Take a measured time into account."""
        seen = self._seen.get(kind)
        if seen is None:
            self._seen[kind] = _Seen(seconds, seconds / 2)
            return
        error = seconds - seen.mean
        seen.mean += _OF_MEAN * error
        seen.deviation += _OF_DEVIATION * (abs(error) - seen.deviation)

    def gave_up(self, kind: Hashable) -> None:
        """The work was left undone for lack of time: expect a little less the next time.

        Otherwise one slow moment would be believed for as long as nobody grants the time to refute it.
        """
        if (seen := self._seen.get(kind)) is not None:
            seen.mean *= _EASED
            seen.deviation *= _EASED
