"""What a session tells retrieval: candidates' recall and lists' NDCG on held-out requests, with it and without.

    python tests/components/ranker/measure_sessions.py DATASET RANKER

For each test request, the session is what its user took within the hour before it, all of it too late for the features. What is
looked for is what the same user takes within a day from the request on and had not taken in the session. The index knows what was
known by the test cut, features are as of the request's bucket, and the model is the ranker's own. Intervals are 95 %, by
bootstrap over users.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.dataset.reading import open_dataset
from components.ranker.rows import column, index_at, requests_of
from components.ranker.scoring import LoadedRanker

_BEFORE_US, _AFTER_US = 3_600_000_000, 86_400_000_000
_K = 20
_WAYS = ("without", "with", "with as many more popular items")


@dataclass(frozen=True)
class Found:
    """Of one request, by way of asking."""

    user: int
    recall: float
    ndcg: float
    count: int


def _asked(
    ranker: LoadedRanker, who: str | None, said: Sequence[str], left_out: Sequence[str], wanted: set[str], bucket: int
) -> tuple[float, float, int]:
    """Recall of the candidates, NDCG of the list, and how many candidates there were."""
    shown = ranker.show(who, None, k=len(ranker.item_ids), bucket=bucket, exclude=set(left_out), taken=said)
    ranks = np.array([one.rank for one in shown if one.item_id in wanted])
    gained = (1 / np.log2(1 + ranks[ranks <= _K])).sum()
    ideal = (1 / np.log2(1 + np.arange(1, min(len(wanted), _K) + 1))).sum()
    return len(ranks) / len(wanted), float(gained / ideal), len(shown)


def _more_popular(ranker: LoadedRanker, more: int) -> LoadedRanker:
    """The same ranker, which names so many more popular items: what a session's candidates are held against."""
    other = copy(ranker)
    sources = ranker.manifest.candidate_sources
    other.manifest = replace(ranker.manifest, candidate_sources={**sources, "popularity": sources["popularity"] + more})
    return other


def _interval(values: NDArray[np.float64], users: NDArray[np.int64], *, seed: int = 0) -> tuple[float, float, float]:
    _, of = np.unique(users, return_inverse=True)
    sums, counts = np.bincount(of, weights=values), np.bincount(of)
    drawn = np.random.default_rng(seed).integers(0, len(sums), (2_000, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("ranker", type=Path)
    parser.add_argument("--most", type=int, default=1_500, help="Requests that are asked.")
    given = parser.parse_args()
    data, ranker = open_dataset(given.dataset), LoadedRanker.open(given.ranker)
    cut = next(place for place, one in enumerate(data.manifest.cuts) if one.name == "test")
    ranker._index = index_at(data, cut, seed=ranker.manifest.seed)
    history = data.history
    order = np.lexsort((column(history, "ts").astype("datetime64[us]").astype(np.int64), column(history, "user")))
    users, items = column(history, "user")[order], column(history, "item")[order]
    times = history["ts"].cast(pa.int64()).to_numpy()[order]
    requests = requests_of(data, "test")
    asked_at = data.requests.sort_by("request")["ts"].cast(pa.int64()).to_numpy()[requests.numbers]
    found: dict[str, list[Found]] = {}
    sizes = []
    for row in np.random.default_rng(0).permutation(len(requests)).tolist():
        user, at = int(requests.users[row]), int(asked_at[row])
        begin, end = np.searchsorted(users, [user, user + 1])
        when = times[begin:end]
        since = items[begin:end][(when >= at - _BEFORE_US) & (when < at)].tolist()
        later = items[begin:end][(when >= at) & (when < at + _AFTER_US)].tolist()
        taken = [ranker.item_ids[item] for item in dict.fromkeys(since)]
        wanted = {ranker.item_ids[item] for item in later} - set(taken)
        if not taken or not wanted:
            continue
        sizes.append(len(taken))
        bucket = int(requests.buckets[row])
        for name, who in (("visitor", None), ("known user", ranker.user_ids[user])):
            # What was taken in the session is left out either way: only what retrieval makes of it differs.
            without = _asked(ranker, who, [], taken, wanted, bucket)
            with_ = _asked(ranker, who, taken, taken, wanted, bucket)
            popular = _asked(_more_popular(ranker, max(0, with_[2] - without[2])), who, [], taken, wanted, bucket)
            for way, held in zip(_WAYS, (without, with_, popular), strict=True):
                found.setdefault(f"{name}, {way}", []).append(Found(user, *held))
        if len(sizes) == given.most:
            break
    people = np.array([one.user for one in found["visitor, with"]])
    print(f"{len(people)} requests of {len(np.unique(people))} users; sessions of {np.mean(sizes):.1f} items")
    for name in ("visitor", "known user"):
        held = {way: found[f"{name}, {way}"] for way in _WAYS}
        print(
            f"{name}: "
            + ", ".join(f"{np.mean([one.count for one in held[way]]):.0f} candidates {way}" for way in _WAYS)
        )
        for figure in ("recall", "ndcg"):
            values = {way: np.array([getattr(one, figure) for one in held[way]]) for way in _WAYS}
            print(f"  {figure:6s} " + ", ".join(f"{way} {values[way].mean():.4f}" for way in _WAYS))
            for other in (_WAYS[0], _WAYS[2]):
                mean, low, high = _interval(values["with"] - values[other], people)
                print(f"         with against {other}: {mean:+.4f} ({low:+.4f}..{high:+.4f})")


if __name__ == "__main__":
    main()
