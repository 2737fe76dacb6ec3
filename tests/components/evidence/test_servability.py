"""The service of a release, really started: parity, latency, refusals; skew is caught and named; nothing is left running."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from components.artifacts import documents
from components.dataset.build import build_dataset
from components.events.declaration import load_contract
from components.events.shop import generate_shop
from components.events.snapshot import take_snapshot
from components.evidence.contract import Estimate, Evidence
from components.evidence.malformed import malformed_requests
from components.evidence.parity import differing, expected_scores, feature_parity, sample_requests
from components.evidence.servability import CALLS, measure_servability, quantile_limits
from components.evidence.serving import running
from components.ranker.contract import Ranker
from components.ranker.ranking import rank
from components.ranker.scoring import LoadedRanker
from components.ranker.storage import file_digests
from components.ranker.train import train_ranker


@dataclass(frozen=True)
class Run:
    """Folders of one honest run."""

    dataset: Path
    ranker: Path
    rankings: Path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("honest")
    for name in ("shop", "snapshot", "dataset", "ranker", "rankings"):
        (folder / name).mkdir()
    contract = load_contract(generate_shop(folder / "shop", seed=4, scale=0.05))
    assert contract.as_of is not None
    take_snapshot(contract, base=folder / "shop", as_of=contract.as_of, out=folder / "snapshot")
    build_dataset(folder / "snapshot", out=folder / "dataset", seed=4)
    train_ranker(folder / "dataset", out=folder / "ranker", seed=4, threads=1)
    rank(folder / "dataset", folder / "ranker", incumbent=None, out=folder / "rankings", seed=4, threads=1)
    return Run(folder / "dataset", folder / "ranker", folder / "rankings")


def skewed(run: Run, folder: Path, *, array: str, by: float) -> Run:
    """The ranker with one of its arrays scaled, its manifest made to agree: put together wrongly, and no digest says so."""
    ranker = folder / "skewed"
    shutil.copytree(run.ranker, ranker)
    values = np.load(ranker / "tables" / f"{array}.npy", allow_pickle=False)
    np.save(ranker / "tables" / f"{array}.npy", (values * (1 + by)).astype(values.dtype), allow_pickle=False)
    manifest = documents.load(Ranker, ranker / "ranker.json")
    documents.save(replace(manifest, files=file_digests(ranker)), ranker / "ranker.json")
    return replace(run, ranker=ranker)


def one(evidence: Evidence, metric: str) -> Estimate:
    (found,) = [held for held in evidence.estimates if held.metric == metric]
    return found


def processes_of(ranker: Path) -> list[str]:
    """Running programs whose environment names this ranker."""
    found = []
    for place in Path("/proc").glob("[0-9]*/environ"):
        try:
            if str(ranker).encode() in place.read_bytes():
                found.append(place.parent.name)
        except OSError:
            continue
    return [name for name in found if name != str(os.getpid())]


def test_limits_of_a_quantile_hold_it_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    for quantile, truth in ((0.5, np.log(2)), (0.95, np.log(20)), (0.99, np.log(100))):
        held = [
            low <= truth <= high
            for low, high in (quantile_limits(rng.exponential(size=CALLS), quantile, level=0.95) for _ in range(600))
        ]
        assert 0.93 <= np.mean(held) <= 0.985


def test_too_few_calls_leave_the_upper_limit_of_a_high_quantile_open() -> None:
    low, high = quantile_limits(np.arange(100.0), 0.99, level=0.95)
    assert low == 96.0
    assert np.isnan(high)


def test_cells_differ_to_the_bit_and_two_gaps_are_equal() -> None:
    trained = np.array([[1.0, np.nan], [2.0, 3.0], [0.0, 1.0]], dtype=np.float32)
    served = np.array(
        [[1.0, np.nan], [np.nextafter(np.float32(2), np.float32(3)), 3.0], [0.0, np.nan]], dtype=np.float32
    )
    assert differing(trained, served).tolist() == [1, 1]


def test_wrong_requests_are_of_many_kinds_and_differ() -> None:
    wrong = malformed_requests("17")
    assert len(wrong) >= 40
    assert len({held.what for held in wrong}) == len(wrong)
    assert len({(held.method, held.path, held.body) for held in wrong}) == len(wrong)


def test_the_sample_asks_what_users_asked_with_a_hundred_candidates(run: Run) -> None:
    asked = sample_requests(run.dataset, run.rankings, calls=40, candidates=100, seed=3)
    again = sample_requests(run.dataset, run.rankings, calls=40, candidates=100, seed=3)
    assert asked == again
    assert all(len(held.items) == len(set(held.items)) == 100 for held in asked)
    test = pq.read_table(run.rankings / "rankings.parquet").to_pandas().query("system == 'candidate'")
    for held in asked:
        assert set(test[test.request == held.request]["item"]) <= set(held.items)


def test_the_training_path_and_the_loaded_ranker_agree(run: Run) -> None:
    asked = sample_requests(run.dataset, run.rankings, calls=20, candidates=60, seed=1)
    loaded = LoadedRanker.open(run.ranker)
    for held, expected in zip(asked, expected_scores(run.dataset, run.ranker, asked), strict=True):
        served = dict(
            loaded.rank(held.user_id, [loaded.item_ids[item] for item in held.items], context=held.context, k=60)
        )
        known = {loaded.item_ids[item]: score for item, score in zip(held.items, expected.scores.tolist(), strict=True)}
        assert served.keys() == known.keys()
        assert max(abs(served[name] - known[name]) for name in served) <= 1e-6


def test_no_cell_of_an_honest_ranker_differs_and_a_skewed_feature_is_named(run: Run, tmp_path: Path) -> None:
    assert not any(held.value for held in feature_parity(run.dataset, run.ranker, seed=0))
    wrong = skewed(run, tmp_path, array="items.price", by=0.01)
    found = feature_parity(wrong.dataset, wrong.ranker, seed=0)
    assert {held.subject for held in found if held.value} == {"item_price"}


@pytest.mark.integration
def test_an_honest_candidate_is_served_as_it_was_measured(run: Run, tmp_path: Path) -> None:
    found = measure_servability(run.dataset, run.ranker, run.rankings, out=tmp_path, seed=0)
    assert one(found, "score_difference").value == 0
    assert one(found, "order_parity").value == 1
    assert one(found, "error_share").value == 0
    assert one(found, "malformed_refused").value == 1
    assert one(found, "well_afterwards").value == 1
    latency = one(found, "latency_p99")
    assert latency.low is not None
    assert latency.value is not None
    assert latency.high is not None
    assert 0 < latency.low <= latency.value <= latency.high
    assert (one(found, "memory_mb").value or 0) > 50
    calls = pq.read_table(tmp_path / "servability-calls.parquet")
    assert calls.num_rows == CALLS
    assert set(calls["status"].to_pylist()) == {200}
    assert not processes_of(run.ranker)


@pytest.mark.integration
def test_a_skewed_release_gives_other_scores_and_says_which_feature(run: Run, tmp_path: Path) -> None:
    wrong = skewed(run, tmp_path, array="items.price", by=0.5)
    out = tmp_path / "evidence"
    out.mkdir()
    found = measure_servability(wrong.dataset, wrong.ranker, wrong.rankings, out=out, seed=0)
    assert (one(found, "score_difference").value or 0) > 1e-6
    assert (one(found, "order_parity").value or 0) < 1
    assert any("item_price" in sentence for sentence in found.sentences)


@pytest.mark.integration
def test_a_service_that_does_not_start_leaves_its_figures_open_and_says_why(run: Run, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(run.ranker, broken)
    (broken / "calibration.json").write_text("{}")
    out = tmp_path / "evidence"
    out.mkdir()
    found = measure_servability(run.dataset, broken, run.rankings, out=out, seed=0)
    assert one(found, "latency_p99").value is None
    assert one(found, "order_parity").value is None
    told = next(sentence for sentence in found.sentences if "could not be measured" in sentence)
    assert str(tmp_path) not in told
    assert not processes_of(broken)


@pytest.mark.integration
def test_the_service_is_gone_when_the_measurement_is_stopped(run: Run) -> None:
    def stopped() -> None:
        with running(run.ranker):
            assert processes_of(run.ranker)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert not processes_of(run.ranker)


@pytest.mark.integration
def test_a_candidate_is_not_served_beside_a_release(
    run: Run, monkeypatch: pytest.MonkeyPatch, repository: Path
) -> None:
    monkeypatch.setenv("RANKGATE_MEASURED_RANKER", str(run.ranker))
    monkeypatch.setenv("RANKGATE_RELEASE", str(run.ranker))
    code = "from bentos.ranker.measuring import MeasuredService; MeasuredService.inner()"
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "NotApprovedError" in done.stderr


@pytest.mark.integration
def test_the_reference_lists_every_figure(run: Run, tmp_path: Path, documented: dict[str, set[str]]) -> None:
    broken = tmp_path / "no-model"
    shutil.copytree(run.ranker, broken)
    (broken / "users.parquet").write_bytes(b"")
    out = tmp_path / "evidence"
    out.mkdir()
    found = measure_servability(run.dataset, broken, run.rankings, out=out, seed=0)
    assert {held.metric for held in found.estimates} == documented["servability"]
