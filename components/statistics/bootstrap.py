"""Intervals by resampling users: means, groups against the rest, ratios.

One row a user, because the requests of a user are not independent: an interval that resamples requests covers 57 % where
it says 95 %. A user's weight is the same in every group and column, so differences of columns and groups are paired by
construction; a paired difference of two systems is simply a column of differences.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from components.statistics.intervals import Intervals
from components.statistics.studentised import critical_values, family_factor
from components.statistics.sums import group_sums, resampled_sums

Floats = NDArray[np.float64]
Members = list[NDArray[np.intp]]


def user_bootstrap(
    values: Floats,
    *,
    groups: NDArray[np.bool_] | None = None,
    resamples: int = 1000,
    seed: int,
    level: float = 0.95,
    simultaneous: bool = False,
    families: NDArray[np.int64] | None = None,
    bounds: tuple[float, float] | None = None,
) -> Intervals:
    """Mean over users of each column in each group, with an interval.

    Args:
        values: One row a user, shape (users, columns), float64. NaN = the user is not in that column (had no request
            with a positive, say).
        groups: Which users are in which group, shape (groups, users); None = one group of everyone. Groups may overlap.
        resamples: Number of resamples.
        seed: Seed; a result depends on it and on the order of users, never on other groups or columns.
        level: Two-sided confidence.
        simultaneous: Intervals that hold all together with probability `level` (max-t), instead of each alone.
        families: With `simultaneous`, the family of each estimate, shape (groups, columns); None = one family.
        bounds: Smallest and largest value that a user can have, such as (0, 1) for NDCG and (-1, 1) for its difference.
            Limits never leave them; and where all users of a group have the same value, they give the interval that the
            sample itself cannot (a share of unlike users below 1 - (1 - level)**(1 / n) would go unseen).

    Returns:
        Arrays of shape (groups, columns).

    Raises:
        ValueError: If shapes, level, or resamples do not fit, or a value is infinite.
    """
    table, members = _checked(values, groups, resamples, level)
    present = ~np.isnan(table)
    filled, centre = _centred(table, present)
    terms = np.hstack([filled, filled**2, present])
    exact, drawn = _moments(terms, members, resamples=resamples, seed=seed)
    mean, variance, count = _mean_and_variance(*_thirds(exact))
    means, variances, _ = _mean_and_variance(*_thirds(drawn))
    intervals = _limits(
        mean + centre,
        mean,
        np.sqrt(variance),
        means,
        resampled_error=np.sqrt(variances),
        count=count,
        level=level,
        families=_families(simultaneous, families, mean.shape),
        name="user bootstrap-t",
        resamples=resamples,
    )
    return intervals if bounds is None else _within(intervals, bounds)


def group_differences(
    values: Floats,
    *,
    groups: NDArray[np.bool_],
    rest: NDArray[np.bool_] | None = None,
    resamples: int = 1000,
    seed: int,
    level: float = 0.95,
    simultaneous: bool = False,
    families: NDArray[np.int64] | None = None,
) -> Intervals:
    """Mean of each group minus the mean of its rest, per column.

    Pass per-user differences of two systems to get the change of a gap between them.

    Args:
        values: As in `user_bootstrap`.
        groups: As in `user_bootstrap`.
        rest: Whom each group is held against, shape (groups, users); None = everyone who is not in it.
        resamples: As in `user_bootstrap`.
        seed: As in `user_bootstrap`.
        level: As in `user_bootstrap`.
        simultaneous: As in `user_bootstrap`.
        families: As in `user_bootstrap`.

    Returns:
        Arrays of shape (groups, columns); `n_users` counts the group. NaN where the group or the rest is empty.

    Raises:
        ValueError: As in `user_bootstrap`.
    """
    mean, variance, count, means, variances = _group_and_rest(
        values, groups, rest, resamples=resamples, seed=seed, level=level
    )
    with np.errstate(invalid="ignore"):
        return _limits(
            mean[0] - mean[1],
            mean[0] - mean[1],
            np.sqrt(variance[0] + variance[1]),
            means[0] - means[1],
            resampled_error=np.sqrt(variances[0] + variances[1]),
            count=count[0],
            level=level,
            families=_families(simultaneous, families, mean[0].shape),
            name="user bootstrap-t of group minus rest",
            resamples=resamples,
        )


def group_ratios(
    values: Floats,
    *,
    groups: NDArray[np.bool_],
    rest: NDArray[np.bool_] | None = None,
    resamples: int = 1000,
    seed: int,
    level: float = 0.95,
    simultaneous: bool = False,
    families: NDArray[np.int64] | None = None,
) -> Intervals:
    """Mean of each group divided by the mean of its rest, per column; values >= 0.

    Studentised on the logarithm, so that the interval of a ratio and of its inverse say the same. Arguments as in
    `group_differences`.

    Returns:
        Arrays of shape (groups, columns); NaN where the rest's mean is not above zero, NaN limits where the group's is
        zero. `standard_error` is of the natural logarithm.

    Raises:
        ValueError: As in `user_bootstrap`.
    """
    mean, variance, count, means, variances = _group_and_rest(
        values, groups, rest, resamples=resamples, seed=seed, level=level, centre=False
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        log = np.log(mean[0]) - np.log(mean[1])
        error = np.sqrt(variance[0] / mean[0] ** 2 + variance[1] / mean[1] ** 2)
        logs = np.log(means[0]) - np.log(means[1])
        errors = np.sqrt(variances[0] / means[0] ** 2 + variances[1] / means[1] ** 2)
    return _ratio(
        np.where(mean[1] > 0, mean[0] / np.where(mean[1] > 0, mean[1], 1.0), np.nan),
        (log, error, logs, errors),
        count[0],
        level=level,
        families=_families(simultaneous, families, log.shape),
        name="user bootstrap-t of the log ratio to the rest",
        resamples=resamples,
    )


def paired_ratios(
    numerators: Floats,
    denominators: Floats,
    *,
    groups: NDArray[np.bool_] | None = None,
    resamples: int = 1000,
    seed: int,
    level: float = 0.95,
    simultaneous: bool = False,
    families: NDArray[np.int64] | None = None,
) -> Intervals:
    """Mean of a column divided by the mean of another over the same users: a system against another, a share of a total.

    Args:
        numerators: Shape (users, columns), >= 0; NaN = the user is in neither.
        denominators: As `numerators`.
        groups: As in `user_bootstrap`.
        resamples: As in `user_bootstrap`.
        seed: As in `user_bootstrap`.
        level: As in `user_bootstrap`.
        simultaneous: As in `user_bootstrap`.
        families: As in `user_bootstrap`.

    Returns:
        As in `group_ratios`.

    Raises:
        ValueError: As in `user_bootstrap`, and if the two shapes differ.
    """
    if numerators.shape != denominators.shape:
        raise ValueError(
            f"denominators: found shape {denominators.shape}; needed that of numerators, {numerators.shape}."
        )
    absent = np.isnan(numerators) | np.isnan(denominators)
    table, members = _checked(np.where(absent, np.nan, numerators), groups, resamples, level)
    above = np.where(absent, 0.0, table)
    under = np.where(absent, 0.0, denominators)
    terms = np.hstack([above, under, above**2, under**2, above * under, ~absent])
    exact, drawn = _moments(terms, members, resamples=resamples, seed=seed)
    log, error, ratio, count = _log_ratio(exact)
    logs, errors, _, _ = _log_ratio(drawn)
    return _ratio(
        ratio,
        (log, error, logs, errors),
        count,
        level=level,
        families=_families(simultaneous, families, log.shape),
        name="user bootstrap-t of the log ratio",
        resamples=resamples,
    )


def _checked(values: Floats, groups: NDArray[np.bool_] | None, resamples: int, level: float) -> tuple[Floats, Members]:
    if values.ndim != 2:
        raise ValueError(f"values: found shape {values.shape}; needed (users, columns).")
    if np.isinf(values).any():
        raise ValueError(
            "values: found an infinite value; needed finite ones, or NaN for a user who is not in a column."
        )
    if not 0 < level < 1:
        raise ValueError(f"level: found {level}; needed a share between 0 and 1, such as 0.95.")
    if resamples < 2 / (1 - level):
        raise ValueError(f"resamples: found {resamples}; needed at least {2 / (1 - level):.0f} for level {level}.")
    if groups is None:
        return values.astype(np.float64, copy=False), [np.arange(values.shape[0])]
    if groups.ndim != 2 or groups.shape[1] != values.shape[0] or groups.dtype != np.bool_:
        raise ValueError(
            f"groups: found {groups.dtype} of shape {groups.shape}; needed bool of shape (groups, {values.shape[0]})."
        )
    return values.astype(np.float64, copy=False), [np.flatnonzero(group) for group in groups]


def _centred(table: Floats, present: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Values minus their column's mean (absent: 0), and that mean: squares of centred values lose no digits."""
    filled = np.where(present, table, 0.0)
    everyone = [np.arange(table.shape[0])]
    centre = group_sums(filled, everyone)[0] / np.maximum(present.sum(axis=0), 1)
    return np.where(present, filled - centre, 0.0), centre


