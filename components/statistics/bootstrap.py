"""Intervals by resampling users: means, groups against the rest, ratios.

One row a user, because the requests of a user are not independent: an interval that resamples requests covers 57 % where
it says 95 %. A user's weight is the same in every group and column, so differences of columns and groups are paired by
construction; a paired difference of two systems is simply a column of differences.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from components.statistics.bounded import (
    Side,
    commonest_values,
    deviants,
    open_sides,
    permitted_tail,
    widened,
    within_bounds,
)
from components.statistics.intervals import Intervals
from components.statistics.limits import Quantity, exponential, families_of, limits_of
from components.statistics.moments import (
    Floats,
    Members,
    Moments,
    Pair,
    centred,
    group_and_rest,
    sums_and_resamples,
    welch_degrees,
)
from components.statistics.sums import square_resolution


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
            Limits never leave them, and where few users or none differ from the commonest value they give the interval
            that the sample itself cannot (`bounded.within_bounds`).

    Returns:
        Arrays of shape (groups, columns). A limit is infinite where so few users differ from the rest that the sample
        does not bound it and no `bounds` are given.

    Raises:
        ValueError: If shapes, level, or resamples do not fit, or a value is infinite or outside the bounds.
    """
    table, members = _checked(values, groups, resamples=resamples, level=level)
    present = ~np.isnan(table)
    filled, centre = centred(table, present)
    exact, drawn = sums_and_resamples(np.hstack([filled, filled**2, present]), members, resamples=resamples, seed=seed)
    moments, resampled = (Moments.of(sums, square_resolution(filled)) for sums in (exact, drawn))
    quantity = Quantity(moments.mean, moments.variance, moments.count - 1, resampled.mean, resampled.variance)
    if bounds is not None:
        _check_bounds(table, bounds)
    families = families_of(simultaneous, families, moments.mean.shape)
    found = limits_of(
        quantity,
        count=moments.count,
        tails=open_sides(moments.mean + centre, moments.variance, moments.count, bounds),
        level=level,
        families=families,
        method=f"user bootstrap-t, {resamples} resamples",
    )
    found = replace(found, estimate=found.estimate + centre, low=found.low + centre, high=found.high + centre)
    if bounds is None:
        return found
    others = deviants(table, members, commonest_values(bounds))
    return within_bounds(found, others, bounds=bounds, tail=permitted_tail(families, found.estimate.shape, level=level))


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
    bounds: tuple[float, float] | None = None,
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
        bounds: As in `user_bootstrap`: of a user's value, not of the difference.

    Returns:
        Arrays of shape (groups, columns); `n_users` counts the group. NaN where the group or the rest is empty. Where
        all users of the group, or of the rest, are alike (twenty users with NDCG 0), limits need `bounds` and are NaN
        without. Infinite ones as in `user_bootstrap`.

    Raises:
        ValueError: As in `user_bootstrap`.
    """
    table, members = _checked(values, groups, resamples=resamples, level=level)
    if bounds is not None:
        _check_bounds(table, bounds)
    centre = centred(table, ~np.isnan(table))[1]
    inside, outside = _sides(
        table, members, _rest_members(groups, rest), centre, bounds, resamples=resamples, seed=seed
    )
    here, there = inside.moments, outside.moments
    quantity = Quantity(
        here.mean - there.mean,
        here.variance + there.variance,
        welch_degrees(here.variance, here.count, there.variance, there.count),
        inside.resampled.mean - outside.resampled.mean,
        inside.resampled.variance + outside.resampled.variance,
    )
    families = families_of(simultaneous, families, here.mean.shape)
    found = limits_of(
        quantity,
        count=here.count,
        level=level,
        families=families,
        method=f"user bootstrap-t of group minus rest, {resamples} resamples",
    )
    tail = permitted_tail(families, found.estimate.shape, level=level)
    found = widened(found, inside, outside, bounds=bounds, tail=tail, log=False)
    if bounds is None:
        return found
    # Two users tell next to nothing, but no difference of means is beyond that of the bounds.
    reach = bounds[1] - bounds[0]
    return replace(found, low=np.maximum(found.low, -reach), high=np.minimum(found.high, reach))


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
    bounds: tuple[float, float] | None = None,
) -> Intervals:
    """Mean of each group divided by the mean of its rest, per column; values >= 0.

    Studentised on the logarithm, so that the interval of a ratio and of its inverse say the same. Arguments as in
    `group_differences`.

    Returns:
        Arrays of shape (groups, columns); NaN where the rest's mean is not above zero, NaN limits where the group's is
        zero. `standard_error` is of the natural logarithm.

    Raises:
        ValueError: As in `user_bootstrap`, and if a value is negative.
    """
    table, members = _checked(values, groups, resamples=resamples, level=level)
    bounds = (0.0, np.inf) if bounds is None else bounds
    _check_bounds(table, (max(bounds[0], 0.0), bounds[1]))
    nowhere = np.zeros(table.shape[1])
    inside, outside = _sides(
        table, members, _rest_members(groups, rest), nowhere, bounds, resamples=resamples, seed=seed
    )
    here, there, drawn_here, drawn_there = inside.moments, outside.moments, inside.resampled, outside.resampled
    with np.errstate(divide="ignore", invalid="ignore"):
        share, rest_share = here.variance / here.mean**2, there.variance / there.mean**2
        log = np.log(here.mean) - np.log(there.mean)
        quantity = Quantity(
            np.where(np.isfinite(log), log, np.nan),
            share + rest_share,
            welch_degrees(share, here.count, rest_share, there.count),
            np.log(drawn_here.mean) - np.log(drawn_there.mean),
            drawn_here.variance / drawn_here.mean**2 + drawn_there.variance / drawn_there.mean**2,
        )
        ratio = np.where(there.mean > 0, here.mean / there.mean, np.nan)
    families = families_of(simultaneous, families, ratio.shape)
    found = limits_of(
        quantity,
        count=here.count,
        level=level,
        families=families,
        method=f"user bootstrap-t of the log ratio to the rest, {resamples} resamples",
    )
    tail = permitted_tail(families, ratio.shape, level=level)
    return exponential(ratio, widened(found, inside, outside, bounds=bounds, tail=tail, log=True))


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
        ValueError: As in `group_ratios`, and if the two shapes differ.
    """
    if numerators.shape != denominators.shape:
        raise ValueError(
            f"denominators: found shape {denominators.shape}; needed that of numerators {numerators.shape}."
        )
    absent = np.isnan(numerators) | np.isnan(denominators)
    above, members = _checked(np.where(absent, 0.0, numerators), groups, resamples=resamples, level=level)
    under, _ = _checked(np.where(absent, 0.0, denominators), groups, resamples=resamples, level=level)
    _check_bounds(above, (0.0, np.inf))
    _check_bounds(under, (0.0, np.inf))
    terms = np.hstack([above, under, above**2, under**2, above * under, ~absent])
    exact, drawn = sums_and_resamples(terms, members, resamples=resamples, seed=seed)
    pair = Pair(square_resolution(above), square_resolution(under))
    log, variance, ratio, count = pair.log_ratio(exact)
    logs, variances, _, _ = pair.log_ratio(drawn)
    found = limits_of(
        Quantity(np.where(np.isfinite(log), log, np.nan), variance, count - 1, logs, variances),
        count=count,
        level=level,
        families=families_of(simultaneous, families, ratio.shape),
        method=f"user bootstrap-t of the log ratio, {resamples} resamples",
    )
    return exponential(ratio, found)


