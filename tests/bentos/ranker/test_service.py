"""The service as it is really started: over HTTP, by BentoML, until it is told to end."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from components.approval.contract import SCHEMA_VERSION, Approval, Release
from components.artifacts import documents
from components.artifacts.digests import digest_tree
from components.evidence.malformed import Malformed, malformed_requests
from components.evidence.serving import Answered, Client
from components.ranker.scoring import LoadedRanker
from components.serving.exposure_files import Damage, read_exposures
from components.serving.exposure_tables import convert_exposures

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


class Started:
    """A service of a release, in processes of its own."""

    def __init__(self, release: Path, home: Path, repository: Path, **said: str) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port: int = found.getsockname()[1]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RANKGATE_")}
        environment |= {
            "RANKGATE_RELEASE": str(release),
            "BENTOML_DO_NOT_TRACK": "true",
            "BENTOML_HOME": str(home),
            "PYTHONPATH": str(repository),
            "RANKGATE_DRAIN_SECONDS": "0",
            **said,
        }
        words = ["-m", "bentoml", "serve", "bentos.ranker.service:RankerService", "--host", "127.0.0.1"]
        self.log = home / "log"
        with self.log.open("wb") as lines:
            self.process = subprocess.Popen(
                [sys.executable, *words, "--port", str(self.port)],
                cwd=home,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=lines,
                stderr=lines,
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        until = time.monotonic() + 60
        while self.status("/readyz") != 200:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.1)

    def status(self, path: str) -> int:
        """Of a GET over a connection of its own; 0 where no answer came."""
        return self.get(path).status

    def get(self, path: str) -> Answered:
        with closing(Client(self.port)) as client:
            return client.send("GET", path, b"", {})

    def post(self, path: str, value: Any) -> Answered:
        with closing(Client(self.port)) as client:
            return client.post(path, value)

    def end(self) -> None:
        """Told first: BentoML's workers lead sessions of their own and would outlive a killed parent."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="session")
