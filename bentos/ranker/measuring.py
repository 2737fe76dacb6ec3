"""A candidate, served as a release would be so that it can be measured. Never packaged: a bento has no such file.

What is measured is not approved yet, so every answer says `unreleased`, and a release must not be near by.
"""

from __future__ import annotations

import os
from pathlib import Path

import bentoml

from bentos.ranker.answering import SETTINGS, Answering, Desk, answers
from components.errors import NotApprovedError

_RELEASE = Path(__file__).resolve().parents[2] / "release"
"""Where a bento holds its release."""


@answers
@bentoml.service(name="rankgate-measured-ranker", **SETTINGS)
class MeasuredService(Answering):
    """Answers with the ranker in the folder that RANKGATE_MEASURED_RANKER names."""

    desk = Desk()
    drain = 0.0

    def __init__(self) -> None:
        if "RANKGATE_RELEASE" in os.environ:
            raise NotApprovedError(
                "found RANKGATE_RELEASE beside a candidate to be measured; a release has its own service."
            )
        if _RELEASE.exists():
            raise NotApprovedError("found a release beside this code; where there is one, nothing else is served.")
        from components.ranker.scoring import LoadedRanker

        self.open(LoadedRanker.open(Path(os.environ["RANKGATE_MEASURED_RANKER"]), threads=1), None)
