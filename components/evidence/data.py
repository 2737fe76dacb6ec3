"""Evidence on the data itself: what was rejected and left out, how fresh and how large it is, what is missing from it.

Counts and shares over a log are known exactly; they carry no interval.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.artifacts import documents
from components.artifacts.digests import digest_tree
from components.dataset.contract import Dataset
from components.errors import EvidenceError
from components.events.contract import DatasetContract, Snapshot, TableCount
from components.evidence.contract import SCHEMA_VERSION, Estimate, Evidence
from components.evidence.estimates import exactly

_BOT_FACTOR = 20.0
"""A user this many times as active as the median active user is counted as a likely bot."""
_BOT_LEAST = 200
"""No one with fewer events counts as one, however quiet the others are."""
_RECENT_DAYS = 7

CONVENTIONS = {
    "rejected_share": "Rows in quarantine, by table, of rows read. Reasons are in the details and in quarantine.parquet.",
    "freshness_hours": "From the last event to the moment that the log is judged from (as_of).",
    "volume_ratio": f"Events a day in the last {_RECENT_DAYS} days, median, against the median day before them.",
    "unjoined_share": "Events whose user or item is in its table only because the event names it.",
    "late_share": "Events that arrived in a later bucket than they happened in.",
    "join_rate": "Outcomes that name a request which also shows an impression of their item; logged data only.",
    "bot_share": f"Events of users with more than {_BOT_FACTOR:g} times the median user's events, and over {_BOT_LEAST}.",
    "positive_share": "Rows with a positive label, or users with something relevant, of the split's rows or requests.",
}


def measure_data(snapshot: Path, dataset: Path, *, out: Path) -> Evidence:
    """Measure the snapshot and the split, and write data.json and data-days.parquet into `out`.

    Raises:
        InputError: If a manifest or table cannot be read.
    """
    taken = documents.load(Snapshot, snapshot / "snapshot.json")
    contract = documents.load(DatasetContract, snapshot / "contract.json")
    built = documents.load(Dataset, dataset / "dataset.json")
    connection = duckdb.connect()
    try:
        connection.execute("SET TimeZone = 'UTC'")
        for table in ("events", "users", "items"):
            path = str(snapshot / f"{table}.parquet").replace("'", "''")
            connection.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet('{path}')")  # noqa: S608
        estimates = (
            *_rows(taken),
            *_freshness(taken, contract),
            *_volume(connection, out),
            *_missing(connection, contract, taken),
            *_arrival(connection, contract),
            *_bots(connection),
            *_labels(built),
        )
    except duckdb.Error as error:
        raise EvidenceError(f"snapshot {snapshot.name}: cannot be read ({error}). Take it again.") from error
    finally:
        connection.close()
    evidence = Evidence(
        schema_version=SCHEMA_VERSION,
        question="data",
        estimates=estimates,
        conventions=CONVENTIONS,
        inputs={"snapshot": digest_tree(snapshot), "dataset": digest_tree(dataset)},
        tables={"days": "data-days.parquet"},
        reports={},
        libraries={"duckdb": duckdb.__version__, "pyarrow": pa.__version__},
        seed=0,
        sentences=tuple(_sentences(taken, estimates)),
    )
    documents.save(evidence, out / "data.json")
    return evidence


def _known(metric: str, value: float | None, subject: str, n: int, users: int = 0, /, **detail: float) -> Estimate:
    return exactly(value, metric=metric, subject=subject, n_users=users, n_requests=n, detail=detail)


def _rows(taken: Snapshot) -> Iterator[Estimate]:
    for table in taken.tables:
        rejected, excluded = sum(table.rejected.values()), sum(table.excluded.values())
        reasons = {f"rejected: {reason}": float(number) for reason, number in table.rejected.items()}
        grounds = {f"excluded: {reason}": float(number) for reason, number in table.excluded.items()}
        counts = {"rejected": float(rejected), "read": float(table.read)}
        yield _known("rejected_share", _ratio(rejected, table.read), table.table, table.read, **counts, **reasons)
        yield _known("excluded_share", _ratio(excluded, table.read), table.table, table.read, **grounds)


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _freshness(taken: Snapshot, contract: DatasetContract) -> Iterator[Estimate]:
    age = datetime.fromisoformat(taken.as_of) - datetime.fromisoformat(taken.last_ts)
    hours = age.total_seconds() / 3600
    events = sum(taken.event_counts.values())
    if contract.freshness is None:
        yield _known("freshness_hours", hours, "events", events)
        return
    bound = contract.freshness.total_seconds() / 3600
    yield _known("freshness_hours", hours, "events", events, contract_bound=bound)
    # Against the contract's own bound, so that one policy fits logs of any rhythm: 1 is just as old as allowed.
    yield _known("freshness_of_bound", hours / bound, "events", events, contract_bound_hours=bound)


def _volume(connection: duckdb.DuckDBPyConnection, out: Path) -> Iterator[Estimate]:
    days = connection.sql(
        "SELECT CAST(ts AS DATE) AS day, event, count(*) AS events, count(DISTINCT user_id) AS users "
        "FROM events GROUP BY ALL ORDER BY ALL"
    ).to_arrow_table()
    pq.write_table(days, out / "data-days.parquet", compression="zstd")
    totals = connection.sql(
        "SELECT count(*) AS events FROM events GROUP BY CAST(ts AS DATE) ORDER BY CAST(ts AS DATE)"
    ).fetchnumpy()["events"]
    # The first and the last day may be cut short by the export.
    whole = np.asarray(totals, dtype=np.float64)[1:-1]
    recent, before = whole[-_RECENT_DAYS:], whole[:-_RECENT_DAYS]
    value = float(np.median(recent) / np.median(before)) if len(before) and len(recent) else None
    yield _known("volume_ratio", value, "events", int(whole.sum()), days=float(len(whole)))


def _missing(connection: duckdb.DuckDBPyConnection, contract: DatasetContract, taken: Snapshot) -> Iterator[Estimate]:
    for table, number in (("users", taken.users), ("items", taken.items)):
        for name, attribute in getattr(contract.attributes, table).items():
            if attribute.role != "ignore":
                quoted = '"' + name.replace('"', '""') + '"'
                nulls = connection.sql(f"SELECT count(*) - count({quoted}) FROM {table}").fetchall()[0][0]  # noqa: S608
                yield _known("null_share", _ratio(nulls, number), f"{table}.{name}", number)
    total = sum(taken.event_counts.values())
    for table, key in (("users", "user_id"), ("items", "item_id")):
        names = [name for name, held in getattr(contract.attributes, table).items() if held.role != "ignore"]
        if not names or getattr(contract.tables, table) is None:
            continue
        empty = " AND ".join('"' + name.replace('"', '""') + '" IS NULL' for name in names)
        unjoined = connection.sql(
            f"SELECT count(*) FROM events WHERE {key} IN (SELECT {key} FROM {table} WHERE {empty})"  # noqa: S608
        ).fetchall()[0][0]
        yield _known("unjoined_share", _ratio(unjoined, total), table, total)


def _arrival(connection: duckdb.DuckDBPyConnection, contract: DatasetContract) -> Iterator[Estimate]:
    unit = contract.bucket
    late, total = connection.sql(
        f"SELECT count(*) FILTER (date_trunc('{unit}', ingested_at) > date_trunc('{unit}', ts)), count(*) FROM events"  # noqa: S608
    ).fetchall()[0]
    yield _known("late_share", _ratio(late, total), "events", total)
    impressions = [name for name, kind in contract.events.items() if kind.role == "impression"]
    if not impressions:
        return
    outcomes = [name for name, kind in contract.events.items() if kind.role == "outcome"]
    joined, named = connection.execute(
        """
        WITH shown AS (SELECT DISTINCT request_id, item_id FROM events WHERE event = $impression),
            won AS (
                SELECT request_id, item_id FROM events
                WHERE event IN (SELECT unnest($outcomes::VARCHAR[])) AND request_id IS NOT NULL
            )
        SELECT count(shown.request_id), count(*) FROM won LEFT JOIN shown USING (request_id, item_id)
        """,
        {"outcomes": outcomes, "impression": impressions[0]},
    ).fetchall()[0]
    yield _known("join_rate", _ratio(joined, named), "outcomes", named)


def _bots(connection: duckdb.DuckDBPyConnection) -> Iterator[Estimate]:
    counts = np.asarray(
        connection.sql("SELECT count(*) AS events FROM events GROUP BY user_id ORDER BY user_id").fetchnumpy()["events"]
    )
    if not len(counts):
        yield _known("bot_share", None, "events", 0)
        return
    bound = max(float(np.median(counts)) * _BOT_FACTOR, _BOT_LEAST)
    likely = counts > bound
    share = float(counts[likely].sum() / counts.sum())
    yield _known(
        "bot_share", share, "events", int(counts.sum()), len(counts), likely_bots=float(likely.sum()), bound=bound
    )


def _labels(built: Dataset) -> Iterator[Estimate]:
    for split, positives in built.positives.items():
        rows, requests = built.rows[split], built.requests[split]
        # Without recorded rows (a whole catalogue is ranked) there is no share of rows, only so many a request.
        yield _known(
            "positive_share", _ratio(positives, rows), split, requests, positives=float(positives), rows=float(rows)
        )
        yield _known("requests", float(requests), split, requests)


def _sentences(taken: Snapshot, estimates: tuple[Estimate, ...]) -> Iterator[str]:
    for table in taken.tables:
        yield _table_sentence(table)
    found = {(estimate.metric, estimate.subject): estimate for estimate in estimates}
    fresh = found["freshness_hours", "events"]
    if fresh.value is not None:
        bound = fresh.detail.get("contract_bound")
        promised = f"; the contract allows {bound:,.0f}" if bound is not None else ""
        yield f"The last event is {fresh.value:,.1f} hours older than the moment the log is judged from{promised}."
    volume = found["volume_ratio", "events"]
    if volume.value is not None:
        yield f"The last {_RECENT_DAYS} days hold {volume.value:.2f} times the events of a usual day before them."
    bots = found["bot_share", "events"]
    if bots.value:
        yield f"{bots.value:.1%} of the events are of {bots.detail['likely_bots']:.0f} users as active as a machine."


def _table_sentence(table: TableCount) -> str:
    rejected, excluded = sum(table.rejected.values()), sum(table.excluded.values())
    text = f"{table.kept:,} of {table.read:,} rows of {table.table} were kept"
    if rejected:
        most = max(table.rejected.items(), key=lambda item: (item[1], item[0]))
        text += f"; {rejected:,} are in quarantine (most often: {most[0]}, {most[1]:,})"
    if excluded:
        text += f"; {excluded:,} were left out lawfully ({', '.join(sorted(table.excluded))})"
    return text + "."
