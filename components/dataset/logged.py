"""Requests of a log that says what was shown: the impressions that share a request_id, labelled by what followed.

A row's gain is the largest gain among the outcomes of the same user and item that followed the impression within the
attribution window. An outcome that names a request counts for that request only; one that names none counts for the latest
impression before it. A purchase implies its click, so gains are not added up.
"""

from __future__ import annotations

import duckdb
import pyarrow as pa

from components.dataset.features import outcomes_of
from components.dataset.requests import TIME, History, Requests, labelled, named_cuts, outcome_names, relevance_table
from components.dataset.split import Moment, TimeSplit
from components.errors import InputError
from components.events.columns import literal, quoted
from components.events.contract import DatasetContract

_REFIT_DAYS = 7
"""How often co-visitation is computed anew; requests in between see the last one."""


def logged_requests(
    connection: duckdb.DuckDBPyConnection,
    contract: DatasetContract,
    split: TimeSplit,
    history: History,
    *,
    complete_us: int,
    bucket_us: int,
) -> Requests:
    """Requests of every split, with a row for each item that was shown.

    Args:
        connection: Holds the table `ev` (`staging.stage`).
        contract: A contract of mode `logged`.
        split: Where the log is cut.
        history: Outcome events.
        complete_us: Moment up to which the log tells what happened, microseconds.
        bucket_us: Length of a bucket in microseconds.

    Raises:
        InputError: If a split has no request.
    """
    _stage(connection, contract, split, complete_us)
    context = [name for name, attribute in contract.attributes.events.items() if attribute.role == "context"]
    values = "".join(f", any_value(e.{quoted(name)} ORDER BY e.item) AS {quoted(name)}" for name in context)
    table = connection.sql(
        f"""
        SELECT r.request, r.request_id, r.user, make_timestamptz(r.ts) AS ts, r.ts // {bucket_us} AS bucket, r.split{values}
        FROM requests r JOIN ev e ON e.request_id = r.request_id AND e.impression
        GROUP BY ALL ORDER BY r.request
        """
    ).to_arrow_table()
    table = table.set_column(3, "ts", table["ts"].cast(TIME))
    place = {"train": 0, "validation": 1, "test": 2}
    cuts = pa.array([place[name] for name in table["split"].to_pylist()], pa.int32())
    table = table.add_column(6, "cut", cuts)
    rows = connection.sql("SELECT * FROM shown ORDER BY request, item").to_arrow_table()
    first = int(history.enter[0]) if len(history.enter) else split.validation.bucket
    start = Moment(0, (first - 1) * bucket_us, first - 1)
    step = _REFIT_DAYS * 86_400_000_000 // bucket_us
    weekly = range(start.bucket + step, split.release.bucket, step)
    return Requests(
        table=table,
        rows=labelled(rows, outcome_names(outcomes_of(contract))),
        relevance=relevance_table([], [], [], []),
        cuts=named_cuts([("start", start)], split),
        boundaries=tuple(sorted({*weekly, split.validation.bucket, split.test.bucket, split.release.bucket})),
    )


def _stage(
    connection: duckdb.DuckDBPyConnection, contract: DatasetContract, split: TimeSplit, complete_us: int
) -> None:
    """Make the tables `requests` and `shown` from `ev` of a logged contract.

    requests: request (0.. by split, ts, user), request_id, user, ts, split; shown: request, item, position, gain, and
    is_<outcome> for each.

    A training request whose label might not be complete before validation begins, less the gap, is left out; so are a
    validation request's before test begins and a test request's before the log ends.
    """
    attribution = round(contract.requests.attribution.total_seconds() * 1e6)
    gap = round(contract.split.gap.total_seconds() * 1e6)
    connection.execute(
        """
        CREATE TABLE asked AS
        SELECT request_id, any_value(user) AS user, min(ts) AS ts FROM ev WHERE impression GROUP BY request_id
        """
    )
    connection.execute(
        f"""
        CREATE TABLE requests AS
        WITH placed AS (
            SELECT *, CASE
                WHEN ts >= {split.test.ts} THEN CASE WHEN ts + {attribution} <= {complete_us} THEN 2 END
                WHEN ts >= {split.validation.ts} THEN CASE WHEN ts + {attribution} <= {split.test.ts} THEN 1 END
                WHEN ts + {attribution} <= {split.validation.ts - gap} THEN 0 END AS part
            FROM asked
        )
        SELECT (row_number() OVER (ORDER BY part, ts, user, request_id) - 1)::INTEGER AS request, request_id, user, ts,
            ['train', 'validation', 'test'][part + 1] AS split
        FROM placed WHERE part IS NOT NULL
        """
    )
    outcomes = sorted(name for name, kind in contract.events.items() if kind.role == "outcome" and kind.gain > 0)
    flags = "".join(
        f", coalesce(bool_or(won.event = {literal(name)}), false) AS {quoted(f'is_{name}')}" for name in outcomes
    )
    connection.execute(
        f"""
        CREATE TABLE shown AS
        WITH slots AS (
            SELECT r.request, r.request_id, ev.user, ev.item, ev.ts, ev.position
            FROM ev JOIN requests r USING (request_id) WHERE ev.impression
        ),
        named AS (
            SELECT s.request, s.item, o.event, o.gain
            FROM slots s JOIN ev o ON o.outcome AND o.request_id = s.request_id AND o.item = s.item AND o.user = s.user
                AND o.ts >= s.ts AND o.ts <= s.ts + {attribution}
        ),
        -- Among all impressions, also those of requests that are left out: what those led to belongs to no other.
        followed AS (
            SELECT item, event, gain, ts, outcome,
                last_value(CASE WHEN impression THEN request_id END IGNORE NULLS) OVER before AS request_id,
                last_value(CASE WHEN impression THEN ts END IGNORE NULLS) OVER before AS shown
            FROM ev WHERE impression OR (outcome AND request_id IS NULL)
            WINDOW before AS (PARTITION BY user, item ORDER BY ts, outcome, ev.request_id ROWS UNBOUNDED PRECEDING)
        ),
        nameless AS (
            SELECT r.request, f.item, f.event, f.gain FROM followed f JOIN requests r USING (request_id)
            WHERE f.outcome AND f.ts <= f.shown + {attribution}
        ),
        won AS (SELECT * FROM named UNION ALL SELECT * FROM nameless)
        SELECT slots.request, slots.item, least(coalesce(min(slots.position), 0), 32767)::SMALLINT AS position,
            coalesce(max(won.gain), 0)::FLOAT AS gain{flags}
        FROM slots LEFT JOIN won ON won.request = slots.request AND won.item = slots.item
        GROUP BY slots.request, slots.item
        """
    )
    held = dict(connection.sql("SELECT split, count(*) FROM requests GROUP BY split").fetchall())
    for name in ("train", "validation", "test"):
        if not held.get(name):
            raise InputError(
                f"dataset contract {contract.name}: found no {name} request whose attribution window of "
                f"{contract.requests.attribution} is complete; needed some. Shorten the window, or hold out more days."
            )
