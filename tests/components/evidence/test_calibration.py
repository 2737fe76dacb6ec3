from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.special import expit, logit
from scipy.stats import binomtest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from components.artifacts import documents
from components.artifacts.digests import digest_tree
from components.evidence.calibration import measure_calibration
from components.evidence.contract import Estimate, Evidence
from components.evidence.reliability import equal_mass_bins, observed_range, recalibrate


@pytest.fixture(scope="module")
def large(write_world: Callable[..., Any]) -> Any:
    return write_world(users=400, requests_per_user=2, seed=6, skills={"candidate": 1.0, "random": 0.0})


@pytest.fixture(scope="module")
def measured(large: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Evidence, Path]:
    out = tmp_path_factory.mktemp("calibration")
    return measure_calibration(large.dataset, large.rankings, out=out, seed=3), out


def one(evidence: Evidence, metric: str, **segment: str) -> Estimate:
    (found,) = [e for e in evidence.estimates if e.metric == metric and e.segment == segment]
    return found


def predictions(world: Any, out: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chances by the map that was written, outcomes and users of the candidate's test rows."""
    table = pq.read_table(world.rankings / "rankings.parquet").to_pandas()
    table = table[table.system == "candidate"]
    test = world.truth["split"][table.request] == "test"
    chances = pq.read_table(out / "calibration-map.parquet")
    user = world.truth["user"][table.request[test]]
    told = np.interp(table.score[test].astype(float), chances["score"].to_numpy(), chances["probability"].to_numpy())
    return told, table.positive[test].to_numpy(), user


def test_the_evidence_is_whole_and_equal_inputs_give_equal_bytes(
    large: Any, measured: tuple[Evidence, Path], tmp_path: Path
) -> None:
    evidence, out = measured
    assert documents.load(Evidence, out / "calibration.json") == evidence
    assert {path.name for path in out.iterdir()} == {"calibration.json", *evidence.tables.values()}
    measure_calibration(large.dataset, large.rankings, out=tmp_path, seed=3)
    assert digest_tree(tmp_path) == digest_tree(out)


def test_brier_gap_and_slope_agree_with_scikit_learn(large: Any, measured: tuple[Evidence, Path]) -> None:
    evidence, out = measured
    chance, outcome, _ = predictions(large, out)
    brier = one(evidence, "brier")
    assert brier.value == pytest.approx(brier_score_loss(outcome, chance), abs=1e-6)
    assert brier.detail["skill"] == pytest.approx(1 - brier.value / (outcome.mean() * (1 - outcome.mean())))
    gap = one(evidence, "calibration_gap")
    assert gap.value == pytest.approx(outcome.mean() - chance.mean(), abs=1e-6)
    assert gap.detail["ratio"] == pytest.approx(outcome.mean() / chance.mean(), rel=1e-5)
    floor = 0.5 / (outcome.size)
    line = LogisticRegression(C=np.inf).fit(logit(np.clip(chance, floor, 1 - floor))[:, None], outcome)
    assert one(evidence, "calibration_slope").value == pytest.approx(line.coef_[0, 0], abs=2e-3)
    assert one(evidence, "calibration_intercept").value == pytest.approx(line.intercept_[0], abs=2e-3)


def test_a_calibrated_ranker_is_within_its_intervals_and_the_error_is_near_its_noise(
    measured: tuple[Evidence, Path],
) -> None:
    evidence, _ = measured
    gap, slope, ece = (one(evidence, name) for name in ("calibration_gap", "calibration_slope", "ece"))
    assert gap.low < 0 < gap.high
    # Its interval takes the map as given, which is off by what validation could not tell.
    assert slope.value == pytest.approx(1, abs=0.15)
    assert ece.low <= ece.value <= ece.high
    assert ece.value < 2.5 * ece.detail["noise"]
    assert ece.detail["reduced"] < ece.value


def test_the_reliability_table_adds_up_to_the_error(large: Any, measured: tuple[Evidence, Path]) -> None:
    evidence, out = measured
    table = pq.read_table(out / evidence.tables["bins"]).to_pandas()
    chance, outcome, _ = predictions(large, out)
    assert table.rows.sum() == outcome.size
    assert table.positives.sum() == outcome.sum()
    assert (table.rows * table.predicted).sum() == pytest.approx(chance.sum(), rel=1e-5)
    assert (table.predicted.diff().dropna() > 0).all()
    assert ((table.lowest <= table.predicted) & (table.predicted <= table.highest)).all()
    assert ((table.observed_low <= table.observed) & (table.observed <= table.observed_high)).all()
    error = (table.rows * (table.observed - table.predicted).abs()).sum() / table.rows.sum()
    assert one(evidence, "ece").value == pytest.approx(error, abs=1e-8)


def test_the_map_is_fitted_on_validation_alone_and_the_one_that_predicts_best(
    large: Any, measured: tuple[Evidence, Path]
) -> None:
    table = pq.read_table(measured[1] / measured[0].tables["map"])
    rows = pq.read_table(large.rankings / "rankings.parquet").to_pandas()
    rows = rows[(rows.system == "candidate") & (large.truth["split"][rows.request] == "validation")]
    # Outcomes of this world are logistic in the score.
    fitted = LogisticRegression(C=np.inf).fit(rows.score.astype(float).to_numpy()[:, None], rows.positive)
    grid = np.linspace(rows.score.min(), rows.score.max(), 200)
    ours = np.interp(grid, table["score"].to_numpy(), table["probability"].to_numpy())
    assert ours == pytest.approx(fitted.predict_proba(grid[:, None])[:, 1], abs=2e-3)
    assert "Platt's logistic curve" in measured[0].sentences[-1]


def test_a_score_of_another_shape_is_mapped_by_isotonic_regression(large: Any, tmp_path: Path) -> None:
    rankings, out = tmp_path / "rankings", tmp_path / "out"
    shutil.copytree(large.rankings, rankings)
    out.mkdir()
    table = pq.read_table(rankings / "rankings.parquet")
    # The same order, but no straight line in it.
    bent = pa.array(np.exp(2.0 * table["score"].to_numpy()).astype(np.float32))
    pq.write_table(table.set_column(table.column_names.index("score"), "score", bent), rankings / "rankings.parquet")
    evidence = measure_calibration(large.dataset, rankings, out=out, seed=3)
    rows = table.to_pandas().assign(score=bent.to_numpy())
    rows = rows[(rows.system == "candidate") & (large.truth["split"][rows.request] == "validation")]
    fitted = IsotonicRegression(out_of_bounds="clip").fit(rows.score.astype(float), rows.positive)
    chances = pq.read_table(out / evidence.tables["map"])
    grid = np.exp(np.linspace(-6, 6, 200))
    ours = np.interp(grid, chances["score"].to_numpy(), chances["probability"].to_numpy())
    assert ours == pytest.approx(fitted.predict(grid), abs=1e-9)
    assert "isotonic regression" in evidence.sentences[-1]


def test_a_shift_between_validation_and_test_is_shown(write_world: Callable[..., Any], tmp_path: Path) -> None:
    world = write_world(users=300, requests_per_user=2, miscalibration=1.0, skills={"candidate": 1.0, "random": 0.0})
    found = measure_calibration(world.dataset, world.rankings, out=tmp_path, seed=1)
    gap, ece = one(found, "calibration_gap"), one(found, "ece")
    assert gap.low > 0.05
    assert ece.low > 0.05
    assert gap.detail["ratio_low"] > 1.2
    germany = one(found, "calibration_gap", country="DE")
    assert germany.low > 0
    assert germany.family == "calibration_gap by group"


BOUND = 0.03
"""Of the default policy on the error."""


@pytest.mark.parametrize(
    ("logit_shift", "users", "answer"),
    [
        (0.0, 20, "insufficient"),
        (0.0, 1500, "pass"),
        (0.15, 1500, "pass"),
        (0.6, 1500, "fail"),
        (1.2, 1500, "fail"),
        (0.6, 20, "insufficient"),
    ],
)
def test_scores_that_promise_too_much_fail_where_there_are_enough_users_to_say_so(
    write_world: Callable[..., Any], tmp_path: Path, logit_shift: float, users: int, answer: str
) -> None:
    world = write_world(
        users=users, requests_per_user=2, miscalibration=logit_shift, seed=4, skills={"candidate": 1.0, "random": 0.0}
    )
    ece = one(measure_calibration(world.dataset, world.rankings, out=tmp_path, seed=1), "ece")
    said = "fail" if ece.low > BOUND else "pass" if ece.high < BOUND else "insufficient"
    assert said == answer, (ece.low, ece.value, ece.high)


def test_each_group_has_its_gap_and_its_error(measured: tuple[Evidence, Path]) -> None:
    evidence, _ = measured
    for metric in ("calibration_gap", "ece"):
        grouped = [e for e in evidence.estimates if e.metric == metric and e.segment]
        assert [e.segment["country"] for e in grouped] == ["DE", "FR", "IT", "unknown"]
        assert sum(e.detail["rows"] for e in grouped) == one(evidence, metric).detail["rows"]
        assert sum(e.n_users for e in grouped) == one(evidence, metric).n_users
        assert sum(e.n_requests for e in grouped) == one(evidence, metric).n_requests


def test_a_small_group_without_a_positive_is_not_shown_to_be_miscalibrated(
    write_world: Callable[..., Any], tmp_path: Path
) -> None:
    world = write_world(users=300, requests_per_user=1, bias=-4.5, seed=9)
    path = world.rankings / "rankings.parquet"
    table = pq.read_table(path).to_pandas()
    unknown = np.array([country is None for country in world.truth["country"]])
    table.loc[unknown[world.truth["user"][table.request]], ["positive", "gain"]] = [False, 0.0]
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False), path)
    found = measure_calibration(world.dataset, world.rankings, out=tmp_path, seed=1)
    gap, ece = one(found, "calibration_gap", country="unknown"), one(found, "ece", country="unknown")
    assert gap.detail["observed"] == 0
    assert gap.value < 0
    assert gap.low < 0 < gap.high
    assert ece.low == 0
    assert ece.high > 0.3


