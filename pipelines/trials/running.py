"""Runs trials: worlds x seeds in a few processes, each seed's records kept as soon as it is done."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import shutil
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from components.artifacts import documents
from components.artifacts.digests import digest_json
from components.errors import InputError
from components.verdict.policy import Policy, load_policy
from pipelines.request import library_versions
from pipelines.trials.coverage import DRAWN, POPULATION, QUESTIONS, Key, draw, held_in, truth
from pipelines.trials.harms import BY_NAME, CLEAN
from pipelines.trials.judging import Judging, honest_lists
from pipelines.trials.ledger import Ledger
from pipelines.trials.measuring import measure
from pipelines.trials.records import Held, Record
from pipelines.trials.scaling import Ends, ends_of, mean_ends
from pipelines.trials.worlds import World, base_of, reference

SCALING_SEEDS = 8
"""Bases whose averages turn margins into shares."""
RECORDS, COVERAGE = "records.jsonl", "coverage.jsonl"

_PROJECT = Path(__file__).resolve().parents[2]
_ROOMS = ("errors.py", "artifacts", "statistics", "events", "dataset", "ranker", "evidence", "verdict")
_SHOWN_BY = ("page.py", "tallies.py", "pictures.py")
"""Modules that show records, and change none."""
_QUIET = {"DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True)
class Scaling:
    """What was measured to turn margins into shares, and by which code."""

    code: str
    ends: tuple[Ends, ...]


@dataclass(frozen=True, slots=True)
class Seeds:
    """How often a world is run."""

    world: World
    clean: int
    """Seeds that are judged clean."""
    planted: int
    """The first of them, in which harms are planted too."""

    def due(self, harms: Sequence[str]) -> list[tuple[int, str, str]]:
        """Seed, harm and strength of every trial."""
        pairs = planned(self.world, harms)
        return [
            (seed, *pair) for seed in range(self.clean) for pair in pairs if seed < self.planted or pair[0] == CLEAN
        ]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run."""

    worlds: tuple[Seeds, ...]
    harms: tuple[str, ...]
    """Names; clean runs are always judged."""
    jobs: int
    work: Path
    data: Path | None
    draws: int = 0
    """Draws of each size by which the coverage of intervals is counted."""
    keep: bool = False
    """Whether bases stay on the disk once they are judged."""


Watch = Callable[[str, int, int], None]
"""Told what is under way, how many seeds are done, and of how many."""


def run_trials(plan: Plan, *, watch: Watch) -> list[Record]:
    """Run what of a plan is not recorded yet; returns every record of this code and plan, in a fixed order.

    Raises:
        InputError: If a world's data is not there.
        KeyboardInterrupt: If a person stopped it; seeds that were done are kept.
    """
    ledger, code = Ledger(plan.work / RECORDS, Record), judging_code()
    with _alone(plan.work), _processes(plan.jobs) as pool:
        made_by = pool.submit(_reference, plan.work).result()
        done = {(held.world, held.seed, held.harm, held.strength) for held in ledger.read(code)}
        for seeds in plan.worlds:
            world, due = seeds.world, defaultdict[int, list[tuple[str, str]]](list)
            for seed, harm, strength in seeds.due(plan.harms):
                if (world.label, seed, harm, strength) not in done:
                    due[seed].append((harm, strength))
            if not due:
                continue
            ends = _ends(pool, plan, seeds, made_by, code, watch) if seeds.planted else {}
            tasks = [
                pool.submit(judge_seed, world, seed, tuple(pairs), ends, plan, made_by, code)
                for seed, pairs in due.items()
            ]
            for count, task in enumerate(as_completed(tasks), start=1):
                ledger.add(task.result())
                watch(world.label, seeds.clean - len(due) + count, seeds.clean)
    wanted = {(seeds.world.label, *one) for seeds in plan.worlds for one in seeds.due(plan.harms)}
    records = {(held.world, held.seed, held.harm, held.strength): held for held in ledger.read(code)}
    return [records[key] for key in sorted(wanted)]


def run_coverage(plan: Plan, *, watch: Watch) -> list[Held]:
    """Count how many intervals hold what they should, draw by draw; returns the records of this code and plan.

    Raises:
        KeyboardInterrupt: If a person stopped it; draws that were done are kept.
    """
    ledger, code = Ledger(plan.work / COVERAGE, Held), judging_code()
    done = {(held.draw, held.users) for held in ledger.read(code)}
    wanted = [(number, users) for number in range(plan.draws) for users in DRAWN]
    due = [pair for pair in wanted if pair not in done]
    if due:
        with _alone(plan.work), _processes(plan.jobs) as pool:
            watch("coverage: making the population", 0, len(wanted))
            made_by = pool.submit(_reference, plan.work).result()
            base, known = pool.submit(_population, plan, made_by).result()
            tasks = [pool.submit(_drawn, plan.work, base, known, number, users, code) for number, users in due]
            for count, task in enumerate(as_completed(tasks), start=1):
                ledger.add(task.result())
                watch("coverage", len(wanted) - len(due) + count, len(wanted))
        if not plan.keep:
            shutil.rmtree(base, ignore_errors=True)
    numbers = set(wanted)
    return sorted(
        (held for held in ledger.read(code) if (held.draw, held.users) in numbers),
        key=lambda held: (held.users, held.kind, held.draw),
    )


def _population(plan: Plan, made_by: str) -> tuple[Path, dict[Key, float]]:
    base = base_of(POPULATION, 0, made_by=made_by, work=plan.work)
    with _scratch(plan.work) as folder:
        return base, truth(base, out=folder, seed=0)


