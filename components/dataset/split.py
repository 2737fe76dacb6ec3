"""Where a log is cut: training, validation and test in time, with a gap, and the moments whose history each may know."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.errors import InputError
from components.events.contract import DatasetContract, Holdout

Ints = NDArray[np.int64]
_DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Moment:
    """A cut: the first `rows` outcome events in history order lie before it; the rest, and `ts` (us), not."""

    rows: int
    ts: int
    bucket: int


@dataclass(frozen=True, slots=True)
class TimeSplit:
    """Validation begins at `validation`, test at `test`; at `release` all of the log has happened and arrived."""

    validation: Moment
    test: Moment
    release: Moment


def split_by_time(
    history_ts: Ints,
    history_enter: Ints,
    *,
    first_us: int,
    last_us: int,
    latest_bucket: int,
    contract: DatasetContract,
    bucket_us: int,
) -> TimeSplit:
    """Cut a log by the contract's rule.

    A holdout in days ends with the log's last bucket and begins at a bucket's start. A holdout by share takes the last
    `floor(share * rows)` outcome rows in history order: such a cut may fall between two rows of the same moment.

    Args:
        history_ts: Time of each outcome event in history order, microseconds, shape (events,).
        history_enter: Bucket from which each is known, ascending, shape (events,).
        first_us: Time of the first event of any kind.
        last_us: Time of the last.
        latest_bucket: First bucket by which all events are known.
        contract: Holds the rule.
        bucket_us: Length of a bucket in microseconds.

    Raises:
        InputError: If the log is too short for its holdouts.
    """
    end_bucket = last_us // bucket_us + 1
    end = Moment(len(history_ts), end_bucket * bucket_us, end_bucket)
    test = _before(history_ts, history_enter, end, contract.split.test, bucket_us)
    validation = _before(history_ts, history_enter, test, contract.split.validation, bucket_us)
    if validation.ts <= first_us or validation.rows == 0:
        days = (last_us - first_us) / _DAY_US
        raise InputError(
            f"dataset contract {contract.name}: the log spans {days:.1f} days, and test and validation take all of it; "
            "needed some days before them to train on. Hold out less (split.test, split.validation), or give a longer log."
        )
    return TimeSplit(validation, test, Moment(len(history_ts), latest_bucket * bucket_us, latest_bucket))


def _before(history_ts: Ints, history_enter: Ints, after: Moment, rule: Holdout, bucket_us: int) -> Moment:
    """The cut that leaves a holdout between itself and `after`."""
    if rule.fraction is not None:
        rows = after.rows - math.floor(rule.fraction * after.rows)
        if rows == len(history_ts):
            return Moment(rows, after.ts, after.bucket)
        # A row that arrived late was cut off by its arrival, not by when it happened.
        ts = max(int(history_ts[rows]), (int(history_enter[rows]) - 1) * bucket_us)
        return Moment(rows, ts, ts // bucket_us)
    # From the start of the bucket `after` lies in, so that the holdout is made of whole buckets.
    ts = after.bucket * bucket_us - round((rule.days or 0.0) * _DAY_US)
    return moment_at(history_enter, ts // bucket_us, bucket_us)


def moment_at(history_enter: Ints, bucket: int, bucket_us: int) -> Moment:
    """The cut at the start of a bucket: before it lies what had arrived by then."""
    return Moment(int(np.searchsorted(history_enter, bucket, side="right")), bucket * bucket_us, bucket)
