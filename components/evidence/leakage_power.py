"""How well one column alone orders the rows of a request, and how much of the label it tells. Arrays in, arrays out.

`within_requests` gives, for every column and user, the chance that a positive row stands above a negative one of the same
request (the c-index; ties count half). `told_by` gives how much of the label's uncertainty a column removes, which also
finds what no order shows: values that are missing just where nothing happened, codes without order, a peak in the middle.

Source: Harrell et al. (1982) for the c-index; McFadden (1974) for the explained share of the log-likelihood.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

BINS = 64
"""Most bins of a number: equal in mass, so that a spike is a bin of its own."""
FOLDS = 5
_DRAWN_TO_MEAN = 2.0
"""Rows at the common rate that each bin starts from: a bin of a handful must not be certain."""
_PAIRS_AT_ONCE = 1 << 14


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """Log-likelihood of the label that a column adds, and what there is to add; user by user."""

    gained: Floats
    """Shape (users,) or (users, columns), nats."""
    uncertain: Floats
    """Shape (users,), nats, >= 0: of the label at its common rate."""


@dataclass(frozen=True, slots=True, eq=False)
class Power:
    """What each column alone can do, user by user; arrays of shape (users, columns) unless they say otherwise."""

    ordered: Floats
    """C-index within the user's requests, in [0, 1]; NaN where no request holds both kinds of rows."""
    told: Told
    of_request: Told
    """The same about whether anything in a request was positive, of the columns that are constant; 0 for the others."""
    constant: Bools
    """Shape (columns,): whether the column has one value in every request."""
    requests: int
    """Requests that hold both kinds of rows."""
    missing: Floats
    """Shape (2, columns): share of values that are missing among negative rows and among positive ones."""


def single_powers(
    columns: NDArray[np.floating], coded: Bools, positive: Bools, request: Ints, owner: Ints, *, users: int, seed: int
) -> Power:
    """What each column alone can do.

    Args:
        columns: Shape (rows, columns), at least one row; NaN is missing, and so is a negative code.
        coded: Shape (columns,): whether values are codes without an order; those are ordered by the rates of other users.
        positive: Shape (rows,).
        request: Shape (rows,), ascending.
        owner: User of each row, shape (rows,), each in 0..users - 1, one a request.
        users: Number of users.
        seed: Of the folds of users that rates are learnt from.
    """
    fold = folds_of(owner, users=users, seed=seed)
    starts = np.flatnonzero(np.diff(request, prepend=request[0] - 1))
    any_positive = np.logical_or.reduceat(positive, starts)
    all_positive = np.logical_and.reduceat(positive, starts)
    width = columns.shape[1]
    values = columns.astype(np.float64)
    values[:, coded] = np.where(values[:, coded] < 0, np.nan, values[:, coded])
    absent = np.isnan(values)
    missing = np.stack(
        [absent[kind].mean(axis=0) if kind.any() else np.full(width, np.nan) for kind in (~positive, positive)]
    )
    first = np.repeat(starts, np.diff(np.append(starts, request.size)))
    ordered = values.copy()
    gained, of_request = np.zeros((users, width)), np.zeros((users, width))
    constant = np.zeros(width, dtype=bool)
    uncertain, uncertain_requests = np.zeros(users), np.zeros(users)
    for at in range(width):
        column = values[:, at]
        rates = learned_rates(column, positive, fold, coded=bool(coded[at]))
        if coded[at]:
            ordered[:, at] = rates
        told = told_by(rates, positive, fold, owner, users=users)
        gained[:, at], uncertain = told.gained, told.uncertain
        constant[at] = bool(((column == column[first]) | (absent[:, at] & absent[first, at])).all())
        if absent[:, at].all() or (column == column[0]).all():
            gained[:, at] = 0.0  # One value tells nothing; smoothing leaves a last digit of noise.
        if constant[at] and any_positive.any() and not any_positive.all():
            rates = learned_rates(column[starts], any_positive, fold[starts], coded=bool(coded[at]))
            told = told_by(rates, any_positive, fold[starts], owner[starts], users=users)
            of_request[:, at], uncertain_requests = told.gained, told.uncertain
    return Power(
        ordered=within_requests(ordered, positive, request, owner, users=users),
        told=Told(gained, uncertain),
        of_request=Told(of_request, uncertain_requests),
        constant=constant,
        requests=int((any_positive & ~all_positive).sum()),
        missing=missing,
    )


def within_requests(
    columns: NDArray[np.floating], positive: Bools, request: Ints, owner: Ints, *, users: int
) -> Floats:
    """C-index of every column for every user: the mean over the user's requests that hold both kinds of rows.

    Args:
        columns: Shape (rows, columns); NaN ranks below every number.
        positive: Shape (rows,).
        request: Shape (rows,), ascending.
        owner: User of each row, shape (rows,), each in 0..users - 1.
        users: Number of users.

    Returns:
        Shape (users, columns), in [0, 1]; NaN for a user without a request that holds both kinds.
    """
    if not request.size:
        return np.full((users, columns.shape[1]), np.nan)
    starts = np.flatnonzero(np.diff(request, prepend=request[0] - 1))
    better = np.zeros((starts.size, columns.shape[1]))
    pairs = np.zeros(starts.size)
    for asked, above, below in _pairs(positive, starts):
        high, low = columns[above], columns[below]
        # NaN is neither above, below nor equal: it loses to a number and ties with itself.
        lost, won = np.isnan(high), np.isnan(low)
        first = np.flatnonzero(np.diff(asked, prepend=-1))
        halves = np.where(won, 2 - lost.astype(np.int8), (high > low) * np.int8(2) + (high == low))
        better[asked[first]] += np.add.reduceat(halves, first, axis=0, dtype=np.int64) / 2
        pairs[asked[first]] += np.diff(np.append(first, asked.size))
    both = np.flatnonzero(pairs)
    user = owner[starts[both]]
    total, count = np.zeros((users, columns.shape[1])), np.bincount(user, minlength=users)
    np.add.at(total, user, better[both] / pairs[both, None])
    with np.errstate(divide="ignore", invalid="ignore"):
        means: Floats = np.where(count[:, None] > 0, total / count[:, None], np.nan)
    return means


