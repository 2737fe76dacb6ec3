"""Names for content: sha256 of bytes, files, trees and canonical JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20


def canonical_json(value: Any) -> bytes:
    """The one JSON text of a value: sorted keys, no spaces, UTF-8, no NaN or infinity.

    Raises:
        ValueError: If the value holds NaN or an infinity: a document that a gate reads must not.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def digest_bytes(content: bytes) -> str:
    """sha256, 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def digest_json(value: Any) -> str:
    """sha256 of the canonical JSON of a value."""
    return digest_bytes(canonical_json(value))


def digest_file(path: Path) -> str:
    """sha256 of a file's bytes, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def tree_files(root: Path) -> Iterator[tuple[str, Path]]:
    """Relative POSIX path and path of each regular file below `root`, ascending; links are followed.

    A file stands for itself, under its own name.
    """
    if root.is_file():
        yield root.name, root
        return
    found = [(path.relative_to(root).as_posix(), path) for path in root.rglob("*") if path.is_file()]
    yield from sorted(found)


def digest_tree(root: Path) -> str:
    """sha256 over the relative paths and contents of all files below `root`.

    Modes, times, owners and empty directories do not count. One file has the digest of a tree that holds only it.

    Raises:
        FileNotFoundError: If there is nothing at `root`.
    """
    if not root.exists():
        raise FileNotFoundError(root)
    return digest_json({name: digest_file(path) for name, path in tree_files(root)})
