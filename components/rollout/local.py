"""Arms as processes of this machine behind Envoy on loopback: a canary without a cluster.

    <folder>/local.json          who runs: process, port, release of each arm, Envoy
    <folder>/envoy/              its configuration, the watched routes, its log
    <folder>/<arm>/exposures/    what the arm has shown
    <folder>/<arm>/log           what it said

Processes outlive the controller. They are known by id and moment of birth, so another one adopts them.
"""

from __future__ import annotations

import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from components.artifacts import documents
from components.errors import InputError
from components.rollout.contract import BASELINE, CANARY, STABLE
from components.rollout.envoy import Address, Front, Split
from components.rollout.envoy_process import EnvoyProcess, start_envoy
from components.rollout.processes import Started, end, is_running, kill, marked, start, tell_to_end
from components.serving.exposure_files import Shown
from components.serving.exposure_tail import Tail
from components.serving.exposures import FOLDER_VARIABLE

SCHEMA_VERSION = 1
STATE_FILE = "local.json"
HOST = "127.0.0.1"

_ARM_VARIABLE = "RANKGATE_ARM"
_ARMS = (CANARY, STABLE, BASELINE)
_ENDS_WITHIN = 30.0
_RESTARTS_AFTER = 2.0
_MOST_BYTES = 8 << 20
"""Of an answer that is read."""
_PLACE_VARIABLE = "RANKGATE_CANARY_PLACE"
"""Marks the processes of an arm, and Envoy, by where they lie: a controller that was killed between starting one and writing it
down has left one that nobody knows."""
_PASSED_ON = ("RANKGATE_SURFACES",)
"""Of rankgate's own variables those that an arm is served with as well."""


@dataclass(frozen=True, slots=True)
class Service:
    """How a release is served: a program that listens on `{port}`, wherever that stands in its words."""

    words: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Process:
    """A started arm."""

    release: str
    process: Started
    started_at: float
    """Seconds since 1970."""
    told_to_end: bool = False


@dataclass(frozen=True, slots=True)
class LocalState:
    """What the folder remembers."""

    schema_version: int
    ports: dict[str, int]
    """Of `front`, `admin` and each arm; the same for as long as the folder lives."""
    arms: dict[str, Process] = field(default_factory=dict)
    envoy: Started | None = None


