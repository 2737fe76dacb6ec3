"""What one column alone can do: order within requests, share of the label that it tells."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from components.evidence.leakage_power import folds_of, learned_rates, single_powers, told_by, within_requests

REQUESTS, SHOWN, USERS = 900, 10, 300
SEED = 0


def rows(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positive, request and owner of every row."""
    request = np.repeat(np.arange(REQUESTS), SHOWN)
    return rng.random(request.size) < 0.15, request, request % USERS


def told(column: np.ndarray, positive: np.ndarray, owner: np.ndarray, *, coded: bool = False) -> float:
    fold = folds_of(owner, users=USERS, seed=SEED)
    found = told_by(learned_rates(column, positive, fold, coded=coded), positive, fold, owner, users=USERS)
    return float(found.gained.sum() / found.uncertain.sum())


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=4, max_size=12),
    data=st.data(),
)
def test_order_within_a_request_is_the_area_under_its_curve(values: list[float], data: st.DataObject) -> None:
    positive = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))))
    column, request = np.array(values)[:, None], np.zeros(len(values), np.int64)
    found = within_requests(column, positive, request, request, users=1)[0, 0]
    if positive.all() or not positive.any():
        assert np.isnan(found)
    else:
        assert found == pytest.approx(roc_auc_score(positive, values))


def test_a_users_value_is_the_mean_over_their_requests() -> None:
    column = np.array([[2.0], [1.0], [0.0], [1.0], [2.0], [0.0]])
    positive = np.array([True, False, False, True, False, False])
    request = np.array([3, 3, 3, 7, 7, 7])
    found = within_requests(column, positive, request, np.ones(6, np.int64), users=2)
    assert np.isnan(found[0, 0])
    assert found[1, 0] == pytest.approx((1.0 + 0.5) / 2)


def test_a_missing_number_ranks_below_all_others_and_ties_with_its_like() -> None:
    column = np.array([[np.nan], [-5.0], [np.nan]])
    request = np.zeros(3, np.int64)
    assert within_requests(column, np.array([False, True, False]), request, request, users=1)[0, 0] == 1.0
    assert within_requests(column, np.array([True, False, False]), request, request, users=1)[0, 0] == 0.25


def test_many_pairs_are_worked_on_in_portions_without_losing_any(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    positive, request, owner = rows(rng)
    columns = rng.standard_normal((request.size, 3))
    whole = within_requests(columns, positive, request, owner, users=USERS)
    monkeypatch.setattr("components.evidence.leakage_power._PAIRS_AT_ONCE", 50)
    np.testing.assert_array_equal(within_requests(columns, positive, request, owner, users=USERS), whole)


def test_a_copy_of_the_label_tells_everything_and_noise_nothing() -> None:
    rng = np.random.default_rng(2)
    positive, _, owner = rows(rng)
    assert told(positive.astype(float), positive, owner) > 0.99
    assert -0.02 < told(rng.standard_normal(owner.size), positive, owner) <= 0.002


@pytest.mark.parametrize(
    "leak",
    [
        lambda label, noise: np.where(label, noise, np.nan),
        lambda label, noise: np.where(label, 0.2 * np.tanh(noise), np.sign(noise) * (1 + noise**2)),
    ],
    ids=["missing just where nothing happened", "middling where something did"],
)
def test_a_label_in_disguise_is_told_in_any_shape(leak: object) -> None:
    rng = np.random.default_rng(3)
    positive, _, owner = rows(rng)
    column = leak(positive, rng.standard_normal(owner.size))  # type: ignore[operator]
    assert told(column, positive, owner) > 0.9


def test_codes_without_order_are_ordered_by_the_rates_of_other_users() -> None:
    rng = np.random.default_rng(4)
    positive, request, owner = rows(rng)
    codes = np.where(positive, rng.choice([1, 5, 8], owner.size), rng.choice([0, 3, 6, 9], owner.size)).astype(float)
    found = single_powers(codes[:, None], np.array([True]), positive, request, owner, users=USERS, seed=SEED)
    assert np.nanmin(found.ordered) == 1.0
    as_number = single_powers(codes[:, None], np.array([False]), positive, request, owner, users=USERS, seed=SEED)
    assert abs(np.nanmean(as_number.ordered) - 0.5) < 0.1


def test_a_code_of_each_user_tells_nothing_about_others() -> None:
    rng = np.random.default_rng(5)
    positive, request, owner = rows(rng)
    found = single_powers(owner[:, None].astype(float), np.array([True]), positive, request, owner, users=USERS, seed=0)
    assert found.told.gained.sum() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("power", "least", "most"), [(np.inf, 0.999, 1.0), (2.0, 0.9, 0.94), (0.5, 0.6, 0.67)])
def test_a_noisy_label_orders_as_much_as_its_noise_lets_it(power: float, least: float, most: float) -> None:
    rng = np.random.default_rng(6)
    positive, request, owner = rows(rng)
    column = positive + (rng.standard_normal(owner.size) / power)
    found = single_powers(column[:, None], np.array([False]), positive, request, owner, users=USERS, seed=SEED)
    assert least <= np.nanmean(found.ordered) <= most


def test_a_column_of_the_request_that_is_filled_in_after_success_tells_it() -> None:
    rng = np.random.default_rng(7)
    positive, request, owner = rows(rng)
    success = np.logical_or.reduceat(positive, np.arange(0, request.size, SHOWN))
    device = rng.integers(0, 3, REQUESTS).astype(float)
    session = np.where(success, rng.integers(1, 4, REQUESTS), 0).astype(float)
    columns = np.column_stack([device, session])[request]
    found = single_powers(columns, np.array([True, True]), positive, request, owner, users=USERS, seed=SEED)
    assert found.constant.all()
    honest, leaked = found.of_request.gained.sum(axis=0) / found.of_request.uncertain.sum()
    assert honest < 0.02
    assert leaked > 0.95
    assert np.nanmax(np.abs(found.ordered - 0.5)) == 0


def test_where_every_request_succeeds_nothing_can_be_told_of_success() -> None:
    positive = np.tile([True, False, False], 50)
    request = np.repeat(np.arange(50), 3)
    columns = np.repeat(np.arange(50.0), 3)[:, None]
    found = single_powers(columns, np.array([False]), positive, request, request, users=50, seed=SEED)
    assert not found.of_request.uncertain.any()


def test_the_share_of_missing_values_is_told_for_both_kinds_of_rows() -> None:
    positive = np.array([True, False, True, False])
    columns = np.array([[np.nan, -1.0], [1.0, 2.0], [np.nan, 1.0], [1.0, 1.0]])
    found = single_powers(
        columns, np.array([False, True]), positive, np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]), users=2, seed=0
    )
    np.testing.assert_array_equal(found.missing, [[0.0, 0.0], [1.0, 0.5]])
