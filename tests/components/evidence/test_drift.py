"""Drift: our distance against Evidently's and scipy's, alarms that are true, alarms that are false."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.spatial.distance import jensenshannon

from components.artifacts import documents
from components.artifacts.digests import digest_tree
from components.dataset.contract import Cut, Dataset, Feature
from components.evidence.contract import Estimate, Evidence
from components.evidence.distance import Sample, distances, jensen_shannon, plain_distance
from components.evidence.drift import PRACTICAL_BOUND, measure_drift
from components.ranker.contract import Importance, Ranker, Rankings, RerankRules, System

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_FEATURES = ("steady", "moved", "plan")


@dataclass(frozen=True)
class Windows:
    """Where the directories lie."""

    dataset: Path
    ranker: Path
    rankings: Path


def _write(
    folder: Path, *, shift: float, users: int = 150, rows_each: int = 20, seed: int = 0, growth: float = 0.0
) -> Windows:
    """Seven weeks of training, a week of validation, a week of test in which `moved` is `shift` deviations higher.

    `growth` is how much `moved` rises every week, all along.
    """
    rng = np.random.default_rng(seed)
    own = rng.standard_normal(users)

    def frame(n: int, when: np.ndarray, extra: float) -> dict[str, np.ndarray]:
        user = rng.integers(0, users, n)
        return {
            "user": user.astype(np.int32),
            "steady": (own[user] + rng.standard_normal(n)).astype(np.float32),
            "moved": (own[user] + rng.standard_normal(n) + extra + growth * when / 7).astype(np.float32),
            "plan": rng.integers(0, 3, n).astype(np.float32),
            "gain": (rng.random(n) < 0.1).astype(np.float32),
        }

    dataset, ranker, rankings = (folder / name for name in ("dataset", "ranker", "rankings"))
    for place in (dataset, ranker, rankings):
        place.mkdir(parents=True)
    days = np.repeat(np.arange(49), users * rows_each // 7 // 10)
    training = frame(len(days), days, 0.0)
    requests = pa.table(
        {
            "request": pa.array(np.arange(len(days)), pa.int32()),
            "user": training["user"],
            "ts": pa.array([BEGIN + timedelta(days=int(day)) for day in days], pa.timestamp("us", "UTC")),
            "split": ["train"] * len(days),
            "cut": pa.array(np.zeros(len(days)), pa.int32()),
        }
    )
    pq.write_table(requests, dataset / "requests.parquet")
    pq.write_table(
        pa.table({"request": requests["request"], **{name: training[name] for name in ("gain", *_FEATURES)}}),
        dataset / "rows.parquet",
    )
    windows = []
    for split, begin, extra in (("validation", 49, 0.0), ("test", 56, shift)):
        n = users * rows_each
        values = frame(n, np.full(n, begin), extra)
        score = (values["moved"] + values["steady"]).astype(np.float32)
        day = pa.array(np.repeat(np.arange(begin, begin + 7), n // 7 + 1)[:n].astype(np.int32)).cast(pa.date32())
        columns = {"split": [split] * n, "day": day, "score": score, **values}
        windows.append(pa.table(columns))
    pq.write_table(pa.concat_tables(windows), rankings / "features.parquet")

    def feature(name: str) -> Feature:
        kind = "category" if name == "plan" else "number"
        return Feature(name, "user", "count", "click", 0.0, kind, "")

    cuts = [("start", 0), ("validation", 49), ("test", 56), ("release", 63)]
    documents.save(
        Dataset(
            1, "0" * 64, "small", "logged", 3600, tuple(map(feature, _FEATURES)),
            tuple(Cut(name, (BEGIN + timedelta(days=day)).isoformat(), day * 24, 0) for name, day in cuts),
            ("click",), (), (), (), (), "", "", "", (10,), False, users, 10, {}, {}, {}, 0,
        ),
        dataset / "dataset.json",
    )  # fmt: skip
    shares = (("moved", 0.6), ("steady", 0.3), ("plan", 0.1))
    documents.save(
        Ranker(
            1, "0" * 64, "small", "logged", "rank:ndcg", {}, _FEATURES, 1, "ndcg@10", (0.5,),
            tuple(Importance(name, share) for name, share in shares), (), {}, RerankRules(0, 0, 10, False), 0, 1, 10, 10, {},
        ),
        ranker / "ranker.json",
    )  # fmt: skip
    documents.save(
        Rankings(
            1, "0" * 64, "1" * 64, "logged", (System("candidate", "candidate", "", ""),), 10, (10,), 100, users, 10
        ),
        rankings / "rankings.json",
    )
    return Windows(dataset, ranker, rankings)


def _measured(windows: Windows, out: Path) -> Evidence:
    out.mkdir()
    return measure_drift(windows.dataset, windows.ranker, windows.rankings, out=out, seed=5)


def _of(evidence: Evidence, metric: str, subject: str) -> Estimate:
    return next(e for e in evidence.estimates if (e.metric, e.subject) == (metric, subject))


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Windows, Evidence, Path]:
    folder = tmp_path_factory.mktemp("drift")
    windows = _write(folder, shift=1.0)
    return windows, _measured(windows, folder / "evidence"), folder / "evidence"


def test_divergence_is_scipys() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        # Bins that only one of the two has, too.
        p = np.append(rng.integers(0, 9, 12), [0, 3]).astype(float)
        q = np.append(rng.integers(0, 9, 12), [4, 0]).astype(float)
        assert np.sqrt(jensen_shannon(p, q)) == pytest.approx(jensenshannon(p, q), abs=1e-12)


def test_our_distance_is_evidentlys(shifted: tuple[Windows, Evidence, Path]) -> None:
    _, evidence, _ = shifted
    distances_ = [estimate for estimate in evidence.estimates if estimate.metric == "distance"]
    assert {estimate.subject for estimate in distances_} == {"score", "label", *_FEATURES}
    for estimate in distances_:
        assert estimate.value == pytest.approx(estimate.detail["evidently"], abs=1e-6)


def test_a_moved_column_is_shown_to_have_drifted_and_the_others_are_not(
    shifted: tuple[Windows, Evidence, Path],
) -> None:
    _, evidence, _ = shifted
    moved = _of(evidence, "drift_ratio", "moved")
    assert moved.low is not None
    assert moved.low > 1
    for name in ("steady", "plan", "label"):
        quiet = _of(evidence, "drift_ratio", name)
        assert quiet.high is not None
        assert quiet.high < 1
    share = _of(evidence, "drifted_importance", "candidate")
    assert (share.low, share.high) == (0.6, 0.6)
    assert "moved (60% of the model)" in evidence.sentences[0]


def test_what_rose_every_week_before_is_no_alarm_when_it_rises_again(tmp_path: Path) -> None:
    windows = _write(tmp_path / "w", shift=0.0, growth=0.5)
    evidence = _measured(windows, tmp_path / "evidence")
    moved = _of(evidence, "drift_ratio", "moved")
    assert _of(evidence, "distance", "moved").value > PRACTICAL_BOUND  # type: ignore[operator]
    assert moved.detail["null"] > PRACTICAL_BOUND
    assert moved.low is not None
    assert moved.low < 1


def test_evidence_and_page_are_the_same_bytes_every_time(
    shifted: tuple[Windows, Evidence, Path], tmp_path: Path
) -> None:
    windows, _, folder = shifted
    _measured(windows, tmp_path / "again")
    assert digest_tree(tmp_path / "again") == digest_tree(folder)


def test_a_column_without_a_value_is_told_and_counts_as_drifted(tmp_path: Path) -> None:
    windows = _write(tmp_path / "w", shift=0.0)
    path = windows.rankings / "features.parquet"
    table = pq.read_table(path)
    steady = table["steady"].to_numpy().copy()
    steady[np.array(table["split"].to_pylist()) == "test"] = np.nan
    pq.write_table(table.set_column(table.column_names.index("steady"), "steady", [steady]), path)
    evidence = _measured(windows, tmp_path / "evidence")
    lost = _of(evidence, "distance", "steady")
    assert (lost.value, lost.low, lost.high) == (None, None, None)
    assert lost.detail["missing_current"] == 1.0
    share = _of(evidence, "drifted_importance", "candidate")
    assert share.low == pytest.approx(0.3)
    assert "Not measurable" in evidence.sentences[-1]


@pytest.mark.parametrize("users", [20, 200, 2000])
def test_equal_distributions_rarely_look_moved_at_any_size_while_a_fixed_bound_cries_wolf_at_small_ones(
    users: int,
) -> None:
    """Rows of one user are alike (ICC 0.5), which is what makes plain distances large for few users."""
    rng = np.random.default_rng(users)
    shown = plain = 0
    rounds = 60
    for round_ in range(rounds):
        halves = []
        for _ in range(2):
            own = np.repeat(rng.standard_normal(users), 10)
            halves.append((own + rng.standard_normal(users * 10), np.repeat(rng.permutation(10 * users)[:users], 10)))
        (reference, a), (current, b) = halves
        found = distances(
            [Sample(reference, current, categorical=False)], a, b, resamples=200, seed=round_, level=0.95
        )[0]
        shown += found.low > PRACTICAL_BOUND
        plain += found.value > PRACTICAL_BOUND
        assert found.low <= found.value <= found.high
    assert shown <= 0.05 * rounds
    if users == 20:
        assert plain >= 0.5 * rounds


def test_few_values_are_told_apart_one_by_one() -> None:
    assert plain_distance(np.array([0.0, 1.0]), np.array([0.0, 1.0]), categorical=False) == 0.0
    assert plain_distance(np.array([0.0]), np.array([1.0]), categorical=True) == pytest.approx(np.sqrt(np.log(2)))
    assert np.isnan(plain_distance(np.array([np.nan]), np.array([1.0]), categorical=False))
