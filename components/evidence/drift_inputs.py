"""What is compared for drift: score, label, features with their gaps, and the mix; read, counted and given a null.

Tables are read a column at a time, and each is counted before the next is read, so that memory grows with the rows of one
column and not with the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.dataset.contract import Dataset, Feature
from components.errors import EvidenceError
from components.evidence.column_file import ColumnFile
from components.evidence.distance import Owners, count, owners_of
from components.evidence.drift_columns import LABEL, MISSING, SCORE, Column
from components.evidence.drift_history import History, Null, halves_apart, history_of, window_days
from components.evidence.drift_mix import mixes
from components.evidence.ranked import read_columns
from components.ranker.booster import Booster
from components.ranker.contract import Ranker
from components.ranker.storage import MODEL

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Both = tuple[Floats, Floats]

_WINDOWS = ("validation", "test")
_BLOCK = 8_192
_SCORED_ROWS = 500_000
"""Rows that are scored for the null of scores, about: in blocks spread evenly over the whole log."""
_AS_SCORES_MOVE = Feature(
    name=SCORE,
    entity="request",
    family="count",
    event="*",
    window_days=0.0,
    type="number",
    meaning="Scores follow features, many of which count since the log began: the latest movements say what to expect.",
)


@dataclass(frozen=True, slots=True, eq=False)
class _Windows:
    """Which rows of features.parquet are in the reference and which in the current window."""

    rows: tuple[Ints, Ints]
    owners: Owners
    request: tuple[Ints, Ints]
    """Request of each row."""
    days: Ints
    """Day of each reference row."""
    sample: tuple[Ints, Ints] | None
    """Rows of each window, among its own, that are drawn; None where none are."""

    def split(self, values: Floats) -> Both:
        return values[self.rows[0]], values[self.rows[1]]

    def drawn(self, values: Both) -> Both | None:
        return None if self.sample is None else (values[0][self.sample[0]], values[1][self.sample[1]])


def read_inputs(
    dataset: Path, built: Dataset, ranker: Path, trained: Ranker, rankings: Path, *, seed: int, sample: int
) -> Iterator[Column]:
    """Score, label and features, each followed by its gaps where either window has any, then the mix.

    Args:
        dataset: Dataset directory.
        built: Its manifest.
        ranker: Ranker directory, for its model.
        trained: Its manifest.
        rankings: Rankings directory.
        seed: Seed of the draws of days, and of the sample.
        sample: Most rows of each window that are kept to be drawn; 0 for none.

    Raises:
        EvidenceError: If a table cannot be read, lacks a column, or holds no rows of validation or of test.
    """
    needed = ("split", "request", "user", "day", "score", "gain", *trained.features)
    table = ColumnFile(rankings / "features.parquet", needed)
    windows = _windows_of(table, sample=sample, seed=seed)
    requests = read_columns(dataset / "requests.parquet", ("request", "user", "ts", "split", "cut", *built.context))
    requests = requests.sort_by("request")
    rows = ColumnFile(dataset / "rows.parquet", ("request", "gain", *trained.features))
    history = history_of(built, requests, rows.integers("request"))
    scored = scores_of(rows, ranker, trained) if history is not None and built.mode == "logged" else None
    yield _of_score(table, windows, built, history, scored, seed=seed)
    declared = {feature.name: feature for feature in built.features}
    importance = {held.feature: held.gain_share for held in trained.importance}
    for name in (LABEL, *trained.features):
        source = "gain" if name == LABEL else name
        values = windows.split(table.numbers(source))
        of = "" if name == LABEL else name
        column = _Input(name, values, of, declared.get(name), importance.get(name, 0.0))
        yield from _with_gaps(column, rows.numbers(source) if history else None, windows, history, seed=seed)
    yield from _of_mix(dataset, built, requests, windows, seed=seed)


@dataclass(frozen=True, slots=True, eq=False)
class _Input:
    """One column as it was read."""

    name: str
    values: Both
    of: str = ""
    """Name of the feature that it belongs to, if any."""
    feature: Feature | None = None
    importance: float = 0.0

    @property
    def categorical(self) -> bool:
        return self.feature is not None and self.feature.type == "category"


def scores_of(rows: ColumnFile, ranker: Path, trained: Ranker) -> Floats | None:
    """What the model says of rows that were recorded with their features, whether it learned from them or not.

    Returns:
        One a row, NaN where a row was not scored; None where the folder holds no model.
    """
    if not (ranker / MODEL).exists():
        return None
    booster = Booster.load((ranker / MODEL).read_bytes(), threads=1)
    scores = np.full(rows.rows, np.nan)
    every = max(1, rows.rows // _SCORED_ROWS)
    for begin, block in rows.blocks(trained.features, size=_BLOCK):
        if begin // _BLOCK % every == 0:
            matrix = np.column_stack([block[name].to_numpy(zero_copy_only=False) for name in trained.features])
            scores[begin : begin + block.num_rows] = booster.scores(matrix.astype(np.float32))
    return scores


def _of_score(
    table: ColumnFile, windows: _Windows, built: Dataset, history: History | None, scored: Floats | None, *, seed: int
) -> Column:
    values = windows.split(table.numbers("score"))
    null = None
    if history is not None and scored is not None:
        null = history.null(scored, categorical=False, feature=_AS_SCORES_MOVE, seed=seed)
    elif built.mode == "logged":
        null = halves_apart(values[0], windows.owners.user[0], windows.days, window_days(built), seed=seed)
    return _column(_Input(SCORE, values), windows, null)


def _with_gaps(
    column: _Input, before: Floats | None, windows: _Windows, history: History | None, *, seed: int
) -> Iterator[Column]:
    """A column, and where either window has gaps, the column of its gaps; `before` are its values in training rows."""

    def null_of(values: Floats, *, categorical: bool) -> Null | None:
        return history.null(values, categorical=categorical, feature=column.feature, seed=seed) if history else None

    null = null_of(before, categorical=column.categorical) if before is not None else None
    yield _column(column, windows, null)
    gaps = _gaps(column.values[0]), _gaps(column.values[1])
    if gaps[0].any() or gaps[1].any():
        null = (
            null_of(_gaps(before), categorical=True) if before is not None and not np.isfinite(before).all() else None
        )
        gap = replace(column, name=column.name + MISSING, values=gaps)
        # Not drawn: Evidently's page shows the missing values of each column beside it.
        yield replace(_column(gap, windows, null, categorical=True), drawn=None)


def _of_mix(dataset: Path, built: Dataset, requests: pa.Table, windows: _Windows, *, seed: int) -> Iterator[Column]:
    """The mix, each request's value on the first of its rows and none on the others, which distances leave out."""
    history = history_of(built, requests)
    numbers = requests["request"].to_numpy()
    place = [np.searchsorted(numbers, of) for of in windows.request]
    other = [np.ones(len(of), dtype=bool) for of in place]
    for of, rows in zip(place, other, strict=True):
        rows[np.unique(of, return_index=True)[1]] = False
    for mix in mixes(dataset, built, requests):
        values = tuple(np.where(rows, np.nan, mix.values[of]) for of, rows in zip(place, other, strict=True))
        null = None
        if history is not None:
            null = history.null(mix.values, categorical=mix.categorical, feature=None, seed=seed)
        column = _column(_Input(mix.name, (values[0], values[1])), windows, null, categorical=mix.categorical)
        yield replace(column, missing=(0.0, 0.0), mix=True)


