"""What was found, a line of JSON each: the only state of a trial. Killed at any moment, it goes on from its whole lines."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from components.errors import InputError
from pipelines.trials.measuring import Answer


@dataclass(frozen=True, slots=True)
class Record:
    """One judged run."""

    code: str
    """Digest of what judged it: records of other code are not of this trial."""
    world: str
    seed: int
    harm: str
    """`clean` where nothing was planted."""
    strength: str
    answer: Answer
    """Of all blocking criteria among the questions that were asked."""
    caught: Answer
    """The gravest answer among the harm's targets; of a clean run the same as `answer`."""
    failed: tuple[str, ...]
    """Blocking criteria that failed."""
    unsure: tuple[str, ...]
    """Blocking criteria that could not be settled."""
    peers: dict[str, bool]
    """Whether each peer's defaults flag the run."""
    users: int
    planted: float
    """Share or size that was planted."""
    reached: float
    """Margins that the planted share amounts to, on average over seeds; 0 for a strength that is no margin."""
    adequate: bool
    """Whether n is large enough to promise that this is caught; true where strengths are no margins."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """A file of records."""

    place: Path

    def read(self, code: str) -> list[Record]:
        """The whole records of this code, in the order they were written; a line that was cut off is passed over."""
        if not self.place.exists():
            return []
        found = []
        lines = self.place.read_bytes().split(b"\n")
        for number, line in enumerate(lines, start=1):
            if not line:
                continue
            try:
                value = json.loads(line)
                if value["code"] == code:
                    found.append(_record(value))
            except (ValueError, KeyError, TypeError) as error:
                if number == len(lines):
                    continue
                raise InputError(
                    f"{self.place.name}, line {number}: found no record ({error}); needed one a line. "
                    "Remove the line, or start anew with another --work."
                ) from error
        return found

    def add(self, records: Iterable[Record]) -> None:
        """Append records and see them on the disk."""
        lines = b"".join(json.dumps(asdict(record), sort_keys=True).encode() + b"\n" for record in records)
        self.place.parent.mkdir(parents=True, exist_ok=True)
        with self.place.open("a+b") as file:
            file.seek(0, os.SEEK_END)
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    # The last writer was killed within a line: end it, so that ours begin on their own.
                    lines = b"\n" + lines
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())


def _record(value: dict[str, object]) -> Record:
    names = {field.name for field in fields(Record)}
    if value.keys() != names:
        raise KeyError(", ".join(sorted(value.keys() ^ names)))
    read = {name: tuple(held) if isinstance(held, list) else held for name, held in value.items()}
    return Record(**read)  # type: ignore[arg-type]  # as written by `add`
