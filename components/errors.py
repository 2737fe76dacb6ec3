"""The one family of errors, an exit code each.

Every message answers four questions: which thing, what was found, what was needed, what to do next. A loader collects
all faults of a file and raises once, so that a person mends a file in one go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches


class RankgateError(Exception):
    """Our own fault unless a subclass says otherwise."""

    exit_code = 1


class InputError(RankgateError):
    """What was given cannot be used: a file, a key, a table, an option."""

    exit_code = 2


class BlockedError(RankgateError):
    """A gate has said no. Everything measured is kept."""

    exit_code = 3


class NotApprovedError(RankgateError):
    """There is no valid approval for what was asked."""

    exit_code = 4


class EvidenceError(InputError):
    """A question could not be measured on the data it was given."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with an input.

    `where` names the place (file and key, or table and column), `found` what stands there, `needed` what should,
    `remedy` the next action, when it is not obvious from `needed`.
    """

    where: str
    found: str
    needed: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: found {self.found}; needed {self.needed}."
        return f"{text} {self.remedy}".rstrip()


class FaultyInputError(InputError):
    """Every fault of one input, collected before raising."""

    def __init__(self, subject: str, faults: Sequence[Fault]) -> None:
        if not faults:
            raise ValueError("a FaultyInputError needs at least one fault")
        self.subject = subject
        self.faults = tuple(faults)
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        super().__init__("\n".join([f"{subject}: {count}", *(f"  - {fault}" for fault in faults)]))

    def __reduce__(self) -> tuple[type[FaultyInputError], tuple[str, tuple[Fault, ...]]]:
        # The base class would be made again from the message alone when it crosses a process's border.
        return type(self), (self.subject, self.faults)


def nearest(word: str, known: Sequence[str]) -> str:
    """The sentence that suggests the known word closest to `word`, or lists what is known."""
    close = get_close_matches(word, known, n=1)
    return f"Did you mean '{close[0]}'?" if close else f"Known: {', '.join(sorted(known))}."
