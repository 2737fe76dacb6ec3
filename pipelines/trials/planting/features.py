"""Harms in what the model is given: a column that moves, a mix that changes, a season, a leak, a stand-in, a skew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.artifacts import documents
from components.dataset.contract import Dataset
from components.ranker.contract import Ranker
from components.ranker.storage import open_ranker
from pipelines.trials.planting.copies import copied
from pipelines.trials.worlds import Parts

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_WATCHED = "features.parquet"
_SEASON_DAYS = 21.0
"""Three weeks: no window of a run is as long, so each sees another part of the wave."""


def by_importance(parts: Parts) -> tuple[str, ...]:
    """Names of the model's numeric features, the most important first."""
    trained = documents.load(Ranker, parts.ranker / "ranker.json")
    built = documents.load(Dataset, parts.dataset / "dataset.json")
    numbers = {feature.name for feature in built.features if feature.type == "number"}
    held = sorted(trained.importance, key=lambda one: (-one.gain_share, one.feature))
    return tuple(one.feature for one in held if one.feature in numbers)


def column_moved(parts: Parts, out: Path, *, name: str, by: float) -> Parts:
    """One feature of the test rows moved by so many of its own standard deviations, and the rows scored again."""
    table = pq.read_table(parts.rankings / _WATCHED)
    test = _is_test(table)
    values = table[name].to_numpy().astype(np.float64)
    spread = float(np.nanstd(values[test]))
    moved = np.where(test, values + by * (spread or 1.0), values).astype(np.float32)
    return _rescored(parts, out, _with(table, name, moved))


def mix_changed(parts: Parts, out: Path, *, context: str, share: float, rng: np.random.Generator) -> Parts:
    """A share of the test requests of every value of a context but the commonest come with the commonest instead.

    Who asks, what they are shown and what they do stays as it was: the mix alone has changed.
    """
    requests = pq.read_table(parts.dataset / "requests.parquet")
    value = requests[context].to_pylist()
    of_test = pc.equal(requests["split"].cast(pa.string()), "test").to_numpy(zero_copy_only=False)
    common = Counter(held for held, test in zip(value, of_test.tolist(), strict=True) if test).most_common(1)[0][0]
    moved = of_test & np.array([held != common for held in value]) & (rng.random(len(value)) < share)
    told = pa.array([common if change else held for held, change in zip(value, moved.tolist(), strict=True)])
    changed = copied(parts, out, "dataset", without=("requests.parquet",))
    done = requests.set_column(requests.column_names.index(context), context, told.cast(requests[context].type))
    pq.write_table(done, changed.dataset / "requests.parquet")
    table, name = pq.read_table(parts.rankings / _WATCHED), f"context_{context}"
    of_row = np.isin(table["request"].to_numpy(), requests["request"].to_numpy()[moved])
    code = table[name].to_numpy()
    of_common = np.isin(
        table["request"].to_numpy(), requests["request"].to_numpy()[np.array([held == common for held in value])]
    )
    recoded = np.where(of_row, code[of_common][0], code).astype(np.float32)
    return _rescored(changed, out, _with(table, name, recoded))


def season(parts: Parts, out: Path, *, names: Sequence[str], height: float) -> Parts:
    """A wave of three weeks on some features, in training, validation and test alike: the shop has always been so.

    Args:
        parts: The run.
        out: An existing folder for what changes.
        names: Numeric features.
        height: Of the wave, in standard deviations of the feature.
    """
    rows = pq.read_table(parts.dataset / "rows.parquet")
    requests = pq.read_table(parts.dataset / "requests.parquet", columns=["request", "ts"]).sort_by("request")
    day = requests["ts"].cast(pa.int64()).to_numpy()[rows["request"].to_numpy()] / 86_400e6
    spread = {name: float(np.nanstd(rows[name].to_numpy())) for name in names}
    changed = copied(parts, out, "dataset", without=("rows.parquet",))
    pq.write_table(_waved(rows, day, spread, height), changed.dataset / "rows.parquet")
    table = pq.read_table(parts.rankings / _WATCHED)
    when = requests["ts"].cast(pa.int64()).to_numpy()[table["request"].to_numpy()] / 86_400e6
    return _rescored(changed, out, _waved(table, when, spread, height))


def _waved(table: pa.Table, day: Floats, spread: dict[str, float], height: float) -> pa.Table:
    wave = height * np.sin(2 * np.pi * day / _SEASON_DAYS)
    for name, size in spread.items():
        table = _with(table, name, (table[name].to_numpy() + size * wave).astype(np.float32))
    return table


def _rescored(parts: Parts, out: Path, table: pa.Table) -> Parts:
    ranker = open_ranker(parts.ranker, threads=1)
    matrix = np.column_stack([table[name].to_numpy() for name in ranker.manifest.features]).astype(np.float32)
    return _written(parts, out, _with(table, "score", ranker.booster.scores(matrix)))


def _written(parts: Parts, out: Path, table: pa.Table) -> Parts:
    changed = copied(parts, out, "rankings", without=(_WATCHED,))
    pq.write_table(table, changed.rankings / _WATCHED)
    return changed


def _is_test(table: pa.Table) -> Bools:
    mask: Bools = pc.equal(table["split"].cast(pa.string()), "test").to_numpy(zero_copy_only=False)
    return mask


def _with(table: pa.Table, name: str, values: NDArray[np.float32]) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, pa.array(values))
