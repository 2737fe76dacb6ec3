"""Who decides is another person than who asked: names, and whether two of them are the same."""

from __future__ import annotations

import unicodedata

from components.errors import InputError


def name_of(text: str) -> str:
    """A name as it is compared: without case, white space around it, or the choice of how its letters are encoded."""
    return unicodedata.normalize("NFKC", text).strip().casefold()


def is_same_person(one: str, other: str) -> bool:
    """Whether two names are the same but for case, white space around them and the way their letters are encoded."""
    return name_of(one) == name_of(other)


def two_people(*, submitter: str, other: str, role: str) -> tuple[str, str]:
    """Submitter and the other person's name, trimmed.

    Args:
        submitter: Who asked for the run.
        other: Who decides or waives.
        role: What the other person is called in errors.

    Raises:
        InputError: If one of them has no readable name, or both are the same person.
    """
    for called, name in (("submitter", submitter), (role, other)):
        if not name.strip() or not name.strip().isprintable():
            raise InputError(f"{called}: found {name!r}; needed the name or address of a person.")
    if is_same_person(submitter, other):
        raise InputError(
            f"{role}: found {other.strip()!r}, who submitted this run; needed another person. "
            "Nobody decides on their own run."
        )
    return submitter.strip(), other.strip()
