"""What of the evidence another run does not repeat to the byte, because it is time or memory itself; and the rest of it.

Only the servability question measures the machine that it runs on. Here its times are declared by name, so that whoever
compares two measurements leaves out these and nothing else.
"""

from __future__ import annotations

import re
from typing import Any

SERVABILITY_FILE = "servability.json"
CALLS_FILE = "servability-calls.parquet"

TIMED_METRICS = ("latency_p50", "latency_p95", "latency_p99", "startup_seconds", "memory_mb", "throughput")
"""Estimates of servability.json whose `value`, `low` and `high` are this machine's."""

TIMED_COLUMNS = ("milliseconds",)
"""Columns of servability-calls.parquet that hold a time."""

TIMED_SENTENCES = ("Half of the lists were ranked within ", "It was ready after ")
"""How those sentences begin whose figures are times, rates or memory."""

_LEFT_OUT = "left out"
_FIGURES = ("value", "low", "high")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def without_times(evidence: dict[str, Any]) -> dict[str, Any]:
    """The JSON value of servability.json with its times taken out; where a figure was missing, it stays missing.

    A missing figure says that the service did not start: that is no matter of time, and has to be seen.
    """
    estimates = [
        {
            **estimate,
            **{name: _LEFT_OUT for name in _FIGURES if estimate.get(name) is not None},
        }
        if estimate.get("metric") in TIMED_METRICS
        else estimate
        for estimate in evidence.get("estimates", ())
    ]
    sentences = [
        _NUMBER.sub("#", sentence) if sentence.startswith(TIMED_SENTENCES) else sentence
        for sentence in evidence.get("sentences", ())
    ]
    return {**evidence, "estimates": estimates, "sentences": sentences}
