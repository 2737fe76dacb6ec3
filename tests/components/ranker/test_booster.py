from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from components.errors import InputError
from components.ranker.booster import Booster, Examples, fit, xgb

REFERENCE = {
    "objective": "rank:ndcg",
    "eta": 0.1,
    "max_depth": 6,
    "min_child_weight": 1,
    "tree_method": "hist",
    "max_bin": 256,
}


def read(path: Path) -> Examples:
    table = pq.read_table(path)
    names = [name for name in table.column_names if name.startswith("f")]
    requests = table["qid"].to_numpy()
    starts = np.flatnonzero(np.concatenate([[True], requests[1:] != requests[:-1], [True]]))
    matrix = np.column_stack([table[name].to_numpy() for name in names]).astype(np.float32)
    return Examples(matrix, table["label"].to_numpy().astype(np.float32), starts)


def train(training: Examples, **options):
    arguments = {"parameters": REFERENCE, "rounds": 100, "patience": 10, "metric": "ndcg@10", "seed": 0, "threads": 1}
    return fit(training, options.pop("validation", None), **(arguments | options))


def generated(requests: int = 60, shown: int = 10, seed: int = 0) -> Examples:
    rng = np.random.default_rng(seed)
    relevance = rng.normal(size=(requests, shown))
    features = np.stack([relevance + rng.normal(size=relevance.shape), rng.normal(size=relevance.shape)], axis=-1)
    features[rng.random(features.shape) < 0.1] = np.nan
    labels = (relevance > 1).astype(np.float32)
    return Examples(
        features.reshape(-1, 2).astype(np.float32), labels.ravel(), np.arange(0, requests * shown + 1, shown)
    )


def ndcg(examples: Examples, scores: np.ndarray, *, k: int) -> float:
    """Plain loops, gain 2^rel - 1; every request of the reference has a positive."""
    values = []
    for begin, end in zip(examples.starts[:-1], examples.starts[1:], strict=True):
        gains = 2.0 ** examples.labels[begin:end] - 1
        discounts = 1 / np.log2(np.arange(2, end - begin + 2))
        discounts[k:] = 0
        shown = gains[np.argsort(-scores[begin:end], kind="stable")]
        values.append(shown @ discounts / (np.sort(gains)[::-1] @ discounts))
    return float(np.mean(values))


def test_lightgbms_ranking_example_gives_the_reference_ndcg(shared_data: Path):
    training, test = (read(shared_data / "lightgbm_rank" / f"{name}.parquet") for name in ("train", "test"))
    scores = train(training).booster.scores(test.features)
    found = [ndcg(test, scores, k=k) for k in (1, 3, 5, 10)]
    assert found == pytest.approx([0.559238, 0.619041, 0.669681, 0.740739], abs=1e-6)


def test_models_are_the_same_bytes_on_repeat_and_on_two_threads():
    examples = generated()
    models = [train(examples, rounds=10, threads=threads).booster.to_bytes() for threads in (1, 1, 2)]
    assert models[0] == models[1] == models[2]


def test_another_seed_matters_only_where_something_is_drawn():
    examples = generated()
    drawing = REFERENCE | {"subsample": 0.5}
    assert train(examples, seed=1).booster.to_bytes() == train(examples, seed=2).booster.to_bytes()
    assert (
        train(examples, parameters=drawing, seed=1).booster.to_bytes()
        != train(examples, parameters=drawing, seed=2).booster.to_bytes()
    )


def test_early_stopping_keeps_the_trees_up_to_the_best_round_and_no_others():
    fitted = train(generated(seed=1), validation=generated(seed=2), patience=5)
    assert fitted.trees == int(np.argmax(fitted.curve)) + 1
    assert len(fitted.curve) == fitted.trees + 5
    again = Booster.load(fitted.booster.to_bytes(), threads=1)
    unstopped = train(generated(seed=1), rounds=fitted.trees).booster
    features = generated(seed=3).features
    np.testing.assert_array_equal(again.scores(features), unstopped.scores(features))


def test_scores_do_not_depend_on_threads_or_on_the_rows_beside_them():
    content = train(generated(), rounds=20).booster.to_bytes()
    features = generated(seed=5).features
    one, two = (Booster.load(content, threads=threads).scores(features) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one[17:18], Booster.load(content, threads=1).scores(features[17:18]))


def test_position_correction_finds_that_low_positions_are_clicked_less_for_the_same_item():
    rng = np.random.default_rng(0)
    requests, shown = 1500, 8
    taste = rng.normal(size=(requests, shown))
    propensity = 1 / np.arange(1, shown + 1)
    clicked = rng.random(taste.shape) < propensity / (1 + np.exp(-2 * taste))
    starts = np.arange(0, requests * shown + 1, shown)
    examples = Examples(taste.reshape(-1, 1).astype(np.float32), clicked.ravel().astype(np.float32), starts)
    plain = train(examples, rounds=30)
    corrected = train(examples, rounds=30, parameters=REFERENCE | {"lambdarank_unbiased": True})
    assert plain.position_bias == ()
    assert len(corrected.position_bias) == shown
    assert corrected.position_bias[0] == 1.0
    assert corrected.position_bias[-1] < corrected.position_bias[1] < 1.0


def test_gain_shares_add_up_to_one_and_name_the_feature_that_matters():
    shares = train(generated(requests=300), rounds=20, parameters=REFERENCE | {"max_depth": 3}).booster.gain_shares(2)
    assert shares.sum() == pytest.approx(1.0)
    assert shares[0] > 0.6


def test_bytes_that_are_no_model_are_refused():
    with pytest.raises(InputError, match="not readable by XGBoost"):
        Booster.load(b"no model at all", threads=1)


def test_no_rows_have_no_scores():
    assert train(generated(), rounds=1).booster.scores(np.empty((0, 2), np.float32)).shape == (0,)


def test_scikit_learn_is_not_imported_for_xgboost_and_can_be_afterwards():
    program = (
        "import sys; import components.ranker.booster; assert 'sklearn' not in sys.modules; "
        "assert 'pandas' not in sys.modules; import sklearn.base"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("rows", [0, 1, 7, 2_000])
def test_scores_are_those_of_xgboosts_own_inplace_prediction(rows: int):
    booster = train(generated(), rounds=30).booster
    features = np.random.default_rng(rows).normal(size=(rows, 2)).astype(np.float32)
    features[::5, 1] = np.nan
    for given in (
        features,
        np.asfortranarray(features),
        np.repeat(features, 2, axis=0)[::2],
        features.astype(np.float64),
    ):
        expected = booster._model.inplace_predict(features, validate_features=False) if rows else []
        assert booster.scores(given).tolist() == list(expected)


def test_scores_do_not_change_when_others_are_asked_for():
    booster = train(generated(), rounds=5).booster
    first = booster.scores(np.zeros((3, 2), dtype=np.float32))
    before = first.copy()
    booster.scores(np.full((3, 2), 9.0, dtype=np.float32))
    assert np.array_equal(first, before)


def test_rows_of_another_width_are_refused():
    booster = train(generated(), rounds=5).booster
    with pytest.raises(xgb.core.XGBoostError, match=r"(?i)columns|feature"):
        booster.scores(np.zeros((3, 5), dtype=np.float32))
