"""How long work tells that it is alive: a callable that takes a line. Rooms report; whoever started the work shows."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str], None]


def silent(message: str) -> None:
    """Shows nothing."""
