"""A batch: every user's list as the service would answer it, resumable, the same bytes whatever happened on the way."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from components.artifacts.digests import digest_file, digest_tree
from components.errors import FaultyInputError, InputError
from components.ranker import scoring
from components.ranker.batch import open_batch, score_users, visitor_list
from components.ranker.scoring import LoadedRanker


@pytest.fixture(scope="module", params=["logged", "sampled"])
def ranker(request) -> Path:
    return request.getfixturevalue(request.param).ranker


@pytest.fixture(scope="module")
def batch(ranker, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("batch") / "out"
    score_users(ranker, out=out, k=7, block_users=25)
    return out


def rows(folder: Path, pattern: str) -> list[dict]:
    return [row for path in sorted(folder.glob(pattern)) for row in pq.read_table(path).to_pylist()]


def test_every_user_gets_the_list_that_the_service_would_answer(ranker, batch):
    loaded = LoadedRanker.open(ranker)
    found: dict[str, list[tuple[str, float]]] = {}
    for row in rows(batch, "users-*.parquet"):
        listed = found.setdefault(row["user_id"], [])
        assert row["rank"] == len(listed) + 1
        listed.append((row["item_id"], row["score"]))
    assert list(found) == sorted(loaded.user_ids)
    for user in loaded.user_ids[::7]:
        assert found[user] == loaded.recommend(user, k=7)


def test_a_visitor_has_a_list_of_their_own(ranker, batch):
    found = rows(batch, "visitor.parquet")
    assert {row["user_id"] for row in found} == {None}
    assert [(row["item_id"], row["score"]) for row in found] == LoadedRanker.open(ranker).recommend(None, k=7)
    assert visitor_list(batch) == [(row["item_id"], row["score"]) for row in found]


def test_the_manifest_names_every_table_and_what_it_was_made_of(ranker, batch):
    manifest = open_batch(batch)
    tables = {path.name for path in batch.glob("*.parquet")}
    assert set(manifest.files) == tables
    assert all(digest_file(batch / name) == digest for name, digest in manifest.files.items())
    assert manifest.plan.ranker == digest_tree(ranker)
    assert manifest.rows == len(rows(batch, "*.parquet"))
    assert manifest.plan.users == len(LoadedRanker.open(ranker).user_ids)
    assert manifest.pairs >= manifest.rows


def test_how_many_pairs_are_scored_at_once_changes_no_byte(ranker, batch, tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "SCORE_ROWS", 500)
    score_users(ranker, out=tmp_path / "out", k=7, block_users=25, threads=2)
    assert digest_tree(tmp_path / "out") == digest_tree(batch)


def test_what_is_finished_is_kept_and_what_has_changed_is_made_again(ranker, batch, tmp_path):
    out = tmp_path / "out"
    score_users(ranker, out=out, k=7, block_users=25)
    (out / "batch.json").unlink()
    (out / "users-00001.parquet").write_bytes(b"half a fi")
    (out / "visitor.json").unlink()
    kept = (out / "users-00000.parquet").stat().st_mtime_ns
    told: list[str] = []
    score_users(ranker, out=out, k=7, block_users=25, progress=told.append)
    assert digest_tree(out) == digest_tree(batch)
    assert (out / "users-00000.parquet").stat().st_mtime_ns == kept
    assert "users-00000.parquet kept" in told
    assert "users-00001.parquet has changed and is made again" in told


def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(ranker, batch, tmp_path):
    out = tmp_path / "out"
    program = (
        "import sys; from pathlib import Path; from components.ranker.batch import score_users; "
        "score_users(Path(sys.argv[1]), out=Path(sys.argv[2]), k=7, block_users=25)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    process = subprocess.Popen([sys.executable, "-c", program, str(ranker), str(out)], env=environment)
    patience = time.monotonic() + 120
    while process.poll() is None and not (out / "users-00000.json").exists():
        assert time.monotonic() < patience
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    score_users(ranker, out=out, k=7, block_users=25)
    assert digest_tree(out) == digest_tree(batch)
    open_batch(out)


def test_two_do_not_fill_one_folder(ranker, batch):
    with (batch / "plan.json").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process is filling it"):
            score_users(ranker, out=batch, k=7, block_users=25)


def test_another_plan_is_refused_by_what_differs(ranker, batch):
    with pytest.raises(InputError, match="k 7 instead of 8"):
        score_users(ranker, out=batch, k=8, block_users=25)


def test_a_folder_of_something_else_is_left_alone(ranker, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"found thesis\.txt; needed an empty folder"):
        score_users(ranker, out=tmp_path, k=5)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("wrong", [{"k": 0}, {"k": 5, "block_users": 0}])
def test_less_than_one_is_refused(ranker, tmp_path, wrong):
    with pytest.raises(InputError, match="found 0; needed at least 1"):
        score_users(ranker, out=tmp_path / "out", **wrong)


def test_an_altered_ranker_is_not_scored(sampled, tmp_path):
    import shutil

    shutil.copytree(sampled.ranker, tmp_path / "ranker")
    with (tmp_path / "ranker" / "model.ubj").open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(FaultyInputError, match=r"model\.ubj"):
        score_users(tmp_path / "ranker", out=tmp_path / "out", k=5)


def test_a_batch_that_was_touched_is_not_opened(ranker, tmp_path):
    out = tmp_path / "out"
    score_users(ranker, out=out, k=3)
    open_batch(out)
    (out / "visitor.parquet").unlink()
    with pytest.raises(InputError, match=r"visitor\.parquet is absent"):
        open_batch(out)
    document = json.loads((out / "batch.json").read_bytes())
    assert document["plan"]["k"] == 3


def test_many_users_asked_together_get_what_each_gets_alone(ranker):
    loaded = LoadedRanker.open(ranker)
    users = np.arange(-1, 12, dtype=np.int32)
    lists, pairs = loaded.recommend_many(users, k=9)
    assert pairs > 0
    for place, user in enumerate(users.tolist()):
        own = lists.requests == place
        listed = [loaded.item_ids[item] for item in lists.items[own].tolist()]
        alone = loaded.recommend(loaded.user_ids[user] if user >= 0 else None, k=9)
        assert list(zip(listed, lists.scores[own].tolist(), strict=True)) == alone
