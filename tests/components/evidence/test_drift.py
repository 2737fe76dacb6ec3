"""Drift: our distance against Evidently's and scipy's, alarms that are true, alarms that are false."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

with warnings.catch_warnings():
    # As in components.evidence.drift.
    warnings.simplefilter("ignore")
    from evidently.telemetry import event_logger

from components.artifacts import documents
from components.artifacts.digests import digest_tree
from components.dataset.contract import Cut, Dataset, Feature
from components.errors import EvidenceError
from components.evidence.contract import Estimate, Evidence
from components.evidence.drift import PRACTICAL_BOUND, measure_drift
from components.evidence.drift_history import Null, history_of
from components.ranker.booster import Examples, fit
from components.ranker.contract import Importance, Ranker, Rankings, RerankRules, System

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_FEATURES = ("steady", "moved", "plan")
_MIX = ("mix of device", "mix of locale", "mix of all contexts", "mix of country")


@dataclass(frozen=True)
class Windows:
    """Where the directories lie."""

    dataset: Path
    ranker: Path
    rankings: Path


def _write(
    folder: Path,
    *,
    shift: float,
    users: int = 150,
    rows_each: int = 20,
    seed: int = 0,
    growth: float = 0.0,
    phones: float = 0.3,
) -> Windows:
    """Seven weeks of training, a week of validation, a week of test in which `moved` is `shift` deviations higher.

    `growth` is how much `moved` rises every week, all along; `phones` the share of test requests from a phone, of 0.3 before.
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

    def asked(split: str, user: np.ndarray, day: np.ndarray, first: int, phone: float) -> pa.Table:
        return pa.table(
            {
                "request": pa.array(np.arange(first, first + len(user)), pa.int32()),
                "user": user,
                "ts": pa.array([BEGIN + timedelta(days=int(at)) for at in day], pa.timestamp("us", "UTC")),
                "split": [split] * len(user),
                "cut": pa.array(np.zeros(len(user)), pa.int32()),
                "device": np.where(rng.random(len(user)) < phone, "phone", "desktop"),
                "locale": rng.choice(["de", "fr"], len(user)),
            }
        )

    requests = [asked("train", training["user"], days, 0, 0.3)]
    pq.write_table(
        pa.table({"request": requests[0]["request"], **{name: training[name] for name in ("gain", *_FEATURES)}}),
        dataset / "rows.parquet",
    )
    pq.write_table(pa.table({"country": rng.choice(["DE", "FR", None], users)}), dataset / "users.parquet")
    windows = []
    for split, begin, extra in (("validation", 49, 0.0), ("test", 56, shift)):
        n = users * rows_each
        values = frame(n, np.full(n, begin), extra)
        score = (values["moved"] + values["steady"]).astype(np.float32)
        day = np.repeat(np.arange(begin, begin + 7), n // 7 + 1)[:n].astype(np.int32)
        # Two rows a request, of one user.
        values["user"] = np.repeat(values["user"][::2], 2)
        first = sum(table.num_rows for table in requests)
        requests.append(asked(split, values["user"][::2], day[::2], first, phones if split == "test" else 0.3))
        columns = {
            "split": [split] * n,
            "request": np.repeat(requests[-1]["request"].to_numpy(), 2),
            "day": pa.array(day).cast(pa.date32()),
            "score": score,
            **values,
        }
        windows.append(pa.table(columns))
    pq.write_table(pa.concat_tables(requests), dataset / "requests.parquet")
    pq.write_table(pa.concat_tables(windows), rankings / "features.parquet")

    def feature(name: str) -> Feature:
        kind = "category" if name == "plan" else "number"
        return Feature(name, "user", "count", "click", 0.0, kind, "")

    cuts = [("start", 0), ("validation", 49), ("test", 56), ("release", 63)]
    documents.save(
        Dataset(
            1, "0" * 64, "small", "logged", 3600, tuple(map(feature, _FEATURES)),
            tuple(Cut(name, (BEGIN + timedelta(days=day)).isoformat(), day * 24, 0) for name, day in cuts),
            ("click",), ("device", "locale"), ("country",), (), (), "", "", "", (10,), False, users, 10, {}, {}, {}, 0,
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
    (ranker / "model.ubj").write_bytes(_model(training))
    documents.save(
        Rankings(
            1, "0" * 64, "1" * 64, "logged", (System("candidate", "candidate", "", ""),), 10, (10,), 100, users, 10
        ),
        rankings / "rankings.json",
    )
    return Windows(dataset, ranker, rankings)


def _model(training: dict[str, np.ndarray]) -> bytes:
    """A model that scores as the windows are scored: moved plus steady."""
    rows = len(training["gain"])
    examples = Examples(
        np.column_stack([training[name] for name in _FEATURES]).astype(np.float32),
        (training["moved"] + training["steady"]).astype(np.float32),
        np.array([0, rows]),
    )
    learning: dict[str, str | int | float | bool] = {"objective": "reg:squarederror", "eta": 0.5, "max_depth": 4}
    fitted = fit(examples, None, parameters=learning, rounds=20, patience=1, metric="rmse", seed=0, threads=1)
    return fitted.booster.to_bytes()


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


def test_our_distance_is_evidentlys(shifted: tuple[Windows, Evidence, Path]) -> None:
    _, evidence, _ = shifted
    distances_ = [estimate for estimate in evidence.estimates if estimate.metric.endswith("distance")]
    assert {estimate.subject for estimate in distances_} == {
        "score", "label", *_FEATURES, *_MIX,
    }  # fmt: skip
    for estimate in distances_:
        assert estimate.value == pytest.approx(estimate.detail["evidently"], abs=1e-6)


def test_a_moved_column_is_shown_to_have_drifted_and_the_others_are_not(
    shifted: tuple[Windows, Evidence, Path],
) -> None:
    _, evidence, _ = shifted
    moved = _of(evidence, "drift_ratio", "moved")
    assert moved.low is not None
    assert moved.low > 1
    for name in ("steady", "plan", "label", *_MIX):
        quiet = _of(evidence, "mix_ratio" if name in _MIX else "drift_ratio", name)
        assert quiet.high is not None
        assert quiet.high < 1
    share = _of(evidence, "drifted_importance", "candidate")
    assert (share.low, share.high) == (0.6, 0.6)
    assert "moved (60% of the model)" in evidence.sentences[0]


def test_another_crowd_is_drift_of_the_mix_and_of_nothing_else(tmp_path: Path) -> None:
    evidence = _measured(_write(tmp_path / "w", shift=0.0, phones=0.75), tmp_path / "evidence")
    ratios = [e for e in evidence.estimates if e.statistic == "ratio"]
    assert {e.subject for e in ratios if e.low is not None and e.low > 1} == {"mix of device", "mix of all contexts"}
    assert {e.subject for e in ratios if e.metric == "mix_ratio"} == set(_MIX)
    assert _of(evidence, "mix_ratio", "mix of device").n_requests == 100
    assert _of(evidence, "drifted_importance", "candidate").high == 0.0
    assert "mix of device" in evidence.sentences[0]


def test_intervals_of_inputs_and_of_the_mix_hold_together_and_the_score_stands_alone(
    shifted: tuple[Windows, Evidence, Path],
) -> None:
    _, evidence, _ = shifted
    families = {e.subject: e.family for e in evidence.estimates if e.statistic == "ratio"}
    assert families == {
        "score": "",
        "label": "",
        **dict.fromkeys(_FEATURES, "drift_ratio: leading inputs"),
        **dict.fromkeys(_MIX, "mix_ratio: mix"),
    }


def test_every_column_says_how_small_a_movement_would_have_shown(shifted: tuple[Windows, Evidence, Path]) -> None:
    _, evidence, _ = shifted
    for estimate in evidence.estimates:
        if estimate.versus == "reference" and estimate.subject != "candidate":
            assert estimate.mde is not None
            assert estimate.mde > (1 if estimate.statistic == "ratio" else 0)


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


def test_without_drawing_every_other_figure_is_the_same(
    shifted: tuple[Windows, Evidence, Path], tmp_path: Path
) -> None:
    windows, drawn, _ = shifted
    plain = measure_drift(windows.dataset, windows.ranker, windows.rankings, out=tmp_path, seed=5, draw=False)
    assert (plain.reports, sorted(plain.libraries)) == ({}, ["numpy"])
    assert sorted(place.name for place in tmp_path.iterdir()) == ["drift-columns.parquet", "drift.json"]
    own = [e for e in drawn.estimates if not e.metric.startswith("evidently")]
    assert [_undrawn(estimate) for estimate in own] == list(plain.estimates)


def _undrawn(estimate: Estimate) -> Estimate:
    return replace(
        estimate, detail={name: x for name, x in estimate.detail.items() if not name.startswith("evidently")}
    )


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


def test_a_log_without_training_rows_has_no_history_and_only_the_practical_bound(tmp_path: Path) -> None:
    windows = _write(tmp_path / "w", shift=0.0)
    path = windows.dataset / "rows.parquet"
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    path = windows.dataset / "requests.parquet"
    requests = pq.read_table(path)
    pq.write_table(requests.filter(pc.not_equal(requests["split"], "train")), path)
    path = windows.rankings / "features.parquet"
    rows = pq.read_table(path)
    one_day = pa.array(np.zeros(rows.num_rows, np.int32)).cast(pa.date32())
    pq.write_table(rows.set_column(rows.column_names.index("day"), "day", [one_day]), path)
    evidence = _measured(windows, tmp_path / "evidence")
    found = _of(evidence, "drift_ratio", "moved")
    assert "null" not in found.detail
    assert (found.detail["null_pairs"], found.detail["null_days"], found.detail["threshold"]) == (
        0.0,
        0.0,
        PRACTICAL_BOUND,
    )
    assert any("no earlier windows" in sentence for sentence in evidence.sentences)


def test_values_that_go_missing_are_drift_even_if_those_left_look_the_same(tmp_path: Path) -> None:
    windows = _write(tmp_path / "w", shift=0.0)
    path = windows.rankings / "features.parquet"
    table = pq.read_table(path)
    steady = table["steady"].to_numpy().copy()
    test = np.array(table["split"].to_pylist()) == "test"
    steady[test & (np.random.default_rng(0).random(len(test)) < 0.4)] = np.nan
    pq.write_table(table.set_column(table.column_names.index("steady"), "steady", [steady]), path)
    evidence = _measured(windows, tmp_path / "evidence")
    left, gone = _of(evidence, "drift_ratio", "steady"), _of(evidence, "drift_ratio", "steady (missing)")
    assert left.high is not None
    assert left.high < 1
    assert gone.low is not None
    assert gone.low > 1
    # The gaps weigh as much as the feature, so a rule for important features looks at them too.
    assert gone.detail["importance"] == left.detail["importance"] == 0.3
    assert _of(evidence, "drifted_importance", "candidate").low == pytest.approx(0.3)


def test_what_evidently_would_say_alone_is_kept_beside(shifted: tuple[Windows, Evidence, Path]) -> None:
    _, evidence, _ = shifted
    flags = {e.subject: e.detail["evidently_default_flag"] for e in evidence.estimates if e.metric.endswith("distance")}
    assert flags["moved"] == 1.0
    share = _of(evidence, "evidently_default_share", "candidate")
    assert share.value == pytest.approx(sum(flags.values()) / len(flags))


def test_windows_without_rows_are_refused(tmp_path: Path) -> None:
    windows = _write(tmp_path / "w", shift=0.0)
    path = windows.rankings / "features.parquet"
    table = pq.read_table(path)
    pq.write_table(table.filter(pc.equal(table["split"], "validation")), path)
    with pytest.raises(EvidenceError, match="no rows of validation or of test"):
        _measured(windows, tmp_path / "evidence")


def test_nothing_is_reported_to_evidentlys_makers() -> None:
    assert event_logger.is_enabled() is False


def test_the_reference_lists_these_metrics(
    shifted: tuple[Windows, Evidence, Path], documented: dict[str, set[str]]
) -> None:
    assert {estimate.metric for estimate in shifted[1].estimates} == documented["drift"]


def _null(windows: Windows, manifest: Dataset, name: str) -> Null | None:
    rows = pq.read_table(windows.dataset / "rows.parquet")
    requests = pq.read_table(windows.dataset / "requests.parquet")
    history = history_of(manifest, requests, rows["request"].to_numpy())
    assert history is not None
    feature = next((held for held in manifest.features if held.name == name), None)
    values = rows["gain" if feature is None else name].to_numpy().astype(np.float64)
    return history.null(values, categorical=name == "plan", feature=feature, seed=0)


def _with_window(manifest: Dataset, days: float) -> Dataset:
    return replace(
        manifest,
        features=tuple(replace(f, window_days=days) if f.name == "moved" else f for f in manifest.features),
    )


def test_a_column_is_only_compared_with_windows_past_its_own_look_back(tmp_path: Path) -> None:
    """`moved` counts 28 days and fills up over the log's first four weeks: no measure of how much it moves later."""
    windows = _write(tmp_path / "w", shift=0.0)
    rows = pq.read_table(windows.dataset / "rows.parquet")
    ts = pq.read_table(windows.dataset / "requests.parquet")["ts"].to_pylist()[: rows.num_rows]
    filling = np.array([min((moment - BEGIN).days, 28) / 4 - 7 for moment in ts])
    moved = (rows["moved"].to_numpy() + filling).astype(np.float32)
    pq.write_table(
        rows.set_column(rows.column_names.index("moved"), "moved", [moved]), windows.dataset / "rows.parquet"
    )
    manifest = documents.load(Dataset, windows.dataset / "dataset.json")
    full, filling_up = (_null(windows, _with_window(manifest, days), "moved") for days in (28.0, 1.0))
    assert full is not None
    assert filling_up is not None
    assert full.distance < 0.1
    assert filling_up.distance > 0.3
    # 49 days of training, windows of 7 and 7: pairs begin on days 0, 7, ... 35.
    assert (filling_up.pairs, filling_up.days) == (5, 42)
    assert (full.pairs, full.days) == (2, 21)
    assert _null(windows, _with_window(manifest, 90.0), "moved").pairs == 1  # type: ignore[union-attr]


def test_sampled_training_cuts_are_each_others_history(tmp_path: Path) -> None:
    windows = _write(tmp_path / "w", shift=0.0)
    requests = pq.read_table(windows.dataset / "requests.parquet")
    cut = np.arange(requests.num_rows) * 3 // pq.read_table(windows.dataset / "rows.parquet").num_rows
    changed = requests.set_column(requests.column_names.index("cut"), "cut", [cut.astype(np.int32)])
    pq.write_table(changed, windows.dataset / "requests.parquet")
    manifest = replace(documents.load(Dataset, windows.dataset / "dataset.json"), mode="sampled")
    label, plan = (_null(windows, manifest, name) for name in ("label", "plan"))
    assert label is not None
    assert plan is not None
    assert (label.pairs, label.days) == (2, 0)
    # Counted since the beginning: only the latest pair says what to expect next.
    assert plan.pairs == 1


def test_gaps_that_were_always_there_are_no_gap_in_the_history(tmp_path: Path) -> None:
    windows = _write(tmp_path / "w", shift=0.0)
    for place in (windows.rankings / "features.parquet", windows.dataset / "rows.parquet"):
        table = pq.read_table(place)
        steady = table["steady"].to_numpy().copy()
        steady[np.random.default_rng(0).random(len(steady)) < 0.4] = np.nan
        pq.write_table(table.set_column(table.column_names.index("steady"), "steady", [steady]), place)
    evidence = _measured(windows, tmp_path / "evidence")
    gone = _of(evidence, "drift_ratio", "steady (missing)")
    assert gone.high is not None
    assert gone.high < 1
    assert gone.detail["null_pairs"] == 2


def test_a_table_without_a_needed_column_is_refused(tmp_path: Path) -> None:
    windows = _write(tmp_path / "w", shift=0.0)
    path = windows.rankings / "features.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["request", "steady"]), path)
    with pytest.raises(EvidenceError, match=r"features\.parquet: found columns .* needed also request, steady"):
        _measured(windows, tmp_path / "evidence")
    path.write_bytes(b"no parquet")
    with pytest.raises(EvidenceError, match=r"features\.parquet: cannot be read as Parquet"):
        measure_drift(windows.dataset, windows.ranker, windows.rankings, out=tmp_path / "evidence", seed=5)
