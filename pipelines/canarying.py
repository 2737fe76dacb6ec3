"""A canary of packaged runs on this machine: what the rollout room needs to know of runs, put together.

It lies in the home as `canary/`: the controller's state, the target's, the policy that was frozen when it began.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from components.artifacts import documents
from components.artifacts.digests import digest_file
from components.errors import InputError, NotApprovedError
from components.rollout.contract import STABLE
from components.rollout.controller import ENDED, Controller, Watched, state_of
from components.rollout.expecting import Parity, expected_scores
from components.rollout.local import LocalTarget, Service, own_environment
from components.rollout.policy import RolloutPolicy, load_rollout_policy
from pipelines.releasing import packaged, verify_release
from pipelines.runs import Home, Run

if TYPE_CHECKING:
    from components.ranker.scoring import LoadedRanker

SCHEMA_VERSION = 1
FOLDER = "canary"
SETUP_FILE = "setup.json"
POLICY_FILE = "policy.yaml"


@dataclass(frozen=True, slots=True)
class Setup:
    """What a canary was begun with, for whoever goes on with it."""

    schema_version: int
    candidate: str
    """Runs, by name."""
    stable: str
    trusted: tuple[str, ...]
    events: str
    """Where what users do is written; empty: nobody says."""


@dataclass(frozen=True, slots=True)
class Assembled:
    """A canary that can be looked at."""

    controller: Controller
    target: LocalTarget
    policy: RolloutPolicy


def canary_folder(home: Home) -> Path:
    """Where a home's canary lies."""
    return home.root / FOLDER


def set_up(home: Home, setup: Setup, policy: Path) -> None:
    """Write down what a canary is begun with, and freeze its policy; one that is under way is left as it is.

    Raises:
        InputError: If the one under way was begun with something else.
    """
    folder = canary_folder(home)
    held = state_of(folder)
    if held is not None and held.phase not in ENDED:
        before = documents.load(Setup, folder / SETUP_FILE)
        if before != setup or digest_file(folder / POLICY_FILE) != digest_file(policy):
            raise InputError(
                f"canary: found one of {before.candidate} against {before.stable} under way, begun otherwise; needed none. "
                "See it: rankgate canary status. End it: rankgate canary abort"
            )
        return
    load_rollout_policy(policy)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(policy, folder / POLICY_FILE)
    documents.save(setup, folder / SETUP_FILE)


def start(home: Home, setup: Setup, policy: Path, *, port: int | None) -> None:
    """Begin a canary, or find the same one under way.

    Raises:
        InputError: If another one is under way, or a run of it is not packaged.
        NotApprovedError: If a run of it is not approved.
    """
    trusted = [Path(place) for place in setup.trusted]
    candidate, stable = (_approved(home.find(name), trusted) for name in (setup.candidate, setup.stable))
    folder = canary_folder(home)
    held = state_of(folder)
    if held is None or held.phase in ENDED:
        serving = LocalTarget(folder, {}, port=port).serving(STABLE)
        if serving not in (None, stable):
            raise InputError(
                f"canary: release {serving[:12]} is in service here; needed it as the stable one, found {stable[:12]}, for which "
                "everyone would have to wait. Name its run: --stable RUN. Or end everything first: rankgate canary stop"
            )
    set_up(home, setup, policy)
    assemble(home, port=port).controller.begin(candidate=candidate, stable=stable, at=moment())


def assemble(home: Home, *, port: int | None = None) -> Assembled:
    """Everything that the home's canary needs, from what it was begun with.

    An approval is not asked for: whoever goes on with a canary whose release has been revoked must be able to roll it back.

    Raises:
        InputError: If there is none, or a run of it is not packaged.
    """
    folder = canary_folder(home)
    if not (folder / SETUP_FILE).exists():
        raise InputError(
            "canary: found none in this home. Start one: rankgate canary start RUN --stable RUN --trust KEY"
        )
    setup = documents.load(Setup, folder / SETUP_FILE)
    trusted = [Path(place) for place in setup.trusted]
    runs = home.find(setup.candidate), home.find(setup.stable)
    services = {packaged(run).release: _service(home, run) for run in runs}
    target = LocalTarget(folder, services, port=port)
    policy = load_rollout_policy(folder / POLICY_FILE)
    controller = Controller(
        folder,
        target,
        policy,
        policy_sha256=digest_file(folder / POLICY_FILE),
        watched=Watched(
            expectations=expected_scores(runs[0].artifact("rankings")),
            events=Path(setup.events) if setup.events else None,
            gauges=Parity(lambda: _ranker(runs[0])),
            revoked=lambda: _revoked(runs[0], trusted),
        ),
    )
    return Assembled(controller, target, policy)


def _approved(run: Run, trusted: Sequence[Path]) -> str:
    digest = verify_release(run, trusted).digest
    if packaged(run).release != digest:
        raise InputError(
            f"run {run.name}: was packaged before it was approved as it is now. Package it: rankgate package {run.name}"
        )
    return digest


def _service(home: Home, run: Run) -> Service:
    words = ("-m", "bentoml", "serve", packaged(run).bento_tag, "--host", "127.0.0.1", "--port", "{port}")
    return Service(
        (sys.executable, *words, "--timeout-keep-alive", "75"),
        own_environment(BENTOML_HOME=str(home.root / "bentoml"), BENTOML_DO_NOT_TRACK="true"),
    )


def _ranker(run: Run) -> LoadedRanker:
    # A second of imports, for which only a canary that shows lists has a use.
    from components.ranker.scoring import LoadedRanker

    return LoadedRanker.open(run.artifact("ranker"), threads=1)


def _revoked(run: Run, trusted: Sequence[Path]) -> bool:
    """Whether the approval does not hold any more, whatever the reason: what cannot be verified is not served."""
    try:
        verify_release(run, trusted)
    except (NotApprovedError, InputError):
        return True
    return False


def moment() -> float:
    """Now, seconds since 1970."""
    return datetime.now(UTC).timestamp()


def end_everything(home: Home) -> None:
    """End Envoy and all arms, after the canary has ended.

    Raises:
        InputError: If it is under way.
    """
    folder = canary_folder(home)
    state = state_of(folder)
    if state is not None and state.phase not in ENDED:
        raise InputError(
            "canary: is under way; needed its end. Roll it back: rankgate canary abort, then rankgate canary watch"
        )
    LocalTarget(folder, {}).end()
