"""The release pipeline: run on this machine to its end, refused in its first step, and started on a server of Kubeflow's API."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.approval.keys import new_key
from components.approval.released import read_trust
from components.artifacts import documents
from components.artifacts.digests import digest_tree
from components.errors import FaultyInputError, InputError, NotApprovedError
from components.events.object_folders import fetch_folder
from components.package.contract import Package
from pipelines.kubeflow import Connection, RunOptions, compile_pipeline, compile_release
from pipelines.kubeflow_release import Target, gather_approval, keep_release, release_arguments, submit_release
from pipelines.placing import StepOptions
from pipelines.release import release_pipeline
from pipelines.releasing import decide_release
from pipelines.runs import Home, Run

from ..components.card.conftest import small_run
from ..seaweedfs import Storage
from .kubeflow_api import KubeflowApi, serve
from .review.conftest import keep_run

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore::FutureWarning:kfp",
        "ignore::DeprecationWarning",
        "ignore:.*is not a Python image.*",
        "ignore::ResourceWarning",
    ),
    pytest.mark.integration,
]

_IMAGE = f"registry.example/ranker@sha256:{'a' * 64}"
_STEPS = StepOptions(image="r/python@sha256:0")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run, Path]:
    """A run that was approved by the owner of a key."""
    work = tmp_path_factory.mktemp("release")
    (work / "documents").mkdir()
    run = keep_run(Home(work / "home"), work / "documents", small_run())
    public = new_key(work / "rita.key")
    decide_release(run, decision="approved", key=str(work / "rita.key"), approver="rita", reason="read <it> | all")
    return work, run, public


def _places(run: Run, folder: Path) -> dict[str, str]:
    folder.mkdir()
    return {
        "approval": str(gather_approval(run, folder)),
        **{role: str(run.artifact(role)) for role in ("card", "verdict", "ranker", "policy")},
    }


def _run_locally(root: Path, trust: Mapping[str, str], arguments: Mapping[str, Any]) -> Any:
    from kfp import local

    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(root), raise_on_error=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return release_pipeline(StepOptions(), trust=trust)(**arguments)


def _made(root: Path, name: str) -> list[Path]:
    return sorted(root.rglob(name))


def test_an_approval_becomes_a_bento_and_manifests_on_this_machine(
    kept: tuple[Path, Run, Path], tmp_path: Path
) -> None:
    _, run, public = kept
    places = _places(run, tmp_path / "approval")
    arguments = release_arguments(run.name, places, Target(image=_IMAGE, namespace="feed"), code="c" * 64)
    root = tmp_path / "root"
    _run_locally(root, read_trust((public,)), arguments)
    (package,) = _made(root, "package.json")
    built = documents.load(Package, package)
    assert built.run == run.name
    assert built.ranker == run.artifact_digests()["ranker"]
    assert (package.parent / "ranker.tar").stat().st_size == built.size_bytes
    (plan,) = _made(root, "rollout.json")
    assert built.release in plan.read_text()
    assert any(_IMAGE.rpartition("@")[2] in path.read_text() for path in plan.parent.rglob("*.yaml"))
    (told,) = _made(root, "told")
    assert "approved by | rita, with the key" in told.read_text()
    # What a reviewer wrote is words, whatever it holds.
    assert "read &#60;it&#62; &#124; all" in told.read_text()


def test_without_an_image_it_ends_with_the_bento(kept: tuple[Path, Run, Path], tmp_path: Path) -> None:
    assert (
        release_arguments(
            "r", dict.fromkeys(("approval", "card", "verdict", "ranker", "policy"), ""), Target(), code=""
        )["render"]
        is False
    )


@pytest.mark.parametrize("spoilt", ["key", "card", "run"])
def test_nothing_is_built_where_the_first_step_does_not_let_it(
    kept: tuple[Path, Run, Path], tmp_path: Path, spoilt: str, capfd: pytest.CaptureFixture[str]
) -> None:
    _, run, public = kept
    places = _places(run, tmp_path / "approval")
    trust, name = read_trust((public,)), run.name
    if spoilt == "key":
        trust = read_trust((new_key(tmp_path / "mallory.key"),))
    elif spoilt == "card":
        card = tmp_path / "card"
        card.mkdir()
        for path in Path(places["card"]).iterdir():
            (card / path.name).write_bytes(path.read_bytes().replace(b"a", b"b", 1))
        places["card"] = str(card)
    else:
        name = "another-run"
    root = tmp_path / "root"
    _run_locally(root, trust, release_arguments(name, places, Target(), code="c" * 64))
    assert not _made(root, "package.json")
    assert not _made(root, "release.json")
    words = {"key": "is not trusted here", "card": "the card is not the one", "run": "was given for another run"}
    assert words[spoilt] in "".join(capfd.readouterr())


def _ir(path: Path) -> dict[str, Any]:
    first: dict[str, Any] = next(iter(yaml.safe_load_all(path.read_text())))
    return first


def test_whom_to_trust_is_part_of_the_pipeline_and_no_argument_of_a_run(
    kept: tuple[Path, Run, Path], tmp_path: Path
) -> None:
    trust = read_trust((kept[2],))
    first = compile_release(tmp_path / "a.yaml", _STEPS, trust=trust)
    assert compile_release(tmp_path / "b.yaml", _STEPS, trust=trust) == first
    assert compile_release(tmp_path / "c.yaml", _STEPS, trust={"x.pub": "another"}) != first
    drawn = _ir(tmp_path / "a.yaml")
    assert "trust" not in drawn["root"]["inputDefinitions"]["parameters"]
    tasks = drawn["root"]["dag"]["tasks"]
    given = tasks["verify-release"]["inputs"]
    assert given["parameters"]["trust"]["runtimeValue"]["constant"] == trust
    assert set(given["artifacts"]) == {"approval", "card", "verdict", "ranker", "policy"}
    assert (
        tasks["build-bento"]["inputs"]["artifacts"]["release"]["taskOutputArtifact"]["producerTask"] == "verify-release"
    )
    assert not tasks["verify-release"].get("cachingOptions")


@pytest.mark.parametrize("forgotten", ["approval", "card", "verdict", "ranker", "policy", "trust", "run"])
def test_verifying_with_a_forgotten_wire_does_not_compile(forgotten: str) -> None:
    from kfp import dsl

    from components.approval.component import verify_release

    with pytest.raises(TypeError, match=forgotten):

        @dsl.pipeline(name="forgetful")
        def forgetful():  # type: ignore[no-untyped-def]  # kfp would read `-> None` as text, and as an output
            wires = {
                role: dsl.importer(
                    artifact_uri=role, artifact_class=dsl.Model if role == "ranker" else dsl.Artifact
                ).output
                for role in ("approval", "card", "verdict", "ranker", "policy")
            }
            given: dict[str, Any] = {"run": "r", "trust": {"a.pub": ""}, "code": "", **wires}
            del given[forgotten]
            verify_release(**given)


def test_the_compiled_pipelines_hold_no_place_of_this_machine_and_no_secret(
    kept: tuple[Path, Run, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-to-be-told")
    options = replace(
        _STEPS,
        secret="shop-storage",
        endpoint="http://storage.shop:8333",
        region="eu",
        scratch="5Gi",
        scratch_class="fast",
    )
    compile_release(tmp_path / "release.yaml", options, trust=read_trust((kept[2],)))
    compile_pipeline(tmp_path / "candidate.yaml", options)
    for path in tmp_path.glob("*.yaml"):
        text = path.read_text()
        assert "not-to-be-told" not in text
        assert not re.search(rf"{re.escape(str(repository))}|{re.escape(str(Path.home()))}/|PRIVATE", text)


def _kubernetes(path: Path) -> dict[str, Any]:
    platform = list(yaml.safe_load_all(path.read_text()))[1]
    found: dict[str, Any] = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return found


def test_only_steps_that_open_object_storage_are_given_its_account(tmp_path: Path) -> None:
    options = replace(_STEPS, secret="shop-storage", endpoint="http://storage.shop:8333", region="eu")
    compile_pipeline(tmp_path / "env.yaml", options)
    found = _kubernetes(tmp_path / "env.yaml")
    assert set(found) == {"exec-take-snapshot", "exec-train-and-rank"}
    (secret,) = found["exec-take-snapshot"]["secretAsEnv"]
    assert secret["secretName"] == "shop-storage"
    assert {one["envVar"] for one in secret["keyToEnv"]} == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    executors = _ir(tmp_path / "env.yaml")["deploymentSpec"]["executors"]
    told = {one["name"]: one["value"] for one in executors["exec-take-snapshot"]["container"]["env"]}
    assert told == {"AWS_ENDPOINT_URL": "http://storage.shop:8333", "AWS_REGION": "eu"}
    assert "env" not in executors["exec-decide"]["container"]


def test_an_account_may_be_a_file_and_scratch_space_a_volume_of_each_step(tmp_path: Path) -> None:
    compile_pipeline(
        tmp_path / "v.yaml", replace(_STEPS, secret="s", account_as="volume", scratch="50Gi", scratch_class="fast")
    )
    found = _kubernetes(tmp_path / "v.yaml")
    (volume,) = found["exec-take-snapshot"]["secretAsVolume"]
    env = _ir(tmp_path / "v.yaml")["deploymentSpec"]["executors"]["exec-take-snapshot"]["container"]["env"]
    told = {one["name"]: one["value"] for one in env}
    assert told["AWS_SHARED_CREDENTIALS_FILE"] == f"{volume['mountPath']}/credentials"
    assert len(found) == len(_ir(tmp_path / "v.yaml")["deploymentSpec"]["executors"])
    for step in found.values():
        (scratch,) = step["genericEphemeralVolume"]
        assert (scratch["size"], scratch["storageClassName"]) == ("50Gi", "fast")
    assert told["TMPDIR"] == found["exec-decide"]["genericEphemeralVolume"][0]["mountPath"]


def test_an_account_in_an_address_is_refused() -> None:
    with pytest.raises(FaultyInputError, match="Put the account into a secret"):
        StepOptions(endpoint="http://me:secret@storage:8333")


@pytest.fixture
def api() -> Iterator[Any]:
    held: Any = KubeflowApi()
    server = serve(held)
    held.host = f"http://127.0.0.1:{server.server_port}"
    yield held
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("owner_account")
def test_a_release_starts_with_its_artefacts_in_object_storage_under_their_digests(
    kept: tuple[Path, Run, Path], tmp_path: Path, api: Any, storage: Storage
) -> None:
    _, run, public = kept
    root = f"s3://{storage.private}/rankgate"
    release, submitted = submit_release(
        run,
        [public],
        Connection(host=api.host),
        RunOptions(service_account="releaser"),
        _STEPS,
        root=root,
        target=Target(image=_IMAGE),
    )
    (started,) = api.runs
    assert submitted.name == f"release-{run.name}-{release.digest[:10]}"
    assert started["service_account"] == "releaser"
    given = started["runtime_config"]["parameters"]
    assert (given["run"], given["render"], given["image"]) == (run.name, True, _IMAGE)
    for role in ("card", "verdict", "ranker", "policy"):
        digest = run.artifact_digests()[role]
        assert given[role] == f"{root}/objects/{digest[:2]}/{digest}"
        assert fetch_folder(given[role], tmp_path / role) == digest
    fetch_folder(given["approval"], tmp_path / "approval")
    # What the cluster reads is what lets the release out.
    places = {role: str(tmp_path / role) for role in ("approval", "card", "verdict", "ranker", "policy")}
    _run_locally(tmp_path / "root", read_trust((public,)), release_arguments(run.name, places, Target(), code="c" * 64))
    assert len(_made(tmp_path / "root", "package.json")) == 1
    assert all(b"name: rankgate-release" in upload for upload in api.uploads)
    assert keep_release(run, root)["card"] == given["card"]


def test_without_a_valid_approval_nothing_is_sent(kept: tuple[Path, Run, Path], tmp_path: Path, api: Any) -> None:
    _, run, _ = kept
    stranger = new_key(tmp_path / "mallory.key")
    with pytest.raises(NotApprovedError):
        submit_release(
            run, [stranger], Connection(host=api.host), RunOptions(), _STEPS, root="s3://b/f", target=Target()
        )
    assert not api.uploads
    assert not api.runs


def test_two_keys_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        new_key(tmp_path / folder / "r.key")
    with pytest.raises(InputError, match="two keys of this name"):
        read_trust((tmp_path / "a", tmp_path / "b"))


def test_what_is_gathered_is_the_envelope_and_the_waivers(kept: tuple[Path, Run, Path], tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        gather_approval(kept[1], folder)
    assert digest_tree(first) == digest_tree(second)
    assert [path.name for path in first.iterdir()] == ["approval.dsse.json"]


@pytest.mark.usefixtures("owner_account")
def test_the_command_prints_one_document_and_says_4_where_no_approval_holds(
    kept: tuple[Path, Run, Path], tmp_path: Path, api: Any, storage: Storage
) -> None:
    work, run, public = kept

    def command(key: Path) -> subprocess.CompletedProcess[str]:
        words = ("--home", str(work / "home"), "release", run.name, "--trust", str(key), "--host", api.host)
        return subprocess.run(
            [sys.executable, "-m", "pipelines.cli.main", *words, "--artefacts", f"s3://{storage.private}/c", "--json"],
            capture_output=True,
            text=True,
            check=False,
        )

    done = command(public)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["kind"] == "run"
    assert told["name"].endswith(told["release"][:10])
    assert not done.stderr
    assert command(new_key(tmp_path / "mallory.key")).returncode == 4
    assert len(api.runs) == 1
