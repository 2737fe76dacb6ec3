from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score

from components.errors import EvidenceError
from components.evidence.ranking_metrics import gains_of, ndcg_with_ties, pad_ranks, request_metrics

CUTOFFS = (1, 3, 10)


@pytest.fixture(scope="module")
def lists() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Graded gains in served order, the ideal, and the number relevant; some requests have none."""
    rng = np.random.default_rng(4)
    gains = np.where(rng.random((300, 15)) < 0.2, rng.integers(1, 4, (300, 15)), 0).astype(np.float32)
    gains[:20] = 0
    return gains, -np.sort(-gains, axis=1), (gains > 0).sum(axis=1)


def trec(gains: np.ndarray, measures: set[str]) -> list[dict[str, float]]:
    qrel = {str(q): {f"d{i:02d}": int(g) for i, g in enumerate(row)} for q, row in enumerate(gains)}
    run = {str(q): {f"d{i:02d}": float(-i) for i in range(len(row))} for q, row in enumerate(gains)}
    found = pytrec_eval.RelevanceEvaluator(qrel, measures).evaluate(run)
    return [found[str(q)] for q in range(len(gains))]


def test_metrics_agree_with_trec_eval(lists: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    gains, ideal, relevant = lists
    found = request_metrics(gains, ideal, relevant, cutoffs=CUTOFFS)
    ks = ",".join(map(str, CUTOFFS))
    theirs = trec(gains, {f"ndcg_cut.{ks}", f"recall.{ks}", f"P.{ks}", f"map_cut.{ks}", "recip_rank", f"success.{ks}"})
    for request, measured in enumerate(theirs):
        if relevant[request] == 0:
            assert np.isnan(found.ndcg[request]).all()
            assert np.isnan(found.hit[request]).all()
            continue
        for place, k in enumerate(CUTOFFS):
            assert found.ndcg[request, place] == pytest.approx(measured[f"ndcg_cut_{k}"], abs=1e-6)
            assert found.recall[request, place] == pytest.approx(measured[f"recall_{k}"], abs=1e-6)
            assert found.precision[request, place] == pytest.approx(measured[f"P_{k}"], abs=1e-6)
            assert found.hit[request, place] == measured[f"success_{k}"]
            # trec_eval divides by all relevant items, we by those that fit into k.
            scale = relevant[request] / min(k, relevant[request])
            assert found.average_precision[request, place] == pytest.approx(measured[f"map_cut_{k}"] * scale, abs=1e-6)
        first = np.flatnonzero(gains[request])[0] + 1
        assert found.reciprocal_rank[request].tolist() == [1 / first if first <= k else 0.0 for k in CUTOFFS]
        assert measured["recip_rank"] == pytest.approx(1 / first)


def test_average_precision_over_the_whole_list_is_scikit_learns(
    lists: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    gains, ideal, relevant = lists
    found = request_metrics(gains, ideal, relevant, cutoffs=(15,)).average_precision[:, 0]
    for request in range(20, 60):
        if relevant[request]:
            expected = average_precision_score(gains[request] > 0, -np.arange(15))
            assert found[request] == pytest.approx(expected)


def test_a_request_may_offer_more_than_its_list_shows() -> None:
    gains = np.array([[0.0, 1.0]])
    found = request_metrics(gains, np.array([[3.0, 1.0, 1.0]]), np.array([3]), cutoffs=(2, 10))
    ideal = 3 + 1 / np.log2(3)
    assert found.ndcg[0] == pytest.approx([1 / np.log2(3) / ideal, 1 / np.log2(3) / (ideal + 0.5)])
    assert found.recall[0] == pytest.approx([1 / 3, 1 / 3])
    assert found.precision[0] == pytest.approx([0.5, 0.1])
    assert found.average_precision[0] == pytest.approx([0.25, 0.5 / 3])


def test_equal_cutoffs_and_no_requests_are_answered() -> None:
    twice = request_metrics(np.array([[1.0]]), np.array([[1.0]]), np.array([1]), cutoffs=(1, 1))
    assert twice.ndcg.tolist() == [[1.0, 1.0]]
    none = request_metrics(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0, int), cutoffs=(1, 5))
    assert none.ndcg.shape == (0, 2)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([0.0, 1.0, 2.5]), min_size=1, max_size=8), min_size=1, max_size=5),
    st.integers(1, 9),
)
def test_metrics_lie_between_zero_and_one_and_the_ideal_order_is_best(rows: list[list[float]], k: int) -> None:
    depth = max(map(len, rows))
    gains = np.array([row + [0.0] * (depth - len(row)) for row in rows])
    ideal, relevant = -np.sort(-gains, axis=1), (gains > 0).sum(axis=1)
    found = request_metrics(gains, ideal, relevant, cutoffs=(k,))
    best = request_metrics(ideal, ideal, relevant, cutoffs=(k,))
    some = relevant > 0
    for name in ("ndcg", "average_precision", "recall", "precision", "reciprocal_rank", "hit"):
        values, ideals = getattr(found, name)[some, 0], getattr(best, name)[some, 0]
        assert ((values >= 0) & (values <= ideals + 1e-12) & (ideals <= 1 + 1e-12)).all()
        assert np.isnan(getattr(found, name)[~some]).all()
    assert best.ndcg[some] == pytest.approx(1.0)
    assert best.average_precision[some] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("gains", "ideal", "relevant", "cutoffs", "message"),
    [
        ([[1.0]], [[1.0]], [1, 1], (1,), "one row a request"),
        ([[1.0]], [[1.0]], [1], (0,), "each at least 1"),
        ([[1.0]], [[1.0]], [1], (), "at least one"),
        ([[-1.0]], [[1.0]], [1], (1,), "gains that are negative"),
        ([[np.nan]], [[1.0]], [1], (1,), "negative or not finite"),
        ([[1.0]], [[np.inf]], [1], (1,), "ideal gains that are negative"),
        ([[1.0]], [[1.0]], [-1], (1,), "negative number of relevant"),
        ([[2.0]], [[1.0]], [1], (1,), "gains more than its ideal"),
    ],
)
def test_impossible_lists_are_refused(
    gains: list[list[float]], ideal: list[list[float]], relevant: list[int], cutoffs: tuple[int, ...], message: str
) -> None:
    with pytest.raises(EvidenceError, match=message):
        request_metrics(np.array(gains), np.array(ideal), np.array(relevant), cutoffs=cutoffs)


def test_padding_puts_each_row_at_its_rank_and_leaves_out_the_deep() -> None:
    table = pad_ranks(np.array([5.0, 6, 7]), np.array([1, 1, 0]), np.array([2, 4, 1]), shape=(2, 3))
    assert table.tolist() == [[7, 0, 0], [0, 5, 0]]


@pytest.mark.parametrize("k", [1, 4, 50])
@pytest.mark.parametrize("gain", ["linear", "exponential"])
def test_ndcg_with_ties_is_scikit_learns(k: int, gain: str) -> None:
    rng = np.random.default_rng(5)
    sizes = rng.integers(2, 12, 40)
    groups = np.concatenate([[0], np.cumsum(sizes)])
    labels = rng.integers(0, 4, groups[-1]).astype(float)
    scores = rng.integers(0, 4, groups[-1]).astype(float)
    found = ndcg_with_ties(labels, scores, groups, k=k, gain=gain)  # type: ignore[arg-type]
    gains = gains_of(labels, gain=gain)  # type: ignore[arg-type]
    for request, (start, end) in enumerate(itertools.pairwise(groups)):
        if labels[start:end].max() > 0:
            expected = ndcg_score(gains[None, start:end], scores[None, start:end], k=k, ignore_ties=False)
            assert found[request] == pytest.approx(expected)


def test_ndcg_with_ties_is_the_mean_over_every_order_of_the_tied() -> None:
    labels, scores = np.array([3.0, 0.0, 1.0, 2.0]), np.array([0.5, 0.5, 0.5, 0.1])
    discount = 1 / np.log2(np.arange(2, 6))
    orders = [[*order, 3] for order in itertools.permutations(range(3))]
    ideal = (np.sort(labels)[::-1][:2] * discount[:2]).sum()
    expected = np.mean([(labels[order][:2] * discount[:2]).sum() / ideal for order in orders])
    assert ndcg_with_ties(labels, scores, np.array([0, 4]), k=2)[0] == pytest.approx(expected)


def test_ndcg_with_ties_has_no_answer_for_an_empty_request() -> None:
    found = ndcg_with_ties(np.array([0.0, 1.0]), np.array([1.0, 2.0]), np.array([0, 0, 1, 2]), k=5)
    assert np.isnan(found[:2]).all()
    assert found[2] == 1
    assert np.isnan(ndcg_with_ties(np.zeros(0), np.zeros(0), np.array([0, 0]), k=5)).all()


@pytest.mark.parametrize(
    ("labels", "scores", "groups", "k"),
    [
        ([1.0], [1.0, 2.0], [0, 1], 1),
        ([1.0], [np.nan], [0, 1], 1),
        ([-1.0], [1.0], [0, 1], 1),
        ([1.0], [1.0], [0, 2], 1),
        ([1.0], [1.0], [0, 1], 0),
    ],
)
def test_scores_that_cannot_be_ranked_are_refused(
    labels: list[float], scores: list[float], groups: list[int], k: int
) -> None:
    with pytest.raises(EvidenceError, match="NDCG"):
        ndcg_with_ties(np.array(labels), np.array(scores), np.array(groups), k=k)


def test_xgboost_on_the_public_ranking_example_has_its_reference_ndcg(shared_data: Path) -> None:
    import xgboost

    train, test = (pq.read_table(shared_data / "lightgbm_rank" / f"{part}.parquet") for part in ("train", "test"))
    features = [name for name in train.column_names if name.startswith("f")]
    matrices = [np.column_stack([table[name].to_numpy() for name in features]) for table in (train, test)]
    rows = xgboost.DMatrix(matrices[0], train["label"].to_numpy(), qid=train["qid"].to_numpy())
    parameters = {
        "objective": "rank:ndcg",
        "eta": 0.1,
        "max_depth": 6,
        "min_child_weight": 1,
        "tree_method": "hist",
        "max_bin": 256,
        "seed": 0,
        "nthread": 1,
    }
    scores = xgboost.train(parameters, rows, 100).predict(xgboost.DMatrix(matrices[1]))
    query = test["qid"].to_numpy()
    groups = np.concatenate([[0], np.flatnonzero(np.diff(query)) + 1, [query.size]])
    labels = test["label"].to_numpy().astype(float)
    reference = {1: 0.559238, 3: 0.619041, 5: 0.669681, 10: 0.740739}
    for k, expected in reference.items():
        found = ndcg_with_ties(labels, scores, groups, k=k, gain="exponential")
        assert found.size == 50
        assert np.mean(found) == pytest.approx(expected, abs=1e-4)


def test_popularity_on_online_retail_has_its_reference_figures(shared_data: Path) -> None:
    raw = pq.read_table(shared_data / "online_retail" / "raw.parquet").to_pandas()
    clean = raw[raw.user_id.notna() & ~raw.cancelled & (raw.quantity > 0) & (raw.unit_price > 0)]
    clean = clean.sort_values(["ts", "user_id", "item_id"], kind="stable")
    train, test = clean.iloc[:358_096], clean.iloc[358_096:]
    items, popularity = np.unique(train.drop_duplicates(["user_id", "item_id"]).item_id, return_counts=True)
    popular = items[np.lexsort((np.arange(items.size), -popularity))]
    seen = train.groupby("user_id").item_id.agg(set)
    gains, relevant = [], []
    for user, bought in test.groupby("user_id").item_id.agg(set).items():
        before = seen.get(user, set())
        if wanted := bought - before:
            shown = itertools.islice((item for item in popular if item not in before), 10)
            gains.append([float(item in wanted) for item in shown])
            relevant.append(len(wanted))
    ideal = (np.arange(10) < np.array(relevant)[:, None]).astype(float)
    found = request_metrics(np.array(gains), ideal, np.array(relevant), cutoffs=(10,))
    assert found.ndcg.shape[0] == 1047
    assert found.ndcg.mean() == pytest.approx(0.031117, abs=1e-6)
    assert found.recall.mean() == pytest.approx(0.019287, abs=1e-6)
    assert found.average_precision.mean() == pytest.approx(0.011127, abs=1e-6)
