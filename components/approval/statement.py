"""The in-toto Statements of approvals and waivers: which files they are about, by sha256, and the decision itself.

Source: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from components.approval.contract import PREDICATE_TYPE, SCHEMA_VERSION, WAIVER_PREDICATE_TYPE, Approval, Waiver
from components.artifacts import documents
from components.artifacts.digests import canonical_json, digest_file, digest_json, tree_files
from components.errors import InputError, NotApprovedError

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"

P = TypeVar("P", Approval, Waiver)

_WITHOUT_WAIVERS = 1
"""Schema version of the first approvals, whose signed bytes have no word for waivers."""

Files = dict[str, str]
"""sha256 of each file of an artefact, by relative path."""


@dataclass(frozen=True, slots=True)
class Statement:
    """An approval with the files it was given for."""

    approval: Approval
    subjects: Files
    """sha256 by name; names begin with the artefact's role: `card/card.html`."""


@dataclass(frozen=True, slots=True)
class WaiverStatement:
    """A waiver with the files of the verdict and the policy that it was given for."""

    waiver: Waiver
    subjects: Files


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
    """Canonical JSON of an approval's statement, in the words of the approval's own schema version."""
    predicate = documents.as_json(statement.approval)
    if statement.approval.schema_version == _WITHOUT_WAIVERS:
        del predicate["waivers"]
    return _text(PREDICATE_TYPE, predicate, statement.subjects)


def write_waiver_statement(statement: WaiverStatement) -> bytes:
    """Canonical JSON of a waiver's statement."""
    return _text(WAIVER_PREDICATE_TYPE, documents.as_json(statement.waiver), statement.subjects)


def read_statement(payload: bytes, *, subject: str) -> Statement:
    """An approval's statement from a payload whose signature has been checked.

    Raises:
        NotApprovedError: If it is no such statement, of another predicate type or schema version, or says more than we know.
    """
    predicate, subjects = _opened(payload, PREDICATE_TYPE, subject=subject)
    first = isinstance(predicate, dict) and predicate.get("schema_version") == _WITHOUT_WAIVERS
    if first and "waivers" not in predicate:
        approval = _predicate(Approval, {**predicate, "schema_version": SCHEMA_VERSION}, subject=subject)
        statement = Statement(replace(approval, schema_version=_WITHOUT_WAIVERS), subjects)
    else:
        statement = Statement(_predicate(Approval, predicate, subject=subject), subjects)
    _check_words(write_statement(statement), payload, subject=subject)
    return statement


def read_waiver_statement(payload: bytes, *, subject: str) -> WaiverStatement:
    """As `read_statement`, of a waiver."""
    predicate, subjects = _opened(payload, WAIVER_PREDICATE_TYPE, subject=subject)
    statement = WaiverStatement(_predicate(Waiver, predicate, subject=subject), subjects)
    _check_words(write_waiver_statement(statement), payload, subject=subject)
    return statement


def _text(kind: str, predicate: Any, subjects: Files) -> bytes:
    return canonical_json(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": name, "digest": {"sha256": sha}} for name, sha in sorted(subjects.items())],
            "predicateType": kind,
            "predicate": predicate,
        }
    )


def _opened(payload: bytes, kind: str, *, subject: str) -> tuple[Any, Files]:
    """Predicate and subjects of a statement of one predicate type."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise NotApprovedError(f"{subject}: its payload is not JSON ({error}); needed an in-toto Statement.") from error
    if not isinstance(value, dict) or value.get("_type") != STATEMENT_TYPE:
        found = value.get("_type") if isinstance(value, dict) else type(value).__name__
        raise NotApprovedError(f"{subject}: found a payload of type {found!r}; needed {STATEMENT_TYPE!r}.")
    if value.get("predicateType") != kind:
        raise NotApprovedError(
            f"{subject}: attests {value.get('predicateType')!r}; needed {kind!r}. It is another kind of attestation."
        )
    return value.get("predicate"), _subjects(value.get("subject"), subject=subject)


def _predicate(kind: type[P], value: Any, *, subject: str) -> P:
    try:
        return documents.parse(kind, canonical_json(value), subject=f"{subject}, predicate")
    except (InputError, ValueError) as error:
        raise NotApprovedError(f"{subject}: its predicate is not one that this rankgate reads. {error}") from error


def _check_words(known: bytes, payload: bytes, *, subject: str) -> None:
    if known != payload:
        raise NotApprovedError(
            f"{subject}: its statement holds more, or is written otherwise, than this rankgate knows."
        )


def _subjects(value: Any, *, subject: str) -> Files:
    try:
        found = {str(item["name"]): str(item["digest"]["sha256"]) for item in value}
    except (TypeError, KeyError, AttributeError) as error:
        raise NotApprovedError(f"{subject}: its subjects are not files with a name and a sha256.") from error
    return found
