"""What leaves the approval room: an Approval, a person's signed decision over the very card that they read, and Waivers.

An approval is one DSSE envelope (approval.dsse.json) whose payload is an in-toto Statement: subjects are the files of the
card, the verdict, the ranker and the policy by sha256, and of the waivers that it rests on; the predicate is this module's
`Approval`. A waiver is such an envelope too (<criterion>.dsse.json): subjects are the files of the verdict and the policy,
the predicate is this module's `Waiver`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

SCHEMA_VERSION = 2
"""1 knew no waivers; approvals of that version are still read."""

PREDICATE_TYPE = "https://rankgate.dev/attestation/approval/v1"
WAIVER_PREDICATE_TYPE = "https://rankgate.dev/attestation/waiver/v1"


@dataclass(frozen=True, slots=True)
class Approval:
    schema_version: int
    run: str
    decision: Literal["approved", "refused", "asked"]
    """`asked`: the reason is a question to the submitter; like a refusal it lets nothing out."""
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
    waivers: dict[str, str] = field(default_factory=dict)
    """Digest of each waiver that the decision rests on, by criterion; empty where the verdict passed."""


@dataclass(frozen=True, slots=True)
class Release:
    """What an approval lets out. `digest` names it everywhere: ledger, manifests, service, exposure log."""

    digest: str
    """sha256 over the approval's payload."""
    approval: Approval
    key_id: str


@dataclass(frozen=True, slots=True)
class WaivedFinding:
    """One finding that was signed for, by what it is about; its figures are in the verdict that the waiver names."""

    answer: Literal["fail", "insufficient"]
    subject: str
    versus: str
    segment: dict[str, str]


@dataclass(frozen=True, slots=True)
class Waiver:
    """A person's word that a release may go out although one criterion stops it, for a reason and a time."""

    schema_version: int
    run: str
    criterion: str
    verdict: str
    """Tree digest of the verdict that was waived: another verdict, another waiver."""
    policy: str
    findings: tuple[WaivedFinding, ...]
    """All for which the criterion stops the release."""
    waived_by: str
    """An address or account name; never the submitter's."""
    submitter: str
    reason: str
    waived_at: str
    """ISO 8601, UTC."""
    until: str
    """Last day on which it holds, to its end: ISO 8601, UTC."""


@dataclass(frozen=True, slots=True)
class SignedWaiver:
    """A waiver with its name and who signed it."""

    digest: str
    """sha256 over the waiver's payload."""
    waiver: Waiver
    key_id: str
