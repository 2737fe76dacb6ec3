"""A data set laid out for ranking, and the lists that each system makes on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from components.dataset.contract import Split
from components.dataset.reading import OpenDataset
from components.ranker import settings
from components.ranker.candidates.index import Index
from components.ranker.candidates.interactions import Bools
from components.ranker.draws import sample
from components.ranker.eligibility import Eligibility, eligibility_of
from components.ranker.lists import (
    Lists,
    baseline_catalogue_lists,
    baseline_row_scores,
    join_lists,
    lists_of,
    order_rows,
)
from components.ranker.rerank import ItemParts
from components.ranker.rows import (
    Relevance,
    Requests,
    Rows,
    index_at,
    join_rows,
    recorded_rows,
    requests_of,
    retrieved_rows,
)
from components.ranker.storage import RankerFolder, parts_of
from components.ranker.vocabulary import Vocabulary, recode, vocabulary_of

HELD_OUT: tuple[Split, ...] = ("validation", "test")


@dataclass(frozen=True, slots=True)
class Scored:
    """Rows that a model scored, and what it made of them."""

    rows: Rows
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class Bench:
    """A data set laid out for ranking: what all systems share."""

    data: OpenDataset
    parts: ItemParts
    seed: int

    @classmethod
    def of(cls, data: OpenDataset, *, seed: int) -> Bench:
        """Lay out a data set."""
        manifest = data.manifest
        parts = ItemParts.of(
            data.items.sort_by("item"),
            category=manifest.category,
            provider=manifest.provider,
            price=manifest.price,
        )
        return cls(data, parts, seed)

    def eligibility(self, ranker: RankerFolder) -> Eligibility:
        """What a ranker's rules let be shown of this data set's items.

        Raises:
            FaultyInputError: If they speak of what this data set does not have.
        """
        manifest = self.data.manifest
        return eligibility_of(
            ranker.manifest.rerank,
            self.data.items.sort_by("item"),
            context=manifest.context,
            parts=parts_of(manifest),
            subject=f"re-rank rules of ranker {ranker.path.name}",
        )

    @cached_property
    def depth(self) -> int:
        """Ranks kept: of a catalogue what the deepest cut-off needs and more, of recorded lists the longest."""
        if self.sampled:
            return max(settings.DEPTH, *self.data.manifest.cutoffs)
        lengths = [np.diff(self.shown(split).starts()) for split in HELD_OUT]
        return int(max(sizes.max(initial=1) for sizes in lengths))

    def cut_index(self, split: Split) -> Index:
        """The index of the last cut that the requests of a split may know."""
        cuts = self.requests(split).cuts
        return self.index(int(cuts.max()) if len(cuts) else len(self.data.manifest.cuts) - 2)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Texts behind the data set's category codes."""
        return vocabulary_of(
            self.data.manifest.features,
            users=self.data.users,
            items=self.data.items,
            context=self.data.features.context_values,
        )

    @cached_property
    def _shown(self) -> dict[Split, Rows]:
        return {}

    def shown(self, split: Split) -> Rows:
        """The recorded rows of a split, without features."""
        if split not in self._shown:
            self._shown[split] = recorded_rows(self.data, split, ())
        return self._shown[split]

    @property
    def sampled(self) -> bool:
        return bool(self.data.manifest.mode == "sampled")

    @cached_property
    def relevance(self) -> Relevance:
        return Relevance(self.data)

    @cached_property
    def _requests(self) -> dict[str, Requests]:
        return {}

    @cached_property
    def _indexes(self) -> dict[int, Index]:
        return {}

    def requests(self, split: Split) -> Requests:
        if split not in self._requests:
            self._requests[split] = requests_of(self.data, split)
        return self._requests[split]

    def index(self, cut: int) -> Index:
        if cut not in self._indexes:
            self._indexes[cut] = index_at(self.data, cut, seed=self.seed)
        return self._indexes[cut]

    def by_cut(self, split: Split) -> list[tuple[Index, Requests]]:
        """The requests of a split with the index that they may know."""
        requests = self.requests(split)
        return [(self.index(cut), requests.take(requests.cuts == cut)) for cut in np.unique(requests.cuts).tolist()]


