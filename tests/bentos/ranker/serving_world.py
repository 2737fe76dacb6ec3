"""What a serving measurement asks: a ranker of given size on the generated shop, and requests with the features they need.

The ranker is trained and written by the rooms' own functions, only with a chosen number of trees and features, so a service
opens it as it would any other. It is kept in a work folder under a name that says what it was made from.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from components.artifacts.digests import digest_tree
from components.artifacts.progress import Progress, silent
from components.dataset.build import build_dataset
from components.dataset.reading import open_dataset
from components.events.declaration import load_contract
from components.events.shop import generate_shop
from components.events.snapshot import take_snapshot
from components.ranker import settings
from components.ranker.booster import fit
from components.ranker.candidates.index import SOURCES
from components.ranker.contract import SCHEMA_VERSION, Ranker, RerankRules
from components.ranker.rows import feature_columns, index_at
from components.ranker.storage import open_ranker, write_ranker
from components.ranker.train import calibrate, collect, examples, parameters_for

REPOSITORY = Path(__file__).resolve().parents[3]
MISSING = -999.0
"""What a missing feature is in JSON, which knows no NaN; below every value that the features of this shop take."""
RULES = RerankRules(max_per_category=3, max_per_provider=2, window=10, exclude_seen=False)

# The costly ones first: pairs and co-visitation, which no window less makes cheaper.
_PREFERRED = ("user_category", "user_item", "covisitation", "price", "user_", "context", "item_category", "item_price")


@dataclass(frozen=True, slots=True)
class Size:
    """Of the ranker that is measured."""

    trees: int = 300
    features: int = 40
    scale: float = 1.0
    """Of the generated shop."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as rankgate is asked and as a service is that is handed ready-made features."""

    rank: bytes
    """Body of /rank: a user and candidates."""
    few: bytes
    """The same, for the first 20 places."""
    recommend: bytes
    """Body of /recommend for the same user: 20 places."""
    features: bytes
    """The same candidates' features as JSON: {"features": [[...], ...]}."""
    tensor: bytes
    """The same in the V2 inference protocol."""
    matrix: NDArray[np.float32]
    """The same, shape (candidates, features); NaN is missing."""
    user_id: str
    item_ids: tuple[str, ...]
    device: str


def work_folder() -> Path:
    """Where what is costly to make is kept between measurements; RANKGATE_BENCH_HOME names another place."""
    place = Path(os.environ.get("RANKGATE_BENCH_HOME", Path(tempfile.gettempdir()) / "rankgate-bench"))
    place.mkdir(parents=True, exist_ok=True)
    return place


def ranker_of(size: Size, *, work: Path, progress: Progress = silent) -> Path:
    """The folder of a ranker of this size, made unless it is there."""
    rooms = [digest_tree(REPOSITORY / "components" / room) for room in ("events", "dataset", "ranker")]
    made_from = hashlib.sha256(" ".join([repr(size), repr(RULES), *rooms]).encode()).hexdigest()[:12]
    folder = work / f"ranker-{size.trees}x{size.features}-{made_from}"
    if folder.exists():
        return folder
    progress(f"training {size.trees} trees on {size.features} features of the generated shop")
    with tempfile.TemporaryDirectory(dir=work) as scratch:
        made = _make(size, Path(scratch))
        shutil.move(made, folder)
    return folder


