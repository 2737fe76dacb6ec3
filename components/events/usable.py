"""Whether staged tables can carry a ranking at all: not too faulty, joined, with labels, more than one user and item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import duckdb

from components.errors import Fault, FaultyInputError, InputError
from components.events.cleaning import KEPT
from components.events.columns import literal
from components.events.contract import DatasetContract, TableCount

ENTITIES: tuple[tuple[Literal["users", "items"], str], ...] = (("users", "user_id"), ("items", "item_id"))


def check_tolerance(contract: DatasetContract, counts: Sequence[TableCount]) -> None:
    """Refuse tables of which more was rejected than the contract tolerates.

    Raises:
        FaultyInputError: Names each such table, with its counts by reason.
    """
    bound = contract.tolerance.rejected_share
    faults = []
    for table in counts:
        rejected = sum(table.rejected.values())
        if rejected > bound * table.read:
            most = sorted(table.rejected.items(), key=lambda item: (-item[1], item[0]))
            reasons = ", ".join(f"{reason}: {number:,}" for reason, number in most)
            faults.append(
                Fault(
                    table.table,
                    f"{rejected:,} of {table.read:,} rows faulty, {rejected / table.read:.2%} ({reasons})",
                    f"at most {bound:.2%}",
                    "Mend what writes the table, or raise tolerance.rejected_share if this is known and harmless.",
                )
            )
    if faults:
        raise FaultyInputError(f"tables of {contract.name}", faults)


def check_usable(connection: duckdb.DuckDBPyConnection, contract: DatasetContract) -> dict[str, int]:
    """Refuse tables that no ranking could be learnt from, whatever the tolerance.

    Returns:
        For each users or items table: how many ids of the kept events it does not name.

    Raises:
        InputError: If no event, no outcome or (logged) no impression is left, there is but one user or item, or a table
            names nobody that the events do.
    """
    subject = f"tables of {contract.name}"
    users = _one(connection, f"SELECT count(DISTINCT user_id) FROM staged_events WHERE {KEPT}")
    if not users:
        raise InputError(
            f"{subject}: found no event left after consent, retention and checks; needed some. "
            "Check consent.values, retention and as_of against the log."
        )
    gains = [name for name, kind in contract.events.items() if kind.role == "outcome" and kind.gain > 0]
    if not _count_of(connection, gains):
        raise InputError(
            f"{subject}: found no outcome among the kept events, so that every label would be 0; needed both kinds. "
            f"Check that the log holds {_listed(gains)}."
        )
    impressions = [name for name, kind in contract.events.items() if kind.role == "impression"]
    if contract.requests.mode == "logged" and not _count_of(connection, impressions):
        raise InputError(
            f"{subject}: found no impression among the kept events, so that there is nothing to rank; needed "
            f"{_listed(impressions)}. Log impressions, or use requests.mode: sampled."
        )
    if users == 1:
        raise InputError(
            f"{subject}: found one user; needed at least two, since one says nothing of others. Check that "
            "tables.events.columns.user_id is the column of users."
        )
    # An item that nobody took yet can be ranked all the same.
    items = f"SELECT item_id FROM staged_events WHERE {KEPT}"
    if contract.tables.items:
        items += f" UNION SELECT item_id FROM staged_items WHERE {KEPT}"
    if _one(connection, f"SELECT count(DISTINCT item_id) FROM ({items})") == 1:
        raise InputError(
            f"{subject}: found one item; needed at least two, since one has only one order. Check that "
            "tables.events.columns.item_id is the column of items."
        )
    return {table: _unjoined(connection, contract, table, key) for table, key in ENTITIES if _has(contract, table)}


def _has(contract: DatasetContract, table: str) -> bool:
    return getattr(contract.tables, table) is not None


def _unjoined(connection: duckdb.DuckDBPyConnection, contract: DatasetContract, table: str, key: str) -> int:
    """Ids of the events that the table does not name; all of them is an error."""
    named, unjoined, mine = connection.execute(
        f"""
        SELECT count(*), count(*) FILTER (theirs.{key} IS NULL), min(mine.{key})
        FROM (SELECT DISTINCT {key} FROM staged_events WHERE {KEPT}) mine
        LEFT JOIN (SELECT {key} FROM staged_{table} WHERE {KEPT}) theirs USING ({key})
        """
    ).fetchall()[0]
    if unjoined == named:
        theirs = _one(connection, f"SELECT min({key}) FROM staged_{table} WHERE {KEPT}")
        raise InputError(
            f"{table} of {contract.name}: found not one {key} of the events in the {table} table "
            f"(events have {mine!r}, {table} have {theirs!r}); needed the same ids in both. "
            f"Check tables.{table}.columns.{key} and how ids are written."
        )
    return int(unjoined)


def _count_of(connection: duckdb.DuckDBPyConnection, names: Sequence[str]) -> int:
    listed = ", ".join(literal(name) for name in names)
    return int(_one(connection, f"SELECT count(*) FROM staged_events WHERE {KEPT} AND event IN ({listed})"))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names))


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> Any:
    return connection.execute(query).fetchall()[0][0]
