"""The routes of a ranking service, whatever it opened: one code for a release and for the candidate that is measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import bentoml
from bentoml.exceptions import InvalidArgument

from bentos.ranker.messages import RankAnswer, RankedItem, RankRequest, RecommendRequest, ReleaseAnswer
from components.approval.contract import Release
from components.errors import InputError
from components.ranker.scoring import LoadedRanker

UNRELEASED = "unreleased"
"""What a measured candidate answers in place of a release's digest."""

_LATENCY_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5]
SETTINGS: dict[str, Any] = {
    "workers": 1,
    "traffic": {"timeout": 10},
    "metrics": {"enabled": True, "duration": {"buckets": _LATENCY_BUCKETS}},
    "http": {"host": "127.0.0.1", "port": 3000},
}


@contextmanager
def _refusals() -> Iterator[None]:
    """What only the ranker can know to be wrong, such as a context that it was not trained with, is the client's fault too."""
    try:
        yield
    except InputError as error:
        raise InvalidArgument(str(error)) from error


class Answering:
    """Answers with an opened ranker; the service that inherits this says what it opens."""

    _ready = False

    def open(self, ranker: LoadedRanker, release: Release | None) -> None:
        """Serve this ranker, of this release where there is one."""
        self._ranker, self._release = ranker, release
        ranker.recommend(None, k=10)
        self._ready = True

    async def __is_ready__(self) -> bool:
        """BentoML's /readyz: true once the ranker is open, checked and warm."""
        return self._ready

    @bentoml.api(route="/rank")
    async def rank(self, request: RankRequest, /) -> RankAnswer:
        """Order the given candidates for a user; unknown users and items are ranked by what is known of the rest."""
        with _refusals():
            ranked = self._ranker.rank(request.user_id, request.candidates, context=dict(request.context), k=request.k)
        return self._answer(ranked)

    @bentoml.api(route="/recommend")
    async def recommend(self, request: RecommendRequest, /) -> RankAnswer:
        """Retrieve candidates for a user and order them."""
        with _refusals():
            ranked = self._ranker.recommend(request.user_id, k=request.k, context=dict(request.context))
        return self._answer(ranked)

    @bentoml.api(route="/release")
    async def release(self) -> ReleaseAnswer:
        """What is being served."""
        approval = self._release.approval if self._release else None
        return ReleaseAnswer(
            release=self._digest,
            run=approval.run if approval else "",
            ranker=approval.ranker if approval else "",
            approver=approval.approver if approval else "",
            decided_at=approval.decided_at if approval else "",
            latest_bucket_start=datetime.fromtimestamp(self._ranker.latest_bucket_start, UTC).isoformat(),
        )

    @property
    def _digest(self) -> str:
        return self._release.digest if self._release else UNRELEASED

    def _answer(self, ranked: Sequence[tuple[str, float]]) -> RankAnswer:
        items = [
            RankedItem(item_id=item, score=float(score), rank=rank)
            for rank, (item, score) in enumerate(ranked, start=1)
        ]
        return RankAnswer(items=items, release=self._digest)
