"""A harm between training and serving: a feature that the served tables hold differently."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from components.artifacts import documents
from components.ranker.contract import Ranker
from components.ranker.storage import file_digests
from pipelines.trials.planting.copies import copied
from pipelines.trials.worlds import Parts


def skewed(parts: Parts, out: Path, *, array: str, by: float) -> Parts:
    """One array of the ranker's tables scaled by 1 + `by`, and the manifest's digests made to agree.

    A digest that does not agree is caught before anything is served; this is the harm that digests cannot see: a release
    that was put together wrongly.
    """
    name = f"tables/{array}.npy"
    changed = copied(parts, out, "ranker", without=(name, "ranker.json"))
    values = np.load(parts.ranker / name, allow_pickle=False)
    np.save(changed.ranker / name, (values * (1 + by)).astype(values.dtype), allow_pickle=False)
    manifest = documents.load(Ranker, parts.ranker / "ranker.json")
    documents.save(replace(manifest, files=file_digests(changed.ranker)), changed.ranker / "ranker.json")
    return changed
