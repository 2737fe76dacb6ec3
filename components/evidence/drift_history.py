"""How far each column moved in this very log while nothing was wrong: the history behind a drift alarm's threshold.

    training rows in the order of time -> neighbouring windows, a whole number of weeks earlier -> their movements
                                       -> days, in blocks                                       -> movements of days alone
    both -> the movement that one window in a hundred exceeds (`drift_null`)

`logged` data: earlier windows are as long as validation and test and begin on the same weekday, so that a weekly cycle (or a
holiday that was there before) is no drift. A column only counts from where its look-back window lies inside the log:
before that it fills up, which is movement of the log's beginning and not of the shop. Columns that count since the beginning
slow down for ever, so only the latest pairs say what to expect next. `sampled` data: neighbouring training cuts, without
days. Scores of training rows are the model's own, made for this (`drift_inputs`); where there are none, the earlier half of
the reference against the later.

Why so: docs/decisions/0011-drift-against-a-calibrated-null.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.dataset.contract import Dataset, Feature
from components.evidence.distance import Owners, count, owners_of, settled
from components.evidence.drift_null import DOUBT, WEEK, day_effects, day_movements, usual_movement

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_DAY_US = 86_400_000_000
_MOST_PAIRS = 53
_FEW_PAIRS = 4
_STEADY_FAMILIES = ("attribute", "context", "price")
_LATEST_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Null:
    """How far one column moves while nothing is wrong."""

    distance: float
    """The movement that one window in a hundred exceeds."""
    pairs: int
    """Pairs of earlier windows that were looked at."""
    days: int
    """Days whose blocks were resampled; 0 where there are none."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two neighbouring windows: rows [begin, middle) and [middle, end) in the order of time."""

    begin: int
    middle: int
    end: int
    days_before: float
    """Days of log before the first."""
    owners: Owners
    """Whose rows they are; known once for all columns."""


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """Training rows (or requests) in the order of time, and the pairs of windows among them."""

    order: Ints
    """Place of each in the table that it came from."""
    users: Ints
    days: Ints
    pairs: tuple[Pair, ...]
    lengths: tuple[int, int] | None
    """Days of the reference and of the current window; None where days mean nothing."""

    def null(self, values: Floats, *, categorical: bool, feature: Feature | None, seed: int) -> Null | None:
        """The null of one column; None where there is no history of it.

        Args:
            values: One a row of the table that the history was made from.
            categorical: Whether values are codes whatever their number.
            feature: What the column is; None for one that looks back at nothing.
            seed: Seed of the draws of days.
        """
        pairs = self._fitting(feature)
        if not pairs:
            return None
        values = values[self.order]
        moved = [self._moved(values, pair, categorical=categorical) for pair in pairs]
        by_days, days = None, 0
        if self.lengths is not None:
            rows = slice(pairs[0].begin, self.pairs[-1].end)
            effects = day_effects(values[rows], self.users[rows], self.days[rows], categorical=categorical)
            if effects is not None:
                by_days, days = day_movements(effects, self.lengths, seed=seed), len(effects.sizes)
        usual = usual_movement(moved, by_days)
        return Null(usual, sum(map(math.isfinite, moved)), days) if math.isfinite(usual) else None

    def _moved(self, values: Floats, pair: Pair, *, categorical: bool) -> float:
        before, now = slice(pair.begin, pair.middle), slice(pair.middle, pair.end)
        return settled(count(values[before], values[now], pair.owners, categorical=categorical), doubt=DOUBT)

    def _fitting(self, feature: Feature | None) -> tuple[Pair, ...]:
        """The pairs that are comparable for one column, earliest first."""
        if feature is None or feature.family in _STEADY_FAMILIES:
            return self.pairs
        if feature.window_days > 0:
            fitting = tuple(pair for pair in self.pairs if pair.days_before >= feature.window_days)
            return fitting or self.pairs[-1:]
        return self.pairs[-max(1, round(len(self.pairs) * _LATEST_SHARE)) :]


