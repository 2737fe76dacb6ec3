"""A content-addressed store on one file system: whole objects by digest, and what each finished step made.

    objects/<2 digits>/<digest>/   one artefact (a directory), named by its tree digest, read-only
    steps/<key>.json               `StepRecord`: outputs of a finished step, by the digest of all it depended on
    work/                          unfinished outputs; nothing here is ever read as an artefact

An object appears by one rename after its bytes are on disk. A record appears after its objects. So a kill at any moment
leaves finished work and rubbish in `work/`, never half an artefact under a digest.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from components.artifacts import documents
from components.artifacts.digests import digest_tree, tree_files
from components.errors import InputError, RankgateError

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What a finished step made, and what it cost in seconds of wall-clock time."""

    schema_version: int
    step: str
    key: str
    outputs: dict[str, str]
    """Tree digest of each output, by name."""
    import_seconds: float
    function_seconds: float
    sealing_seconds: float
    """Hashing the outputs and moving them into the store."""


class Store:
    """The store below one folder; made on first use."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def object_path(self, digest: str) -> Path:
        """Where an artefact lies, or would."""
        return self.root / "objects" / digest[:2] / digest

    def work_directory(self, name: str) -> Path:
        """A new empty folder for an unfinished output, on the store's file system so that it can be renamed into place."""
        work = self.root / "work"
        work.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f"{name}.", dir=work))

    def put(self, folder: Path) -> str:
        """Move a finished folder into the store; returns its tree digest. What was there already stays as it is."""
        digest = digest_tree(folder)
        place = self.object_path(digest)
        if place.exists():
            shutil.rmtree(folder)
            return digest
        for _, path in tree_files(folder):
            path.chmod(0o444)
            _flush(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        try:
            folder.rename(place)
        except OSError:
            # Another process stored the same content between the check and the rename.
            if not place.exists():
                raise
            shutil.rmtree(folder)
        _flush(place.parent)
        return digest

    def get(self, digest: str) -> Path:
        """An artefact whose bytes still have this digest.

        Raises:
            InputError: If the store does not hold it.
            RankgateError: If its bytes have changed since it was stored.
        """
        place = self.object_path(digest)
        if not place.exists():
            raise InputError(
                f"artefact {digest[:12]}: not in the store at {self.root}; run the step that makes it again."
            )
        if (found := digest_tree(place)) != digest:
            raise RankgateError(
                f"artefact {digest[:12]}: its files now have digest {found[:12]}; something changed {place}. "
                "Delete that folder and run again."
            )
        return place

    def record(self, record: StepRecord) -> None:
        """Remember a finished step; its outputs must be in the store."""
        documents.save(record, self._record_path(record.key))

    def recall(self, key: str) -> StepRecord | None:
        """The record of a finished step whose outputs are all in the store, unchanged; None asks for the work to be done.

        An output whose bytes no longer fit its digest is removed, so that the step makes it again.
        """
        path = self._record_path(key)
        if not path.exists():
            return None
        try:
            record = documents.load(StepRecord, path)
            for digest in record.outputs.values():
                self.get(digest)
        except InputError:
            return None
        except RankgateError:
            for digest in record.outputs.values():
                if self.object_path(digest).exists() and digest_tree(self.object_path(digest)) != digest:
                    shutil.rmtree(self.object_path(digest))
            return None
        return record

    def digest_of(self, path: Path) -> str:
        """Tree digest of an artefact; read off its name where `path` leads into this store."""
        resolved = path.resolve()
        if resolved.is_relative_to((self.root / "objects").resolve()) and len(resolved.name) == 64:
            return resolved.name
        return digest_tree(resolved)

    def sweep(self) -> None:
        """Remove unfinished outputs. Only safe while no step runs against this store."""
        shutil.rmtree(self.root / "work", ignore_errors=True)

    def _record_path(self, key: str) -> Path:
        return self.root / "steps" / f"{key}.json"


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
