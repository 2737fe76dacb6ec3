"""The whole room on the real shop, through the rooms upstream: it must beat what it is judged against, on unseen days."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from components.events.importers.online_retail import import_online_retail

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def shop(shared_data, build_dataset_of, train_and_rank, tmp_path_factory):
    work = tmp_path_factory.mktemp("online-retail")
    (work / "source").mkdir()
    contract = import_online_retail(shared_data / "online_retail" / "raw.parquet", out=work / "source")
    return train_and_rank(build_dataset_of(contract, work), work, threads=2)


def figures(rankings: Path, system: str, *, k: int = 10) -> tuple[float, float, float]:
    """NDCG, recall and MAP at k over the test requests, binary gains."""
    table = pq.read_table(rankings / "rankings.parquet")
    requests = pq.read_table(rankings / "requests.parquet")
    requests = requests.filter(pc.equal(requests["split"], "test"))
    numbers, relevant = requests["request"].to_numpy(), requests["n_relevant"].to_numpy()
    table = table.filter(pc.and_(pc.equal(table["system"], system), pc.less_equal(table["rank"], k)))
    hits = np.zeros((len(numbers), k))
    place = np.searchsorted(numbers, table["request"].to_numpy())
    kept = (place < len(numbers)) & (numbers[np.minimum(place, len(numbers) - 1)] == table["request"].to_numpy())
    hits[place[kept], table["rank"].to_numpy()[kept] - 1] = np.array(table["positive"].to_pylist())[kept]
    discounts = 1 / np.log2(np.arange(2, k + 2))
    best = np.minimum(relevant, k)
    precision = hits.cumsum(axis=1) / np.arange(1, k + 1)
    return (
        float(np.mean(hits @ discounts / discounts.cumsum()[best - 1])),
        float(np.mean(hits.sum(axis=1) / relevant)),
        float(np.mean((hits * precision).sum(axis=1) / best)),
    )


def test_the_pipelines_baselines_are_the_reference_to_six_digits(shop):
    assert shop.ranked.test_requests == shop.ranked.test_users == 1047
    assert figures(shop.rankings, "popularity") == pytest.approx((0.031117, 0.019287, 0.011127), abs=1e-6)
    assert figures(shop.rankings, "item-knn") == pytest.approx((0.053672, 0.038410, 0.023821), abs=1e-6)


def test_the_candidate_ranks_the_whole_catalogue_well_beyond_its_baselines(shop):
    ndcg, recall, precision = figures(shop.rankings, "candidate")
    # Reached when this was written: 0.112. Nothing was tuned on this window, so nothing may be tuned to this line.
    assert ndcg > 0.100
    assert recall > 0.060
    assert precision > 0.045
