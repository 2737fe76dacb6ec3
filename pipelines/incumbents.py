"""The ranker in service, for a candidate that runs in a cluster: where it lies there, and what it must be."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from components.artifacts import documents
from components.card.contract import Description
from components.errors import InputError
from components.events.object_folders import fetch_folder, keep_folder, named, split_name
from components.events.object_storage import SCHEME
from components.ranker.contract import Ranker
from pipelines.comparison import described
from pipelines.runs import Home


@dataclass(frozen=True, slots=True)
class Incumbent:
    """All empty for a first release."""

    digest: str = ""
    place: str = ""
    """Its name in object storage, digest included."""
    run: str = ""
    """The run it came from; its place where that is not known."""
    before: Description | None = None


def find_incumbent(home: Home, name: str, *, root: str) -> Incumbent:
    """The incumbent that was named: nothing, a run on this machine, or a ranker's folder in object storage.

    Args:
        home: Where runs lie.
        name: A run, or s3://bucket/folder, with its digest behind `#sha256=` where it must be that one.
        root: s3://bucket/folder below which a run's ranker is put.

    Raises:
        InputError: If there is no such run or ranker, or the run's ranker has no place where a cluster can read it.
    """
    if not name:
        return Incumbent()
    if name.startswith(SCHEME):
        place = split_name(name)[0]
        with tempfile.TemporaryDirectory(prefix="rankgate-incumbent-") as folder:
            digest = fetch_folder(name, Path(folder))
            documents.load(Ranker, Path(folder) / "ranker.json")
        return Incumbent(digest=digest, place=named(place, digest), run=place)
    run = home.find(name)
    if not root:
        raise InputError(
            f"--incumbent {run.name}: lies on this machine; needed in object storage. Name a folder for it: "
            "--artefacts s3://bucket/folder"
        )
    place = keep_folder(run.artifact("ranker"), root)
    return Incumbent(digest=split_name(place)[1], place=place, run=run.name, before=described(run))