def _drawn(work: Path, base: Path, known: dict[Key, float], number: int, users: int, code: str) -> list[Held]:
    with _scratch(work) as folder:
        run, evidence = folder / "run", folder / "evidence"
        run.mkdir()
        evidence.mkdir()
        found = measure(draw(base, users=users, seed=number, folder=run), QUESTIONS, out=evidence, seed=number)
        return held_in(found, known, code=code, number=number, users=users)


def _reference(work: Path) -> str:
    with _scratch(work) as folder:
        return reference(folder)


def planned(world: World, harms: Sequence[str]) -> list[tuple[str, str]]:
    """Harm and strength of every trial of a seed in this world."""
    pairs = [(CLEAN, "")]
    for name in harms:
        harm = BY_NAME[name]
        if world.name in harm.targets and not (harm.costly and not world.trains_again):
            pairs += [(name, strength.label) for strength in harm.strengths]
    return pairs


def judge_seed(
    world: World,
    seed: int,
    pairs: tuple[tuple[str, str], ...],
    ends: Mapping[str, Ends],
    plan: Plan,
    made_by: str,
    code: str,
) -> list[Record]:
    """Make the base of a seed and judge it: clean, and with each harm at each strength of `pairs`."""
    base = base_of(world, seed, made_by=made_by, work=plan.work, data=plan.data)
    try:
        with _scratch(plan.work) as folder:
            judging = Judging(code, world, seed, base, policy_of(world), folder)
            found = [judging.clean()] if (CLEAN, "") in pairs else []
            for name, label in pairs:
                if name != CLEAN:
                    harm = BY_NAME[name]
                    strength = next(held for held in harm.strengths if held.label == label)
                    found.append(judging.planted(harm, strength, ends.get(name)))
            return found
    finally:
        if not plan.keep:
            shutil.rmtree(base, ignore_errors=True)


def _ends(
    pool: ProcessPoolExecutor, plan: Plan, seeds: Seeds, made_by: str, code: str, watch: Watch
) -> dict[str, Ends]:
    """The ends of every scaled harm of a world, measured once and kept."""
    world = seeds.world
    place = plan.work / f"scaling-{world.name}-{world.size}.json"
    names = tuple(
        name for name in plan.harms if BY_NAME[name].scaled_by is not None and world.name in BY_NAME[name].targets
    )
    if place.exists():
        known = documents.load(Scaling, place)
        if known.code == code and set(names) <= {held.harm for held in known.ends}:
            return {held.harm: held for held in known.ends}
    watch(f"{world.label}: turning margins into shares", 0, seeds.clean)
    tasks = [
        pool.submit(_seed_ends, world, seed, names, plan, made_by) for seed in range(min(SCALING_SEEDS, seeds.clean))
    ]
    found = [task.result() for task in tasks]
    ends = tuple(mean_ends(BY_NAME[name], [one[name] for one in found]) for name in names)
    documents.save(Scaling(code, ends), place)
    return {held.harm: held for held in ends}


def _seed_ends(
    world: World, seed: int, names: Sequence[str], plan: Plan, made_by: str
) -> dict[str, tuple[float, float, float]]:
    policy = policy_of(world)
    base = base_of(world, seed, made_by=made_by, work=plan.work, data=plan.data)
    with _scratch(plan.work) as folder:
        lists = honest_lists(world, base, seed=seed, folder=folder)
        found = {}
        for name in names:
            place = folder / name
            place.mkdir()
            found[name] = ends_of(BY_NAME[name], world, policy, base=base, lists=lists, seed=seed, folder=place)
    return found


@contextmanager
def _scratch(work: Path) -> Iterator[Path]:
    """A folder beside the bases, so that files can be linked; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix=".trial-", dir=work) as folder:
        yield Path(folder)


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Nobody else works in this folder meanwhile; what a killed trial left half made is gone.

    Raises:
        InputError: If another trial does.
    """
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"--work {work}: another trial is running there; needed a folder of its own. Wait for it, or name another."
            ) from None
        for left in work.glob(".*"):
            shutil.rmtree(left, ignore_errors=True)
        yield


def _end_with(parent: int) -> None:
    """End this process soon after its parent: one that was killed cannot tell its workers, and they would work on."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _processes(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that load the libraries afresh, one thread each: threads of several would only contend."""
    before = {name: os.environ.get(name) for name in _QUIET}
    os.environ |= _QUIET
    spawning = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=spawning, initializer=_end_with, initargs=(os.getpid(),))
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@cache
def judging_code() -> str:
    """Digest of all that a record depends on: rooms up to the verdict, trials, policies, libraries."""
    components = [_PROJECT / "components" / name for name in _ROOMS]
    trials = [file for file in sorted((_PROJECT / "pipelines" / "trials").rglob("*.py")) if file.name not in _SHOWN_BY]
    policies = sorted((_PROJECT / "policies").rglob("policy.yaml"))
    files = [file for room in components for file in ([room] if room.is_file() else sorted(room.rglob("*.py")))]
    texts = {file.relative_to(_PROJECT).as_posix(): file.read_text("utf-8") for file in (*files, *trials, *policies)}
    return digest_json({"files": texts, "libraries": library_versions()})


@cache
def policy_of(world: World) -> Policy:
    """The policy that judges a world, as it lies in the project."""
    return load_policy(_PROJECT / "policies" / world.policy)
