"""What a service needs installed, cut out of the project's lock: versions, hashes and licences as they were tested."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from components.errors import InputError

_PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_CLASSIFIER = re.compile(r"^License :: (?:OSI Approved :: )?(.+)$")
_LONGEST_NAME = 100
"""Of a licence; some distributions have its whole text where its name belongs."""


@dataclass(frozen=True, slots=True)
class LockedLibrary:
    """One entry of a lock."""

    name: str
    version: str
    hashes: tuple[str, ...]
    """sha256 of each file that may be installed, ascending."""
    requires: tuple[str, ...]
    """Names of what it needs, ascending; some may be missing from the lock on purpose."""

    @property
    def purl(self) -> str:
        """Its package URL."""
        return f"pkg:pypi/{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class Licences:
    """What a distribution says of its licence: an SPDX expression, or names; nothing where it says nothing."""

    expression: str = ""
    names: tuple[str, ...] = ()


def cut_lock(lock: str, roots: Iterable[str]) -> str:
    """The entries of `lock` that `roots` and all that they require need, in the lock's order.

    Args:
        lock: A requirements file with one pinned, hashed entry a package.
        roots: Names of the distributions that are imported.

    Raises:
        InputError: If a root is not locked, or not installed (its requirements cannot be read then).
    """
    entries = _entries(lock)
    needed: set[str] = set()
    waiting: list[str] = [canonicalize_name(root) for root in roots]
    if missing := [root for root in waiting if root not in entries]:
        raise InputError(f"lock: found no entry for {', '.join(missing)}; needed one. Lock it: .ci/lock")
    while waiting:
        name = waiting.pop()
        if name in needed or name not in entries:
            # Left out of the lock on purpose, such as the CUDA libraries that a CPU never loads.
            continue
        needed.add(name)
        waiting += _requirements(name)
    return "".join(entry for name, entry in entries.items() if name in needed)


def locked_libraries(lock: str) -> tuple[LockedLibrary, ...]:
    """The entries of a lock, in its order.

    Raises:
        InputError: If one of them is not installed (what it requires cannot be read then).
    """
    found = []
    for name, entry in _entries(lock).items():
        pinned = _PINNED.match(entry)
        if pinned is None:  # pragma: no cover  # an entry begins with what made it one
            raise InputError(f"lock: found {entry[:60]!r}; needed name==version.")
        hashes = tuple(sorted(_HASH.findall(entry)))
        found.append(LockedLibrary(name, pinned.group(2), hashes, tuple(sorted(set(_requirements(name))))))
    return tuple(found)


def licences_of(library: LockedLibrary) -> Licences:
    """What the installed distribution says, where it is the locked version: of another one nothing is known."""
    try:
        said = metadata(library.name)
    except PackageNotFoundError:
        return Licences()
    if said["Version"] != library.version:
        return Licences()
    if expressions := said.get_all("License-Expression"):
        return Licences(expression=expressions[0])
    classified = [match.group(1) for line in said.get_all("Classifier", []) if (match := _CLASSIFIER.match(line))]
    if classified:
        return Licences(names=tuple(dict.fromkeys(classified)))
    name = "".join(said.get_all("License", [])[:1]).strip()
    usable = name and "\n" not in name and len(name) <= _LONGEST_NAME and name.upper() != "UNKNOWN"
    return Licences(names=(name,) if usable else ())


def _entries(lock: str) -> dict[str, str]:
    entries: dict[str, str] = {}
    current = ""
    for line in lock.splitlines(keepends=True):
        if match := _PINNED.match(line):
            current = canonicalize_name(match.group(1))
            entries[current] = ""
        if current and not line.startswith("#"):
            entries[current] += line
    return entries


def _requirements(name: str) -> list[str]:
    try:
        found = requires(name) or []
    except PackageNotFoundError as error:
        raise InputError(
            f"package {name}: locked but not installed here; needed it, to read what it requires. "
            "Install the lock into this environment."
        ) from error
    parsed = [Requirement(text) for text in found]
    # Extras are asked for by name in a few requirements only; taking them all costs megabytes, not correctness.
    return [
        canonicalize_name(requirement.name)
        for requirement in parsed
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    ]
