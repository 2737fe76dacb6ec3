"""Where a canary runs: what the controller asks of a laptop or of a cluster, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from components.rollout.envoy import Split
from components.serving.exposure_files import Shown


class Target(Protocol):
    """Arms, and the traffic between them. All may be asked again at any time, by whoever goes on where another was killed."""

    def serve(self, arm: str, release: str) -> bool:
        """Let an arm serve a release, and nothing else; True once all of it is ready. What has died is started again."""

    def stop(self, arm: str) -> bool:
        """Let an arm end, once what is in flight is answered; True once it is gone."""

    def split(self, split: Split) -> None:
        """Put a split of users in force; returns when it is.

        Raises:
            RankgateError: If it cannot be; the one before then holds.
        """

    def metrics(self, arm: str) -> Mapping[str, str]:
        """The text of /metrics by replica; one that cannot be read is absent."""

    def traffic(self) -> Mapping[str, float]:
        """Envoy's counters; empty where they cannot be read."""

    def shown(self, arm: str) -> Iterable[Shown]:
        """Lists that the arm has shown since this was last asked, of a new target all that there are."""
