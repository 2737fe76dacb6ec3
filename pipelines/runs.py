"""The runs directory: where a laptop keeps runs, and how a person names one.

.rankgate/                       the home; `--home` or RANKGATE_HOME
    store/                       content-addressed artefacts (`components.artifacts.store`)
    runs/<run>/request.json      what was asked (`RunRequest`)
    runs/<run>/environment.json  where and with what it ran (`Environments`); no artefact holds any of it
    runs/<run>/progress.jsonl    what happened, a line an event
    runs/<run>/steps/*.json      what each finished step made and cost (`StepRecord`)
    runs/<run>/result.json       how it ended (`RunResult`); absent while unfinished
    runs/<run>/failure.json      the error that ended it, if one did
    runs/<run>/run.log           everything the steps printed
    runs/<run>/artifacts/<name>  links into the store
    runs/<run>/waivers/          signed waivers, one a criterion (`components.approval.waivers`)
    runs/<run>/rewritten.json    the card as it was written anew when a waiver was signed (`Rewritten`)
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from components.artifacts import documents
from components.artifacts.store import StepRecord, Store
from components.errors import InputError, nearest
from pipelines.request import RunRequest

SCHEMA_VERSION = 1

HOME_VARIABLE = "RANKGATE_HOME"
REWRITTEN_FILE = "rewritten.json"

State = Literal["passed", "blocked", "failed", "unfinished"]


@dataclass(frozen=True, slots=True)
class StepTime:
    """Wall-clock seconds of one step. `rest_seconds`: its process, kfp's runner, hashing and artefact I/O."""

    step: str
    restored: bool
    function_seconds: float
    import_seconds: float
    rest_seconds: float


@dataclass(frozen=True, slots=True)
class RunTiming:
    """Where the time of one run went; the three parts add up to `total_seconds`."""

    total_seconds: float
    function_seconds: float
    import_seconds: float
    rest_seconds: float
    steps: tuple[StepTime, ...]


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended."""

    schema_version: int
    run: str
    state: State
    exit_code: int
    message: str
    finished_at: str
    artifacts: dict[str, str]
    """Tree digest of each artefact, by name."""
    timing: RunTiming


@dataclass(frozen=True, slots=True)
class Rewritten:
    """Artefacts that took another's place after the run; what the run itself made stays in the store and in its result."""

    schema_version: int
    artifacts: dict[str, str]
    """Tree digest, by name."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run on disk."""

    folder: Path
    store: Store

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def request(self) -> RunRequest:
        return documents.load(RunRequest, self.folder / "request.json")

    @property
    def result(self) -> RunResult | None:
        path = self.folder / "result.json"
        return documents.load(RunResult, path) if path.exists() else None

    @property
    def state(self) -> State:
        result = self.result
        return result.state if result else "unfinished"

    @property
    def waivers(self) -> Path:
        """Where the waivers of this run lie, if there are any."""
        return self.folder / "waivers"

    def step_records(self) -> dict[str, StepRecord]:
        """Record of each step that has finished, by step."""
        found = (documents.load(StepRecord, path) for path in sorted((self.folder / "steps").glob("*.json")))
        return {record.step: record for record in found}

    def artifact_digests(self) -> dict[str, str]:
        """Tree digest of each artefact as it is now; the two evidence folders are told apart by their step."""
        digests = {}
        for step, record in self.step_records().items():
            for role, digest in record.outputs.items():
                digests[f"evidence-{step.removeprefix('measure-')}" if role == "evidence" else role] = digest
        path = self.folder / REWRITTEN_FILE
        return digests | (documents.load(Rewritten, path).artifacts if path.exists() else {})

    def rewrite(self, name: str, digest: str) -> None:
        """Let an artefact in the store take the place of the run's own."""
        path = self.folder / REWRITTEN_FILE
        held = documents.load(Rewritten, path).artifacts if path.exists() else {}
        documents.save(Rewritten(SCHEMA_VERSION, {**held, name: digest}), path)
        self.link_artifacts()

    def artifact(self, name: str) -> Path:
        """Folder of one artefact, bytes checked against its digest.

        Raises:
            InputError: If the run has not made it.
        """
        digests = self.artifact_digests()
        if name not in digests:
            raise InputError(
                f"run {self.name}: has no {name}; it has {', '.join(sorted(digests)) or 'nothing yet'}. "
                "Run it to its end with the command it was started by."
            )
        return self.store.get(digests[name])

    def link_artifacts(self) -> None:
        """Give every artefact a readable path below the run's folder."""
        folder = self.folder / "artifacts"
        folder.mkdir(exist_ok=True)
        for name, digest in self.artifact_digests().items():
            link = folder / name
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.relpath(self.store.object_path(digest), folder), target_is_directory=True)


class Home:
    """The folder that holds a laptop's store and runs."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = (root or Path(os.environ.get(HOME_VARIABLE, ".rankgate"))).absolute()
        self.store = Store(self.root / "store")

    def run_folder(self, name: str) -> Path:
        return self.root / "runs" / name

    def run_at(self, name: str) -> Run:
        return Run(self.run_folder(name), self.store)

    def runs(self) -> list[Run]:
        """Every run with a request, newest first."""
        folders = [path.parent for path in (self.root / "runs").glob("*/request.json")]
        return [Run(folder, self.store) for folder in sorted(folders, key=_asked_at, reverse=True)]

    def find(self, name: str) -> Run:
        """The run called `name`, `latest`, or the one whose name or digest part starts so.

        Raises:
            InputError: If none or several do.
        """
        runs = self.runs()
        if not runs:
            raise InputError(f"run {name}: there are no runs below {self.root}. Start one: rankgate demo")
        if name == "latest":
            return runs[0]
        exact = [run for run in runs if run.name == name]
        matches = exact or [
            run for run in runs if run.name.startswith(name) or run.name.rpartition("-")[2].startswith(name)
        ]
        if len(matches) == 1:
            return matches[0]
        if matches:
            names = ", ".join(run.name for run in matches)
            raise InputError(f"run {name}: found {len(matches)} that start so ({names}); needed one. Write more of it.")
        raise InputError(
            f"run {name}: not found below {self.root}. {nearest(name, [run.name for run in runs])} "
            "List them with: rankgate runs"
        )


def _asked_at(folder: Path) -> tuple[str, str]:
    try:
        return documents.load(RunRequest, folder / "request.json").asked_at, folder.name
    except InputError:
        # An older rankgate's request: listed last, named when it is opened.
        return "", folder.name
