"""A measured service: it fails early and says why, and is gone when nobody asks any more, however that came about."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from components.evidence import serving, serving_guard
from components.evidence.serving import Client, Running, ServiceDidNotStartError, running

Run = Any
ProcessesOf = Callable[[Path], list[int]]
GUARD = [sys.executable, "-I", "-S", serving_guard.__file__]

FAMILY = """
import os, signal, subprocess, sys, time
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE, text=True)
child.stdout.readline()
print(os.getpid(), child.pid, file=open(sys.argv[1] + ".part", "w"), flush=True)
os.rename(sys.argv[1] + ".part", sys.argv[1])
time.sleep(60)
"""
"""Tells its process and that of a child that does not heed SIGTERM; then both stay."""

ASKER = """
import subprocess, sys, time
subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, start_new_session=True)
time.sleep(60)
"""


def lives(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def soon(true: Callable[[], bool], *, within: float = 30.0) -> bool:
    until = time.monotonic() + within
    while not (held := true()) and time.monotonic() < until:
        time.sleep(0.05)
    return held


@pytest.fixture
def family(tmp_path: Path) -> Iterator[list[str]]:
    """A command that starts a family, which does not outlive the test."""
    told = tmp_path / "pids"
    yield [sys.executable, "-c", FAMILY, str(told)]
    for pid in told.read_text().split() if told.exists() else []:
        if lives(int(pid)):
            os.kill(int(pid), signal.SIGKILL)


def members(command: list[str]) -> list[int]:
    told = Path(command[-1])
    assert soon(told.exists)
    pids = [int(pid) for pid in told.read_text().split()]
    assert all(lives(pid) for pid in pids)
    return pids


@pytest.mark.integration
def test_a_family_ends_when_whoever_asked_for_it_is_killed(family: list[str]) -> None:
    with subprocess.Popen([sys.executable, "-c", ASKER, *GUARD, *family]) as asker:
        pids = members(family)
        asker.kill()
    assert soon(lambda: not any(lives(pid) for pid in pids))


@pytest.mark.integration
def test_a_family_ends_when_its_input_is_closed(family: list[str]) -> None:
    with subprocess.Popen([*GUARD, *family], stdin=subprocess.PIPE, start_new_session=True) as guard:
        pids = members(family)
        assert guard.stdin is not None
        guard.stdin.close()
        assert guard.wait(30) != 0
    assert soon(lambda: not any(lives(pid) for pid in pids))


@pytest.mark.integration
def test_a_program_that_does_not_heed_is_ended_all_the_same(tmp_path: Path, repository: Path) -> None:
    told = tmp_path / "pid"
    program = (
        "import os, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"
    )
    hasty = "import sys; from components.evidence import serving_guard as g; g._END_WITHIN = 0.2; g.guard(sys.argv[1:])"
    command = [sys.executable, "-c", hasty, sys.executable, "-c", program, str(told)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, cwd=repository) as guard:
        assert soon(lambda: told.exists() and bool(told.read_text()))
        pid = int(told.read_text())
        assert lives(pid)
        assert guard.stdin is not None
        guard.stdin.close()
        assert guard.wait(30) == -signal.SIGKILL
    assert soon(lambda: not lives(pid))


def test_a_guard_ends_as_its_program_does() -> None:
    for code in (0, 3):
        with subprocess.Popen(
            [*GUARD, sys.executable, "-c", f"raise SystemExit({code})"], stdin=subprocess.PIPE
        ) as guard:
            assert guard.wait(30) == code


@pytest.mark.integration
def test_the_service_is_gone_when_the_measuring_process_is_killed(
    run: Run, tmp_path: Path, repository: Path, processes_of: ProcessesOf
) -> None:
    code = (
        "import sys, time; from pathlib import Path; from components.evidence.serving import running\n"
        "with running(Path(sys.argv[1])): print('ready', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(run.ranker)]
    # What is killed cannot remove its temporary folder.
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=repository, env=environment, stdout=subprocess.PIPE, text=True) as asker:
        assert asker.stdout is not None
        assert asker.stdout.readline() == "ready\n"
        assert processes_of(run.ranker)
        asker.kill()
    assert soon(lambda: not processes_of(run.ranker))


@pytest.mark.integration
def test_the_service_is_gone_when_the_measurement_is_stopped(run: Run, processes_of: ProcessesOf) -> None:
    def stopped() -> None:
        with running(run.ranker) as service:
            assert processes_of(run.ranker)
            assert (service.peak_memory() or 0) > 50 * 2**20
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert not processes_of(run.ranker)


@pytest.mark.integration
def test_a_service_that_refuses_to_start_is_not_waited_for(run: Run, tmp_path: Path, processes_of: ProcessesOf) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(run.ranker, broken)
    (broken / "model.ubj").write_bytes(b"")
    began = time.monotonic()
    with pytest.raises(ServiceDidNotStartError, match=r"it refused to start.*model\.ubj") as told, running(broken):
        pass
    assert time.monotonic() - began < 45
    assert str(tmp_path) not in str(told.value)
    assert "\x1b" not in str(told.value)
    assert not processes_of(broken)


@pytest.mark.integration
def test_a_program_that_ends_says_how(run: Run, monkeypatch: pytest.MonkeyPatch, processes_of: ProcessesOf) -> None:
    monkeypatch.setattr(serving, "SERVICE", "bentos.ranker.no_such_module:Service")
    with pytest.raises(ServiceDidNotStartError, match=r"it ended with [1-9].*no_such_module"), running(run.ranker):
        pass
    assert not processes_of(run.ranker)


@pytest.mark.integration
def test_a_service_that_takes_too_long_is_stopped(run: Run, processes_of: ProcessesOf) -> None:
    with (
        pytest.raises(ServiceDidNotStartError, match="it was not ready in time"),
        running(run.ranker, ready_within=0.3),
    ):
        pass
    assert not processes_of(run.ranker)


class _Foreign(BaseHTTPRequestHandler):
    """Says yes to everything, and is not the service."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.integration
