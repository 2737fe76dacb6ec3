"""What two canaries cost users: steady traffic through start, every step, abort, promotion, and `kill -9` of arm and controller.

    task canary:lost -- --home HOME --candidate RUN --stable RUN --trust KEY

Both runs are packaged; no canary may be under way in the home. Everything is done by `rankgate canary`, as a person would. The
last lines are how long one request takes through Envoy and asked of the arm directly, in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from steady import Steady

from components.rollout.contract import CANARY, STABLE
from components.rollout.controller import state_of
from components.rollout.local import LocalTarget

_ROOT = Path(__file__).parents[3]


def main() -> int:
    options = _options()
    folder = options.home / "canary"
    policy = Path(tempfile.mkdtemp()) / "policy.yaml"
    policy.write_text(yaml.safe_dump(_policy(options.seconds)))
    draws, users, items = random.Random(0), *_world(options.home / "runs" / options.stable / "artifacts" / "dataset")

    def body(user: str, request: str) -> bytes:
        who = users[int(user[1:]) % len(users)]
        asked = {"user_id": who, "candidates": draws.sample(items, 50), "k": 10, "surface": "home"}
        return json.dumps({**asked, "request_id": request}).encode()

    start = (
        "start",
        options.candidate,
        "--stable",
        options.stable,
        "--trust",
        str(options.trust),
        "--policy",
        str(policy),
    )
    controller = _rankgate(options.home, *start, "--port", "0")
    _until(folder, "watching")
    port = int(LocalTarget(folder, {}).url.rpartition(":")[2])
    with Steady(port, options.rate, body, lines=16) as traffic:
        told = _Told(traffic)
        time.sleep(5)
        told("watched")
        _rankgate(options.home, "abort").wait()
        _until(folder, "rolled_back")
        controller.wait()
        told("aborted")
        controller = _rankgate(options.home, *start)
        _until(folder, "watching")
        told("started again")
        _kill_arm(folder, CANARY)
        time.sleep(10)
        told("kill -9 of the canary")
        controller.kill()
        controller.wait()
        time.sleep(3)
        controller = _rankgate(options.home, "watch")
        _until(folder, "watching", step=1)
        told("kill -9 of the controller, then the next step")
        _until(folder, "promoted", "rolled_back")
        told(f"ended: {state_of(folder).phase}")  # type: ignore[union-attr]
        time.sleep(5)
        told("afterwards")
    controller.wait()
    for when in state_of(folder).happenings:  # type: ignore[union-attr]
        print(time.strftime("%H:%M:%S", time.localtime(when.at)), when.what)
    _added(folder, body)
    _rankgate(options.home, "stop").wait()
    return 0 if set(traffic.answered) == {200} else 3


class _Told:
    """What was answered since the last line."""

    def __init__(self, traffic: Steady) -> None:
        self._traffic, self._before, self._seconds, self._late = traffic, dict(traffic.answered), 0, 0
        self._at = time.monotonic()

    def __call__(self, what: str) -> None:
        now, at = dict(self._traffic.answered), time.monotonic()
        new = {status: count - self._before.get(status, 0) for status, count in now.items()}
        seconds = sorted(self._traffic.seconds[self._seconds :])
        late, self._late = self._traffic.late - self._late, self._traffic.late
        p50, p99 = (1e3 * seconds[int(share * len(seconds))] for share in (0.5, 0.99))
        rate = sum(new.values()) / (at - self._at)
        print(
            f"{what:<46} {at - self._at:5.0f} s {rate:5.0f}/s  {new}  p50 {p50:.1f} ms, p99 {p99:.0f} ms, most "
            f"{1e3 * seconds[-1]:.0f} ms, {late} sent late",
            flush=True,
        )
        self._before, self._at, self._seconds = now, at, len(self._traffic.seconds)


def _added(folder: Path, body: object) -> None:
    ports = json.loads((folder / "local.json").read_text())["ports"]
    lines = {name: Steady(ports[name], 100.0, body, lines=1) for name in ("front", STABLE)}  # type: ignore[arg-type]
    for _ in range(20):
        for line in lines.values():
            line._ended.clear()
            with line:
                time.sleep(1.0)
    middle = {name: 1e3 * statistics.median(line.seconds) for name, line in lines.items()}
    count = len(lines["front"].seconds)
    print(f"p50 of {count} each: through Envoy {middle['front']:.2f} ms, of the arm {middle[STABLE]:.2f} ms")


def _policy(seconds: float) -> dict[str, object]:
    said: dict[str, object] = yaml.safe_load((_ROOT / "policies" / "rollout" / "default.yaml").read_text())
    kept = [
        one | ({"at_most": 1e9} if one["id"] == "features-age" else {"ruled_out_from": "never"})
        for one in said["guardrails"]  # type: ignore[attr-defined]
        # Random lists are no held-out requests, nobody clicks, and a machine that all arms share is no judge of latency.
        if one["kind"] in ("rate", "plain") and one["id"] != "features-parity"
    ]
    steps = [{"share": share, "dwell_seconds": seconds, "least_requests": 50} for share in (0.1, 0.5)]
    return said | {"evaluate_seconds": 2.0, "patience_seconds": 60, "steps": steps, "guardrails": kept}


def _world(dataset: Path) -> tuple[list[str], list[str]]:
    items = pq.read_table(dataset / "items.parquet", columns=["item_id"])["item_id"]
    users = pq.read_table(dataset / "users.parquet", columns=["user_id"])["user_id"]
    return pc.drop_null(users).to_pylist(), pc.drop_null(items).to_pylist()


def _rankgate(home: Path, *words: str) -> subprocess.Popen[bytes]:
    program = [sys.executable, "-m", "pipelines.cli.main", "canary", *words]
    return subprocess.Popen(program, cwd=_ROOT, env={**os.environ, "RANKGATE_HOME": str(home)}, stderr=sys.stdout)


def _until(folder: Path, *phases: str, step: int = 0, seconds: float = 300.0) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        state = state_of(folder)
        if state and state.phase in phases and (not step or (state.memory and state.memory.step >= step)):
            return
        time.sleep(0.1)
    raise SystemExit(f"not {phases} within {seconds:g} s")


def _kill_arm(folder: Path, arm: str) -> None:
    held = LocalTarget(folder, {}).process(arm)
    if held is not None:
        # The service and what it started, as the machine would.
        os.killpg(held.pid, signal.SIGKILL)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--home", "--trust"):
        parser.add_argument(name, type=Path, required=True)
    for name in ("--candidate", "--stable"):
        parser.add_argument(name, required=True)
    parser.add_argument("--rate", type=float, default=200.0, help="Requests a second.")
    parser.add_argument("--seconds", type=float, default=60.0, help="Of each step.")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