def _make(size: Size, scratch: Path) -> Path:
    shop, snapshot, dataset, out = (scratch / name for name in ("shop", "snapshot", "dataset", "ranker"))
    for folder in (shop, snapshot, dataset, out):
        folder.mkdir()
    contract_path = generate_shop(shop, seed=size.seed, scale=size.scale)
    contract = load_contract(contract_path)
    take_snapshot(contract, base=contract_path.parent, as_of=contract.as_of, out=snapshot)
    build_dataset(snapshot, out=dataset, seed=size.seed)
    data = open_dataset(dataset)
    names = chosen([feature.name for feature in data.manifest.features], size.features)
    lesson = collect(data, names, seed=size.seed)
    parameters = parameters_for(positioned=lesson.positioned)
    # Without validation nothing stops early: exactly so many trees.
    fitted = fit(
        examples(lesson.training, lesson.weights),
        None,
        parameters=parameters,
        rounds=size.trees,
        patience=size.trees,
        metric="ndcg@10",
        seed=size.seed,
        threads=2,
    )
    manifest = Ranker(
        schema_version=SCHEMA_VERSION,
        dataset=digest_tree(dataset),
        name=data.manifest.name,
        mode=data.manifest.mode,
        objective=settings.OBJECTIVE,
        parameters=parameters,
        features=names,
        trees=fitted.trees,
        validation_metric="ndcg@10",
        validation_curve=(),
        importance=(),
        position_bias=(),
        candidate_sources={source: settings.QUOTAS[source] for source in SOURCES},
        rerank=replace(RULES),
        seed=size.seed,
        threads=2,
        training_rows=len(lesson.training.requests),
        training_requests=len(lesson.training.starts()) - 1,
        files={},
    )
    write_ranker(
        manifest,
        booster=fitted.booster,
        calibration=calibrate(fitted, lesson.validation),
        index=index_at(data, len(data.manifest.cuts) - 1, seed=size.seed),
        data=data,
        out=out,
    )
    return out


def chosen(names: list[str], count: int) -> tuple[str, ...]:
    """So many of the features, in their order: every kind that is costly to look up, then windows of items' counts.

    Raises:
        ValueError: If there are not so many.
    """
    if count > len(names):
        raise ValueError(f"features: found {len(names)}; needed {count}.")
    costly = [name for name in names if name.startswith(_PREFERRED)]
    rest = [name for name in names if name not in costly]
    kept = {*costly[:count], *rest[: max(0, count - len(costly))]}
    return tuple(name for name in names if name in kept)


def requests_of(ranker: Path, *, count: int, candidates: int, seed: int) -> list[Asked]:
    """Requests of known users for items drawn from the whole catalogue, each with its features as of now.

    Raises:
        ValueError: If the catalogue has fewer items than candidates.
    """
    opened = open_ranker(ranker, threads=1)
    tables, columns = opened.tables, feature_columns(opened.tables, opened.manifest.features)
    users = opened.users.sort_by("user")["user_id"].to_pylist()
    items = opened.items["item_id"].to_pylist()
    if len(items) < candidates:
        raise ValueError(f"catalogue: found {len(items)} items; needed {candidates}.")
    devices = tables.context_values["device"]
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        user, device = int(rng.integers(len(users))), str(rng.choice(devices))
        drawn = rng.choice(len(items), candidates, replace=False).astype(np.int32)
        matrix = np.ascontiguousarray(
            tables.matrix(
                np.full(candidates, user, dtype=np.int32),
                drawn,
                np.full(candidates, tables.latest_bucket, dtype=np.int64),
                {"device": [device] * candidates},
            )[:, columns]
        )
        found.append(_asked(number, users[user], [items[item] for item in drawn.tolist()], device, matrix))
    return found


def _asked(number: int, user_id: str, item_ids: list[str], device: str, matrix: NDArray[np.float32]) -> Asked:
    told = np.where(np.isnan(matrix), np.float32(MISSING), matrix)
    about = {"user_id": user_id, "context": {"device": device}, "request_id": f"feed-{number}", "surface": "home"}
    values = orjson.Fragment(orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY))
    flat = orjson.Fragment(orjson.dumps(told.ravel(), option=orjson.OPT_SERIALIZE_NUMPY))
    tensor = {"name": "features", "shape": list(told.shape), "datatype": "FP32", "data": flat}
    return Asked(
        rank=orjson.dumps({**about, "candidates": item_ids, "k": len(item_ids)}),
        few=orjson.dumps({**about, "candidates": item_ids, "k": 20}),
        recommend=orjson.dumps({**about, "k": 20}),
        features=orjson.dumps({"features": values}),
        tensor=orjson.dumps({"inputs": [tensor]}),
        matrix=matrix,
        user_id=user_id,
        item_ids=tuple(item_ids),
        device=device,
    )
