"""Builds a dataset from a snapshot: stage, cut, label, look features up, write. The room's entry point."""

from __future__ import annotations

import tempfile
from datetime import datetime
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.artifacts import documents
from components.artifacts.digests import digest_tree
from components.artifacts.progress import Progress, silent
from components.dataset.checks import check_attributes, check_labels, check_names, check_outcomes
from components.dataset.contract import SCHEMA_VERSION, SPLITS, Dataset, Feature
from components.dataset.features import declare, impression_of, outcomes_of
from components.dataset.logged import logged_requests
from components.dataset.lookup import FeatureTables
from components.dataset.preparing import build_tables
from components.dataset.requests import TIME, History, Requests
from components.dataset.sampled import sampled_requests
from components.dataset.split import split_by_time
from components.dataset.staging import Coded, code, history_of, stage
from components.errors import Fault, FaultyInputError
from components.events.contract import DatasetContract, Snapshot

_COMPRESSION = "zstd"
_ROW_GROUP = 1 << 18
"""Rows whose features are in memory at once."""


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
    check_names(contract)
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
            check_outcomes(history, contract)
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
                # What was asked last has no label yet, be it that the log was exported then, or that it ends there.
                exported_us = round(datetime.fromisoformat(taken.as_of).timestamp() * 1e6)
                complete_us = min(exported_us, (last_us // bucket_us + 1) * bucket_us)
                made = logged_requests(
                    connection, contract, split, history, complete_us=complete_us, bucket_us=bucket_us
                )
            else:
                made = sampled_requests(contract, split, history, coded, seed=seed, bucket_us=bucket_us)
            check_labels(contract, made)
            features = declare(contract)
            check_attributes(coded, features, contract)
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
    _write_rows(out / "rows.parquet", made, FeatureTables.open(out / "tables"), contract)
    _write_tables(out, made, coded, history, contract)
    manifest = _manifest(contract, snapshot, made, features, coded, seconds=seconds, seed=seed)
    documents.save(manifest, out / "dataset.json")
    return manifest


def _write_rows(path: Path, made: Requests, tables: FeatureTables, contract: DatasetContract) -> None:
    """Write the rows with a column for each feature as of their request's bucket, a row group at a time.

    Raises:
        InputError: If a declared attribute is unknown on every training row.
    """
    context = [name for name, attribute in contract.attributes.events.items() if attribute.role == "context"]
    schema = pa.schema([*made.rows.schema, *(pa.field(name, pa.float32()) for name in tables.names)])
    empty = {place for place, feature in enumerate(tables.features) if feature.family == "attribute"}
    numbers = np.array([feature.type == "number" for feature in tables.features])
    with pq.ParquetWriter(path, schema, compression=_COMPRESSION) as writer:
        for begin in range(0, made.rows.num_rows, _ROW_GROUP):
            rows = made.rows.slice(begin, _ROW_GROUP)
            asked = made.table.take(rows["request"])
            matrix = tables.matrix(
                asked["user"].to_numpy(),
                rows["item"].to_numpy(),
                asked["bucket"].to_numpy(),
                {name: asked[name].to_pylist() for name in context},
            )
            training = asked["split"].to_numpy(zero_copy_only=False) == "train"
            known = (np.isfinite(matrix) & (numbers | (matrix >= 0)))[training].any(axis=0)
            empty -= {place for place in empty if known[place]}
            columns = [pa.array(np.ascontiguousarray(matrix[:, place])) for place in range(matrix.shape[1])]
            writer.write_table(
                pa.Table.from_arrays([*rows.columns, *columns], schema=schema), row_group_size=_ROW_GROUP
            )
    if empty:
        faults = [
            Fault(
                f"{feature.entity}s.{feature.attribute}",
                "no value on any training row",
                "some, because its role is feature",
                "Mend the column, or give it the role ignore.",
            )
            for place, feature in enumerate(tables.features)
            if place in empty
        ]
        raise FaultyInputError(f"dataset contract {contract.name}", faults)


def _manifest(
    contract: DatasetContract,
    snapshot: Path,
    made: Requests,
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


def _write_tables(out: Path, made: Requests, coded: Coded, history: History, contract: DatasetContract) -> None:
    tables = {"users": coded.users, "items": coded.items, "requests": made.table, "relevance": made.relevance}
    for name, table in tables.items():
        _write(out / f"{name}.parquet", table)
    write_history(history, contract, out)


def write_history(history: History, contract: DatasetContract, out: Path) -> None:
    """Write history.parquet as `contract.py` describes it."""
    names = pa.array(outcomes_of(contract), pa.string())
    table = pa.table(
        {
            "user": pa.array(history.users),
            "item": pa.array(history.items),
            "ts": pa.array(history.ts).cast(TIME),
            "bucket": pa.array(history.enter),
            "gain": pa.array(history.gains),
            "event": names.take(pa.array(history.events)),
        }
    )
    _write(out / "history.parquet", table)


def _write(path: Path, table: pa.Table) -> None:
    pq.write_table(table.combine_chunks(), path, compression=_COMPRESSION, row_group_size=_ROW_GROUP)
