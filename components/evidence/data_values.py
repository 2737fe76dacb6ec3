"""Values that training never saw, and values that have gone missing: test requests against training requests.

A model meets an unseen category as unknown, and a field that stops arriving as a gap: both pass every check of types and
ranges. Contexts and users' attributes count once a request, items' attributes once an item that a request showed
(`sampled`: that was relevant to it).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.dataset.contract import Dataset
from components.evidence.contract import Estimate
from components.evidence.estimates import exactly, number
from components.evidence.ranked import read_columns
from components.statistics import minimum_detectable_effect
from components.statistics.shares import share_limit
from components.statistics.studentised import student_critical

LEVEL = 0.95

Ints = NDArray[np.int64]

_NOT_ATTRIBUTES = ("user", "user_id", "item", "item_id", "first_bucket")


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """One attribute wherever training and test met it, one entry an occurrence."""

    name: str
    code: tuple[Ints, Ints]
    """Code of each occurrence's value in training and in test, -1 where there is none."""
    user: tuple[Ints, Ints]
    text: bool
    """Whether values are names; a number that is new is no new category."""


def new_and_missing(dataset: Path, built: Dataset) -> Iterator[Estimate]:
    """`new_category_share` of each attribute of names, and the change of each attribute's `null_share`.

    Args:
        dataset: Dataset directory.
        built: Its manifest.

    Raises:
        EvidenceError: If a table cannot be read or lacks a column.
    """
    requests = read_columns(dataset / "requests.parquet", ("request", "user", "split", *built.context)).sort_by(
        "request"
    )
    test_requests = built.requests.get("test", 0)
    for seen in _attributes(dataset, built, requests):
        if seen.text:
            yield _new(seen, test_requests)
        yield _change(seen, test_requests)


def _attributes(dataset: Path, built: Dataset, requests: pa.Table) -> Iterator[_Seen]:
    split = requests["split"].cast(pa.string())
    parts = [np.flatnonzero(pc.equal(split, name).to_numpy()) for name in ("train", "test")]
    user = requests["user"].to_numpy().astype(np.int64)
    of = (user[parts[0]], user[parts[1]])
    for name in built.context:
        codes = _codes(requests[name])
        yield _Seen(f"context.{name}", (codes[parts[0]], codes[parts[1]]), of, text=True)
    users = _table(dataset / "users.parquet")
    for name in users.column_names:
        codes = _codes(users[name])
        yield _Seen(f"users.{name}", (codes[of[0]], codes[of[1]]), of, text=_is_text(users[name]))
    items = _table(dataset / "items.parquet")
    if not items.num_columns:
        return
    place, item = _shown(dataset, built, requests)
    kind = np.full(requests.num_rows, -1)
    kind[parts[0]], kind[parts[1]] = 0, 1
    shown = [np.flatnonzero(kind[place] == part) for part in (0, 1)]
    owner = (user[place[shown[0]]], user[place[shown[1]]])
    for name in items.column_names:
        codes = _codes(items[name])[item]
        yield _Seen(f"items.{name}", (codes[shown[0]], codes[shown[1]]), owner, text=_is_text(items[name]))


def _shown(dataset: Path, built: Dataset, requests: pa.Table) -> tuple[Ints, Ints]:
    """Place of the request among `requests`, and the item, of everything shown or relevant."""
    tables = [read_columns(dataset / "rows.parquet", ("request", "item"))]
    if built.mode == "sampled":
        tables.append(read_columns(dataset / "relevance.parquet", ("request", "item")))
    of, item = (
        np.concatenate([table[name].to_numpy().astype(np.int64) for table in tables]) for name in ("request", "item")
    )
    return np.searchsorted(requests["request"].to_numpy(), of), item


def _table(path: Path) -> pa.Table:
    """The attributes that a table declares."""
    known = [name for name in pq.read_schema(path).names if name not in _NOT_ATTRIBUTES]
    return read_columns(path, known) if known else pa.table({})


def _is_text(column: pa.ChunkedArray) -> bool:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind))


def _codes(column: pa.ChunkedArray) -> Ints:
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    chunks = [
        pc.fill_null(chunk.indices, -1).to_numpy(zero_copy_only=False) for chunk in encoded.unify_dictionaries().chunks
    ]
    return np.concatenate(chunks).astype(np.int64) if chunks else np.zeros(0, dtype=np.int64)


def _new(seen: _Seen, test_requests: int) -> Estimate:
    before, now = (part[part >= 0] for part in seen.code)
    known_values = np.bincount(before, minlength=int(now.max(initial=0)) + 1) > 0
    unseen = ~known_values[now]
    known = seen.user[1][seen.code[1] >= 0]
    return exactly(
        float(unseen.mean()) if len(now) else None,
        metric="new_category_share",
        subject=seen.name,
        versus="train",
        n_users=len(np.unique(known)),
        n_requests=test_requests,
        detail={"new_values": float(len(np.unique(now[unseen]))), "known_values": float(known_values.sum())},
    )


def _change(seen: _Seen, test_requests: int) -> Estimate:
    """Share of occurrences without a value, test less training; a user's occurrences are kept together."""
    gaps = [(code < 0).astype(np.float64) for code in seen.code]
    users = 1 + max(int(of.max(initial=0)) for of in seen.user)
    present = [np.bincount(of, minlength=users) > 0 for of in seen.user]
    shares, pulls = [], np.zeros(users)
    for sign, gap, of in zip((-1, 1), gaps, seen.user, strict=True):
        share = float(gap.mean()) if len(gap) else math.nan
        shares.append(share)
        pulls += sign * np.bincount(of, gap - share, minlength=users) / max(len(gap), 1)
    fewest = min(int(of.sum()) for of in present)
    error = critical = math.nan
    if fewest >= 2:
        error = float(np.sqrt((pulls**2).sum() * fewest / (fewest - 1)))
        critical = float(student_critical(np.array([fewest - 1.0]), level=LEVEL)[0])
    value = shares[1] - shares[0]
    reach = critical * error
    low, high = value - reach, value + reach
    if error == 0:
        low, high = _without_spread(value, shares, fewest)
    return Estimate(
        metric="null_share",
        statistic="difference",
        subject=seen.name,
        versus="train",
        segment={},
        value=number(value),
        low=number(max(low, -1.0)),
        high=number(min(high, 1.0)),
        level=LEVEL,
        n_users=int((present[0] | present[1]).sum()),
        n_requests=test_requests,
        method="user-clustered sandwich, Student's t",
        mde=number(minimum_detectable_effect(error, critical=critical)) if error > 0 else None,
        detail={name: share for name, share in zip(("train", "test"), shares, strict=True) if math.isfinite(share)},
    )


def _without_spread(value: float, shares: list[float], users: int) -> tuple[float, float]:
    """Limits where all users agree: what so few users leave possible of others (Clopper and Pearson)."""
    unseen = float(share_limit(np.zeros(1), np.array([float(users)]), tail=np.array([(1 - LEVEL) / 2]))[0])
    return (value - unseen if shares[1] > 0 else value), (value + unseen if shares[1] < 1 else value)
