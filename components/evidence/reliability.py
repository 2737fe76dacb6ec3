"""Kernels of calibration: predicted chances against what happened, rows of a user kept together. Arrays in, arrays out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.statistics.bounded import FEW
from components.statistics.shares import share_limit
from components.statistics.studentised import student_critical

Floats = NDArray[np.float64]

_STEPS = 60
_TOLERANCE = 1e-10


def equal_mass_bins(predicted: Floats, *, bins: int) -> NDArray[np.intp]:
    """Bin of each row, 0..at most `bins` - 1 ascending; equal predictions share one, so that there may be fewer.

    An isotonic map gives long runs of equal predictions: an edge inside a run would sort its rows by nothing.
    """
    if not predicted.size:
        return np.zeros(0, dtype=np.intp)
    edges = np.unique(np.quantile(predicted, np.arange(1, bins) / bins, method="inverted_cdf"))
    _, dense = np.unique(np.searchsorted(edges, predicted, side="left"), return_inverse=True)
    return dense.astype(np.intp)


def by_user_and_bin(
    values: Floats, user: NDArray[np.integer], bins: NDArray[np.integer], *, shape: tuple[int, int]
) -> Floats:
    """Sum of rows' values for each user and bin, shape (users, bins)."""
    flat = np.bincount(user * shape[1] + bins, values, minlength=shape[0] * shape[1])
    return flat.reshape(shape).astype(np.float64, copy=False)


def observed_range(
    positives: Floats, sizes: Floats, members: NDArray[np.bool_], *, tail: float
) -> tuple[Floats, Floats]:
    """Between which shares of positive rows a group's true one may lie though few of its users show it, shape (groups,).

    A dozen users without a single positive all agree, so that resampling them knows no spread: but one user in four could
    be of another kind. The exact limit of that share, times what such a user may weigh, is what remains possible. NaN on
    a side where 50 users or more show the other outcome, because there resampling knows enough.

    Args:
        positives: Positive rows of each user, shape (users,).
        sizes: Rows of each user, shape (users,), > 0.
        members: Shape (groups, users), each with a user.
        tail: Permitted error on each side.
    """
    count = members.sum(axis=1)
    heaviest = np.array([sizes[group].max() / sizes[group].mean() for group in members])
    reach = []
    for shows in (positives < sizes, positives > 0):
        users = (members & shows).sum(axis=1).astype(np.float64)
        possible = np.minimum(share_limit(users, count, tail=np.full(users.shape, tail)) * heaviest, 1.0)
        reach.append(np.where(users < FEW, possible, np.nan))
    return 1 - reach[0], reach[1]


@dataclass(frozen=True, slots=True)
class Recalibration:
    """Logistic regression of outcomes on the logit of the predicted chance: slope 1 and intercept 0 need no correction.

    A slope below 1 says that predictions are too extreme. Standard errors and critical value keep users' rows together.
    """

    intercept: float
    slope: float
    intercept_error: float
    slope_error: float
    critical: float


def recalibrate(
    predicted: Floats, outcome: NDArray[np.bool_], user: NDArray[np.integer], *, floor: float, level: float
) -> Recalibration | None:
    """Fit the recalibration line (Cox, 1958) with the user-clustered sandwich (Liang and Zeger, 1986) for its errors.

    Args:
        predicted: Chances in [0, 1], shape (rows,).
        outcome: What happened.
        user: Dense user index of each row.
        floor: Chances are kept this far from 0 and 1, whose logit is infinite.
        level: Two-sided confidence of `critical`.

    Returns:
        None where there is no such line: one class, one prediction, fewer than three users, or outcomes that the
        predictions separate completely.
    """
    users = np.unique(user).size
    if users < 3 or outcome.all() or not outcome.any():
        return None
    chance = np.clip(predicted, floor, 1 - floor)
    logit = np.log(chance) - np.log1p(-chance)
    if np.ptp(logit) < 1e-9:
        return None
    design = np.column_stack([np.ones_like(logit), logit])
    line = np.array([0.0, 1.0])
    for _ in range(_STEPS):
        fitted = 1 / (1 + np.exp(-np.clip(design @ line, -500, 500)))
        information = (design * (fitted * (1 - fitted))[:, None]).T @ design
        if np.linalg.cond(information) > 1e12:
            return None
        step = np.linalg.solve(information, design.T @ (outcome - fitted))
        # A long Newton step overshoots where the line starts far off.
        step *= min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-300))
        line = line + step
        if np.abs(step).max() < _TOLERANCE:
            break
    else:
        return None
    residual = outcome - fitted
    scores = np.column_stack([np.bincount(user, residual), np.bincount(user, residual * logit)])
    bread = np.linalg.inv(information)
    errors = np.sqrt(np.diag(bread @ (scores.T @ scores) @ bread) * users / (users - 1))
    critical = float(student_critical(np.array([users - 1.0]), level=level)[0])
    return Recalibration(float(line[0]), float(line[1]), float(errors[0]), float(errors[1]), critical)