def test_the_range_of_an_observed_share_is_exact_for_one_row_a_user() -> None:
    members = np.array([[True] * 40, [True] * 20 + [False] * 20])
    low, high = observed_range(np.repeat([1.0, 0.0], [2, 38]), np.ones(40), members, tail=0.025)
    expected = [binomtest(2, n).proportion_ci(0.95) for n in (40, 20)]
    assert low == pytest.approx([interval.low for interval in expected], rel=1e-6)
    assert high == pytest.approx([interval.high for interval in expected], rel=1e-6)
    many = observed_range(np.repeat([1.0, 0.0], [60, 60]), np.ones(120), np.ones((1, 120), dtype=bool), tail=0.025)
    assert np.isnan(many).all()


@pytest.mark.parametrize(("bias", "kind"), [(-60.0, "no positive"), (60.0, "a positive")])
def test_one_class_is_missing_evidence_not_a_crash(
    write_world: Callable[..., Any], tmp_path: Path, bias: float, kind: str
) -> None:
    world = write_world(users=10, bias=bias)
    found = measure_calibration(world.dataset, world.rankings, out=tmp_path, seed=1)
    assert {e.metric for e in found.estimates} >= {"ece", "brier", "calibration_gap", "calibration_slope"}
    assert all((e.value, e.low, e.high) == (None, None, None) for e in found.estimates)
    assert kind in found.sentences[0]
    assert documents.load(Evidence, tmp_path / "calibration.json") == found


