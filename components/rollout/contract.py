"""What leaves the rollout room: the manifests of a release, and (once it runs) what became of it.

Rendered manifests are a directory: overlay/ (kustomization.yaml, what `kubectl apply -k` takes), the base/ and components/
it stands on, and rollout.json (`RolloutPlan`).
"""

from __future__ import annotations

from dataclasses import dataclass

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    schema_version: int
    run: str
    release: str
    image: str
    """By digest: `registry/name@sha256:...`."""
    namespace: str
    stable_release: str
    """Release that serves the rest; empty for a first release."""
    stable_image: str
