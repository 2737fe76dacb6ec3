"""How far two samples of one column are apart, and how sure that is: the Jensen-Shannon distance on shared bins.

The definition is Evidently's `jensenshannon` (0.7), so that its figures and ours are the same: numbers with more than 20
distinct values in the reference fall into the bins of a Sturges histogram over both samples, everything else into its
values; missing values are left out; logarithms are natural. Ours exists because a calibrated threshold and an interval need
hundreds of distances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.statistics.sums import resampled_sums

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_FEW_VALUES = 20
_BATCH_ENTRIES = 1 << 24


@dataclass(frozen=True, slots=True)
class Distance:
    """Distance of two samples. NaN where one of them has no value; limits NaN where one has fewer than two users."""

    value: float
    low: float
    """A lower limit of the true distance: the noise that resampling adds is taken off first."""
    high: float
    noise: float
    """What noise alone would show, on average, for these users."""
    n_users: int


def bin_columns(reference: Floats, current: Floats, *, categorical: bool) -> tuple[Ints, Ints, int]:
    """Bin of each value in shared bins, and their number; NaN must have been left out."""
    few = len(np.unique(reference)) <= _FEW_VALUES
    both = np.concatenate([reference, current])
    if categorical or few:
        values, codes = np.unique(both, return_inverse=True)
        return codes[: len(reference)], codes[len(reference) :], len(values)
    edges = np.histogram_bin_edges(both, bins="sturges")
    # As np.histogram does it: the last bin is closed on both sides.
    codes = np.clip(np.searchsorted(edges, both, side="right") - 1, 0, len(edges) - 2)
    return codes[: len(reference)], codes[len(reference) :], len(edges) - 1


def jensen_shannon(reference: Floats, current: Floats) -> Floats:
    """Divergence of counts along the first axis, natural logarithm; 0 log 0 = 0. Its root is the distance."""
    with np.errstate(divide="ignore", invalid="ignore"):
        p = reference / reference.sum(axis=0)
        q = current / current.sum(axis=0)
        middle = (p + q) / 2
        terms = np.where(p > 0, p * np.log(p / middle), 0.0) + np.where(q > 0, q * np.log(q / middle), 0.0)
    divergence: Floats = np.maximum(terms.sum(axis=0) / 2, 0.0)
    return divergence


def plain_distance(reference: Floats, current: Floats, *, categorical: bool) -> float:
    """The distance alone; NaN where a sample has no value."""
    reference, current = reference[np.isfinite(reference)], current[np.isfinite(current)]
    if not len(reference) or not len(current):
        return float("nan")
    here, there, bins = bin_columns(reference, current, categorical=categorical)
    counts = [np.bincount(codes, minlength=bins).astype(np.float64) for codes in (here, there)]
    return float(np.sqrt(jensen_shannon(*counts)))


def settled_distance(
    reference: Floats, current: Floats, reference_users: Ints, current_users: Ints, *, categorical: bool
) -> float:
    """The distance with what noise alone adds to the divergence taken off; 0 where noise explains it all.

    A distance is never negative, so two samples of one distribution are always some way apart, and further the fewer
    users they come from. To second order the divergence is a sum of squared differences of the bins' shares, whose
    variance over users is known without resampling.

    Args:
        reference: Shape (reference rows,); NaN is left out.
        current: Shape (current rows,).
        reference_users: User of each reference row.
        current_users: User of each current row.
        categorical: Whether values are codes whatever their number.

    Returns:
        NaN where a sample has no value.
    """
    known, known_now = np.isfinite(reference), np.isfinite(current)
    if not known.any() or not known_now.any():
        return float("nan")
    here, there, bins = bin_columns(reference[known], current[known_now], categorical=categorical)
    users, row = np.unique(np.concatenate([reference_users[known], current_users[known_now]]), return_inverse=True)
    counts = [
        _by_user(rows, codes, len(users), bins) for rows, codes in ((row[: len(here)], here), (row[len(here) :], there))
    ]
    p, q = (part.sum(axis=0) / part.sum() for part in counts)
    # What each user adds to the difference of the shares; a user who is in both windows is counted once.
    pulls = [part - part.sum(axis=1, keepdims=True) * share for part, share in zip(counts, (p, q), strict=True)]
    spread = ((pulls[0] / counts[0].sum() - pulls[1] / counts[1].sum()) ** 2).sum(axis=0)
    middle = (p + q) / 2
    noise = float((spread[middle > 0] / middle[middle > 0]).sum()) / 8
    return float(np.sqrt(max(float(jensen_shannon(p, q)) - noise, 0.0)))


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One column of both windows."""

    reference: Floats
    """Shape (reference rows,); NaN is left out."""
    current: Floats
    """Shape (current rows,)."""
    categorical: bool
    """Whether values are codes whatever their number."""


