"""Replaying a run: the same bytes, or the first that differs, where, and what is recorded to be otherwise."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.artifacts import documents
from components.artifacts.digests import digest_tree
from components.artifacts.steps import RUN_VARIABLE, STORE_VARIABLE, Step
from components.artifacts.store import StepRecord
from components.errors import InputError, RankgateError
from pipelines.candidate_steps import STEPS
from pipelines.environment import (
    ENVIRONMENT_FILE,
    Environments,
    read_environments,
    record_environment,
    this_environment,
)
from pipelines.replay import Replay, replay
from pipelines.replay_plan import replayed_steps, wiring
from pipelines.request import make_request, pipeline_arguments
from pipelines.runs import SCHEMA_VERSION, Home, Run, RunResult, RunTiming

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning:kfp", "ignore::DeprecationWarning"),
    pytest.mark.integration,
    pytest.mark.xdist_group("replay"),
]

_POLICY = """\
schema: rankgate/policy/v1
name: lenient
version: 1.0.0
description: One rule that a small shop can be held to.
level: 0.95
first_release: excuse
criteria:
  - id: better-than-random
    title: Better than a random order
    why: A ranking that cannot be told from chance is broken, whatever else it shows.
    evidence: quality
    metric: ndcg@10
    statistic: difference
    select: {subject: candidate, versus: random}
    bound: {at_least: 0.0}
"""
_SUITE = """\
schema: rankgate/suite/v1
policy: lenient
cases:
  - name: clearly better
    samples: [sample.yaml]
    expect: {verdict: passed, violations: 0, answers: {better-than-random: pass}}
  - name: clearly not
    samples: [sample.yaml]
    change:
      quality:
        - {metric: ndcg@10, statistic: difference, versus: random, value: -0.2, interval: [-0.3, -0.1]}
    expect: {verdict: blocked, violations: 1, answers: {better-than-random: fail}}
  - name: unsure
    samples: [sample.yaml]
    change:
      quality:
        - {metric: ndcg@10, statistic: difference, versus: random, value: 0.0, interval: [-0.1, 0.1]}
    expect: {verdict: blocked, violations: 1, answers: {better-than-random: insufficient}}
"""
_SAMPLE = """\
schema: rankgate/sample/v1
description: Much better than random.
evidence:
  quality:
    - {metric: ndcg@10, statistic: difference, versus: random, value: 0.9, interval: [0.85, 0.95], users: 4000}
