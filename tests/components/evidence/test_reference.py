"""docs/evidence.md names every metric that is measured, and none that is not."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.artifacts import documents
from components.dataset.contract import Dataset
from components.evidence.calibration import measure_calibration
from components.evidence.exposure import measure_provider_fairness
from components.evidence.fairness import measure_user_fairness
from components.evidence.quality import measure_quality

World = Any


def test_the_reference_lists_the_metrics_of_rankings(
    write_world: Callable[..., World], documented: dict[str, set[str]], tmp_path: Path
) -> None:
    world = write_world(users=40)
    dataset, out = tmp_path / "dataset", tmp_path / "evidence"
    out.mkdir()
    shutil.copytree(world.dataset, dataset)
    items = pq.read_table(dataset / "items.parquet")
    brands = pa.array([f"p{row % 3}" for row in range(items.num_rows)], pa.string())
    pq.write_table(items.append_column("brand", brands), dataset / "items.parquet")
    manifest = documents.load(Dataset, dataset / "dataset.json")
    documents.save(replace(manifest, provider="brand"), dataset / "dataset.json")
    measured = [
        measure_quality(dataset, world.rankings, out=out, seed=0),
        measure_calibration(dataset, world.rankings, out=out, seed=0),
        measure_user_fairness(dataset, world.rankings, out, out=out, seed=0),
        measure_provider_fairness(dataset, world.rankings, out=out, seed=0),
    ]
    for evidence in measured:
        metrics = {re.sub(r"@\d+", "@k", estimate.metric) for estimate in evidence.estimates}
        assert metrics == documented[evidence.question]
