"""Users, arms and a real Envoy: who is sent where, and what a failing arm costs."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from components.errors import FaultyInputError, InputError
from components.rollout.contract import BASELINE, CANARY, STABLE
from components.rollout.envoy import (
    ROUTES_FILE,
    WHOLE,
    Address,
    Front,
    Split,
    bootstrap,
    routes,
    write_routes,
)
from components.rollout.envoy_process import EnvoyProcess, start_envoy
from components.rollout.processes import end, is_running
from components.rollout.reading import drawn_counts

ONE, OTHER = "1" * 64, "2" * 64
TENTH = Split(ONE, {CANARY: 1_000, STABLE: 8_000, BASELINE: 1_000})
HALF = Split(ONE, {CANARY: 5_000, STABLE: 4_000, BASELINE: 1_000})
NONE = Split(ONE, {STABLE: WHOLE})
USERS = [f"u{number:05}" for number in range(600)]


def _front(folder: Path, ports: list[int]) -> Front:
    names = (CANARY, STABLE, BASELINE)
    arms = {name: (Address("127.0.0.1", port),) for name, port in zip(names, ports, strict=False)}
    return Front(Address("127.0.0.1", ports[3]), Address("127.0.0.1", ports[4]), arms, folder, try_seconds=1.0)


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def test_shares_of_a_split_are_of_known_arms_and_whole(tmp_path: Path) -> None:
    front = _front(tmp_path, [1, 2, 3, 4, 5])
    with pytest.raises(FaultyInputError, match=r"shares: found 9000; needed 10000") as told:
        routes(Split("", {CANARY: -1_000, STABLE: 9_000, "blue": 1_000}), front)
    assert "shares.canary" in str(told.value)
    assert "shares.blue" in str(told.value)
    assert "release: found nothing" in str(told.value)


def test_envoy_is_not_started_without_a_stable_arm(tmp_path: Path) -> None:
    front = _front(tmp_path, [1, 2, 3, 4, 5])
    with pytest.raises(FaultyInputError, match="stable among them"):
        bootstrap(replace(front, arms={CANARY: front.arms[CANARY], "blue": (), BASELINE: ()}))


def test_a_written_split_is_whole_and_names_itself(tmp_path: Path) -> None:
    write_routes(TENTH, _front(tmp_path, [1, 2, 3, 4, 5]), tmp_path)
    held = json.loads((tmp_path / ROUTES_FILE).read_text())
    assert held["version_info"] == f"{ONE[:16]}:canary=1000,stable=8000,baseline=1000"
    assert [path.name for path in tmp_path.iterdir()] == [ROUTES_FILE]


@dataclass
class Traffic:
    """Three arms behind Envoy."""

    envoy: EnvoyProcess
    arms: dict[str, subprocess.Popen[bytes]]

    def ask(self, user: str = "", *, headers: dict[str, str] | None = None) -> tuple[int, str, str, dict[str, str]]:
        """Status, the arm that was drawn, the arm that answered, the headers that it saw."""
        line = http.client.HTTPConnection("127.0.0.1", self.envoy.front.listen.port, timeout=10)
        line.request("POST", "/rank", b"{}", {**({"x-user-id": user} if user else {}), **(headers or {})})
        answer = line.getresponse()
        body = answer.read()
        line.close()
        said = json.loads(body) if body.startswith(b"{") else {"arm": body.decode()[:60], "headers": {}}
        return answer.status, answer.headers.get("x-rankgate-arm", ""), said["arm"], said["headers"]

    def drawn(self, users: list[str] = USERS) -> dict[str, str]:
        return {user: self.ask(user)[1] for user in users}

    def fault(self, arm: str, kind: str) -> None:
        place = self.envoy.front.arms[arm][0]
        line = http.client.HTTPConnection(place.host, place.port, timeout=5)
        line.request("GET", f"/fault/{kind}")
        with suppress(http.client.HTTPException, ConnectionError, TimeoutError):
            line.getresponse().read()
        line.close()


@pytest.fixture
def traffic(tmp_path: Path) -> Iterator[Traffic]:
    ports = _free_ports(5)
    front = _front(tmp_path / "envoy", ports)
    program = Path(__file__).with_name("arm.py")
    arms = {
        name: subprocess.Popen([sys.executable, str(program), name, str(places[0].port)])
        for name, places in front.arms.items()
    }
    for places in front.arms.values():
        _until_open(places[0].port)
    envoy = start_envoy(front, TENTH, tmp_path / "envoy")
    try:
        _until_healthy(envoy, len(arms))
        yield Traffic(envoy, arms)
    finally:
        envoy.end()
        for arm in arms.values():
            arm.kill()
            arm.wait()


def _until_open(port: int) -> None:
    ends = time.monotonic() + 10
    while time.monotonic() < ends:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise AssertionError(f"nobody listens on {port}")


def _until_healthy(envoy: EnvoyProcess, arms: int) -> None:
    ends = time.monotonic() + 10
    while time.monotonic() < ends:
        counts = envoy.counts()
        if sum(counts.get(f"cluster.{name}.membership_healthy", 0) for name in envoy.front.arms) == arms:
            return
        time.sleep(0.05)
    raise AssertionError("not all arms are healthy")


@pytest.mark.integration
def test_users_stick_to_their_arm_and_the_canary_keeps_whom_it_has(traffic: Traffic) -> None:
    tenth = traffic.drawn()
    assert traffic.drawn(USERS[:100]) == {user: tenth[user] for user in USERS[:100]}
    counted = Counter(tenth.values())
    # 600 draws at 10 %: four standard deviations.
    assert abs(counted[CANARY] - 60) < 30
    assert abs(counted[BASELINE] - 60) < 30
    traffic.envoy.split(HALF)
    half = traffic.drawn()
    moved = Counter((tenth[user], half[user]) for user in USERS if tenth[user] != half[user])
    assert set(moved) == {(STABLE, CANARY)}
    assert abs(Counter(half.values())[CANARY] - 300) < 50
    traffic.envoy.split(replace(HALF, release=OTHER))
    again = traffic.drawn()
    kept = sum(again[user] == CANARY for user in USERS if half[user] == CANARY) / Counter(half.values())[CANARY]
    assert 0.35 < kept < 0.65, "another release draws anew"


@pytest.mark.integration
def test_requests_without_a_user_are_drawn_by_their_own_id(traffic: Traffic) -> None:
    traffic.envoy.split(HALF)
    arms = {traffic.ask(headers={"x-request-id": "feed-17"})[1] for _ in range(20)}
    assert len(arms) == 1
    assert len({traffic.ask()[1] for _ in range(60)}) > 1
    seen = traffic.ask(headers={"x-request-id": "feed-17"})[3]
    assert seen["x-request-id"] == "feed-17"


@pytest.mark.integration
def test_what_a_caller_tells_envoy_to_do_is_not_done(traffic: Traffic) -> None:
    seen = traffic.ask("u1", headers={"x-envoy-max-retries": "50", "x-envoy-upstream-rq-timeout-ms": "1"})[3]
    assert not {"x-envoy-max-retries", "x-envoy-upstream-rq-timeout-ms", "x-envoy-internal"} & set(seen)


@pytest.mark.integration
@pytest.mark.parametrize("fault", ["reset", "503", "ill", "slow", "dead"])
def test_a_failing_canary_costs_nobody_an_answer(traffic: Traffic, fault: str) -> None:
    traffic.envoy.split(HALF)
    drawn = traffic.drawn(USERS[:60])
    if fault == "dead":
        traffic.arms[CANARY].kill()
    else:
        traffic.fault(CANARY, fault)
    answers = [traffic.ask(user) for user in USERS[:60]]
    assert {status for status, *_ in answers} == {200}
    assert [arm for _, arm, *_ in answers] == list(drawn.values()), "what was drawn stays what was drawn"
    answered = Counter(arm for _, _, arm, _ in answers)
    assert answered[STABLE] >= Counter(drawn.values())[CANARY] * 0.9
    assert answered[BASELINE] == Counter(drawn.values())[BASELINE]
    if fault != "ill":
        # Who was answered by the stable arm does not count for the canary; whom it still answered while ill does.
        of_canary = Counter(drawn.values())[CANARY]
        assert drawn_counts(traffic.envoy.counts(), CANARY) == (2 * of_canary, of_canary)


@pytest.mark.integration
def test_an_error_of_the_canary_is_told_as_it_is(traffic: Traffic) -> None:
    traffic.envoy.split(HALF)
    user = next(user for user, arm in traffic.drawn(USERS[:40]).items() if arm == CANARY)
    traffic.fault(CANARY, "500")
    assert traffic.ask(user)[:3] == (500, CANARY, CANARY)


@pytest.mark.integration
def test_nothing_is_lost_while_the_split_changes(traffic: Traffic) -> None:
    statuses: Counter[int] = Counter()
    for turn in range(12):
        traffic.envoy.split((TENTH, HALF, NONE)[turn % 3])
        for user in USERS[:15]:
            statuses[traffic.ask(user)[0]] += 1
    assert statuses == {200: 180}
    counts = [drawn_counts(traffic.envoy.counts(), arm) for arm in traffic.arms]
    assert [errors for _, errors in filter(None, counts)] == [0, 0, 0]
    assert sum(asked for asked, _ in filter(None, counts)) == 180


@pytest.mark.integration
def test_envoy_says_that_a_port_is_taken_and_ends_when_told(tmp_path: Path) -> None:
    ports = _free_ports(5)
    front = _front(tmp_path / "one", ports)
    envoy = start_envoy(front, NONE, tmp_path / "one")
    try:
        again = replace(front, admin=Address("127.0.0.1", _free_ports(1)[0]), folder=tmp_path / "two")
        with pytest.raises(InputError, match="taken"):
            start_envoy(again, NONE, tmp_path / "two")
    finally:
        envoy.end()
    assert not is_running(envoy.process)
    end(envoy.process, within=0.1)
