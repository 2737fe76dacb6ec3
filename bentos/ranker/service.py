"""The service of one approved release: opens the ranker, checks it against the approval, ranks.

The release lies beside the code in the bento: release/release.json, release/approval.dsse.json, release/ranker/.
"""

from __future__ import annotations

import os
from pathlib import Path

import bentoml

from bentos.ranker.answering import SETTINGS, Answering, Desk, answers

_DEFAULT_RELEASE = Path(__file__).resolve().parents[2] / "release"


@answers
@bentoml.service(name="rankgate-ranker", **SETTINGS)
class RankerService(Answering):
    """Ranks candidates with the features and the model that were measured and approved."""

    desk = Desk()

    def __init__(self) -> None:
        from components.package.release import open_release
        from components.serving.shared_store_address import ADDRESS_VARIABLE

        place = Path(os.environ.get("RANKGATE_RELEASE", _DEFAULT_RELEASE))
        # One thread a request: more of them only contend (see the xgboost notes in docs/decisions).
        served = open_release(place, threads=1, users_elsewhere=bool(os.environ.get(ADDRESS_VARIABLE)))
        self.open(served.ranker, served.release)