"""
# Too dear for a test of the replay itself, which treats all steps alike; the whole road is `test_end_to_end`'s.
_STAND_INS = ("measure-groups-and-drift", "measure-features", "measure-serving", "card")


def _place(path: Path) -> Any:
    return SimpleNamespace(path=str(path), metadata={})


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one run of a small shop: its steps were done as a run does them, four of them by a stand-in."""
    from components.events.shop import generate_shop
    from pipelines.candidate import COMPONENTS

    work = tmp_path_factory.mktemp("replay")
    for name, text in (("policy", _POLICY), ("suite", _SUITE), ("sample", _SAMPLE)):
        (work / "lenient").mkdir(exist_ok=True)
        (work / "lenient" / f"{name}.yaml").write_text(text)
    (work / "shop").mkdir()
    contract = generate_shop(work / "shop", seed=1, scale=0.05)
    request = make_request(contract, work / "lenient" / "policy.yaml", threads=1, submitted_by="ada")
    run = Home(work / "home").run_at(request.run)
    documents.save(request, run.folder / "request.json")
    record_environment(run.folder, this_environment(threads=request.threads))
    arguments = pipeline_arguments(request, incumbent="")
    made: dict[tuple[str, str], Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(STORE_VARIABLE, str(run.store.root))
        patch.setenv(RUN_VARIABLE, str(run.folder))
        # A step is its process, and may freeze what it holds; this one goes on.
        patch.setattr("gc.freeze", lambda: None)
        wired = wiring()
        for step in STEPS[:-1]:
            inputs = {argument: made[source] for argument, source in wired[step].inputs.items()}
            outputs = {role: _place(work / "outputs" / step / role) for role in wired[step].outputs}
            parameters = {argument: arguments[name] for argument, name in wired[step].parameters.items()}
            if step in _STAND_INS:
                role = "card" if step == "card" else "evidence"
                with Step(step, inputs=inputs, parameters=parameters, outputs={role: outputs[role]}) as doing:
                    (doing.out(role) / "stand-in.txt").write_text(step)
            else:
                COMPONENTS[step].python_func(**inputs, **parameters, **outputs)
            made |= {(step, role): place for role, place in outputs.items()}
    result = RunResult(SCHEMA_VERSION, run.name, "passed", 0, "", "", run.artifact_digests(), RunTiming(0, 0, 0, 0, ()))
    documents.save(result, run.folder / "result.json")
    return work


@pytest.fixture
def run(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A copy of the run that a test may spoil; scratch folders go below `tmp_path`."""
    shutil.copytree(kept / "home", tmp_path / "home")
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (found,) = Home(tmp_path / "home").runs()
    return found


def _change_record(run: Run, step: str, **outputs: str) -> None:
    path = run.folder / "steps" / f"{step}.json"
    record = documents.load(StepRecord, path)
    documents.save(replace(record, outputs={**record.outputs, **outputs}), path)


def _change_result(run: Run, **artifacts: str) -> None:
    assert run.result
    documents.save(replace(run.result, artifacts={**run.result.artifacts, **artifacts}), run.folder / "result.json")


def _change_environment(run: Run, change: Callable[[dict[str, Any]], None]) -> None:
    path = run.folder / ENVIRONMENT_FILE
    value = json.loads(path.read_text())
    change(value["starts"][-1])
    path.write_text(json.dumps(value))


def _record_otherwise(run: Run, step: str, role: str, change: Callable[[Path], None]) -> str:
    """Let the run have recorded another artefact, consistently, as one would have that was made elsewhere."""
    folder = run.store.work_directory("other")
    shutil.copytree(run.store.object_path(run.step_records()[step].outputs[role]), folder, dirs_exist_ok=True)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    change(folder)
    digest = run.store.put(folder)
    _change_record(run, step, **{role: digest})
    _change_result(run, **{"evidence-ranking" if role == "evidence" else role: digest})
    return digest


def _only(found: Replay) -> Any:
    (artefact,) = found.artefacts
    return artefact


def test_a_run_replays_to_the_same_bytes_and_is_only_read(run: Run, tmp_path: Path) -> None:
    before = digest_tree(tmp_path / "home")
    events: list[str] = []
    found = replay(
        run,
        "decisions",
        only=("measure-ranking", "verdict"),
        watch=lambda event: events.append(f"{event.step} {event.event}") if event else None,
    )
    assert found.same
    assert not found.first
    assert not found.causes
    assert [one.artefact for one in found.artefacts] == ["evidence-ranking", "verdict"]
    assert all(one.now == one.then == run.artifact_digests()[one.artefact] for one in found.artefacts)
    assert all(one.seconds > 0 for one in found.artefacts)
    assert "verdict finished" in events
    assert digest_tree(tmp_path / "home") == before
    assert not list((tmp_path / "scratch").iterdir())


def test_training_and_the_tables_before_it_come_out_the_same_too(run: Run) -> None:
    found = replay(run, "all", only=("policy", "snapshot", "dataset", "ranker"))
    assert found.same, [one.problem or one.differs for one in found.artefacts]
    assert [one.artefact for one in found.artefacts] == ["policy", "snapshot", "dataset", "ranker", "rankings"]


def test_a_record_that_was_changed_is_told_from_an_artefact_that_was(run: Run) -> None:
    other = run.step_records()["measure-features"].outputs["evidence"]
    _change_record(run, "verdict", verdict=other)
    found = replay(run, "decisions", only=("verdict",))
    assert (found.same, found.first) == (False, "verdict")
    assert found.causes[0].topic == "records"
    assert "steps/verdict.json names the verdict" in found.causes[0].sentence
    assert {difference.file for difference in _only(found).differs} == {"stand-in.txt", "verdict.json"}


def test_inputs_that_the_records_name_otherwise_are_noticed_by_the_key_of_the_step(run: Run) -> None:
    # Both records agree on a wrong digest; the verdict's own record was made from the right one.
    other = run.step_records()["measure-features"].outputs["evidence"]
    _change_record(run, "measure-ranking", evidence=other)
    _change_result(run, **{"evidence-ranking": other})
    found = replay(run, "decisions", only=("verdict",))
    assert not found.same
    assert found.causes[0].topic == "records"
    assert "its key is" in found.causes[0].sentence


def test_another_version_of_a_library_is_named_with_the_figure_that_moved(run: Run) -> None:
    def older(folder: Path) -> None:
        quality = json.loads((folder / "quality.json").read_bytes())
        quality["libraries"]["numpy"] = "2.3.0"
        (folder / "quality.json").write_text(json.dumps(quality))

    def environment(value: dict[str, Any]) -> None:
        value["libraries"]["numpy"] = "2.3.0"

    _record_otherwise(run, "measure-ranking", "evidence", older)
    _change_environment(run, environment)
    found = replay(run, "decisions", only=("measure-ranking",))
    assert found.first == "evidence-ranking"
    (difference,) = _only(found).differs
    assert (difference.file, difference.place) == ("quality.json", "libraries.numpy")
    assert difference.then == '"2.3.0"'
    assert found.causes[0].topic == "library"
    assert found.causes[0].sentence.startswith("numpy: 2.3.0 then, ")


def test_code_that_changed_is_named_by_its_file_the_steps_own_room_first(run: Run) -> None:
    def reworded(folder: Path) -> None:
        verdict = json.loads((folder / "verdict.json").read_bytes())
        (folder / "verdict.json").write_text(json.dumps({**verdict, "summary": "As it was said then."}))

    def environment(value: dict[str, Any]) -> None:
        value["files"] |= {"components/card/build.py": "0", "components/verdict/words.py": "0"}
        value["libraries"]["duckdb"] = "1.0.0"

    _record_otherwise(run, "verdict", "verdict", reworded)
    _change_environment(run, environment)
    found = replay(run, "decisions", only=("verdict",))
    assert [difference.place for difference in _only(found).differs] == ["summary"]
    assert _only(found).differs[0].then == '"As it was said then."'
    # A library that the verdict is not made with is told too, after what it is made by.
    assert [cause.topic for cause in found.causes] == ["code", "library"]
    assert found.causes[0].sentence.index("components/verdict/words.py") < found.causes[0].sentence.index(
        "card/build.py"
    )


def test_threads_and_machine_are_told_though_every_byte_is_the_same(run: Run) -> None:
    def environment(value: dict[str, Any]) -> None:
        value |= {"threads": 7, "machine": "riscv64", "thread_variables": {"OMP_NUM_THREADS": "7"}}

    _change_environment(run, environment)
    found = replay(run, "decisions", only=("verdict",))
    assert found.same
    assert {cause.topic for cause in found.causes} == {"threads", "machine"}


def test_a_difference_that_nothing_recorded_explains_says_so(run: Run) -> None:
    _record_otherwise(run, "verdict", "verdict", lambda folder: (folder / "verdict.json").write_text("{}"))
    found = replay(run, "decisions", only=("verdict",))
    assert [cause.topic for cause in found.causes] == ["unknown"]
    assert "does not repeat itself" in found.causes[0].sentence


def test_a_run_older_than_the_record_of_its_environment_is_replayed_and_says_what_is_not_known(run: Run) -> None:
    (run.folder / ENVIRONMENT_FILE).unlink()
    found = replay(run, "decisions", only=("verdict",))
    assert found.same
    assert "older than environment.json" in found.causes[-1].sentence


def test_what_was_pruned_is_named_with_what_to_restore(run: Run) -> None:
    pruned = run.step_records()["dataset"].outputs["dataset"]
    shutil.rmtree(run.store.object_path(pruned))
    with pytest.raises(RankgateError, match="dataset/dataset: found no such artefact") as raised:
        replay(run, "decisions", only=("measure-ranking",))
    assert raised.value.exit_code == 2
    assert f"objects/{pruned[:2]}/{pruned}" in str(raised.value)
    assert "Restore that folder" in str(raised.value)


def test_what_was_pruned_is_no_loss_where_this_replay_makes_it_again(run: Run) -> None:
    shutil.rmtree(run.store.object_path(run.step_records()["dataset"].outputs["dataset"]))
    found = replay(run, "all", only=("snapshot", "dataset", "ranker"))
    assert found.same


def test_an_input_whose_bytes_changed_in_the_store_stops_the_replay(run: Run) -> None:
    place = run.artifact("policy")
    (place / "policy.yaml").chmod(0o644)
    (place / "policy.yaml").write_text("name: another\n")
    with pytest.raises(RankgateError, match="Something changed them after the run"):
        replay(run, "decisions", only=("verdict",))


def test_tables_that_changed_are_named_and_no_snapshot_is_taken_of_them(run: Run) -> None:
    request = run.request
    name = next(iter(request.sources))
    documents.save(replace(request, sources={**request.sources, name: "0" * 64}), run.folder / "request.json")
    found = replay(run, "all", only=("snapshot",))
    assert (found.first, _only(found).now) == ("snapshot", "")
    assert "no longer those that the run read" in _only(found).problem
    assert name in _only(found).problem
    assert "data" in {cause.topic for cause in found.causes}


def test_a_step_that_fails_now_is_a_difference_with_its_error(run: Run) -> None:
    _change_record(run, "ranker", rankings=run.step_records()["measure-features"].outputs["evidence"])
    found = replay(run, "decisions", only=("measure-ranking",))
    assert "the step failed now: " in _only(found).problem
    assert "rankings.json" in _only(found).problem


def test_an_unfinished_run_is_not_replayed(run: Run) -> None:
    (run.folder / "steps" / "card.json").unlink()
    with pytest.raises(InputError, match="has no record of card"):
        replay(run, "decisions")


def test_a_step_that_does_not_exist_is_named_with_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean 'card'"):
        replayed_steps("decisions", ("crad",))


def test_depths_begin_where_they_say() -> None:
    assert replayed_steps("decisions")[0] == "measure-ranking"
    assert replayed_steps("train")[0] == "ranker"
    assert replayed_steps("all")[0] == "policy"
    assert {steps[-1] for steps in map(replayed_steps, ("decisions", "train", "all"))} == {"card"}


def test_every_step_that_makes_something_is_wired_as_the_compiled_pipeline_wires_it() -> None:
    found = wiring()
    assert set(STEPS[:-1]) <= set(found)
    assert found["verdict"].inputs["serving_evidence"] == ("measure-serving", "evidence")
    assert found["ranker"].parameters["threads"] == "threads"


def test_the_command_prints_one_document_and_exits_3_where_bytes_differ(run: Run, tmp_path: Path) -> None:
    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pipelines.cli.main", "--home", str(tmp_path / "home"), "replay", *words],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "TMPDIR": str(tmp_path / "scratch")},
        )

    done = command("latest", "--step", "verdict")
    assert done.returncode == 0, done.stderr
    assert "All 1 artefacts came out as recorded" in done.stdout
    assert "verdict: finished" in done.stderr
    _record_otherwise(run, "verdict", "verdict", lambda folder: (folder / "verdict.json").write_text('{"answer": 1}'))
    told = command("latest", "--step", "verdict", "--json")
    assert told.returncode == 3
    value = json.loads(told.stdout)
    assert (value["same"], value["first"]) == (False, "verdict")
    words = command("latest", "--step", "verdict")
    assert words.returncode == 3
    assert "verdict.json: answer" in words.stdout
    assert "nothing of the run was changed" in words.stderr


def test_a_killed_replay_leaves_no_scratch_behind(run: Run, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli.main", "--home", str(tmp_path / "home"), "replay", "--train"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    try:
        _until(lambda: any(scratch.glob("rankgate-replay-*/progress.jsonl")))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    _until(lambda: not any(scratch.glob("rankgate-replay-*")))


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_run_that_goes_on_elsewhere_keeps_both_environments(tmp_path: Path) -> None:
    here = this_environment(threads=2)
    for environment in (here, here, replace(here, machine="riscv64")):
        record_environment(tmp_path, environment)
    held = read_environments(tmp_path)
    assert isinstance(held, Environments)
    assert [one.machine for one in held.starts] == [here.machine, "riscv64"]


@pytest.fixture(autouse=True)
def _no_leftovers(tmp_path: Path) -> Iterator[None]:
    yield
    assert not list(tmp_path.glob("scratch/rankgate-replay-*"))
