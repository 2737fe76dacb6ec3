"""How far two samples of one column are apart, and how sure that is: the Jensen-Shannon distance on shared bins.

    values -> bins -> rows of each cluster of users in each bin -> distance, its noise and its limits

The definition is Evidently's `jensenshannon` (0.7), so that its figures and ours are the same: numbers with more than 20
distinct values in the reference fall into the bins of a Sturges histogram over both samples, everything else into its
values; missing values are left out; logarithms are natural. Ours exists because a calibrated threshold and an interval need
hundreds of distances. Once a column is counted its rows are no longer needed: memory grows with clusters and bins alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.statistics.power import normal_critical
from components.statistics.studentised import student_critical
from components.statistics.sums import resampled_sums

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_CLUSTERS = 4096
"""Users beyond so many are dealt into so many clusters, which are resampled whole: as sure as users are, at a cost that no
longer grows. The spread of a resampled sum is then known to about one part in ninety (1 / sqrt(2 clusters))."""

_LEAST_CLUSTERS = 256
_MOST_ENTRIES = 1 << 23
_FEW_VALUES = 20
_PROBED = 4096
_BATCH_ENTRIES = 1 << 24
_USUAL_LEVEL = 0.95
_POWER_CRITICAL = 0.8416212335729143


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
    reach: float
    """How much of the divergence (the distance squared) the lower limit takes off beside the noise."""
    deviation: float
    """Standard deviation of the resampled divergences."""

    def detectable(self, threshold: float) -> float:
        """Smallest true distance whose lower limit would be above the threshold with power 0.8; NaN without limits."""
        return math.sqrt(threshold**2 + self.reach + _POWER_CRITICAL * self.deviation)


@dataclass(frozen=True, slots=True, eq=False)
class Owners:
    """Whose rows the rows of two windows are."""

    users: int
    """Number of different users."""
    user: tuple[Ints, Ints]
    """Dense index of the user of each reference row and of each current row."""
    cluster: tuple[Ints, Ints]
    """Cluster of each, where there are not too many bins."""

    def clusters(self, bins: int) -> int:
        """Number of clusters that are resampled whole: the users themselves, unless they or the bins are very many."""
        return min(self.users, MOST_CLUSTERS, max(_LEAST_CLUSTERS, _MOST_ENTRIES // bins))


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """All that is kept of one column in both windows."""

    counts: Floats
    """Rows of each cluster in each bin, the reference's bins before the current's: shape (clusters, 2 bins)."""
    n_users: int
    """Users with a value in either window."""
    fewest: int
    """Users with a value in the window that has fewer of them."""


def owners_of(reference: NDArray[np.integer], current: NDArray[np.integer]) -> Owners:
    """The owners of rows, from the user (a number from 0 on) of each reference row and of each current row."""
    present = np.zeros(max(int(reference.max(initial=0)), int(current.max(initial=0))) + 1, dtype=bool)
    present[reference] = True
    present[current] = True
    dense = np.cumsum(present) - 1
    users = int(present.sum())
    user = dense[reference], dense[current]
    most = max(min(users, MOST_CLUSTERS), 1)
    return Owners(users, user, (user[0] % most, user[1] % most))


def bin_columns(reference: Floats, current: Floats, *, categorical: bool) -> tuple[Ints, Ints, int]:
    """Bin of each value in shared bins, and their number; NaN must have been left out."""
    if categorical or _has_few_values(reference):
        values = np.union1d(np.unique(reference), np.unique(current))
        return np.searchsorted(values, reference), np.searchsorted(values, current), len(values)
    lowest = min(float(reference.min()), float(current.min()))
    highest = max(float(reference.max()), float(current.max()))
    # Sturges' rule; np.histogram_bin_edges(both, "sturges") without joining both.
    width = (highest - lowest) / (math.log2(len(reference) + len(current)) + 1)
    edges = np.linspace(lowest, highest, math.ceil((highest - lowest) / width) + 1)
    return _equal_bins(reference, edges), _equal_bins(current, edges), len(edges) - 1


def _has_few_values(reference: Floats) -> bool:
    # Most numbers show that they are many at once, without sorting millions of them.
    return len(np.unique(reference[:_PROBED])) <= _FEW_VALUES and len(np.unique(reference)) <= _FEW_VALUES


def _equal_bins(values: Floats, edges: Floats) -> Ints:
    """Bin of each value between equally spaced edges, as np.histogram has it: the last bin is closed on both sides."""
    last = len(edges) - 2
    codes: Ints = ((values - edges[0]) * ((last + 1) / (edges[-1] - edges[0]))).astype(np.int64)
    np.clip(codes, 0, last, out=codes)
    # The product may round to the other side of an edge.
    codes -= values < edges[codes]
    codes += (values >= edges[codes + 1]) & (codes < last)
    return codes


def jensen_shannon(reference: Floats, current: Floats) -> Floats:
    """Divergence of counts along the first axis, natural logarithm; 0 log 0 = 0. Its root is the distance."""
    with np.errstate(divide="ignore", invalid="ignore"):
        p = reference / reference.sum(axis=0)
        q = current / current.sum(axis=0)
        middle = (p + q) / 2
        terms = np.where(p > 0, p * np.log(p / middle), 0.0) + np.where(q > 0, q * np.log(q / middle), 0.0)
    divergence: Floats = np.maximum(terms.sum(axis=0) / 2, 0.0)
    return divergence


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
    counted = count(reference, current, owners_of(reference_users, current_users), categorical=categorical)
    return settled(counted)


def settled(counted: Counted, *, doubt: float = 0.0) -> float:
    """As `settled_distance`, from counts; `doubt` takes off so many standard deviations of the noise beside its mean."""
    bins = counted.counts.shape[1] // 2
    counts = counted.counts[:, :bins], counted.counts[:, bins:]
    totals = counts[0].sum(), counts[1].sum()
    if not min(totals) > 0:
        return float("nan")
    p, q = (part.sum(axis=0) / total for part, total in zip(counts, totals, strict=True))
    # What each user adds to the difference of the shares; a user who is in both windows is counted once.
    pulls = [part - part.sum(axis=1, keepdims=True) * share for part, share in zip(counts, (p, q), strict=True)]
    spread = ((pulls[0] / totals[0] - pulls[1] / totals[1]) ** 2).sum(axis=0)
    middle = (p + q) / 2
    noise = spread[middle > 0] / middle[middle > 0] / 8
    # A sum of squares of (nearly) independent normals: the variance of each is twice its squared mean.
    most = float(noise.sum()) + doubt * math.sqrt(2 * float((noise**2).sum()))
    return float(np.sqrt(max(float(jensen_shannon(p, q)) - most, 0.0)))


def count(reference: Floats, current: Floats, owners: Owners, *, categorical: bool) -> Counted:
    """Bin and count one column of both windows.

    Args:
        reference: Shape (reference rows,); NaN is left out.
        current: Shape (current rows,).
        owners: Whose rows they are.
        categorical: Whether values are codes whatever their number.
    """
    kept = [np.isfinite(values) for values in (reference, current)]
    if not kept[0].any() or not kept[1].any():
        return Counted(np.zeros((owners.clusters(1), 2)), 0, 0)
    whole = bool(kept[0].all() and kept[1].all())
    rows = (slice(None), slice(None)) if whole else kept
    here, there, bins = bin_columns(reference[rows[0]], current[rows[1]], categorical=categorical)
    clusters = owners.clusters(bins)
    parts, present = [], np.zeros((2, owners.users), dtype=bool)
    for place, codes in enumerate((here, there)):
        # Clusters of clusters, where bins are so many that memory asks for fewer.
        cluster = owners.cluster[place][rows[place]] % clusters
        counts = np.bincount(cluster * bins + codes, minlength=clusters * bins)
        parts.append(counts.reshape(clusters, bins))
        present[place, owners.user[place][rows[place]]] = True
    return Counted(
        np.concatenate(parts, axis=1).astype(np.float64),
        n_users=int(present.any(axis=0).sum()),
        fewest=int(present.sum(axis=1).min()),
    )


def distances(
    columns: Sequence[Counted], families: Sequence[str], *, resamples: int, seed: int, level: float
) -> tuple[list[Distance], Floats]:
    """The distance of each column with an interval from resampling users: one user's rows come and go together.

    Resampling adds its own noise to the divergence, so a plain percentile interval lies too high. The lower limit takes
    the mean of what is added off; the upper does not, which errs on the side of caution. Few users widen both, as
    Student's t widens a normal's.

    Args:
        columns: What was counted of each.
        families: Name of each column's family: its intervals hold together (max-t, each column measured in its own
            limits); empty = stands alone.
        resamples: Number of resamples.
        seed: Seed of the resamples: every column sees the same draws of users.
        level: Confidence of [low, high].

    Returns:
        By column, and how far each resample's divergence lies from the mean of its column's, shape (columns, resamples):
        NaN where there is none, from the same draws of users in every column.
    """
    drawn = _resampled(columns, resamples=resamples, seed=seed)
    moved = np.stack([_around_mean(column, found) for column, found in zip(columns, drawn, strict=True)])
    reach = np.array([_own_reach(around, level) for around in moved])
    for family in sorted(set(families) - {""}):
        members = [place for place, name in enumerate(families) if name == family and np.isfinite(reach[place]).all()]
        if members:
            reach[members] *= _family_factor(moved[members], reach[members], level=level)
    found = [
        _distance(column, divergences, below, above)
        for column, divergences, (below, above) in zip(columns, drawn, reach.tolist(), strict=True)
    ]
    return found, moved


def _resampled(columns: Sequence[Counted], *, resamples: int, seed: int) -> Floats:
    """Divergence of each column in each resample, shape (columns, resamples); NaN where a window has no row left."""
    found = np.empty((len(columns), resamples))
    for places in _batches(columns):
        some = [columns[place].counts for place in places]
        sums = resampled_sums(np.hstack(some), [np.arange(len(some[0]))], resamples=resamples, seed=seed)[0]
        ends = np.cumsum([counts.shape[1] for counts in some])
        for place, part in zip(places, np.split(sums, ends[:-1]), strict=True):
            bins = len(part) // 2
            empty = (part[:bins].sum(axis=0) == 0) | (part[bins:].sum(axis=0) == 0)
            found[place] = np.where(empty, np.nan, jensen_shannon(part[:bins], part[bins:]))
    return found


def _batches(columns: Sequence[Counted]) -> Iterator[list[int]]:
    """Columns of equal numbers of clusters together, as many at once as memory should hold."""
    batch: list[int] = []
    entries = 0
    for place, column in enumerate(columns):
        full = entries + column.counts.size > _BATCH_ENTRIES
        if batch and (full or len(column.counts) != len(columns[batch[0]].counts)):
            yield batch
            batch, entries = [], 0
        batch.append(place)
        entries += column.counts.size
    if batch:
        yield batch


def _around_mean(column: Counted, divergences: Floats) -> Floats:
    """Resampled divergences less their mean, as wide as few users ask for; NaN with fewer than two users in a window."""
    if column.fewest < 2:
        return np.full(len(divergences), np.nan)
    few = float(student_critical(np.array([column.fewest - 1.0]), level=_USUAL_LEVEL)[0]) / normal_critical(
        _USUAL_LEVEL
    )
    # Resamples of n users spread like the population's, (n - 1) / n too little.
    wider = few * math.sqrt(column.fewest / (column.fewest - 1))
    around: Floats = wider * (divergences - np.nanmean(divergences))
    return around


def _own_reach(moved: Floats, level: float) -> tuple[float, float]:
    """How much of the divergence the limits lie below and above, standing alone; NaN where there are none."""
    usable = moved[np.isfinite(moved)]
    if not len(usable):
        return math.nan, math.nan
    down, up = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2])
    return max(float(up), 0.0), max(-float(down), 0.0)


def _family_factor(moved: Floats, reach: Floats, *, level: float) -> float:
    """By how much a family's limits widen so that they hold together."""
    spreads = (reach > 0).all(axis=1)
    if spreads.sum() < 2:
        return 1.0
    moved, reach = moved[spreads], reach[spreads]
    relative = np.nan_to_num(np.where(moved > 0, moved / reach[:, :1], -moved / reach[:, 1:])).max(axis=0)
    return max(float(np.quantile(relative, level, method="higher")), 1.0)


def _distance(column: Counted, divergences: Floats, below: float, above: float) -> Distance:
    nothing = math.nan
    if not column.fewest:
        return Distance(nothing, nothing, nothing, nothing, 0, nothing, nothing)
    bins = column.counts.shape[1] // 2
    totals = column.counts.sum(axis=0)
    found = float(jensen_shannon(totals[:bins], totals[bins:]))
    value = math.sqrt(found)
    if not math.isfinite(below):
        return Distance(value, nothing, nothing, nothing, column.n_users, nothing, nothing)
    usable = divergences[np.isfinite(divergences)]
    noise = max(float(usable.mean()) - found, 0.0)
    return Distance(
        value,
        low=math.sqrt(max(found - noise - below, 0.0)),
        high=math.sqrt(found + above),
        noise=math.sqrt(noise),
        n_users=column.n_users,
        reach=below,
        deviation=float(usable.std()),
    )
