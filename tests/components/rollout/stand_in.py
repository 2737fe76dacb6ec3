"""A service that starts in a second, counts and logs as the real one: `stand_in.py PORT RELEASE`. After GET /fault it is ill."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client.core import CollectorRegistry

from components.serving.contract import Answer, Ask, Place
from components.serving.exposures import FOLDER_VARIABLE, ExposureLog
from components.serving.metrics import ServingMetrics, State, exposition


async def main(port: int, release: str) -> None:
    arm = os.environ["RANKGATE_ARM"]
    draining, failing = asyncio.Event(), False
    registry, log = CollectorRegistry(), ExposureLog(Path(os.environ[FOLDER_VARIABLE]))

    def look() -> State:
        return State(not draining.is_set(), draining.is_set(), release, "run", arm, time.time() - 60.0, None)

    metrics = ServingMetrics(registry, look=look)

    def rank(body: bytes, headers: dict[bytes, bytes]) -> bytes:
        began = time.perf_counter()
        asked = json.loads(body)
        ask = Ask(asked["request_id"], asked["user_id"], None, 3, surface="home")
        places = tuple(Place(f"i{rank}", random.gauss(0.3, 0.2), rank, 1.0, False, "given") for rank in (1, 2, 3))
        answer = Answer(ask.request_id, places, release, arm, (), {})
        metrics.observe(ask, answer, time.perf_counter() - began)
        log.offer(ask, answer, datetime.now(UTC))
        return json.dumps({"release": release, "arm": arm}).encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal failing
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            path = head.split(b" ", 2)[1].decode()
            headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
            body = await reader.readexactly(int(headers.get(b"content-length", b"0")))
            status, said = "200 OK", b""
            if path == "/fault" or failing:
                failing, status = True, "503 Fault"
            elif path == "/readyz":
                status = "503 Draining" if draining.is_set() else status
            elif path == "/metrics":
                said = b"".join(exposition(registry))
            else:
                said = rank(body, headers)
            # A connection is ended after an answer, never in the middle of one.
            end = b"connection: close\r\n" if draining.is_set() else b""
            writer.write(b"HTTP/1.1 %b\r\n%bcontent-length: %d\r\n\r\n%b" % (status.encode(), end, len(said), said))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, draining.set)
    await draining.wait()
    # Until Envoy has seen it, or reuses what it has open.
    await asyncio.sleep(1.5)
    server.close()
    log.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
