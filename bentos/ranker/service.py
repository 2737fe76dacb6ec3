"""The service of one approved release: opens the ranker, checks it against the approval, ranks.

The release lies beside the code in the bento: release/release.json, release/approval.dsse.json, release/ranker/.
Bad input is answered 400 with the field's name by BentoML's validation of `messages`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import bentoml

from bentos.ranker.messages import RankAnswer, RankedItem, RankRequest, RecommendRequest, ReleaseAnswer
from components.package.release import open_release

_DEFAULT_RELEASE = Path(__file__).resolve().parents[2] / "release"
_LATENCY_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5]


@bentoml.service(
    name="rankgate-ranker",
    workers=1,
    traffic={"timeout": 10},
    metrics={"enabled": True, "duration": {"buckets": _LATENCY_BUCKETS}},
    http={"host": "127.0.0.1", "port": 3000},
)
class RankerService:
    """Ranks candidates with the features and the model that were measured and approved."""

    def __init__(self) -> None:
        place = Path(os.environ.get("RANKGATE_RELEASE", _DEFAULT_RELEASE))
        # One thread a request: more of them only contend (see the xgboost notes in docs/decisions).
        self._served = open_release(place, threads=1)
        ranker = self._served.ranker
        ranker.recommend(None, k=10)
        self._ready = True

    async def __is_ready__(self) -> bool:
        """BentoML's /readyz: true once the ranker is open, checked and warm."""
        return self._ready

    @bentoml.api(route="/rank")
    async def rank(self, request: RankRequest, /) -> RankAnswer:
        """Order the given candidates for a user; unknown users and items are ranked by what is known of the rest."""
        ranked = self._served.ranker.rank(
            request.user_id, request.candidates, context=dict(request.context), k=request.k
        )
        return self._answer(ranked)

    @bentoml.api(route="/recommend")
    async def recommend(self, request: RecommendRequest, /) -> RankAnswer:
        """Retrieve candidates for a user and order them."""
        return self._answer(self._served.ranker.recommend(request.user_id, k=request.k, context=dict(request.context)))

    @bentoml.api(route="/release")
    async def release(self) -> ReleaseAnswer:
        """What is being served."""
        approval = self._served.release.approval
        return ReleaseAnswer(
            release=self._served.release.digest,
            run=approval.run,
            ranker=approval.ranker,
            approver=approval.approver,
            decided_at=approval.decided_at,
            latest_bucket_start=datetime.fromtimestamp(self._served.ranker.latest_bucket_start, UTC).isoformat(),
        )

    def _answer(self, ranked: Sequence[tuple[str, float]]) -> RankAnswer:
        items = [
            RankedItem(item_id=item, score=float(score), rank=rank)
            for rank, (item, score) in enumerate(ranked, start=1)
        ]
        return RankAnswer(items=items, release=self._served.release.digest)
