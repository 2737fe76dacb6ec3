"""What goes wrong between a shop and its event log: broken copies of real rows, and real rows sent twice."""

from __future__ import annotations

import numpy as np

from components.events.shop.behaviour import EVENTS, Log, concatenate

SHARE = 0.005
"""Broken rows as a share of the sound ones: a tenth of what the contract tolerates."""
UNKNOWN_EVENT = len(EVENTS)
"""Event index that stands for a name that the contract does not know."""

KINDS = ("no user", "no item", "no time", "unknown event", "from the future", "negative position", "sent twice")

_YEAR = 365 * 86_400.0


def soiled(rng: np.random.Generator, log: Log) -> Log:
    """The log with SHARE more rows, evenly of all KINDS (each at least twice), at its end."""
    each = max(2, round(len(log) * SHARE / len(KINDS)))
    impressions = np.flatnonzero(log.position > 0)
    broken = []
    for kind in KINDS:
        rows = log.take(rng.choice(impressions if kind == "negative position" else len(log), size=each, replace=False))
        if kind == "no user":
            rows.user[:] = -1
        elif kind == "no item":
            rows.item[:] = -1
        elif kind == "no time":
            rows.second[:] = np.nan
        elif kind == "unknown event":
            rows.event[:] = UNKNOWN_EVENT
        elif kind == "from the future":
            rows.second[:] += _YEAR
        elif kind == "negative position":
            rows.position[:] *= -1
        broken.append(rows)
    return concatenate([log, *broken])
