"""Builds a dataset from a snapshot: stage, cut, label, look features up, write. The room's entry point."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
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
from components.dataset.contract import SCHEMA_VERSION, SPLITS, Cut, Dataset, Feature
from components.dataset.features import declare, impression_of, outcomes_of
from components.dataset.lookup import FeatureTables
from components.dataset.negatives import sample_negatives
from components.dataset.requests import (
    History,
    Pairs,
    outcome_names,
    sampled_cuts,
    stage_logged,
    taken_after,
)
from components.dataset.split import Moment, TimeSplit, moment_at, split_by_time
from components.dataset.staging import Coded, code, history_of, stage
from components.dataset.tables import build_tables
from components.errors import InputError
from components.events.contract import DatasetContract, Snapshot

_TIME = pa.timestamp("us", tz="UTC")
_REFIT_DAYS = 7
"""How often co-visitation is computed anew in a logged data set; requests in between see the last one."""


@dataclass(frozen=True, slots=True)
class _Requests:
    """Requests in their order, and the rows recorded for them."""

    table: pa.Table
    rows: pa.Table
    """request, item, position, gain, weight, positive, is_<outcome>: without features."""
    relevance: pa.Table
    cuts: tuple[Cut, ...]
    boundaries: tuple[int, ...]


def build_dataset(snapshot: Path, *, out: Path, seed: int, progress: Progress = silent) -> Dataset:
    """Build the dataset of a snapshot into `out`, as `contract.py` describes.

    Args:
        snapshot: A snapshot directory.
        out: Empty folder.
        seed: Seed of the sampled negatives.
        progress: Told what is being done.

    Raises:
        InputError: If the log is too short for its splits, a split has no request or no positive label, all labels are
            alike, or a declared feature has no value.
    """
    taken = documents.load(Snapshot, snapshot / "snapshot.json")
    contract = documents.load(DatasetContract, snapshot / "contract.json")
    seconds = 3_600 if contract.bucket == "hour" else 86_400
    bucket_us = seconds * 1_000_000
    with tempfile.TemporaryDirectory(prefix="rankgate-dataset-") as folder:
        connection = duckdb.connect(str(Path(folder) / "dataset.duckdb"))
        try:
            connection.execute("SET TimeZone = 'UTC'")
            progress("coding users, items and events")
            stage(connection, snapshot, contract, bucket_us=bucket_us)
            coded = code(connection, snapshot, contract, bucket_us=bucket_us)
            history = history_of(connection, outcomes_of(contract))
            first_us, last_us, latest = connection.sql("SELECT min(ts), max(ts), max(enter) FROM ev").fetchall()[0]
            split = split_by_time(
                history.ts,
                history.enter,
                first_us=first_us,
                last_us=last_us,
                latest_bucket=latest,
                contract=contract,
                bucket_us=bucket_us,
            )
            progress("making requests and labels")
            if contract.requests.mode == "logged":
                made = _logged(connection, contract, split, history, taken, bucket_us)
            else:
                made = _sampled(contract, split, history, coded, seed=seed, bucket_us=bucket_us)
            features = declare(contract)
            _check_attributes(coded, features, contract)
            progress("counting events by bucket")
            (out / "tables").mkdir()
            build_tables(
                connection,
                coded.entities,
                features=features,
                bucket_seconds=seconds,
                boundaries=made.boundaries,
                outcomes=outcomes_of(contract),
                impression=impression_of(contract),
                context=coded.context,
                users=coded.users.num_rows,
                out=out / "tables",
            )
        finally:
            connection.close()
    progress(f"looking up {len(features)} features of {made.rows.num_rows:,} rows")
    rows = _with_features(made, FeatureTables.open(out / "tables"), contract)
    _check_labels(contract, made)
    manifest = _manifest(contract, snapshot, made, features, coded, seconds=seconds, seed=seed)
    progress("writing")
    _write(out, made, rows, coded, history, contract)
    documents.save(manifest, out / "dataset.json")
    return manifest


def _logged(
    connection: duckdb.DuckDBPyConnection,
    contract: DatasetContract,
    split: TimeSplit,
    history: History,
    taken: Snapshot,
    bucket_us: int,
) -> _Requests:
    as_of_us = round(datetime.fromisoformat(taken.as_of).timestamp() * 1e6)
    stage_logged(connection, contract, split, as_of_us)
    context = [name for name, attribute in contract.attributes.events.items() if attribute.role == "context"]
    values = "".join(f', any_value(e."{name}" ORDER BY e.item) AS "{name}"' for name in context)
    table = connection.sql(
        f"""
        SELECT r.request, r.request_id, r.user, make_timestamptz(r.ts) AS ts, r.ts // {bucket_us} AS bucket, r.split{values}
        FROM requests r JOIN ev e ON e.request_id = r.request_id AND e.impression
        GROUP BY ALL ORDER BY r.request
        """
    ).to_arrow_table()
    table = table.set_column(3, "ts", table["ts"].cast(_TIME))
    place = {"train": 0, "validation": 1, "test": 2}
    cuts = pa.array([place[name] for name in table["split"].to_pylist()], pa.int32())
    table = table.add_column(6, "cut", cuts)
    rows = connection.sql("SELECT * FROM shown ORDER BY request, item").to_arrow_table()
    first = int(history.enter[0]) if len(history.enter) else split.validation.bucket
    start = Moment(0, (first - 1) * bucket_us, first - 1)
    step = _REFIT_DAYS * 86_400_000_000 // bucket_us
    weekly = range(start.bucket + step, split.release.bucket, step)
    return _Requests(
        table=table,
        rows=_labelled(rows, outcome_names(outcomes_of(contract))),
        relevance=_relevance_table([], [], [], []),
        cuts=_cuts([("start", start)], split),
        boundaries=tuple(sorted({*weekly, split.validation.bucket, split.test.bucket, split.release.bucket})),
    )


def _sampled(
    contract: DatasetContract, split: TimeSplit, history: History, coded: Coded, *, seed: int, bucket_us: int
) -> _Requests:
    """Requests of every cut; rows for training, relevance for validation and test."""
    horizon = round(contract.requests.horizon.total_seconds() * 1e6)
    exclude_seen = contract.evaluation.exclude_seen
    outcomes = outcomes_of(contract)
    n_items = coded.items.num_rows
    training = sampled_cuts(contract, split, history, bucket_us)
    ends = [moment_at(history.enter, (cut.ts + horizon) // bucket_us, bucket_us) for cut in training]
    windows = [*zip(training, ends, strict=True), (split.validation, split.test), (split.test, split.release)]
    requests: list[pa.Table] = []
    rows: list[pa.Table] = []
    relevance: list[pa.Table] = []
    count = 0
    for number, (cut, end) in enumerate(windows):
        pairs = taken_after(history, cut, end, exclude_seen=exclude_seen, outcomes=len(outcomes), n_items=n_items)
        # An item can be recommended once somebody has taken it, or the team says that it is there.
        available = _available(coded, history, cut)
        name = "train" if number < len(training) else SPLITS[number - len(training) + 1]
        users = np.unique(pairs.users)
        asked = (np.searchsorted(users, pairs.users) + count).astype(np.int32)
        requests.append(_asked(users, cut, number, name, coded, count))
        if name == "train":
            negatives = sample_negatives(
                pairs,
                history,
                cut,
                available=available,
                per_user=contract.requests.negatives,
                exclude_seen=exclude_seen,
                rng=np.random.default_rng([seed, number]),
            )
            rows.append(_training_rows(pairs, asked, negatives, users, count, outcomes))
        else:
            relevance.append(_relevance_table(asked, pairs.items, pairs.gains, available[pairs.items]))
        count += len(users)
    table = pa.concat_tables(requests)
    context = [name for name, attribute in contract.attributes.events.items() if attribute.role == "context"]
    for column in context:
        table = table.append_column(column, pa.nulls(table.num_rows, pa.string()))
    return _Requests(
        table=table,
        rows=pa.concat_tables(rows),
        relevance=pa.concat_tables(relevance),
        cuts=_cuts([(f"train-{number}", cut) for number, cut in enumerate(training, start=1)], split),
        boundaries=tuple(sorted({cut.bucket for cut, _ in windows} | {split.release.bucket})),
    )


def _available(coded: Coded, history: History, cut: Moment) -> NDArray[np.bool_]:
    known = np.zeros(coded.items.num_rows, dtype=bool)
    known[history.items[: cut.rows]] = True
    return known | (coded.entities.item_available < cut.bucket)


def _asked(users: NDArray[np.int32], cut: Moment, number: int, split: str, coded: Coded, count: int) -> pa.Table:
    names = coded.users["user_id"].take(pa.array(users))
    n = len(users)
    return pa.table(
        {
            "request": pa.array(np.arange(count, count + n, dtype=np.int32)),
            "request_id": pc.binary_join_element_wise(names.combine_chunks(), pa.array([f"cut-{number}"] * n), "@"),
            "user": pa.array(users),
            "ts": pa.array(np.full(n, cut.ts), pa.int64()).cast(_TIME),
            "bucket": pa.array(np.full(n, cut.bucket), pa.int64()),
            "split": pa.array([split] * n, pa.string()),
            "cut": pa.array(np.full(n, number), pa.int32()),
        }
    )


def _training_rows(
    pairs: Pairs,
    asked: NDArray[np.int32],
    negatives: tuple[NDArray[np.int32], NDArray[np.int32]],
    users: NDArray[np.int32],
    count: int,
    outcomes: tuple[str, ...],
) -> pa.Table:
    negative_users, negative_items = negatives
    requests = np.concatenate([asked, (np.searchsorted(users, negative_users) + count).astype(np.int32)])
    items = np.concatenate([pairs.items, negative_items])
    order = np.lexsort((items, requests))
    gains = np.concatenate([pairs.gains, np.zeros(len(negative_items), np.float32)])[order]
    happened = np.concatenate([pairs.outcomes, np.zeros((len(negative_items), len(outcomes)), bool)])[order]
    columns = {
        "request": pa.array(requests[order]),
        "item": pa.array(items[order]),
        "position": pa.array(np.zeros(len(order), np.int16)),
        "gain": pa.array(gains),
    }
    for place, name in enumerate(outcome_names(outcomes)):
        columns[name] = pa.array(happened[:, place])
    return _labelled(pa.table(columns), outcome_names(outcomes))


def _labelled(rows: pa.Table, names: list[str]) -> pa.Table:
    gain = rows["gain"].cast(pa.float32())
    columns = {
        "request": rows["request"].cast(pa.int32()),
        "item": rows["item"].cast(pa.int32()),
        "position": rows["position"].cast(pa.int16()),
        "gain": gain,
        "weight": pa.array(np.ones(rows.num_rows, np.float32)),
        "positive": pc.greater(gain, 0),
    }
    return pa.table(columns | {name: rows[name] for name in names})


def _relevance_table(requests: object, items: object, gains: object, eligible: object) -> pa.Table:
    return pa.table(
        {
            "request": pa.array(requests, pa.int32()),
            "item": pa.array(items, pa.int32()),
            "gain": pa.array(gains, pa.float32()),
            "eligible": pa.array(eligible, pa.bool_()),
        }
    )


def _cuts(training: list[tuple[str, Moment]], split: TimeSplit) -> tuple[Cut, ...]:
    named = [*training, ("validation", split.validation), ("test", split.test), ("release", split.release)]
    return tuple(
        Cut(name, datetime.fromtimestamp(cut.ts / 1e6, UTC).isoformat(), cut.bucket, cut.rows) for name, cut in named
    )


def _with_features(made: _Requests, tables: FeatureTables, contract: DatasetContract) -> pa.Table:
    """The rows with a column for each feature, as of their request's bucket."""
    request = made.rows["request"].to_numpy()
    of_request = made.table.take(made.rows["request"])
    context = {
        name: of_request[name].to_pylist()
        for name, attribute in contract.attributes.events.items()
        if attribute.role == "context"
    }
    matrix = tables.matrix(
        of_request["user"].to_numpy(), made.rows["item"].to_numpy(), of_request["bucket"].to_numpy(), context
    )
    table = made.rows
    training = made.table["split"].to_numpy(zero_copy_only=False)[request] == "train"
    for place, feature in enumerate(tables.features):
        column = np.ascontiguousarray(matrix[:, place])
        if feature.family == "attribute" and np.isnan(column[training]).all():
            raise InputError(
                f"dataset contract {contract.name}: feature {feature.name} has no value on any training row; needed some. "
                f"Mend the column {feature.attribute}, or give it the role ignore."
            )
        table = table.append_column(feature.name, pa.array(column))
    return table


