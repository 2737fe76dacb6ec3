"""`rankgate review`: what it asks for before it starts."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from components.errors import FaultyInputError, InputError
from pipelines.cli.review import review
from pipelines.runs import Run

from .conftest import Place


def _refusal(place: Place, *words: str) -> Exception | None:
    done = CliRunner().invoke(review, list(words), obj=str(place.home.root))
    assert done.output == ""
    return done.exception  # type: ignore[return-value]


def test_a_home_without_runs_is_refused(place: Place) -> None:
    error = _refusal(place)
    assert isinstance(error, InputError)
    assert str(error).startswith("runs: there are none below")
    assert str(error).endswith("Start one: rankgate demo")


@pytest.mark.parametrize(("words", "missing"), [(["--key", "k"], "--as"), (["--as", "rita"], "--key")])
def test_a_key_and_a_name_come_together(place: Place, passed: Run, words: list[str], missing: str) -> None:
    error = _refusal(place, *words)
    assert isinstance(error, FaultyInputError)
    assert [fault.where for fault in error.faults] == [missing]


def test_a_key_that_cannot_sign_is_found_before_anything_is_served(place: Place, passed: Run) -> None:
    for key, words in ((place.work / "none.key", "cannot be read"), (place.public, "found mode 0644")):
        error = _refusal(place, "--key", str(key), "--as", "rita")
        assert isinstance(error, InputError)
        assert words in str(error)
    error = _refusal(place, "--key", str(place.key), "--as", "rita", "--trust", str(place.work / "none.pub"))
    assert isinstance(error, InputError)


def test_a_port_that_is_taken_is_named(place: Place, passed: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        error = _refusal(place, "--port", str(port))
    assert isinstance(error, InputError)
    assert str(error).startswith(f"--port {port}: cannot be listened on (Address already in use)")


@pytest.mark.integration
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_the_address_listens_on_loopback_only_and_ends_cleanly(
    place: Place, passed: Run, stop: signal.Signals
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli.main", "--home", str(place.home.root), "review"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=place.work,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert process.stdout
    address = process.stdout.readline().strip()
    assert address.startswith("http://127.0.0.1:")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor())
    with opener.open(address, timeout=10) as answer:
        text = answer.read().decode()
        assert "server" not in {name.lower() for name in answer.headers}
    assert passed.name in text
    assert "for reading only" in text
    port = int(address.split(":")[2].split("/")[0])
    listening = Path("/proc/net/tcp").read_text().splitlines()[1:]
    assert {
        line.split()[1] for line in listening if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
    } == {f"0100007F:{port:04X}"}
    process.send_signal(stop)
    out, err = process.communicate(timeout=20)
    assert (out, err) == ("", "For reading only: --key and --as to decide. Stop with Ctrl-C.\n")
    assert process.returncode in (0, -stop)
