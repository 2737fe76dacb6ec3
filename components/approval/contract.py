"""What leaves the approval room: an Approval, a person's signed decision over the very card that they read.

An approval is one DSSE envelope (approval.dsse.json) whose payload is an in-toto Statement: subjects are the files of the
card and the ranker by sha256, the predicate is this module's `Approval`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SCHEMA_VERSION = 1

PREDICATE_TYPE = "https://rankgate.dev/attestation/approval/v1"


@dataclass(frozen=True, slots=True)
class Approval:
    schema_version: int
    run: str
    decision: Literal["approved", "refused"]
    approver: str
    """An address or account name; never the submitter's."""
    submitter: str
    reason: str
    decided_at: str
    """ISO 8601, UTC."""
    card: str
    """sha256 of card.html, card.md and card.json together (tree digest of the card)."""
    verdict: str
    ranker: str
    policy: str


@dataclass(frozen=True, slots=True)
class Release:
    """What an approval lets out. `digest` names it everywhere: ledger, manifests, service, exposure log."""

    digest: str
    """sha256 over the approval's payload."""
    approval: Approval
    key_id: str
