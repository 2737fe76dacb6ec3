"""Rank every user of a ranker into Parquet: for e-mail, and for the list that a service falls back on.

Users are taken in blocks; a block is a file, and beside it lies what it promises (layout: `contract`). A batch that was
stopped is begun again with the same call: finished files whose bytes still have their digest are kept, the rest is done.
The same ranker, k and block size give the same bytes, stopped or not.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.artifacts import documents
from components.artifacts.digests import digest_file, digest_tree
from components.artifacts.files import replacing
from components.artifacts.progress import Progress, silent
from components.errors import InputError
from components.ranker.candidates.interactions import Ids
from components.ranker.contract import SCHEMA_VERSION, Batch, BatchFile, BatchPlan
from components.ranker.lists import Lists
from components.ranker.scoring import LoadedRanker

PLAN = "plan.json"
MANIFEST = "batch.json"
VISITOR = "visitor"
BLOCK_USERS = 10_000
_PARTIAL = ".partial"

_SCHEMA = pa.schema([("user_id", pa.string()), ("rank", pa.int32()), ("item_id", pa.string()), ("score", pa.float32())])


def score_users(
    ranker: Path,
    *,
    out: Path,
    k: int,
    release: str = "",
    block_users: int = BLOCK_USERS,
    threads: int = 1,
    progress: Progress = silent,
) -> Batch:
    """Rank all users that a ranker knows, and a visitor, as of the release cut.

    Args:
        ranker: A ranker's folder; every file is compared with its manifest first.
        out: A folder that does not exist, is empty, or holds an unfinished or finished batch of the same plan.
        k: Most items a user, at least 1.
        release: Digest of the approved release that the ranker was checked against; empty where it was not.
        block_users: Users a file. Memory grows with this times `k`, not with users.
        threads: Threads to score with; they do not change a byte.
        progress: Told of every file.

    Raises:
        InputError: If `k` or `block_users` is below 1, the ranker is altered, or the folder holds anything else.
    """
    for name, value in (("k", k), ("block_users", block_users)):
        if value < 1:
            raise InputError(f"{name}: found {value}; needed at least 1.")
    loaded = LoadedRanker.open(ranker, threads=threads)
    plan = BatchPlan(
        schema_version=SCHEMA_VERSION,
        ranker=digest_tree(ranker),
        release=release,
        as_of=datetime.fromtimestamp(loaded.latest_bucket_start, UTC).isoformat(),
        k=k,
        users=len(loaded.user_ids),
        block_users=block_users,
    )
    files = {}
    with _taken(out, plan):
        for begin in range(0, plan.users, block_users):
            users = np.arange(begin, min(begin + block_users, plan.users), dtype=np.int32)
            name = f"users-{begin // block_users:05d}"
            files[name] = _file(out / name, loaded, users, k, progress)
            progress(f"{int(users[-1]) + 1:,} of {plan.users:,} users".replace(",", " "))
        files[VISITOR] = _file(out / VISITOR, loaded, np.array([-1], dtype=np.int32), k, progress)
        batch = Batch(
            schema_version=SCHEMA_VERSION,
            plan=plan,
            rows=sum(file.rows for file in files.values()),
            pairs=sum(file.pairs for file in files.values()),
            files={f"{name}.parquet": file.sha256 for name, file in files.items()},
        )
        documents.save(batch, out / MANIFEST)
    return batch


def open_batch(folder: Path) -> Batch:
    """The manifest of a whole batch whose tables are still those it names.

    Raises:
        InputError: If the batch is unfinished or a table is absent or changed.
    """
    batch = documents.load(Batch, folder / MANIFEST)
    for name, digest in batch.files.items():
        path = folder / name
        found = digest_file(path) if path.is_file() else ""
        if found != digest:
            raise InputError(
                f"batch {folder}: {name} is {found[:12] or 'absent'}; needed sha256 {digest[:12]}. Score again into the "
                "same folder: what is still whole is kept."
            )
    return batch


def visitor_list(folder: Path) -> list[tuple[str, float]]:
    """(item_id, score), best first, for whoever is not known: what a service falls back on. Errors as `open_batch`."""
    open_batch(folder)
    table = pq.read_table(folder / f"{VISITOR}.parquet", columns=["item_id", "score"])
    return list(zip(table["item_id"].to_pylist(), table["score"].to_pylist(), strict=True))


@contextmanager
def _taken(out: Path, plan: BatchPlan) -> Iterator[None]:
    """Begin a batch, or go on with the same one; nobody else works on the folder meanwhile."""
    out.mkdir(parents=True, exist_ok=True)
    if not (out / PLAN).exists():
        # A killed beginning may have left a partial file of ours, and nothing else.
        foreign = sorted(path.name for path in out.iterdir() if not path.name.endswith(_PARTIAL))
        if foreign:
            raise InputError(
                f"folder {out}: found {', '.join(foreign[:5])}; needed an empty folder, or an unfinished batch."
            )
        documents.save(plan, out / PLAN)
    with (out / PLAN).open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(f"folder {out}: another process is filling it; wait for it, or name another.") from error
        _check_plan(out, plan)
        for left in out.glob(f".*{_PARTIAL}"):
            left.unlink()
        yield


def _check_plan(out: Path, plan: BatchPlan) -> None:
    found = documents.load(BatchPlan, out / PLAN)
    differing = [
        f"{name} {getattr(found, name)!r} instead of {getattr(plan, name)!r}"
        for name in BatchPlan.__dataclass_fields__
        if getattr(found, name) != getattr(plan, name)
    ]
    if differing:
        raise InputError(
            f"folder {out}: found a batch of another plan ({'; '.join(differing)}); needed the same plan to go on with, "
            "or another folder."
        )


def _file(stem: Path, loaded: LoadedRanker, users: Ids, k: int, progress: Progress) -> BatchFile:
    """A finished file: the one that is there if its bytes are as promised, else made."""
    path, promise = stem.with_suffix(".parquet"), stem.with_suffix(".json")
    if (promised := _promised(promise)) is not None and path.exists():
        if digest_file(path) == promised.sha256:
            progress(f"{path.name} kept")
            return promised
        progress(f"{path.name} has changed and is made again")
    lists, pairs = loaded.recommend_many(users, k=k)
    with replacing(path) as beside:
        pq.write_table(_table(lists, users, loaded), beside, compression="zstd")
    made = BatchFile(SCHEMA_VERSION, digest_file(path), len(users), len(lists.items), pairs)
    documents.save(made, promise)
    return made


def _promised(path: Path) -> BatchFile | None:
    try:
        return documents.load(BatchFile, path)
    except InputError:
        # Absent or unreadable: nothing is promised, so the table is made.
        return None


def _table(lists: Lists, users: Ids, loaded: LoadedRanker) -> pa.Table:
    owner = users[lists.requests]
    columns = [
        # A visitor's number is -1: the null mask makes it a null id.
        pa.array(loaded.user_ids, pa.string()).take(pa.array(owner, mask=owner < 0)),
        pa.array(lists.ranks),
        pa.array(loaded.item_ids, pa.string()).take(pa.array(lists.items)),
        pa.array(lists.scores),
    ]
    return pa.Table.from_arrays(columns, schema=_SCHEMA)
