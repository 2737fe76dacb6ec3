"""Makes ranking requests and their labels out of a log, in both ways a contract knows.

`logged`: a request is the impressions that share a request_id; a row's gain is the largest gain among the outcomes of the
same user and item that followed the impression within the attribution window (an outcome that names a request counts for
that request only; one that names none counts for the latest impression before it). A purchase implies its click, so gains
are not added up.

`sampled`: at a cut every user who then takes something asks once; what they take before the horizon ends, and had not
taken before if the contract says so, is relevant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
from numpy.typing import NDArray

from components.dataset.split import Moment, TimeSplit, moment_at
from components.errors import InputError
from components.events.contract import DatasetContract

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class History:
    """Outcome events in the order they became known: by bucket of arrival, then time, user, item, event."""

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    ts: Ints
    """Microseconds; not ascending where events arrived late."""
    enter: Ints
    gains: NDArray[np.float32]
    events: NDArray[np.int32]
    """Place among the contract's outcomes."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """What users took at or after a cut: distinct (user, item), ascending, with the largest gain and what happened."""

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    gains: NDArray[np.float32]
    outcomes: NDArray[np.bool_]
    """Shape (pairs, outcomes)."""


def stage_logged(
    connection: duckdb.DuckDBPyConnection, contract: DatasetContract, split: TimeSplit, as_of_us: int
) -> None:
    """Make the tables `requests` and `shown` from `ev` of a logged contract.

    requests: request (0.. by split, ts, user), request_id, user, ts, split; shown: request, item, position, gain, and
    is_<outcome> for each.

    A training request whose label might not be complete before validation begins, less the gap, is left out; so are a
    validation request's before test begins and a test request's before the log was exported.

    Raises:
        InputError: If a split has no request.
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
                WHEN ts >= {split.test.ts} THEN CASE WHEN ts + {attribution} <= {as_of_us} THEN 2 END
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
    flags = "".join(f", coalesce(bool_or(won.event = '{_text(name)}'), false) AS \"is_{name}\"" for name in outcomes)
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
        SELECT slots.request, slots.item, coalesce(min(slots.position), 0)::SMALLINT AS position,
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


def _text(name: str) -> str:
    return name.replace("'", "''")


def sampled_cuts(contract: DatasetContract, split: TimeSplit, history: History, bucket_us: int) -> list[Moment]:
    """Training cuts, ascending: `requests.cuts` of them, a horizon apart, the last label ending a gap before validation.

    Raises:
        InputError: If not one of them has any history.
    """
    horizon = round(contract.requests.horizon.total_seconds() * 1e6)
    gap = round(contract.split.gap.total_seconds() * 1e6)
    found = []
    for back in range(1, contract.requests.cuts + 1):
        moment = moment_at(history.enter, (split.validation.ts - gap - back * horizon) // bucket_us, bucket_us)
        if moment.rows:
            found.append(moment)
    if not found:
        raise InputError(
            f"dataset contract {contract.name}: found no history before a training cut, which lies one horizon of "
            f"{contract.requests.horizon} before validation; needed some. Shorten requests.horizon, or hold out less."
        )
    return found[::-1]


def taken_after(
    history: History, cut: Moment, end: Moment, *, exclude_seen: bool, outcomes: int, n_items: int
) -> Pairs:
    """What each user took between two cuts, less what they had taken before the first if `exclude_seen`.

    What happened before the first cut and arrived after it is neither known to the request nor what it led to: left out. So
    is what happened before the second and arrived after it: nobody could have trained on it by then.
    """
    part = np.arange(cut.rows, end.rows)
    part = part[history.ts[part] >= cut.ts]
    marks = history.users[part].astype(np.int64) * n_items + history.items[part]
    keys, inverse = np.unique(marks, return_inverse=True)
    gains = np.zeros(len(keys), dtype=np.float32)
    np.maximum.at(gains, inverse, history.gains[part])
    happened = np.zeros((len(keys), outcomes), dtype=bool)
    happened[inverse, history.events[part]] = True
    if exclude_seen:
        before = slice(0, cut.rows)
        seen = np.unique(history.users[before].astype(np.int64) * n_items + history.items[before])
        fresh = ~np.isin(keys, seen, assume_unique=True)
        keys, gains, happened = keys[fresh], gains[fresh], happened[fresh]
    return Pairs((keys // n_items).astype(np.int32), (keys % n_items).astype(np.int32), gains, happened)


def outcome_names(names: Sequence[str]) -> list[str]:
    """Column of each outcome."""
    return [f"is_{name}" for name in names]
