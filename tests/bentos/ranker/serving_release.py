"""The service of a release as it is really started, its exposures logged; the approval in it was signed by nobody."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from serving_client import reading
from serving_processes import Server, free_port, started
from serving_world import REPOSITORY

from components.approval.contract import SCHEMA_VERSION, Approval, Release
from components.artifacts import documents
from components.artifacts.digests import digest_tree
from components.package.release import RANKER_FOLDER, RELEASE_FILE
from components.serving.exposures import FOLDER_VARIABLE

DIGEST = "be" * 32
"""Of the release: every answer tells it."""


@contextmanager
def released(
    ranker: Path, *, exposures: Path | None = None, variables: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """The service of a release of this ranker, ready; ended with all of its processes.

    Args:
        ranker: The ranker's folder; it is copied.
        exposures: Where what is shown is logged; a folder that does not outlive the service without it.
        variables: More of the service's environment.

    Raises:
        DidNotStartError: If it does not get ready.
    """
    with tempfile.TemporaryDirectory(prefix="rankgate-release-") as place:
        home = Path(place)
        _write_release(ranker, home / "release")
        port = free_port()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RANKGATE_")} | {
            "RANKGATE_RELEASE": str(home / "release"),
            "RANKGATE_DRAIN_SECONDS": "0",
            FOLDER_VARIABLE: str(exposures or home / "exposures"),
            "BENTOML_DO_NOT_TRACK": "true",
            "BENTOML_HOME": str(home),
            "PYTHONPATH": str(REPOSITORY),
            **(variables or {}),
        }
        words = ["-m", "bentoml", "serve", "bentos.ranker.service:RankerService", "--host", "127.0.0.1"]
        with started(
            [sys.executable, *words, "--port", str(port)],
            port=port,
            ready=reading("/readyz"),
            cwd=home,
            environment=environment,
            log=home / "log",
        ) as server:
            yield server


def _write_release(ranker: Path, folder: Path) -> None:
    shutil.copytree(ranker, folder / RANKER_FOLDER)
    approval = Approval(
        schema_version=SCHEMA_VERSION,
        run="measured",
        decision="approved",
        approver="nobody",
        submitter="somebody",
        reason="to be measured",
        decided_at="2026-11-23T00:00:00+00:00",
        card="a" * 64,
        verdict="b" * 64,
        ranker=digest_tree(ranker),
        policy="c" * 64,
    )
    documents.save(Release(digest=DIGEST, approval=approval, key_id="d" * 64), folder / RELEASE_FILE)
