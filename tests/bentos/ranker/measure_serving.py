"""Measures the service beside its peers: latency, throughput, processor time, memory, start-up; `task bench:serving`.

    python tests/bentos/ranker/measure_serving.py [--rounds 5] [--seconds 2] [--page docs] [--json FILE]

One ranker (300 trees, 40 features of the generated shop, caps by category and provider), the same requests for all. rankgate
serves a release: it is told a user and 100 ids, looks features up, scores, re-ranks, answers and logs the exposure; every peer
is handed those rows as JSON and answers 100 scores. Before anything is timed, all must give the scores that XGBoost gives here.

Each server is one process with one worker and one XGBoost thread, on one core; the client is on another. First each is
started and measured alone, then all run and are measured in turn, round by round, in an order that moves on. Medians of
rounds are told, and ratios to the bare server of the same round. MLServer needs an environment of its own, which is made
once in the work folder; without it the page says so.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from serving_client import BrokenAnswerError, Sample, ask, closed, paced, reading, request
from serving_page import write_page
from serving_processes import Server, Watch, cores, free_port, pinned, started
from serving_release import DIGEST, released
from serving_world import MISSING, REPOSITORY, Asked, Size, ranker_of, requests_of, work_folder

from components.ranker.batch import score_users
from components.ranker.scoring import LoadedRanker
from components.ranker.storage import MODEL

PEERS = Path(__file__).with_name("peers")
CONNECTIONS = (1, 2, 4, 8)
STALL = 0.020
"""Seconds above which an answer is called a stall."""
SIMPLE = b'"fallback":true'
"""In an answer of rankgate's that is not what was asked for, such as a list that the model had no time to order."""
CANDIDATES = 100
REQUESTS = 300
_COLLECTIONS = re.compile(r'^python_gc_collections_total\{generation="(\d)"\} (\S+)$', re.MULTILINE)
MLSERVER = "1.7.1"


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked of a server, and how its answer is read."""

    name: str
    server: str
    contents: Callable[[Asked], bytes]
    """A whole request."""
    scores: Callable[[Any, Asked], list[float]] | None
    """Of the candidates in the order asked, out of the answer; None where the server chooses the candidates."""


def _given(answer: Any, asked: Asked) -> list[float]:
    if answer["release"] != DIGEST:
        raise SystemExit(f"another service answers: release {answer['release']}.")
    by_item = {place["item_id"]: place["score"] for place in answer["items"]}
    return [by_item[item] for item in asked.item_ids]


TARGETS = (
    Target("bare", "bare", lambda a: request("/score", a.features), lambda got, _: got["scores"]),
    Target("rankgate", "rankgate", lambda a: request("/rank", a.rank), _given),
    Target("rankgate, 20 places", "rankgate", lambda a: request("/rank", a.few), None),
    Target("rankgate /recommend", "rankgate", lambda a: request("/recommend", a.recommend), None),
    Target("FastAPI", "FastAPI", lambda a: request("/score", a.features), lambda got, _: got["scores"]),
    Target("BentoML typed", "BentoML typed", lambda a: request("/score", a.features), lambda got, _: got),
    Target(
        "MLServer",
        "MLServer",
        lambda a: request("/v2/models/scorer/infer", a.tensor),
        lambda got, _: got["outputs"][0]["data"],
    ),
)
TRIVIAL = "trivial"
SERVERS = (TRIVIAL, "bare", "rankgate", "FastAPI", "BentoML typed", "MLServer")


@contextmanager
def server(name: str, ranker: Path, asked: Asked, logs: Path, *, mlserver: Path | None) -> Iterator[Server]:
    """One of the servers, ready."""
    port = free_port()
    model = str(ranker / MODEL)
    environment = {**os.environ, "PEER_MODEL": model, "PEER_MISSING": str(MISSING)}
    words: dict[str, list[str]] = {
        TRIVIAL: [sys.executable, str(PEERS / "trivial.py"), str(port)],
        "bare": [sys.executable, str(PEERS / "bare.py"), str(port), model, str(MISSING)],
        "FastAPI": [sys.executable, str(PEERS / "with_fastapi.py"), str(port), model, str(MISSING)],
        "BentoML typed": [sys.executable, "-m", "bentoml", "serve", "with_bentoml:Scorer", "--port", str(port)],
        "MLServer": [str(mlserver), "start", "mlserver_model"],
    }
    if name == "BentoML typed":
        environment |= {"BENTOML_DO_NOT_TRACK": "true", "BENTOML_HOME": str(logs)}
    if name == "MLServer":
        ports = {"HTTP_PORT": port, "GRPC_PORT": free_port(), "METRICS_PORT": free_port(), "PARALLEL_WORKERS": 0}
        environment |= {f"MLSERVER_{key}": str(value) for key, value in ports.items()}
        environment |= {"MLSERVER_DEBUG": "false", "PYTHONPATH": str(PEERS / "mlserver_model")}
    if name == "rankgate":
        with released(ranker) as service:
            yield service
        return
    target = next((one for one in TARGETS if one.server == name), TARGETS[0])
    with started(
        words[name],
        port=port,
        ready=target.contents(asked),
        cwd=PEERS,
        environment=environment,
        log=logs / f"{name.replace(' ', '-')}.log",
    ) as found:
        yield found


def check_answers(target: Target, port: int, asked: Sequence[Asked], expected: Sequence[np.ndarray]) -> None:
    """Every server gives the scores that XGBoost gives.

    Raises:
        SystemExit: If one does not.
    """
    for one, scores in zip(asked, expected, strict=True):
        status, body = ask(port, target.contents(one))
        if status != 200:
            raise SystemExit(f"{target.name} answers {status}: {body[:400]!r}")
        if target.scores is None:
            continue
        found = np.array(target.scores(json.loads(body), one))
        if not np.allclose(found, scores, rtol=1e-5, atol=1e-6):
            raise SystemExit(f"{target.name} gives other scores: {found[:3]}; needed {scores[:3]}.")


def measure(target: Target, held: Server, contents: Sequence[bytes], seconds: float) -> dict[str, Any]:
    """One target in one round."""
    closed(held.port, contents, connections=2, seconds=min(0.3, seconds))
    collected = collections_of(held.port)
    with Watch(held.busiest(), above=STALL) as watch:
        alone = closed(held.port, contents, connections=1, seconds=seconds, watch=watch, mark=SIMPLE)
    collected = {name: count - collected[name] for name, count in collections_of(held.port).items()}
    found: dict[str, Any] = {
        "latency_ms": percentiles(alone),
        "answers": len(alone.seconds),
        "errors": alone.errors,
        "fallbacks": alone.marked,
        "stalls": {
            "count": watch.stalls,
            "seconds": watch.seconds,
            "ran": watch.ran,
            "waited": watch.waited,
            "slept": watch.slept,
            "collected": collected,
        },
        "connections": {"1": {"rate": alone.rate, "client_busy": alone.processor / alone.wall, **percentiles(alone)}},
    }
    for connections in CONNECTIONS[1:]:
        before = held.times()
        sample = closed(held.port, contents, connections=connections, seconds=seconds / 2, mark=SIMPLE)
        spent = held.times()
        found["errors"] += sample.errors
        found["fallbacks"] += sample.marked
        found["connections"][str(connections)] = {
            "rate": sample.rate,
            "client_busy": sample.processor / sample.wall,
            "processor_ms": (spent.processor - before.processor) / max(1, len(sample.seconds)) * 1e3,
            "waited_share": (spent.waiting - before.waiting) / sample.wall,
            **percentiles(sample),
        }
    saturation = max(part["rate"] for part in found["connections"].values())
    steady = paced(held.port, contents, rate=saturation / 2, seconds=seconds, mark=SIMPLE)
    found["errors"] += steady.errors
    found["fallbacks"] += steady.marked
    found["paced"] = {"rate": steady.rate, "errors": steady.errors, **percentiles(steady)}
    found |= {
        "saturation": saturation,
        "processor_ms": found["connections"]["8"]["processor_ms"],
        "waited_share": max(part.get("waited_share", 0.0) for part in found["connections"].values()),
        "resident": held.resident(),
    }
    return found


def collections_of(port: int) -> dict[str, int]:
    """Garbage collections so far, by generation; nothing where a server does not tell them."""
    try:
        status, body = ask(port, reading("/metrics"))
    except (OSError, BrokenAnswerError):
        return {}
    return {} if status != 200 else {age: int(float(count)) for age, count in _COLLECTIONS.findall(body.decode())}


def percentiles(sample: Sample) -> dict[str, float]:
    """Milliseconds."""
    if not sample.seconds:
        return {"p50": float("nan"), "p95": float("nan"), "p99": float("nan"), "most": float("nan")}
    taken = np.array(sample.seconds) * 1e3
    p50, p95, p99 = np.percentile(taken, [50, 95, 99]).tolist()
    return {"p50": p50, "p95": p95, "p99": p99, "most": float(taken.max())}


def floors(
    opened: LoadedRanker, asked: Sequence[Asked], seconds: float, where: set[int]
) -> dict[str, dict[str, float]]:
    """What the model, and the ranker, take in this process, without HTTP."""
    booster = opened._booster

    def ranked(one: Asked) -> object:
        return opened.rank(one.user_id, one.item_ids, k=CANDIDATES, context={"device": one.device})

    work: dict[str, Callable[[Asked], object]] = {
        "inplace_predict": lambda one: booster.scores(one.matrix),
        "LoadedRanker.rank": ranked,
    }
    found = {}
    with pinned(where):
        for name, call in work.items():
            sample, began = Sample(), time.perf_counter()
            while (then := time.perf_counter()) < began + seconds:
                call(asked[len(sample.seconds) % len(asked)])
                sample.seconds.append(time.perf_counter() - then)
            found[name] = percentiles(sample)
    return found


def batched(ranker: Path, work: Path) -> dict[str, float]:
    """All users' lists, on one thread, with all reading, checking and writing."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        began, spent = time.perf_counter(), time.process_time()
        batch = score_users(ranker, out=Path(folder) / "lists", k=50, threads=1)
        taken, spent = time.perf_counter() - began, time.process_time() - spent
    return {"pairs": batch.pairs, "users": batch.plan.users, "seconds": taken, "processor": spent}


