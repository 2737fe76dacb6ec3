"""Draws what users could have taken at a cut and did not: the rows that a sampled log has none of.

Draws are even over all that was available. Harder negatives were measured and are worse: on Online Retail, NDCG@10 of retrieved
candidates in the validation window was 0.157 and 0.161 (two seeds) with even draws, 0.135 and 0.143 with a fifth of them by
popularity, 0.126 and 0.129 with half, 0.109 and 0.118 with a fifth by co-visitation with what the user had taken. The
harder a negative, the likelier that it is next week's positive, and a ranker must still know what nobody should see.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from components.dataset.requests import History, Pairs
from components.dataset.split import Moment


def sample_negatives(
    pairs: Pairs,
    history: History,
    cut: Moment,
    *,
    available: NDArray[np.bool_],
    per_user: int,
    exclude_seen: bool,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Items that each asking user could have taken at a cut and did not.

    Args:
        pairs: What the users took; their users ask.
        history: All outcomes; only what lies before the cut is looked at.
        cut: The cut.
        available: Whether each item could be shown at the cut, shape (items,); at least one could.
        per_user: How many to draw for each user; fewer are returned where draws repeat or hit what was taken.
        exclude_seen: Whether what a user had taken before is no candidate.
        rng: Source of the draws.

    Returns:
        Users and items, ascending, distinct; no positive pair among them.
    """
    n_items = len(available)
    users, candidates = np.unique(pairs.users), np.flatnonzero(available)
    drawn = candidates[rng.integers(0, len(candidates), (len(users), per_user))]
    marks = np.unique(users.astype(np.int64)[:, None] * n_items + drawn)
    refused = [pairs.users.astype(np.int64) * n_items + pairs.items]
    if exclude_seen:
        before = slice(0, cut.rows)
        refused.append(history.users[before].astype(np.int64) * n_items + history.items[before])
    marks = marks[~np.isin(marks, np.concatenate(refused))]
    return (marks // n_items).astype(np.int32), (marks % n_items).astype(np.int32)
