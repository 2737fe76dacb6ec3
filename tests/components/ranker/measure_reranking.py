"""Measures what re-ranking does to lists, and what a batch costs.

    python tests/components/ranker/measure_reranking.py DATASET RANKER

Prints, for rules of growing strength, NDCG@10 against the scores' own order (mean over users, 95 % interval of the paired
difference) and the share of pairs of the first ten whose category, and whose provider, differ; then (user, candidate)
pairs a second of CPU for ranking all users. DATASET and RANKER are a run's artefacts; lists must have been logged.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.dataset.reading import open_dataset
from components.evidence.beyond_accuracy import category_diversity
from components.ranker.batch import score_users
from components.ranker.bench import Bench
from components.ranker.contract import Diversity, RerankRules
from components.ranker.lists import lists_of, order_rows
from components.ranker.rows import Rows, recorded_rows
from components.ranker.storage import open_ranker

_K = 10
Values = NDArray[np.float64]


def rules_to_try(base: RerankRules) -> dict[str, RerankRules]:
    found = {"the scores' order": base}
    for strength in (0.1, 0.2, 0.3, 0.5, 0.7):
        found[f"diversity {strength}, category"] = replace(base, diversity=Diversity(strength, 50, 1.0, 0.0, 0.0))
        mixed = Diversity(strength, 50, 0.5, 0.3, 0.2)
        found[f"diversity {strength}, category 0.5, provider 0.3, price 0.2"] = replace(base, diversity=mixed)
    for cap in (4, 3, 2):
        found[f"at most {cap} of a category"] = replace(base, max_per_category=cap)
    return found


def by_user(values: Values, users: NDArray[np.int32]) -> Values:
    """Mean of each user's values, NaN left out."""
    known = ~np.isnan(values)
    place = np.unique(users[known], return_inverse=True)[1]
    return np.bincount(place, values[known]) / np.bincount(place)


def shown(rows: Rows, scores: NDArray[np.float32], bench: Bench, rules: RerankRules) -> tuple[Values, Values, Values]:
    """NDCG@10, category diversity and provider diversity of each request."""
    order = order_rows(rows, scores, bench.cut_index("test"), bench.parts, rules, np.ones(len(rows.items), np.bool_))
    lists, kept = lists_of(rows, scores, order, depth=_K)
    place = np.searchsorted(np.unique(rows.requests), lists.requests)
    starts = rows.starts()
    shape = (len(starts) - 1, _K)
    items, gains, ideal = np.full(shape, -1, np.int32), np.zeros(shape), np.zeros(shape)
    items[place, lists.ranks - 1] = lists.items
    gains[place, lists.ranks - 1] = rows.gains[kept]
    for request in range(shape[0]):
        best = np.sort(rows.gains[starts[request] : starts[request + 1]])[::-1][:_K]
        ideal[request, : len(best)] = best
    discount = 1 / np.log2(np.arange(2, _K + 2))
    whole = ideal @ discount
    ndcg = np.divide(gains @ discount, whole, out=np.full(shape[0], np.nan), where=whole > 0)
    parts = bench.parts
    return ndcg, category_diversity(items, parts.categories), category_diversity(items, parts.providers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("ranker", type=Path)
    given = parser.parse_args()
    ranker = open_ranker(given.ranker, threads=1)
    bench = Bench.of(open_dataset(given.dataset), seed=0)
    rows = recorded_rows(bench.data, "test", ranker.manifest.features)
    scores = ranker.booster.scores(rows.features)
    requests = bench.requests("test")
    users = requests.users[np.searchsorted(requests.numbers, np.unique(rows.requests))]
    plain = None
    for name, rules in rules_to_try(replace(ranker.manifest.rerank, max_per_category=0, diversity=None)).items():
        ndcg, categories, providers = (by_user(values, users) for values in shown(rows, scores, bench, rules))
        plain = ndcg if plain is None else plain
        change, spread = (ndcg - plain).mean(), 1.96 * (ndcg - plain).std() / np.sqrt(len(ndcg))
        print(
            f"{name:55s} NDCG@10 {ndcg.mean():.4f} ({change:+.4f} +- {spread:.4f}, {len(ndcg)} users)"
            f"  categories {categories.mean():.4f}  providers {providers.mean():.4f}"
        )
    began, began_cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        batch = score_users(given.ranker, out=Path(folder) / "batch", k=50)
    cpu = time.process_time() - began_cpu
    print(
        f"{batch.pairs} pairs of {batch.plan.users} users, {ranker.manifest.trees} trees, {len(ranker.manifest.features)} "
        f"features: {time.perf_counter() - began:.1f} s, {cpu:.1f} s of CPU, {batch.pairs / cpu:.0f} pairs a CPU second"
    )


if __name__ == "__main__":
    main()
