"""What training may not share with the weeks it is measured on, and what a log says about when things were known. Counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.dataset.contract import SPLITS
from components.dataset.features import impression_of, outcomes_of
from components.events.columns import literal
from components.events.contract import DatasetContract

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Counted:
    """How many of how many."""

    found: int
    of: int


def shared_requests(requests: pa.Table) -> Counted:
    """Request ids that occur in more than one split, of all."""
    splits = requests.group_by("request_id").aggregate([("split", "count_distinct")])
    return Counted(int(pc.sum(pc.greater(splits["split_count_distinct"], 1)).as_py() or 0), splits.num_rows)


def shared_rows(requests: pa.Table, rows: pa.Table) -> Counted:
    """Distinct (user, item, moment) that occur in more than one split, of all.

    Args:
        requests: The dataset's, ascending from 0.
        rows: request and item of everything that is learnt from or measured on.
    """
    request = rows["request"].to_numpy().astype(np.int64)
    ts = requests["ts"].cast(pa.int64()).to_numpy()
    split = pc.index_in(requests["split"], pa.array(SPLITS, pa.string())).to_numpy()
    held = np.stack(
        [requests["user"].to_numpy().astype(np.int64)[request], rows["item"].to_numpy().astype(np.int64), ts[request]]
    )
    order = np.lexsort((split[request], *held[::-1]))
    held, split = held[:, order], split[request][order]
    fresh = np.ones(order.size, dtype=bool)
    fresh[1:] = (held[:, 1:] != held[:, :-1]).any(axis=0)
    starts = np.flatnonzero(fresh)
    if not starts.size:
        return Counted(0, 0)
    apart = np.maximum.reduceat(split, starts) != np.minimum.reduceat(split, starts)
    return Counted(int(apart.sum()), starts.size)


def late_rows(
    requests: pa.Table, rows: Ints, contract: DatasetContract, cuts: Mapping[str, str], *, split: str, next_split: str
) -> Counted:
    """Rows of a split whose label was not complete before the next split begins, of all rows of the split.

    A label is what happens within the attribution window (`logged`) or the horizon (`sampled`; of training: validation's
    labels end where test begins, whatever the horizon).

    Args:
        requests: The dataset's, ascending from 0.
        rows: Request of each row.
        contract: Says how long a label takes.
        cuts: ISO 8601 moment of each cut.
        split: Whose labels are looked at.
        next_split: Name of the cut that they must not reach.
    """
    logged = contract.requests.mode == "logged"
    window = contract.requests.attribution if logged else contract.requests.horizon
    if not logged and split != "train":
        window *= 0
    end = round(datetime.fromisoformat(cuts[next_split]).timestamp() * 1e6)
    done = requests["ts"].cast(pa.int64()).to_numpy() + round(window.total_seconds() * 1e6)
    inside = pc.equal(requests["split"], split).to_numpy(zero_copy_only=False)[rows]
    return Counted(int((inside & (done[rows] > end)).sum()), int(inside.sum()))


def returning_users(requests: pa.Table) -> Counted:
    """Users of test requests who have training requests as well, of all users of test requests."""
    users = {name: np.unique(requests.filter(pc.equal(requests["split"], name))["user"].to_numpy()) for name in SPLITS}
    return Counted(int(np.isin(users["test"], users["train"]).sum()), users["test"].size)


@dataclass(frozen=True, slots=True)
class Known:
    """What the log says about when its events were known."""

    early_arrivals: Counted
    """Events that arrived before they happened."""
    same_arrivals: Counted
    """Events that arrived in the very moment they happened: where that is all, the log does not tell when they were known."""
    early_outcomes: Counted
    """Outcomes dated before the impression of the request that they name."""


def known_when(snapshot: Path, contract: DatasetContract) -> Known:
    """Count events by when they happened and arrived.

    Args:
        snapshot: Snapshot directory.
        contract: The snapshot's.
    """
    events = literal(str(snapshot / "events.parquet"))
    connection = duckdb.connect()
    try:
        connection.execute(f"CREATE VIEW events AS SELECT * FROM read_parquet({events})")  # noqa: S608
        total, early, same = connection.sql(
            "SELECT count(*), count(*) FILTER (ingested_at < ts), count(*) FILTER (ingested_at = ts) FROM events"
        ).fetchall()[0]
        named, before = connection.sql(
            """
            SELECT count(*), count(*) FILTER (o.ts < s.ts)
            FROM events o JOIN (
                SELECT request_id, user_id, item_id, min(ts) AS ts FROM events
                WHERE event = $impression AND request_id IS NOT NULL GROUP BY ALL
            ) s USING (request_id, user_id, item_id)
            WHERE list_contains($outcomes, o.event)
            """,
            params={"impression": impression_of(contract), "outcomes": list(outcomes_of(contract))},
        ).fetchall()[0]
    finally:
        connection.close()
    return Known(Counted(early, total), Counted(same, total), Counted(before, named))
