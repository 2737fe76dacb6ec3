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

from components.artifacts.digests import digest_tree
from components.errors import InputError, RankgateError
from components.events.object_folders import keep_folder
from pipelines.candidate_steps import STEPS
from pipelines.incumbents import find_incumbent
from pipelines.kubeflow import PIPELINE_NAME, Connection, RunOptions, compile_pipeline, submit
from pipelines.kubeflow_schedules import change_schedule, list_schedules
from pipelines.placing import StepOptions
from pipelines.request import SCHEMA_VERSION, RunRequest
from pipelines.runs import Home
from pipelines.scheduling import six_fields

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


def test_a_schedule_pins_neither_tables_nor_moment_and_names_each_run_by_its_own(api: Any) -> None:
    _submit(api, options=RunOptions(cron="0 3 * * *"), as_of_is_declared=False)
    (schedule,) = api.schedules
    assert schedule["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * *"
    given = schedule["runtime_config"]["parameters"]
    assert given["as_of"] == given["asked_at"] == given["facts"]["created_at"]
    assert given["as_of"] == "[[ScheduledTime.2006-01-02T15:04:05]]+00:00"
    assert given["sources"] == {}
    assert given["facts"]["run"].endswith("-[[ScheduledTime.20060102150405]]")


def test_a_moment_that_the_contract_declares_stays_in_a_schedule(api: Any) -> None:
    _submit(api, options=RunOptions(cron="0 3 * * *"))
    assert api.schedules[0]["runtime_config"]["parameters"]["as_of"] == _request().as_of


@pytest.mark.parametrize(
    ("cron", "told"),
    [
        ("0 3 * *", "found 4 fields"),
        ("0 25 * * *", "found the hour 25"),
        ("61 * * * *", "found the minute 61"),
        ("0 3 * * mon;rm", "as its weekday"),
        ("@daily", "found 1 fields"),
    ],
)
def test_a_schedule_that_is_none_is_refused_before_anything_is_sent(api: Any, cron: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        _submit(api, options=RunOptions(cron=cron))
    assert not api.schedules
    assert not api.uploads


@pytest.mark.parametrize("cron", ["*/5 * * * *", "0 3 * * mon-fri", "0 0 3 1,15 * ?", "30 2 */2 * 0-6"])
def test_fields_that_cron_knows_are_taken(cron: str) -> None:
    assert six_fields(cron).split()[-5:] == cron.split()[-5:]


def test_schedules_are_listed_over_all_pages_paused_taken_up_again_and_removed(api: Any) -> None:
    api.largest_page = 2
    for seed in range(5):
        _submit(api, options=RunOptions(cron="0 3 * * *"), seed=seed)
    connection = Connection(host=api.host)
    found = list_schedules(connection)
    assert len(found) == 5
    assert all(schedule.enabled and schedule.cron == "0 0 3 * * *" for schedule in found)
    change_schedule(connection, found[0].name, "disable")
    assert [schedule.enabled for schedule in list_schedules(connection)] == [False, True, True, True, True]
    change_schedule(connection, found[0].identifier, "enable")
    assert all(schedule.enabled for schedule in list_schedules(connection))
    change_schedule(connection, found[1].name, "delete")
    assert found[1] not in list_schedules(connection)
    with pytest.raises(InputError, match="found none; needed one"):
        change_schedule(connection, "nightly", "disable")


def test_two_schedules_of_one_name_are_told_apart_by_their_identifiers(api: Any) -> None:
    for _ in range(2):
        _submit(api, options=RunOptions(cron="0 3 * * *"))
    name = _request().run
    with pytest.raises(InputError, match="recurring_run_id-0, recurring_run_id-1"):
        change_schedule(Connection(host=api.host), name, "delete")
    assert len(api.schedules) == 2


def test_schedules_are_listed_on_the_command_line(api: Any) -> None:
    _submit(api, options=RunOptions(cron="0 3 * * *"))

    def command(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "pipelines.cli.main", "schedules", *words, "--host", api.host],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    assert "enabled   0 0 3 * * *" in command("list")
    assert command("disable", "recurring_run_id-0").startswith("disabled")
    assert json.loads(command("list", "--json"))[0]["enabled"] is False


def test_an_incumbent_is_named_by_its_place_and_digest(api: Any) -> None:
    digest = "d" * 64
    submit(
        replace(_request(), incumbent=digest, incumbent_run="shop-1"),
        Connection(host=api.host),
        RunOptions(),
        StepOptions(),
        incumbent=f"s3://bucket/ranker#sha256={digest}",
    )
    given = api.runs[0]["runtime_config"]["parameters"]
    assert given["incumbent"] == f"s3://bucket/ranker#sha256={digest}"
    assert given["first_release"] is False


def test_an_incumbent_that_only_this_machine_holds_is_refused(api: Any) -> None:
    with pytest.raises(InputError, match="found no place of it that steps in a cluster can read"):
        _submit(api, incumbent="d" * 64)
    assert not api.uploads


@pytest.mark.integration
@pytest.mark.usefixtures("owner_account")
def test_an_incumbent_is_found_in_object_storage_and_must_be_a_ranker(
    small_ranker: Path, tmp_path: Path, storage: Any
) -> None:
    digest = digest_tree(small_ranker)
    name = keep_folder(small_ranker, f"s3://{storage.private}/rankers")
    held = find_incumbent(Home(tmp_path), name, root="")
    assert (held.digest, held.place) == (digest, name)
    assert held.run == name.partition("#")[0]
    # Without its digest it is what is there now, and named by that from now on.
    assert find_incumbent(Home(tmp_path), held.run, root="").place == name
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("no ranker")
    with pytest.raises(InputError, match=r"ranker\.json: cannot be read"):
        find_incumbent(Home(tmp_path), keep_folder(tmp_path / "notes", f"s3://{storage.private}/notes"), root="")
    assert find_incumbent(Home(tmp_path), "", root="").place == ""


def test_a_verdict_is_a_page_and_figures_and_the_card_a_page_where_kubeflow_shows_them(tmp_path: Path) -> None:
    compile_pipeline(tmp_path / "p.yaml", StepOptions())
    drawn = _ir(tmp_path / "p.yaml")["components"]
    kinds = {
        name: {
            role: given["artifactType"]["schemaTitle"]
            for role, given in drawn[name]["outputDefinitions"]["artifacts"].items()
        }
        for name in ("comp-decide", "comp-write-card")
    }
    assert kinds["comp-decide"] == {
        "verdict": "system.Artifact",
        "page": "system.Markdown",
        "figures": "system.Metrics",
    }
    assert kinds["comp-write-card"]["page"] == "system.HTML"
