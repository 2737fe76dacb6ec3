"""How well users' columns predict an attribute: all together, and feature by feature. Arrays in, figures out.

One value against all others (one-vs-rest), for every value that enough users have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.evidence.proxies_auc import Limits, Separation, alone, limits_together, mean_separation, separation
from components.evidence.proxies_learning import (
    BLOCKS,
    UNASKED,
    Learner,
    asked_forwards,
    both,
    normal_scores,
    stratified_blocks,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEAST_USERS = 30
"""Users with a value, and users without: with fewer, a block has fewer than four of them, which says next to nothing."""
LEAST_ALONE = 100
"""The same, to be told by single features: hundreds are looked at together, and with fewer users none could be ruled out."""
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Figure:
    """One AUC with its interval."""

    value: float
    low: float
    high: float
    detectable: float
    """Smallest excess over 0.5 that would be found with power 0.8."""


@dataclass(frozen=True, slots=True, eq=False)
class Together:
    """What all columns tell at once."""

    values: dict[int, Figure]
    """By label, of those that enough users have; intervals hold together."""
    macro: Figure | None
    """Mean over those labels; None where there are none."""
    asked: int
    """Users who were asked about."""


@dataclass(frozen=True, slots=True, eq=False)
class ByFeature:
    """What each feature tells alone; intervals of all features and labels hold together."""

    labels: tuple[int, ...]
    figures: tuple[Figure, ...]
    """By feature, of the label that it tells best."""
    best: Ints
    """Shape (features,): that label."""
    values: Floats
    """Shape (labels, features)."""
    lows: Floats
    highs: Floats


def judged_labels(labels: Ints, *, least: int) -> tuple[int, ...]:
    """Labels that at least so many users have, and as many have not."""
    found, counts = np.unique(labels, return_counts=True)
    enough = np.minimum(counts, labels.size - counts) >= least
    return tuple(int(label) for label in found[enough])


def power_together(
    columns: Floats, labels: Ints, *, seed: int, level: float = LEVEL, learner: Learner = both
) -> Together:
    """How well all columns at once tell each label from the rest, learned on other users than those who are asked about.

    Args:
        columns: One row a user, shape (users, columns); NaN = unknown.
        labels: Shape (users,), >= 0.
        seed: Of blocks and multipliers.
        level: Two-sided confidence, of all labels together; of the macro figure alone.
        learner: What is learned.
    """
    judged = judged_labels(labels, least=LEAST_USERS)
    if not judged or not columns.shape[1]:
        return Together({}, None, 0)
    blocks = stratified_blocks(labels, seed=seed)
    scores = asked_forwards(normal_scores(columns), labels, blocks, count=int(labels.max()) + 1, learner=learner)
    asked = blocks != UNASKED
    found = [separation(scores[asked][:, [label]], labels[asked] == label, blocks[asked]) for label in judged]
    limits = limits_together(found, level=level, seed=seed)
    values = {
        label: Figure(float(held.auc[0]), float(limit.low[0]), float(limit.high[0]), float(limit.detectable[0]))
        for label, held, limit in zip(judged, found, limits, strict=True)
    }
    return Together(values, _macro(found, limits, level=level), int(asked.sum()))


def power_by_feature(
    columns: Floats, owners: Ints, labels: Ints, *, features: int, seed: int, level: float = LEVEL
) -> ByFeature | None:
    """How well each feature alone tells each label from the rest: the best of its columns, high, low or middling values.

    Limits need no learning: every column's own AUC has an interval, all of them hold together, and a feature tells what
    its best column tells in whichever direction, so its limits are the largest of its columns'. The value is made more
    carefully, because the largest of many AUCs is large by chance (the usual max(AUC, 1 - AUC) finds 0.55 in noise):
    column, direction and label are chosen on four fifths of the users and told of the last.

    Args:
        columns: As in `power_together`.
        owners: Shape (columns,), ascending: the feature that each column is made of, 0 to features - 1.
        labels: As in `power_together`.
        features: Number of features.
        seed: Of folds and multipliers.
        level: Two-sided confidence, of all features, columns and labels together.

    Returns:
        None where no label has enough users.
    """
    judged = judged_labels(labels, least=LEAST_ALONE)
    if not judged:
        return None
    scaled = normal_scores(columns)
    # What only middling or only extreme values have in common shows in the distance from the middle.
    scores = np.hstack([scaled, np.abs(scaled)])
    owner = np.concatenate([owners, owners])
    one = np.zeros(labels.size, dtype=np.int64)
    whole = [separation(scores, labels == label, one) for label in judged]
    limits = limits_together(whole, level=level, seed=seed)

    def largest(parts: list[Floats], least: float) -> Floats:
        return np.stack([_largest(part, owner, features, least=least) for part in parts])

    lows = largest([np.maximum(limit.low, 1 - limit.high) for limit in limits], 0.5)
    highs = largest([np.maximum(limit.high, 1 - limit.low) for limit in limits], 0.5)
    detectable = largest([limit.detectable for limit in limits], 0.0)
    folds = stratified_blocks(labels, seed=seed, first=0.0)
    by_fold = np.stack([[_fold_auc(scores, labels == label, folds == k) for k in range(BLOCKS)] for label in judged])
    values = np.stack([_chosen_elsewhere(by_fold[[place]], owner, features)[0] for place in range(len(judged))])
    overall, best = _chosen_elsewhere(by_fold, owner, features)
    low, high = lows.max(axis=0), highs.max(axis=0)
    return ByFeature(
        labels=judged,
        figures=tuple(
            Figure(
                float(np.clip(overall[f], low[f], high[f])),
                float(low[f]),
                float(high[f]),
                float(detectable[:, f].max()),
            )
            for f in range(features)
        ),
        best=np.array(judged, dtype=np.int64)[best],
        values=np.clip(values, lows, highs),
        lows=lows,
        highs=highs,
    )


def _fold_auc(scores: Floats, positives: NDArray[np.bool_], inside: NDArray[np.bool_]) -> Floats:
    one = np.zeros(int(inside.sum()), dtype=np.int64)
    return separation(scores[inside], positives[inside], one).auc


def _largest(figures: Floats, owner: Ints, features: int, *, least: float) -> Floats:
    """The largest figure of each feature's columns; `least` for a feature without any."""
    found = np.full(features, least)
    np.maximum.at(found, owner, figures)
    return found


