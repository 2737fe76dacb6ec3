"""What peers' defaults say of the same data: points against thresholds.

- `evidently-preset`: Evidently's `DataDriftPreset` as it comes: it picks a test and a bound for each column by the size of
  the reference, and calls the data drifted where half of the columns are.
- `fairlearn-4/5`: Fairlearn's MetricFrame of per-user NDCG by each declared attribute and intersection, flagged where the
  worst group's point value is below four fifths of the best's.
- `fixed-ndcg`: the candidate's NDCG against the incumbent's as two points, blocked where it is lower by more than 0.01
  (a change threshold, as TFX's Evaluator takes).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from components.artifacts import documents
from components.dataset.contract import Dataset
from components.evidence.drift import default_flag
from components.ranker.contract import CANDIDATE, INCUMBENT, Ranker
from pipelines.trials.worlds import Parts

_FOUR_FIFTHS = 0.8
_LEAST_NDCG_CHANGE = -0.01
_DRIFTED_SHARE = 0.5
_MOST_ROWS = 20_000


def evidently_preset(run: Parts, evidence: Path) -> bool:  # noqa: ARG001  one shape for all peers
    """Whether Evidently's defaults call the features and the score drifted."""
    trained = documents.load(Ranker, run.ranker / "ranker.json")
    built = documents.load(Dataset, run.dataset / "dataset.json")
    categorical = {feature.name for feature in built.features if feature.type == "category"}
    table = pq.read_table(run.rankings / "features.parquet").to_pandas()
    reference, current = (table[table["split"].astype(str) == name] for name in ("validation", "test"))
    reference, current = (part.iloc[:: max(1, len(part) // _MOST_ROWS)] for part in (reference, current))
    columns = [
        name
        for name in ("score", *trained.features)
        if np.isfinite(reference[name]).any() and np.isfinite(current[name]).any()
    ]
    flags = [default_flag(reference[name], current[name], categorical=name in categorical) for name in columns]
    return float(np.mean(flags)) >= _DRIFTED_SHARE


def fairlearn_four_fifths(run: Parts, evidence: Path) -> bool:
    """Whether a group's point value lies below four fifths of the best group's, by any declared attribute."""
    from fairlearn.metrics import MetricFrame

    built = documents.load(Dataset, run.dataset / "dataset.json")
    users = _per_user(evidence)
    held = pq.read_table(run.dataset / "users.parquet").to_pandas().set_index("user")
    metric = _main(users)
    known = users[users[f"{metric}:{CANDIDATE}"].notna()]
    value = known[f"{metric}:{CANDIDATE}"].to_numpy()
    groups = [(name,) for name in (*built.segments, *built.sensitive)] + list(built.intersections)
    for names in groups:
        told = held.loc[known["user"], list(names)].astype(object).fillna("unknown").reset_index(drop=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frame = MetricFrame(
                metrics=lambda _, predicted: float(np.mean(predicted)),
                y_true=value,
                y_pred=value,
                sensitive_features=told,
            )
            if float(frame.ratio(method="between_groups")) < _FOUR_FIFTHS:
                return True
    return False


def fixed_ndcg(run: Parts, evidence: Path) -> bool:  # noqa: ARG001  one shape for all peers
    """Whether the candidate's mean lies below the incumbent's by more than the threshold."""
    users = _per_user(evidence)
    metric = _main(users)
    own, other = (float(users[f"{metric}:{name}"].mean()) for name in (CANDIDATE, INCUMBENT))
    return own - other < _LEAST_NDCG_CHANGE


PEERS: Mapping[str, Callable[[Parts, Path], bool]] = {
    "evidently-preset": evidently_preset,
    "fairlearn-4/5": fairlearn_four_fifths,
    "fixed-ndcg": fixed_ndcg,
}
"""Each takes a run and the folder of its evidence: two of them read the per-user values of ranking quality."""


def _per_user(evidence: Path) -> pd.DataFrame:
    """The per-user values that the quality evidence wrote."""
    table: pd.DataFrame = pq.read_table(evidence / "quality-users.parquet").to_pandas()
    return table


def _main(users: pd.DataFrame) -> str:
    """`ndcg@10`, which every world measures."""
    return next(name.split(":")[0] for name in users.columns if name.startswith("ndcg@10:"))