class LocalTarget:
    """A `Target` of processes."""

    def __init__(self, folder: Path, services: Mapping[str, Service], *, port: int | None = None) -> None:
        """Take up a folder, or begin it.

        Args:
            folder: Where state, logs and exposures lie.
            services: By release: all that may be asked for. What runs already needs none.
            port: Where Envoy listens, 0 for a free one; where it listened before without it.

        Raises:
            InputError: If the folder is another program's, the port is taken, or Envoy runs and listens on another one.
        """
        # Processes are known by it, wherever the next controller is started.
        self._folder, self._services = (folder := folder.resolve()), services
        self._tails = {arm: Tail(self.exposures(arm)) for arm in _ARMS}
        place = folder / STATE_FILE
        held = documents.load(LocalState, place) if place.exists() else None
        if held is not None and _anything_runs(held):
            if port and port != held.ports["front"]:
                raise InputError(
                    f"port {port}: users are answered on {held.ports['front']} here; needed that one, or none. "
                    "To change it, end everything first: rankgate canary stop"
                )
            self._state = held
        else:
            # Ports of what has ended may be somebody else's by now.
            folder.mkdir(parents=True, exist_ok=True)
            front = port if port is not None else held.ports["front"] if held else 0
            self._state = LocalState(SCHEMA_VERSION, _free_ports(("front", "admin", *_ARMS), front=front))
            self._save()
        arms = {arm: (Address(HOST, self._state.ports[arm]),) for arm in _ARMS}
        self._front = Front(
            Address(HOST, self._state.ports["front"]),
            Address(HOST, self._state.ports["admin"]),
            arms,
            folder / "envoy",
        )

    @property
    def url(self) -> str:
        """Where users are answered."""
        return f"http://{HOST}:{self._state.ports['front']}"

    def exposures(self, arm: str) -> Path:
        """Where an arm logs what it shows."""
        return self._folder / arm / "exposures"

    def process(self, arm: str) -> Started | None:
        """The leader of an arm's processes, if there is one."""
        held = self._state.arms.get(arm)
        return None if held is None else held.process

    def serving(self, arm: str) -> str | None:
        """The release that an arm runs with; None where it does not run."""
        held = self._state.arms.get(arm)
        return held.release if held is not None and is_running(held.process) else None

    def serve(self, arm: str, release: str) -> bool:
        """As `Target` has it."""
        held = self._state.arms.get(arm)
        if held is not None and (held.release != release or held.told_to_end) and not self.stop(arm):
            return False
        held = self._state.arms.get(arm)
        if held is not None and is_running(held.process):
            return self._ready(arm)
        if held is None or time.time() - held.started_at > _RESTARTS_AFTER:
            self._start(arm, release)
        return False

    def stop(self, arm: str) -> bool:
        """As `Target` has it."""
        held = self._state.arms.get(arm)
        if held is not None and is_running(held.process):
            if not held.told_to_end:
                tell_to_end(held.process)
                self._keep(arm, replace(held, told_to_end=True, started_at=time.time()))
            elif time.time() - held.started_at > _ENDS_WITHIN:
                kill(held.process)
            if is_running(held.process):
                return False
        # Its leader is gone, or nobody knows of it; what it started may not be.
        self._kill_left(arm)
        if held is not None:
            self._keep(arm, None)
        return True

    def split(self, split: Split) -> None:
        """As `Target` has it; Envoy is started where it does not run."""
        folder = self._folder / "envoy"
        held = self._state.envoy
        if held is None or not is_running(held):
            # One that another controller was killed over is taken up: users may be sent through it already.
            held = next(iter(marked(_PLACE_VARIABLE, str(folder))), None)
            if held is None:
                held = start_envoy(self._front, split, folder, environment={_PLACE_VARIABLE: str(folder)}).process
            self._state = replace(self._state, envoy=held)
            self._save()
        EnvoyProcess(held, self._front, folder).split(split)

    def metrics(self, arm: str) -> Mapping[str, str]:
        """As `Target` has it."""
        text = _get(self._state.ports[arm], "/metrics")
        return {} if text is None else {"": text}

    def traffic(self) -> Mapping[str, float]:
        """As `Target` has it."""
        held = self._state.envoy
        if held is None or not is_running(held):
            return {}
        return EnvoyProcess(held, self._front, self._folder / "envoy").counts()

    def shown(self, arm: str) -> Iterable[Shown]:
        """As `Target` has it."""
        return self._tails[arm].new()

    def end(self) -> None:
        """End Envoy, then every arm."""
        if self._state.envoy is not None:
            end(self._state.envoy, within=_ENDS_WITHIN)
        for held in self._state.arms.values():
            tell_to_end(held.process)
        for held in self._state.arms.values():
            end(held.process, within=_ENDS_WITHIN)
        for place in ("envoy", *_ARMS):
            self._kill_left(place)
        self._state = replace(self._state, arms={}, envoy=None)
        self._save()

    def _start(self, arm: str, release: str) -> None:
        service = self._services.get(release)
        if service is None:
            known = ", ".join(digest[:12] for digest in self._services)
            raise InputError(f"release {release[:12]}: is none of those that can be served here ({known}).")
        port = self._state.ports[arm]
        environment = {
            **service.environment,
            _ARM_VARIABLE: arm,
            FOLDER_VARIABLE: str(self.exposures(arm)),
            _PLACE_VARIABLE: str(self._folder / arm),
        }
        # Whoever is left over holds the port.
        self._kill_left(arm)
        words = [word.replace("{port}", str(port)) for word in service.words]
        try:
            process = start(words, environment=environment, log=self._folder / arm / "log")
        except OSError as error:
            raise InputError(f"release {release[:12]}: {words[0]} cannot be started ({error.strerror}).") from error
        self._keep(arm, Process(release, process, time.time()))

    def _kill_left(self, place: str) -> None:
        for left in marked(_PLACE_VARIABLE, str(self._folder / place)):
            kill(left)

    def _ready(self, arm: str) -> bool:
        if _get(self._state.ports[arm], "/readyz") is None:
            return False
        # Until Envoy has seen it too, its users would be sent elsewhere.
        traffic = self.traffic()
        return not traffic or traffic.get(f"cluster.{arm}.membership_healthy", 0.0) >= 1.0

    def _keep(self, arm: str, process: Process | None) -> None:
        arms = {name: held for name, held in self._state.arms.items() if name != arm}
        self._state = replace(self._state, arms=arms if process is None else {**arms, arm: process})
        self._save()

    def _save(self) -> None:
        documents.save(self._state, self._folder / STATE_FILE)


def _get(port: int, path: str) -> str | None:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=2.0) as answer:
            content: bytes = answer.read(_MOST_BYTES + 1)
            return content.decode() if len(content) <= _MOST_BYTES else None
    except (urllib.error.URLError, OSError, ValueError):
        return None


def _free_ports(names: Sequence[str], *, front: int) -> dict[str, int]:
    """A free port for each name, all held until all are found."""
    held: dict[str, socket.socket] = {}
    try:
        for name in names:
            wanted = front if name == "front" else 0
            try:
                held[name] = socket.create_server((HOST, wanted))
            except OSError as error:
                raise InputError(f"port {wanted}: is taken ({error.strerror}); choose another one.") from error
        return {name: int(one.getsockname()[1]) for name, one in held.items()}
    finally:
        for one in held.values():
            with suppress(OSError):
                one.close()


def own_environment(**more: str) -> dict[str, str]:
    """This process's environment without what is rankgate's, but for the surfaces that are counted apart, and more.

    An arm is not served from publications or a shared store of the shell that started it.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RANKGATE_") or name in _PASSED_ON}
    return kept | more


def _anything_runs(state: LocalState) -> bool:
    return any(is_running(held.process) for held in state.arms.values()) or (
        state.envoy is not None and is_running(state.envoy)
    )
