"""What leaves the rollout room: the manifests of a release, and (once it runs) what became of it.

Rendered manifests are a directory: a kustomize overlay of `manifests/base` (kustomization.yaml and patches) and
rollout.json (`RolloutPlan`).
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
    canary_weight: int
    """Share of users on the canary at the first step, in percent."""
    stable_release: str
    """Release that serves the rest; empty for a first release."""
