"""Signing keys: made here as Ed25519 files, or held by a KMS or HSM that securesystemslib can reach.

A key is named by its file, or by a URI of securesystemslib's (`hsm:`, `gcpkms:`, `awskms:`, `azurekms:`, `hv:` ...) with the
file of its public half after a `#`: `gcpkms:projects/.../cryptoKeyVersions/1#reviewer.pub`. Public halves are PEM files
that end in `.pub`; a key's id is the sha256 of its public half, as securesystemslib computes it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.exceptions import Error as SecureSystemsError
from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, CryptoSigner, Signer, SSlibKey

from components.errors import InputError

PUBLIC_SUFFIX = ".pub"

_FILE_SCHEME = "file2"


def new_key(path: Path) -> Path:
    """Make an Ed25519 key: the private half at `path`, readable by its owner only, the public half beside it.

    Returns:
        The public half's path, `path` with `.pub` added.

    Raises:
        InputError: If either file exists or cannot be written; no key is ever replaced.
    """
    public = path.with_name(path.name + PUBLIC_SUFFIX)
    for place in (path, public):
        if place.exists() or place.is_symlink():
            raise InputError(f"key {place}: found a file there; needed a free name, because a key is never replaced.")
    private = Ed25519PrivateKey.generate()
    public_pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_new(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600)
        _write_new(public, public_pem, mode=0o644)
    except OSError as error:
        raise InputError(f"key {path}: cannot be written ({error.strerror}).") from error
    return public


def open_signer(key: Path | str) -> Any:
    """The securesystemslib signer of a key, by file or URI.

    Raises:
        InputError: If the key cannot be used: no such file, no private key, open to other users, or a URI whose service
            cannot be reached or whose public half is not named.
    """
    text = str(key)
    scheme = text.partition(":")[0]
    if scheme in SIGNER_FOR_URI_SCHEME and scheme != _FILE_SCHEME:
        return _remote_signer(text)
    return _file_signer(Path(text.removeprefix(f"{_FILE_SCHEME}:")))


def open_trusted(places: Sequence[Path]) -> dict[str, Any]:
    """Public keys by key id, from files and from every `*.pub` in folders.

    Raises:
        InputError: If a place is missing or a file holds no public key, or there is no key at all.
    """
    files: list[Path] = []
    for place in places:
        if place.is_dir():
            files += sorted(path for path in place.iterdir() if path.suffix == PUBLIC_SUFFIX)
        else:
            files.append(place)
    if not files:
        named = ", ".join(map(str, places)) or "nothing"
        raise InputError(f"trusted keys: found no {PUBLIC_SUFFIX} file in {named}; needed at least one reviewer's key.")
    return {key.keyid: key for key in map(load_public, files)}


def load_public(path: Path) -> Any:
    """A public key from its PEM file.

    Raises:
        InputError: If the file cannot be read or holds no public key.
    """
    content = _read(path)
    if b"PRIVATE KEY-----" in content:
        raise InputError(
            f"key {path}: found a private key; needed the public half, which has {PUBLIC_SUFFIX} at its end. "
            "Keep the private one to its owner."
        )
    try:
        return SSlibKey.from_crypto(load_pem_public_key(content))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(
            f"key {path}: found no PEM public key ({error}); needed one that rankgate keys made."
        ) from error


def _file_signer(path: Path) -> Any:
    content = _read(path)
    if os.name == "posix" and (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
        raise InputError(
            f"key {path}: found mode {mode:04o}, so others can read it; needed 0600. "
            f"If nobody has: chmod 600 {path}. Otherwise make a new key."
        )
    try:
        return CryptoSigner(load_pem_private_key(content, password=None))
    except (TypeError, ValueError, UnsupportedAlgorithm, SecureSystemsError) as error:
        raise InputError(
            f"key {path}: found no usable PEM private key ({error}); needed one such as rankgate keys new makes."
        ) from error


def _remote_signer(uri: str) -> Any:
    place, _, public = uri.partition("#")
    if not public:
        raise InputError(
            f"key {place}: found no public half; needed its file after a #, such as {place}#reviewer{PUBLIC_SUFFIX}."
        )
    key = load_public(Path(public))
    try:
        return Signer.from_priv_key_uri(place, key)
    except Exception as error:
        # Each service fails in its own way (network, login, a missing client library): securesystemslib names none of them.
        raise InputError(f"key {place}: cannot be used ({type(error).__name__}: {error}).") from error


def _write_new(path: Path, content: bytes, *, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"key {path}: cannot be read ({error.strerror}).") from error
