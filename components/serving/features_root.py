"""The root that features are published into: the pointer, its atomic change, what lies there, what may go.

Whoever reads the root follows the pointer once and then reads the folder by its digest, so nobody sees half of a change.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from components.artifacts.digests import tree_files
from components.artifacts.files import write_atomically
from components.errors import InputError
from components.serving.features_contract import POINTER

_DIGEST = re.compile(r"[0-9a-f]{64}")
_LOCK = ".lock"
_WORK = ".publishing."
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES)
_PATIENCE_SECONDS = 10.0


def read_pointer(root: Path) -> str | None:
    """Digest that the root points at; None where nothing is published.

    Raises:
        InputError: If the pointer cannot be read, or names no digest.
    """
    place = root / POINTER
    try:
        try:
            said = os.readlink(place)  # noqa: PTH115  the text itself, not a path
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            said = place.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a digest"
        raise InputError(f"features {place}: cannot be read ({reason}); needed a link to a publication.") from error
    if not _DIGEST.fullmatch(said):
        raise InputError(f"features {place}: found {said[:80]!r}; needed the digest of a publication beside it.")
    return said


def point_at(root: Path, digest: str) -> None:
    """Let the root point at a publication: readers see the one before, or this one.

    Raises:
        OSError: If the root cannot be written.
    """
    place, beside = root / POINTER, root / f".{POINTER}.{secrets.token_hex(8)}"
    try:
        beside.symlink_to(digest)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Volumes of object stores and of Windows shares know no links.
        write_atomically(place, digest.encode() + b"\n")
    else:
        beside.replace(place)
    flush(root)


def digests_in(root: Path) -> list[str]:
    """Digests of the folders that lie there, whatever is in them, ascending."""
    if not root.is_dir():
        return []
    return sorted(path.name for path in root.iterdir() if _DIGEST.fullmatch(path.name) and path.is_dir())


@contextmanager
def publishing(root: Path) -> Iterator[Path]:
    """A new folder in the root to write into, while nobody else publishes there; what killed publishers left is removed.

    Raises:
        InputError: If the root cannot be written, or another publisher goes on working there.
    """
    with locked(root):
        for left in root.glob(f"{_WORK}*"):
            shutil.rmtree(left, ignore_errors=True)
        for left in root.glob(f".{POINTER}.*"):
            left.unlink(missing_ok=True)
        folder = root / f"{_WORK}{secrets.token_hex(8)}"
        try:
            folder.mkdir(mode=0o755)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the root against other publishers.

    Raises:
        InputError: If it cannot be written, or somebody else goes on holding it.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        stream = (root / _LOCK).open("a")
    except OSError as error:
        raise InputError(
            f"features {root}: cannot be written ({error.strerror}); needed a folder to publish into."
        ) from error
    with stream:
        patience = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno in (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK):
                    # A volume without locks: that one publisher works at a time is its owner's to see to.
                    break
                if time.monotonic() > patience:
                    raise InputError(
                        f"features {root}: another publisher is at work there; needed it free. Wait for that one, or stop it."
                    ) from error
                time.sleep(0.2)
        yield


def place(folder: Path, root: Path, digest: str) -> Path:
    """Give a finished folder its name, once its bytes are on the disk; what lies there under that name is replaced."""
    for _, path in tree_files(folder):
        flush(path)
    for inner in sorted({path.parent for _, path in tree_files(folder)}):
        flush(inner)
    final = root / digest
    if final.exists():
        # Whole, its bytes would be these; it is not, or nobody would place them anew.
        final.rename(root / f"{_WORK}{secrets.token_hex(8)}")
    folder.rename(final)
    flush(root)
    return final


def prune(root: Path, *, order: Sequence[str], keep: int) -> list[str]:
    """Remove all but `keep` publications, never the one that is pointed at; returns what was removed.

    Args:
        root: The root, locked by the caller.
        order: Digests, newest first; those that are not among them count as oldest.
        keep: At least 1.
    """
    known = {digest: age for age, digest in enumerate(order)}
    current = read_pointer(root)
    by_age = sorted(digests_in(root), key=lambda digest: (digest != current, known.get(digest, len(known)), digest))
    removed = by_age[keep:]
    for digest in removed:
        # Out of sight by one rename: nobody finds half a folder under a digest.
        gone = root / f"{_WORK}{secrets.token_hex(8)}"
        (root / digest).rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
    return removed


def flush(path: Path) -> None:
    """Have the system put a file, or what a folder lists, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