def _chosen_elsewhere(by_fold: Floats, owner: Ints, features: int) -> tuple[Floats, Ints]:
    """AUC of each feature where label, column and direction are chosen on the other folds; and the label chosen on all.

    Args:
        by_fold: Shape (labels, folds, columns).
        owner: Shape (columns,).
        features: Number of features.
    """
    folds = by_fold.shape[1]
    value, best = np.full(features, 0.5), np.zeros(features, dtype=np.int64)
    total = by_fold.sum(axis=1)
    for feature in range(features):
        own = owner == feature
        if not own.any():
            continue
        told = []
        for fold in range(folds):
            elsewhere = (total[:, own] - by_fold[:, fold, own]) / (folds - 1) - 0.5
            place = np.unravel_index(np.argmax(np.abs(elsewhere)), elsewhere.shape)
            here = by_fold[:, fold, own][place]
            told.append(here if elsewhere[place] >= 0 else 1 - here)
        value[feature] = float(np.mean(told))
        best[feature] = int(np.argmax(np.abs(total[:, own] / folds - 0.5).max(axis=1)))
    return value, best


def _macro(found: list[Separation], limits: list[Limits], *, level: float) -> Figure:
    auc, influence = mean_separation(found)
    rarest = min(found, key=lambda held: min(held.positives.sum(), (~held.positives).sum()))
    low, high, error = alone(float(auc[0]), influence[:, 0], rarest.positives, blocks=BLOCKS, level=level)
    if not error > 0:
        # No user is told wrongly: the mean lies between the means of limits that hold together.
        low, high = (float(np.mean([getattr(limit, part)[0] for limit in limits])) for part in ("low", "high"))
    return Figure(float(auc[0]), low, high, float(np.mean([limit.detectable[0] for limit in limits])))