def mlserver_at(work: Path, *, install: bool) -> tuple[Path | None, str]:
    """MLServer's program in an environment of its own, and what to say of it."""
    place = work / f"mlserver-{MLSERVER}"
    program = place / "bin" / "mlserver"
    if not program.exists() and install:
        print(f"installing MLServer {MLSERVER} into {place}", flush=True)
        scientific = [f"xgboost=={version('xgboost')}", f"scipy=={version('scipy')}", f"numpy=={version('numpy')}"]
        pip = [str(place / "bin" / "pip"), "install", "--quiet"]
        steps = [
            [sys.executable, "-m", "venv", str(place)],
            [*pip, f"mlserver=={MLSERVER}"],
            [*pip, "--no-deps", *scientific],
        ]
        for step in steps:
            done = subprocess.run(step, capture_output=True, text=True, check=False)
            if done.returncode:
                last = done.stderr.strip().splitlines()[-1:] or [""]
                return None, f"not measured: it did not install ({last[0][:200]})"
    if not program.exists():
        return None, "not measured: it is not installed, and was not to be"
    return program, MLSERVER


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement at one connection; others half")
    parser.add_argument("--page", type=Path, help="folder to write serving-speed.md and its chart into")
    parser.add_argument("--json", type=Path, help="file to write every figure of every round into")
    parser.add_argument("--only", action="append", choices=SERVERS[1:], help="servers beside bare and rankgate; all")
    parser.add_argument("--no-mlserver", action="store_true", help="do not install MLServer")
    given = parser.parse_args()

    work = work_folder()
    size = Size()
    ranker = ranker_of(size, work=work, progress=lambda told: print(told, flush=True))
    asked = requests_of(ranker, count=REQUESTS, candidates=CANDIDATES, seed=1)
    mlserver, said = mlserver_at(work, install=not given.no_mlserver)
    names = [
        name
        for name in SERVERS
        if (given.only is None or name in {TRIVIAL, "bare", "rankgate", *given.only})
        and (name != "MLServer" or mlserver)
    ]
    result = run(ranker, asked, names, mlserver=mlserver, rounds=given.rounds, seconds=given.seconds, work=work)
    result |= {
        "command": f"measure_serving.py --rounds {given.rounds} --seconds {given.seconds:g}",
        "made": datetime.now(UTC).date().isoformat(),
        "code": _code(),
        "machine": {"processor": _processor(), "cores": os.cpu_count(), "python": platform.python_version()},
        "versions": {
            **{name: version(name) for name in ("xgboost", "bentoml", "uvicorn", "fastapi", "orjson", "uvloop")},
            "mlserver": said,
        },
        "size": {"trees": size.trees, "features": size.features, "candidates": CANDIDATES, "scale": size.scale},
    }
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(write_page(result, given.page))


