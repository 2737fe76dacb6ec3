"""What users' columns say of an attribute: learned on some users, asked about others.

Users are drawn into blocks; each block is asked about by models of the blocks before it, never of itself or later ones.
In the usual five folds, each asked about by models of the other four, any two folds learn from each other: where there is
nothing to learn their errors agree, and the spread is larger than its formula says (simulated 95 % intervals held 0.5 in 81
to 89 % of cases). Learning forwards only, every block is fresh data for its model, so the spread is what it seems (a
martingale; Luedtke and van der Laan 2016), at the price of the first users, who are only learned from.

Two learners that fail differently: a ridge regression of each value's indicator (a straight line, good with few users) and
a forest of random trees (combinations and humps). Their scores are added up in equal parts; neither is chosen by how well
it does, because a choice made on the same users would flatter itself.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import RidgeCV

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BLOCKS = 5
"""Blocks of users that are asked about."""
FIRST_SHARE = 0.3
"""Share of users who are only learned from."""
UNASKED = -1
_PENALTIES = np.logspace(1.0, 5.0, 5)
_TREES = 60
_LEAF = 8

Learner = Callable[[Floats, Ints, int, Floats], Floats]
"""(columns of known users, their labels, number of labels, columns of asked users) -> scores, shape (asked, labels)."""


def stratified_blocks(labels: Ints, *, seed: int, first: float = FIRST_SHARE, blocks: int = BLOCKS) -> Ints:
    """A block for each user, drawn so that every label is spread evenly.

    Args:
        labels: Shape (users,).
        seed: Of the draw.
        first: Share of users who are asked about in no block.
        blocks: Number of blocks.

    Returns:
        Shape (users,): 0 to blocks - 1, `UNASKED` for the first.
    """
    rng = np.random.default_rng(seed)
    drawn = np.empty(labels.size, dtype=np.int64)
    dealt = 0
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        early = round(first * members.size)
        drawn[members[:early]] = UNASKED
        # Dealing goes on where the last label ended, so that blocks are of equal size too.
        drawn[members[early:]] = (dealt + np.arange(members.size - early)) % blocks
        dealt += members.size - early
    return drawn


def normal_scores(columns: Floats) -> Floats:
    """Each column by its ranks, on a normal scale: no outlier leads, no unit matters. Unknown values become 0, the middle.

    Ranks are taken over all users: they know nothing of any label.

    Args:
        columns: Shape (users, columns); NaN = unknown.
    """
    known = np.isfinite(columns)
    ranks = rankdata(np.where(known, columns, np.inf), axis=0)
    counts = known.sum(axis=0)
    scores = np.where(known, ndtri(np.where(known, ranks, 0.5) / (counts + 1)), 0.0)
    spread = scores.std(axis=0)
    scaled: Floats = scores / np.where(spread > 0, spread, 1.0)
    return scaled


def linear(known: Floats, labels: Ints, count: int, asked: Floats) -> Floats:
    """Ridge regression of each label's indicator, its penalty by leaving one known user out."""
    told = (labels[:, None] == np.arange(count)).astype(np.float64)
    model = RidgeCV(alphas=_PENALTIES, alpha_per_target=True).fit(known, told)
    return np.asarray(model.predict(asked), dtype=np.float64).reshape(len(asked), count)


def forest(known: Floats, labels: Ints, count: int, asked: Floats) -> Floats:
    """Share of random trees' leaves that has each label; 0 for a label that no known user has."""
    # One thread and a fixed seed: the sum over trees has one order, so a replay gives equal bytes.
    model = ExtraTreesClassifier(
        n_estimators=_TREES, min_samples_leaf=_LEAF, max_features="sqrt", random_state=0, n_jobs=1
    ).fit(known.astype(np.float32), labels)
    scores = np.zeros((len(asked), count))
    scores[:, model.classes_] = model.predict_proba(asked.astype(np.float32))
    return scores


def both(known: Floats, labels: Ints, count: int, asked: Floats) -> Floats:
    """The two learners' scores in equal parts, each in its own spread over the asked users."""
    return sum(
        (_standardised(learner(known, labels, count, asked)) for learner in (linear, forest)),
        start=np.zeros((len(asked), count)),
    )


def _standardised(scores: Floats) -> Floats:
    spread = scores.std(axis=0)
    scaled: Floats = (scores - scores.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return scaled


def asked_forwards(columns: Floats, labels: Ints, blocks: Ints, *, count: int, learner: Learner) -> Floats:
    """Scores of every user who is asked about, by a model of the blocks before theirs.

    Args:
        columns: Shape (users, columns), finite.
        labels: Shape (users,), 0 to count - 1.
        blocks: Shape (users,), as `stratified_blocks` draws them.
        count: Number of labels.
        learner: What is learned.

    Returns:
        Shape (users, labels), 0 for users who are not asked about; to 9 digits, because another processor's last digits
        must not reorder users.
    """
    scores = np.zeros((len(labels), count))
    for block in np.unique(blocks[blocks != UNASKED]):
        known, asked = blocks < block, blocks == block
        scores[asked] = learner(columns[known], labels[known], count, columns[asked])
    return np.round(scores, 9)
