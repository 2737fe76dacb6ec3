"""`rankgate replay`: a finished run's steps once more from pinned inputs, in a place of their own, byte against byte.

    plan (`replay_plan`)         which steps, from which digests; every input's bytes are compared with its digest
    do again (`replay_steps`)    a process beside this one, its own store, nothing restored
    compare (`replay_differences`)   file by file; what is declared to be time is left out by name, and said so
    explain (`replay_causes`)    what is recorded of then and now that could be why

The run's home is only read: a replay may be of an archive that nobody may write to. A replay that is killed leaves nothing
but its own scratch folder, which its steps' process removes, or the next replay.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.artifacts.store import StepRecord, Store
from components.errors import RankgateError
from pipelines.environment import this_environment
from pipelines.local import Watcher, drive
from pipelines.replay_causes import Cause, causes
from pipelines.replay_differences import LEFT_OUT, SERVING_EVIDENCE, Difference, differences
from pipelines.replay_plan import FAILURES_FOLDER, Depth, artifact_name, needed_records, replayed_steps
from pipelines.runs import Run

SCHEMA_VERSION = 1
_SCRATCH = "rankgate-replay-"


@dataclass(frozen=True, slots=True)
class Replayed:
    """One artefact, then and now."""

    artefact: str
    step: str
    then: str
    """Tree digest that the run recorded."""
    now: str
    """Tree digest of what the same step has made now; empty where it failed."""
    same: bool
    """Equal to the byte, or to the byte but for what `left_out` names."""
    seconds: float
    """Work of the step, imports included; of a step with several outputs, the whole step's."""
    seconds_then: float
    left_out: tuple[str, ...]
    """What of it was not compared, a phrase a file."""
    differs: tuple[Difference, ...]
    """The first difference of each file that differs."""
    problem: str
    """Why there is nothing to compare, or no files to name; empty where there are."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay has found."""

    schema_version: int
    run: str
    depth: Depth
    same: bool
    first: str
    """The first artefact in the order of the flow that differs; empty where none does."""
    artefacts: tuple[Replayed, ...]
    causes: tuple[Cause, ...]
    """What is recorded to be otherwise now, likeliest first; also where all bytes are the same."""
    seconds: float
    seconds_then: float
    """Of the same steps in the run, imports included."""


def replay(run: Run, depth: Depth, *, only: Collection[str] = (), watch: Watcher = lambda _: None) -> Replay:
    """Do the steps of a finished run again and compare what they make.

    Args:
        run: The run; only read.
        depth: `decisions` measures and decides again, `train` trains before, `all` begins at the tables.
        only: Steps to do again instead of all of that depth.
        watch: Told of each step's progress.

    Raises:
        InputError: If the run did not go to its end, or the store lacks what a step was made from.
        RankgateError: If the process that does the steps could not.
    """
    began = time.perf_counter()
    records, steps = needed_records(run), replayed_steps(depth, only)
    with _scratch_folder() as scratch:
        words = ("pipelines.replay_steps", str(run.folder), str(run.store.root), str(scratch), *steps)
        code = drive(words, folder=scratch, store=Store(scratch / "store"), watch=watch)
        _raise_failure(scratch, code)
        again = Run(scratch, Store(scratch / "store")).step_records()
        compared = tuple(
            _compare(run, scratch, records[step], role, again.get(step))
            for step in steps
            for role in sorted(records[step].outputs)
        )
    first = next((one for one in compared if not one.same), None)
    return Replay(
        schema_version=SCHEMA_VERSION,
        run=run.name,
        depth=depth,
        same=first is None,
        first=first.artefact if first else "",
        artefacts=compared,
        causes=causes(
            run,
            this_environment(threads=run.request.threads),
            records,
            again,
            step=first.step if first else "",
            failed=bool(first and not first.now),
        ),
        seconds=round(time.perf_counter() - began, 3),
        seconds_then=round(sum(_seconds(records[step]) for step in steps), 3),
    )


def _compare(run: Run, scratch: Path, then: StepRecord, role: str, again: StepRecord | None) -> Replayed:
    name, digest = artifact_name(then.step, role), then.outputs[role]
    found: dict[str, Any] = {
        "artefact": name,
        "step": then.step,
        "then": digest,
        "now": again.outputs[role] if again else "",
        "same": False,
        "seconds": _seconds(again) if again else 0.0,
        "seconds_then": _seconds(then),
        "left_out": tuple(f"{file}: {what}" for file, what in LEFT_OUT.items()) if name == SERVING_EVIDENCE else (),
        "differs": (),
        "problem": "",
    }
    if again is None:
        return Replayed(**found | {"problem": _failure(scratch, then.step)})
    if again.outputs[role] == digest:
        return Replayed(**found | {"same": True})
    recorded = run.store.object_path(digest)
    if not recorded.exists():
        return Replayed(**found | {"problem": "the recorded files are not in the store, so that none can be named."})
    made = Store(scratch / "store").object_path(again.outputs[role])
    differs = differences(recorded, made, artefact=name)
    return Replayed(**found | {"same": name == SERVING_EVIDENCE and not differs, "differs": differs})


def _seconds(record: StepRecord) -> float:
    return round(record.import_seconds + record.function_seconds, 3)


def _failure(scratch: Path, step: str) -> str:
    place = scratch / FAILURES_FOLDER / f"{step}.json"
    if not place.exists():
        return "the step left neither an artefact nor an error."
    told = json.loads(place.read_bytes())["message"]
    return f"the step failed now: {told}"


def _raise_failure(scratch: Path, code: int) -> None:
    place = scratch / "failure.json"
    if place.exists():
        told = json.loads(place.read_bytes())
        error = RankgateError(told["message"])
        error.exit_code = int(told["exit_code"])
        raise error
    if code:
        log = scratch / "run.log"
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-5:] if log.exists() else []
        raise RankgateError(f"the process that replays ended with {code}: {' / '.join(last) or 'it said nothing'}")


@contextmanager
def _scratch_folder() -> Iterator[Path]:
    """A folder of this replay's own that vanishes with it; what killed ones have left is swept first."""
    for left in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*"):
        _sweep(left)
    folder = Path(tempfile.mkdtemp(prefix=_SCRATCH))
    with (folder / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _sweep(left: Path) -> None:
    try:
        with (left / "lock").open("r") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        # Somebody's who is at work, or another person's.
        return
    shutil.rmtree(left, ignore_errors=True)
