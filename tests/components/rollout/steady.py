"""Steady traffic through Envoy from a thread pool: what was answered, and how fast."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

Body = Callable[[str, str], bytes]
"""(user, request id) -> the body of a request."""


def plain(user: str, request: str) -> bytes:
    """For a service that asks no more."""
    return json.dumps({"user_id": user, "request_id": request}).encode()


@dataclass
class Steady:
    """So many requests a second until it is ended, in `lines` connections; each request is sent when it is due."""

    port: int
    rate: float
    body: Body = plain
    lines: int = 8
    users: int = 2_000
    answered: Counter[int | str] = field(default_factory=Counter)
    """By status; what was no answer by its error. Requests are never sent twice."""
    seconds: list[float] = field(default_factory=list)
    """Of each answer, from when it was sent."""
    late: int = 0
    """Sent more than a tenth of a second after they were due: the client or its machine did not keep up."""
    _ended: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Steady:
        began = time.monotonic()
        self._threads = [threading.Thread(target=self._send, args=(line, began)) for line in range(self.lines)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _send(self, line: int, began: float) -> None:
        draws = random.Random(line)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        number = 0
        while not self._ended.is_set():
            due = began + (number * self.lines + line) / self.rate
            time.sleep(max(0.0, due - time.monotonic()))
            self.late += time.monotonic() - due > 0.1
            user, request = f"u{draws.randrange(self.users)}", f"{began:.3f}-{line}-{number}"
            headers = {"content-type": "application/json", "x-user-id": user, "x-request-id": request}
            number += 1
            sent = time.perf_counter()
            try:
                connection.request("POST", "/rank", self.body(user, request), headers)
                answer = connection.getresponse()
                answer.read()
                self.answered[answer.status] += 1
                self.seconds.append(time.perf_counter() - sent)
            except (OSError, http.client.HTTPException) as error:
                self.answered[type(error).__name__] += 1
                connection.close()
        connection.close()