def _column(column: _Input, windows: _Windows, null: Null | None, *, categorical: bool | None = None) -> Column:
    codes = column.categorical if categorical is None else categorical
    values = column.values
    return Column(
        name=column.name,
        feature=column.of,
        categorical=codes,
        importance=column.importance,
        counted=count(*values, windows.owners, categorical=codes),
        missing=(float(_gaps(values[0]).mean()), float(_gaps(values[1]).mean())),
        null=null,
        drawn=windows.drawn(values),
    )


def _gaps(values: Floats) -> Floats:
    gaps: Floats = (~np.isfinite(values)).astype(np.float64)
    return gaps


def _windows_of(table: ColumnFile, *, sample: int, seed: int) -> _Windows:
    split = table.column("split").cast(pa.string())
    rows = [np.flatnonzero(pc.equal(split, name).to_numpy()) for name in _WINDOWS]
    if not all(len(held) for held in rows):
        raise EvidenceError("features.parquet: found no rows of validation or of test; needed both. Rank again.")
    users, requests = table.integers("user"), table.integers("request")
    days = table.column("day").cast(pa.int32()).to_numpy().astype(np.int64)
    return _Windows(
        rows=(rows[0], rows[1]),
        owners=owners_of(users[rows[0]], users[rows[1]]),
        request=(requests[rows[0]], requests[rows[1]]),
        days=days[rows[0]],
        sample=(_sampled(len(rows[0]), sample, seed), _sampled(len(rows[1]), sample, seed)) if sample else None,
    )


def _sampled(rows: int, most: int, seed: int) -> Ints:
    if rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False)).astype(np.int64)