def pooled_means(
    totals: Floats,
    sizes: Floats,
    *,
    groups: NDArray[np.bool_] | None = None,
    resamples: int = 1000,
    seed: int,
    level: float = 0.95,
    simultaneous: bool = False,
    families: NDArray[np.int64] | None = None,
) -> Intervals:
    """Mean over rows, where a user has several: the sum of users' totals divided by the sum of their sizes.

    For what is counted a row (the click rate of a score bin), unlike `user_bootstrap`, where each user counts once.

    Args:
        totals: Sum over each user's rows, shape (users, columns); of any sign.
        sizes: Rows of each user, shape (users, columns), >= 0; 0 = the user is not in that column.
        groups: As in `user_bootstrap`.
        resamples: As in `user_bootstrap`.
        seed: As in `user_bootstrap`.
        level: As in `user_bootstrap`.
        simultaneous: As in `user_bootstrap`.
        families: As in `user_bootstrap`.

    Returns:
        Arrays of shape (groups, columns); NaN where no user has a row, NaN limits where users do not differ.
        `n_users` counts users with rows.

    Raises:
        ValueError: As in `user_bootstrap`, if shapes differ, a size is negative, or a NaN is among them.
    """
    if totals.shape != sizes.shape:
        raise ValueError(f"sizes: found shape {sizes.shape}; needed that of totals {totals.shape}.")
    if np.isnan(totals).any() or np.isnan(sizes).any():
        raise ValueError("totals and sizes: found NaN; needed a size of 0 for a user who is not in a column.")
    _check_bounds(sizes, (0.0, np.inf))
    above, members = _checked(totals, groups, resamples=resamples, level=level)
    under, _ = _checked(sizes, groups, resamples=resamples, level=level)
    terms = np.hstack([above, under, above**2, under**2, above * under, under > 0])
    exact, drawn = sums_and_resamples(terms, members, resamples=resamples, seed=seed)
    pair = Pair(square_resolution(above), square_resolution(under))
    mean, variance, count = pair.pooled_mean(exact)
    means, variances, _ = pair.pooled_mean(drawn)
    return limits_of(
        Quantity(mean, variance, count - 1, means, variances),
        count=count,
        level=level,
        families=families_of(simultaneous, families, mean.shape),
        method=f"user bootstrap-t of a mean over rows, {resamples} resamples",
    )


