from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from components.artifacts import documents
from components.errors import InputError
from components.ranker.calibration import Calibration, fit_calibration

observations = st.lists(st.tuples(st.integers(-8, 8), st.booleans()), min_size=1, max_size=60)


@given(observations)
def test_it_is_scikit_learns_isotonic_regression(rows):
    scores, positives = np.array([row[0] for row in rows]) / 4, np.array([row[1] for row in rows])
    reference = IsotonicRegression(out_of_bounds="clip").fit(scores, positives.astype(float))
    asked = np.linspace(-3, 3, 50)
    found = fit_calibration(scores, positives).probability(asked)
    np.testing.assert_allclose(found, reference.predict(asked), atol=1e-12)


@given(observations)
def test_it_never_changes_an_order_and_keeps_the_share_of_positives(rows):
    scores, positives = np.array([row[0] for row in rows], dtype=float), np.array([row[1] for row in rows])
    calibration = fit_calibration(scores, positives)
    assert (np.diff(calibration.probability(np.sort(scores))) >= 0).all()
    assert calibration.probability(scores).mean() == pytest.approx(positives.mean())


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
