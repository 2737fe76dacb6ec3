"""The data that a served ranker looks up, as of a later moment: staged, counted and laid out as for training, by the same code.

    snapshot of the newer tables + the approved data set  ->  users, items, history, tables/, dataset.json

Nothing is learnt and nothing labelled, so there are no requests and no rows. What the model was trained on stays as it was: the
feature list, and the texts behind its codes; a category that came later is unknown to it. Events of the bucket that is not over
yet are left out: a feature of training knows whole buckets only.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from components.artifacts import documents
from components.artifacts.digests import digest_json, digest_tree
from components.artifacts.progress import Progress, silent
from components.dataset.build import write_history
from components.dataset.checks import check_attributes, check_outcomes
from components.dataset.contract import Cut, Dataset, Feature
from components.dataset.features import declare, impression_of, outcomes_of
from components.dataset.preparing import build_tables
from components.dataset.staging import code, history_of, leave_out_after, stage
from components.errors import Fault, FaultyInputError, InputError
from components.events.contract import DatasetContract, Snapshot

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COMPRESSION = "zstd"


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What was made of the newer tables."""

    dataset: Dataset
    """With one cut, `release`."""
    events: int
    """That the tables know."""
    open_events: int
    """Left out: their bucket is not over yet."""
    events_until: str
    """Time of the latest event that is known, ISO 8601, UTC."""


def contract_digest(contract: DatasetContract) -> str:
    """sha256 of what a contract means: not where its tables lie and what they call their columns, whose it is, or as of when."""
    return digest_json(_meaning(contract))


def check_same_meaning(contract: DatasetContract, approved: DatasetContract) -> None:
    """Refuse a contract that means something else than the one a ranker was approved with.

    Raises:
        FaultyInputError: Names every key that differs.
    """
    found, needed = _meaning(contract), _meaning(approved)
    faults = [
        Fault(
            key,
            "another value than the run's contract has",
            "the same, because the model was trained on it",
            "Give the run's own contract over newer tables, or train again.",
        )
        for key in sorted(found.keys() | needed.keys())
        if found.get(key) != needed.get(key)
    ]
    if faults:
        raise FaultyInputError(f"dataset contract {contract.name}", faults)


def _meaning(contract: DatasetContract) -> dict[str, object]:
    value: dict[str, object] = documents.as_json(contract)
    return {key: held for key, held in value.items() if key not in ("tables", "owner", "description", "as_of")}


def closed_bucket(moment: datetime, bucket_seconds: int) -> int:
    """The newest bucket that has begun, and so may know all that came before it."""
    return int((moment - _EPOCH) // timedelta(seconds=bucket_seconds))


def refresh_dataset(
    snapshot: Path, *, approved: Dataset, texts: Mapping[str, Sequence[str]], out: Path, progress: Progress = silent
) -> Refreshed:
    """Write the users, items, history and bucket tables of a newer snapshot, as of the bucket that it was taken in.

    Args:
        snapshot: A snapshot directory.
        approved: The data set that the ranker was trained on.
        texts: Texts behind the codes of each category feature, as the ranker was trained.
        out: Empty folder.
        progress: Told what is being done.

    Raises:
        InputError: If no event, or no outcome, is known by then, or a declared feature has no value.
        FaultyInputError: If the snapshot is of another kind of data than the ranker was trained on.
    """
    taken = documents.load(Snapshot, snapshot / "snapshot.json")
    contract = documents.load(DatasetContract, snapshot / "contract.json")
    _check_alike(contract, approved)
    features = approved.features
    seconds = approved.bucket_seconds
    bucket = closed_bucket(datetime.fromisoformat(taken.as_of), seconds)
    with tempfile.TemporaryDirectory(prefix="rankgate-features-") as folder:
        connection = duckdb.connect(str(Path(folder) / "features.duckdb"))
        try:
            connection.execute("SET TimeZone = 'UTC'")
            progress("coding users, items and events")
            stage(connection, snapshot, contract, bucket_us=seconds * 1_000_000)
            open_events = leave_out_after(connection, bucket)
            events, until = connection.sql("SELECT count(*), max(ts) FROM ev").fetchall()[0]
            if not events:
                raise InputError(
                    f"tables of {contract.name}: found no event from before {_moment(bucket, seconds)}; needed some. "
                    "Give tables that hold the log's past too, not only what is new."
                )
            coded = code(
                connection, snapshot, contract, bucket_us=seconds * 1_000_000, texts=_by_attribute(features, texts)
            )
            history = history_of(connection, outcomes_of(contract))
            check_outcomes(history, contract)
            check_attributes(coded, features, contract)
            progress(f"counting {events:,} events by bucket".replace(",", " "))
            (out / "tables").mkdir()
            build_tables(
                connection,
                coded.entities,
                features=features,
                bucket_seconds=seconds,
                boundaries=(bucket,),
                outcomes=outcomes_of(contract),
                impression=impression_of(contract),
                context={feature.attribute: texts[feature.name] for feature in features if feature.family == "context"},
                users=coded.users.num_rows,
                out=out / "tables",
                latest_bucket=bucket,
            )
        finally:
            connection.close()
    _write(out / "users.parquet", coded.users)
    _write(out / "items.parquet", coded.items)
    write_history(history, contract, out)
    manifest = replace(
        approved,
        snapshot=digest_tree(snapshot),
        cuts=(Cut("release", _moment(bucket, seconds), bucket, len(history.ts)),),
        users=coded.users.num_rows,
        items=coded.items.num_rows,
        requests={},
        rows={},
        positives={},
    )
    documents.save(manifest, out / "dataset.json")
    return Refreshed(manifest, int(events), open_events, (_EPOCH + timedelta(microseconds=int(until))).isoformat())


def _moment(bucket: int, seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=bucket * seconds)).isoformat()