def _moments(terms: Floats, members: Members, *, resamples: int, seed: int) -> tuple[Floats, Floats]:
    """Sums of terms as they are, shape (terms, groups), and resampled, shape (terms, groups, resamples)."""
    exact = group_sums(terms, members).T
    drawn = resampled_sums(terms, members, resamples=resamples, seed=seed).transpose(1, 0, 2)
    return exact, drawn


def _thirds(sums: Floats) -> Sequence[Floats]:
    """Sums of values, squares and presence, each with axes (groups, columns, ...)."""
    return [part.swapaxes(0, 1) for part in np.split(sums, 3)]


def _mean_and_variance(total: Floats, squares: Floats, count: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean, variance of the mean, and count; NaN mean without users, NaN variance with fewer than two."""
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / count
        spread = np.maximum(squares / count - mean**2, 0.0)
        # What is left of identical values after rounding to the grid is no spread.
        spread = np.where(spread < 1e-12 * squares / count, 0.0, spread)
        variance = np.where(count > 1, spread / (count - 1), np.nan)
    return mean, variance, count


def _group_and_rest(
    values: Floats,
    groups: NDArray[np.bool_],
    rest: NDArray[np.bool_] | None,
    *,
    resamples: int,
    seed: int,
    level: float,
    centre: bool = True,
) -> tuple[list[Floats], list[Floats], list[Floats], list[Floats], list[Floats]]:
    table, members = _checked(values, groups, resamples, level)
    if rest is not None:
        if rest.shape != groups.shape:
            raise ValueError(f"rest: found shape {rest.shape}; needed that of groups, {groups.shape}.")
        members = members + _checked(values, rest, resamples, level)[1]
    else:
        members = [*members, np.arange(values.shape[0])]
    present = ~np.isnan(table)
    filled = _centred(table, present)[0] if centre else np.where(present, table, 0.0)
    exact, drawn = _moments(np.hstack([filled, filled**2, present]), members, resamples=resamples, seed=seed)
    size = groups.shape[0]
    parts = [
        (sums[:, :size], sums[:, size:] if rest is not None else sums[:, size:] - sums[:, :size])
        for sums in (exact, drawn)
    ]
    moments = [[_mean_and_variance(*_thirds(part)) for part in pair] for pair in parts]
    (inside, outside), (drawn_inside, drawn_outside) = moments
    return (
        [inside[0], outside[0]],
        [inside[1], outside[1]],
        [inside[2], outside[2]],
        [drawn_inside[0], drawn_outside[0]],
        [drawn_inside[1], drawn_outside[1]],
    )


def _log_ratio(sums: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    above, under, above2, under2, product, count = (part.swapaxes(0, 1) for part in np.split(sums, 6))
    with np.errstate(divide="ignore", invalid="ignore"):
        log = np.log(above) - np.log(under)
        spread = count * (above2 / above**2 + under2 / under**2 - 2 * product / (above * under))
        error = np.sqrt(np.where(count > 1, np.maximum(spread, 0.0) / (count - 1), np.nan))
        ratio = np.where(under > 0, above / under, np.nan)
    return log, error, ratio, count


def _families(
    simultaneous: bool, families: NDArray[np.int64] | None, shape: tuple[int, ...]
) -> NDArray[np.int64] | None:
    if not simultaneous:
        return None
    if families is None:
        return np.zeros(shape, dtype=np.int64)
    if families.shape != shape:
        raise ValueError(f"families: found shape {families.shape}; needed (groups, columns) {shape}.")
    return families


def _limits(
    estimate: Floats,
    centre: Floats,
    error: Floats,
    resampled: Floats,
    *,
    resampled_error: Floats,
    count: Floats,
    level: float,
    families: NDArray[np.int64] | None,
    name: str,
    resamples: int,
) -> Intervals:
    """Limits around `estimate`; `centre` is the same quantity on the scale of the resamples."""
    with np.errstate(divide="ignore", invalid="ignore"):
        pivots = (resampled - centre[..., None]) / resampled_error
    below, above = critical_values(pivots, level=level)
    method = f"{name}, {resamples} resamples"
    if families is not None:
        method = f"{method}, max-t over {families.size if np.unique(families).size == 1 else 'families'}"
        for family in np.unique(families):
            inside = families == family
            factor = family_factor(pivots[inside], below[inside], above[inside], level=level)
            below[inside] *= factor
            above[inside] *= factor
    usable = (error > 0) & np.isfinite(estimate)
    safe = np.where(usable, error, np.nan)
    return Intervals(
        estimate=estimate,
        low=estimate - below * safe,
        high=estimate + above * safe,
        standard_error=np.where(np.isfinite(estimate), error, np.nan),
        critical_low=np.where(usable, below, np.nan),
        critical_high=np.where(usable, above, np.nan),
        n_users=np.rint(count).astype(np.int64),
        level=level,
        method=method,
    )


def _ratio(
    ratio: Floats,
    logarithms: tuple[Floats, Floats, Floats, Floats],
    count: Floats,
    *,
    level: float,
    families: NDArray[np.int64] | None,
    name: str,
    resamples: int,
) -> Intervals:
    log, error, logs, errors = logarithms
    finite = np.where(np.isfinite(log), log, np.nan)
    found = _limits(
        finite,
        finite,
        error,
        logs,
        resampled_error=errors,
        count=count,
        level=level,
        families=families,
        name=name,
        resamples=resamples,
    )
    return Intervals(
        estimate=ratio,
        low=np.exp(found.low),
        high=np.exp(found.high),
        standard_error=found.standard_error,
        critical_low=found.critical_low,
        critical_high=found.critical_high,
        n_users=found.n_users,
        level=level,
        method=found.method,
    )


def _within(intervals: Intervals, bounds: tuple[float, float]) -> Intervals:
    """Limits kept inside the range of values; where all users are alike, the exact interval for what may be unseen."""
    smallest, largest = bounds
    value = intervals.estimate
    alike = (intervals.standard_error == 0) & (intervals.n_users > 0)
    unseen = 1 - ((1 - intervals.level) / 2) ** (1 / np.maximum(intervals.n_users, 1))
    low = np.where(alike, value - unseen * (value - smallest), intervals.low)
    high = np.where(alike, value + unseen * (largest - value), intervals.high)
    return Intervals(
        estimate=value,
        low=np.maximum(low, smallest),
        high=np.minimum(high, largest),
        standard_error=intervals.standard_error,
        critical_low=intervals.critical_low,
        critical_high=intervals.critical_high,
        n_users=intervals.n_users,
        level=intervals.level,
        method=intervals.method,
    )
