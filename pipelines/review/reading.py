"""What a reviewer looks at: the card of a run as it is now, and the decision that lies beside it.

All that the desk's pages tell of a run is read out of card.json, one of the three files that a decision signs: what was drilled
into is part of what was signed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from components.approval.approve import APPROVAL_FILE
from components.approval.contract import Approval
from components.approval.envelope import open_envelope, read_unchecked
from components.approval.keys import open_trusted
from components.approval.statement import read_statement
from components.artifacts import documents
from components.artifacts.digests import digest_bytes
from components.card.contract import Card
from components.errors import NotApprovedError
from pipelines.review.desk import Desk
from pipelines.runs import REWRITTEN_FILE, Rewritten, Run

Signature = Literal["holds", "unchecked", "broken"]

_MOST_CARDS = 16


@dataclass(frozen=True, slots=True)
class Shown:
    """The card of a run, as its bytes are now."""

    digest: str
    """Tree digest: what a decision signs."""
    page: str
    """sha256 of card.html."""
    card: Card


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision as it lies beside a run."""

    release: str
    """sha256 over its payload: its name everywhere."""
    approval: Approval
    key_id: str
    signature: Signature
    fault: str = ""
    """Why its signature does not hold."""


def shown_card(run: Run) -> Shown:
    """The card that a reviewer is shown, bytes checked.

    Raises:
        InputError: If the run has no card, or it cannot be read.
        RankgateError: If its bytes have changed since they were stored.
    """
    folder = run.artifact("card")
    card, page = _card(folder)
    return Shown(folder.name, page, card)


@lru_cache(maxsize=_MOST_CARDS)
def _card(folder: Path) -> tuple[Card, str]:
    """By folder, which the store names by its content."""
    return documents.load(Card, folder / "card.json"), digest_bytes((folder / "card.html").read_bytes())


def card_page(run: Run, digest: str) -> bytes | None:
    """The bytes of one of the run's own card.html: the card that it is now, or the one that the run made; None for others."""
    result = run.result
    own = {run.artifact_digests().get("card"), result.artifacts.get("card") if result else None}
    if digest not in own:
        return None
    return (run.store.get(digest) / "card.html").read_bytes()


def current_digests(run: Run) -> dict[str, str]:
    """Tree digests of a finished run's artefacts, from its result: what a list of many runs can afford."""
    result = run.result
    if result is None:
        return {}
    path = run.folder / REWRITTEN_FILE
    return result.artifacts | (documents.load(Rewritten, path).artifacts if path.exists() else {})


def envelope_of(run: Run) -> bytes | None:
    """The bytes of the decision beside a run; None where nobody has decided."""
    try:
        return (run.folder / "approval" / APPROVAL_FILE).read_bytes()
    except FileNotFoundError:
        return None


def seen_digest(envelope: bytes | None) -> str:
    """sha256 of a decision's envelope, whatever it holds; empty for none. What a form says that its page showed."""
    return "" if envelope is None else digest_bytes(envelope)


def read_decision(content: bytes, run: Run, desk: Desk) -> Decision:
    """The decision in an envelope, its signature checked as far as trusted keys go.

    Raises:
        NotApprovedError: If it is no decision.
    """
    subject = f"decision on run {run.name}"
    opened = read_unchecked(content, subject=subject)
    approval = read_statement(opened.payload, subject=subject).approval
    signature, fault = _signature(content, opened.key_id, desk, subject)
    return Decision(digest_bytes(opened.payload), approval, opened.key_id, signature, fault)


def _signature(content: bytes, key_id: str, desk: Desk, subject: str) -> tuple[Signature, str]:
    known = open_trusted(desk.trusted) if desk.trusted else {}
    if desk.reviewer:
        # The key that is in use here; its public half need not lie in a file.
        known = {desk.reviewer.key_id: desk.reviewer.public, **known}
    if key_id not in known:
        return "unchecked", ""
    try:
        open_envelope(content, trusted=known, subject=subject)
    except NotApprovedError as error:
        return "broken", str(error)
    return "holds", ""
