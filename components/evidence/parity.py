"""Parity: whether what is served for is what was trained on. Features to the bit, scores to 1e-6, the order to the place.

Two paths that share no file. The training path: rows.parquet and the dataset's own tables. The serving path: the tables, the
index and the model in the ranker's folder, behind a service or not. Where they differ, the feature is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.artifacts import documents
from components.dataset.lookup import FeatureTables
from components.dataset.reading import OpenDataset, open_dataset
from components.errors import EvidenceError
from components.evidence.contract import Estimate
from components.evidence.estimates import exactly
from components.evidence.ranked import read_columns
from components.ranker.booster import Booster
from components.ranker.contract import CANDIDATE, Ranker
from components.ranker.storage import MODEL

Features = NDArray[np.float32]

ROWS = 20_000
"""Rows of whole requests whose features are compared."""
TABLES = "tables"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as a client would send it."""

    request: int
    user: int
    user_id: str
    items: tuple[int, ...]
    """Candidates, ascending."""
    context: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Expected:
    """What the training path says of one request's candidates, in their order."""

    scores: NDArray[np.float32]


def differing(trained: Features, served: Features) -> NDArray[np.int64]:
    """Cells of each column that are not equal to the bit, shape (columns,); two missing values are equal."""
    same = (trained == served) | (np.isnan(trained) & np.isnan(served))
    counts: NDArray[np.int64] = (~same).sum(axis=0).astype(np.int64)
    return counts


def feature_parity(dataset: Path, ranker: Path, *, seed: int) -> tuple[Estimate, ...]:
    """Share of compared cells of each feature that the ranker's tables hold differently from the training rows.

    Args:
        dataset: Dataset directory.
        ranker: Ranker directory.
        seed: Of the draw of requests.

    Raises:
        InputError: If a manifest or table cannot be read.
    """
    trained = documents.load(Ranker, ranker / "ranker.json")
    rows = read_columns(dataset / "rows.parquet", ("request", "item", *trained.features))
    rows = _some(rows, seed=seed)
    requests = pq.read_table(dataset / "requests.parquet").sort_by("request").take(rows["request"])
    tables = FeatureTables.open(ranker / TABLES)
    matrix = tables.matrix(
        requests["user"].to_numpy(),
        rows["item"].to_numpy(),
        requests["bucket"].to_numpy(),
        {name: requests[name].to_pylist() for name in tables.context_values},
    )
    place = {name: at for at, name in enumerate(tables.names)}
    if missing := [name for name in trained.features if name not in place]:
        raise EvidenceError(f"ranker {ranker.name}: its tables have no {', '.join(missing)}. Train it again.")
    before = np.column_stack([rows[name].to_numpy() for name in trained.features]).astype(np.float32)
    now = matrix[:, [place[name] for name in trained.features]]
    counts = differing(before, now)
    users, asked = len(np.unique(requests["user"].to_numpy())), len(np.unique(rows["request"].to_numpy()))
    return tuple(
        exactly(
            count / len(before) if len(before) else None,
            metric="skewed_share",
            subject=name,
            versus="training",
            n_users=users,
            n_requests=asked,
            detail={"cells": float(len(before)), "differ": float(count)},
        )
        for name, count in zip(trained.features, counts.tolist(), strict=True)
    )


