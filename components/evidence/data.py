"""Evidence on the data itself: what was rejected and left out, how fresh and how large it is, what is missing from it.

Counts and shares over a log are known exactly; they carry no interval. What compares two windows is sampled, and has one.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.artifacts import documents
from components.artifacts.digests import digest_tree
from components.dataset.contract import SPLITS, Dataset
from components.errors import EvidenceError
from components.events.contract import DatasetContract, Snapshot, TableCount
from components.evidence.contract import SCHEMA_VERSION, Estimate, Evidence
from components.evidence.data_values import new_and_missing
from components.evidence.estimates import exactly
from components.evidence.quality_words import counted
from components.evidence.ranked import read_columns

_BUSY_SPREADS = 4.0
"""Robust standard deviations of log activity above its median from where on a user is a likely bot."""
_BUSY_LEAST = 200
"""No one with fewer events counts as one for being busy, however quiet the others are."""
_LEAST_ACTIVE_HOURS = 30
"""Fewer hours in which a user was seen do not show that they never sleep."""
_RECENT_DAYS = 7
_USUAL_LEAST = 50.0
"""A kind of event with fewer a day varies too much by chance to be compared day by day."""

DAYS_TABLE, SPLITS_TABLE = "data-days.parquet", "data-splits.parquet"

CONVENTIONS = {
    "rejected_share": "Rows in quarantine, by table, of rows read. Reasons are in the details and in quarantine.parquet.",
    "freshness_hours": "From the last event to the moment that the log is judged from (as_of).",
    "volume_ratio": f"Events a day in the last {_RECENT_DAYS} days, median, against the median day before them; days without "
    "any count, the first and the last day of the log do not. All together, and each kind of event of which a usual day has "
    f"{_USUAL_LEAST:g} and more.",
    "new_category_share": "Occurrences in test requests of a value that no training request had, of those with a value: "
    "contexts and users' attributes once a request, items' attributes once an item that was shown (sampled: relevant).",
    "null_share": "value: users or items whose attribute is unknown. difference: share of such occurrences without a value, "
    "test requests less training requests; its interval keeps a user's requests together.",
    "unjoined_share": "Events whose user or item its table does not name, as far as that shows: no attribute is known.",
    "late_share": "Events that arrived in a later bucket than they happened in.",
    "join_rate": "Outcomes that name a request which also shows an impression of their item; logged data only.",
    "bot_share": f"Events of users seen in at least {_LEAST_ACTIVE_HOURS} hours without two hours of the clock in a row in "
    f"which they never were, or more than {_BUSY_SPREADS:g} robust standard deviations busier than the median on a log scale "
    f"(and over {_BUSY_LEAST} events).",
    "window_hours": "From the first to the last request of a split; data-splits.parquet has the moments.",
    "positive_share": "Rows with a positive label, or users with something relevant, of the split's rows or requests.",
}


def measure_data(snapshot: Path, dataset: Path, *, out: Path) -> Evidence:
    """Measure the snapshot and the split, and write data.json and its tables into `out`.

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
            *new_and_missing(dataset, built),
            *_windows(dataset, out),
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
        tables={"days": DAYS_TABLE, "splits": SPLITS_TABLE},
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
    pq.write_table(days, out / DAYS_TABLE, compression="zstd")
    day = days["day"].cast(pa.int32()).to_numpy()
    kinds = days["event"].to_numpy(zero_copy_only=False)
    yield _daily("events", days["events"].to_numpy(), day, within=day)
    names = sorted(set(kinds.tolist()))
    for name in names if len(names) > 1 else []:
        of = kinds == name
        found = _daily(name, days["events"].to_numpy()[of], day[of], within=day)
        if found.detail.get("usual", 0.0) >= _USUAL_LEAST:
            yield found


def _daily(subject: str, events: NDArray[np.int64], day: NDArray[np.int32], *, within: NDArray[np.int32]) -> Estimate:
    """The volume ratio of events by day, over all days of the log."""
    # A day without a row is a day with no events, not a day less.
    totals: NDArray[np.float64] = np.zeros(0)
    if len(within):
        length = int(within.max() - within.min()) + 1
        totals = np.bincount(day - within.min(), events, minlength=length).astype(np.float64)
    # The first and the last day may be cut short by the export.
    whole = totals[1:-1]
    before = whole[:-_RECENT_DAYS]
    return _known(
        "volume_ratio",
        volume_ratio(whole),
        subject,
        int(whole.sum()),
        days=float(len(whole)),
        usual=float(np.median(before)) if len(before) else 0.0,
        empty_days=float((whole == 0).sum()),
        recent_empty_days=float((whole[-_RECENT_DAYS:] == 0).sum()),
    )