def _check_attributes(coded: Coded, features: tuple[Feature, ...], contract: DatasetContract) -> None:
    """Refuse a declared feature that nobody and nothing has."""
    for feature in features:
        if feature.family != "attribute":
            continue
        table = coded.users if feature.entity == "user" else coded.items
        column = table[feature.attribute]
        if column.null_count == len(column) or (
            feature.type == "number" and pc.all(pc.is_nan(column.drop_null())).as_py()
        ):
            raise InputError(
                f"dataset contract {contract.name}: attribute {feature.attribute} of {feature.entity}s is empty in every "
                "row; needed some values, because its role is feature. Mend the column, or give it the role ignore."
            )


def _check_labels(contract: DatasetContract, made: _Requests) -> None:
    """Refuse a split whose labels are all alike: nothing could be learnt from it, or measured on it."""
    split = made.table["split"].to_numpy(zero_copy_only=False)
    of_row = split[made.rows["request"].to_numpy()]
    positive = made.rows["positive"].to_numpy(zero_copy_only=False)
    relevant = split[made.relevance["request"].to_numpy()] if made.relevance.num_rows else np.empty(0, object)
    for name in SPLITS:
        labels = positive[of_row == name]
        found = bool(labels.any()) or bool((relevant == name).any())
        if not found:
            raise InputError(
                f"dataset contract {contract.name}: found no positive label in the {name} requests; needed both kinds. "
                "Check that outcomes name the items that were shown, and that attribution or horizon is long enough."
            )
        if len(labels) and labels.all():
            raise InputError(
                f"dataset contract {contract.name}: found only positive labels in the {name} requests; needed both kinds. "
                "Check that impressions are logged for what was not taken, too."
            )


