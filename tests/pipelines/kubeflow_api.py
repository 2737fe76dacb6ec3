"""A small stateful server that speaks the v2beta1 routes of Kubeflow Pipelines as its Python client uses them."""

from __future__ import annotations

import json
import re
import threading
import urllib.parse
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_NOW = "2026-01-01T00:00:00Z"


@dataclass
class KubeflowApi:
    """What the server holds, and what it was asked."""

    token: str = ""
    pipelines: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)
    schedules: list[dict[str, Any]] = field(default_factory=list)
    uploads: list[bytes] = field(default_factory=list)
    seen_tokens: set[str] = field(default_factory=set)
    status: int = 200
    largest_page: int = 100

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes, kind: str) -> tuple[int, Any]:
        """Status and JSON of one request."""
        route = path.removeprefix("/apis/v2beta1")
        if self.status != 200:
            return self.status, {"error": "told to"}
        if (method, route) == ("GET", "/healthz"):
            return 200, {"multi_user": False}
        if route.startswith("/experiments"):
            return self._experiment(method, query, body)
        if route.startswith(("/pipelines/upload", "/pipelines/upload_version")):
            return self._upload(route, query, body, kind)
        if match := re.fullmatch(r"/pipelines/([^/]+)/versions", route):
            return 200, {"pipeline_versions": self.versions.get(match.group(1), [])}
        if route == "/pipelines":
            return 200, {"pipelines": list(self.pipelines.values())}
        if (method, route) == ("POST", "/runs"):
            return self._start(self.runs, "run_id", body)
        if route.startswith("/recurringruns"):
            return self._schedule(method, route, query, body)
        return 404, {"error": f"no route {method} {route}"}

    def _experiment(self, method: str, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        if method == "POST":
            wanted = json.loads(body)
            made = {**wanted, "experiment_id": f"experiment-{len(self.experiments)}", "created_at": _NOW}
            self.experiments[wanted["display_name"]] = made
            return 200, made
        predicate = json.loads(query.get("filter", "{}")).get("predicates", [{}])[0]
        name = predicate.get("string_value") or predicate.get("stringValue")
        found = [held for title, held in self.experiments.items() if name in (None, title)]
        return 200, {"experiments": found, "total_size": len(found)} if found else {}

    def _upload(self, route: str, query: dict[str, str], body: bytes, kind: str) -> tuple[int, Any]:
        message = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
        (part,) = message.iter_parts()
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        self.uploads.append(content)
        if route.startswith("/pipelines/upload_version"):
            versions = self.versions.setdefault(query["pipelineid"], [])
            made = {
                "pipeline_id": query["pipelineid"],
                "pipeline_version_id": f"version-{len(self.uploads)}",
                "display_name": query["name"],
                "created_at": _NOW,
            }
            versions.append(made)
            return 200, made
        made = {"pipeline_id": f"pipeline-{len(self.pipelines)}", "display_name": query["name"], "created_at": _NOW}
        self.pipelines[made["pipeline_id"]] = made
        return 200, made

    def _schedule(self, method: str, route: str, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        if (method, route) == ("POST", "/recurringruns"):
            status, made = self._start(self.schedules, "recurring_run_id", body)
            made["status"] = "ENABLED" if made.get("mode") == "ENABLE" else "DISABLED"
            return status, made
        if (method, route) == ("GET", "/recurringruns"):
            # Pages as the real one does, so that a client which stops at the first is caught.
            begin, size = int(query.get("page_token") or 0), min(int(query.get("page_size") or 10), self.largest_page)
            page = {"recurringRuns": self.schedules[begin : begin + size], "total_size": len(self.schedules)}
            return 200, page | ({"next_page_token": str(begin + size)} if begin + size < len(self.schedules) else {})
        match = re.fullmatch(r"/recurringruns/([^/:]+)(?::(enable|disable))?", route)
        found = [one for one in self.schedules if match and one["recurring_run_id"] == match.group(1)]
        if not match or not found:
            return 404, {"error": f"no schedule {route}"}
        if method == "DELETE":
            self.schedules.remove(found[0])
        elif method == "POST" and match.group(2):
            found[0]["status"] = f"{match.group(2).upper()}D"
            return 200, {}
        return 200, found[0] if method == "GET" else {}

    def _start(self, held: list[dict[str, Any]], key: str, body: bytes) -> tuple[int, Any]:
        made = {**json.loads(body), key: f"{key}-{len(held)}", "created_at": _NOW}
        held.append(made)
        return 200, made


def serve(api: KubeflowApi) -> ThreadingHTTPServer:
    """Start serving on a free loopback port; the caller shuts it down."""

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            url = urllib.parse.urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            given = self.headers.get("Authorization", "")
            api.seen_tokens.add(given)
            if api.token and given != f"Bearer {api.token}":
                status, value = 401, {"error": "unauthenticated"}
            else:
                query = dict(urllib.parse.parse_qsl(url.query))
                kind = self.headers.get("Content-Type", "")
                status, value = api.answer(self.command, url.path, query, body, kind)
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _any  # noqa: N815  http.server's names

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
