"""A controller in a process of its own, so that it can be killed: `looking.py FOLDER POLICY` looks until the canary has ended."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from components.rollout.controller import ENDED, Controller, Watched, lease
from components.rollout.local import LocalTarget, Service, own_environment
from components.rollout.policy import load_rollout_policy
from components.serving.metrics import SCORES

OLD, NEW = "a" * 64, "b" * 64
EXPECTED = {
    "score": tuple({6: 0.067, 7: 0.334, 8: 0.440, 9: 0.159}.get(place, 0.0) for place in range(len(SCORES) + 1))
}


def main(folder: Path, policy: Path) -> None:
    program = str(Path(__file__).with_name("stand_in.py"))
    root = str(Path(__file__).parents[3])
    services = {
        release: Service((sys.executable, program, "{port}", release), own_environment(PYTHONPATH=root))
        for release in (OLD, NEW)
    }
    with lease(folder):
        target = LocalTarget(folder, services)
        watched = Watched(EXPECTED, gauges=lambda _: {"skewed_share": 0.0})
        controller = Controller(folder, target, load_rollout_policy(policy), policy_sha256="0", watched=watched)
        controller.begin(candidate=NEW, stable=OLD, at=time.time())
        while controller.look(time.time()).phase not in ENDED:
            time.sleep(0.5)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