def _manifest(
    contract: DatasetContract,
    snapshot: Path,
    made: _Requests,
    features: tuple[Feature, ...],
    coded: Coded,
    *,
    seconds: int,
    seed: int,
) -> Dataset:
    users = contract.attributes.users
    split = made.table["split"].to_numpy(zero_copy_only=False)
    of_row = split[made.rows["request"].to_numpy()]
    positive = made.rows["positive"].to_numpy(zero_copy_only=False)
    relevant = split[made.relevance["request"].to_numpy()] if made.relevance.num_rows else np.empty(0, object)
    crossed = {tuple(sorted((name, other))) for name, attribute in users.items() for other in attribute.intersect}
    return Dataset(
        schema_version=SCHEMA_VERSION,
        snapshot=digest_tree(snapshot),
        name=contract.name,
        mode=contract.requests.mode,
        bucket_seconds=seconds,
        features=features,
        cuts=made.cuts,
        outcomes=outcomes_of(contract),
        context=tuple(name for name, held in contract.attributes.events.items() if held.role == "context"),
        segments=tuple(name for name, held in users.items() if held.role == "segment"),
        sensitive=tuple(name for name, held in users.items() if held.role == "sensitive"),
        intersections=tuple(sorted(crossed)),
        category=contract.item.category or "",
        provider=contract.item.provider or "",
        price=contract.item.price or "",
        cutoffs=contract.evaluation.cutoffs,
        exclude_seen=contract.evaluation.exclude_seen,
        users=coded.users.num_rows,
        items=coded.items.num_rows,
        requests={name: int((split == name).sum()) for name in SPLITS},
        rows={name: int((of_row == name).sum()) for name in SPLITS},
        positives={name: int(positive[of_row == name].sum()) + int((relevant == name).sum()) for name in SPLITS},
        seed=seed,
    )


def _write(
    out: Path, made: _Requests, rows: pa.Table, coded: Coded, history: History, contract: DatasetContract
) -> None:
    names = pa.array(outcomes_of(contract), pa.string())
    tables = {
        "users": coded.users,
        "items": coded.items,
        "requests": made.table,
        "rows": rows,
        "relevance": made.relevance,
        "history": pa.table(
            {
                "user": pa.array(history.users),
                "item": pa.array(history.items),
                "ts": pa.array(history.ts).cast(_TIME),
                "bucket": pa.array(history.enter),
                "gain": pa.array(history.gains),
                "event": names.take(pa.array(history.events)),
            }
        ),
    }
    for name, table in tables.items():
        pq.write_table(table.combine_chunks(), out / f"{name}.parquet", compression="zstd", row_group_size=1 << 18)
