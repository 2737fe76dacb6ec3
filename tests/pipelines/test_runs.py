"""The runs directory: naming a run, its state, its artefacts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from components.artifacts import documents
from components.artifacts.store import SCHEMA_VERSION as STORE_VERSION
from components.artifacts.store import StepRecord
from components.errors import InputError
from pipelines.request import SCHEMA_VERSION, RunRequest
from pipelines.runs import Home, Run


def _request(name: str = "shop", asked_at: str = "2026-01-02T00:00:00+00:00", **changes: object) -> RunRequest:
    request = RunRequest(
        schema_version=SCHEMA_VERSION,
        name=name,
        contract=json.dumps({"tables": {}}),
        policy_files={"policy.yaml": "name: test"},
        sources={},
        as_of="2026-01-01T00:00:00+00:00",
        as_of_is_declared=True,
        incumbent="",
        incumbent_run="",
        seed=0,
        threads=2,
        code="c" * 64,
        libraries={},
        before=None,
        submitted_by="ada",
        asked_at=asked_at,
    )
    return replace(request, **changes)  # type: ignore[arg-type]


def _held(home: Home, request: RunRequest) -> Run:
    run = home.run_at(request.run)
    documents.save(request, run.folder / "request.json")
    return run


def test_the_same_request_is_the_same_run_whoever_asks_and_when() -> None:
    again = _request(asked_at="2027-01-01T00:00:00+00:00", submitted_by="grace")
    assert _request().run == again.run


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"threads": 1},
        {"contract": "{}"},
        {"policy_files": {"policy.yaml": "name: other"}},
        {"sources": {"events.parquet": "0"}},
        {"incumbent": "0" * 64},
        {"code": "d" * 64},
        {"as_of": "2026-01-03T00:00:00+00:00"},
    ],
)
def test_whatever_can_change_a_result_makes_another_run(changes: dict[str, object]) -> None:
    assert _request().run != _request(**changes).run


def test_a_moment_that_only_stands_in_for_now_does_not_make_another_run() -> None:
    first = _request(as_of_is_declared=False)
    later = replace(first, as_of="2027-01-01T00:00:00+00:00")
    assert first.run == later.run


def test_runs_are_listed_newest_first(tmp_path: Path) -> None:
    home = Home(tmp_path)
    old = _held(home, _request(seed=1, asked_at="2026-01-01T00:00:00+00:00"))
    new = _held(home, _request(seed=2, asked_at="2026-01-02T00:00:00+00:00"))
    assert [run.name for run in home.runs()] == [new.name, old.name]
    assert home.find("latest").name == new.name


def test_a_run_is_found_by_its_name_its_start_or_its_digests_start(tmp_path: Path) -> None:
    home = Home(tmp_path)
    run = _held(home, _request())
    _held(home, _request(name="other"))
    for name in (run.name, run.name[:9], run.name.rpartition("-")[2][:6]):
        assert home.find(name).name == run.name


def test_a_name_that_fits_several_runs_or_none_is_refused_with_what_there_is(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with pytest.raises(InputError, match="there are no runs"):
        home.find("latest")
    first, second = _held(home, _request(seed=1)), _held(home, _request(seed=2))
    with pytest.raises(InputError, match="found 2 that start so"):
        home.find("shop-")
    with pytest.raises(InputError, match=f"not found.*({first.name}|{second.name})"):
        home.find("shup-0123456789")


def test_artefacts_are_read_whole_from_the_store_and_named_by_what_they_are(tmp_path: Path) -> None:
    home = Home(tmp_path)
    run = _held(home, _request())
    folder = home.store.work_directory("x")
    (folder / "file").write_text("content")
    digest = home.store.put(folder)
    for step, role in (
        ("dataset", "dataset"),
        ("measure-ranking", "evidence"),
        ("measure-groups-and-drift", "evidence"),
    ):
        record = StepRecord(STORE_VERSION, step, "k", {role: digest}, 0.0, 0.0, 0.0)
        documents.save(record, run.folder / "steps" / f"{step}.json")
    assert set(run.artifact_digests()) == {"dataset", "evidence-ranking", "evidence-groups-and-drift"}
    assert (run.artifact("dataset") / "file").read_text() == "content"
    run.link_artifacts()
    assert (run.folder / "artifacts" / "evidence-ranking" / "file").read_text() == "content"
    with pytest.raises(InputError, match="has no card; it has dataset"):
        run.artifact("card")


def test_a_run_without_a_result_is_unfinished(tmp_path: Path) -> None:
    assert _held(Home(tmp_path), _request()).state == "unfinished"


def test_an_artefact_that_was_written_anew_takes_the_place_of_the_runs_own_which_stays(tmp_path: Path) -> None:
    home = Home(tmp_path)
    run = _held(home, _request())
    digests = []
    for text in ("first", "second"):
        folder = home.store.work_directory("x")
        (folder / "card.html").write_text(text)
        digests.append(home.store.put(folder))
    documents.save(
        StepRecord(STORE_VERSION, "card", "k", {"card": digests[0]}, 0.0, 0.0, 0.0), run.folder / "steps" / "card.json"
    )
    assert run.artifact_digests() == {"card": digests[0]}
    run.rewrite("card", digests[1])
    assert run.artifact_digests() == {"card": digests[1]}
    assert (run.artifact("card") / "card.html").read_text() == "second"
    assert (run.folder / "artifacts" / "card" / "card.html").read_text() == "second"
    assert (home.store.get(digests[0]) / "card.html").read_text() == "first"
