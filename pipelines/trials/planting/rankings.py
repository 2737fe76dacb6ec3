"""Harms in what is shown: lists turned round for some users, a provider pushed down, two rankers dealt to two names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.artifacts import documents
from components.dataset.contract import Dataset
from components.ranker.contract import CANDIDATE, INCUMBENT
from pipelines.trials.planting.copies import copied
from pipelines.trials.worlds import Parts

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_TABLE = "rankings.parquet"
_SHOWN = ("item", "gain", "positive")


def turned_round(parts: Parts, out: Path, *, users: Bools, share: float, rng: np.random.Generator) -> Parts:
    """The candidate's lists, worst first, for a share of the test requests of some users.

    Args:
        parts: The run.
        out: An existing folder for what changes.
        users: By user index, whose lists are spoiled.
        share: Of their requests, in [0, 1], drawn one by one: the loss of quality grows in proportion.
        rng: Draws the requests.
    """
    table = pq.read_table(parts.rankings / _TABLE)
    request, rank = table["request"].to_numpy(), table["rank"].to_numpy()
    spoiled = _drawn(parts, users, share, rng)
    chosen = _of_candidate(table) & np.isin(request, spoiled)
    return _reordered(parts, out, table, np.where(chosen, -rank.astype(np.float64), rank))


def buried(parts: Parts, out: Path, *, items: Bools, share: float, rng: np.random.Generator) -> Parts:
    """Some items, by item index, at the end of the candidate's list in a share of the test requests."""
    table = pq.read_table(parts.rankings / _TABLE)
    request, rank = table["request"].to_numpy(), table["rank"].to_numpy()
    everyone = np.ones(int(pq.read_table(parts.rankings / "requests.parquet")["user"].to_numpy().max()) + 1, dtype=bool)
    chosen = _of_candidate(table) & np.isin(request, _drawn(parts, everyone, share, rng))
    down = chosen & items[table["item"].to_numpy()]
    return _reordered(parts, out, table, rank + np.where(down, 1e6, 0.0))


def dealt(parts: Parts, out: Path, *, rng: np.random.Generator) -> Parts:
    """Candidate and incumbent with their test lists swapped for each user by a coin: two names of equal quality."""
    table = pq.read_table(parts.rankings / _TABLE)
    held = pq.read_table(parts.rankings / "requests.parquet", columns=["request", "user", "split"])
    test = held.filter(pc.equal(held["split"].cast(pa.string()), "test"))
    coin = rng.random(int(held["user"].to_numpy().max()) + 1) < 0.5
    swapped = test["request"].to_numpy()[coin[test["user"].to_numpy()]]
    system = table["system"].cast(pa.string()).to_numpy(zero_copy_only=False)
    turn = np.isin(table["request"].to_numpy(), swapped)
    other: Mapping[str, str] = {CANDIDATE: INCUMBENT, INCUMBENT: CANDIDATE}
    names = [other.get(name, name) if swap else name for name, swap in zip(system.tolist(), turn.tolist(), strict=True)]
    done = table.set_column(table.column_names.index("system"), "system", pa.array(names)).sort_by(
        [("system", "ascending"), ("request", "ascending"), ("rank", "ascending")]
    )
    return _written(parts, out, done)


def users_where(parts: Parts, values: Mapping[str, str]) -> Bools:
    """Users, by index, whose attributes have these values."""
    table = pq.read_table(parts.dataset / "users.parquet").sort_by("user")
    found = np.ones(table.num_rows, dtype=bool)
    for name, value in values.items():
        found &= pc.fill_null(pc.equal(table[name].cast(pa.string()), value), False).to_numpy(zero_copy_only=False)
    return found


def users_without_history(parts: Parts) -> Bools:
    """Users, by index, who had taken nothing before the test cut."""
    built = documents.load(Dataset, parts.dataset / "dataset.json")
    known = pq.read_table(parts.dataset / "history.parquet", columns=["user"]).slice(0, built.cuts[-2].history_rows)
    found: Bools = np.bincount(known["user"].to_numpy(), minlength=built.users) == 0
    return found


def items_of(parts: Parts, provider: str, name: str) -> Bools:
    """Items, by index, of one provider; `provider` is the attribute."""
    table = pq.read_table(parts.dataset / "items.parquet").sort_by("item")
    found: Bools = pc.fill_null(pc.equal(table[provider].cast(pa.string()), name), False).to_numpy(zero_copy_only=False)
    return found


def _drawn(parts: Parts, users: Bools, share: float, rng: np.random.Generator) -> Ints:
    """Test requests of these users, each drawn with chance `share`."""
    held = pq.read_table(parts.rankings / "requests.parquet", columns=["request", "user", "split"]).sort_by("request")
    draw = rng.random(held.num_rows) < share
    test = pc.equal(held["split"].cast(pa.string()), "test").to_numpy(zero_copy_only=False)
    chosen: Ints = held["request"].to_numpy()[draw & test & users[held["user"].to_numpy()]]
    return chosen


def _of_candidate(table: pa.Table) -> Bools:
    mask: Bools = pc.equal(table["system"].cast(pa.string()), CANDIDATE).to_numpy(zero_copy_only=False)
    return mask


def _reordered(parts: Parts, out: Path, table: pa.Table, key: Floats) -> Parts:
    """What stands at each rank, by ascending key within each list; ranks and scores stay where they were."""
    system = table["system"].combine_chunks().cast(pa.string()).dictionary_encode().indices.to_numpy()
    order = np.lexsort((key, table["request"].to_numpy(), system))
    # Rows are ordered by system name, request and rank: sorting by the codes of first appearance keeps that.
    moved = {name: table[name].take(pa.array(order)) for name in _SHOWN}
    done = table
    for name, values in moved.items():
        done = done.set_column(done.column_names.index(name), name, values)
    return _written(parts, out, done)


def _written(parts: Parts, out: Path, table: pa.Table) -> Parts:
    changed = copied(parts, out, "rankings", without=(_TABLE,))
    pq.write_table(table, changed.rankings / _TABLE)
    return changed
