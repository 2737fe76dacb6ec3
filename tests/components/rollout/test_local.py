"""Canaries of real processes behind a real Envoy, under steady traffic: nobody loses an answer, whoever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from looking import NEW, OLD
from steady import Steady

from components.artifacts import documents
from components.errors import InputError
from components.rollout.contract import CANARY, STABLE
from components.rollout.controller import STATE_FILE, Canary, state_of, wish
from components.rollout.local import LocalState, LocalTarget, own_environment
from components.rollout.processes import is_running, marked

RATE = 60.0


class Run:
    """A canary whose controller is a process."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.policy = folder / "canary", folder / "policy.yaml"
        default = Path(__file__).parents[3] / "policies" / "rollout" / "default.yaml"
        said = yaml.safe_load(default.read_text()) | {
            "evaluate_seconds": 1.0,
            "steps": [{"share": share, "dwell_seconds": 3.0, "least_requests": 10} for share in (0.2, 0.5)],
            "patience_seconds": 8,
        }
        # Times of half a millisecond say more of the machine than of either arm.
        kinds = ("rate", "distribution", "plain")
        said["guardrails"] = [
            one | ({} if one["kind"] == "plain" else {"ruled_out_from": "never"})
            for one in said["guardrails"]
            if one["kind"] in kinds
        ]
        self.policy.write_text(yaml.safe_dump(said))
        self.controller = self.look_on()

    def look_on(self) -> subprocess.Popen[bytes]:
        program = Path(__file__).with_name("looking.py")
        environment = own_environment(PYTHONPATH=str(Path(__file__).parents[3]))
        words = [sys.executable, str(program), str(self.folder), str(self.policy)]
        self.controller = subprocess.Popen(words, env=environment)
        return self.controller

    def until(self, *phases: str, seconds: float = 30.0, step: int = 0) -> Canary:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            state = state_of(self.folder) if (self.folder / STATE_FILE).exists() else None
            if state and state.phase in phases and (step == 0 or (state.memory and state.memory.step >= step)):
                return state
            time.sleep(0.05)
        raise AssertionError(f"not {phases} within {seconds} s: {state and [one.what for one in state.happenings]}")

    def target(self) -> LocalTarget:
        return LocalTarget(self.folder, {})

    def address(self, arm: str) -> str:
        """Where an arm listens itself."""
        return f"http://127.0.0.1:{documents.load(LocalState, self.folder / 'local.json').ports[arm]}"

    def kill_arm(self, arm: str) -> None:
        leader = self.target().process(arm)
        assert leader is not None
        os.kill(leader.pid, signal.SIGKILL)

    def kill_controller(self) -> None:
        self.controller.kill()
        self.controller.wait()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path)
    try:
        run.until("watching")
        yield run
    finally:
        run.kill_controller()
        run.target().end()
        for place in ("envoy", CANARY, STABLE):
            assert marked("RANKGATE_CANARY_PLACE", str(run.folder / place)) == []


def _port(run: Run) -> int:
    return int(run.target().url.rpartition(":")[2])


@pytest.mark.integration
def test_nobody_loses_an_answer_until_promotion_though_canary_and_controller_are_killed(run: Run) -> None:
    with Steady(_port(run), RATE) as traffic:
        time.sleep(1.0)
        run.kill_arm(CANARY)
        time.sleep(1.0)
        run.kill_controller()
        run.look_on()
        run.until("watching", step=1)
        run.kill_controller()
        run.look_on()
        state = run.until("promoted", seconds=40.0)
        time.sleep(0.5)
    assert set(traffic.answered) == {200}, traffic.answered
    assert traffic.answered[200] > 300
    assert "The canary arm is ready again." in "\n".join(one.what for one in state.happenings)
    held = run.target()
    stable = held.process(STABLE)
    assert stable is not None
    assert is_running(stable)
    assert (held.serving(STABLE), held.serving(CANARY)) == (NEW, None)
    with pytest.raises(InputError, match="users are answered on"):
        LocalTarget(run.folder, {}, port=_port(run) + 1)
    assert run.controller.wait(10) == 0


@pytest.mark.integration
def test_nobody_loses_an_answer_when_it_is_aborted_over_a_dead_controller(run: Run) -> None:
    with Steady(_port(run), RATE) as traffic:
        time.sleep(0.5)
        run.kill_controller()
        wish(run.folder, "abort", who="ada", reason="enough")
        time.sleep(0.5)
        run.look_on()
        state = run.until("rolled_back")
        time.sleep(0.5)
    assert set(traffic.answered) == {200}, traffic.answered
    assert state.reason == "Aborted by ada (enough)."
    held = run.target()
    assert held.process(CANARY) is None
    assert state.shares == {STABLE: 1.0}


@pytest.mark.integration
def test_a_canary_that_stays_ill_is_rolled_back_and_costs_nobody_an_answer(run: Run) -> None:
    with Steady(_port(run), RATE) as traffic:
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(f"{run.address(CANARY)}/fault", timeout=5)
        state = run.until("rolled_back", "promoted", seconds=40.0)
        time.sleep(0.5)
    assert (state.phase, state.candidate, state.stable) == ("rolled_back", NEW, OLD)
    assert "could not be read" in state.reason
    assert set(traffic.answered) == {200}, traffic.answered