def sample_requests(dataset: Path, rankings: Path, *, calls: int, candidates: int, seed: int) -> list[Asked]:
    """Test requests as clients would send them: what the candidate ranks for each, filled up with others of the catalogue.

    Args:
        dataset: Dataset directory.
        rankings: Rankings directory.
        calls: How many; requests come again where there are fewer.
        candidates: Items of each; fewer where the catalogue has fewer.
        seed: Of the draws.
    """
    data = open_dataset(dataset)
    table = read_columns(rankings / "rankings.parquet", ("system", "request", "item"), dictionary=("system",))
    own = table.filter(pc.equal(table["system"].cast(pa.string()), CANDIDATE))
    requests = data.requests.sort_by("request")
    split = requests["split"].cast(pa.string()).to_numpy(zero_copy_only=False)
    test = np.intersect1d(requests["request"].to_numpy()[split == "test"], own["request"].to_numpy())
    catalogue = read_columns(rankings / "catalogue.parquet", ("item", "eligible"))
    eligible = catalogue["item"].to_numpy()[catalogue["eligible"].to_numpy(zero_copy_only=False)]
    if not test.size:
        raise EvidenceError("rankings.parquet: found no test request of the candidate; needed some. Rank again.")
    rng = np.random.default_rng(seed)
    chosen = np.concatenate([rng.permutation(test) for _ in range(-(-calls // test.size))])[:calls]
    order = np.argsort(own["request"].to_numpy(), kind="stable")
    owners, listed = own["request"].to_numpy()[order], own["item"].to_numpy()[order]
    return [_asked(int(number), data, requests, owners, listed, eligible, candidates, rng) for number in chosen]


def expected_scores(dataset: Path, ranker: Path, asked: Sequence[Asked]) -> list[Expected]:
    """What the training path scores each request's candidates, as of the moment that the release knows.

    Features come from the dataset's own tables, the model from the ranker.
    """
    manifest = documents.load(Ranker, ranker / "ranker.json")
    tables = FeatureTables.open(dataset / TABLES)
    booster = Booster.load((ranker / MODEL).read_bytes(), threads=1)
    place = {name: at for at, name in enumerate(tables.names)}
    columns = [place[name] for name in manifest.features]
    sizes = [len(one.items) for one in asked]
    owner = np.repeat(np.arange(len(asked)), sizes)
    matrix = tables.matrix(
        np.array([one.user for one in asked], dtype=np.int32)[owner],
        np.concatenate([np.array(one.items, dtype=np.int32) for one in asked]),
        np.full(len(owner), tables.latest_bucket, dtype=np.int64),
        {name: [asked[row].context.get(name) for row in owner.tolist()] for name in tables.context_values},
    )
    scores = booster.scores(np.ascontiguousarray(matrix[:, columns]))
    return [Expected(part) for part in np.split(scores, np.cumsum(sizes)[:-1])]


def _asked(
    number: int,
    data: OpenDataset,
    requests: pa.Table,
    owners: NDArray[np.int32],
    listed: NDArray[np.int32],
    eligible: NDArray[np.int32],
    candidates: int,
    rng: np.random.Generator,
) -> Asked:
    begin, end = np.searchsorted(owners, number), np.searchsorted(owners, number, side="right")
    own = np.unique(listed[begin:end])[:candidates]
    others = np.setdiff1d(eligible, own)
    more = rng.choice(others, size=min(candidates - len(own), len(others)), replace=False)
    at = int(np.searchsorted(requests["request"].to_numpy(), number))
    row = requests.slice(at, 1)
    user = int(row["user"][0].as_py())
    context = {name: row[name][0].as_py() for name in data.manifest.context}
    return Asked(
        request=number,
        user=user,
        user_id=str(data.users["user_id"][user].as_py()),
        items=tuple(np.sort(np.concatenate([own, more])).tolist()),
        context={name: value for name, value in context.items() if value is not None},
    )


def _some(rows: pa.Table, *, seed: int) -> pa.Table:
    """About `ROWS` rows of whole requests."""
    request = rows["request"].to_numpy()
    numbers = np.unique(request)
    wanted = max(1, round(len(numbers) * min(1.0, ROWS / max(len(rows), 1))))
    chosen = np.random.default_rng(seed).choice(numbers, size=min(wanted, len(numbers)), replace=False)
    return rows.filter(pa.array(np.isin(request, chosen)))


def named_differences(found: Sequence[Estimate]) -> list[str]:
    """Features of which a cell differs, the most different first."""
    skewed = [held for held in found if held.metric == "skewed_share" and held.value]
    return [held.subject for held in sorted(skewed, key=lambda held: (-(held.value or 0.0), held.subject))]
