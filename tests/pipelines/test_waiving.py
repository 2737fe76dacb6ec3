"""Where a run stands with its waivers, taken at their word: what lists and tables show without any key."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from components.approval.keys import new_key
from components.approval.waivers import waive
from components.artifacts import documents
from components.artifacts.digests import digest_file
from components.artifacts.store import SCHEMA_VERSION as STORE_VERSION
from components.artifacts.store import StepRecord
from components.errors import InputError
from components.verdict.contract import Finding, FrozenPolicy, Outcome, Verdict
from pipelines.cli.inspect import runs
from pipelines.comparison import compare_runs
from pipelines.request import SCHEMA_VERSION, RunRequest
from pipelines.runs import SCHEMA_VERSION as RUNS_VERSION
from pipelines.runs import Home, Run, RunResult, RunTiming
from pipelines.waiving import standing, waive_criterion

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LAST = date(2026, 4, 1)


def _outcome(criterion: str) -> Outcome:
    finding = Finding(
        "insufficient", "candidate", "rest", {"region": "other"}, 0.0, -0.1, 0.1, 0.95, 96, -0.03, None, "unsure.",
        waivable=True,
    )  # fmt: skip
    return Outcome(
        criterion, criterion, "quality", "ndcg@10", "difference", True, "waive", "insufficient", True, (finding,), ""
    )  # fmt: skip


def _stored(home: Home, run: Run, step: str, files: dict[str, Any]) -> None:
    folder = home.store.work_directory(step)
    for name, document in files.items():
        if isinstance(document, str):
            (folder / name).write_text(document)
        else:
            documents.save(document, folder / name)
    record = StepRecord(STORE_VERSION, step, "k", {step: home.store.put(folder)}, 0.0, 0.0, 0.0)
    documents.save(record, run.folder / "steps" / f"{step}.json")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def run(home: Home, tmp_path: Path) -> Run:
    """A finished run that two rules block, both of which may be waived."""
    request = RunRequest(
        schema_version=SCHEMA_VERSION, name="shop", contract="{}", policy_files={}, sources={},
        as_of=NOON.isoformat(), as_of_is_declared=True, incumbent="", incumbent_run="", seed=0, threads=1,
        code="c" * 64, libraries={}, before=None, submitted_by="sam", asked_at=NOON.isoformat(),
    )  # fmt: skip
    held = home.run_at(request.run)
    documents.save(request, held.folder / "request.json")
    (tmp_path / "policy.yaml").write_text("name: shop\n")
    digest = digest_file(tmp_path / "policy.yaml")
    frozen = FrozenPolicy(1, "shop", "1.0.0", digest, NOON.isoformat(), "0" * 64, 3)
    verdict = Verdict(1, "blocked", frozen, {}, (_outcome("region"), _outcome("score")), True, "Blocked by 2 of 2.")
    _stored(home, held, "policy", {"policy.yaml": "name: shop\n", "frozen.json": frozen})
    _stored(home, held, "verdict", {"verdict.json": verdict})
    timing = RunTiming(1.0, 1.0, 0.0, 0.0, ())
    result = RunResult(RUNS_VERSION, held.name, "blocked", 3, "blocked", NOON.isoformat(), {}, timing)
    documents.save(result, held.folder / "result.json")
    return held


@pytest.fixture
def key(tmp_path: Path) -> Path:
    new_key(tmp_path / "wim.key")
    return tmp_path / "wim.key"


def _sign(run: Run, key: Path, criterion: str) -> None:
    run.waivers.mkdir(exist_ok=True)
    waive(
        run=run.name, criterion=criterion, verdict=run.artifact("verdict"), policy=run.artifact("policy"),
        submitter="sam", waived_by="wim", reason="few users", until=LAST, key=key, waived_at=NOON, out=run.waivers,
    )  # fmt: skip


def test_a_run_without_waivers_is_just_blocked(run: Run) -> None:
    stands = standing(run)
    assert (stands.words, stands.left, stands.beside("blocked")) == ("", ("region", "score"), "blocked")


def test_some_all_and_expired_waivers_have_words_of_their_own(run: Run, key: Path) -> None:
    _sign(run, key, "region")
    partly = standing(run, today=LAST)
    assert (partly.words, partly.waived, partly.left) == ("partly waived", {"region"}, ("score",))
    _sign(run, key, "score")
    fully = standing(run, today=LAST)
    assert (fully.beside("blocked"), fully.waived, fully.left) == ("blocked, waived", {"region", "score"}, ())
    over = standing(run, today=date(2026, 4, 2))
    assert (over.words, over.waived, over.expired) == ("waiver expired", frozenset(), ("region", "score"))
    assert over.left == ("region", "score")


def test_a_waiver_of_what_does_not_block_or_may_not_be_waived_lifts_nothing(home: Home, run: Run, key: Path) -> None:
    _sign(run, key, "region")
    verdict = documents.load(Verdict, run.artifact("verdict") / "verdict.json")
    strict = tuple(replace(outcome, on_insufficient="block") for outcome in verdict.outcomes)
    _stored(home, run, "verdict", {"verdict.json": replace(verdict, outcomes=strict)})
    assert standing(run, today=LAST).left == ("region", "score")
    assert standing(run, today=LAST).waived == frozenset()


def test_a_file_that_is_no_waiver_does_not_hide_the_list_of_runs(home: Home, run: Run) -> None:
    run.waivers.mkdir()
    (run.waivers / "region.dsse.json").write_text("{}")
    shown = CliRunner().invoke(runs, [], obj=str(home.root))
    assert shown.exit_code == 0
    assert "waivers unreadable" in shown.output
    with pytest.raises(InputError, match=r"region\.dsse\.json: is not a DSSE envelope"):
        standing(run)


def test_a_comparison_says_what_is_waived(run: Run, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _sign(run, key, "region")
    monkeypatch.setattr("pipelines.comparison.standing", lambda held: standing(held, today=LAST))
    answers = {row.name: row.first for row in compare_runs(run, run).answers}
    assert answers == {
        "verdict": "blocked, partly waived",
        "region": "insufficient, waived",
        "score": "insufficient",
    }


@pytest.mark.parametrize("state", ["passed", "failed", "unfinished"])
def test_only_a_blocked_run_is_waived(home: Home, run: Run, key: Path, state: str) -> None:
    path = run.folder / "result.json"
    result = documents.load(RunResult, path)
    if state == "unfinished":
        path.unlink()
    else:
        documents.save(replace(result, state=state), path)
    with pytest.raises(InputError, match=f"is {state}; needed a blocked one"):
        waive_criterion(run, home, "region", key=str(key), waived_by="wim", reason="few", until="2026-04-01")


def test_a_card_that_cannot_be_written_leaves_no_waiver(home: Home, run: Run, key: Path) -> None:
    """The run's other artefacts are gone: without a card that tells of it, the waiver is not kept."""
    until = datetime.now(UTC).date().replace(day=1).isoformat()
    with pytest.raises(InputError, match="needed a day after"):
        waive_criterion(run, home, "region", key=str(key), waived_by="wim", reason="few", until=until)
    ahead = date.fromordinal(datetime.now(UTC).date().toordinal() + 7).isoformat()
    with pytest.raises(InputError, match="has no snapshot"):
        waive_criterion(run, home, "region", key=str(key), waived_by="wim", reason="few", until=ahead)
    assert not run.waivers.exists()
    assert not (run.folder / "rewritten.json").exists()
    assert not list(run.folder.glob(".waiving.*"))
