"""A decision from the desk: only over the very card that was shown, only once, and only if nobody decided in between."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import get_args, get_type_hints

from components.approval.contract import Approval, Release
from components.errors import InputError
from pipelines.releasing import decide_release
from pipelines.review.desk import Desk
from pipelines.review.reading import envelope_of, seen_digest
from pipelines.runs import Run

CHOICES: tuple[str, ...] = get_args(get_type_hints(Approval)["decision"])
"""What may be decided, as the approval room knows it."""

LONGEST_REASON = 2000

_MOST_FORMS = 4096


class ChangedError(InputError):
    """What the reviewer saw is not what is there now."""


@dataclass(frozen=True, slots=True)
class Form:
    """What a reviewer sends."""

    page: str
    """The random name of the page that the form was on: sent again, it is the same decision."""
    card: str
    """Tree digest of the card that the page showed."""
    seen: str
    """sha256 of the decision that the page showed; empty for none."""
    decision: str
    reason: str


@dataclass(slots=True)
class Decider:
    """Signs what the reviewer decides, one at a time, and remembers which forms it has signed."""

    desk: Desk
    _signed: dict[str, Release] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def decide(self, run: Run, form: Form) -> Release:
        """Sign a decision; the same form once more gets the decision that it made.

        Raises:
            ChangedError: If the card, or the decision beside it, is not the one that the page showed.
            BlockedError: If a blocked run should be approved that trusted waivers do not lift.
            InputError: If the form lacks something, the desk has no key, or the reviewer asked for the run.
        """
        with self._lock:
            if (before := self._signed.get(form.page)) is not None:
                return before
            reviewer = self.desk.reviewer
            if reviewer is None:
                raise InputError("desk: is only for reading; needed --key KEY --as NAME to decide here.")
            choice, reason = _choice(form.decision), _reason(form.reason, form.decision)
            release = decide_release(
                run,
                decision=choice,
                key=reviewer.key,
                approver=reviewer.name,
                reason=reason,
                trusted=self.desk.trusted,
                still_so=lambda: _check_unchanged(run, form),
            )
            if len(self._signed) >= _MOST_FORMS:
                self._signed.pop(next(iter(self._signed)))
            self._signed[form.page] = release
            return release


def _choice(text: str) -> str:
    if text not in CHOICES:
        raise InputError(f"decision: found {text[:40]!r}; needed one of {', '.join(CHOICES)}. Nothing was signed.")
    return text


def _reason(text: str, decision: str) -> str:
    """On one line, as whoever reads it in a terminal, a card or a log will see it."""
    said = " ".join(text.split())
    if not said and decision != "approved":
        word = "question" if decision == "asked" else "refusal"
        raise InputError(f"reason: found none; a {word} needs one that the submitter can act on. Nothing was signed.")
    if len(said) > LONGEST_REASON or not said.isprintable():
        raise InputError(
            f"reason: found {len(said):,} characters; needed printable text of at most {LONGEST_REASON:,}."
        )
    return said


def _check_unchanged(run: Run, form: Form) -> None:
    now = run.artifact_digests().get("card", "")
    if now != form.card:
        raise ChangedError(
            f"run {run.name}: its card was written anew while you read ({form.card[:12]} then, {now[:12]} now): a waiver was "
            "signed. Nothing was signed here. Read the card as it is now, and decide again."
        )
    if seen_digest(envelope_of(run)) != form.seen:
        raise ChangedError(
            f"run {run.name}: somebody decided while you read. Nothing was signed here. Read their decision below; "
            "decide again if yours should take its place."
        )
