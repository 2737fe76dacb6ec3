"""Requests x items as arrays: what training, early stopping, calibration and ranking work on.

`logged` data sets carry these rows. In `sampled` ones only training has rows; for a validation or test request they are
retrieved from the catalogue here, in blocks, with the very lookup that serves (`FeatureTables`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.dataset.contract import Split
from components.dataset.lookup import FeatureTables
from components.dataset.reading import OpenDataset
from components.errors import InputError
from components.ranker.candidates.index import Index, fit_index
from components.ranker.candidates.interactions import Bools, Ids, Interactions, Ints
from components.ranker.eligibility import Eligibility
from components.ranker.settings import SCORE_ROWS

_DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of whole requests, ascending by request; within one, in the order shown where positions were logged."""

    requests: Ids
    items: Ids
    gains: NDArray[np.float32]
    positives: Bools
    features: NDArray[np.float32]
    """Shape (rows, features)."""

    def starts(self) -> Ints:
        """Request boundaries, shape (requests + 1,)."""
        return boundaries(self.requests)

    def take(self, rows: Ints) -> Rows:
        """Some rows; the caller sees to it that requests stay ascending."""
        return Rows(self.requests[rows], self.items[rows], self.gains[rows], self.positives[rows], self.features[rows])


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests of one split, ascending by request."""

    numbers: Ids
    users: Ids
    buckets: Ints
    cuts: Ids
    context: Mapping[str, NDArray[np.object_]]

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, rows: Ints | slice | Bools) -> Requests:
        return Requests(
            self.numbers[rows],
            self.users[rows],
            self.buckets[rows],
            self.cuts[rows],
            {name: values[rows] for name, values in self.context.items()},
        )


class Relevance:
    """Gains of (request, item) pairs of a `sampled` data set; 0 for every pair that is not relevant."""

    def __init__(self, data: OpenDataset) -> None:
        table = data.relevance
        self._width = max(data.manifest.items, 1)
        keys = column(table, "request").astype(np.int64) * self._width + column(table, "item")
        order = np.argsort(keys, kind="stable")
        self._keys = keys[order]
        self._gains = column(table, "gain").astype(np.float32)[order]

    def gains(self, requests: Ids, items: Ids) -> NDArray[np.float32]:
        if not len(self._keys):
            return np.zeros(len(requests), dtype=np.float32)
        keys = requests.astype(np.int64) * self._width + items
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[place] == keys, self._gains[place], np.float32(0))

    def pairs(self) -> tuple[Ids, NDArray[np.float32]]:
        """Request and gain of every relevant pair, eligible or not: what an ideal list would hold."""
        return (self._keys // self._width).astype(np.int32), self._gains


def column(table: pa.Table, name: str) -> NDArray[Any]:
    """One column as a numpy array."""
    found: NDArray[Any] = table[name].to_numpy()
    return found


def boundaries(groups: NDArray[np.integer]) -> Ints:
    """Where runs of equal values begin, and the end: shape (runs + 1,)."""
    changes = np.flatnonzero(groups[1:] != groups[:-1]) + 1
    return np.concatenate([[0], changes, [len(groups)]]).astype(np.int64) if len(groups) else np.zeros(1, np.int64)


def requests_of(data: OpenDataset, split: Split) -> Requests:
    """The requests of a split."""
    table = data.requests.filter(pc.equal(data.requests["split"], split)).sort_by("request")
    return Requests(
        column(table, "request").astype(np.int32),
        column(table, "user").astype(np.int32),
        column(table, "bucket").astype(np.int64),
        column(table, "cut").astype(np.int32),
        {
            name: np.array(table[name].to_pylist(), dtype=object) if name in table.column_names else np.array([])
            for name in data.manifest.context
            if name in table.column_names
        },
    )


def recorded_rows(data: OpenDataset, split: Split, features: Sequence[str]) -> Rows:
    """The rows that the data set holds for a split, in the order shown.

    Raises:
        InputError: If a feature is asked for that the data set does not have.
    """
    table = data.rows(split)
    if missing := [name for name in features if name not in table.column_names]:
        raise InputError(
            f"data set {data.manifest.name}: it has no feature {', '.join(missing)}; needed every feature the ranker "
            "was trained on. Build the data set with them, or compare with an incumbent trained on these features."
        )
    requests = column(table, "request").astype(np.int32)
    items = column(table, "item").astype(np.int32)
    order = np.lexsort((items, column(table, "position"), requests))
    matrix = np.empty((table.num_rows, len(features)), dtype=np.float32)
    for place, name in enumerate(features):
        matrix[:, place] = column(table, name)
    if not (np.diff(order) == 1).all():
        matrix = matrix[order]
    return Rows(
        requests[order],
        items[order],
        column(table, "gain").astype(np.float32)[order],
        table["positive"].to_numpy(zero_copy_only=False).astype(bool)[order],
        matrix,
    )


def interactions_at(data: OpenDataset, cut: int) -> Interactions:
    """What users had taken by a cut."""
    known = data.manifest.cuts[cut]
    history = data.history.slice(0, known.history_rows)
    moment = np.datetime64(known.ts.replace("Z", "").split("+")[0], "us").astype(np.int64)
    times = history["ts"].cast(pa.int64()).to_numpy()
    return Interactions(
        users=column(history, "user").astype(np.int32),
        items=column(history, "item").astype(np.int32),
        ages_days=np.maximum(moment - times, 0) / _DAY_US,
        gains=column(history, "gain").astype(np.float64),
        n_users=data.manifest.users,
        n_items=data.manifest.items,
    )


def index_at(data: OpenDataset, cut: int, *, seed: int) -> Index:
    """The retrieval index as of a cut: it knows that cut's history and no more."""
    first_bucket = column(data.items.sort_by("item"), "first_bucket").astype(np.int64)
    return fit_index(interactions_at(data, cut), first_bucket, seed=seed)


