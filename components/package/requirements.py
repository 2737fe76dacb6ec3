"""What a service needs installed, cut out of the project's lock: versions and hashes as they were tested."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from components.errors import InputError

_PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==")


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