def test_another_program_on_the_port_is_not_measured(
    run: Run, monkeypatch: pytest.MonkeyPatch, processes_of: ProcessesOf
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Foreign) as foreign:
        thread = threading.Thread(target=foreign.serve_forever)
        thread.start()
        try:
            monkeypatch.setattr(serving, "_free_port", lambda: foreign.server_address[1])
            with pytest.raises(ServiceDidNotStartError, match="another program answers"), running(run.ranker):
                pass
        finally:
            foreign.shutdown()
            thread.join()
    assert not processes_of(run.ranker)


def test_nobody_there_is_no_answer() -> None:
    answer = Client(serving._free_port()).post("/rank", {})
    assert (answer.status, answer.body) == (0, b"")


def test_memory_of_which_any_part_is_unknown_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks: dict[int, int | None] = {1: 7, 2: 100, 3: 20}
    monkeypatch.setattr(serving, "_family", lambda _: list(peaks))
    monkeypatch.setattr(serving, "_peak", peaks.__getitem__)
    service = Running(port=1, pid=1, seconds_to_ready=0.0)
    assert service.peak_memory() == 120
    peaks[3] = None
    assert service.peak_memory() is None
    peaks.clear()
    peaks[1] = 7
    assert service.peak_memory() is None


def test_the_memory_of_a_process_that_has_ended_is_none_and_ours_is_known() -> None:
    assert (serving._peak(os.getpid()) or 0) > 2**20
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        assert soon(lambda: not lives(ended.pid))
        assert serving._peak(ended.pid) == 0
    assert serving._peak(ended.pid) == 0


def test_the_end_of_a_log_tells_no_place_of_this_machine(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "early\n" * 20 + '\x1b[31mFile "/srv/x/venv/lib/bentoml/start.py", line 3\x1b[0m\n    ^^^^~~\n\nno model\n'
    )
    told = serving._end_of(log)
    assert told.startswith("Its log ends: early ")
    assert told.endswith('File "start.py", line 3 no model')
    log.write_text("")
    assert serving._end_of(log) == "Its log is empty."