def volume_ratio(daily: NDArray[np.float64]) -> float | None:
    """Median of the last seven days against the median day before them; None where there is no usual day to compare with.

    Args:
        daily: Events of each day, in order, shape (days,); 0 for a day without any.
    """
    recent, before = daily[-_RECENT_DAYS:], daily[:-_RECENT_DAYS]
    usual = float(np.median(before)) if len(before) else 0.0
    return float(np.median(recent)) / usual if usual else None


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
        if taken.unjoined.get(table) == 0:
            # The events room has looked each of them up; a row whose attributes are all unknown is still a row.
            yield _known("unjoined_share", _ratio(0, total), table, total)
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
        WITH shown AS (
                SELECT DISTINCT request_id, item_id FROM events WHERE event IN (SELECT unnest($impressions::VARCHAR[]))
            ),
            won AS (
                SELECT request_id, item_id FROM events
                WHERE event IN (SELECT unnest($outcomes::VARCHAR[])) AND request_id IS NOT NULL
            )
        SELECT count(shown.request_id), count(*) FROM won LEFT JOIN shown USING (request_id, item_id)
        """,
        {"outcomes": outcomes, "impressions": impressions},
    ).fetchall()[0]
    yield _known("join_rate", _ratio(joined, named), "outcomes", named)


def _bots(connection: duckdb.DuckDBPyConnection) -> Iterator[Estimate]:
    users = connection.sql(
        """
        SELECT count(*) AS events, count(DISTINCT date_trunc('hour', ts)) AS active_hours,
            bit_or(1::INTEGER << extract('hour' FROM ts)::INTEGER) AS clock
        FROM events GROUP BY user_id ORDER BY user_id
        """
    ).fetchnumpy()
    events = np.asarray(users["events"], dtype=np.int64)
    if not len(events):
        yield _known("bot_share", None, "events", 0)
        return
    bound = busy_bound(events)
    tireless = never_rests(
        np.asarray(users["clock"], dtype=np.int64), np.asarray(users["active_hours"], dtype=np.int64)
    )
    busy = events > bound
    yield _known(
        "bot_share",
        float(events[tireless | busy].sum() / events.sum()),
        "events",
        int(events.sum()),
        len(events),
        likely_bots=float((tireless | busy).sum()),
        tireless=float(tireless.sum()),
        busy=float(busy.sum()),
        busy_bound=bound,
    )


def busy_bound(events: NDArray[np.int64]) -> float:
    """Events beyond which a user is far outside of how active the log's users are: on a logarithmic scale, because activity
    is skewed in every log and its honest heaviest users (a wholesaler) are many times the median.

    Args:
        events: Events of each user, shape (users,), each at least 1.
    """
    logs = np.log(events)
    middle = float(np.median(logs))
    spread = 1.4826 * float(np.median(np.abs(logs - middle)))
    return max(float(np.exp(middle + _BUSY_SPREADS * spread)), _BUSY_LEAST)


def never_rests(clock: NDArray[np.int64], active_hours: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Users who were seen around the clock: people sleep, at whatever hour.

    Args:
        clock: Bit h is set where a user was ever seen in hour h of the day, shape (users,).
        active_hours: Different hours of the log in which a user was seen, shape (users,); with few, gaps mean nothing.
    """
    unused = (clock[:, None] >> np.arange(24)) & 1 == 0
    rests = (unused & np.roll(unused, 1, axis=1)).any(axis=1)
    tireless: NDArray[np.bool_] = ~rests & (active_hours >= _LEAST_ACTIVE_HOURS)
    return tireless


def _labels(built: Dataset) -> Iterator[Estimate]:
    for split, positives in built.positives.items():
        rows, requests = built.rows[split], built.requests[split]
        # Without recorded rows (a whole catalogue is ranked) there is no share of rows, only so many a request.
        yield _known(
            "positive_share", _ratio(positives, rows), split, requests, positives=float(positives), rows=float(rows)
        )
        yield _known("requests", float(requests), split, requests)