def retrieved_rows(
    requests: Requests,
    index: Index,
    tables: FeatureTables,
    relevance: Relevance,
    *,
    features: Sequence[str],
    quotas: Mapping[str, int],
    exclude_seen: bool,
    eligibility: Eligibility | None = None,
) -> Iterator[Rows]:
    """Rows of the candidates that retrieval names for each request, some requests at a time.

    A block holds about `SCORE_ROWS` rows whatever the catalogue, so memory does not grow with requests. What `eligibility`
    does not let a request be shown is not retrieved for it.
    """
    columns = feature_columns(tables, features)
    block = max(1, SCORE_ROWS // max(1, min(sum(quotas.values()), index.n_items)))
    for bucket in np.unique(requests.buckets).tolist():
        asked = requests.take(requests.buckets == bucket)
        for begin in range(0, len(asked), block):
            some = asked.take(slice(begin, begin + block))
            permitted = None if eligibility is None else eligibility.of_catalogue(some.context, requests=len(some))
            starts, items = index.candidates(
                some.users, bucket=bucket, quotas=quotas, exclude_seen=exclude_seen, permitted=permitted
            )
            owner = np.repeat(np.arange(len(some)), np.diff(starts))
            numbers = some.numbers[owner]
            gains = relevance.gains(numbers, items)
            matrix = look_up(
                tables,
                users=some.users[owner],
                items=items,
                buckets=some.buckets[owner],
                context=some.context,
                owner=owner,
            )
            yield Rows(numbers, items, gains, gains > 0, matrix[:, columns])


def join_rows(blocks: Sequence[Rows], n_features: int) -> Rows:
    """Blocks of rows as one, ascending by request; rows of one request keep their order."""
    empty = Rows(
        np.empty(0, np.int32),
        np.empty(0, np.int32),
        np.empty(0, np.float32),
        np.empty(0, np.bool_),
        np.empty((0, n_features), np.float32),
    )
    blocks = [empty, *blocks]
    requests = np.concatenate([rows.requests for rows in blocks])
    order = np.argsort(requests, kind="stable")
    return Rows(
        requests[order],
        np.concatenate([rows.items for rows in blocks])[order],
        np.concatenate([rows.gains for rows in blocks])[order],
        np.concatenate([rows.positives for rows in blocks])[order],
        np.concatenate([rows.features for rows in blocks])[order],
    )


def look_up(
    tables: FeatureTables,
    *,
    users: Ids,
    items: Ids,
    buckets: Ints,
    context: Mapping[str, NDArray[np.object_]],
    owner: Ints,
) -> NDArray[np.float32]:
    """Features of rows; row r asks in the context of request `owner[r]`."""
    asked = {name: values[owner].tolist() for name, values in context.items()}
    matrix: NDArray[np.float32] = tables.matrix(users.astype(np.int32), items.astype(np.int32), buckets, asked or None)
    return matrix


def feature_columns(tables: FeatureTables, features: Sequence[str]) -> Ints:
    """Column of each feature in what the tables look up.

    Raises:
        InputError: If the tables lack one.
    """
    known = {name: place for place, name in enumerate(tables.names)}
    if missing := [name for name in features if name not in known]:
        raise InputError(
            f"feature tables: they have no {', '.join(missing)}; needed every feature the ranker was trained on. "
            "Build the data set with them, or compare with an incumbent trained on these features."
        )
    return np.array([known[name] for name in features], dtype=np.int64)
