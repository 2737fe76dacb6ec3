"""What leaves the package room: a Bento whose service ranks with exactly the ranker that was approved.

A package is a directory: package.json (`Package`), ranker.tar (the exported bento) and sbom.cdx.json (its bill of materials,
CycloneDX 1.6).
"""

from __future__ import annotations

from dataclasses import dataclass

SCHEMA_VERSION = 2
"""1 had no bill of materials; such a package is built again."""


@dataclass(frozen=True, slots=True)
class Package:
    schema_version: int
    run: str
    release: str
    """Digest of the release (`components.approval.contract.Release`)."""
    ranker: str
    """Tree digest of the ranker inside."""
    bento_tag: str
    """`name:version`; the version is derived from the release digest."""
    service: str
    size_bytes: int
    files: dict[str, str]
    """sha256 of each file of the ranker as it lies in the bento."""
    sbom: str
    """sha256 of sbom.cdx.json."""
