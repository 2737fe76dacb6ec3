"""Features made again from a log that ends at a moment: what was known before must not change when the future is removed.

The snapshot's events are cut at a bucket's start, by when they happened and by when they arrived, and the dataset room's own
functions make bucket tables and features of what is left. Requests of that very bucket are the sharpest test: a feature that
looks ahead by one bucket, or into its own, knew something that is now gone. Earlier requests find those that look further.

Attributes of users and items are taken as the snapshot has them: it holds no earlier versions, so whether one was filled in
afterwards cannot be seen here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.dataset.features import impression_of, outcomes_of
from components.dataset.lookup import FeatureTables
from components.dataset.preparing import build_tables
from components.dataset.reading import OpenDataset
from components.dataset.staging import code, stage
from components.events.columns import literal
from components.events.contract import DatasetContract

Ints = NDArray[np.int64]
Matrix = NDArray[np.float32]

ROWS = 20_000
"""Most rows of a table that are made again at one moment: the latest, whole requests."""


@dataclass(frozen=True, slots=True)
class AsOf:
    """A moment at which the log is cut."""

    bucket: int
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """What one table holds against what was made again, at one moment."""

    moment: AsOf
    table: str
    features: tuple[str, ...]
    rows: int
    requests: Ints
    """Distinct requests that were made again."""
    changed: Ints
    """Rows whose value differs, shape (features,)."""
    largest: NDArray[np.float64]
    """Largest difference of two known numbers, shape (features,); 0 where none differs."""


def moments_of(requests: pa.Table, cuts: Sequence[tuple[str, int]]) -> tuple[AsOf, ...]:
    """The moments to cut at: where validation and test begin, and the busiest bucket of training and of test.

    At a cut few may have asked; in the busiest bucket many did, each of them a sharp test.

    Args:
        requests: The dataset's, with split and bucket.
        cuts: Name and bucket of each cut that history is known up to.

    Returns:
        Distinct moments in ascending order.
    """
    held = {"validation": "the validation cut", "test": "the test cut"}
    found = {bucket: held[name] for name, bucket in cuts if name in held}
    for split in ("train", "test"):
        buckets = requests.filter(pc.equal(requests["split"], split))["bucket"].to_numpy()
        if buckets.size:
            values, counts = np.unique(buckets, return_counts=True)
            found.setdefault(int(values[counts.argmax()]), f"the busiest bucket of {split}")
    return tuple(AsOf(bucket, name) for bucket, name in sorted(found.items()))


def latest_requests(of_row: Ints, bucket: Ints, moment: AsOf, *, since: int, rng: np.random.Generator) -> Ints:
    """The latest requests that a table has rows of and that were asked by the moment, ascending: at most `ROWS` rows together.

    Args:
        of_row: Request of each row of the table.
        bucket: Bucket of each request.
        moment: When the log ends.
        since: Only requests of later buckets: earlier ones were held against a log that ended there.
        rng: Chooses among the requests of one bucket where there are too many.
    """
    numbers, sizes = np.unique(of_row, return_counts=True)
    known = (bucket[numbers] > since) & (bucket[numbers] <= moment.bucket)
    numbers, sizes = numbers[known], sizes[known]
    order = np.lexsort((rng.permutation(numbers.size), -bucket[numbers]))
    return np.sort(numbers[order][: max(int(np.searchsorted(np.cumsum(sizes[order]), ROWS, side="right")), 1)])


def compare(tables: FeatureTables, asked: pa.Table, held: pa.Table, *, moment: AsOf, name: str) -> Compared:
    """Look the features of a table's rows up again, in tables that end at the moment, and compare them bit for bit.

    Args:
        tables: Bucket tables of the log cut at the moment.
        asked: Requests, ascending from 0: user, bucket and the context columns.
        held: Rows of requests that were asked by the moment: request, item and a float32 column a feature.
        moment: When the log ends.
        name: What to call the table.
    """
    request = held["request"].to_numpy().astype(np.int64)
    features = tuple(feature for feature in tables.names if feature in held.column_names)
    place = {feature: at for at, feature in enumerate(tables.names)}
    context = asked.select(list(tables.context_values)).take(pa.array(request))
    made = tables.matrix(
        asked["user"].to_numpy()[request],
        held["item"].to_numpy(),
        asked["bucket"].to_numpy()[request],
        {column: context[column].to_pylist() for column in context.column_names},
    )
    changed = np.zeros(len(features), dtype=np.int64)
    largest = np.full(len(features), np.nan)
    for at, feature in enumerate(features):
        there, again = held[feature].to_numpy().astype(np.float32), np.ascontiguousarray(made[:, place[feature]])
        differ = different(there, again)
        gaps = np.abs(there[differ].astype(np.float64) - again[differ])
        changed[at] = int(differ.sum())
        largest[at] = np.max(gaps[np.isfinite(gaps)], initial=0.0) if differ.any() else 0.0
    return Compared(moment, name, features, request.size, np.unique(request), changed, largest)


def different(one: Matrix, other: Matrix) -> NDArray[np.bool_]:
    """Where two float32 arrays differ in their bits; one missing number is like another."""
    differ: NDArray[np.bool_] = one.view(np.uint32) != other.view(np.uint32)
    return differ & ~(np.isnan(one) & np.isnan(other))


@contextmanager
def tables_as_of(
    snapshot: Path, data: OpenDataset, contract: DatasetContract, *, moment: AsOf, asked: Ints
) -> Iterator[FeatureTables | None]:
    """Bucket tables of what had happened and arrived before the moment; None where that is nothing.

    Args:
        snapshot: Snapshot directory.
        data: The dataset made of it.
        contract: The snapshot's.
        moment: Where the log ends.
        asked: Buckets that will be asked for: co-visitation is computed for those only.
    """
    manifest = data.manifest
    bucket_us = manifest.bucket_seconds * 1_000_000
    boundaries = np.array(data.features.boundaries, dtype=np.int64)
    place = np.unique(np.searchsorted(boundaries, asked, side="right") - 1)
    with tempfile.TemporaryDirectory(prefix="rankgate-leakage-") as folder:
        cut, tables = Path(folder) / "snapshot", Path(folder) / "tables"
        cut.mkdir()
        tables.mkdir()
        connection = duckdb.connect()
        try:
            connection.execute("SET TimeZone = 'UTC'")
            end = moment.bucket * bucket_us
            source, kept = (literal(str(place / "events.parquet")) for place in (snapshot, cut))
            before = f"epoch_us(ts) < {end} AND epoch_us(ingested_at) < {end}"
            connection.execute(f"COPY (SELECT * FROM read_parquet({source}) WHERE {before}) TO {kept}")  # noqa: S608
            if not pq.read_metadata(cut / "events.parquet").num_rows:
                yield None
                return
            for table in ("users", "items"):
                (cut / f"{table}.parquet").symlink_to((snapshot / f"{table}.parquet").resolve())
            stage(connection, cut, contract, bucket_us=bucket_us)
            coded = code(connection, cut, contract, bucket_us=bucket_us)
            build_tables(
                connection,
                coded.entities,
                features=manifest.features,
                bucket_seconds=manifest.bucket_seconds,
                boundaries=boundaries[place[place >= 0]].tolist(),
                outcomes=outcomes_of(contract),
                impression=impression_of(contract),
                # A code is a name, not knowledge: values that come later must not give the earlier ones other codes.
                context=data.features.context_values,
                users=coded.users.num_rows,
                out=tables,
            )
        finally:
            connection.close()
        yield FeatureTables.open(tables)
