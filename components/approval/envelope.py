"""DSSE envelopes: signed, written in one form only, and opened with trusted keys only.

An envelope's text has freedom that its signature does not cover: white space, the unused bits of base64, key order, fields
beside the signature. Only the one canonical text is accepted, so that every byte of the file counts.

Source: https://github.com/secure-systems-lab/dsse/blob/master/protocol.md
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import Error as SecureSystemsError

from components.artifacts.digests import canonical_json
from components.errors import InputError, NotApprovedError

PAYLOAD_TYPE = "application/vnd.in-toto+json"

_LARGEST_BYTES = 16 << 20
_ENVELOPE_KEYS = {"payload", "payloadType", "signatures"}
_SIGNATURE_KEYS = {"keyid", "sig"}


@dataclass(frozen=True, slots=True)
class Opened:
    """A payload whose signature holds, and who signed it."""

    payload: bytes
    key_id: str


def seal(payload: bytes, signer: Any) -> bytes:
    """The canonical text of an envelope that `signer` (securesystemslib's) signs.

    Raises:
        InputError: If the key cannot sign, or its signature does not hold under its own public half.
    """
    envelope: Any = Envelope(payload, PAYLOAD_TYPE, {})
    try:
        envelope.sign(signer)
        envelope.verify([signer.public_key], 1)
    except Exception as error:
        # A KMS or HSM fails in its own way; nothing has been written yet.
        raise InputError(f"signing: the key could not sign ({type(error).__name__}: {error}).") from error
    return _text(envelope)


def open_envelope(content: bytes, *, trusted: Mapping[str, Any], subject: str) -> Opened:
    """The payload of an envelope that a trusted key signed.

    Args:
        content: The file's bytes.
        trusted: securesystemslib public keys by key id.
        subject: Names the envelope in errors.

    Raises:
        NotApprovedError: If it is no canonical envelope of our payload type with one signature, its key is not trusted, or
            the signature does not hold.
    """
    envelope = _parse(content, subject=subject)
    (key_id,) = envelope.signatures
    key = trusted.get(key_id)
    if key is None:
        known = ", ".join(sorted(found[:12] for found in trusted))
        raise NotApprovedError(
            f"{subject}: signed with the key {key_id[:12]}, which is not trusted here; trusted: {known or 'none'}. "
            "Have it signed by a trusted reviewer, or trust that key if its owner is one."
        )
    try:
        envelope.verify([key], 1)
    except SecureSystemsError as error:
        raise NotApprovedError(
            f"{subject}: the signature of key {key_id[:12]} does not hold; its content was changed after signing. "
            "Have the run reviewed and signed again."
        ) from error
    return Opened(payload=envelope.payload, key_id=key_id)


def read_unchecked(content: bytes, *, subject: str) -> Opened:
    """The payload of an envelope and the key that it says signed it, the signature unchecked: to show, never to decide by.

    Raises:
        NotApprovedError: If it is no canonical envelope of our payload type with one signature.
    """
    envelope = _parse(content, subject=subject)
    (key_id,) = envelope.signatures
    return Opened(payload=envelope.payload, key_id=key_id)


def _parse(content: bytes, *, subject: str) -> Any:
    if len(content) > _LARGEST_BYTES:
        raise NotApprovedError(
            f"{subject}: found {len(content):,} bytes; needed an envelope of {_LARGEST_BYTES:,} at most."
        )
    try:
        value = json.loads(content)
        keys_known = (
            isinstance(value, dict)
            and set(value) == _ENVELOPE_KEYS
            and all(set(signature) == _SIGNATURE_KEYS for signature in value["signatures"])
        )
        envelope: Any = Envelope.from_dict(value) if keys_known else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, SecureSystemsError) as error:
        raise NotApprovedError(f"{subject}: is not a DSSE envelope ({type(error).__name__}: {error}).") from error
    if envelope is None:
        raise NotApprovedError(
            f"{subject}: is not a DSSE envelope; needed exactly payload, payloadType and signatures of keyid and sig."
        )
    if len(envelope.signatures) != 1:
        raise NotApprovedError(f"{subject}: found {len(envelope.signatures)} signatures; needed one.")
    if envelope.payload_type != PAYLOAD_TYPE:
        raise NotApprovedError(f"{subject}: found the payload type {envelope.payload_type!r}; needed {PAYLOAD_TYPE!r}.")
    if _text(envelope) != content:
        raise NotApprovedError(
            f"{subject}: is not in the one form that rankgate writes; something rewrote the file after signing. "
            "Take the original, or have the run signed again."
        )
    return envelope


def _text(envelope: Any) -> bytes:
    return canonical_json(envelope.to_dict()) + b"\n"
