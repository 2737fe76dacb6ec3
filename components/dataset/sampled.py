"""Requests of a log that only says what was taken: at a cut, every user who then takes something asks once.

What they take before the horizon ends, and had not taken before if the contract says so, is relevant. Training requests get
sampled negatives; validation and test requests get none, because they rank the whole catalogue.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.dataset.contract import SPLITS
from components.dataset.features import outcomes_of
from components.dataset.negatives import sample_negatives
from components.dataset.requests import (
    TIME,
    History,
    Pairs,
    Requests,
    labelled,
    named_cuts,
    outcome_names,
    relevance_table,
)
from components.dataset.split import Moment, TimeSplit, moment_at
from components.dataset.staging import Coded
from components.errors import InputError
from components.events.contract import DatasetContract


def sampled_requests(
    contract: DatasetContract, split: TimeSplit, history: History, coded: Coded, *, seed: int, bucket_us: int
) -> Requests:
    """Requests of every cut; rows for training, relevance for validation and test."""
    horizon = round(contract.requests.horizon.total_seconds() * 1e6)
    exclude_seen = contract.evaluation.exclude_seen
    outcomes = outcomes_of(contract)
    n_items = coded.items.num_rows
    training = sampled_cuts(contract, split, history, bucket_us)
    ends = [moment_at(history.enter, (cut.ts + horizon) // bucket_us, bucket_us) for cut in training]
    windows = [*zip(training, ends, strict=True), (split.validation, split.test), (split.test, split.release)]
    requests: list[pa.Table] = []
    rows: list[pa.Table] = []
    relevance: list[pa.Table] = []
    count = 0
    for number, (cut, end) in enumerate(windows):
        pairs = taken_after(history, cut, end, exclude_seen=exclude_seen, outcomes=len(outcomes), n_items=n_items)
        # An item can be recommended once somebody has taken it, or the team says that it is there.
        available = _available(coded, history, cut)
        name = "train" if number < len(training) else SPLITS[number - len(training) + 1]
        users = np.unique(pairs.users)
        asked = (np.searchsorted(users, pairs.users) + count).astype(np.int32)
        requests.append(_asked(users, cut, number, name, coded, count))
        if name == "train":
            negatives = sample_negatives(
                pairs,
                history,
                cut,
                available=available,
                per_user=contract.requests.negatives,
                exclude_seen=exclude_seen,
                rng=np.random.default_rng([seed, number]),
            )
            rows.append(_training_rows(pairs, asked, negatives, users, count, outcomes))
        else:
            relevance.append(relevance_table(asked, pairs.items, pairs.gains, available[pairs.items]))
        count += len(users)
    table = pa.concat_tables(requests)
    context = [name for name, attribute in contract.attributes.events.items() if attribute.role == "context"]
    for column in context:
        table = table.append_column(column, pa.nulls(table.num_rows, pa.string()))
    return Requests(
        table=table,
        rows=pa.concat_tables(rows),
        relevance=pa.concat_tables(relevance),
        cuts=named_cuts([(f"train-{number}", cut) for number, cut in enumerate(training, start=1)], split),
        boundaries=tuple(sorted({cut.bucket for cut, _ in windows} | {split.release.bucket})),
    )


def _available(coded: Coded, history: History, cut: Moment) -> NDArray[np.bool_]:
    known = np.zeros(coded.items.num_rows, dtype=bool)
    known[history.items[: cut.rows]] = True
    return known | (coded.entities.item_available < cut.bucket)


def _asked(users: NDArray[np.int32], cut: Moment, number: int, split: str, coded: Coded, count: int) -> pa.Table:
    names = coded.users["user_id"].take(pa.array(users))
    n = len(users)
    return pa.table(
        {
            "request": pa.array(np.arange(count, count + n, dtype=np.int32)),
            "request_id": pc.binary_join_element_wise(
                names.combine_chunks(), pa.array([f"cut-{number}"] * n, pa.string()), "@"
            ),
            "user": pa.array(users),
            "ts": pa.array(np.full(n, cut.ts), pa.int64()).cast(TIME),
            "bucket": pa.array(np.full(n, cut.bucket), pa.int64()),
            "split": pa.array([split] * n, pa.string()),
            "cut": pa.array(np.full(n, number), pa.int32()),
        }
    )


def _training_rows(
    pairs: Pairs,
    asked: NDArray[np.int32],
    negatives: tuple[NDArray[np.int32], NDArray[np.int32]],
    users: NDArray[np.int32],
    count: int,
    outcomes: tuple[str, ...],
) -> pa.Table:
    negative_users, negative_items = negatives
    requests = np.concatenate([asked, (np.searchsorted(users, negative_users) + count).astype(np.int32)])
    items = np.concatenate([pairs.items, negative_items])
    order = np.lexsort((items, requests))
    gains = np.concatenate([pairs.gains, np.zeros(len(negative_items), np.float32)])[order]
    happened = np.concatenate([pairs.outcomes, np.zeros((len(negative_items), len(outcomes)), bool)])[order]
    columns = {
        "request": pa.array(requests[order]),
        "item": pa.array(items[order]),
        "position": pa.array(np.zeros(len(order), np.int16)),
        "gain": pa.array(gains),
    }
    for place, name in enumerate(outcome_names(outcomes)):
        columns[name] = pa.array(happened[:, place])
    return labelled(pa.table(columns), outcome_names(outcomes))


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
