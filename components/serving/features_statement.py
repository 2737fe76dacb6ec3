"""Signs and checks publications of features: an in-toto Statement in a DSSE envelope, as approvals are.

Source: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from components.approval.envelope import open_envelope, seal
from components.approval.statement import STATEMENT_TYPE
from components.artifacts import documents
from components.artifacts.digests import canonical_json, digest_bytes
from components.errors import Fault, FaultyInputError, InputError, NotApprovedError
from components.serving.features_contract import (
    ENVELOPE_FILE,
    MANIFEST_FILE,
    PREDICATE_TYPE,
    FeatureManifest,
    Publication,
    SignedPublication,
)

_MOST_BYTES = 16 << 20
_FILE_NAME = re.compile(r"(?:[A-Za-z0-9_%!-][A-Za-z0-9_%!.-]*/)?[A-Za-z0-9_%!-][A-Za-z0-9_%!.-]*")
"""Of a file of features: at most one folder deep, never hidden, never out of its folder."""


def sign_publication(publication: Publication, manifest: FeatureManifest, *, signer: Any) -> bytes:
    """The envelope of a publication, signed.

    Raises:
        InputError: If the key cannot sign.
    """
    return seal(_statement(publication, manifest), signer)


def check_publication(folder: Path, *, trusted: Mapping[str, Any]) -> SignedPublication:
    """A publication whose envelope a trusted key signed, and whose manifest is the one that was signed; files are not read.

    Args:
        folder: Named by the digest of the features.
        trusted: Public keys of publishers, by key id.

    Raises:
        InputError: If the manifest or the envelope cannot be read.
        NotApprovedError: If the signature is not a trusted publisher's or does not hold, or it is about something else.
    """
    subject = f"features {folder.name[:12]}"
    opened = open_envelope(_read(folder / ENVELOPE_FILE), trusted=trusted, subject=subject)
    content = _read(folder / MANIFEST_FILE)
    publication = predicate_of(opened.payload, subject)
    if (found := digest_bytes(content)) != publication.features or publication.features != folder.name:
        raise NotApprovedError(
            f"{subject}: its {MANIFEST_FILE} has digest {found[:12]} and the signature is for {publication.features[:12]}; "
            "needed the same, and the folder's name. Publish again."
        )
    manifest = documents.parse(FeatureManifest, content, subject=f"{subject}, {MANIFEST_FILE}")
    if strange := [name for name in manifest.files if not _FILE_NAME.fullmatch(name)]:
        raise FaultyInputError(
            subject, [Fault(repr(name)[:80], "no name of a file of features", "one") for name in strange]
        )
    if _statement(publication, manifest) != opened.payload or publication.release != manifest.release:
        raise NotApprovedError(
            f"{subject}: its statement is about other files, or written otherwise, than its manifest."
        )
    return SignedPublication(publication, manifest, opened.key_id)


def _statement(publication: Publication, manifest: FeatureManifest) -> bytes:
    subjects = {**manifest.files, MANIFEST_FILE: publication.features}
    return canonical_json(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": name, "digest": {"sha256": sha}} for name, sha in sorted(subjects.items())],
            "predicateType": PREDICATE_TYPE,
            "predicate": asdict(publication),
        }
    )


def predicate_of(payload: bytes, subject: str) -> Publication:
    """The publication in a statement's payload.

    Raises:
        NotApprovedError: If it is no such statement.
    """
    try:
        value = json.loads(payload)
        kind, predicate = value["predicateType"], canonical_json(value["predicate"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise NotApprovedError(f"{subject}: its payload is no in-toto Statement ({type(error).__name__}).") from error
    if kind != PREDICATE_TYPE:
        raise NotApprovedError(
            f"{subject}: attests {kind!r}; needed {PREDICATE_TYPE!r}. It is another kind of attestation."
        )
    try:
        return documents.parse(Publication, predicate, subject=f"{subject}, predicate")
    except InputError as error:
        raise NotApprovedError(f"{subject}: its predicate is not one that this rankgate reads. {error}") from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InputError(
            f"features {path.parent.name[:12]}: {path.name} cannot be read ({error.strerror}); needed a publication."
        ) from error
    if len(content) > _MOST_BYTES:
        raise InputError(f"features {path.parent.name[:12]}: {path.name} is longer than {_MOST_BYTES:,} bytes.")
    return content
