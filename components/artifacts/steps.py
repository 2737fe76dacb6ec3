"""A step of a pipeline: restored if it was done before, else done, timed and sealed.

Every component's body is the same few lines:

    with Step("dataset", inputs={"snapshot": snapshot}, parameters={"seed": seed, "code": code},
              outputs={"dataset": dataset}) as step:
        if step.restored:
            return
        from components.dataset.build import build_dataset
        step.imported()
        build_dataset(Path(snapshot.path), out=step.out("dataset"), seed=seed, progress=step.progress)

With RANKGATE_STORE set (a laptop) outputs go to the content-addressed store and a step whose key is known there is not
done again. Without it (a cluster, where Kubeflow caches) outputs are written where Kubeflow asks. With RANKGATE_RUN set,
progress, timings and failures are told to the run's folder.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from components.artifacts import documents
from components.artifacts.digests import digest_json, digest_tree
from components.artifacts.files import write_atomically
from components.artifacts.store import SCHEMA_VERSION, StepRecord, Store
from components.errors import RankgateError

STORE_VARIABLE = "RANKGATE_STORE"
RUN_VARIABLE = "RANKGATE_RUN"


class Artifact(Protocol):
    """What kfp hands to a component: a place, and metadata that the Kubeflow page shows."""

    path: str
    metadata: dict[str, Any]


class Step:
    """Context of one step; see the module's docstring."""

    def __init__(
        self,
        name: str,
        *,
        inputs: Mapping[str, Artifact],
        parameters: Mapping[str, Any],
        outputs: Mapping[str, Artifact],
    ) -> None:
        self.name = name
        self._started = time.perf_counter()
        self._imported: float | None = None
        self._outputs = dict(outputs)
        self._folders: dict[str, Path] = {}
        store, run = os.environ.get(STORE_VARIABLE), os.environ.get(RUN_VARIABLE)
        self._store = Store(Path(store)) if store else None
        self._run = Path(run) if run else None
        self.digests = {role: self._digest(Path(artifact.path)) for role, artifact in inputs.items()}
        """Tree digest of each input, by its role."""
        self.key = digest_json({"step": name, "inputs": self.digests, "parameters": dict(parameters)})
        self.restored = False

    def __enter__(self) -> Self:
        self._tell("started")
        record = self._store.recall(self.key) if self._store else None
        if record and set(record.outputs) == set(self._outputs):
            self.restored = True
            self._finish(record)
        return self

    def out(self, role: str) -> Path:
        """The empty folder that the room writes one output into."""
        if role not in self._folders:
            if self._store:
                folder = self._store.work_directory(f"{self.name}-{role}")
            else:
                folder = Path(self._outputs[role].path)
                folder.mkdir(parents=True)
            self._folders[role] = folder
        return self._folders[role]

    def imported(self) -> None:
        """Marks the moment where libraries are loaded and the room's own work begins."""
        self._imported = time.perf_counter()

    def progress(self, message: str) -> None:
        """Tells whoever watches the run what is being done."""
        self._tell("progress", message)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            for folder in self._folders.values():
                shutil.rmtree(folder, ignore_errors=True)
            self._fail(error)
            return
        if not self.restored:
            self._seal()
        # A step is its process. Taking a large library's objects apart at exit takes a second and helps nobody.
        gc.freeze()

    def _seal(self) -> None:
        done = time.perf_counter()
        imported = self._imported if self._imported is not None else self._started
        digests = {role: self._put(self.out(role)) for role in self._outputs}
        record = StepRecord(
            schema_version=SCHEMA_VERSION,
            step=self.name,
            key=self.key,
            outputs=digests,
            import_seconds=round(imported - self._started, 4),
            function_seconds=round(done - imported, 4),
            sealing_seconds=round(time.perf_counter() - done, 4),
        )
        if self._store:
            self._store.record(record)
        self._finish(record)

    def _put(self, folder: Path) -> str:
        return self._store.put(folder) if self._store else digest_tree(folder)

    def _finish(self, record: StepRecord) -> None:
        for role, artifact in self._outputs.items():
            artifact.metadata["digest"] = record.outputs[role]
            if self._store:
                place = Path(artifact.path)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(self._store.object_path(record.outputs[role]), target_is_directory=True)
        if self._run:
            documents.save(record, self._run / "steps" / f"{self.name}.json")
        self._tell("restored" if self.restored else "finished")

    def _fail(self, error: BaseException) -> None:
        if self._run:
            known = isinstance(error, RankgateError)
            failure = {
                "step": self.name,
                "exit_code": error.exit_code if isinstance(error, RankgateError) else 1,
                "kind": type(error).__name__,
                "message": str(error) if known else f"{type(error).__name__}: {error}",
            }
            write_atomically(self._run / "failure.json", json.dumps(failure, indent=2).encode())
        self._tell("failed")

    def _tell(self, event: str, message: str = "") -> None:
        if not self._run:
            return
        line = json.dumps({"at": time.time(), "step": self.name, "event": event, "message": message})
        with (self._run / "progress.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def _digest(self, path: Path) -> str:
        return self._store.digest_of(path) if self._store else digest_tree(path)

    def publish(self, artifact: Artifact, name: str, single: Artifact) -> None:
        """Give one file of a finished output once more as an artefact of its own, where a page can show it."""
        place = Path(single.path)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(artifact.path) / name, place)
