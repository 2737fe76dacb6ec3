"""The tables of a rankings folder (layout: `contract`), from lists and rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.dataset.contract import Split
from components.ranker.bench import HELD_OUT, Bench, Scored
from components.ranker.candidates.interactions import Ids, Ints
from components.ranker.lists import Lists, allowed_items
from components.ranker.rows import column


def write_lists(lists: Mapping[str, Lists], bench: Bench, *, out: Path) -> None:
    """rankings.parquet."""
    labels = Labels(bench)
    parts = []
    for name in sorted(lists):
        found = lists[name]
        gains = labels.gains(found.requests, found.items)
        parts.append(
            pa.table(
                {
                    "system": pa.repeat(pa.scalar(name), len(gains)),
                    "request": found.requests,
                    "rank": found.ranks,
                    "item": found.items,
                    "score": found.scores,
                    "gain": gains,
                    "positive": gains > 0,
                }
            )
        )
    pq.write_table(pa.concat_tables(parts), out / "rankings.parquet")


def write_requests(bench: Bench, *, out: Path) -> None:
    """requests.parquet: the validation and test requests."""
    labels = Labels(bench)
    table = bench.data.requests.sort_by("request")
    table = table.filter(np.isin(table["split"].cast(pa.string()).to_numpy(zero_copy_only=False), HELD_OUT))
    numbers = column(table, "request").astype(np.int32)
    counts, relevant, ideal = labels.summary(numbers)
    written = pa.table(
        {
            "request": numbers,
            "request_id": table["request_id"].cast(pa.string()),
            "user": column(table, "user").astype(np.int32),
            "split": table["split"].cast(pa.string()),
            "ts": table["ts"],
            "n_candidates": counts.astype(np.int32),
            "n_relevant": relevant.astype(np.int32),
            "ideal_gains": ideal,
        }
    )
    pq.write_table(written, out / "requests.parquet")


def write_catalogue(bench: Bench, *, out: Path) -> int:
    """catalogue.parquet; returns how many items are eligible by the end of the test requests."""
    index = bench.cut_index("test")
    test = bench.requests("test")
    eligible = index.eligible(int(test.buckets.max(initial=0)))
    table = pa.table(
        {
            "item": np.arange(index.n_items, dtype=np.int32),
            "eligible": eligible,
            "popularity": index.users_of_item.astype(np.float64),
        }
    )
    pq.write_table(table, out / "catalogue.parquet")
    return int(eligible.sum())


def write_drift(scored: Mapping[Split, Scored], features: tuple[str, ...], bench: Bench, *, out: Path) -> None:
    """features.parquet."""
    table = bench.data.requests.sort_by("request")
    numbers = column(table, "request").astype(np.int32)
    users = column(table, "user").astype(np.int32)
    days = table["ts"].cast(pa.timestamp("us", tz="UTC")).cast(pa.date32())
    parts = []
    for split, found in scored.items():
        place = np.searchsorted(numbers, found.rows.requests)
        columns = {
            "split": pa.repeat(pa.scalar(split), len(place)),
            "request": found.rows.requests,
            "user": users[place],
            "item": found.rows.items,
            "day": days.take(pa.array(place)),
            "score": found.scores,
            "gain": found.rows.gains,
            "positive": found.rows.positives,
        }
        columns |= {name: found.rows.features[:, at].copy() for at, name in enumerate(features)}
        parts.append(pa.table(columns))
    pq.write_table(pa.concat_tables(parts), out / "features.parquet")


class Labels:
    """Gains of the held-out requests: from recorded rows (`logged`) or the relevance table (`sampled`)."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        if bench.sampled:
            self._owners, self._values = bench.relevance.pairs()
            return
        rows = [bench.shown(split) for split in HELD_OUT]
        requests = np.concatenate([part.requests for part in rows])
        items = np.concatenate([part.items for part in rows])
        gains = np.concatenate([part.gains for part in rows])
        self._keys = self._key(requests, items)
        order = np.argsort(self._keys, kind="stable")
        self._keys, self._gains = self._keys[order], gains[order]
        self._shown = requests
        self._owners, self._values = requests[gains > 0], gains[gains > 0]

    def _key(self, requests: Ids, items: Ids) -> Ints:
        return requests.astype(np.int64) * max(self._bench.data.manifest.items, 1) + items

    def gains(self, requests: Ids, items: Ids) -> NDArray[np.float32]:
        """Gain of each ranked row."""
        if self._bench.sampled:
            return self._bench.relevance.gains(requests, items)
        found: NDArray[np.float32] = self._gains[np.searchsorted(self._keys, self._key(requests, items))]
        return found

    def summary(self, numbers: Ids) -> tuple[Ints, Ints, pa.Array]:
        """Candidates, relevant items and largest gains (descending, at most the depth) of each request, ascending."""
        order = np.lexsort((-self._values, self._owners))
        owners, values = self._owners[order], self._values[order]
        low, high = np.searchsorted(owners, numbers), np.searchsorted(owners, numbers, side="right")
        kept = np.minimum(high - low, self._bench.depth)
        offsets = np.concatenate([[0], np.cumsum(kept)]).astype(np.int32)
        place = np.repeat(low - offsets[:-1], kept) + np.arange(offsets[-1])
        ideal = pa.ListArray.from_arrays(pa.array(offsets), pa.array(values[place].astype(np.float32)))
        return self._candidates(numbers), (high - low).astype(np.int64), ideal

    def _candidates(self, numbers: Ids) -> Ints:
        if not self._bench.sampled:
            shown = np.sort(self._shown)
            first = np.searchsorted(shown, numbers)
            sizes: Ints = (np.searchsorted(shown, numbers, side="right") - first).astype(np.int64)
            return sizes
        counts = np.zeros(len(numbers), dtype=np.int64)
        excluded = self._bench.data.manifest.exclude_seen
        for split in HELD_OUT:
            for index, requests in self._bench.by_cut(split):
                block = max(1, 4_000_000 // max(1, index.n_items))
                for begin in range(0, len(requests), block):
                    some = requests.take(slice(begin, begin + block))
                    allowed = allowed_items(some, index, exclude_seen=excluded)
                    counts[np.searchsorted(numbers, some.numbers)] = allowed.sum(axis=1)
        return counts
