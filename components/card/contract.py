"""What leaves the card room: a Model card, the document that a reviewer reads and an approval signs.

A card is a directory:

    card.html            one self-contained page: no network, no script needed to read it
    card.md              Markdown with Hugging Face front matter
    card.json            this module's `Card`: every figure that the other two show, and the digests
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from components.dataset.contract import Dataset
from components.events.contract import Snapshot
from components.evidence.contract import Evidence
from components.ranker.contract import Ranker, Rankings
from components.verdict.contract import Purpose, Verdict

SCHEMA_VERSION = 2
"""1 knew no change log, no table of what the law asks for, and less of the team's words."""


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
class Description:
    """A run in names and words that can be laid beside another run's: what a change log is made from."""

    run: str
    digests: dict[str, str]
    """sha256 of ranker, dataset, snapshot, policy, verdict and code."""
    data: dict[str, str]
    """The log's window and counts."""
    settings: dict[str, str]
    """How it was trained, by name."""
    features: dict[str, str]
    """What each feature is made of, by its name."""
    weights: dict[str, float]
    """Share of the model's gain, by feature."""
    lists: tuple[str, ...]
    """Where candidates come from and what is done to a list, a sentence a rule."""
    policy: str
    """Name and version."""
    rules: dict[str, str]
    """What each criterion asks for, by its id; empty where the policy cannot be read."""
    libraries: dict[str, str]
    purpose: Purpose


ChangeKind = Literal["data", "settings", "features", "weights", "lists", "policy", "libraries", "purpose"]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not as it was with the incumbent; an empty side is one where it is not there at all."""

    kind: ChangeKind
    what: str
    before: str
    now: str


@dataclass(frozen=True, slots=True)
class Unwritten:
    """A field of the card that is still empty."""

    key: str
    """Key of model-card.yaml; the file that holds it where another than the team fills it."""
    label: str
    who: str
    """Who fills it."""
    asked: str
    """Who asks for it, and why."""


Coverage = Literal["here", "partly", "not covered"]


@dataclass(frozen=True, slots=True)
class Obligation:
    """One point of a law on documentation or transparency, and where the card answers it. Information, no legal advice."""

    law: str
    point: str
    asks: str
    coverage: Coverage
    where: tuple[str, ...]
    """Ids of the card's sections."""
    words: str
    """What of it is told there, and what is not."""


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
    rights: tuple[str, ...]
    """Consent, retention and deletions of the data."""
    limits: tuple[str, ...]
    """What must not be concluded."""
    changes: tuple[Change, ...]
    """Against `before`; empty for a first release."""
    before: Description | None
    """The incumbent, where its run was at hand; None for a first release."""
    unwritten: tuple[Unwritten, ...]
    obligations: tuple[Obligation, ...]
    waivers: tuple[Waived, ...] = ()
    """Ordered by criterion; the verdict's own words stay as they are."""
