"""Artefacts in S3-compatible object storage: a folder below a prefix, named by its tree digest and checked against it.

`s3://bucket/folder#sha256=<digest>` names a folder and what it must be. The digest in the name makes a step that reads it
another step when the folder's content is another, and lets whoever reads it refuse what was put there instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from components.artifacts.digests import digest_tree, tree_files
from components.errors import InputError
from components.events.object_storage import SCHEME, copy_object, find_objects, has_objects, store_object

_MARK = "#sha256="
_DIGEST = re.compile(r"^[0-9a-f]{64}$")


def named(place: str, digest: str) -> str:
    """The name of a folder together with what it must be."""
    return f"{place.rstrip('/')}{_MARK}{digest}"


def split_name(name: str) -> tuple[str, str]:
    """Place and digest of a folder's name; the digest is empty where the name tells none.

    Raises:
        InputError: If it is no s3:// place, or what follows the mark is no sha256.
    """
    place, mark, digest = name.partition(_MARK)
    if not place.startswith(SCHEME) or (mark and not _DIGEST.match(digest)):
        raise InputError(f"{name}: needed s3://bucket/folder, with {_MARK}<64 hexadecimal digits> where it is checked.")
    return place.rstrip("/"), digest


def fetch_folder(name: str, out: Path) -> str:
    """Copy all objects below a folder's prefix into `out`; returns their tree digest.

    Raises:
        InputError: If there are none, they cannot be read, or they are not what the name says.
    """
    place, wanted = split_name(name)
    prefix = place.removeprefix(SCHEME)
    for path in find_objects(f"{place}/**"):
        copy_object(path, out / path.removeprefix(f"{prefix}/"))
    found = digest_tree(out)
    if wanted and found != wanted:
        raise InputError(
            f"{place}: its files have the digest {found[:12]}; needed {wanted[:12]}. Something else was put there: "
            "restore what was, or name what is there now."
        )
    return found


def keep_folder(folder: Path, root: str) -> str:
    """Put a folder below `root`, at a place named by its digest, unless it is there; returns its name with the digest.

    The files are written before the object complete/<digest>, so that half a folder is never taken for a whole one.

    Raises:
        InputError: If the storage cannot be reached or written.
    """
    digest = digest_tree(folder)
    below = split_name(root)[0]
    place, marker = f"{below}/objects/{digest[:2]}/{digest}", f"{below}/complete/{digest}"
    if not has_objects(marker):
        for relative, path in tree_files(folder):
            with path.open("rb") as stream:
                store_object(stream, f"{place}/{relative}")
        store_object(BytesIO(b"complete\n"), marker)
    return named(place, digest)


def digest_named(name: str) -> str:
    """Tree digest of the folder that a name means, without fetching it; empty for an empty name.

    Raises:
        InputError: If it is in object storage and the name does not tell what it must be.
    """
    if not name:
        return ""
    if "://" not in name:
        return digest_tree(Path(name))
    place, digest = split_name(name)
    if not digest:
        raise InputError(f"{place}: found no digest beside it; needed {place}{_MARK}<its tree digest>.")
    return digest


@contextmanager
def at_hand(name: str) -> Iterator[Path | None]:
    """The folder on this machine that a name means: fetched where it is in object storage; None for an empty name."""
    if not name:
        yield None
    elif "://" not in name:
        yield Path(name)
    else:
        with TemporaryDirectory(prefix="rankgate-folder-") as folder:
            fetch_folder(name, Path(folder))
            yield Path(folder)
