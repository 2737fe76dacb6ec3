"""Bad input at the command line: one paragraph, exit 2, nothing half-written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from components.events.shop import generate_shop

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    generate_shop(folder, seed=5, scale=0.03)
    return folder


def _events(folder: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    for path in sorted((folder / "events").glob("*.parquet")):
        pq.write_table(change(pq.read_table(path)), path)


def _missing_column(folder: Path) -> None:
    _events(folder, lambda table: table.drop_columns("position").rename_columns({"ts": "time"}))


def _wrong_type(folder: Path) -> None:
    _events(folder, lambda table: table.set_column(2, "ts", pa.array([True] * table.num_rows)))


def _empty(folder: Path) -> None:
    _events(folder, lambda table: table.slice(0, 0))


def _no_outcomes(folder: Path) -> None:
    _events(folder, lambda table: table.filter(pc.equal(table["event"], "impression")))


def _future(folder: Path) -> None:
    contract = folder / "dataset.yaml"
    text = contract.read_text()
    begin = text.index('as_of: "') + len('as_of: "')
    contract.write_text(text[:begin] + "2026-03-20" + text[begin + 10 :])


def _duplicates(folder: Path) -> None:
    _events(folder, lambda table: pa.concat_tables([table, table.slice(0, table.num_rows // 3)]))


def _unknown_event(folder: Path) -> None:
    contract = folder / "dataset.yaml"
    contract.write_text(contract.read_text().replace("  add_to_cart: {gain: 2}\n", "  basket: {gain: 2}\n"))


def _unreadable(folder: Path) -> None:
    next(iter(sorted((folder / "events").glob("*.parquet")))).write_bytes(b"PAR1 this is no Parquet file PAR1")


def _no_join(folder: Path) -> None:
    users = pq.read_table(folder / "users.parquet")
    names = pa.array([f"x{name}" for name in users["user_id"].to_pylist()])
    pq.write_table(users.set_column(users.column_names.index("user_id"), "user_id", names), folder / "users.parquet")
    contract = folder / "dataset.yaml"
    lines = [line for line in contract.read_text().splitlines() if not line.startswith("consent:")]
    contract.write_text("\n".join(lines) + "\n")


def _one_user(folder: Path) -> None:
    users = pq.read_table(folder / "users.parquet")
    agreed = users.filter(pc.equal(users["consent"], "granted"))["user_id"].to_pylist()
    counts: dict[str, int] = {}
    for path in (folder / "events").glob("*.parquet"):
        table = pq.read_table(path)
        for name in table.filter(pc.equal(table["event"], "click"))["user_id"].to_pylist():
            counts[name] = counts.get(name, 0) + 1
    busiest = max((name for name in counts if name in set(agreed)), key=lambda name: (counts[name], name))
    _events(folder, lambda table: table.filter(pc.equal(table["user_id"], busiest)))


def _unknown_key(folder: Path) -> None:
    contract = folder / "dataset.yaml"
    contract.write_text(contract.read_text().replace("freshness:", "freshnes:"))


_CASES = {
    "missing column": (_missing_column, "events.ts: found no such column"),
    "wrong type": (_wrong_type, "type BOOLEAN"),
    "empty table": (_empty, "no rows"),
    "no outcomes": (_no_outcomes, "no outcome"),
    "future timestamps": (_future, "ts in the future"),
    "duplicate rows": (_duplicates, "duplicate"),
    "unknown event name": (_unknown_event, "event unknown"),
    "unreadable Parquet": (_unreadable, "cannot be read"),
    "users that do not join": (_no_join, "user_id"),
    "one user": (_one_user, "one user"),
    "unknown contract key": (_unknown_key, "Did you mean 'freshness'?"),
}


def _run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "RANKGATE_HOME": str(folder / "home")}
    command = [sys.executable, "-m", "pipelines.cli.main", "run", "dataset.yaml", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", _CASES)
def test_bad_tables_end_in_one_message_and_leave_nothing_half_written(name: str, shop: Path, tmp_path: Path) -> None:
    change, needed = _CASES[name]
    folder = tmp_path / "shop"
    shutil.copytree(shop, folder)
    change(folder)
    done = _run(folder)
    assert done.returncode == 2, done.stderr
    assert needed in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    store = folder / "home" / "store"
    assert not list(store.glob("work/*"))
    objects = {path.name for path in store.glob("objects/*/*")}
    recorded = [path.read_text() for path in store.glob("steps/*.json")]
    assert all(any(digest in record for record in recorded) for digest in objects)


def _policy(folder: Path, repository: Path) -> Path:
    place = folder / "policy"
    shutil.copytree(repository / "policies" / "default", place)
    return place


def test_a_policy_without_a_suite_is_refused_before_anything_runs(shop: Path, repository: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    shutil.copytree(shop, folder)
    (_policy(folder, repository) / "suite.yaml").unlink()
    done = _run(folder, "--policy", "policy")
    assert done.returncode == 2
    assert "suite.yaml" in done.stderr
    assert not (folder / "home" / "runs").exists()


def test_an_unknown_key_in_a_policy_is_named_with_the_nearest_known_one(
    shop: Path, repository: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "shop"
    shutil.copytree(shop, folder)
    policy = _policy(folder, repository) / "policy.yaml"
    policy.write_text(policy.read_text().replace("first_release:", "first_relase:"))
    done = _run(folder, "--policy", "policy")
    assert done.returncode == 2
    assert "first_release" in done.stderr
    assert not (folder / "home" / "runs").exists()
