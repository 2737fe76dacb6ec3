"""A process that offers lists to an exposure log as fast as it is told to, until it is killed: the other side of a test.

It writes one number a line to standard output after each offer: what it was asked to log by then.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from components.serving.contract import Answer, Ask, Place
from components.serving.exposures import ExposureLog, Limits


def main(folder: Path, rate: float, places: int) -> None:
    log = ExposureLog(folder, limits=Limits(rotate_bytes=1 << 18, total_bytes=1 << 24))
    shown = tuple(Place(f"i{rank:05d}", 0.5, rank, 1.0, False, "given") for rank in range(1, places + 1))
    began = time.monotonic()
    for number in range(10**9):
        ask = Ask(f"{os.getpid()}-{number}", f"u{number}", None, places, {"device": "phone"}, surface="home")
        answer = Answer(ask.request_id, shown, "9f2c" * 16, "stable", (), {})
        if not log.offer(ask, answer, datetime.now(UTC)):
            raise SystemExit("the queue is full")
        os.write(1, b"%d\n" % number)
        time.sleep(max(0.0, began + (number + 1) / rate - time.monotonic()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
