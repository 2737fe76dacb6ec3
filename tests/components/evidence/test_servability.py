"""The service of a release, really started: parity, latency, refusals; skew is caught and named; nothing is left running."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
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
from components.evidence.servability import measure_servability, quantile_limits, service_estimates
from components.evidence.servability_calls import CALLS, OTHER_CALLS, Call, Served, compared
from components.evidence.servability_words import service_words
from components.evidence.serving import Answered
from components.evidence.training_path import Asked, Expected
from components.ranker.contract import Ranker
from components.ranker.storage import file_digests
from components.verdict.judging import judge
from components.verdict.outcomes import stopping_messages
from components.verdict.policy import load_policy

Run = Any
ProcessesOf = Callable[[Path], list[int]]


def skewed(run: Run, folder: Path, *, array: str, by: float) -> Run:
    """The ranker with one of its arrays scaled, its manifest made to agree: put together wrongly, and no digest says so."""
    ranker = folder / "skewed"
    shutil.copytree(run.ranker, ranker)
    values = np.load(ranker / "tables" / f"{array}.npy", allow_pickle=False)
    np.save(ranker / "tables" / f"{array}.npy", (values * (1 + by)).astype(values.dtype), allow_pickle=False)
    manifest = documents.load(Ranker, ranker / "ranker.json")
    documents.save(replace(manifest, files=file_digests(ranker)), ranker / "ranker.json")
    return replace(run, ranker=ranker)


ITEM_IDS = ("a", "b", "c")
KINDS = ("rank", "rank visitor", "recommend", "recommend visitor")


def call(kind: str, *, expected: str = "cab") -> Call:
    """A call whose answer is the three items, scored by their place."""
    user = -1 if kind.endswith("visitor") else 4
    asked = Asked(0, user, None if user < 0 else "u4", (0, 1, 2), {"device": "mobile"})
    shown = np.array([ITEM_IDS.index(item) for item in expected], dtype=np.int64)
    scores = np.array([0.5, 0.25, 0.75], dtype=np.float32)
    known = Expected(np.arange(3, dtype=np.int32), scores, shown)
    return Call(kind, "/rank" if kind.startswith("rank") else "/recommend", asked, known, most=3)


def answer(items: str = "cab", *, status: int = 200, **scores: float) -> Answered:
    """What a service answers; scores as expected but for those that are named."""
    told = {"a": 0.5, "b": 0.25, "c": 0.75} | scores
    listed = [{"item_id": item, "score": told.get(item, 0.0), "rank": place + 1} for place, item in enumerate(items)]
    return Answered(status, json.dumps({"items": listed}).encode(), 0.004)


def served(answers: Sequence[Answered], **changes: Any) -> Served:
    """Calls of the four kinds by turns, with these answers, by a service that is otherwise well."""
    calls = [call(KINDS[place % 4]) for place in range(len(answers))]
    honest = Served(1.0, compared(answers, calls, ITEM_IDS), 100.0, 59, (), well=True, memory=400.0)
    return replace(honest, **changes)


def figures(held: Served) -> dict[str, float | None]:
    return {estimate.metric: estimate.value for estimate in service_estimates(held)}


def blocked_by(held: Served, repository: Path) -> dict[str, str]:
    """Of the default policy's rules on a service that was asked, those that do not pass."""
    found = Evidence(1, "servability", tuple(service_estimates(held)), {}, {}, {}, {}, {}, 0)
    policy = load_policy(repository / "policies" / "default")
    outcomes = judge(policy, {"servability": found}, {}, first_release=False)
    ours = [one for one in outcomes if one.evidence == "servability" and one.criterion != "serving-features"]
    assert len(ours) == 7
    return {one.criterion: one.answer for one in ours if stopping_messages(one)}


def one(evidence: Evidence, metric: str) -> Estimate:
    (found,) = [held for held in evidence.estimates if held.metric == metric]
    return found


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


def test_a_call_says_who_asks_and_for_what() -> None:
    context = {"device": "mobile"}
    assert call("rank").payload(ITEM_IDS) == {
        "user_id": "u4",
        "candidates": ["a", "b", "c"],
        "k": 3,
        "context": context,
    }
    assert call("rank visitor").payload(ITEM_IDS) == {"candidates": ["a", "b", "c"], "k": 3, "context": context}
    assert call("recommend").payload(ITEM_IDS) == {"user_id": "u4", "k": 3, "context": context}
    assert call("recommend visitor").payload(ITEM_IDS) == {"k": 3, "context": context}


def test_a_service_that_answers_as_expected_passes_the_default_policy(repository: Path) -> None:
    held = served([answer()] * 2_000)
    assert figures(held)["order_parity"] == 1
    assert figures(held)["score_difference"] == 0
    assert blocked_by(held, repository) == {}


