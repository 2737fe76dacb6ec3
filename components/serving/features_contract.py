"""Published features: what a service looks up, newer than what lies in its release, and who published it.

A root is a folder, on a disk or a volume that services mount:

    <digest>/features.json           `FeatureManifest`; `digest` is the sha256 of this file, which names every other one's
    <digest>/publication.dsse.json   the envelope of its in-toto Statement: subjects are all files, the predicate a `Publication`
    <digest>/users.parquet, items.parquet, dataset.json, tables/, candidates/     as in a ranker's folder
    <digest>/online/                 the tables laid out for services (`dataset.laid_out`); absent where they are too large for it
    current                          link to the folder in service; where a volume has no links, a file that holds its digest
    .lock, .<name>.*                 a publisher at work, or one that was killed

A folder appears whole, by one rename, and is never written to again but for its envelope, which is replaced as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SCHEMA_VERSION = 1

PREDICATE_TYPE = "https://rankgate.dev/attestation/features/v1"
MANIFEST_FILE = "features.json"
ENVELOPE_FILE = "publication.dsse.json"
POINTER = "current"


@dataclass(frozen=True, slots=True)
class FeatureManifest:
    """What a folder of features is made for and of."""

    schema_version: int
    run: str
    release: str
    """Digest of the release whose ranker looks them up."""
    ranker: str
    """Tree digest of that ranker."""
    contract: str
    """sha256 of what the dataset contract means."""
    feature_list: str
    """sha256 of the declarative list."""
    snapshot: str
    """Digest of the snapshot's rows."""
    latest_bucket: int
    as_of: str
    """Features know events before this moment, the start of the latest bucket; ISO 8601, UTC."""
    events_until: str
    """Time of the latest event that they know; ISO 8601, UTC."""
    events: int
    users: int
    items: int
    files: dict[str, str]
    """sha256 of each file, by relative path."""


@dataclass(frozen=True, slots=True)
class Publication:
    """A publisher's signed word that these features are to be served."""

    schema_version: int
    features: str
    """sha256 of features.json."""
    release: str
    published_by: str
    published_at: str
    """ISO 8601, UTC, with microseconds; of one root's publications each is later than the one before."""
    put_back: bool
    """True where they are meant to be served although newer ones were: a roll back, or a forced publication."""


@dataclass(frozen=True, slots=True)
class SignedPublication:
    """A publication whose signature holds."""

    publication: Publication
    manifest: FeatureManifest
    key_id: str

    @property
    def digest(self) -> str:
        """Names the features everywhere: folder, metrics, /release."""
        return self.publication.features


@dataclass(frozen=True, slots=True)
class FeatureState:
    """How things stand, for whoever watches."""

    digest: str
    """Of the publication in service; empty where those of the release are."""
    published_at: str
    published_by: str
    swaps: int
    refused: Mapping[str, int]
    """By reason."""
    looked_at: float
    """When the root was last looked at with success, seconds since 1970; 0 for never."""
