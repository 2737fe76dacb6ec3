"""Sorts rows into kept, excluded (consent, retention: lawful) and rejected (faulty), each with one reason, in SQL.

Nobody who refused consent leaves a trace: exclusion comes before rejection, because rejected rows are kept in quarantine.
Among faulty rows the first reason in the order below is the one that is told.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import duckdb

from components.events.columns import (
    ROW,
    SOURCE,
    Column,
    context_of,
    entity_columns,
    event_columns,
    literal,
    quoted,
    read_as,
    types_of,
)
from components.events.contract import DatasetContract, TableCount

# Reasons of the events table, in the order in which they are looked for.
NO_USER, NO_ITEM = "user_id missing", "item_id missing"
NO_TIME, BAD_TIME, TOO_EARLY, FUTURE = "ts missing", "ts unreadable", "ts not after 1970-01-01", "ts in the future"
UNKNOWN_EVENT = "event unknown"
BAD_POSITION, BAD_VALUE = "position not 1 or more", "value not finite"
NO_VALUE, NEGATIVE_VALUE = "value missing", "value negative"
BAD_ARRIVAL, FUTURE_ARRIVAL = "ingested_at unreadable", "ingested_at in the future"
NO_REQUEST = "impression without request_id"
DUPLICATE, SEVERAL_USERS, DUPLICATE_REQUEST = "duplicate row", "request of several users", "duplicate request row"
# Of the users and items tables, beside a missing id and "<attribute> not a number" or "not a time".
REPEATED_ID = "id repeated"

NO_CONSENT, BEYOND_RETENTION, IGNORED_EVENT = "no consent", "beyond retention", "event ignored"

KEPT = "_excluded IS NULL AND _rejected IS NULL"

_OWN = ("ts", "user_id", "item_id", "event", "request_id", "position", "value", "ingested_at")


def canonical_columns(contract: DatasetContract) -> list[str]:
    """Columns of the canonical events in the order they are sorted by."""
    return [*_OWN, *context_of(contract)]


def stage_events(connection: duckdb.DuckDBPyConnection, contract: DatasetContract, as_of: datetime) -> None:
    """Make the table `staged_events`: our columns, SOURCE, ROW, `_excluded` and `_rejected` (null where neither)."""
    types = types_of(connection, "source_events")
    columns = event_columns(contract)
    reads = [f"{read_as(column, types)} AS {quoted(column.name)}" for column in columns]
    given = {column.name: quoted(column.source) for column in columns if column.source in types}
    moment = f"TIMESTAMPTZ {literal(as_of.isoformat())}"
    connection.execute(
        f"""
        CREATE TABLE staged_events AS
        WITH read AS (
            SELECT {", ".join(reads)}, {SOURCE}, {ROW},
                {_was_given("ts", given)} AS _ts_given, {_was_given("position", given)} AS _position_given,
                {_was_given("value", given)} AS _value_given, {_was_given("ingested_at", given)} AS _arrival_given
            FROM source_events
        )
        SELECT * EXCLUDE (_ts_given, _position_given, _value_given, _arrival_given, ingested_at),
            -- Clocks disagree by a little: an arrival before the event counts as at the event, since nothing is known
            -- before it happened.
            greatest(ts, coalesce(ingested_at, ts)) AS ingested_at,
            {_excluded(contract, moment)} AS _excluded,
            {_rejected(contract, moment)} AS _rejected
        FROM read
        """
    )
    _reject_repeats(connection, contract)


def _was_given(name: str, given: dict[str, str]) -> str:
    return f"({given[name]} IS NOT NULL AND {given[name]}::VARCHAR <> '')" if name in given else "false"


def _excluded(contract: DatasetContract, moment: str) -> str:
    cases = []
    if contract.consent:
        allowed = ", ".join(literal(value.lower()) for value in contract.consent.values)
        if contract.consent.table == "events":
            cases.append(f"WHEN _consent IS NULL OR lower(_consent) NOT IN ({allowed}) THEN {literal(NO_CONSENT)}")
        else:
            # A user who is not in the table has not agreed either.
            cases.append(
                "WHEN user_id IS NOT NULL AND user_id NOT IN (SELECT user_id FROM consenting_users) "
                f"THEN {literal(NO_CONSENT)}"
            )
    if contract.retention:
        seconds = contract.retention.total_seconds()
        cases.append(f"WHEN ts < {moment} - to_microseconds({round(seconds * 1e6)}) THEN {literal(BEYOND_RETENTION)}")
    ignored = [literal(name) for name, kind in contract.events.items() if kind.role == "ignore"]
    if ignored:
        cases.append(f"WHEN event IN ({', '.join(ignored)}) THEN {literal(IGNORED_EVENT)}")
    return f"CASE {' '.join(cases)} END" if cases else "NULL::VARCHAR"


def _rejected(contract: DatasetContract, moment: str) -> str:
    known = ", ".join(literal(name) for name in contract.events)
    impressions = [literal(name) for name, kind in contract.events.items() if kind.role == "impression"]
    cases = [
        "WHEN reject_reason IS NOT NULL THEN reject_reason",
        f"WHEN user_id IS NULL THEN {literal(NO_USER)}",
        f"WHEN item_id IS NULL THEN {literal(NO_ITEM)}",
        f"WHEN ts IS NULL AND NOT _ts_given THEN {literal(NO_TIME)}",
        f"WHEN ts IS NULL OR NOT isfinite(ts) THEN {literal(BAD_TIME)}",
        f"WHEN ts <= TIMESTAMPTZ '1970-01-01 00:00:00+00' THEN {literal(TOO_EARLY)}",
        f"WHEN event IS NULL OR event NOT IN ({known}) THEN {literal(UNKNOWN_EVENT)}",
        f"WHEN ts > {moment} THEN {literal(FUTURE)}",
        f"WHEN position < 1 OR (position IS NULL AND _position_given) THEN {literal(BAD_POSITION)}",
        f"WHEN (value IS NULL AND _value_given) OR NOT isfinite(value) THEN {literal(BAD_VALUE)}",
        f"WHEN (ingested_at IS NULL AND _arrival_given) OR NOT isfinite(ingested_at) THEN {literal(BAD_ARRIVAL)}",
        f"WHEN ingested_at > {moment} THEN {literal(FUTURE_ARRIVAL)}",
    ]
    if counted := ", ".join(literal(name) for name, kind in contract.events.items() if kind.per_value):
        # Their gain is in proportion to the value, so it must have one, and a gain is never below 0.
        cases.append(f"WHEN event IN ({counted}) AND value IS NULL THEN {literal(NO_VALUE)}")
        cases.append(f"WHEN event IN ({counted}) AND value < 0 THEN {literal(NEGATIVE_VALUE)}")
    if contract.requests.mode == "logged" and impressions:
        cases.append(f"WHEN event IN ({', '.join(impressions)}) AND request_id IS NULL THEN {literal(NO_REQUEST)}")
    return f"CASE {' '.join(cases)} END"


def _reject_repeats(connection: duckdb.DuckDBPyConnection, contract: DatasetContract) -> None:
    """Mark what repeats or contradicts rows that are kept. Which of equal rows stays cannot be seen in the result."""
    columns = ", ".join(quoted(name) for name in canonical_columns(contract))
    connection.execute(
        f"""
        UPDATE staged_events SET _rejected = {literal(DUPLICATE)}
        FROM (
            SELECT rowid AS repeated FROM staged_events WHERE {KEPT}
            QUALIFY row_number() OVER (PARTITION BY {columns} ORDER BY {SOURCE}, {ROW}) > 1
        ) WHERE staged_events.rowid = repeated
        """
    )
    # Nobody can tell whose request it was, so none of its rows is kept.
    connection.execute(
        f"""
        UPDATE staged_events SET _rejected = {literal(SEVERAL_USERS)}
        WHERE {KEPT} AND request_id IN (
            SELECT request_id FROM staged_events WHERE {KEPT} AND request_id IS NOT NULL
            GROUP BY request_id HAVING min(user_id) <> max(user_id)
        )
        """
    )
    impressions = ", ".join(literal(name) for name, kind in contract.events.items() if kind.role == "impression")
    if not impressions:
        return
    connection.execute(
        f"""
        UPDATE staged_events SET _rejected = {literal(DUPLICATE_REQUEST)}
        FROM (
            SELECT rowid AS repeated FROM staged_events
            WHERE {KEPT} AND request_id IS NOT NULL AND event IN ({impressions})
            QUALIFY row_number() OVER (PARTITION BY request_id, item_id ORDER BY {columns}) > 1
        ) WHERE staged_events.rowid = repeated
        """
    )


def stage_entities(
    connection: duckdb.DuckDBPyConnection, contract: DatasetContract, table: Literal["users", "items"]
) -> None:
    """Make `staged_users` or `staged_items`, as `stage_events` does; for users also `consenting_users`."""
    types = types_of(connection, f"source_{table}")
    columns = entity_columns(contract, table)
    key = columns[0].name
    reads = [f"{read_as(column, types)} AS {quoted(column.name)}" for column in columns]
    faulty = [f"WHEN {quoted(key)} IS NULL THEN {literal(f'{key} missing')}"]
    for column in columns:
        if column.kind in ("number", "time"):
            given = _was_given(column.name, {column.name: quoted(column.source)})
            read = read_as(column, types)
            faulty.append(
                f"WHEN ({read} IS NULL AND {given}) OR NOT isfinite({read}) THEN {literal(_unreadable(column))}"
            )
    consent = contract.consent if table == "users" and contract.consent and contract.consent.table == "users" else None
    excluded = "NULL::VARCHAR"
    if consent:
        allowed = ", ".join(literal(value.lower()) for value in consent.values)
        excluded = f"CASE WHEN _consent IS NULL OR lower(_consent) NOT IN ({allowed}) THEN {literal(NO_CONSENT)} END"
    connection.execute(
        f"""
        CREATE TABLE staged_{table} AS
        SELECT *, {excluded} AS _excluded FROM (
            SELECT {", ".join(reads)}, {SOURCE}, {ROW}, CASE {" ".join(faulty)} END AS _rejected FROM source_{table}
        )
        """
    )
    values = ", ".join(quoted(column.name) for column in columns)
    connection.execute(
        f"""
        UPDATE staged_{table} SET _rejected = {literal(REPEATED_ID)}
        FROM (
            SELECT rowid AS repeated FROM staged_{table} WHERE {KEPT}
            QUALIFY row_number() OVER (PARTITION BY {quoted(key)} ORDER BY {values}, {SOURCE}, {ROW}) > 1
        ) WHERE staged_{table}.rowid = repeated
        """
    )
    if consent:
        # Whoever refused once has refused, whatever another row says.
        connection.execute(
            """
            CREATE TABLE consenting_users AS
            SELECT user_id FROM staged_users WHERE user_id IS NOT NULL
            GROUP BY user_id HAVING bool_and(_excluded IS NULL)
            """
        )
        connection.execute(
            f"""
            UPDATE staged_users SET _excluded = {literal(NO_CONSENT)}
            WHERE user_id IS NOT NULL AND user_id NOT IN (SELECT user_id FROM consenting_users)
            """
        )


def _unreadable(column: Column) -> str:
    return f"{column.name} not a {'number' if column.kind == 'number' else 'time'}"


def count(connection: duckdb.DuckDBPyConnection, table: str) -> TableCount:
    """How many rows of a staged table were kept, and why the others were not."""
    rows = connection.execute(
        f"SELECT _excluded, CASE WHEN _excluded IS NULL THEN _rejected END AS reason, count(*) "
        f"FROM staged_{table} GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    return TableCount(
        table=table,
        read=sum(number for *_, number in rows),
        kept=sum(number for excluded, rejected, number in rows if excluded is None and rejected is None),
        rejected={rejected: number for excluded, rejected, number in rows if excluded is None and rejected is not None},
        excluded={excluded: number for excluded, _, number in rows if excluded is not None},
    )
