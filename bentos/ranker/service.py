"""The service of one approved release: opens the ranker, checks it against the approval, ranks.

The release lies beside the code in the bento: release/release.json, release/approval.dsse.json, release/ranker/.
Bad input is answered 400 with the field's name by BentoML's validation of `messages`.
"""

from __future__ import annotations

import os
from pathlib import Path

import bentoml

from bentos.ranker.answering import SETTINGS, Answering
from bentos.ranker.content import reads_json_only
from components.package.release import open_release

_DEFAULT_RELEASE = Path(__file__).resolve().parents[2] / "release"


@reads_json_only
@bentoml.service(name="rankgate-ranker", **SETTINGS)
class RankerService(Answering):
    """Ranks candidates with the features and the model that were measured and approved."""

    def __init__(self) -> None:
        place = Path(os.environ.get("RANKGATE_RELEASE", _DEFAULT_RELEASE))
        # One thread a request: more of them only contend (see the xgboost notes in docs/decisions).
        served = open_release(place, threads=1)
        self.open(served.ranker, served.release)
