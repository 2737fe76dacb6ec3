"""A ranker as a service asks it: ids in, an ordered list of ids and scores out.

The same feature lookup, model, retrieval, order and rules as offline. Ids that the ranker has never seen are welcome: an
unknown user has no history, an unknown item no counts, and both are ranked by what is known of the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from components.errors import InputError
from components.ranker.candidates.index import Index, open_index
from components.ranker.candidates.interactions import Ids
from components.ranker.contract import Ranker
from components.ranker.lists import ItemParts
from components.ranker.ordering import order_within
from components.ranker.rerank import rerank
from components.ranker.rows import feature_columns
from components.ranker.storage import CANDIDATES, RankerFolder, open_ranker


class LoadedRanker:
    """An opened ranker; safe to ask from one thread at a time."""

    def __init__(self, folder: RankerFolder) -> None:
        users, items = folder.users, folder.items
        self.manifest: Ranker = folder.manifest
        self._booster = folder.booster
        self._calibration = folder.calibration
        self._context = folder.dataset.context
        self._bucket_seconds = folder.dataset.bucket_seconds
        self._tables = folder.tables
        self._columns = feature_columns(self._tables, folder.manifest.features)
        self._index: Index = open_index(folder.path / CANDIDATES)
        self._parts = ItemParts.of(items, category=folder.dataset.category, provider=folder.dataset.provider)
        self._users = dict(zip(users["user_id"].to_pylist(), users["user"].to_pylist(), strict=True))
        self._item_ids: list[str] = items["item_id"].to_pylist()
        self._items = {item_id: item for item, item_id in enumerate(self._item_ids)}

    @classmethod
    def open(cls, path: Path, *, threads: int = 1) -> LoadedRanker:
        """Open a ranker's folder after comparing every file with its manifest.

        Args:
            path: The folder.
            threads: Threads to score with; for a service one is fastest.

        Raises:
            InputError: If a file is absent, foreign, changed or unreadable.
        """
        return cls(open_ranker(path, threads=threads))

    @property
    def latest_bucket_start(self) -> int:
        """Features know events before this moment, in seconds since the epoch."""
        return int(self._tables.latest_bucket) * self._bucket_seconds

    def rank(
        self,
        user_id: str | None,
        item_ids: Sequence[str],
        *,
        context: Mapping[str, str] | None = None,
        k: int,
        bucket: int | None = None,
    ) -> list[tuple[str, float]]:
        """Order the given items for a user.

        Args:
            user_id: None for a visitor who is not known.
            item_ids: Candidates; one that comes twice is ranked once, one that the rules exclude not at all.
            context: Of the request, such as its device; names as in the data set.
            k: Most items to give back, at least 1.
            bucket: Moment to ask as of; the latest the ranker knows without it.

        Returns:
            At most `k` (item_id, score), best first; empty for no candidates.

        Raises:
            InputError: If `k` is below 1 or a context name is unknown.
        """
        asked = self._checked(context, k)
        distinct = list(dict.fromkeys(item_ids))
        items = np.array([self._items.get(item_id, -1) for item_id in distinct], dtype=np.int32)
        # Items nobody knows keep their given order behind equals: they get numbers after all known ones.
        ties = np.where(items >= 0, items, len(self._item_ids) + np.arange(len(items)))
        at = self._bucket(bucket)
        return self._ordered(user_id, distinct, items, ties, asked, bucket=at)[:k]

    def recommend(
        self,
        user_id: str | None,
        *,
        k: int,
        context: Mapping[str, str] | None = None,
        bucket: int | None = None,
    ) -> list[tuple[str, float]]:
        """Retrieve candidates for a user and order them; as `rank` otherwise. A user who is not known gets what is popular."""
        asked = self._checked(context, k)
        at = self._bucket(bucket)
        _, items = self._index.candidates(
            np.array([self._user(user_id)], dtype=np.int32),
            bucket=at,
            quotas=self.manifest.candidate_sources,
            exclude_seen=self.manifest.rerank.exclude_seen,
        )
        names = [self._item_ids[item] for item in items.tolist()]
        return self._ordered(user_id, names, items, items, asked, bucket=at)[:k]

    def probability(self, score: float) -> float:
        """The calibrated probability of a positive outcome at a score."""
        return float(self._calibration.probability(np.array([score]))[0])

    def _bucket(self, bucket: int | None) -> int:
        return int(self._tables.latest_bucket) if bucket is None else bucket

    def _user(self, user_id: str | None) -> int:
        return -1 if user_id is None else self._users.get(user_id, -1)

    def _checked(self, context: Mapping[str, str] | None, k: int) -> dict[str, str]:
        if k < 1:
            raise InputError(f"k: found {k}; needed at least 1.")
        unknown = sorted(set(context or ()) - set(self._context))
        if unknown:
            raise InputError(
                f"context: found {', '.join(unknown)}; needed one of: {', '.join(self._context) or 'none is used'}."
            )
        return dict(context or {})

    def _ordered(
        self,
        user_id: str | None,
        names: Sequence[str],
        items: Ids,
        ties: Ids,
        context: Mapping[str, str],
        *,
        bucket: int,
    ) -> list[tuple[str, float]]:
        """All of the items that the rules let pass, best first; `ties` stands for an item where all else is equal."""
        rows = len(items)
        if not rows:
            return []
        user = self._user(user_id)
        asked = {name: [context.get(name)] * rows for name in self._context}
        matrix = self._tables.matrix(
            np.full(rows, user, dtype=np.int32), items, np.full(rows, bucket, dtype=np.int64), asked or None
        )
        scores = self._booster.scores(np.ascontiguousarray(matrix[:, self._columns]))
        popularity = np.where(items >= 0, self._index.users_of_item[items], 0)
        order = order_within(np.zeros(rows, np.int32), scores, popularity, ties)
        listed = items[order]
        shown = rerank(
            listed,
            categories=np.where(listed >= 0, self._parts.categories[listed], -1),
            providers=np.where(listed >= 0, self._parts.providers[listed], -1),
            seen=self._index.seen.of(user),
            rules=self.manifest.rerank,
        )
        return [(names[place], float(scores[place])) for place in order[shown].tolist()]
