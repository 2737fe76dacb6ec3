"""A release as it lies in a bento, opened for serving: nothing is served that is not what was approved.

release.json          `Release`: the approval and its digest
approval.dsse.json    the signed envelope it was read from
ranker/               the ranker, whose tree digest the approval names
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from components.approval.contract import Release
from components.artifacts import documents
from components.artifacts.digests import digest_tree
from components.errors import NotApprovedError
from components.ranker.scoring import LoadedRanker

RELEASE_FILE = "release.json"
APPROVAL_FILE = "approval.dsse.json"
RANKER_FOLDER = "ranker"


@dataclass(frozen=True, slots=True)
class ServedRelease:
    """An opened release."""

    release: Release
    ranker: LoadedRanker


def open_release(place: Path, *, threads: int, users_elsewhere: bool = False) -> ServedRelease:
    """Open the release at `place` after comparing every byte of its ranker with the approval.

    Args:
        place: Its folder.
        threads: As `LoadedRanker.open`.
        users_elsewhere: As `LoadedRanker.open`.

    Raises:
        InputError: If a file is missing or unreadable.
        NotApprovedError: If the ranker is not the one that was approved.
    """
    release = documents.load(Release, place / RELEASE_FILE)
    if release.approval.decision != "approved":
        raise NotApprovedError(
            f"release {release.digest[:12]}: its reviewer decided '{release.approval.decision}'; needed 'approved'."
        )
    found = digest_tree(place / RANKER_FOLDER)
    if found != release.approval.ranker:
        raise NotApprovedError(
            f"release {release.digest[:12]}: its ranker has digest {found[:12]}; "
            f"needed the approved {release.approval.ranker[:12]}. Package the run again."
        )
    ranker = LoadedRanker.open(place / RANKER_FOLDER, threads=threads, users_elsewhere=users_elsewhere)
    return ServedRelease(release=release, ranker=ranker)
