"""Compiling for Kubeflow, and submitting to a server that speaks its REST API."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from components.errors import InputError, RankgateError
from pipelines.candidate_steps import STEPS
from pipelines.kubeflow import PIPELINE_NAME, Connection, RunOptions, compile_pipeline, submit
from pipelines.placing import StepOptions
from pipelines.request import SCHEMA_VERSION, RunRequest

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:kfp", "ignore::DeprecationWarning:kfp_server_api")


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


kubeflow_api = _load("kubeflow_api")


def _request(path: str = "s3://bucket/events.parquet") -> RunRequest:
    contract = {"tables": {"events": {"path": [path]}, "users": None, "items": None}}
    return RunRequest(
        schema_version=SCHEMA_VERSION,
        name="shop",
        contract=json.dumps(contract),
        policy_files={"policy.yaml": "name: test"},
        sources={path: "0" * 64},
        as_of="2026-01-01T00:00:00+00:00",
        as_of_is_declared=True,
        incumbent="",
        incumbent_run="",
        seed=3,
        threads=2,
        code="c" * 64,
        libraries={},
        before=None,
        submitted_by="ada",
        asked_at="2026-01-02T00:00:00+00:00",
    )


@pytest.fixture
def api() -> Iterator[Any]:
    held = kubeflow_api.KubeflowApi()
    server = kubeflow_api.serve(held)
    held.host = f"http://127.0.0.1:{server.server_port}"
    yield held
    server.shutdown()
    server.server_close()


def _submit(api: Any, *, options: RunOptions | None = None, token: str = "", **changes: Any) -> Any:
    return submit(
        replace(_request(), **changes),
        Connection(host=api.host, token=token),
        options or RunOptions(),
        StepOptions(image="r/python@sha256:0"),
    )


def test_compiling_twice_gives_the_same_bytes_whatever_the_hash_seed(tmp_path: Path) -> None:
    here = compile_pipeline(tmp_path / "here.yaml", StepOptions())
    script = (
        "import sys; from pathlib import Path; from pipelines.placing import StepOptions;"
        "from pipelines.kubeflow import compile_pipeline; print(compile_pipeline(Path(sys.argv[1]), StepOptions()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "there.yaml")],
        env={"PYTHONHASHSEED": "7", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-1] == here


def _ir(path: Path) -> dict[str, Any]:
    first: dict[str, Any] = next(iter(yaml.safe_load_all(path.read_text())))
    return first


def test_every_step_runs_in_the_named_image_within_its_limits_and_installs_nothing(tmp_path: Path) -> None:
    compile_pipeline(tmp_path / "p.yaml", StepOptions(image="r/python@sha256:0", cpu="2", memory="4Gi"))
    executors = _ir(tmp_path / "p.yaml")["deploymentSpec"]["executors"]
    assert len(executors) == len(STEPS)
    for executor in executors.values():
        container = executor["container"]
        assert container["image"] == "r/python@sha256:0"
        assert container["resources"]["resourceCpuLimit"] == "2"
        assert container["resources"]["resourceMemoryLimit"] == "4Gi"
        assert "pip install" not in " ".join(container["command"])


def test_training_waits_for_the_frozen_policy_and_enforcement_for_the_card(tmp_path: Path) -> None:
    compile_pipeline(tmp_path / "p.yaml", StepOptions())
    tasks = _ir(tmp_path / "p.yaml")["root"]["dag"]["tasks"]
    assert "freeze-policy" in tasks["train-and-rank"]["dependentTasks"]
    assert "freeze-policy" in tasks["take-snapshot"]["dependentTasks"]
    assert {"decide", "write-card"} <= set(tasks["enforce"]["dependentTasks"])
    assert not tasks["enforce"].get("cachingOptions")


def test_a_pipeline_file_must_be_yaml(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"needed \.yaml"):
        compile_pipeline(tmp_path / "p.json", StepOptions())


def test_submitting_uploads_the_pipeline_and_starts_a_run_with_every_parameter(api: Any) -> None:
    done = _submit(api, options=RunOptions(experiment="home-feed", service_account="runner", pipeline_root="s3://b/r"))
    assert (done.kind, done.identifier, done.name) == ("run", "run_id-0", _request().run)
    assert done.url == f"{api.host}/#/runs/details/run_id-0"
    (started,) = api.runs
    assert started["experiment_id"] == api.experiments["home-feed"]["experiment_id"]
    assert started["pipeline_version_reference"] == {
        "pipeline_id": done.pipeline_id,
        "pipeline_version_id": done.version_id,
    }
    assert started["service_account"] == "runner"
    runtime = started["runtime_config"]
    assert runtime["pipeline_root"] == "s3://b/r"
    assert runtime["parameters"]["seed"] == 3
    assert runtime["parameters"]["policy_files"] == {"policy.yaml": "name: test"}
    assert runtime["parameters"]["facts"]["submitted_by"] == "ada"
    assert runtime["parameters"]["first_release"] is True
    assert all(b"name: rankgate-candidate" in upload for upload in api.uploads)


def test_the_same_code_is_uploaded_once(api: Any) -> None:
    first = _submit(api)
    uploads = len(api.uploads)
    second = _submit(api, seed=4)
    assert len(api.uploads) == uploads
    assert first.version_id == second.version_id
    assert len(api.runs) == 2
    assert [held["display_name"] for held in api.pipelines.values()] == [PIPELINE_NAME]


def test_new_code_is_a_new_version_of_the_same_pipeline(api: Any) -> None:
    first, second = _submit(api), _submit(api, code="d" * 64)
    assert first.pipeline_id == second.pipeline_id
    assert first.version_id != second.version_id


def test_a_cron_expression_makes_a_schedule(api: Any) -> None:
    done = _submit(api, options=RunOptions(cron="0 0 4 * * *"))
    assert (done.kind, done.identifier) == ("schedule", "recurring_run_id-0")
    (schedule,) = api.schedules
    assert schedule["trigger"]["cron_schedule"]["cron"] == "0 0 4 * * *"
    assert schedule["no_catchup"] is True
    assert not api.runs


def test_a_token_is_sent_and_a_wrong_one_is_bad_input(api: Any) -> None:
    api.token = "right"
    _submit(api, token="right")
    assert "Bearer right" in api.seen_tokens
    with pytest.raises(InputError, match="refused with 401"):
        _submit(api, token="wrong")


def test_tables_on_this_machine_are_refused_before_anything_is_sent(api: Any) -> None:
    with pytest.raises(InputError, match=r"needed s3:// paths"):
        submit(_request("/data/events.parquet"), Connection(host=api.host), RunOptions(), StepOptions())
    assert not api.uploads
    assert not api.runs


def test_another_address_than_the_api_is_bad_input(api: Any) -> None:
    api.status = 404
    with pytest.raises(InputError, match="needed the v2beta1 API"):
        _submit(api)


def test_an_address_without_a_scheme_is_bad_input() -> None:
    with pytest.raises(InputError, match="found no http"):
        submit(_request(), Connection(host="kubeflow.example.com"), RunOptions(), StepOptions())


def test_a_failing_api_is_our_error_with_its_answer(api: Any) -> None:
    api.status = 500
    with pytest.raises(RankgateError, match="answered 500") as raised:
        _submit(api)
    assert raised.value.exit_code == 1


def test_a_silent_address_is_named_with_what_to_try() -> None:
    with pytest.raises(RankgateError, match="cannot be reached"):
        submit(_request(), Connection(host="http://127.0.0.1:9"), RunOptions(), StepOptions())
