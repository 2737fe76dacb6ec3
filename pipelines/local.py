"""Run the `candidate` pipeline on this machine: start or resume, follow, account for the time, keep the result."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.artifacts import documents
from components.artifacts.steps import RUN_VARIABLE, STORE_VARIABLE
from components.artifacts.store import Store
from components.errors import InputError, RankgateError
from pipelines.environment import record_environment, this_environment
from pipelines.request import RunRequest, resumed
from pipelines.runs import SCHEMA_VERSION, Home, Run, RunResult, RunTiming, State, StepTime

_POLL_SECONDS = 0.05
_LOCK_PATIENCE_SECONDS = 5.0

# No step may phone home. Evidently and BentoML report usage unless told not to; BentoML only understands `true`.
_QUIET = {"BENTOML_DO_NOT_TRACK": "true", "DO_NOT_TRACK": "1", "ITERATIVE_DO_NOT_TRACK": "1"}


@dataclass(frozen=True, slots=True)
class StepEvent:
    """One line of progress.jsonl."""

    at: float
    step: str
    event: str
    """started, progress, restored, finished or failed."""
    message: str


Watcher = Callable[[StepEvent | None], None]
"""Called for each event, and with None between events, so that a display can tick."""


def run_locally(request: RunRequest, home: Home, *, watch: Watcher = lambda _: None) -> Run:
    """Run a request to its end, or resume it from its finished steps; a finished run is returned as it is.

    Raises:
        InputError: If another process is working on the same run.
        KeyboardInterrupt: If a person stopped it; nothing finished is lost.
    """
    began = time.perf_counter()
    run = home.run_at(request.run)
    run.folder.mkdir(parents=True, exist_ok=True)
    with locked(run), shared_store(home):
        if (result := run.result) and result.state in ("passed", "blocked"):
            return run
        if (run.folder / "request.json").exists():
            request = resumed(request, run.request)
        documents.save(request, run.folder / "request.json")
        record_environment(run.folder, this_environment(threads=request.threads))
        for name in ("failure.json", "result.json", "progress.jsonl"):
            (run.folder / name).unlink(missing_ok=True)
        shutil.rmtree(run.folder / "steps", ignore_errors=True)
        incumbent = str(home.store.get(request.incumbent)) if request.incumbent else ""
        root = Path(tempfile.mkdtemp(prefix="kfp.", dir=run.folder))
        try:
            words = ("pipelines.local_steps", str(run.folder), str(root), incumbent)
            code = drive(words, folder=run.folder, store=run.store, watch=watch)
        finally:
            shutil.rmtree(root, ignore_errors=True)
        run.link_artifacts()
        _conclude(run, code, time.perf_counter() - began)
    return run


def drive(words: Sequence[str], *, folder: Path, store: Store, watch: Watcher) -> int:
    """Start a process that runs steps and follow them; returns its exit code.

    Args:
        words: Its module and arguments.
        folder: Where its steps tell their progress, timings and failures, and where its log goes.
        store: Where its steps put their outputs.
        watch: Told each event.
    """
    environment = {
        **os.environ,
        **_QUIET,
        STORE_VARIABLE: str(store.root),
        RUN_VARIABLE: str(folder),
        "PYTHONUNBUFFERED": "1",
    }
    progress = folder / "progress.jsonl"
    with (folder / "run.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            seen = 0
            while process.poll() is None:
                seen = _follow(progress, seen, watch)
                time.sleep(_POLL_SECONDS)
            _follow(progress, seen, watch)
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            raise
    return process.returncode


def _follow(progress: Path, seen: int, watch: Watcher) -> int:
    """Hand every event after byte `seen` to `watch`; returns how far it read."""
    if progress.exists():
        with progress.open("rb") as stream:
            stream.seek(seen)
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                seen += len(line)
                event: dict[str, Any] = json.loads(line)
                watch(StepEvent(event["at"], event["step"], event["event"], event["message"]))
    watch(None)
    return seen


def _conclude(run: Run, code: int, total_seconds: float) -> None:
    """Write the run's result from what the steps left behind."""
    failure_path = run.folder / "failure.json"
    state: State
    if failure_path.exists():
        failure = json.loads(failure_path.read_bytes())
        state = "blocked" if failure["kind"] == "BlockedError" else "failed"
        exit_code, message = int(failure["exit_code"]), str(failure["message"])
    elif code == 0 and "verdict" in run.artifact_digests() and "card" in run.artifact_digests():
        state, exit_code, message = "passed", 0, ""
    else:
        state, exit_code = "failed", 1
        message = f"the pipeline ended without a verdict (exit {code}); see {run.folder / 'run.log'}"
    result = RunResult(
        schema_version=SCHEMA_VERSION,
        run=run.name,
        state=state,
        exit_code=exit_code,
        message=message,
        finished_at=datetime.now(UTC).replace(microsecond=0).isoformat(),
        artifacts=run.artifact_digests(),
        timing=account(run, total_seconds),
    )
    documents.save(result, run.folder / "result.json")