def distances(
    samples: Sequence[Sample], reference_users: Ints, current_users: Ints, *, resamples: int, seed: int, level: float
) -> list[Distance]:
    """The distance of each column with an interval from resampling users: one user's rows come and go together.

    Resampling adds its own noise to the divergence, so a plain percentile interval lies too high. The lower limit takes
    the mean of what is added off; the upper does not, which errs on the side of caution.

    Args:
        samples: The columns.
        reference_users: User of each reference row.
        current_users: User of each current row.
        resamples: Number of resamples.
        seed: Seed of the resamples: every column sees the same draws of users.
        level: Confidence of [low, high].
    """
    users, row = np.unique(np.concatenate([reference_users, current_users]), return_inverse=True)
    rows = row[: len(reference_users)], row[len(reference_users) :]
    counted = [_counts(sample, rows, len(users)) for sample in samples]
    found: list[Distance] = []
    batch = max(1, _BATCH_ENTRIES // max(1, len(users) * max((terms.shape[1] for terms in counted), default=1)))
    for begin in range(0, len(counted), batch):
        some = counted[begin : begin + batch]
        drawn = resampled_sums(np.hstack(some), [np.arange(len(users))], resamples=resamples, seed=seed)[0]
        ends = np.cumsum([terms.shape[1] for terms in some])
        found += [_distance(terms, part, level) for terms, part in zip(some, np.split(drawn, ends[:-1]), strict=True)]
    return found


def _counts(sample: Sample, rows: tuple[Ints, Ints], users: int) -> Floats:
    """Rows of each user in each bin, the reference's bins before the current's: shape (users, 2 bins)."""
    known, known_now = np.isfinite(sample.reference), np.isfinite(sample.current)
    if not known.any() or not known_now.any():
        return np.zeros((users, 2))
    here, there, bins = bin_columns(sample.reference[known], sample.current[known_now], categorical=sample.categorical)
    return np.concatenate(
        [_by_user(rows[0][known], here, users, bins), _by_user(rows[1][known_now], there, users, bins)], axis=1
    )


def _distance(terms: Floats, drawn: Floats, level: float) -> Distance:
    """One column's distance from its counts by user and their resampled sums, shape (2 bins, resamples)."""
    nothing = float("nan")
    bins = terms.shape[1] // 2
    present = [(part.sum(axis=1) > 0) for part in (terms[:, :bins], terms[:, bins:])]
    if not present[0].any() or not present[1].any():
        return Distance(nothing, nothing, nothing, nothing, 0)
    n_users = int((present[0] | present[1]).sum())
    found = float(jensen_shannon(terms[:, :bins].sum(axis=0), terms[:, bins:].sum(axis=0)))
    if present[0].sum() < 2 or present[1].sum() < 2:
        return Distance(float(np.sqrt(found)), nothing, nothing, nothing, n_users)
    divergences = jensen_shannon(drawn[:bins], drawn[bins:])
    divergences = divergences[np.isfinite(divergences)]
    noise = max(float(divergences.mean()) - found, 0.0)
    spread = np.quantile(divergences - divergences.mean(), [(1 - level) / 2, (1 + level) / 2])
    low = np.sqrt(max(found - noise - float(spread[1]), 0.0))
    high = np.sqrt(max(found - float(spread[0]), 0.0))
    return Distance(float(np.sqrt(found)), float(low), float(high), float(np.sqrt(noise)), n_users)


def _by_user(row: Ints, codes: Ints, users: int, bins: int) -> Floats:
    counts: Floats = np.bincount(row * bins + codes, minlength=users * bins).reshape(users, bins).astype(np.float64)
    return counts