def model_lists(bench: Bench, ranker: RankerFolder, split: Split) -> tuple[Lists, Scored]:
    """What a ranker shows for each request of a split, and the rows to watch for drift.

    Drift looks at rows that are shown: recorded ones, or the first `settings.DRIFT_RANKS` of a ranked catalogue; of a
    sample of requests, whole, so that about `settings.DRIFT_ROWS` rows remain.
    """
    wanted = ranker.manifest
    requests = bench.requests(split)
    lists: list[Lists] = []
    watched: list[Scored] = []
    depth = bench.depth if bench.sampled else np.iinfo(np.int32).max
    shown = settings.DRIFT_RANKS if bench.sampled else bench.depth
    sampled = sample(requests.numbers, share=settings.DRIFT_ROWS / max(1, len(requests) * shown), seed=bench.seed)
    eligibility = bench.eligibility(ranker)
    for index, rows in _blocks(bench, ranker, eligibility, split):
        matrix = recode(rows.features, wanted.features, found=bench.vocabulary, needed=ranker.vocabulary)
        scores = ranker.booster.scores(matrix)
        order = order_rows(rows, scores, index, bench.parts, wanted.rerank, allowed_rows(rows, requests, eligibility))
        made, kept = lists_of(rows, scores, order, depth=depth)
        lists.append(made)
        kept = kept[(made.ranks <= shown) & np.isin(made.requests, sampled)]
        watched.append(Scored(rows.take(kept), scores[kept]))
    scored = Scored(
        join_rows([part.rows for part in watched], len(wanted.features)),
        np.concatenate([np.empty(0, np.float32), *(part.scores for part in watched)]),
    )
    return join_lists(lists), scored


def allowed_rows(rows: Rows, requests: Requests, eligibility: Eligibility) -> Bools:
    """Whether each row's item may be shown to its request, shape (rows,)."""
    asking, owner = np.unique(rows.requests, return_inverse=True)
    some = requests.take(np.searchsorted(requests.numbers, asking))
    return eligibility.of_rows(rows.items, owner, some.context, requests=len(some))


def _blocks(bench: Bench, ranker: RankerFolder, eligibility: Eligibility, split: Split) -> Iterator[tuple[Index, Rows]]:
    """Rows to score, some requests at a time, with the index of their cut."""
    features = ranker.manifest.features
    if not bench.sampled:
        yield bench.cut_index(split), recorded_rows(bench.data, split, features)
        return
    for index, requests in bench.by_cut(split):
        for rows in retrieved_rows(
            requests,
            index,
            bench.data.features,
            bench.relevance,
            features=features,
            quotas=ranker.manifest.candidate_sources,
            exclude_seen=ranker.manifest.rerank.exclude_seen,
            eligibility=eligibility,
        ):
            yield index, rows


def baseline_lists(bench: Bench, name: str, eligibility: Eligibility) -> Lists:
    """What a baseline shows for each test request, of what `eligibility` lets be shown: the rules are no part of its order."""
    if bench.sampled:
        return join_lists(
            [
                baseline_catalogue_lists(
                    name,
                    requests,
                    index,
                    eligibility,
                    exclude_seen=bench.data.manifest.exclude_seen,
                    depth=bench.depth,
                    seed=bench.seed,
                )
                for index, requests in bench.by_cut("test")
            ]
        )
    rows = bench.shown("test")
    requests = bench.requests("test")
    users = requests.users[np.searchsorted(requests.numbers, rows.requests)]
    index = bench.cut_index("test")
    scores = baseline_row_scores(name, rows, users, index, seed=bench.seed)
    allowed = allowed_rows(rows, requests, eligibility)
    order = order_rows(rows, scores, index, bench.parts, settings.NO_CAPS, allowed)
    return lists_of(rows, scores, order, depth=np.iinfo(np.int32).max)[0]
