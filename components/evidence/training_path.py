"""What the service of a release must answer, worked out without the service's code or files.

Features come from the dataset's own tables and the retrieval index from its history, both as of the moment that the release
knows; lists are made by the code that ranks offline. Of the ranker only the model and its manifest (rules, quotas) are used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.artifacts import documents
from components.dataset.reading import OpenDataset, open_dataset
from components.errors import EvidenceError
from components.evidence.ranked import read_columns
from components.ranker.booster import Booster
from components.ranker.candidates.index import Index
from components.ranker.contract import CANDIDATE, Ranker
from components.ranker.eligibility import Eligibility, eligibility_of
from components.ranker.lists import order_rows
from components.ranker.rerank import ItemParts
from components.ranker.rows import Relevance, Requests, Rows, feature_columns, index_at, look_up, retrieved_rows
from components.ranker.storage import MODEL, parts_of

Ids = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as a client would send it."""

    request: int
    user: int
    """-1 for a visitor who is not known."""
    user_id: str | None
    items: tuple[int, ...]
    """Candidates, distinct, in no order."""
    context: Mapping[str, str]

    def by_a_visitor(self) -> Asked:
        """The same request of whoever is not known."""
        return replace(self, user=-1, user_id=None)


@dataclass(frozen=True, slots=True)
class Expected:
    """What one request must be answered."""

    items: Ids
    """Candidates, given or retrieved."""
    scores: NDArray[np.float32]
    shown: NDArray[np.int64]
    """Places in `items`, best first: what the rules let be shown."""


class TrainingPath:
    """Answers requests as training and offline ranking would, had they been asked at the moment that the release knows."""

    def __init__(self, dataset: Path, ranker: Path) -> None:
        """Open a dataset, and the model and manifest of a ranker.

        Raises:
            InputError: If a manifest or table cannot be read.
        """
        self._data: OpenDataset = open_dataset(dataset)
        self._ranker = documents.load(Ranker, ranker / "ranker.json")
        self._booster = Booster.load((ranker / MODEL).read_bytes(), threads=1)
        described, items = self._data.manifest, self._data.items.sort_by("item")
        self._index: Index = index_at(self._data, self._release, seed=self._ranker.seed)
        self._parts = ItemParts.of(
            items, category=described.category, provider=described.provider, price=described.price
        )
        self._eligibility: Eligibility = eligibility_of(
            self._ranker.rerank,
            items,
            context=described.context,
            parts=parts_of(described),
            subject=f"re-rank rules of ranker {ranker.name}",
        )

    @property
    def _release(self) -> int:
        """The last cut: all of the log."""
        return len(self._data.manifest.cuts) - 1

    def ranked(self, asked: Sequence[Asked]) -> list[Expected]:
        """Lists of the given candidates."""
        requests = self._requests(asked)
        owner = np.repeat(np.arange(len(asked)), [len(one.items) for one in asked])
        items = np.array([item for one in asked for item in one.items], dtype=np.int32)
        tables = self._data.features
        matrix = look_up(
            tables,
            users=requests.users[owner],
            items=items,
            buckets=requests.buckets[owner],
            context=requests.context,
            owner=owner,
        )
        nothing = np.zeros(len(items), dtype=np.float32)
        columns = feature_columns(tables, self._ranker.features)
        rows = Rows(owner.astype(np.int32), items, nothing, nothing > 0, np.ascontiguousarray(matrix[:, columns]))
        found = self._expected(rows, requests, exclude_seen=self._ranker.rerank.exclude_seen)
        return [found.get(number, _NOTHING) for number in range(len(asked))]

    def retrieved(self, asked: Sequence[Asked]) -> list[Expected]:
        """Lists of the candidates that retrieval names; the candidates of `asked` are not looked at."""
        requests = self._requests(asked)
        blocks = retrieved_rows(
            requests,
            self._index,
            self._data.features,
            Relevance(self._data),
            features=self._ranker.features,
            quotas=self._ranker.candidate_sources,
            exclude_seen=self._ranker.rerank.exclude_seen,
            eligibility=self._eligibility,
        )
        found: dict[int, Expected] = {}
        for rows in blocks:
            # What was taken before is not retrieved where the rules say so.
            found |= self._expected(rows, requests, exclude_seen=False)
        return [found.get(number, _NOTHING) for number in range(len(asked))]

    def _requests(self, asked: Sequence[Asked]) -> Requests:
        latest = self._data.features.latest_bucket
        return Requests(
            np.arange(len(asked), dtype=np.int32),
            np.array([one.user for one in asked], dtype=np.int32),
            np.full(len(asked), latest, dtype=np.int64),
            np.full(len(asked), self._release, dtype=np.int32),
            {
                name: np.array([one.context.get(name) for one in asked], dtype=object)
                for name in self._data.manifest.context
            },
        )

    def _expected(self, rows: Rows, requests: Requests, *, exclude_seen: bool) -> dict[int, Expected]:
        """What is expected of each request that has rows, by its number."""
        scores = self._booster.scores(rows.features)
        allowed = self._eligibility.of_rows(rows.items, rows.requests, requests.context, requests=len(requests))
        if exclude_seen:
            allowed = allowed & ~self._taken(rows, requests)
        order = order_rows(rows, scores, self._index, self._parts, self._ranker.rerank, allowed)
        found = {}
        starts, owners = rows.starts(), rows.requests[order]
        for begin, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            number = int(rows.requests[begin])
            first, last = np.searchsorted(owners, [number, number + 1])
            found[number] = Expected(rows.items[begin:end], scores[begin:end], order[first:last] - begin)
        return found

    def _taken(self, rows: Rows, requests: Requests) -> NDArray[np.bool_]:
        """Rows whose item the user took before."""
        taken, width = self._index.seen.rows(requests.users), np.int64(self._index.n_items)
        owners = np.repeat(np.arange(len(requests), dtype=np.int64), np.diff(taken.indptr))
        return np.isin(rows.requests.astype(np.int64) * width + rows.items, owners * width + taken.indices)


