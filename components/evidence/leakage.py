"""Leakage: does the model know what nobody can know when it is asked?

Five questions. Does any feature change when the future is removed from the log (`leakage_past`)? Does a single one order the
rows, or tell the label, as no honest one does (`leakage_power`)? Do training and test share what they must not, and what
does the log say about when things were known (`leakage_overlap`)? The first is exact and sharp for whatever is computed from
events, at any strength. Attributes and context columns have no history in a snapshot: a strong leak shows in their power, a
weak one (as strong as an honest feature) does not, and `CONVENTIONS` says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.artifacts import documents
from components.artifacts.digests import digest_tree
from components.artifacts.progress import Progress, silent
from components.dataset.reading import OpenDataset, open_dataset
from components.errors import EvidenceError, Fault, FaultyInputError
from components.events.contract import DatasetContract
from components.evidence.contract import SCHEMA_VERSION, Estimate, Evidence
from components.evidence.leakage_figures import (
    Measured,
    change_estimates,
    counted,
    features_table,
    future_estimates,
    moments_table,
    power_estimates,
    unmeasured,
)
from components.evidence.leakage_overlap import known_when, late_rows, returning_users, shared_requests, shared_rows
from components.evidence.leakage_past import Compared, compare, latest_requests, moments_of, tables_as_of
from components.evidence.leakage_power import single_powers, within_requests
from components.evidence.leakage_words import CONVENTIONS, describe
from components.evidence.ranked import Ranked, open_rankings, read_columns

__all__ = ["FEATURES_TABLE", "MOMENTS_TABLE", "measure_leakage"]

Ints = NDArray[np.int64]

FEATURES_TABLE = "leakage-features.parquet"
MOMENTS_TABLE = "leakage-moments.parquet"
_TRAINING_ROWS = 100_000
"""Training rows that power is measured on: whole requests drawn at random beyond that."""


def measure_leakage(
    snapshot: Path, dataset: Path, rankings: Path, *, out: Path, seed: int, progress: Progress = silent
) -> Evidence:
    """Measure leakage, and write leakage.json and its tables into `out`.

    Args:
        snapshot: Snapshot directory.
        dataset: The dataset made of it.
        rankings: Rankings directory.
        out: Existing directory that lacks these files.
        seed: Of the bootstrap, of folds of users, and of which rows are looked at where there are many.
        progress: Told what is being measured.

    Raises:
        InputError: If a manifest or table cannot be read or does not hold what its contract says, or the dataset was made
            of another snapshot.
    """
    ranked = open_rankings(dataset, rankings)
    data = open_dataset(dataset)
    contract = documents.load(DatasetContract, snapshot / "contract.json")
    taken = digest_tree(snapshot)
    if data.manifest.snapshot != taken:
        raise EvidenceError(
            f"dataset {dataset.name}: found one of snapshot {data.manifest.snapshot[:12]}; needed {taken[:12]}, the one "
            "given. Measure with the snapshot that it was built from."
        )
    requests = data.requests.sort_by("request")
    features = tuple(feature.name for feature in data.manifest.features)
    rows = dataset / "rows.parquet"
    labels = read_columns(rows, ("request", "item", "positive"))
    watched = read_columns(rankings / "features.parquet", ("request",))
    _check_requests(requests, {"rows.parquet": labels, "features.parquet": watched})
    progress("features without the future")
    compared = tuple(_without_future(snapshot, data, contract, requests, rows, rankings, features, seed=seed))
    progress("what each feature does alone")
    train = _on_training(rows, data, requests, labels, features, seed=seed)
    logged = data.manifest.mode == "logged"
    test = _on_test(ranked, rankings, data, features, seed=seed) if logged else None
    progress("overlap of training and test")
    estimates = [
        *future_estimates(compared, features, _users(requests, compared)),
        *(power_estimates(test, seed=seed) if test else unmeasured("test", features) if logged else ()),
        *(power_estimates(train, seed=seed) if train else unmeasured("train", features)),
        *(change_estimates(train, test, seed=seed) if test and train else ()),
        *_overlap(snapshot, data, contract, requests, labels),
    ]
    starts = {part.moment.bucket: _start(part.moment.bucket, data.manifest.bucket_seconds) for part in compared}
    pq.write_table(features_table(features, estimates), out / FEATURES_TABLE, compression="zstd")
    pq.write_table(moments_table(compared, starts), out / MOMENTS_TABLE, compression="zstd")
    evidence = Evidence(
        schema_version=SCHEMA_VERSION,
        question="leakage",
        estimates=tuple(estimates),
        conventions=CONVENTIONS,
        inputs={"snapshot": taken, "dataset": ranked.manifest.dataset, "rankings": digest_tree(rankings)},
        tables={"features": FEATURES_TABLE, "moments": MOMENTS_TABLE},
        reports={},
        libraries={"duckdb": duckdb.__version__, "numpy": np.__version__, "pyarrow": pa.__version__},
        seed=seed,
        sentences=describe(estimates),
    )
    documents.save(evidence, out / "leakage.json")
    return evidence


def _without_future(
    snapshot: Path,
    data: OpenDataset,
    contract: DatasetContract,
    requests: pa.Table,
    rows: Path,
    rankings: Path,
    features: Sequence[str],
    *,
    seed: int,
) -> Iterator[Compared]:
    """What is trained on and what is ranked, against what a log that ends earlier gives."""
    rng = np.random.default_rng(seed)
    bucket = requests["bucket"].to_numpy()
    watched = rankings / "features.parquet"
    held = pq.read_schema(watched).names
    columns = {rows: features, watched: [feature for feature in features if feature in held]}
    of_row = {path: read_columns(path, ("request",))["request"].to_numpy().astype(np.int64) for path in columns}
    cuts = [(cut.name, cut.bucket) for cut in data.manifest.cuts]
    since = -1
    for moment in moments_of(requests, cuts):
        chosen = {path: latest_requests(of_row[path], bucket, moment, since=since, rng=rng) for path in columns}
        since = moment.bucket
        asked = np.concatenate(list(chosen.values()))
        if not asked.size:
            continue
        with tables_as_of(snapshot, data, contract, moment=moment, asked=bucket[asked]) as tables:
            for path, numbers in chosen.items():
                if tables is not None and numbers.size:
                    part = _rows_of(path, numbers, ("request", "item", *columns[path]))
                    yield compare(tables, requests, part, moment=moment, name=path.stem)


def _on_training(
    path: Path, data: OpenDataset, requests: pa.Table, labels: pa.Table, features: tuple[str, ...], *, seed: int
) -> Measured | None:
    """Power on training rows, of a draw of requests where there are many; None without a row."""
    request = labels["request"].to_numpy().astype(np.int64)
    numbers = np.flatnonzero(pc.equal(requests["split"], "train").to_numpy(zero_copy_only=False))
    sizes = np.bincount(request, minlength=requests.num_rows)[numbers]
    drawn = np.random.default_rng(seed).permutation(numbers.size)
    kept = drawn[: max(int(np.searchsorted(np.cumsum(sizes[drawn]), _TRAINING_ROWS, side="right")), 1)]
    chosen = np.sort(numbers[kept])
    rows = _rows_of(path, chosen, ("request", "positive", *features))
    if not rows.num_rows:
        return None
    users = requests["user"].to_numpy().astype(np.int64)[rows["request"].to_numpy()]
    return _measured("train", rows, users, data, features, seed=seed)


def _on_test(
    ranked: Ranked, rankings: Path, data: OpenDataset, features: tuple[str, ...], *, seed: int
) -> Measured | None:
    """Power on the test rows that were ranked, beside that of every system on the same requests; None without a row."""
    path = rankings / "features.parquet"
    present = set(pq.read_schema(path).names)
    names = tuple(feature for feature in features if feature in present)
    rows = read_columns(path, ("split", "request", "user", "positive", *names))
    rows = rows.filter(pc.equal(rows["split"].cast(pa.string()), "test")).sort_by("request")
    if not rows.num_rows:
        return None
    found = _measured("test", rows, rows["user"].to_numpy().astype(np.int64), data, names, seed=seed)
    asked = ranked.requests("test")
    kept = np.isin(asked.request, np.unique(rows["request"].to_numpy()))
    systems = {}
    for system in ranked.systems:
        lists = ranked.rows(system, asked)
        inside = np.flatnonzero(kept[lists.place])
        inside = inside[np.argsort(lists.place[inside], kind="stable")]
        place = lists.place[inside]
        owner = np.searchsorted(found.users, asked.user[place])
        systems[system] = within_requests(
            lists.score[inside, None], lists.positive[inside], place, owner, users=found.users.size
        )[:, 0]
    return Measured(found.split, found.features, found.users, found.power, systems)


def _measured(
    split: str, rows: pa.Table, user: Ints, data: OpenDataset, features: tuple[str, ...], *, seed: int
) -> Measured:
    users, owner = np.unique(user, return_inverse=True)
    coded = {feature.name: feature.type == "category" for feature in data.manifest.features}
    power = single_powers(
        np.column_stack([rows[name].to_numpy() for name in features]),
        np.array([coded[name] for name in features]),
        rows["positive"].to_numpy(zero_copy_only=False),
        rows["request"].to_numpy().astype(np.int64),
        owner,
        users=users.size,
        seed=seed,
    )
    return Measured(split, features, users, power, {})


def _overlap(
    snapshot: Path, data: OpenDataset, contract: DatasetContract, requests: pa.Table, labels: pa.Table
) -> Iterator[Estimate]:
    users = data.manifest.users
    cuts = {cut.name: cut.ts for cut in data.manifest.cuts}
    held = labels.select(["request", "item"])
    if data.relevance.num_rows:
        held = pa.concat_tables([held, data.relevance.select(["request", "item"])])
    yield counted("overlap", "requests", shared_requests(requests), users)
    yield counted("overlap", "rows", shared_rows(requests, held), users)
    numbers = held["request"].to_numpy().astype(np.int64)
    for split, after in (("train", "validation"), ("validation", "test")):
        late = late_rows(requests, numbers, contract, cuts, split=split, next_split=after)
        yield counted("overlap", f"labels of {split}", late, users)
    yield counted("returning_users", "test", returning_users(requests), users, share=True)
    try:
        known = known_when(snapshot, contract)
    except duckdb.Error as error:
        raise EvidenceError(f"snapshot {snapshot.name}: cannot be read ({error}). Take it again.") from error
    yield counted("early_arrivals", "events", known.early_arrivals, users)
    yield counted("same_arrival_share", "events", known.same_arrivals, users, share=True)
    yield counted("early_outcome_share", "outcomes", known.early_outcomes, users, share=True)


def _rows_of(path: Path, numbers: Ints, columns: Sequence[str]) -> pa.Table:
    """Rows of some requests, ascending by request."""
    if missing := sorted(set(columns) - set(pq.read_schema(path).names)):
        raise EvidenceError(
            f"{path.name}: found no column {', '.join(missing)}; needed one for every feature of dataset.json. "
            "Run the step that makes it again."
        )
    wanted = pc.field("request").isin(pa.array(numbers, pa.int32()))
    try:
        return pq.read_table(path, columns=list(columns), filters=wanted).sort_by("request")
    except (OSError, pa.ArrowException) as error:
        raise EvidenceError(
            f"{path.name}: cannot be read as Parquet ({error}). Run the step that makes it again."
        ) from error


def _check_requests(requests: pa.Table, tables: Mapping[str, pa.Table]) -> None:
    """Refuse requests that are not numbered from 0, and rows of requests that there are not.

    Raises:
        FaultyInputError: Naming every table that is wrong.
    """
    faults = []
    if not np.array_equal(requests["request"].to_numpy(), np.arange(requests.num_rows)):
        faults.append(Fault("requests.parquet, request", "numbers that repeat or skip", "0, 1, 2, ..., one a request"))
    for name, table in tables.items():
        number = table["request"].to_numpy()
        if number.size and not 0 <= number.min() <= number.max() < requests.num_rows:
            found, needed = f"{number.min()} to {number.max()}", f"0 to {requests.num_rows - 1}, as in requests.parquet"
            faults.append(Fault(f"{name}, request", found, needed))
    if faults:
        raise FaultyInputError("leakage", faults)


def _users(requests: pa.Table, compared: Sequence[Compared]) -> int:
    asked = np.unique(np.concatenate([part.requests for part in compared] or [np.empty(0, np.int64)]))
    return int(np.unique(requests["user"].to_numpy()[asked]).size)


def _start(bucket: int, seconds: int) -> str:
    return datetime.fromtimestamp(bucket * seconds, UTC).isoformat()