def release(small_ranker: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release as it lies in a bento."""
    folder = tmp_path_factory.mktemp("release")
    copytree(small_ranker, folder / "ranker")
    approval = Approval(
        schema_version=SCHEMA_VERSION,
        run="shop-1",
        decision="approved",
        approver="rita",
        submitter="ada",
        reason="read",
        decided_at="2026-11-23T00:00:00+00:00",
        card="a" * 64,
        verdict="b" * 64,
        ranker=digest_tree(small_ranker),
        policy="c" * 64,
    )
    documents.save(Release(digest="d" * 64, approval=approval, key_id="e" * 64), folder / "release.json")
    return folder


Start = Callable[..., AbstractContextManager[Started]]


@pytest.fixture(scope="module")
def start(release: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Start:
    @contextmanager
    def started(**said: str) -> Iterator[Started]:
        service = Started(release, tmp_path_factory.mktemp("home"), repository, **said)
        try:
            service.wait_until_ready()
            yield service
        finally:
            service.end()

    return started


@pytest.fixture(scope="module")
def service(start: Start) -> Iterator[Started]:
    with start(RANKGATE_ARM="canary") as found:
        yield found


@pytest.fixture(scope="module")
def ranker(small_ranker: Path) -> LoadedRanker:
    return LoadedRanker.open(small_ranker)


def test_lists_are_those_of_the_ranker_to_the_bit_with_release_and_arm(service: Started, ranker: LoadedRanker) -> None:
    for number, user in enumerate([None, "nobody", *ranker.user_ids[:20]]):
        items = ranker.item_ids[number : number + 100]
        asked = {
            "user_id": user,
            "candidates": items,
            "k": 100,
            "context": {"device": "mobile"},
            "request_id": f"r-{number}",
        }
        found = json.loads(service.post("/rank", asked).body)
        expected = ranker.rank(user, items, k=100, context={"device": "mobile"})
        assert [(one["item_id"], one["score"]) for one in found["items"]] == expected
        assert (found["release"], found["arm"], found["request_id"]) == ("d" * 64, "canary", f"r-{number}")
        found = json.loads(service.post("/recommend", {"user_id": user, "k": 50}).body)
        assert [(one["item_id"], one["score"]) for one in found["items"]] == ranker.recommend(user, k=50)


def test_it_says_what_it_serves(service: Started, small_ranker: Path) -> None:
    found = json.loads(service.get("/release").body)
    assert (found["release"], found["run"], found["approver"], found["arm"]) == ("d" * 64, "shop-1", "rita", "canary")
    assert found["ranker"] == digest_tree(small_ranker)


@pytest.mark.parametrize("wrong", malformed_requests("10008"), ids=lambda wrong: wrong.what)
def test_wrong_requests_are_refused_over_http_too(service: Started, wrong: Malformed) -> None:
    with closing(Client(service.port)) as client:
        answer = client.send(wrong.method, wrong.path, wrong.body, wrong.headers)
        assert wrong.refused_by(answer.status, answer.body), (answer.status, answer.body)
        assert client.post("/recommend", {"k": 1}).status == 200


def test_a_long_body_without_a_length_is_cut_off(service: Started) -> None:
    sent = 0
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.sendall(b"POST /rank HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n")
        with suppress(OSError):
            while sent < 1 << 28:
                connection.sendall(b"10000\r\n" + b" " * 65_536 + b"\r\n")
                sent += 65_536
    # Nothing like what was on offer was taken before the connection was closed.
    assert sent < 1 << 25
    assert service.post("/recommend", {"k": 1}).status == 200


def test_nothing_of_bentomls_own_pages_is_open(service: Started) -> None:
    for path in ("/", "/docs.json", "/schema.json", "/static_content/index.html", "/healthz"):
        assert service.status(path) == 404


def test_answers_do_not_tell_what_they_are_made_with(service: Started) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=5)) as connection:
        connection.request("GET", "/readyz")
        headers = {name.lower() for name, _ in connection.getresponse().getheaders()}
    assert headers == {"content-type", "content-length", "date"}


def test_told_to_end_it_is_not_ready_first_and_answers_and_logs_all_that_it_has_taken(
    start: Start, tmp_path: Path
) -> None:
    with start(RANKGATE_DRAIN_SECONDS="2", RANKGATE_EXPOSURES=str(tmp_path)) as service:
        statuses: list[int] = []
        stop = threading.Event()

        def ask() -> None:
            with closing(Client(service.port)) as client:
                while not stop.is_set():
                    statuses.append(client.post("/recommend", {"k": 5}).status)

        askers = [threading.Thread(target=ask) for _ in range(4)]
        for asker in askers:
            asker.start()
        time.sleep(0.5)
        service.process.send_signal(signal.SIGTERM)
        time.sleep(1.0)
        assert service.status("/readyz") == 503
        assert service.status("/livez") == 200
        before_the_end = len(statuses)
        time.sleep(0.3)
        stop.set()
        for asker in askers:
            asker.join()
        assert len(statuses) > before_the_end > 0
        assert set(statuses) == {200}
        service.process.wait(20)
        assert service.status("/livez") == 0
    damaged: list[Damage] = []
    logged = Counter(exposure.request_id for exposure in read_exposures(tmp_path, damaged=damaged.append))
    assert (len(logged), set(logged.values()), damaged) == (len(statuses), {5}, [])


def test_metrics_and_logs_of_a_started_service_tell_what_it_did(start: Start, tmp_path: Path) -> None:
    said = {"RANKGATE_LOG_SAMPLE": "5", "RANKGATE_SURFACES": "home", "OTEL_TRACES_EXPORTER": "console"}
    with start(RANKGATE_EXPOSURES=str(tmp_path), **said) as service:
        for number in range(20):
            asked = {"user_id": f"u{number}", "k": 5, "surface": "home", "request_id": f"r{number}"}
            assert service.post("/recommend", asked).status == 200
        assert service.post("/recommend", {"k": 0}).status == 400
        told = {
            (sample.name, *sorted(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(service.get("/metrics").body.decode())
            for sample in family.samples
        }
        assert told["rankgate_requests_total", "/recommend", "200"] == 20
        assert told["rankgate_requests_total", "/recommend", "400"] == 1
        assert told["rankgate_answer_seconds_count", "home", "unsaid"] == 20
        assert told["rankgate_exposure_places_total", "written"] + told["rankgate_exposure_waiting_places",] == 100
        assert told["rankgate_ready",] == 1
        assert told["process_resident_memory_bytes",] > 0
    lines = [json.loads(line) for line in service.log.read_text().splitlines() if line.startswith('{"at"')]
    access = [line for line in lines if line["logger"] == "rankgate.access"]
    assert [(line["event"], line["status"]) for line in access] == [("answered", 200)] * 4 + [("refused", 400)]
    assert [line["request_id"] for line in access[:4]] == ["r4", "r9", "r14", "r19"]
    assert access[4]["refused"] == "k"
    # What was shown is what a conversion makes of the log: the next run's impressions.
    done = convert_exposures(tmp_path, out=tmp_path / "events")
    assert (done.lists, done.rows, done.unfinished, done.torn_files) == (20, 100, 0, 0)
    # The console exporter writes each span as an object over many lines.
    assert service.log.read_text().count('"name": "POST /recommend"') == 21


@pytest.mark.parametrize(
    "said",
    [
        {"OTEL_TRACES_EXPORTER": "pigeon"},
        {"RANKGATE_LOG_SAMPLE": "often"},
        {"RANKGATE_EXPOSURES": "x", "RANKGATE_EXPOSURE_BYTES": "1"},
    ],
)
def test_a_setting_that_is_none_stops_the_start_and_is_named(
    said: dict[str, str], release: Path, repository: Path, tmp_path: Path
) -> None:
    service = Started(release, tmp_path, repository, **said)
    try:
        until = time.monotonic() + 60
        while b"startup failed" not in service.log.read_bytes() and time.monotonic() < until:
            time.sleep(0.1)
        assert list(said)[-1].encode() in service.log.read_bytes()
        assert service.status("/readyz") != 200
    finally:
        service.end()


def test_a_release_whose_ranker_was_changed_is_never_ready(release: Path, repository: Path, tmp_path: Path) -> None:
    changed = tmp_path / "release"
    copytree(release, changed)
    with (changed / "ranker" / "model.ubj").open("ab") as stream:
        stream.write(b"\0")
    service = Started(changed, tmp_path, repository)
    try:
        until = time.monotonic() + 60
        while b"startup failed" not in service.log.read_bytes() and time.monotonic() < until:
            assert service.status("/readyz") != 200
            time.sleep(0.1)
        assert b"needed the approved" in service.log.read_bytes()
        assert service.status("/readyz") != 200
    finally:
        service.end()


def test_the_process_that_only_watches_imports_nothing_heavy() -> None:
    program = (
        "import sys; import bentos.ranker.service, bentos.ranker.measuring; "
        "found = {'xgboost', 'pyarrow', 'scipy', 'numpy'} & set(sys.modules); "
        "print(sorted(found))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