@pytest.mark.parametrize("place", range(4), ids=KINDS)
def test_one_list_of_any_kind_in_another_order_blocks(place: int, repository: Path) -> None:
    answers = [answer()] * 2_000
    answers[4 + place] = answer("acb")
    held = served(answers)
    assert figures(held)["order_parity"] == 1 - 1 / 2_000
    assert blocked_by(held, repository) == {"serving-order": "fail"}
    (parity,) = (found for found in service_estimates(held) if found.metric == "order_parity")
    assert {kind for kind in KINDS if parity.detail[kind] < 1} == {KINDS[place]}
    assert any("1 of 2000 lists" in words for words in service_words(held))


@pytest.mark.parametrize("place", range(4), ids=KINDS)
def test_one_score_of_any_kind_that_differs_blocks(place: int, repository: Path) -> None:
    answers = [answer()] * 2_000
    answers[4 + place] = answer(b=0.251)
    held = served(answers)
    assert figures(held)["score_difference"] == pytest.approx(0.001)
    assert blocked_by(held, repository) == {"serving-scores": "fail"}


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(answer(status=0), id="none"),
        pytest.param(answer(status=404), id="refused"),
        pytest.param(answer(status=500), id="an error"),
        pytest.param(Answered(200, b"<html>", 0.004), id="no JSON"),
        pytest.param(Answered(200, b"[]", 0.004), id="no object"),
        pytest.param(Answered(200, b'{"items": 7}', 0.004), id="no list"),
        pytest.param(Answered(200, b'{"items": [{"item_id": "c"}]}', 0.004), id="no score"),
        pytest.param(
            Answered(200, b'{"items": [{"item_id": "c", "score": "high"}]}', 0.004), id="a score that is text"
        ),
        pytest.param(Answered(200, b'{"items": [{"item_id": ["c"], "score": 1}]}', 0.004), id="an item that is a list"),
    ],
)
def test_an_answer_that_is_no_list_blocks_by_order_and_by_score(wrong: Answered, repository: Path) -> None:
    held = served([answer()] * 2_002 + [wrong] + [answer()])
    assert figures(held)["score_difference"] is None
    assert blocked_by(held, repository) == {"serving-order": "fail", "serving-scores": "insufficient"}


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_a_score_that_is_no_number_is_no_evidence(score: float, repository: Path) -> None:
    held = served([answer()] * 2_000 + [answer(b=score)])
    assert figures(held)["score_difference"] is None
    assert blocked_by(held, repository) == {"serving-scores": "insufficient"}


def test_where_every_list_is_empty_no_score_was_compared(repository: Path) -> None:
    calls = [call("rank", expected="") for _ in range(500)]
    held = replace(served([]), called=compared([answer("")] * 500, calls, ITEM_IDS))
    assert figures(held)["order_parity"] == 1
    assert blocked_by(held, repository) == {"serving-scores": "insufficient"}


def test_memory_that_is_not_known_blocks(repository: Path) -> None:
    held = served([answer()] * 2_000, memory=None)
    assert figures(held)["memory_mb"] is None
    assert blocked_by(held, repository) == {"serving-memory": "insufficient"}
    assert any("is not known" in words for words in service_words(held))


def test_an_ill_service_and_what_it_did_not_refuse_are_told(repository: Path) -> None:
    held = served([answer()] * 2_000, wrong=tuple(f"wrong {number}" for number in range(7)), well=False)
    assert blocked_by(held, repository) == {"serving-malformed": "fail", "serving-well": "fail"}
    words = " ".join(service_words(held))
    assert "wrong 4 and 2 more" in words
    assert "no longer well" in words


def test_only_calls_to_rank_for_known_users_are_timed() -> None:
    answers = [answer() if place % 4 == 0 else replace(answer(), seconds=9.0) for place in range(2_000)]
    assert figures(served(answers))["latency_p99"] == pytest.approx(4.0)


def test_no_cell_of_an_honest_ranker_differs_and_a_skewed_feature_is_named(run: Run, tmp_path: Path) -> None:
    assert not any(held.value for held in feature_parity(run.dataset, run.ranker, seed=0))
    wrong = skewed(run, tmp_path, array="items.price", by=0.01)
    found = feature_parity(wrong.dataset, wrong.ranker, seed=0)
    assert {held.subject for held in found if held.value} == {"item_price"}


@pytest.mark.integration
def test_an_honest_candidate_is_served_as_it_was_measured(run: Run, tmp_path: Path, processes_of: ProcessesOf) -> None:
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
    assert all(one(found, "score_difference").detail[kind] > 1e-6 for kind in KINDS)
    assert any("item_price" in sentence for sentence in found.sentences)


@pytest.mark.integration
def test_a_service_that_does_not_start_leaves_its_figures_open(
    run: Run, tmp_path: Path, processes_of: ProcessesOf
) -> None:
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
