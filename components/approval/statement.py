"""The in-toto Statement of an approval: which files it is about, by sha256, and the decision itself.

Source: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.approval.contract import PREDICATE_TYPE, Approval
from components.artifacts import documents
from components.artifacts.digests import canonical_json, digest_file, digest_json, tree_files
from components.errors import InputError, NotApprovedError

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"

Files = dict[str, str]
"""sha256 of each file of an artefact, by relative path."""


@dataclass(frozen=True, slots=True)
class Statement:
    """An approval with the files it was given for."""

    approval: Approval
    subjects: Files
    """sha256 by name; names begin with the artefact's role: `card/card.html`."""


def files_of(root: Path, *, role: str) -> Files:
    """sha256 of every file of an artefact.

    Raises:
        InputError: If there is nothing at `root`, or a file cannot be read.
    """
    try:
        files = {name: digest_file(path) for name, path in tree_files(root)}
    except OSError as error:
        raise InputError(f"{role}: {error.filename or root} cannot be read ({error.strerror}).") from error
    if not files:
        raise InputError(f"{role}: found no file at {root}; needed the run's {role}.")
    return files


def tree_digest(files: Files) -> str:
    """As `components.artifacts.digests.digest_tree` of the artefact whose files these are."""
    return digest_json(files)


def subjects_of(artifacts: Mapping[str, Files]) -> Files:
    """The files of several artefacts under one roof, by role."""
    return {f"{role}/{name}": digest for role, files in artifacts.items() for name, digest in files.items()}


def write_statement(statement: Statement) -> bytes:
    """Canonical JSON of a statement."""
    return canonical_json(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": name, "digest": {"sha256": sha}} for name, sha in sorted(statement.subjects.items())],
            "predicateType": PREDICATE_TYPE,
            "predicate": documents.as_json(statement.approval),
        }
    )


def read_statement(payload: bytes, *, subject: str) -> Statement:
    """A statement from a payload whose signature has been checked.

    Raises:
        NotApprovedError: If it is no such statement, of another predicate type or schema version, or says more than we know.
    """
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise NotApprovedError(f"{subject}: its payload is not JSON ({error}); needed an in-toto Statement.") from error
    if not isinstance(value, dict) or value.get("_type") != STATEMENT_TYPE:
        found = value.get("_type") if isinstance(value, dict) else type(value).__name__
        raise NotApprovedError(f"{subject}: found a payload of type {found!r}; needed {STATEMENT_TYPE!r}.")
    if value.get("predicateType") != PREDICATE_TYPE:
        raise NotApprovedError(
            f"{subject}: attests {value.get('predicateType')!r}; needed {PREDICATE_TYPE!r}. It is another kind of attestation."
        )
    try:
        approval = documents.parse(Approval, canonical_json(value.get("predicate")), subject=f"{subject}, predicate")
    except (InputError, ValueError) as error:
        raise NotApprovedError(f"{subject}: its predicate is not one that this rankgate reads. {error}") from error
    statement = Statement(approval=approval, subjects=_subjects(value.get("subject"), subject=subject))
    if write_statement(statement) != payload:
        raise NotApprovedError(
            f"{subject}: its statement holds more, or is written otherwise, than this rankgate knows."
        )
    return statement


def _subjects(value: Any, *, subject: str) -> Files:
    try:
        found = {str(item["name"]): str(item["digest"]["sha256"]) for item in value}
    except (TypeError, KeyError, AttributeError) as error:
        raise NotApprovedError(f"{subject}: its subjects are not files with a name and a sha256.") from error
    return found
