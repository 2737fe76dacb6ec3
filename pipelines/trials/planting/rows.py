"""Harms in the rows a model learns from: a leaked label, features that look ahead, a stand-in for a sensitive attribute."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.dataset.lookup import FeatureTables
from components.ranker.ranking import rank
from components.ranker.train import train_ranker
from pipelines.trials.planting.copies import copied
from pipelines.trials.worlds import Parts


def leaked(
    base: Path, parts: Parts, out: Path, *, feature: str, power: float, rng: np.random.Generator, seed: int
) -> Parts:
    """One feature replaced by the label seen through noise, in every split; a ranker trained on it.

    Args:
        base: The base's folder, for its incumbent.
        parts: The base's parts.
        out: An existing folder for what changes.
        feature: The column that leaks.
        power: Standard deviations between positives and negatives; infinite for a copy of the label.
        rng: Draws the noise.
        seed: Of the training.
    """
    rows = pq.read_table(parts.dataset / "rows.parquet")
    label = rows["positive"].to_numpy(zero_copy_only=False).astype(np.float64)
    noise = rng.normal(size=len(label)) / power if np.isfinite(power) else 0.0
    changed = _with_column(parts, out, rows, feature, (label + noise).astype(np.float32))
    return trained(base, changed, out, seed=seed)


def looking_ahead(parts: Parts, out: Path, *, hours: float) -> Parts:
    """Every feature as of a moment so much later than the request's bucket: an off-by-some in the point-in-time join."""
    rows = pq.read_table(parts.dataset / "rows.parquet")
    requests = pq.read_table(parts.dataset / "requests.parquet").sort_by("request").take(rows["request"])
    tables = FeatureTables.open(parts.dataset / "tables")
    matrix = tables.matrix(
        requests["user"].to_numpy(),
        rows["item"].to_numpy(),
        requests["bucket"].to_numpy() + round(hours * 3600 / tables.bucket_seconds),
        {name: requests[name].to_pylist() for name in tables.context_values},
    )
    for place, name in enumerate(tables.names):
        rows = _set(rows, name, np.ascontiguousarray(matrix[:, place]))
    changed = copied(parts, out, "dataset", without=("rows.parquet",))
    pq.write_table(rows, changed.dataset / "rows.parquet")
    return changed


def standing_in(
    parts: Parts, out: Path, *, feature: str, attribute: str, value: str, power: float, rng: np.random.Generator
) -> Parts:
    """One feature replaced by a noisy sign of whether the user's sensitive attribute has a value, user by user.

    Args:
        parts: The run.
        out: An existing folder for what changes.
        feature: The column that stands in.
        attribute: A sensitive attribute of users.
        value: One of its values.
        power: Standard deviations between users with the value and the others.
        rng: Draws the noise, one number a user.
    """
    users = pq.read_table(parts.dataset / "users.parquet").sort_by("user")
    has = np.array([held == value for held in users[attribute].to_pylist()], dtype=np.float64)
    sign = (has * power + rng.normal(size=len(has))).astype(np.float32)
    rows = pq.read_table(parts.dataset / "rows.parquet")
    requests = pq.read_table(parts.dataset / "requests.parquet", columns=["request", "user"]).sort_by("request")
    of_row = sign[requests["user"].to_numpy()[rows["request"].to_numpy()]]
    changed = _with_column(parts, out, rows, feature, of_row)
    watched = pq.read_table(parts.rankings / "features.parquet")
    changed = copied(changed, out, "rankings", without=("features.parquet",))
    pq.write_table(_set(watched, feature, sign[watched["user"].to_numpy()]), changed.rankings / "features.parquet")
    return changed


def trained(base: Path, parts: Parts, out: Path, *, seed: int) -> Parts:
    """The parts with a ranker trained on their dataset, and ranked beside the base's incumbent."""
    ranker, rankings = out / "ranker", out / "rankings"
    ranker.mkdir()
    rankings.mkdir()
    train_ranker(parts.dataset, out=ranker, seed=seed, threads=1)
    rank(parts.dataset, ranker, incumbent=base / "incumbent", out=rankings, seed=seed, threads=1)
    return replace(parts, ranker=ranker, rankings=rankings)


def _with_column(parts: Parts, out: Path, rows: pa.Table, name: str, values: NDArray[np.float32]) -> Parts:
    changed = copied(parts, out, "dataset", without=("rows.parquet",))
    pq.write_table(_set(rows, name, values), changed.dataset / "rows.parquet")
    return changed


def _set(table: pa.Table, name: str, values: NDArray[np.float32]) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, pa.array(values))