def run(
    ranker: Path,
    asked: Sequence[Asked],
    names: Sequence[str],
    *,
    mlserver: Path | None,
    rounds: int,
    seconds: float,
    work: Path,
) -> dict[str, Any]:
    """Every figure of every round."""
    opened = LoadedRanker.open(ranker, threads=1)
    expected = [opened._booster.scores(one.matrix) for one in asked[:5]]
    targets = [target for target in TARGETS if target.server in names]
    contents = {target.name: [target.contents(one) for one in asked] for target in targets}
    serving, asking = cores()
    logs = work / "logs"
    logs.mkdir(exist_ok=True)
    alone: dict[str, dict[str, Any]] = {}
    starts: dict[str, list[float]] = {name: [] for name in names}
    in_turn: list[dict[str, dict[str, Any]]] = []
    floor: list[dict[str, dict[str, float]]] = []
    ceiling: list[dict[str, float]] = []
    load = os.getloadavg()[0]
    gc.collect()
    gc.freeze()
    gc.disable()  # a pause of the client would be told as the server's

    def begin(stack: ExitStack, name: str) -> Server:
        with pinned(serving):
            held = stack.enter_context(server(name, ranker, asked[0], logs, mlserver=mlserver))
        starts[name].append(held.seconds_to_ready)
        return held

    for name in names:
        print(f"alone: {name}", flush=True)
        with ExitStack() as stack:
            held = begin(stack, name)
            with pinned(asking):
                for target in (one for one in targets if one.server == name):
                    check_answers(target, held.port, asked[:5], expected)
                    alone[target.name] = measure(target, held, contents[target.name], seconds)
    with ExitStack() as stack:
        print("starting all", flush=True)
        held_by = {name: begin(stack, name) for name in names}
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", flush=True)
            turn = targets[number % len(targets) :] + targets[: number % len(targets)]
            with pinned(asking):
                in_turn.append({t.name: measure(t, held_by[t.server], contents[t.name], seconds) for t in turn})
                sample = closed(held_by[TRIVIAL].port, contents["bare"], connections=8, seconds=seconds / 2)
                one = closed(held_by[TRIVIAL].port, contents["bare"], connections=1, seconds=seconds / 2)
            busy = sample.processor / sample.wall
            ceiling.append({"rate": sample.rate, "client_busy": busy, "p50": percentiles(one)["p50"]})
            floor.append(floors(opened, asked, seconds / 2, serving))
    gc.unfreeze()
    gc.enable()
    print("all users' lists", flush=True)
    with pinned(serving):
        batch = batched(ranker, work)
    return {
        "alone": alone,
        "rounds": in_turn,
        "floors": floor,
        "client": ceiling,
        "batch": batch,
        "starts": starts,
        "seconds": seconds,
        "load_before": load,
        "pinned": bool(serving),
    }


def _code() -> str:
    """The commit, and whether what serves differs from it."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=REPOSITORY, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--", "components", "bentos")
    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + (", changed" if changed else "")


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
