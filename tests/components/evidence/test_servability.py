"""The service of a release, really started: parity, latency, refusals; skew is caught and named; nothing is left running."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from components.artifacts import documents
from components.evidence.contract import Estimate, Evidence
from components.evidence.parity import feature_parity
from components.evidence.servability import measure_servability, quantile_limits
from components.evidence.servability_calls import CALLS, OTHER_CALLS
from components.ranker.contract import Ranker
from components.ranker.storage import file_digests

Run = Any


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
    assert Counter(calls["kind"].to_pylist()) == {
        "rank": CALLS,
        "rank visitor": OTHER_CALLS,
        "recommend": OTHER_CALLS,
        "recommend visitor": OTHER_CALLS,
    }
    assert set(calls["status"].to_pylist()) == {200}
    assert set(calls.filter(pc.equal(calls["kind"], "rank visitor"))["user"].to_pylist()) == {-1}
    assert latency.n_requests == one(found, "error_share").n_requests == CALLS
    assert one(found, "order_parity").n_requests == calls.num_rows
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
