"""Records as lines of JSON, the only state of a trial. Killed at any moment, it goes on from its whole lines."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from components.errors import InputError


class Kept(Protocol):
    """A flat frozen dataclass that says which code it comes from."""

    @property
    def code(self) -> str:
        """Digest of what made it: records of other code are not of this trial."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


R = TypeVar("R", bound=Kept)


class Ledger(Generic[R]):
    """A file of records of one kind."""

    def __init__(self, place: Path, kind: type[R]) -> None:
        self._place, self._kind = place, kind

    def read(self, code: str) -> list[R]:
        """The whole records of this code, in the order they were written; a last line that was cut off is passed over.

        Raises:
            InputError: If another line is no record.
        """
        if not self._place.exists():
            return []
        found = []
        lines = self._place.read_bytes().split(b"\n")
        for number, line in enumerate(lines, start=1):
            if not line:
                continue
            try:
                value = json.loads(line)
                if value["code"] == code:
                    found.append(self._record(value))
            except (ValueError, KeyError, TypeError) as error:
                if number >= len(lines) - 1:
                    continue
                raise InputError(
                    f"{self._place.name}, line {number}: found no record ({error}); needed one a line. "
                    "Remove the line, or start anew with another --work."
                ) from error
        return found

    def add(self, records: Iterable[R]) -> None:
        """Append records and see them on the disk."""
        lines = b"".join(json.dumps(asdict(record), sort_keys=True).encode() + b"\n" for record in records)
        self._place.parent.mkdir(parents=True, exist_ok=True)
        self._drop_torn_line()
        with self._place.open("ab") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())

    def _drop_torn_line(self) -> None:
        """A writer that was killed within a line left half of it: ours must begin on their own."""
        if not self._place.exists():
            return
        content = self._place.read_bytes()
        if content and not content.endswith(b"\n"):
            with self._place.open("r+b") as file:
                file.truncate(content.rfind(b"\n") + 1)

    def _record(self, value: dict[str, Any]) -> R:
        names = {field.name for field in fields(self._kind)}
        if value.keys() != names:
            raise KeyError(", ".join(sorted(value.keys() ^ names)))
        return self._kind(**{name: tuple(held) if isinstance(held, list) else held for name, held in value.items()})
