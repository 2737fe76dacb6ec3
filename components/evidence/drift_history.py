"""How far each column moved in this very log while nothing was wrong: the calibrated null of a drift alarm.

    training rows -> pairs of neighbouring windows -> distance of each pair, less what noise alone adds -> the largest

`logged` data: the pairs are as long as validation and test, and a column only counts from where its look-back window lies
inside the log: before that it fills up, which is movement of the log's beginning and not of the shop. Columns that count
since the beginning slow down for ever, so only the latest pairs say what to expect next. `sampled` data: neighbouring
training cuts. Scores are not kept for training rows; theirs is the earlier half of the reference against the later.

Why so: docs/decisions/0011-drift-against-a-calibrated-null.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.dataset.contract import Dataset, Feature
from components.evidence.distance import settled_distance
from components.evidence.ranked import read_columns

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LABEL = "label"
MISSING = " (missing)"
"""Added to a column's name for the column that says whether it has no value."""

_DAY_US = 86_400_000_000
_MOST_PAIRS = 8
_STEADY_FAMILIES = ("attribute", "context", "price")
_LATEST_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Null:
    """The largest earlier movement of one column, and over how many pairs of windows it was looked for."""

    distance: float
    pairs: int


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    """Two neighbouring windows of training rows, and how many days of log lie before the first."""

    reference: NDArray[np.bool_]
    current: NDArray[np.bool_]
    days_before: float


def earlier_movements(dataset: Path, built: Dataset, features: Sequence[str]) -> dict[str, Null]:
    """The null of the label, of each feature, and of the gaps of each that has any; absent where there is no history.

    Args:
        dataset: Dataset directory.
        built: Its manifest.
        features: Names of the model's features.

    Raises:
        InputError: If a table cannot be read or lacks a column.
    """
    requests = read_columns(dataset / "requests.parquet", ("request", "user", "ts", "split", "cut"))
    training = requests.filter(pc.equal(requests["split"].cast(pa.string()), "train"))
    if not training.num_rows:
        return {}
    rows = read_columns(dataset / "rows.parquet", ("request", "gain", *features))
    row, user = _of_training(rows["request"].to_numpy(), training)
    pairs = _logged_pairs(built, training, row) if built.mode == "logged" else _sampled_pairs(training, row)
    declared = {feature.name: feature for feature in built.features}
    found: dict[str, Null] = {}
    for name in (LABEL, *features):
        feature = declared.get(name)
        chosen = _fitting(pairs, feature)
        values = _values(rows, "gain" if name == LABEL else name)
        categorical = feature is not None and feature.type == "category"
        _keep(found, name, values, user, chosen, categorical=categorical)
        gaps = ~np.isfinite(values)
        if gaps.any():
            _keep(found, name + MISSING, gaps.astype(np.float64), user, chosen, categorical=True)
    return found


def halves_apart(values: Floats, users: Ints, days: Ints) -> Null | None:
    """The earlier half of a window's days against the later; None where the window is a single day."""
    known = np.unique(days)
    if len(known) < 2:
        return None
    early = days < known[len(known) // 2]
    moved = settled_distance(values[early], values[~early], users[early], users[~early], categorical=False)
    return Null(moved, 1) if np.isfinite(moved) else None


def _keep(
    found: dict[str, Null], name: str, values: Floats, user: Ints, pairs: list[_Pair], *, categorical: bool
) -> None:
    moved = [
        settled_distance(
            values[pair.reference],
            values[pair.current],
            user[pair.reference],
            user[pair.current],
            categorical=categorical,
        )
        for pair in pairs
    ]
    known = [distance for distance in moved if np.isfinite(distance)]
    if known:
        found[name] = Null(max(known), len(known))


def _of_training(of_row: NDArray[np.int32], training: pa.Table) -> tuple[Ints, Ints]:
    """For each row, the place of its request among the training requests (-1 = held out), and its user."""
    order = np.argsort(training["request"].to_numpy(), kind="stable")
    numbers = training["request"].to_numpy()[order]
    place = np.minimum(np.searchsorted(numbers, of_row), len(numbers) - 1)
    known = numbers[place] == of_row
    row = np.where(known, order[place], -1).astype(np.int64)
    return row, np.where(known, training["user"].to_numpy()[row], -1).astype(np.int64)


def _logged_pairs(built: Dataset, training: pa.Table, row: Ints) -> list[_Pair]:
    """Neighbouring windows as long as validation and test, a day apart, earliest first."""
    cuts = {cut.name: round(datetime.fromisoformat(cut.ts).timestamp() * 1e6) for cut in built.cuts}
    reference_us, current_us = cuts["test"] - cuts["validation"], cuts["release"] - cuts["test"]
    when = training["ts"].cast(pa.int64()).to_numpy()
    begin = int(when.min()) // _DAY_US * _DAY_US
    of_row = np.where(row >= 0, when[row], -1)
    last = cuts["validation"] - reference_us - current_us
    return [
        _Pair(
            (of_row >= start) & (of_row < start + reference_us),
            (of_row >= start + reference_us) & (of_row < start + reference_us + current_us),
            (start - begin) / _DAY_US,
        )
        for start in range(begin, last + 1, _DAY_US)
    ]


def _sampled_pairs(training: pa.Table, row: Ints) -> list[_Pair]:
    cut = np.where(row >= 0, training["cut"].to_numpy()[row], -1)
    numbers = np.unique(cut[cut >= 0])
    return [_Pair(cut == a, cut == b, np.inf) for a, b in pairwise(numbers.tolist())]


def _fitting(pairs: list[_Pair], feature: Feature | None) -> list[_Pair]:
    """The pairs that are comparable for one column: at most eight, evenly spread, the latest among them."""
    if feature is None or feature.family in _STEADY_FAMILIES:
        fitting = pairs
    elif feature.window_days > 0:
        fitting = [pair for pair in pairs if pair.days_before >= feature.window_days]
    else:
        fitting = pairs[-max(1, round(len(pairs) * _LATEST_SHARE)) :]
    fitting = fitting or pairs[-1:]
    if len(fitting) <= _MOST_PAIRS:
        return fitting
    return [fitting[place] for place in np.linspace(0, len(fitting) - 1, _MOST_PAIRS).round().astype(int).tolist()]


def _values(table: pa.Table, name: str) -> Floats:
    values: Floats = table[name].to_numpy().astype(np.float64)
    return values
