"""The process that does a run's steps again: python -m pipelines.replay_steps RUN_FOLDER STORE SCRATCH STEP...

Each step is the component's own function in a fork of this process, which has loaded kfp once for all of them. Inputs are
read from the run's store; outputs go to a store of the replay's own, so that nothing is restored and nothing is kept.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.artifacts.store import Store
from components.errors import InputError, RankgateError
from pipelines.candidate import COMPONENTS
from pipelines.local_steps import stop_with_parent
from pipelines.replay_plan import FAILURES_FOLDER, Planned, changed_sources, plan
from pipelines.runs import Run


@dataclass
class _Place:
    """What kfp would hand to a component."""

    path: str
    metadata: dict[str, Any] = field(default_factory=dict)


def main() -> int:
    """Does the steps again; 0 also where one of them fails, which its failure tells."""
    run = Run(Path(sys.argv[1]), Store(Path(sys.argv[2])))
    scratch = Path(sys.argv[3])
    stop_with_parent(lambda: shutil.rmtree(scratch, ignore_errors=True))
    try:
        planned = plan(run, sys.argv[4:])
    except RankgateError as error:
        _tell(scratch / "failure.json", "plan", error)
        return error.exit_code
    for step in planned:
        _replay(run, step, scratch)
    return 0


def _replay(run: Run, step: Planned, scratch: Path) -> None:
    failure = scratch / FAILURES_FOLDER / f"{step.step}.json"
    try:
        if step.step == "snapshot" and (changed := changed_sources(run.request)):
            raise InputError(f"the tables are no longer those that the run read: {'; '.join(changed)}.")
        places = [run.store, Store(scratch / "store")]
        inputs = {argument: _Place(_find(digest, argument, places)) for argument, digest in step.inputs.items()}
    except RankgateError as error:
        _tell(failure, step.step, error)
        return
    outputs = {role: _Place(str(scratch / "outputs" / step.step / role)) for role in step.outputs}
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            COMPONENTS[step.step].python_func(**inputs, **step.parameters, **outputs)
            code = 0
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            # What this process shares with its parent is the parent's to take apart.
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    told = scratch / "failure.json"
    if told.exists():
        failure.parent.mkdir(exist_ok=True)
        told.rename(failure)
    elif status:
        _tell(failure, step.step, RankgateError(f"its process ended with {status}; the log's last words may say why."))


def _find(digest: str, argument: str, stores: list[Store]) -> str:
    """Where an input lies: among the run's artefacts, or, where it was pruned there, made again to the same bytes."""
    for store in stores:
        if store.object_path(digest).exists():
            return str(store.object_path(digest))
    raise InputError(
        f"its {argument} {digest[:12]} is not in the store, and came out otherwise when it was made again."
    )


def _tell(place: Path, step: str, error: RankgateError) -> None:
    place.parent.mkdir(exist_ok=True)
    place.write_text(
        json.dumps(
            {"step": step, "exit_code": error.exit_code, "kind": type(error).__name__, "message": str(error)}, indent=2
        )
    )


if __name__ == "__main__":
    sys.exit(main())