def account(run: Run, total_seconds: float) -> RunTiming:
    """Split a run's wall-clock time into work, imports and the rest, by step and in total.

    A step's rest is what lies between its neighbours' last words and its own, less its work and imports: the process,
    kfp's runner, hashing and moving artefacts. What no step accounts for (kfp's own start) is in the total's rest.
    """
    records = run.step_records()
    marks: dict[str, float] = {}
    restored = set()
    order: list[str] = []
    started: float | None = None
    with (run.folder / "progress.jsonl").open(encoding="utf-8") as stream:
        for line in stream:
            event = json.loads(line)
            started = started or float(event["at"])
            if event["event"] in ("finished", "restored", "failed"):
                order.append(event["step"])
                marks[event["step"]] = float(event["at"])
            if event["event"] == "restored":
                restored.add(event["step"])
    steps = []
    previous = started or 0.0
    for name in order:
        record = records.get(name)
        work = record.function_seconds if record and name not in restored else 0.0
        imports = record.import_seconds if record and name not in restored else 0.0
        rest = max(0.0, marks[name] - previous - work - imports)
        previous = marks[name]
        steps.append(StepTime(name, name in restored, round(work, 3), round(imports, 3), round(rest, 3)))
    work = sum(step.function_seconds for step in steps)
    imports = sum(step.import_seconds for step in steps)
    return RunTiming(
        total_seconds=round(total_seconds, 3),
        function_seconds=round(work, 3),
        import_seconds=round(imports, 3),
        rest_seconds=round(max(0.0, total_seconds - work - imports), 3),
        steps=tuple(steps),
    )


@contextmanager
def locked(run: Run) -> Iterator[None]:
    """Hold a run's exclusive lock; a killed predecessor's steps get a moment to end.

    Raises:
        InputError: If another process goes on holding it.
    """
    with (run.folder / "lock").open("a") as stream:
        patience = time.monotonic() + _LOCK_PATIENCE_SECONDS
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > patience:
                    raise InputError(
                        f"run {run.name}: another process is working on it; needed it free. "
                        "Wait for that one, or stop it and run the same command again."
                    ) from error
                time.sleep(0.2)
        yield


@contextmanager
def shared_store(home: Home) -> Iterator[None]:
    """Keep others from sweeping the store's unfinished outputs; sweep them first where nobody else is at work."""
    home.store.root.mkdir(parents=True, exist_ok=True)
    with (home.store.root / "lock").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            home.store.sweep()
        except OSError:
            pass
        fcntl.flock(stream, fcntl.LOCK_SH)
        yield


def raise_outcome(run: Run) -> None:
    """Turn a run's bad end into the error of its family, so that every caller exits the same way.

    Raises:
        RankgateError: If the run is unfinished, failed or was blocked.
    """
    result = run.result
    if result is None:
        raise RankgateError(f"run {run.name}: has not finished; run its command again to resume it.")
    if result.exit_code == 0:
        return
    error = RankgateError(result.message)
    error.exit_code = result.exit_code
    raise error
