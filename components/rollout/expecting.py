"""What the evidence leads one to expect of a canary: its scores as they were distributed on held-out requests, and to the digit.

A score depends on the user, the item and the context alone, so whoever has the release can give it again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.errors import InputError
from components.rollout.memory import Expected
from components.serving.contract import UNSCORED
from components.serving.exposure_files import Shown
from components.serving.metrics import SCORES

if TYPE_CHECKING:
    from components.ranker.scoring import LoadedRanker

SKEWED = "skewed_share"

_NEAR = 1e-6


def expected_scores(rankings: Path) -> Expected:
    """Share of the candidate's scores in each bucket of the service's histogram, over the held-out requests as they were shown.

    Args:
        rankings: The run's rankings.

    Raises:
        InputError: If the candidate ranked none.
    """
    table = pq.read_table(rankings / "rankings.parquet", columns=["system", "request", "score"])
    requests = pq.read_table(rankings / "requests.parquet", columns=["request", "split"])
    held_out = requests.filter(pc.equal(requests["split"], "test"))["request"]
    wanted = pc.and_(pc.equal(table["system"], "candidate"), pc.is_in(table["request"], held_out))
    scores = table.filter(wanted)["score"].to_numpy()
    if not len(scores):
        raise InputError(
            f"{rankings}: the candidate ranked no held-out request; needed some, to know what scores to expect."
        )
    counts = np.bincount(np.searchsorted(SCORES, scores, side="left"), minlength=len(SCORES) + 1)
    return {"score": tuple((counts / counts.sum()).tolist())}


class Parity:
    """Gives the scores of shown lists again, and tells how many are others: a served feature that is not the measured one.

    It asks the release itself, so it holds for arms that are served from the release's own features.
    """

    def __init__(self, opened: Callable[[], LoadedRanker]) -> None:
        """Of a ranker that is opened when the first list is looked at."""
        self._open = opened
        self._ranker: LoadedRanker | None = None
        self._skewed = self._checked = 0

    def __call__(self, lists: Sequence[Shown]) -> Mapping[str, float]:
        """The share so far of places whose score is another; 0 as long as none was shown."""
        if lists and self._ranker is None:
            self._ranker = self._open()
        for shown in lists:
            if self._ranker is None or UNSCORED & set(shown.fallbacks) or not shown.places:
                continue
            items = [place.item_id for place in shown.places]
            again = dict(self._ranker.rank(shown.user_id, items, k=len(items), context=dict(shown.context)))
            self._checked += len(items)
            # A place without a score is one that the rules would not show: it must not have been.
            self._skewed += sum(not self._same(place.score, again.get(place.item_id)) for place in shown.places)
        return {SKEWED: self._skewed / max(self._checked, 1)}

    def _same(self, shown: float, again: float | None) -> bool:
        return again is not None and abs(shown - again) <= _NEAR * max(1.0, abs(again))
