"""A step: restored, or done, timed and sealed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from components.artifacts.steps import RUN_VARIABLE, STORE_VARIABLE, Step
from components.errors import BlockedError


@dataclass
class _Artifact:
    path: str
    metadata: dict[str, Any] = field(default_factory=dict)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "run").mkdir()
    monkeypatch.setenv(STORE_VARIABLE, str(tmp_path / "store"))
    monkeypatch.setenv(RUN_VARIABLE, str(tmp_path / "run"))
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / "file").write_text("input")
    return tmp_path


def _double(places: Path, name: str, *, seed: int = 0, fail: BaseException | None = None) -> tuple[_Artifact, bool]:
    """Run a step that copies its input twice; returns its output and whether it was restored."""
    made = _Artifact(str(places / name / "out"))
    source = _Artifact(str(places / "input"))
    with Step("double", inputs={"source": source}, parameters={"seed": seed}, outputs={"out": made}) as step:
        if step.restored:
            return made, True
        step.imported()
        text = (Path(source.path) / "file").read_text()
        (step.out("out") / "file").write_text(text * 2)
        step.progress("copied")
        if fail:
            raise fail
    return made, False


def test_a_step_is_done_once_for_the_same_inputs_and_parameters(places: Path) -> None:
    first, restored = _double(places, "first")
    assert not restored
    again, restored_again = _double(places, "again")
    assert restored_again
    assert (Path(again.path) / "file").read_text() == "inputinput"
    assert first.metadata["digest"] == again.metadata["digest"]


def test_a_changed_input_or_parameter_is_a_new_step(places: Path) -> None:
    _double(places, "first")
    assert not _double(places, "seed", seed=1)[1]
    (places / "input" / "file").write_text("other")
    assert not _double(places, "input-changed")[1]


def test_a_failed_step_leaves_no_output_and_says_why(places: Path) -> None:
    with pytest.raises(BlockedError):
        _double(places, "first", fail=BlockedError("gap too wide"))
    failure = json.loads((places / "run" / "failure.json").read_text())
    assert failure == {"step": "double", "exit_code": 3, "kind": "BlockedError", "message": "gap too wide"}
    assert not (places / "first" / "out").exists()
    assert not list((places / "store").glob("objects/*/*"))
    assert not list((places / "store").glob("work/*"))
    assert not _double(places, "again")[1]


def test_a_surprise_is_our_fault_and_named(places: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        _double(places, "first", fail=ZeroDivisionError("oh"))
    failure = json.loads((places / "run" / "failure.json").read_text())
    assert (failure["exit_code"], failure["message"]) == (1, "ZeroDivisionError: oh")


def test_progress_tells_what_happened_in_order(places: Path) -> None:
    _double(places, "first")
    _double(places, "again")
    lines = [json.loads(line) for line in (places / "run" / "progress.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["started", "progress", "finished", "started", "restored"]


def test_in_a_cluster_outputs_lie_where_kubeflow_asks(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STORE_VARIABLE)
    monkeypatch.delenv(RUN_VARIABLE)
    made, restored = _double(places, "first")
    assert not restored
    assert not Path(made.path).is_symlink()
    assert (Path(made.path) / "file").read_text() == "inputinput"
    assert len(made.metadata["digest"]) == 64
