"""Who sits at the desk: where runs lie, whose key signs, whose waivers count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.approval.keys import open_signer, open_trusted
from components.approval.people import is_same_person
from components.errors import Fault, FaultyInputError, InputError
from pipelines.runs import Home, Run


@dataclass(frozen=True, slots=True)
class Reviewer:
    """Who decides, and what they sign with."""

    name: str
    key: str
    """A file or a URI, as `components.approval.keys` has it."""
    public: Any
    """securesystemslib's public half of it: asked for once, because the key may lie in a service far away."""

    @property
    def key_id(self) -> str:
        return str(self.public.keyid)


@dataclass(frozen=True, slots=True)
class Desk:
    """What one start of `rankgate review` was given."""

    home: Home
    reviewer: Reviewer | None
    """None where the desk is only for reading."""
    trusted: tuple[Path, ...] = ()
    """Public keys of people whose waivers count, and by which earlier decisions are checked."""

    def run(self, name: str) -> Run | None:
        """The run of exactly this name; None where there is none. A name is never joined to a path before it is known."""
        known = {path.parent.name for path in (self.home.root / "runs").glob("*/request.json")}
        return self.home.run_at(name) if name in known else None

    def is_own(self, submitter: str) -> bool:
        """Whether the reviewer asked for a run of this submitter."""
        return self.reviewer is not None and is_same_person(self.reviewer.name, submitter)


def open_desk(home: Home, *, key: str, name: str, trusted: Sequence[Path]) -> Desk:
    """A desk whose key can sign and whose trusted keys can be read, or none at all.

    Args:
        home: Where runs are kept.
        key: The reviewer's private key, a file or a URI; empty for a desk that is only for reading.
        name: Who decides; given with a key, and only then.
        trusted: Public keys: files, or folders of `*.pub`.

    Raises:
        InputError: If there is no run to look at, or a key cannot be used.
        FaultyInputError: If a key comes without a name, or a name without a key.
    """
    if bool(key) != bool(name.strip()):
        raise FaultyInputError(
            "options",
            [
                Fault("--as", "no name", "who decides, such as reviewer@example.com")
                if key
                else Fault("--key", "no key", "the private key that signs", "Leave both out to read only.")
            ],
        )
    if not home.runs():
        raise InputError(f"runs: there are none below {home.root}; needed at least one. Start one: rankgate demo")
    if trusted:
        open_trusted(trusted)
    if not key:
        return Desk(home, None, tuple(trusted))
    if not name.strip().isprintable():
        raise InputError(f"--as: found {name!r}; needed the name or address of a person.")
    return Desk(home, Reviewer(name.strip(), key, open_signer(key).public_key), tuple(trusted))


def now() -> datetime:
    """The moment, in UTC."""
    return datetime.now(UTC)