_NOTHING = Expected(np.empty(0, np.int32), np.empty(0, np.float32), np.empty(0, np.int64))


def sample_requests(dataset: Path, rankings: Path, *, calls: int, candidates: int, seed: int) -> list[Asked]:
    """Test requests as clients would send them: what the candidate ranks for each, filled up with others of the catalogue.

    Args:
        dataset: Dataset directory.
        rankings: Rankings directory.
        calls: How many; requests come again where there are fewer.
        candidates: Items of each; fewer where the catalogue has fewer.
        seed: Of the draws.
    """
    data = open_dataset(dataset)
    table = read_columns(rankings / "rankings.parquet", ("system", "request", "item"), dictionary=("system",))
    own = table.filter(pc.equal(table["system"].cast(pa.string()), CANDIDATE))
    requests = data.requests.sort_by("request")
    split = requests["split"].cast(pa.string()).to_numpy(zero_copy_only=False)
    test = np.intersect1d(requests["request"].to_numpy()[split == "test"], own["request"].to_numpy())
    catalogue = read_columns(rankings / "catalogue.parquet", ("item", "eligible"))
    eligible = catalogue["item"].to_numpy()[catalogue["eligible"].to_numpy(zero_copy_only=False)]
    if not test.size:
        raise EvidenceError("rankings.parquet: found no test request of the candidate; needed some. Rank again.")
    rng = np.random.default_rng(seed)
    chosen = np.concatenate([rng.permutation(test) for _ in range(-(-calls // test.size))])[:calls]
    order = np.argsort(own["request"].to_numpy(), kind="stable")
    owners, listed = own["request"].to_numpy()[order], own["item"].to_numpy()[order]
    return [_asked(int(number), data, requests, owners, listed, eligible, candidates, rng) for number in chosen]


def _asked(
    number: int,
    data: OpenDataset,
    requests: pa.Table,
    owners: NDArray[np.int32],
    listed: NDArray[np.int32],
    eligible: NDArray[np.int32],
    candidates: int,
    rng: np.random.Generator,
) -> Asked:
    begin, end = np.searchsorted(owners, number), np.searchsorted(owners, number, side="right")
    own = np.unique(listed[begin:end])[:candidates]
    others = np.setdiff1d(eligible, own)
    more = rng.choice(others, size=min(candidates - len(own), len(others)), replace=False)
    at = int(np.searchsorted(requests["request"].to_numpy(), number))
    row = requests.slice(at, 1)
    user = int(row["user"][0].as_py())
    context = {name: row[name][0].as_py() for name in data.manifest.context}
    return Asked(
        request=number,
        user=user,
        user_id=str(data.users["user_id"][user].as_py()),
        items=tuple(rng.permutation(np.concatenate([own, more])).tolist()),
        context={name: value for name, value in context.items() if value is not None},
    )