def history_of(built: Dataset, requests: pa.Table, of_row: NDArray[np.integer] | None = None) -> History | None:
    """The history of training rows; None where there are none.

    Args:
        built: The manifest of the dataset.
        requests: request, user, ts, split and cut of every request.
        of_row: Request of each row of a table; None for one row a request.
    """
    training = requests.filter(pc.equal(requests["split"].cast(pa.string()), "train")).sort_by("request")
    if not training.num_rows:
        return None
    place, order = _rows_of(training, of_row if of_row is not None else requests["request"].to_numpy())
    when = training["ts"].cast(pa.int64()).to_numpy()[place]
    key = when if built.mode == "logged" else training["cut"].to_numpy()[place].astype(np.int64)
    if (np.diff(key) < 0).any():
        sorted_ = np.argsort(key, kind="stable")
        key, place, order = key[sorted_], place[sorted_], order[sorted_]
    days = training["ts"].cast(pa.int64()).to_numpy()[place] // _DAY_US
    users = training["user"].to_numpy()[place].astype(np.int64)
    if built.mode == "logged":
        lengths, pairs = _logged_pairs(built, key, users)
        return History(order, users, days, pairs, lengths)
    ends = np.append(np.unique(key, return_index=True)[1], len(key)).tolist()
    neighbours = zip(pairwise(ends[:-1]), ends[2:], strict=True)
    return History(order, users, days, tuple(_pair(users, a, b, c) for (a, b), c in neighbours), None)


def halves_apart(values: Floats, users: Ints, days: Ints, lengths: tuple[int, int], *, seed: int) -> Null | None:
    """The earlier half of a window's days against the later, and its days; None where the window is a single day."""
    order = np.argsort(days, kind="stable")
    ordered = days[order]
    known = np.unique(ordered)
    if len(known) < 2:
        return None
    middle = int(np.searchsorted(ordered, known[len(known) // 2]))
    halves = (_pair(users[order], 0, middle, len(order)),)
    history = History(order, users[order], ordered, halves, lengths)
    return history.null(values, categorical=False, feature=None, seed=seed)


def window_days(built: Dataset) -> tuple[int, int]:
    """Days of the reference and of the current window, at least one each."""
    _, reference, current = _windows_us(built)
    return max(1, round(reference / _DAY_US)), max(1, round(current / _DAY_US))


def _windows_us(built: Dataset) -> tuple[int, int, int]:
    """Begin of the reference window, its length and that of the current, in microseconds."""
    cuts = {cut.name: round(datetime.fromisoformat(cut.ts).timestamp() * 1e6) for cut in built.cuts}
    return cuts["validation"], cuts["test"] - cuts["validation"], cuts["release"] - cuts["test"]


def _rows_of(training: pa.Table, of_row: NDArray[np.integer]) -> tuple[Ints, Ints]:
    """Of the rows of training requests: place of the request among them, and place of the row in its own table."""
    numbers = training["request"].to_numpy()
    place = np.minimum(np.searchsorted(numbers, of_row), len(numbers) - 1)
    known = np.flatnonzero(numbers[place] == of_row)
    return place[known].astype(np.int64), known.astype(np.int64)


def _logged_pairs(built: Dataset, when: Ints, users: Ints) -> tuple[tuple[int, int], tuple[Pair, ...]]:
    """Windows as long as validation and test, whole weeks earlier; where that gives only few, whole days earlier."""
    validation, reference, current = _windows_us(built)
    begin = int(when[0]) // _DAY_US * _DAY_US
    least = math.ceil((reference + current) / _DAY_US)
    most = (validation - begin) // _DAY_US
    weekly = range(math.ceil(least / WEEK) * WEEK, most + 1, WEEK)
    shifts = weekly if len(weekly) >= _FEW_PAIRS else range(least, most + 1)
    starts = [validation - shift * _DAY_US for shift in shifts[:_MOST_PAIRS]][::-1]
    pairs = []
    for start in starts:
        moments = (start, start + reference, start + reference + current)
        first, middle, end = np.searchsorted(when, moments).tolist()
        pairs.append(_pair(users, first, middle, end, days_before=(start - begin) / _DAY_US))
    return window_days(built), tuple(pairs)


def _pair(users: Ints, first: int, middle: int, end: int, *, days_before: float = math.inf) -> Pair:
    return Pair(first, middle, end, days_before, owners_of(users[first:middle], users[middle:end]))