def _checked(
    values: Floats, groups: NDArray[np.bool_] | None, *, resamples: int, level: float
) -> tuple[Floats, Members]:
    if values.ndim != 2:
        raise ValueError(f"values: found shape {values.shape}; needed (users, columns).")
    if np.isinf(values).any():
        raise ValueError(
            "values: found an infinite value; needed finite ones, or NaN for a user who is not in a column."
        )
    if not 0 < level < 1:
        raise ValueError(f"level: found {level}; needed a share between 0 and 1, such as 0.95.")
    # Fewer would leave no resample beyond a limit.
    if resamples < 2 / (1 - level) - 1e-9:
        raise ValueError(f"resamples: found {resamples}; needed at least {2 / (1 - level):.0f} for level {level}.")
    table = values.astype(np.float64, copy=False)
    return table, [np.arange(values.shape[0])] if groups is None else _members(groups, values.shape[0])


def _members(groups: NDArray[np.bool_], users: int) -> Members:
    if groups.ndim != 2 or groups.shape[1] != users or groups.dtype != np.bool_:
        raise ValueError(
            f"groups: found {groups.dtype} of shape {groups.shape}; needed bool of shape (groups, {users})."
        )
    return [np.flatnonzero(group) for group in groups]


def _rest_members(groups: NDArray[np.bool_], rest: NDArray[np.bool_] | None) -> Members | None:
    if rest is None:
        return None
    if rest.shape != groups.shape:
        raise ValueError(f"rest: found shape {rest.shape}; needed that of groups {groups.shape}.")
    return _members(rest, groups.shape[1])


def _sides(
    table: Floats,
    members: Members,
    rest: Members | None,
    centre: Floats,
    bounds: tuple[float, float] | None,
    *,
    resamples: int,
    seed: int,
) -> tuple[Side, Side]:
    """Each group and its rest; `centre` is taken off the values before they are summed."""
    present = ~np.isnan(table)
    filled = np.where(present, table - centre, 0.0)
    (inside, outside), (drawn_inside, drawn_outside) = group_and_rest(
        filled, present, members, rest, resamples=resamples, seed=seed
    )
    values = commonest_values(bounds)
    others = deviants(table, members, values)
    everyone = [np.arange(table.shape[0])]
    rest_others = deviants(table, everyone, values) - others if rest is None else deviants(table, rest, values)
    return Side(inside, drawn_inside, centre, others), Side(outside, drawn_outside, centre, rest_others)


def _check_bounds(table: Floats, bounds: tuple[float, float]) -> None:
    smallest, largest = np.nanmin(table, initial=np.inf), np.nanmax(table, initial=-np.inf)
    if smallest < bounds[0] or largest > bounds[1]:
        raise ValueError(f"values: found {smallest} to {largest}; needed all within {bounds[0]} to {bounds[1]}.")
