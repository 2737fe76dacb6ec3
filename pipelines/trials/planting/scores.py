"""Harms in what scores say: chances that do not come true, scores that moved while nothing else did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.ranker.calibration import fit_calibration
from components.ranker.contract import CANDIDATE
from pipelines.trials.planting.copies import copied
from pipelines.trials.worlds import Parts


def miscalibrated(parts: Parts, out: Path, *, by: float) -> Parts:
    """Test scores moved up until chances, on average, promise `by` more than they did. No order changes."""
    table = pq.read_table(parts.rankings / "rankings.parquet")
    held = pq.read_table(parts.rankings / "requests.parquet", columns=["request", "split"])
    of_test = held["request"].filter(pc.equal(held["split"].cast(pa.string()), "test"))
    own = pc.equal(table["system"].cast(pa.string()), CANDIDATE).to_numpy(zero_copy_only=False)
    test = np.isin(table["request"].to_numpy(), of_test.to_numpy())
    score = table["score"].to_numpy().astype(np.float64)
    known = own & ~test
    chances = fit_calibration(score[known], table["positive"].to_numpy(zero_copy_only=False)[known])
    current = score[own & test]
    wanted = float(chances.probability(current).mean()) + by
    low, high = 0.0, float(np.ptp(score)) + 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if chances.probability(current + middle).mean() < wanted else (low, middle)
    moved = np.where(own & test, score + high, score).astype(np.float32)
    changed = copied(parts, out, "rankings", without=("rankings.parquet",))
    done = table.set_column(table.column_names.index("score"), "score", pa.array(moved))
    pq.write_table(done, changed.rankings / "rankings.parquet")
    return changed


def scores_moved(parts: Parts, out: Path, *, by: float) -> Parts:
    """Test scores moved by this many of their own standard deviations, in what drift looks at; features stay."""
    table = pq.read_table(parts.rankings / "features.parquet")
    test = pc.equal(table["split"].cast(pa.string()), "test").to_numpy(zero_copy_only=False)
    score = table["score"].to_numpy().astype(np.float64)
    moved = np.where(test, score + by * score[test].std(), score).astype(np.float32)
    changed = copied(parts, out, "rankings", without=("features.parquet",))
    done = table.set_column(table.column_names.index("score"), "score", pa.array(moved))
    pq.write_table(done, changed.rankings / "features.parquet")
    return changed
