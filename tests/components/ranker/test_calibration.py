from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from components.artifacts import documents
from components.errors import InputError
from components.ranker.calibration import Calibration, fit_calibration, held_out_loss

observations = st.lists(st.tuples(st.integers(-8, 8), st.booleans()), min_size=1, max_size=60)


@given(observations)
def test_it_is_scikit_learns_isotonic_regression(rows):
    scores, positives = np.array([row[0] for row in rows]) / 4, np.array([row[1] for row in rows])
    reference = IsotonicRegression(out_of_bounds="clip").fit(scores, positives.astype(float))
    asked = np.linspace(-3, 3, 50)
    found = fit_calibration(scores, positives, method="isotonic").probability(asked)
    np.testing.assert_allclose(found, reference.predict(asked), atol=1e-12)


@given(observations)
def test_it_never_changes_an_order_and_keeps_the_share_of_positives(rows):
    scores, positives = np.array([row[0] for row in rows], dtype=float), np.array([row[1] for row in rows])
    for method in ("isotonic", "platt"):
        assert (np.diff(fit_calibration(scores, positives, method=method).probability(np.sort(scores))) >= 0).all()
    isotonic = fit_calibration(scores, positives, method="isotonic")
    assert isotonic.probability(scores).mean() == pytest.approx(positives.mean())


def test_it_reads_back_as_it_was_written():
    calibration = fit_calibration(np.array([0.1, 0.2, 0.3, 0.4]), np.array([False, True, False, True]))
    assert documents.parse(Calibration, documents.to_bytes(calibration), subject="x") == calibration


@pytest.mark.parametrize(
    ("scores", "probabilities"),
    [((), ()), ((0.0, 1.0), (0.5,)), ((0.0, 0.0), (0.1, 0.2)), ((0.0, 1.0), (0.2, 0.1)), ((0.0,), (1.5,))],
)
def test_a_map_that_is_not_monotone_is_refused(scores, probabilities):
    with pytest.raises(InputError, match="calibration"):
        Calibration(1, scores, probabilities, rows=1, positives=0)


def test_no_rows_cannot_be_calibrated():
    with pytest.raises(InputError, match="no validation rows"):
        fit_calibration(np.empty(0), np.empty(0, dtype=bool))


def _logistic(rows, *, seed, slope=1.5, base=-2.0):
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal(rows)
    return scores, rng.random(rows) < 1 / (1 + np.exp(-(base + slope * scores)))


def test_platts_curve_is_scikit_learns_logistic_regression_of_many_rows():
    scores, positives = _logistic(20_000, seed=0)
    reference = LogisticRegression(C=np.inf, tol=1e-10).fit(scores[:, None], positives)
    asked = np.linspace(scores.min(), scores.max(), 101)
    found = fit_calibration(scores, positives, method="platt")
    # His targets lie a little inside 0 and 1: with 20 000 rows that is 1e-3 at most.
    np.testing.assert_allclose(found.probability(asked), reference.predict_proba(asked[:, None])[:, 1], atol=1e-3)
    assert found.method == "platt"


def test_platts_curve_is_finite_where_scores_separate_the_classes_and_flat_where_they_mislead():
    scores = np.arange(10.0)
    apart = fit_calibration(scores, scores >= 5, method="platt").probability(scores)
    assert 0 < apart[0] < 0.2
    assert 0.8 < apart[-1] < 1
    misled = fit_calibration(scores, scores < 5, method="platt")
    assert misled.probabilities == (pytest.approx(0.5),)
    assert fit_calibration(np.ones(4), np.array([True, False, False, False]), method="platt").scores == (1.0,)


def test_few_outcomes_of_a_logistic_curve_are_fitted_by_platt_and_many_of_another_shape_by_isotonic():
    few = [fit_calibration(*_logistic(300, seed=seed)).method for seed in range(10)]
    assert few.count("platt") >= 7
    rng = np.random.default_rng(3)
    scores = rng.uniform(-3, 3, 20_000)
    step = rng.random(20_000) < np.where(scores > 1, 0.6, 0.05)
    assert fit_calibration(scores, step).method == "isotonic"


def test_the_map_that_is_kept_has_the_smaller_loss_on_requests_that_it_has_not_seen():
    for seed in range(5):
        scores, positives = _logistic(800, seed=seed)
        groups = np.arange(800) // 8
        losses = {m: held_out_loss(scores, positives, groups, method=m) for m in ("isotonic", "platt")}
        assert fit_calibration(scores, positives, groups=groups).method == min(losses, key=losses.get)


def test_one_class_or_one_group_is_fitted_without_a_comparison():
    assert fit_calibration(np.arange(5.0), np.zeros(5, dtype=bool)).method == "isotonic"
    assert held_out_loss(np.arange(5.0), np.arange(5) > 2, np.full(5, 7), method="platt") == np.inf


def test_a_map_of_before_there_was_a_choice_is_an_isotonic_one():
    old = b'{"positives":1,"probabilities":[0.1,0.4],"rows":9,"schema_version":1,"scores":[0.0,1.0]}'
    assert documents.parse(Calibration, old, subject="x").method == "isotonic"