def test_without_validation_rows_there_is_missing_evidence_and_a_reason(
    write_world: Callable[..., Any], tmp_path: Path
) -> None:
    world = write_world(users=10)
    path = world.rankings / "rankings.parquet"
    table = pq.read_table(path)
    test = world.truth["split"][table["request"].to_numpy()] == "test"
    pq.write_table(table.filter(pa.array(test)), path)
    found = measure_calibration(world.dataset, world.rankings, out=tmp_path, seed=1)
    assert all(e.value is None for e in found.estimates)
    assert "no validation rows" in found.sentences[0]


def test_test_rows_of_one_class_still_have_an_error_but_no_slope(
    write_world: Callable[..., Any], tmp_path: Path
) -> None:
    world = write_world(users=30, miscalibration=-60.0)
    found = measure_calibration(world.dataset, world.rankings, out=tmp_path, seed=1)
    assert one(found, "calibration_slope").value is None
    assert one(found, "ece").value == pytest.approx(one(found, "calibration_gap").detail["predicted"])
    assert one(found, "calibration_gap").detail["observed"] == 0


def test_equal_predictions_share_a_bin_and_others_are_spread_evenly() -> None:
    runs = equal_mass_bins(np.repeat([0.1, 0.2, 0.9], [50, 30, 20]), bins=10)
    assert runs.tolist() == [0] * 50 + [1] * 30 + [2] * 20
    spread = equal_mass_bins(np.linspace(0, 1, 1000), bins=10)
    assert np.bincount(spread).tolist() == [100] * 10
    assert equal_mass_bins(np.zeros(0), bins=10).size == 0
    assert equal_mass_bins(np.full(5, 0.3), bins=10).tolist() == [0] * 5


def test_the_recalibration_line_covers_the_truth_with_correlated_rows() -> None:
    rng = np.random.default_rng(2)
    covered, by_row = [], []
    for _ in range(150):
        user = np.repeat(np.arange(120), 15)
        x = rng.normal(-1, 1, user.size)
        shared = rng.normal(0, 1.0, 120)[user]
        outcome = rng.random(user.size) < expit(x + shared)
        # The truth is the line of the population: the shared part flattens it (about 1 / sqrt(1 + 0.346)).
        line = recalibrate(expit(x), outcome, user, floor=1e-6, level=0.95)
        loose = recalibrate(expit(x), outcome, np.arange(user.size), floor=1e-6, level=0.95)
        assert line is not None
        assert loose is not None
        covered.append((line.intercept, line.intercept_error * line.critical))
        by_row.append(loose.intercept_error * loose.critical)
    intercepts, reach = np.array(covered).T
    truth = intercepts.mean()
    assert 0.9 <= np.mean(np.abs(intercepts - truth) <= reach) <= 0.99
    assert np.mean(np.abs(intercepts - truth) <= by_row) < 0.85


@pytest.mark.parametrize(
    ("chance", "outcome"),
    [
        ([0.5] * 6, [True, False] * 3),
        ([0.1, 0.2, 0.3, 0.7, 0.8, 0.9], [False] * 3 + [True] * 3),
        ([0.1] * 6, [True] * 6),
    ],
)
def test_there_is_no_line_where_none_is_determined(chance: list[float], outcome: list[bool]) -> None:
    assert recalibrate(np.array(chance), np.array(outcome), np.arange(6), floor=1e-3, level=0.95) is None