def _pairs(positive: Bools, starts: Ints) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Every pair of a positive and a negative row of the same request, some at a time, ascending by request.

    Args:
        positive: Shape (rows,).
        starts: First row of each request, ascending from 0.

    Yields:
        Place of the request among `starts`, positive row and negative row, shape (pairs,) each.
    """
    sizes = np.diff(np.append(starts, positive.size))
    won = np.add.reduceat(positive, starts, dtype=np.int64)
    # Negatives of a request first, then positives, so that both are runs.
    order = np.lexsort((positive, np.repeat(np.arange(starts.size), sizes)))
    ends = np.cumsum(won * (sizes - won))
    for begin in range(0, int(ends[-1]), _PAIRS_AT_ONCE):
        number = np.arange(begin, min(begin + _PAIRS_AT_ONCE, int(ends[-1])))
        asked = np.searchsorted(ends, number, side="right")
        place = number - np.where(asked > 0, ends[asked - 1], 0)
        negatives = (sizes - won)[asked]
        positives = won[asked]
        yield asked, order[starts[asked] + negatives + place % positives], order[starts[asked] + place // positives]


def learned_rates(column: NDArray[np.floating], labels: Bools, fold: Ints, *, coded: bool) -> Floats:
    """Rate of positives in each row's bin, among the rows of the other folds.

    A number is cut into bins of equal mass, a coded column has a bin a code, missing is a bin.

    Args:
        column: Shape (rows,).
        labels: Shape (rows,).
        fold: Fold of each row, shape (rows,), each in 0..FOLDS - 1.
        coded: Whether values are codes without an order.

    Returns:
        Shape (rows,), above 0 and below 1.
    """
    code = _codes(column, coded=coded)
    width = int(code.max(initial=0)) + 1
    cell = fold * width + code
    rows = np.bincount(cell, minlength=FOLDS * width).reshape(FOLDS, width)
    won = np.bincount(cell, weights=labels, minlength=FOLDS * width).reshape(FOLDS, width)
    common = common_rates(labels, fold)
    rate = (won.sum(axis=0) - won + _DRAWN_TO_MEAN * common[:, None]) / (rows.sum(axis=0) - rows + _DRAWN_TO_MEAN)
    return _clipped(rate.ravel()[cell])


def common_rates(labels: Bools, fold: Ints) -> Floats:
    """Rate of positives outside each fold, shape (FOLDS,)."""
    rows, won = np.bincount(fold, minlength=FOLDS), np.bincount(fold, weights=labels, minlength=FOLDS)
    return _clipped((won.sum() - won) / np.maximum(rows.sum() - rows, 1))


def folds_of(owner: Ints, *, users: int, seed: int) -> Ints:
    """A fold for each row, the same for all rows of a user."""
    folds: Ints = (np.random.default_rng(seed).permutation(users) % FOLDS)[owner]
    return folds


def told_by(rates: Floats, labels: Bools, fold: Ints, owner: Ints, *, users: int) -> Told:
    """How much of the label one column tells about users whom it was not learnt from.

    A column that knows nothing tells nothing (a little less than nothing: its bins' rates are noise).

    Args:
        rates: `learned_rates` of the column, shape (rows,).
        labels: Shape (rows,).
        fold: Fold of each row, shape (rows,).
        owner: User of each row, shape (rows,), each in 0..users - 1.
        users: Number of users.
    """
    common = common_rates(labels, fold)[fold]
    base = np.where(labels, np.log(common), np.log1p(-common))
    gained = np.where(labels, np.log(rates), np.log1p(-rates)) - base
    per_user = [np.bincount(owner, weights=held, minlength=users).astype(np.float64) for held in (gained, -base)]
    return Told(*per_user)


def _codes(values: NDArray[np.floating], *, coded: bool) -> Ints:
    """A bin of each value, 0 for a missing one."""
    known = np.isfinite(values)
    held = values[known]
    codes = np.zeros(values.size, dtype=np.int64)
    distinct = np.unique(held)
    if coded or distinct.size <= BINS:
        codes[known] = np.searchsorted(distinct, held) + 1
    else:
        cuts = np.unique(np.sort(held)[np.arange(1, BINS) * held.size // BINS])
        # Both sides of a cut's own value, so that a value that many rows share is a bin by itself.
        codes[known] = np.searchsorted(cuts, held, side="left") + np.searchsorted(cuts, held, side="right") + 1
    return codes


def _clipped(share: Floats) -> Floats:
    return np.clip(share, 1e-9, 1 - 1e-9)
