"""Start the desk on loopback and stop it with Ctrl-C."""

from __future__ import annotations

import socket
from collections.abc import Callable

from components.errors import InputError
from pipelines.review.desk import Desk
from pipelines.review.security import LOOPBACK, Secrets

_PATIENCE_SECONDS = 2


def serve_desk(desk: Desk, *, port: int, started: Callable[[str], None]) -> None:
    """Serve until a person stops it.

    Args:
        desk: Who sits at it.
        port: Port on 127.0.0.1; 0 takes a free one.
        started: Called with the address to open, once it can be opened.

    Raises:
        InputError: If the port is taken.
    """
    import uvicorn

    from pipelines.review.application import review_application

    listening = _listen(port)
    with listening:
        port = listening.getsockname()[1]
        secrets_ = Secrets.new()
        config = uvicorn.Config(
            review_application(desk, secrets_, port=port),
            http="h11",
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=_PATIENCE_SECONDS,
        )
        # The socket listens: what is opened before the server turns to it waits a moment.
        started(f"http://{LOOPBACK}:{port}/{secrets_.folder}/?token={secrets_.token}")
        uvicorn.Server(config).run(sockets=[listening])


def _listen(port: int) -> socket.socket:
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held.bind((LOOPBACK, port))
        held.listen(64)
    except OSError as error:
        held.close()
        raise InputError(
            f"--port {port}: cannot be listened on ({error.strerror}); needed a free one. --port 0 finds one."
        ) from error
    return held
