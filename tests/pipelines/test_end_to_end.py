"""The whole road on a small generated shop: as its users go it, from events to a served ranking."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600), pytest.mark.xdist_group("end-to-end")]

_SCALE = "0.15"
_POLICY = """\
schema: rankgate/policy/v1
name: lenient
version: 1.0.0
description: What a shop too small for the default policy can be held to.
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
    bound: {at_least: BOUND}
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
        - {metric: ndcg@10, statistic: difference, versus: random, value: MIDDLE, interval: [LOW, HIGH]}
    expect: {verdict: blocked, violations: 1, answers: {better-than-random: insufficient}}
"""
_SAMPLE = """\
schema: rankgate/sample/v1
description: Much better than random.
evidence:
  quality:
    - {metric: ndcg@10, statistic: difference, versus: random, value: 0.9, interval: [0.85, 0.95], users: 4000}
"""


def _policy(folder: Path, *, bound: float, waive: bool = False) -> Path:
    """A policy of one rule, with its suite; with `waive` what it cannot settle may be waived."""
    folder.mkdir()
    rule = _POLICY.replace("BOUND", str(bound)) + ("    on_insufficient: waive\n" if waive else "")
    (folder / "policy.yaml").write_text(rule)
    suite = _SUITE.replace("MIDDLE", str(bound)).replace("LOW", str(bound - 0.05)).replace("HIGH", str(bound + 0.05))
    if waive:
        suite = suite.replace("random: insufficient}}", "random: insufficient}, waivable: [better-than-random]}")
    (folder / "suite.yaml").write_text(suite)
    (folder / "sample.yaml").write_text(_SAMPLE)
    return folder


class Shell:
    """The command line in a folder of its own, with its own home."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.environment = {**os.environ, "RANKGATE_HOME": str(self.home), "RANKGATE_USER": "ada", "HOME": str(folder)}

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words), cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )

    @staticmethod
    def command(*words: str) -> list[str]:
        return [sys.executable, "-m", "pipelines.cli.main", *words]

    def json(self, *words: str) -> Any:
        done = self(*words, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    folder = tmp_path_factory.mktemp("road")
    _policy(folder / "lenient", bound=0.0)
    _policy(folder / "strict", bound=0.8)
    words = "schema: rankgate/model-card/v1\ndatasets: [demo-shop]\nintended_use: A feed at the end of the road.\n"
    (folder / "model-card.yaml").write_text(words)
    return Shell(folder)


@pytest.fixture(scope="module")
def passed(shell: Shell) -> dict[str, Any]:
    """The first run: killed while it trains, then resumed."""
    words = ("demo", "--scale", _SCALE, "--policy", "lenient", "--json")
    process = subprocess.Popen(
        shell.command(*words),
        cwd=shell.folder,
        env=shell.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    dataset = None
    while dataset is None and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)
        dataset = next(iter(shell.home.glob("runs/*/steps/dataset.json")), None)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert dataset, "the run ended before its data set was built"
    assert not list(shell.home.glob("runs/*/result.json"))
    made = dataset.read_bytes()
    resumed: dict[str, Any] = shell.json(*words[:-1])
    steps = {step["step"]: step for step in resumed["timing"]["steps"]}
    assert steps["snapshot"]["restored"]
    assert steps["dataset"]["restored"]
    assert not steps["card"]["restored"]
    assert dataset.read_bytes() == made
    return resumed


def test_a_killed_run_resumes_from_its_finished_steps_and_ends_well(passed: dict[str, Any]) -> None:
    assert (passed["state"], passed["exit_code"]) == ("passed", 0)
    assert passed["verdict"]["answer"] == "passed"
    assert set(passed["artifacts"]) >= {"snapshot", "dataset", "ranker", "rankings", "verdict", "card"}


def test_its_time_adds_up(passed: dict[str, Any]) -> None:
    timing = passed["timing"]
    parts = timing["function_seconds"] + timing["import_seconds"] + timing["rest_seconds"]
    assert parts == pytest.approx(timing["total_seconds"], abs=0.01)


def test_the_same_command_again_does_nothing_and_says_the_same(shell: Shell, passed: dict[str, Any]) -> None:
    began = time.monotonic()
    again = shell.json("demo", "--scale", _SCALE, "--policy", "lenient")
    assert again["finished_at"] == passed["finished_at"]
    assert again["verdict"] == passed["verdict"]
    assert time.monotonic() - began < 30


def test_a_killed_and_resumed_run_replays_to_the_same_bytes(shell: Shell, passed: dict[str, Any]) -> None:
    told = shell.json("replay", passed["run"], "--step", "verdict", "--step", "card")
    assert told["same"]
    assert [one["artefact"] for one in told["artefacts"]] == ["verdict", "card"]
    assert not told["causes"]


def test_a_blocked_run_exits_3_keeps_everything_and_has_its_card(shell: Shell, passed: dict[str, Any]) -> None:
    done = shell("demo", "--scale", _SCALE, "--policy", "strict", "--json")
    assert done.returncode == 3, done.stderr
    blocked = json.loads(done.stdout)
    assert (blocked["state"], blocked["verdict"]["answer"]) == ("blocked", "blocked")
    assert "at least 0.8" in blocked["message"]
    page = Path(blocked["card"]).read_text()
    assert "Blocked" in page
    steps = {step["step"]: step["restored"] for step in blocked["timing"]["steps"]}
    # Another policy: the data are not built again, the ranker is trained anew under the rules it is judged by.
    assert steps["snapshot"]
    assert steps["dataset"]
    assert not steps["ranker"]
    refused = shell("approve", blocked["run"], "--key", _key(shell), "--as", "rita", "--reason", "no")
    assert refused.returncode == 3
    unwaivable = _waive(shell, blocked["run"])
    assert unwaivable.returncode == 2
    assert "on_fail: block: no signature lets a shown harm through" in unwaivable.stderr
    assert not (Path(blocked["folder"]) / "waivers").exists()
    compared = shell.json("compare", passed["run"], blocked["run"])
    answers = {row["name"]: (row["first"], row["second"]) for row in compared["answers"]}
    assert answers["verdict"] == ("passed", "blocked")
    assert {run["state"] for run in shell.json("runs")} == {"passed", "blocked"}


def _waive(shell: Shell, run: str, *more: str, until: date | None = None) -> subprocess.CompletedProcess[str]:
    """Waive the one rule, for a month unless told; words in `more` go over those before."""
    day = until or datetime.now(UTC).date() + timedelta(days=30)
    words = ("--reason", "the canary watches them", "--until", str(day), "--key", _key(shell), "--as", "wim")
    return shell("waive", run, "better-than-random", *words, *more)


@pytest.fixture(scope="module")
def unsure(shell: Shell, passed: dict[str, Any]) -> dict[str, Any]:
    """A run whose one rule is held against the very figure that it measures: no number of users settles that."""
    (outcome,) = passed["verdict"]["outcomes"]
    _policy(shell.folder / "unsure", bound=round(outcome["findings"][0]["value"], 3), waive=True)
    done = shell("demo", "--scale", _SCALE, "--policy", "unsure", "--json")
    assert done.returncode == 3, done.stderr
    run: dict[str, Any] = json.loads(done.stdout)
    assert run["verdict"]["outcomes"][0]["answer"] == "insufficient"
    return run


def test_wrong_words_about_a_waiver_exit_2_and_leave_nothing(shell: Shell, unsure: dict[str, Any]) -> None:
    today = datetime.now(UTC).date()
    folder = Path(unsure["folder"])
    before = {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}
    for done, told in (
        (_waive(shell, "nosuch"), "not found below"),
        (_waive(shell, unsure["run"], until=today), "needed a day after"),
        (_waive(shell, unsure["run"], until=today + timedelta(days=91)), "90 days at most"),
        (_waive(shell, unsure["run"], "--until", "soon"), "needed a day such as"),
        (_waive(shell, unsure["run"], "--reason", " "), "reason: found none"),
        (_waive(shell, unsure["run"], "--as", " ADA"), "who submitted this run"),
        (_waive(shell, unsure["run"], "--key", "none.key"), "cannot be read"),
        (shell("waive", unsure["run"], "better", "--until", "2026-01-01"), "Missing option '--reason'"),
    ):
        assert done.returncode == 2, done.stdout + done.stderr
        assert told in done.stderr
        assert "Traceback" not in done.stderr
    after = {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}
    assert set(after) == set(before)
    assert {path for path in after if after[path] != before[path]} <= {folder, folder / "lock"}


def test_a_waiver_is_told_on_a_new_card_and_the_old_one_stays(shell: Shell, unsure: dict[str, Any]) -> None:
    run, digest = unsure["run"], unsure["artifacts"]["card"]
    verdict = (Path(unsure["folder"]) / "artifacts" / "verdict" / "verdict.json").read_bytes()
    done = _waive(shell, run, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["left"] == []
    assert told["card"] != digest
    shown = shell.json("show", run)
    assert (shown["state"], shown["artifacts"]["card"]) == ("blocked", told["card"])
    assert [held["waiver"]["criterion"] for held in shown["waivers"]["waivers"]] == ["better-than-random"]
    page = Path(shell("card", run).stdout.strip()).read_text()
    assert "Blocked, waived" in page
    assert "the canary watches them" in page
    assert (shell.home / "store" / "objects" / digest[:2] / digest / "card.html").exists()
    assert (Path(unsure["folder"]) / "artifacts" / "verdict" / "verdict.json").read_bytes() == verdict
    assert "blocked, waived" in shell("runs").stdout
    again = _waive(shell, run, "--reason", "another reason")
    assert "replaces the waiver by wim" in again.stdout
    compared = shell.json("compare", run, run)
    assert {row["name"]: row["first"] for row in compared["answers"]} == {
        "verdict": "blocked, waived",
        "better-than-random": "insufficient, waived",
    }


def test_a_card_written_anew_without_waivers_is_the_runs_own(shell: Shell, passed: dict[str, Any]) -> None:
    from pipelines.runs import Home
    from pipelines.waiving import write_card_of

    run = Home(shell.home).find(passed["run"])
    assert write_card_of(run, ()) == passed["artifacts"]["card"]


def test_an_approval_rests_on_its_waiver_and_ends_with_a_changed_one(shell: Shell, unsure: dict[str, Any]) -> None:
    run, trust = unsure["run"], ("--trust", f"{_key(shell)}.pub")
    decide = ("approve", run, "--key", _key(shell), "--as", "rita", "--reason", "read it")
    assert _waive(shell, run).returncode == 0
    assert "needed --trust" in shell(*decide).stderr
    release = shell.json(*decide, *trust)
    assert list(release["approval"]["waivers"]) == ["better-than-random"]
    assert shell.json("verify", run, *trust)["digest"] == release["digest"]
    assert shell.json("package", run, *trust)["release"] == release["digest"]
    path = Path(unsure["folder"]) / "waivers" / "better-than-random.dsse.json"
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"sig":"', b'"sig":"A', 1))
    image = ("--image", f"registry.example.com/ranker@sha256:{'a' * 64}", "--out", "waived-manifests")
    for words in (("verify", run, *trust), ("package", run, *trust), ("manifests", run, *trust, *image)):
        refused = shell(*words)
        assert refused.returncode == 4, refused.stdout + refused.stderr
        assert "the waivers are not those that were approved: waivers/better-than-random.dsse.json" in refused.stderr
    path.write_bytes(content)
    assert shell("verify", run, *trust).returncode == 0
    path.unlink()
    assert shell("verify", run, *trust).returncode == 4
    path.write_bytes(content)


def test_an_expired_waiver_and_a_strangers_do_not_count(shell: Shell, unsure: dict[str, Any]) -> None:
    from components.approval.waivers import as_shown, waive
    from pipelines.runs import Home
    from pipelines.waiving import write_card_of

    decide = ("approve", unsure["run"], "--key", _key(shell), "--as", "rita", "--trust", f"{_key(shell)}.pub")
    assert shell("keys", "new", "unknown.key").returncode == 0
    assert _waive(shell, unsure["run"], "--key", "unknown.key").returncode == 0
    refused = shell(*decide)
    assert refused.returncode == 3
    assert "which is not trusted here" in refused.stderr
    run = Home(shell.home).find(unsure["run"])
    signed = waive(
        run=run.name,
        criterion="better-than-random",
        verdict=run.artifact("verdict"),
        policy=run.artifact("policy"),
        submitter="ada",
        waived_by="wim",
        reason="for a week",
        until=datetime.now(UTC).date() - timedelta(days=1),
        key=_key(shell),
        waived_at=datetime.now(UTC).replace(microsecond=0) - timedelta(days=8),
        out=run.waivers,
    )
    run.rewrite("card", write_card_of(run, (as_shown(signed),)))
    refused = shell(*decide)
    assert refused.returncode == 3, refused.stdout + refused.stderr
    assert "had expired when it should be approved" in refused.stderr
    assert "blocked, waiver expired" in shell("runs").stdout
    assert "which has passed" in shell("show", run.name).stdout


def _key(shell: Shell) -> str:
    path = shell.folder / "reviewer.key"
    if not path.exists():
        done = shell("keys", "new", str(path))
        assert done.returncode == 0, done.stderr
    return str(path)


@pytest.fixture(scope="module")
def packaged(shell: Shell, passed: dict[str, Any]) -> dict[str, Any]:
    trust = ("--trust", f"{_key(shell)}.pub")
    unapproved = shell("package", passed["run"], *trust)
    assert unapproved.returncode == 4
    own = shell("approve", passed["run"], "--key", _key(shell), "--as", " Ada ", "--reason", "mine")
    assert own.returncode == 2
    approved = shell("approve", passed["run"], "--key", _key(shell), "--as", "rita", "--reason", "read it")
    assert approved.returncode == 0, approved.stderr
    verified = shell.json("verify", passed["run"], *trust)
    built: dict[str, Any] = shell.json("package", passed["run"], *trust)
    assert built["release"] == verified["digest"]
    return built


def test_the_bill_of_materials_is_of_the_approved_ranker_and_is_told(shell: Shell, packaged: dict[str, Any]) -> None:
    document = shell.json("sbom", packaged["run"])
    (model,) = (held for held in document["components"] if held["type"] == "machine-learning-model")
    assert model["hashes"][0]["content"] == packaged["ranker"]
    assert {file["name"]: file["hashes"][0]["content"] for file in model["components"]} == packaged["files"]
    # Said once for all policies of the folder.
    assert model["description"] == "A feed at the end of the road."
    assert {"bentoml", "xgboost"} <= {held["name"] for held in document["components"] if held["type"] == "library"}


def test_another_key_is_not_trusted(shell: Shell, packaged: dict[str, Any]) -> None:
    assert shell("keys", "new", "stranger.key").returncode == 0
    for command in ("verify", "package"):
        done = shell(command, packaged["run"], "--trust", "stranger.key.pub")
        assert done.returncode == 4, done.stderr


def test_manifests_of_the_release_name_it(shell: Shell, packaged: dict[str, Any]) -> None:
    image = f"registry.example.com/ranker@sha256:{'a' * 64}"
    trust = ("--trust", f"{_key(shell)}.pub")
    done = shell("manifests", packaged["run"], *trust, "--image", image, "--out", "manifests")
    assert done.returncode == 0, done.stderr
    kubectl = Path(sys.executable).with_name("kubectl")
    built = subprocess.run(
        [kubectl, "kustomize", str(shell.folder / "manifests" / "overlay")], capture_output=True, text=True, check=True
    )
    assert packaged["release"] in built.stdout
    assert image in built.stdout


@pytest.fixture
def served(shell: Shell, packaged: dict[str, Any]) -> Iterator[str]:
    with _serving(shell, packaged["run"]) as address:
        yield address


@contextmanager
def _serving(shell: Shell, run: str, *more: str) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ("serve", run, "--trust", f"{_key(shell)}.pub", "--port", str(port), *more)
    with (shell.folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            shell.command(*words), cwd=shell.folder, env=shell.environment, stdout=log, stderr=log
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            assert process.poll() is None, (shell.folder / "serve.log").read_text()
            try:
                with urllib.request.urlopen(f"{address}/readyz", timeout=2):
                    break
            except OSError:
                time.sleep(0.3)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


def _post(address: str, body: object) -> tuple[int, Any]:
    request = urllib.request.Request(
        address, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_the_service_ranks_with_the_runs_own_features_and_refuses_what_is_malformed(
    shell: Shell, packaged: dict[str, Any], served: str
) -> None:
    import pyarrow.parquet as pq

    from components.ranker.scoring import LoadedRanker

    run = shell.home / "runs" / packaged["run"]
    ranker = LoadedRanker.open(run / "artifacts" / "ranker")
    users = pq.read_table(run / "artifacts" / "dataset" / "users.parquet")["user_id"].to_pylist()
    items = pq.read_table(run / "artifacts" / "dataset" / "items.parquet")["item_id"].to_pylist()
    for user in (users[0], users[-1], None, "nobody"):
        body = {"user_id": user, "candidates": items[:30], "k": 10, "context": {"device": "phone"}}
        status, answer = _post(f"{served}/rank", body)
        assert status == 200
        expected = ranker.rank(user, items[:30], context={"device": "phone"}, k=10)
        assert [item["item_id"] for item in answer["items"]] == [item for item, _ in expected]
        for found, (_, score) in zip(answer["items"], expected, strict=True):
            assert found["score"] == pytest.approx(score, abs=1e-6)
        assert answer["release"] == packaged["release"]
    assert len(_post(f"{served}/recommend", {"user_id": users[0], "k": 5})[1]["items"]) == 5
    for bad in ({}, {"candidates": []}, {"candidates": ["1"], "k": 0}, {"candidates": ["1"], "surprise": 1}, []):
        status, answer = _post(f"{served}/rank", bad)
        assert status == 400, (bad, answer)
        assert "Traceback" not in json.dumps(answer)


def test_features_that_are_published_for_the_run_are_taken_up_by_its_packaged_service(
    shell: Shell, packaged: dict[str, Any]
) -> None:
    contract = next((shell.home / "demo").glob("*/dataset.yaml"))
    assert shell("keys", "new", "publisher.key").returncode == 0
    signed = ("--out", "features", "--trust", f"{_key(shell)}.pub", "--key", "publisher.key", "--as", "feed-job")
    half = shell("serve", packaged["run"], "--trust", f"{_key(shell)}.pub", "--features", "features")
    assert half.returncode == 2
    assert "--features-trust" in half.stderr

    def publish(moment: str) -> str:
        words = ("features", "publish", packaged["run"], "--events", str(contract), "--as-of", moment, *signed)
        return str(shell.json(*words)["digest"])

    first = publish("2026-05-10T02:30:00Z")
    with _serving(shell, packaged["run"], "--features", "features", "--features-trust", "publisher.key.pub") as address:

        def served() -> Any:
            with urllib.request.urlopen(f"{address}/release", timeout=10) as answer:
                return json.loads(answer.read())

        assert served()["features"] == first
        second = publish("2026-05-10T05:30:00Z")
        deadline = time.monotonic() + 60
        while served()["features"] != second:
            assert time.monotonic() < deadline, (shell.folder / "serve.log").read_text()
            time.sleep(0.2)
        assert served()["latest_bucket_start"] == "2026-05-10T05:00:00+00:00"
        assert _post(f"{address}/recommend", {"k": 5})[0] == 200


def test_a_changed_ranker_is_not_served(shell: Shell, packaged: dict[str, Any], tmp_path: Path) -> None:
    from components.errors import NotApprovedError
    from components.package.release import open_release

    (bento,) = (shell.home / "bentoml" / "bentos").glob("*/" + packaged["bento_tag"].rpartition(":")[2])
    release = tmp_path / "release"
    shutil.copytree(bento / "src" / "release", release)
    open_release(release, threads=1)
    model = release / "ranker" / "model.ubj"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.chmod(0o644)
    model.write_bytes(content)
    with pytest.raises(NotApprovedError, match="needed the approved"):
        open_release(release, threads=1)


def test_an_incumbent_is_held_against_on_the_same_requests(shell: Shell, passed: dict[str, Any]) -> None:
    second = shell.json(
        "demo", "--scale", _SCALE, "--policy", "lenient", "--incumbent", passed["run"], "--threads", "1"
    )
    assert second["verdict"]["first_release"] is False
    evidence = json.loads((Path(second["folder"]) / "artifacts" / "evidence-ranking" / "quality.json").read_text())
    against = [e for e in evidence["estimates"] if e["versus"] == "incumbent" and e["metric"] == "ndcg@10"]
    overall = next(e for e in against if not e["segment"])
    # The same data, seed and code give the same model, whatever the threads.
    assert overall["value"] == 0.0


def test_the_card_of_a_successor_tells_what_has_changed(shell: Shell, passed: dict[str, Any]) -> None:
    run = shell.json("demo", "--scale", _SCALE, "--policy", "lenient", "--incumbent", passed["run"], "--threads", "1")
    card = json.loads((Path(run["folder"]) / "artifacts" / "card" / "card.json").read_text())
    assert card["before"]["run"] == passed["run"]
    assert card["before"]["digests"]["ranker"] == card["lineage"]["incumbent"] == passed["artifacts"]["ranker"]
    # The same data, seed and code: nothing has changed but the threads, on a machine that has more than one.
    assert {(change["kind"], change["what"]) for change in card["changes"]} <= {("settings", "threads")}


def test_all_users_of_a_run_are_scored_stopped_and_gone_on_with(
    shell: Shell, passed: dict[str, Any], tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    from components.ranker.batch import open_batch

    words = ("score", passed["run"], "--out", str(tmp_path / "lists"), "--k", "5", "--block-users", "100")
    process = subprocess.Popen(
        shell.command(*words),
        cwd=shell.folder,
        env=shell.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "lists" / "users-00000.json").exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = shell(*words)
    assert done.returncode == 0, done.stderr
    assert "users-00000.parquet kept" in done.stderr
    assert "checked against no approval" in done.stdout
    again = shell.json(*words)
    batch = open_batch(tmp_path / "lists")
    assert again["files"] == batch.files
    assert again["plan"]["ranker"] == passed["artifacts"]["ranker"] == batch.plan.ranker
    users = pq.read_table(shell.home / "runs" / passed["run"] / "artifacts" / "dataset" / "users.parquet")["user_id"]
    tables = [pq.read_table(path) for path in sorted((tmp_path / "lists").glob("users-*.parquet"))]
    assert [user for table in tables for user in table["user_id"].unique().to_pylist()] == users.to_pylist()
    assert pq.read_table(tmp_path / "lists" / "visitor.parquet").num_rows == 5
    other = shell("score", passed["run"], "--out", str(tmp_path / "lists"), "--k", "6", "--block-users", "100")
    assert other.returncode == 2
    assert "k 5 instead of 6" in other.stderr


def test_lists_are_not_made_for_shipping_without_an_approval(
    shell: Shell, passed: dict[str, Any], tmp_path: Path
) -> None:
    assert shell("keys", "new", str(tmp_path / "stranger.key")).returncode == 0
    done = shell(
        "score", passed["run"], "--out", str(tmp_path / "lists"), "--trust", str(tmp_path / "stranger.key.pub")
    )
    assert done.returncode == 4, done.stderr
    assert not (tmp_path / "lists").exists()


def test_rerank_rules_beside_the_policy_reach_the_ranker_and_wrong_ones_stop_before_the_first_step(
    shell: Shell, passed: dict[str, Any]
) -> None:
    policy = shell.folder / "ruled"
    shutil.copytree(shell.folder / "lenient", policy)
    rules = policy / "rerank.yaml"
    rules.write_text("schema: rankgate/rerank/v1\ncaps: {category: 2}\nexclude: {item.shelf: [top]}\n")
    words = ("demo", "--scale", _SCALE, "--policy", "ruled")
    before = set(shell.home.glob("runs/*"))
    wrong = shell(*words)
    assert wrong.returncode == 2
    assert "exclude.item.shelf: found an unknown attribute" in wrong.stderr
    assert set(shell.home.glob("runs/*")) == before
    rules.write_text("schema: rankgate/rerank/v1\ncaps: {category: 2}\nwindow: 5\n")
    ruled = shell.json(*words)
    assert ruled["run"] != passed["run"]
    assert ruled["artifacts"]["dataset"] == passed["artifacts"]["dataset"]
    manifest = json.loads((Path(ruled["folder"]) / "artifacts" / "ranker" / "ranker.json").read_text())
    assert (manifest["rerank"]["max_per_category"], manifest["rerank"]["window"]) == (2, 5)
    frozen = Path(ruled["folder"]) / "artifacts" / "policy"
    assert (frozen / "rerank.yaml").read_bytes() == rules.read_bytes()
    assert json.loads((frozen / "frozen.json").read_text())["rerank"] == manifest["rerank"]["declared"]
