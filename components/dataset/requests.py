"""What the two ways of making requests (`logged`, `sampled`) have in common: the shapes that they give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.dataset.contract import Cut
from components.dataset.split import Moment, TimeSplit

Ints = NDArray[np.int64]
TIME = pa.timestamp("us", tz="UTC")


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


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests in their order, and the rows recorded for them."""

    table: pa.Table
    rows: pa.Table
    """request, item, position, gain, weight, positive, is_<outcome>: without features."""
    relevance: pa.Table
    cuts: tuple[Cut, ...]
    boundaries: tuple[int, ...]


def outcome_names(names: Sequence[str]) -> list[str]:
    """Column of each outcome."""
    return [f"is_{name}" for name in names]


def labelled(rows: pa.Table, names: list[str]) -> pa.Table:
    """Rows in the columns and types of the contract, every row of weight 1; `names` are the outcomes' columns."""
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


def relevance_table(requests: object, items: object, gains: object, eligible: object) -> pa.Table:
    """What is relevant to requests that rank the whole catalogue; arrays of shape (pairs,)."""
    return pa.table(
        {
            "request": pa.array(requests, pa.int32()),
            "item": pa.array(items, pa.int32()),
            "gain": pa.array(gains, pa.float32()),
            "eligible": pa.array(eligible, pa.bool_()),
        }
    )


def named_cuts(training: list[tuple[str, Moment]], split: TimeSplit) -> tuple[Cut, ...]:
    """The cuts of a dataset: those of training, then of validation, test and release."""
    named = [*training, ("validation", split.validation), ("test", split.test), ("release", split.release)]
    return tuple(
        Cut(name, datetime.fromtimestamp(cut.ts / 1e6, UTC).isoformat(), cut.bucket, cut.rows) for name, cut in named
    )
