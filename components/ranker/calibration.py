"""From scores to probabilities: a monotone map, fitted on validation, kept as plain knots.

LambdaMART's scores only order a request; what a score says about the chance of a positive outcome is learned afterwards,
in one of two ways:

    isotonic    pool adjacent violators: any monotone shape, for which it needs many positives
    platt       a logistic curve: one shape, for which few suffice

Which one is chosen by their log loss on validation requests that the fit has not seen. Being monotone, neither changes an
order. Whoever serves the map reads knots and need not know how they were found.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from components.errors import InputError
from components.ranker.candidates.interactions import Bools, Floats

SCHEMA_VERSION = 1

Method = Literal["isotonic", "platt"]

_FOLDS = 5
_KNOTS = 513
"""Knots of a logistic curve: straight lines between them are within 1e-4 of it for any slope that scores have."""
_NEWTON_STEPS = 60


@dataclass(frozen=True, slots=True)
class Calibration:
    """Knots of a monotone piecewise-linear map; flat outside them."""

    schema_version: int
    scores: tuple[float, ...]
    """Strictly ascending."""
    probabilities: tuple[float, ...]
    """Not descending, each in [0, 1]."""
    rows: int
    """Validation rows it was fitted on."""
    positives: int
    method: Method = "isotonic"
    """How it was fitted."""

    def __post_init__(self) -> None:
        """Refuses a map that is not one: it may have been read from a file."""
        scores, chances = np.array(self.scores), np.array(self.probabilities)
        if len(scores) != len(chances) or not len(scores):
            raise InputError(
                f"calibration: found {len(scores)} scores and {len(chances)} probabilities; needed as many, at least one."
            )
        if (np.diff(scores) <= 0).any() or (np.diff(chances) < 0).any() or chances[0] < 0 or chances[-1] > 1:
            raise InputError(
                "calibration: needed ascending scores and probabilities that never descend, within [0, 1]."
            )

    def probability(self, scores: NDArray[np.floating]) -> Floats:
        """Probability of a positive outcome for each score, same shape, in [0, 1]."""
        chances: Floats = np.interp(scores, self.scores, self.probabilities)
        return chances


def fit_calibration(
    scores: NDArray[np.floating],
    positives: Bools,
    *,
    groups: NDArray[np.integer] | None = None,
    method: Method | None = None,
) -> Calibration:
    """The map from scores to chances that predicts unseen requests best.

    Args:
        scores: Shape (rows,), at least one.
        positives: Whether the outcome was positive.
        groups: Request of each row: a request's rows are in the fit or held out together. Each row alone where None.
        method: The one to use; None compares both on held-out fifths of the groups and keeps the smaller log loss,
            isotonic where they are equal.

    Raises:
        InputError: If there are no rows.
    """
    if not len(scores):
        raise InputError("calibration: no validation rows; needed at least one. Lengthen split.validation.")
    exact: Floats = scores.astype(np.float64)
    chosen = method or _best(exact, positives, np.arange(len(exact)) if groups is None else groups)
    knots, chances = _isotonic(exact, positives) if chosen == "isotonic" else _platt(exact, positives)
    return Calibration(
        SCHEMA_VERSION,
        tuple(knots.tolist()),
        tuple(chances.tolist()),
        rows=len(scores),
        positives=int(positives.sum()),
        method=chosen,
    )


def held_out_loss(scores: Floats, positives: Bools, groups: NDArray[np.integer], *, method: Method) -> float:
    """Mean log loss of rows under maps that were fitted without their fifth of the groups.

    Args:
        scores: Shape (rows,).
        positives: Shape (rows,).
        groups: A number for each row's group; those alike modulo five are held out together.
        method: How to fit.

    Returns:
        Infinite where the groups make fewer than two parts, or a part leaves one class alone to fit on.
    """
    fold, total = groups % _FOLDS, 0.0
    parts = np.unique(fold)
    if len(parts) < 2:
        return float("inf")
    for part in parts:
        out = fold == part
        fitting = positives[~out]
        if fitting.all() or not fitting.any():
            return float("inf")
        knots, values = (_isotonic if method == "isotonic" else _platt)(scores[~out], fitting)
        # Isotonic regression calls some chances 0 and 1, which no finite sample can know: half a row's worth less.
        floor = 0.5 / len(fitting)
        chances = np.clip(np.interp(scores[out], knots, values), floor, 1 - floor)
        total -= float(np.log(np.where(positives[out], chances, 1 - chances)).sum())
    return total / len(scores)


def _best(scores: Floats, positives: Bools, groups: NDArray[np.integer]) -> Method:
    losses = {method: held_out_loss(scores, positives, groups, method=method) for method in ("isotonic", "platt")}
    return "platt" if losses["platt"] < losses["isotonic"] else "isotonic"


def _isotonic(scores: Floats, positives: Bools) -> tuple[Floats, Floats]:
    """Each pool becomes two knots, its lowest and its highest score, as scikit-learn's `IsotonicRegression` interpolates."""
    # A second that whoever only serves a map need not spend.
    from scipy.optimize import isotonic_regression

    levels, place = np.unique(scores, return_inverse=True)
    weights = np.bincount(place).astype(np.float64)
    values = isotonic_regression(np.bincount(place, weights=positives) / weights, weights=weights).x
    starts = np.concatenate([[0], np.flatnonzero(np.diff(values) > 0) + 1])
    ends = np.append(starts[1:], len(levels)) - 1
    knots = np.unique(np.concatenate([starts, ends]))
    return levels[knots], np.clip(values[knots], 0.0, 1.0)


def _platt(scores: Floats, positives: Bools) -> tuple[Floats, Floats]:
    """Knots of the logistic curve of best fit; flat where higher scores do not come with more positives.

    Source: Platt (1999); targets a little inside 0 and 1, so that classes that scores separate have a curve; Newton's
    method as in Lin, Lin and Weng (2007).
    """
    lowest, highest = float(scores.min()), float(scores.max())
    count, found = len(scores), int(positives.sum())
    target = np.where(positives, (found + 1) / (found + 2), 1 / (count - found + 2))
    base = float(target.mean())
    if highest == lowest:
        return np.array([lowest]), np.array([base])
    centre, spread = float(scores.mean()), float(scores.std())
    unit = (scores - centre) / spread
    level, slope = np.log(base / (1 - base)), 0.0
    for _ in range(_NEWTON_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(level + slope * unit, -500, 500)))
        weight, left = chance * (1 - chance) + 1e-12, target - chance
        a, b, c = weight.sum(), (weight * unit).sum(), (weight * unit * unit).sum()
        first, second = left.sum(), (left * unit).sum()
        determinant = a * c - b * b
        steps = (c * first - b * second) / determinant, (a * second - b * first) / determinant
        # A long Newton step overshoots where the curve is steep.
        shorter = min(1.0, 2.0 / max(abs(steps[0]), abs(steps[1]), 1e-300))
        level, slope = level + shorter * steps[0], slope + shorter * steps[1]
        if max(abs(steps[0]), abs(steps[1])) < 1e-10:
            break
    if slope <= 0:
        return np.array([lowest]), np.array([base])
    knots = np.unique(np.linspace(lowest, highest, _KNOTS))
    chances = 1 / (1 + np.exp(-np.clip(level + slope * (knots - centre) / spread, -500, 500)))
    return knots, np.maximum.accumulate(chances)