def _by_attribute(
    features: Sequence[Feature], texts: Mapping[str, Sequence[str]]
) -> dict[tuple[str, str], Sequence[str]]:
    return {
        (f"{feature.entity}s", feature.attribute): texts[feature.name]
        for feature in features
        if feature.family == "attribute" and feature.type == "category"
    }


def _check_alike(contract: DatasetContract, approved: Dataset) -> None:
    """Refuse data that the ranker's features would mean something else on."""
    found: dict[str, object] = {
        "name": contract.name,
        "requests.mode": contract.requests.mode,
        "bucket": 3_600 if contract.bucket == "hour" else 86_400,
        "outcomes": outcomes_of(contract),
        "context": tuple(name for name, held in contract.attributes.events.items() if held.role == "context"),
        "item.category": contract.item.category or "",
        "item.provider": contract.item.provider or "",
        "item.price": contract.item.price or "",
        "evaluation.exclude_seen": contract.evaluation.exclude_seen,
    }
    needed: dict[str, object] = {
        "name": approved.name,
        "requests.mode": approved.mode,
        "bucket": approved.bucket_seconds,
        "outcomes": approved.outcomes,
        "context": approved.context,
        "item.category": approved.category,
        "item.provider": approved.provider,
        "item.price": approved.price,
        "evaluation.exclude_seen": approved.exclude_seen,
    }
    faults = [
        Fault(key, repr(value), repr(needed[key]), "Train on the changed contract first.")
        for key, value in found.items()
        if value != needed[key]
    ]
    # How a feature is told in words may have become clearer since.
    declared, trained = _without_words(declare(contract)), _without_words(approved.features)
    if declared != trained:
        faults.append(_other_features(declared, trained))
    if faults:
        raise FaultyInputError(f"dataset contract {contract.name} against the data set of the ranker", faults)


def _without_words(features: Sequence[Feature]) -> tuple[Feature, ...]:
    return tuple(replace(feature, meaning="") for feature in features)


def _other_features(found: Sequence[Feature], needed: Sequence[Feature]) -> Fault:
    missing = [feature.name for feature in needed if feature not in found]
    further = [feature.name for feature in found if feature not in needed]
    parts = (
        *((f"without {', '.join(missing[:5])}",) if missing else ()),
        *((f"with {', '.join(further[:5])}",) if further else ()),
    )
    return Fault(
        "features",
        f"a list {' and '.join(parts)}" if parts else "the same features in another order",
        "the ranker's own list",
        "Publish with the rankgate that trained it, or train again.",
    )


def _write(path: Path, table: pa.Table) -> None:
    pq.write_table(table.combine_chunks(), path, compression=_COMPRESSION)
