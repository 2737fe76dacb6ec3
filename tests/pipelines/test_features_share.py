"""`rankgate features share`: what it prints, what it refuses, and that no password is seen."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.ranker.refreshing import refresh_ranker
from components.ranker.scoring import LoadedRanker
from pipelines.cli import features_share, main

pytestmark = pytest.mark.integration


def _module() -> Any:
    path = Path(__file__).resolve().parents[1] / "components" / "serving" / "redis_process.py"
    spec = importlib.util.spec_from_file_location("redis_process", path)
    assert spec
    assert spec.loader
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


redis_process = _module()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Any]:
    if redis_process.BINARY is None:
        pytest.skip(redis_process.ABSENT)
    server = redis_process.RedisServer(tmp_path)
    yield server
    server.kill()


@pytest.fixture(autouse=True)
def one_run(small_ranker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Run:
        def artifact(self, name: str) -> Path:
            assert name == "ranker"
            return small_ranker

    class Home:
        def __init__(self, _: Path) -> None:
            pass

        def find(self, name: str) -> Run:
            assert name == "shop-1"
            return Run()

    monkeypatch.setattr(features_share, "Home", Home)


def told(*words: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["rankgate", "features", "share", "shop-1", *words])
    with pytest.raises(SystemExit) as ended:
        main.main()
    return int(ended.value.code or 0)


def test_it_says_what_it_wrote_and_until_when(
    redis: Any, small_ranker: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told("--to", redis.url, monkeypatch=monkeypatch) == 0
    said = capsys.readouterr()
    ranker = LoadedRanker.open(small_ranker, users_elsewhere=True)
    count = len(ranker.user_ids)
    assert f"{count} of {count} users written, " in said.out
    assert f"set {ranker.user_set[:32]} is current in {redis.url}/0 until 20" in said.out
    assert f"{count} of {count} users" in said.err
    assert told("--to", redis.url, monkeypatch=monkeypatch) == 0
    assert f"{count} users are there already" in capsys.readouterr().out
    assert told("--to", redis.url, "--again", "--keep-hours", "2", "--json", monkeypatch=monkeypatch) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["users"], found["written"], found["user_set"]) == (count, count, ranker.user_set)
    assert found["previous"] == ranker.user_set
    assert found["bytes_a_user"] > 100


def test_published_features_are_shared_from_their_folder_or_from_the_root_that_points_at_it(
    redis: Any, small_ranker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = "ab" * 32
    folder = tmp_path / "root" / digest
    folder.mkdir(parents=True)
    refresh_ranker(small_ranker.parent / "snapshot", ranker=small_ranker, out=folder)
    (tmp_path / "root" / "current").symlink_to(digest)
    wanted = LoadedRanker.open(small_ranker, users_elsewhere=True).refreshed(folder).user_set
    for place in (folder, folder.parent):
        words = ["--published", str(place), "--to", redis.url, "--json"]
        assert told(*words, monkeypatch=monkeypatch) == 0
        assert json.loads(capsys.readouterr().out)["user_set"] == wanted
    assert told("--published", str(tmp_path), "--to", redis.url, monkeypatch=monkeypatch) == 2


@pytest.mark.parametrize("machine", [False, True])
def test_what_cannot_be_done_is_told_with_exit_code_2_and_without_the_password(
    redis: Any, machine: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    redis.ask("CONFIG", "SET", "requirepass", "s3cret")
    monkeypatch.setenv("RANKGATE_STORE_PASSWORD", "wr0ng")
    json_word = ["--json"] if machine else []
    assert told("--to", redis.url, *json_word, monkeypatch=monkeypatch) == 2
    refused = capsys.readouterr()
    assert "WRONGPASS" in refused.out + refused.err
    assert "wr0ng" not in refused.out + refused.err
    secret = redis.url.replace("redis://", "redis://:s3cret@")
    assert told("--to", secret, *json_word, monkeypatch=monkeypatch) == 2
    refused = capsys.readouterr()
    assert "found a password in it" in refused.out + refused.err
    assert "s3cret" not in refused.out + refused.err
    if machine:
        assert json.loads(refused.out)["exit_code"] == 2
