"""Rows made from a data set: retrieved ones come in blocks that do not grow with the requests."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.dataset.reading import open_dataset
from components.errors import InputError
from components.ranker import rows as module
from components.ranker.ordering import order_within, ranks_within
from components.ranker.rows import Relevance, boundaries, index_at, recorded_rows, requests_of, retrieved_rows
from components.ranker.settings import QUOTAS
from components.ranker.train import in_tie_order


def retrieved(dataset, *, users: int | None = None):
    data = open_dataset(dataset)
    requests = requests_of(data, "test")
    if users is not None:
        requests = requests.take(slice(0, users))
    return list(
        retrieved_rows(
            requests,
            index_at(data, int(requests.cuts[0]), seed=0),
            data.features,
            Relevance(data),
            features=data.features.names[:3],
            quotas=QUOTAS,
            exclude_seen=True,
        )
    )


def test_blocks_are_bounded_and_do_not_change_a_row(sampled, monkeypatch):
    (whole,) = retrieved(sampled.dataset)
    monkeypatch.setattr(module, "SCORE_ROWS", 200)
    blocks = retrieved(sampled.dataset)
    assert len(blocks) > 5
    assert max(len(block.items) for block in blocks) <= 200
    for name in ("requests", "items", "gains", "positives", "features"):
        np.testing.assert_array_equal(np.concatenate([getattr(block, name) for block in blocks]), getattr(whole, name))


def test_a_request_has_the_same_rows_whoever_else_asks(sampled):
    (whole,), (first,) = retrieved(sampled.dataset), retrieved(sampled.dataset, users=1)
    kept = whole.requests == first.requests[0]
    np.testing.assert_array_equal(whole.items[kept], first.items)
    np.testing.assert_array_equal(whole.features[kept], first.features)


def test_the_index_of_a_cut_knows_that_cuts_history_and_no_more(sampled):
    data = open_dataset(sampled.dataset)
    for number, cut in enumerate(data.manifest.cuts):
        known = data.history.slice(0, cut.history_rows)
        pairs = set(zip(known["user"].to_pylist(), known["item"].to_pylist(), strict=True))
        index = index_at(data, number, seed=0)
        assert {(user, item) for user in range(data.manifest.users) for item in index.seen.of(user).tolist()} == pairs


def test_recorded_rows_come_by_request_in_the_order_shown(logged):
    data = open_dataset(logged.dataset)
    rows = recorded_rows(data, "test", data.features.names[:2])
    table = data.rows("test")
    places = {
        (request, item): position
        for request, item, position in zip(
            *(table[n].to_pylist() for n in ("request", "item", "position")), strict=True
        )
    }
    keys = [(request, places[request, item]) for request, item in zip(rows.requests, rows.items, strict=True)]
    assert keys == sorted(keys)


def test_rows_to_stop_by_are_in_an_order_that_clicks_had_no_part_in(logged):
    data = open_dataset(logged.dataset)
    shown = recorded_rows(data, "validation", ())
    ordered = in_tie_order(shown, data)
    assert sorted(zip(ordered.requests, ordered.items, strict=True)) == sorted(
        zip(shown.requests, shown.items, strict=True)
    )
    assert (np.diff(ordered.requests) >= 0).all()
    index = index_at(data, int(requests_of(data, "validation").cuts[0]), seed=0)
    for begin, end in zip(ordered.starts()[:-1], ordered.starts()[1:], strict=True):
        keys = [(-index.users_of_item[item], item) for item in ordered.items[begin:end]]
        assert keys == sorted(keys)


def test_the_watched_metric_is_our_ndcg_of_the_lists_that_are_shown(logged):
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(logged.rankings / "rankings.parquet")
    requests = pq.read_table(logged.rankings / "requests.parquet")
    requests = requests.filter(pc.equal(requests["split"], "validation"))
    values = []
    for row in requests.to_pylist():
        shown = table.filter(
            pc.and_(pc.equal(table["system"], "candidate"), pc.equal(table["request"], row["request"]))
        )
        if 0 < row["n_relevant"] < row["n_candidates"]:
            discounts = 1 / np.log2(np.arange(2, 12))
            gains, ideal = shown["gain"].to_numpy()[:10], np.array(row["ideal_gains"][:10])
            values.append(gains @ discounts[: len(gains)] / (ideal @ discounts[: len(ideal)]))
    assert np.mean(values) == pytest.approx(max(logged.manifest.validation_curve), abs=1e-5)


def test_a_feature_that_the_data_set_lacks_is_named(logged):
    with pytest.raises(InputError, match="it has no feature no_such_thing"):
        recorded_rows(open_dataset(logged.dataset), "test", ["no_such_thing"])


@given(st.lists(st.integers(0, 3), max_size=30).map(sorted))
def test_boundaries_and_ranks_cut_runs(groups):
    groups = np.array(groups, dtype=np.int32)
    starts = boundaries(groups)
    assert starts[0] == 0
    assert starts[-1] == len(groups)
    runs = [groups[begin:end].tolist() for begin, end in itertools.pairwise(starts)]
    assert all(len(set(run)) == 1 for run in runs)
    assert len(runs) == len(set(groups.tolist()))
    assert ranks_within(groups).tolist() == [rank for run in runs for rank in range(1, len(run) + 1)]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2), st.integers(0, 99)), max_size=30))
def test_the_one_order_is_total_whatever_the_rows_order(rows):
    rows = list({(group, item): (group, score, item) for group, score, _, item in rows}.values())
    popularity = np.arange(100) % 3
    keys = [(group, -score, -popularity[item], item) for group, score, item in rows]
    columns = [np.array([row[place] for row in rows], dtype=np.int32) for place in range(3)]
    order = order_within(columns[0], columns[1], popularity[columns[2]], columns[2])
    assert [keys[place] for place in order] == sorted(keys)
