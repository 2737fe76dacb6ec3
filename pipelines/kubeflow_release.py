"""The `release` pipeline of one approved run on Kubeflow: its artefacts into object storage, then a run that reads them there."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from components.approval.approve import APPROVAL_FILE
from components.approval.contract import Release
from components.approval.released import WAIVERS_FOLDER, read_trust
from components.events.object_folders import keep_folder, split_name
from pipelines.kubeflow import Connection, Job, RunOptions, Submitted, compile_release, start
from pipelines.placing import StepOptions
from pipelines.releasing import verify_release
from pipelines.request import code_digest
from pipelines.runs import Run

PIPELINE_NAME = "rankgate-release"
ROLES = ("card", "verdict", "ranker", "policy")


@dataclass(frozen=True, slots=True)
class Target:
    """What a release is rendered for; without an image the pipeline ends with the bento."""

    image: str = ""
    namespace: str = "ranking"


def release_arguments(run: str, places: Mapping[str, str], target: Target, *, code: str) -> dict[str, object]:
    """Arguments of the `release` pipeline for a run whose artefacts lie at `places`, by role."""
    return {
        "run": run,
        **{role: places[role] for role in ("approval", *ROLES)},
        "image": target.image,
        "render": bool(target.image),
        "namespace": target.namespace,
        "code": code,
    }


def keep_release(run: Run, root: str) -> dict[str, str]:
    """Put what an approval is about into object storage below `root`; returns the place of each, by role.

    Each lies under its digest, so that it is written once and nothing else can be meant by its place.
    """
    with tempfile.TemporaryDirectory(prefix="rankgate-approval-") as folder:
        names = {
            "approval": keep_folder(gather_approval(run, Path(folder)), root),
            **{role: keep_folder(run.artifact(role), root) for role in ROLES},
        }
    return {role: split_name(name)[0] for role, name in names.items()}


def gather_approval(run: Run, folder: Path) -> Path:
    """The signed envelope, and the waivers that it may rest on, in one folder."""
    shutil.copyfile(run.folder / "approval" / APPROVAL_FILE, folder / APPROVAL_FILE)
    if run.waivers.is_dir():
        shutil.copytree(run.waivers, folder / WAIVERS_FOLDER)
    return folder


def submit_release(
    run: Run,
    trusted: Sequence[Path],
    connection: Connection,
    options: RunOptions,
    steps: StepOptions,
    *,
    root: str,
    target: Target,
) -> tuple[Release, Submitted]:
    """Verify a run's approval here, put its artefacts where the cluster reads them, and start the `release` pipeline.

    What is checked here spares a run that cannot succeed; what counts is that the pipeline's first step checks it again.

    Args:
        run: The approved run.
        trusted: Public keys whose word counts; they become part of the compiled pipeline.
        connection: Kubeflow.
        options: How the run is filed.
        steps: How its steps are set up.
        root: s3://bucket/folder below which artefacts are kept.
        target: What manifests are rendered for.

    Raises:
        NotApprovedError: If the approval does not hold.
        InputError: If the storage or the API refuses.
    """
    release = verify_release(run, trusted)
    places = keep_release(run, root)
    code = code_digest()
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "pipeline.yaml"
        version = f"{code[:12]}-{compile_release(package, steps, trust=read_trust(tuple(trusted)))[:12]}"
        arguments = release_arguments(run.name, places, target, code=code)
        job = Job(PIPELINE_NAME, package, version, f"release-{run.name}-{release.digest[:10]}", arguments)
        return release, start(job, connection, options)
