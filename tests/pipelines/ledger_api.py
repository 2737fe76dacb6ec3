"""An API server of one ledger, as far as `rankgate approve --cluster` goes: it merges, knows who asks, and says no when told to.

Its refusals are in the words of a real one, Kubernetes 1.36 with manifests/base/gate; whether those are still its words is asked
in tests/cluster.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

LEDGER = "/apis/rankgate.dev/v1/namespaces/ranking/releaseledgers/releases"


@dataclass
class LedgerApi:
    """What it holds, who asks, and what it refuses next."""

    username: str = "ana@shop.example"
    ledger: dict[str, Any] | None = field(default_factory=lambda: {"spec": {}})
    pods: list[dict[str, Any]] = field(default_factory=list)
    refusals: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    """Answers to the next patches of the ledger, in order."""
    managers: list[str] = field(default_factory=list)
    patches: int = 0

    def answer(self, method: str, path: str, query: dict[str, list[str]], content: str, body: Any) -> tuple[int, Any]:
        if path == "/apis/authentication.k8s.io/v1/selfsubjectreviews":
            return 201, {"status": {"userInfo": {"username": self.username}}}
        if path == "/api/v1/namespaces/ranking/pods":
            return 200, {"items": self.pods}
        if self.ledger is None:
            return 404, _status(404, "NotFound", 'releaseledgers.rankgate.dev "releases" not found')
        if method == "PATCH" and path == LEDGER:
            assert content == "application/apply-patch+yaml"
            self.patches += 1
            if self.refusals:
                return self.refusals.pop(0)
            self.managers += query["fieldManager"]
            merge(self.ledger["spec"], body["spec"])
        elif method == "PATCH" and path == f"{LEDGER}/status":
            assert content == "application/merge-patch+json"
            merge(self.ledger, body)
        elif not (method == "GET" and path == LEDGER):
            return 404, _status(404, "NotFound", f"{path} not found")
        return 200, self.ledger


def merge(held: dict[str, Any], told: dict[str, Any]) -> None:
    for key, value in told.items():
        if isinstance(value, dict):
            merge(held.setdefault(key, {}), value)
        else:
            held[key] = value


def _status(code: int, reason: str, message: str, causes: tuple[str, ...] = ()) -> dict[str, Any]:
    details = {"causes": [{"reason": "FieldValueInvalid", "message": cause} for cause in causes]}
    return {"kind": "Status", "message": message, "reason": reason, "code": code, "details": details}


def by_policy(words: str) -> tuple[int, dict[str, Any]]:
    told = f"ValidatingAdmissionPolicy 'ledger.rankgate.dev' with binding 'ledger.rankgate.dev' denied request: {words}"
    return 422, _status(422, "Invalid", f'releaseledgers.rankgate.dev "releases" is forbidden: {told}', (told,))


def by_rule(*words: str) -> tuple[int, dict[str, Any]]:
    causes = tuple(f"Invalid value: {word}" for word in words)
    return 422, _status(422, "Invalid", 'ReleaseLedger.rankgate.dev "releases" is invalid: [...]', causes)


def by_role() -> tuple[int, dict[str, Any]]:
    message = 'User "ana@shop.example" cannot patch resource "releaseledgers" in API group "rankgate.dev"'
    return 403, _status(403, "Forbidden", message)


def by_conflict() -> tuple[int, dict[str, Any]]:
    message = 'Operation cannot be fulfilled on releaseledgers.rankgate.dev "releases": the object has been modified'
    return 409, _status(409, "Conflict", message)


@contextmanager
def serving(api: LedgerApi, kubeconfig: Path) -> Iterator[None]:
    """Serve it on loopback, and write the kubeconfig that leads there."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            asked = urlsplit(self.path)
            code, told = api.answer(
                self.command, asked.path, parse_qs(asked.query), self.headers.get("Content-Type", ""), body
            )
            content = json.dumps(told).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PATCH = do_POST = _do  # noqa: N815  as the base class looks for them

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    write_kubeconfig(kubeconfig, f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def write_kubeconfig(path: Path, address: str) -> None:
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1", "kind": "Config", "current-context": "here", "users": [{"name": "ana", "user": {}}],
                "clusters": [{"name": "here", "cluster": {"server": address}}],
                "contexts": [{"name": "here", "context": {"cluster": "here", "user": "ana"}}],
            }
        )
    )  # fmt: skip
