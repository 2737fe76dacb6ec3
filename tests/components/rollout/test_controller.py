"""A canary from its beginning to its end over virtual time, and the same end wherever its controller is killed."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from virtual_target import KilledError, VirtualTarget

from components.artifacts import documents
from components.errors import InputError
from components.rollout import controller as controlling
from components.rollout.contract import BASELINE, CANARY, STABLE
from components.rollout.controller import (
    ENDED,
    STATE_FILE,
    Canary,
    Controller,
    LeaseHeldError,
    Watched,
    lease,
    state_of,
    wish,
)
from components.rollout.policy import load_rollout_policy
from components.serving.exposure_files import Shown
from components.serving.metrics import SCORES

OLD, NEW, NEXT = "a" * 64, "b" * 64, "c" * 64
LOOK = 5.0
# Scores lie around 0.3 with a spread of 0.2; see `virtual_target`.
EXPECTED = {
    "score": tuple({6: 0.067, 7: 0.334, 8: 0.440, 9: 0.159}.get(place, 0.0) for place in range(len(SCORES) + 1))
}


def _fine(_: Sequence[Shown]) -> Mapping[str, float]:
    return {"skewed_share": 0.0}


def _policy(folder: Path, **changes: Any) -> Path:
    default = Path(__file__).parents[3] / "policies" / "rollout" / "default.yaml"
    said = yaml.safe_load(default.read_text())
    said |= {
        "name": "quick",
        "steps": [
            {"share": 0.2, "dwell_seconds": 10.0, "least_requests": 20},
            {"share": 0.4, "dwell_seconds": 10.0, "least_requests": 50},
        ],
        "patience_seconds": 20,
    }
    said |= changes
    for guardrail in said["guardrails"]:
        if guardrail["kind"] == "plain":
            guardrail |= {"for_seconds": 0.0}
        else:
            guardrail |= {"ruled_out_from": "never"}
    place = folder / "policy.yaml"
    place.write_text(yaml.safe_dump(said))
    return place


class Rig:
    """A folder, a world, and one controller after another."""

    def __init__(self, folder: Path, **policy: Any) -> None:
        self.folder = folder / "canary"
        self.folder.mkdir()
        self.target = VirtualTarget()
        self.policy = load_rollout_policy(_policy(folder, **policy))
        self.events = folder / "events"
        self.events.mkdir()
        self.revoked = False
        self.gauges: Callable[[Sequence[Shown]], Mapping[str, float]] = _fine
        self.controller = self.take_up()

    def take_up(self) -> Controller:
        self.target.taken_up()
        watched = Watched(EXPECTED, self.events, self._gauges, lambda: self.revoked)
        self.controller = Controller(
            self.folder, self.target, self.policy, policy_sha256="0", watched=watched, clock=lambda: self.target.now
        )
        return self.controller

    def _gauges(self, lists: Sequence[Shown]) -> Mapping[str, float]:
        return self.gauges(lists)

    def begin(self, candidate: str = NEW, stable: str = OLD) -> Canary:
        return self.controller.begin(candidate=candidate, stable=stable, at=self.target.now)

    def look(self, *, rate: int = 40) -> Canary:
        self.target.pass_time(LOOK, rate=rate)
        with (self.events / "clicks.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([("request_id", "event"), *self.target.clicks])
        return self.controller.look(self.target.now)

    def until(self, *phases: str, looks: int = 60, rate: int = 40) -> Canary:
        for _ in range(looks):
            state = self.look(rate=rate)
            if state.phase in phases:
                return state
        raise AssertionError(f"is {state.phase} after {looks} looks: {[one.what for one in state.happenings]}")

    def runs(self) -> dict[str, str]:
        return {name: arm.release for name, arm in self.target.arms.items()}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def _told(state: Canary) -> str:
    return "\n".join(one.what for one in state.happenings)


def test_a_harmless_canary_goes_step_by_step_and_is_promoted(rig: Rig) -> None:
    rig.begin()
    state = rig.until(*ENDED)
    assert state.phase == "promoted", _told(state)
    assert rig.runs() == {STABLE: NEW}
    assert rig.target.shares == {STABLE: 10_000}
    assert state.shares == {STABLE: 1.0}
    assert "step 1 of 2, 20 % of users" in _told(state)
    assert "step 2 of 2, 40 % of users" in _told(state)
    assert rig.target.lost == 0
    assert rig.look() == state, "what has ended stays as it is"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("errors", "errors: "),
        ("fallbacks", "fallbacks: "),
        ("empty", "empty: "),
        ("slow", "latency-p95: "),
        ("scores", "scores: score lies"),
        ("harmful", "clicks: "),
        ("stale", "features-age: "),
        ("dead", "could not be read"),
        ("unlogged", "Users are not split as set"),
    ],
)
def test_each_guardrail_rolls_back(tmp_path: Path, fault: str, reason: str) -> None:
    # Long enough for every test to come to its end.
    rig = Rig(tmp_path, steps=[{"share": 0.4, "dwell_seconds": 900.0, "least_requests": 0}], patience_seconds=60)
    if fault == "stale":
        rig.target.faults[NEW] = fault
    rig.begin()
    rig.until("watching")
    rig.target.faults[NEW] = fault
    state = rig.until(*ENDED, looks=150)
    assert state.phase == "rolled_back"
    assert reason in state.reason
    assert rig.runs() == {STABLE: OLD}
    assert rig.target.shares == {STABLE: 10_000}
    assert rig.target.lost == 0


def test_one_feature_served_otherwise_rolls_back(rig: Rig) -> None:
    rig.gauges = lambda _: {"skewed_share": 0.0001}
    rig.begin()
    assert "skewed_share is 0.0001" in rig.until(*ENDED).reason


def test_an_arm_that_cannot_be_read_holds_and_is_rolled_back_when_patience_ends(rig: Rig) -> None:
    rig.begin()
    rig.until("watching")
    rig.target.faults[CANARY] = "unread"
    assert rig.look().phase == "watching"
    state = rig.until(*ENDED)
    assert (state.phase, "could not be read" in state.reason) == ("rolled_back", True)


def test_no_traffic_is_no_reason_to_roll_back(rig: Rig) -> None:
    rig.begin()
    for _ in range(20):
        rig.target.now += LOOK
        state = rig.look(rate=0)
    assert state.phase == "watching"
    assert state.verdict is not None
    assert state.verdict.action == "hold"
    assert "no traffic so far" in " ".join(state.verdict.waits_for)


def test_users_who_are_not_split_as_set_roll_back(tmp_path: Path) -> None:
    rig = Rig(tmp_path, steps=[{"share": 0.4, "dwell_seconds": 900.0, "least_requests": 0}])
    rig.target.crooked = True
    rig.begin()
    state = rig.until(*ENDED)
    assert state.phase == "rolled_back"
    assert "not split as set" in state.reason


def test_a_revoked_release_is_rolled_back_and_never_promoted(rig: Rig) -> None:
    rig.begin()
    rig.until("watching")
    rig.revoked = True
    wish(rig.folder, "promote", who="ada", reason="in haste")
    state = rig.until(*ENDED)
    assert state.phase == "rolled_back"
    assert "revoked" in state.reason
    assert rig.runs() == {STABLE: OLD}


def test_a_release_revoked_while_it_is_promoted_gives_the_stable_arm_back_first(rig: Rig) -> None:
    rig.begin()
    rig.until("watching")
    wish(rig.folder, "promote", who="ada", reason="")
    assert rig.look().phase == "promoting"
    assert rig.runs() == {STABLE: NEW, CANARY: NEW}
    rig.revoked = True
    assert rig.look().phase == "rolling_back"
    assert rig.target.shares == {CANARY: 10_000}, "until the stable arm is back, nobody is sent there"
    assert rig.until(*ENDED).phase == "rolled_back"
    assert rig.runs() == {STABLE: OLD}
    assert rig.target.lost == 0


def test_a_revoked_release_is_not_started(rig: Rig) -> None:
    rig.revoked = True
    rig.begin()
    assert rig.until(*ENDED).phase == "rolled_back"
    assert CANARY not in rig.target.shares


def test_an_arm_that_never_gets_ready_ends_the_canary(rig: Rig) -> None:
    rig.target.faults[NEW] = "dead"
    rig.begin()
    state = rig.until(*ENDED, looks=140)
    assert state.phase == "rolled_back"
    assert "The canary arm was not ready within 10 min." in state.reason
    assert rig.runs() == {STABLE: OLD}


def test_paused_it_stays_and_is_still_rolled_back_for_harm(rig: Rig) -> None:
    rig.begin()
    rig.until("watching")
    wish(rig.folder, "pause", who="ada", reason="lunch")
    for _ in range(15):
        state = rig.look()
    assert state.paused
    assert state.memory is not None
    assert state.memory.step == 0
    assert "Paused by ada (lunch)." in _told(state)
    assert "Would go on, but is paused" in _told(state)
    rig.target.faults[NEW] = "errors"
    assert rig.until(*ENDED).phase == "rolled_back"


def test_resumed_it_goes_on(rig: Rig) -> None:
    rig.begin()
    wish(rig.folder, "pause", who="ada", reason="")
    for _ in range(15):
        assert rig.look().phase in ("starting", "watching")
    wish(rig.folder, "resume", who="ada", reason="")
    assert rig.until(*ENDED).phase == "promoted"


def test_every_wish_is_done_in_order_and_what_is_too_late_is_told(rig: Rig) -> None:
    rig.begin()
    rig.until("watching")
    for wanted in ("pause", "abort", "promote"):
        wish(rig.folder, wanted, who="ada", reason="")  # type: ignore[arg-type]
    state = rig.look()
    assert state.phase == "rolled_back"
    assert _told(state).index("Paused by ada") < _told(state).index("Aborted by ada")
    assert "ada wanted to promote: not done, for it is rolling back." in _told(state)
    with pytest.raises(InputError, match="found none under way"):
        wish(rig.folder, "pause", who="ada", reason="")


def test_wishes_of_one_canary_are_not_those_of_the_next(rig: Rig) -> None:
    rig.begin()
    wish(rig.folder, "abort", who="ada", reason="")
    assert rig.until(*ENDED).phase == "rolled_back"
    rig.begin(candidate=NEXT)
    assert rig.until(*ENDED).phase == "promoted"


def test_the_next_canary_begins_from_what_the_last_one_left(rig: Rig) -> None:
    rig.begin()
    rig.until(*ENDED)
    stable = rig.target.arms[STABLE]
    with pytest.raises(InputError, match="in service already"):
        rig.begin(candidate=NEW, stable=NEW)
    rig.begin(candidate=NEXT, stable=NEW)
    rig.until("watching")
    assert rig.target.arms[STABLE] is stable, "the running stable arm is left alone"
    assert rig.until(*ENDED).phase == "promoted"
    assert rig.runs() == {STABLE: NEXT}


def test_another_canary_is_not_begun_over_one_under_way(rig: Rig) -> None:
    held = rig.begin()
    assert rig.begin() == held
    with pytest.raises(InputError, match="under way; needed none"):
        rig.begin(candidate=NEXT)
    rig.policy = load_rollout_policy(_policy(rig.folder))
    other = Controller(rig.folder, rig.target, rig.policy, policy_sha256="1", watched=Watched(events=rig.events))
    with pytest.raises(InputError, match="rules are not changed under way"):
        other.begin(candidate=NEW, stable=OLD, at=rig.target.now)


def test_outcomes_need_somebody_who_tells_them(rig: Rig) -> None:
    blind = Controller(rig.folder, rig.target, rig.policy, policy_sha256="0", watched=Watched())
    with pytest.raises(InputError, match="guardrails clicks ask what users did"):
        blind.begin(candidate=NEW, stable=OLD, at=0.0)
    assert state_of(rig.folder) is None


def test_a_baseline_arm_takes_as_many_as_the_canary_and_ends_with_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path, compare_with=BASELINE)
    rig.begin()
    rig.until("watching")
    assert rig.runs() == {STABLE: OLD, CANARY: NEW, BASELINE: OLD}
    assert rig.target.shares == {CANARY: 2_000, STABLE: 6_000, BASELINE: 2_000}
    state = rig.until(*ENDED)
    assert state.phase == "promoted", _told(state)
    assert rig.runs() == {STABLE: NEW}


def test_a_canary_that_crashes_again_and_again_is_rolled_back_for_its_errors(tmp_path: Path) -> None:
    rig = Rig(tmp_path, steps=[{"share": 0.4, "dwell_seconds": 900.0, "least_requests": 0}], patience_seconds=60)
    rig.begin()
    rig.until("watching")
    for turn in range(200):
        # Never gone for as long as patience lasts.
        rig.target.faults[NEW] = "dead" if turn % 4 == 0 else ""
        state = rig.look()
        if state.phase in ENDED:
            break
    assert state.phase == "rolled_back"
    assert "errors: " in state.reason
    assert "The canary arm is not ready." in _told(state)
    assert "The canary arm is ready again." in _told(state)


def test_one_at_a_time_looks(tmp_path: Path) -> None:
    with lease(tmp_path), pytest.raises(LeaseHeldError, match="watches it; one does at a time"), lease(tmp_path):
        pass
    with lease(tmp_path):
        pass


def test_a_look_needs_a_canary(rig: Rig) -> None:
    with pytest.raises(InputError, match="there is none"):
        rig.controller.look(0.0)


@pytest.mark.parametrize("end", ["promoted", "rolled_back", "aborted"])
def test_wherever_its_controller_is_killed_the_end_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """Killed before and after every single thing it does, and around every time it writes; taken up by another one."""
    saved = documents.save
    place = {"left": -1, "killed": 0}

    def step(_: str) -> None:
        if place["left"] == 0:
            place["killed"] += 1
            place["left"] = -1
            raise KilledError
        place["left"] -= 1

    def save(document: Any, path: Path) -> None:
        step("save")
        saved(document, path)
        step("saved")

    monkeypatch.setattr(controlling.documents, "save", save)
    ends = set()
    # Each end by every third, and the three together by all: until the decision they are the same.
    every = 1 if os.environ.get("RANKGATE_EVERY_KILL") else 3
    first = ("promoted", "rolled_back", "aborted").index(end) % every
    for number in range(first, 2_000, every):
        folder = tmp_path / str(number)
        folder.mkdir()
        rig = Rig(
            folder,
            steps=[
                {"share": 0.4, "dwell_seconds": 10.0},
                {"share": 0.5, "dwell_seconds": 10.0},
            ],
        )
        rig.target.on_call = step
        if end == "rolled_back":
            rig.gauges = lambda _: {"skewed_share": 0.5}
        place |= {"left": number, "killed": 0}
        for _ in range(80):
            try:
                if not (rig.folder / STATE_FILE).exists():
                    rig.begin()
                state = rig.look(rate=8)
                if end == "aborted" and state.phase == "watching" and state.wishes_done == 0:
                    wish(rig.folder, "abort", who="ada", reason="")
            except KilledError:
                rig.take_up()
                continue
            if state.phase in ENDED:
                break
        assert rig.target.lost == 0, f"killed at {number}"
        ends.add((state.phase, tuple(rig.runs().items()), tuple(rig.target.shares.items())))
        if not place["killed"]:
            break
    assert number > 50
    wanted = ("promoted", ((STABLE, NEW),)) if end == "promoted" else ("rolled_back", ((STABLE, OLD),))
    assert ends == {(*wanted, ((STABLE, 10_000),))}
