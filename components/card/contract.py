"""What leaves the card room: a Model card, the document that a reviewer reads and an approval signs.

A card is a directory:

    card.html            one self-contained page: no network, no script needed to read it
    card.md              Markdown with Hugging Face front matter
    card.json            this module's `Card`: every figure that the other two show, and the digests
"""

from __future__ import annotations

from dataclasses import dataclass

from components.dataset.contract import Dataset
from components.events.contract import Snapshot
from components.evidence.contract import Evidence
from components.ranker.contract import Ranker, Rankings
from components.verdict.contract import Verdict

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Lineage:
    """Digest of each thing the card speaks of; tree digests for directories (`components.artifacts.digests`)."""

    request: str
    """Digest of the run request: contract, policy, sources, seed, code."""
    code: str
    snapshot: str
    dataset: str
    ranker: str
    rankings: str
    evidence: dict[str, str]
    policy: str
    verdict: str
    incumbent: str
    """Empty for a first release."""


@dataclass(frozen=True, slots=True)
class Purpose:
    """What the team says of its model; empty strings are shown as not yet written."""

    intended_use: str
    out_of_scope: str
    surfaces: str
    main_parameters: str
    risks: str
    oversight: str
    owner: str


@dataclass(frozen=True, slots=True)
class Waived:
    """A signed waiver as the card tells it. The card believes what it is told; an approval checks every signature."""

    criterion: str
    waived_by: str
    reason: str
    waived_at: str
    """ISO 8601, UTC."""
    until: str
    """Last day on which it holds, ISO 8601, UTC."""
    digest: str
    """sha256 of the waiver's payload."""
    key_id: str


@dataclass(frozen=True, slots=True)
class Card:
    schema_version: int
    run: str
    name: str
    created_at: str
    """ISO 8601, UTC."""
    submitted_by: str
    purpose: Purpose
    snapshot: Snapshot
    dataset: Dataset
    ranker: Ranker
    rankings: Rankings
    evidence: dict[str, Evidence]
    verdict: Verdict
    lineage: Lineage
    libraries: dict[str, str]
    waivers: tuple[Waived, ...] = ()
    """Ordered by criterion; the verdict's own words stay as they are."""