def _windows(dataset: Path, out: Path) -> Iterator[Estimate]:
    """From when to when each split's requests are, and how much time lies between one split and the next."""
    requests = read_columns(dataset / "requests.parquet", ("ts", "split"))
    table = (
        pa.table({"split": requests["split"].cast(pa.string()), "ts": requests["ts"]})
        .group_by("split")
        .aggregate([("ts", "min"), ("ts", "max"), ("ts", "count")])
        .rename_columns({"ts_min": "first", "ts_max": "last", "ts_count": "requests"})
    )
    order = pa.array([SPLITS.index(split) for split in table["split"].to_pylist()])
    table = table.take(pc.sort_indices(order))
    pq.write_table(table, out / SPLITS_TABLE, compression="zstd")
    before: datetime | None = None
    for row in table.to_pylist():
        gap = {} if before is None else {"hours_after_the_split_before": (row["first"] - before).total_seconds() / 3600}
        hours = (row["last"] - row["first"]).total_seconds() / 3600
        yield _known("window_hours", hours, row["split"], row["requests"], **gap)
        before = row["last"]


def _sentences(taken: Snapshot, estimates: tuple[Estimate, ...]) -> Iterator[str]:
    for table in taken.tables:
        yield _table_sentence(table)
    found = {(e.metric, e.subject): e for e in estimates if e.statistic == "value"}
    fresh = found["freshness_hours", "events"]
    if fresh.value is not None:
        bound = fresh.detail.get("contract_bound")
        promised = f"; the contract allows {bound:,.0f}" if bound is not None else ""
        yield f"The last event is {fresh.value:,.1f} hours older than the moment the log is judged from{promised}."
    held_out = found.get(("window_hours", "test"))
    if held_out is not None and held_out.value is not None:
        span = f"span {held_out.value / 24:,.1f} days" if held_out.value else "are all of one moment"
        yield f"The {counted(held_out.n_requests, 'test request')} {span}."
    volume = found["volume_ratio", "events"]
    if volume.value is not None:
        yield f"The last {_RECENT_DAYS} days hold {volume.value:.2f} times the events of a usual day before them."
    lost = [e for (metric, subject), e in found.items() if metric == "volume_ratio" and subject != "events"]
    if lost and (least := min(lost, key=lambda e: e.value or 0.0)).value is not None:
        yield f"Of the kinds of event, {least.subject} holds up least: {least.value:.2f} times those of a usual day."
    yield from _changed(estimates)
    bots = found["bot_share", "events"]
    if bots.value:
        likely = counted(int(bots.detail["likely_bots"]), "user")
        yield f"{bots.value:.1%} of the events are of {likely} who may be machines ({bots.detail['tireless']:.0f} never rest)."


def _changed(estimates: tuple[Estimate, ...]) -> Iterator[str]:
    """What test requests hold that training did not know, and what they lack that it had."""
    new = [e for e in estimates if e.metric == "new_category_share" and e.value is not None]
    if new:
        most = max(new, key=lambda e: e.value or 0.0)
        yield (
            f"{most.value:.1%} of the test requests' values of {most.subject} were never seen in training, the most of "
            f"{counted(len(new), 'attribute')}."
            if most.value
            else f"No value of {counted(len(new), 'attribute')} is new in the test requests."
        )
    nulls = [e for e in estimates if (e.metric, e.statistic) == ("null_share", "difference") and e.value is not None]
    if nulls:
        most = max(nulls, key=lambda e: abs(e.value or 0.0))
        yield (
            f"{most.subject} is unknown for {most.detail['test']:.1%} in test against {most.detail['train']:.1%} in training, "
            "the largest change of what is missing."
        )


def _table_sentence(table: TableCount) -> str:
    rejected, excluded = sum(table.rejected.values()), sum(table.excluded.values())
    text = f"{table.kept:,} of {table.read:,} rows of {table.table} were kept"
    if rejected:
        most = max(table.rejected.items(), key=lambda item: (item[1], item[0]))
        text += f"; {rejected:,} are in quarantine (most often: {most[0]}, {most[1]:,})"
    if excluded:
        text += f"; {excluded:,} were left out lawfully ({', '.join(sorted(table.excluded))})"
    return text + "."
