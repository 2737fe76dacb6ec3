"""The quick subset of `rankgate trials`: clean runs do not fail, harms of a named strength do, and a killed trial goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from components.errors import InputError
from pipelines.cli.main import rankgate
from pipelines.trials.running import RECORDS

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

_SEEDS = 2


def command(home: Path, *more: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "pipelines.cli.main",
        "--home",
        str(home),
        "trials",
        "--world",
        f"shop:0.1:{_SEEDS}:{_SEEDS}",
        "--jobs",
        "2",
        *more,
    ]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A trial that is killed once a seed is done, then asked for again; its page and JSON."""
    home = tmp_path_factory.mktemp("home")
    records = home / "trials" / RECORDS
    with subprocess.Popen(command(home), start_new_session=True, stderr=subprocess.DEVNULL) as first:
        while first.poll() is None and not records.exists():
            time.sleep(0.1)
        first.kill()
    ended_with(first.pid)
    kept = records.read_bytes()
    assert kept, "the first seed's records"
    done = subprocess.run(
        command(home, "--json", "--out", str(home / "docs")), check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    assert records.read_bytes().startswith(kept[: kept.rfind(b"\n") + 1]), "what was found is not found again"
    value: dict[str, Any] = json.loads(done.stdout)
    value["home"] = home
    return value


def ended_with(group: int) -> None:
    """Waits until nothing of a process group is left: workers end soon after a parent that was killed."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.killpg(group, signal.SIGKILL)
    pytest.fail("workers of a killed trial went on")


def rates(found: dict[str, Any], harm: str) -> dict[str, dict[str, Any]]:
    return {held["strength"]: held for held in found["trials"] if held["harm"] == harm}


def test_clean_runs_do_not_fail(found: dict[str, Any]) -> None:
    assert rates(found, "clean")[""]["fail"]["count"] == 0


def test_nothing_that_is_no_harm_fails(found: dict[str, Any]) -> None:
    never = [held for held in found["trials"] if held["promise"] == "never"]
    assert never
    assert [(held["harm"], held["strength"]) for held in never if held["fail"]["count"]] == []


def test_harms_of_a_named_strength_are_caught(found: dict[str, Any]) -> None:
    caught = [held for held in found["trials"] if held["promise"] == "caught"]
    assert {held["harm"] for held in caught} >= {"stale", "bots", "miscalibrated", "drift-score"}
    assert [(held["harm"], held["strength"]) for held in caught if held["fail"]["count"] < _SEEDS] == []


def test_harms_in_margins_say_where_so_few_users_promise_nothing(found: dict[str, Any]) -> None:
    spoiled = rates(found, "spoiled-segment")
    assert set(spoiled) == {"0.5 margins", "1 margin", "2 margins"}
    assert not spoiled["2 margins"]["adequate"]
    assert spoiled["2 margins"]["promise"] == "told"
    assert spoiled["2 margins"]["margins"] == pytest.approx(2.0, abs=0.01)


def test_the_page_holds_every_harm_and_its_picture(found: dict[str, Any]) -> None:
    page = (found["home"] / "docs" / "trials.md").read_text(encoding="utf-8")
    for title in ("Ranking spoiled for one country", "The log stopped arriving", "A season that was there before"):
        assert title in page
    assert "trials-shop-x0.1.svg" in page
    assert (found["home"] / "docs" / "trials-shop-x0.1.svg").read_text(encoding="utf-8").startswith("<svg")


def test_honest_runs_are_removed_once_they_are_judged(found: dict[str, Any]) -> None:
    assert [place.name for place in (found["home"] / "trials").iterdir() if place.is_dir()] == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--world", "shop"], "shop:SCALE:CLEAN"),
        (["--world", "shop:0.1:2:3"], "shop:SCALE:CLEAN"),
        (["--world", "mars:1"], "online_retail:CLEAN"),
        (["--harm", "spoiled"], "Did you mean"),
    ],
)
def test_wrong_input_says_what_was_needed(tmp_path: Path, arguments: list[str], told: str) -> None:
    result = CliRunner().invoke(rankgate, ["--home", str(tmp_path), "trials", *arguments])
    assert isinstance(result.exception, InputError)
    assert told in str(result.exception)
