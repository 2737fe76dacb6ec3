"""A share of one total against a share of another: who gets how much of what is shown, for how much of what is taken.

Both totals come from the same users and are as uncertain as the parts. Taking them for fixed would carry the users' activity
into a share that does not have it: intervals twice as wide as they need be for a provider with a third of everything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from components.statistics.intervals import Intervals
from components.statistics.limits import Floats, Quantity, exponential, families_of, limits_of
from components.statistics.moments import sums_and_resamples
from components.statistics.shares import share_limit
from components.statistics.sums import square_resolution


def share_differences(
    parts: Floats,
    others: Floats,
    *,
    totals: Floats,
    other_totals: Floats,
    resamples: int = 1000,
    seed: int,
    level: float = 0.95,
    simultaneous: bool = False,
) -> Intervals:
    """Each part's share of its total minus the other part's share of the other total.

    Args:
        parts: What each user adds to each part, shape (users, columns), >= 0.
        others: The same of what it is held against.
        totals: What each user adds to the total that `parts` are shares of, shape (users,), >= 0.
        other_totals: The same for `others`.
        resamples: As in `user_bootstrap`.
        seed: As in `user_bootstrap`.
        level: As in `user_bootstrap`.
        simultaneous: As in `user_bootstrap`; all columns are one family.

    Returns:
        Arrays of shape (1, columns); NaN where a total is zero, NaN limits where users do not differ. A part that is its whole
        total on both sides is known: its limits are the estimate. `n_users` counts users who add to either total.

    Raises:
        ValueError: If shapes, level or resamples do not fit, or an amount is negative or not finite.
    """
    held = _Amounts.of(parts, others, totals, other_totals, resamples=resamples, seed=seed, level=level)
    exact, drawn = held.sums
    found, resampled = held.compared(exact), held.compared(drawn)
    quantity = Quantity(
        found.share - found.other,
        found.variance,
        found.count - 1,
        resampled.share - resampled.other,
        resampled.variance,
    )
    limits = limits_of(
        quantity,
        count=found.count,
        level=level,
        families=families_of(simultaneous, None, found.share.shape),
        method=f"user bootstrap-t of a difference of shares, {resamples} resamples",
    )
    return held.known(limits)


def share_ratios(
    parts: Floats,
    others: Floats,
    *,
    totals: Floats,
    other_totals: Floats,
    resamples: int = 1000,
    seed: int,
    level: float = 0.95,
    simultaneous: bool = False,
) -> Intervals:
    """Each part's share of its total divided by the other part's share of the other total.

    Studentised on the logarithm. Arguments and errors as in `share_differences`.

    Returns:
        Arrays of shape (1, columns); NaN where the other share is zero. Where the share itself is zero, which no resample would
        doubt, the upper limit is that of what may have gone unseen. `standard_error` is of the natural logarithm.
    """
    held = _Amounts.of(parts, others, totals, other_totals, resamples=resamples, seed=seed, level=level)
    exact, drawn = held.sums
    found, resampled = held.compared(exact), held.compared(drawn)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(found.other > 0, found.share / found.other, np.nan)
        log = np.log(ratio)
        quantity = Quantity(
            np.where(np.isfinite(log), log, np.nan),
            found.log_variance,
            found.count - 1,
            np.log(resampled.share) - np.log(resampled.other),
            resampled.log_variance,
        )
    logarithm = limits_of(
        quantity,
        count=found.count,
        level=level,
        families=families_of(simultaneous, None, ratio.shape),
        method=f"user bootstrap-t of the log ratio of shares, {resamples} resamples",
    )
    found_ratio = held.known(exponential(ratio, logarithm))
    nothing = (found.share == 0) & (found.other > 0)
    if not nothing.any():
        return found_ratio
    tail = (1 - level) / 2 / (nothing.size if simultaneous else 1)
    with np.errstate(divide="ignore"):
        lowest = np.quantile(resampled.other, tail / 2, axis=-1, method="lower")
        highest = _most_of_nothing(totals, found.count, tail=tail / 2) / lowest
    return replace(
        found_ratio,
        low=np.where(nothing, 0.0, found_ratio.low),
        high=np.where(nothing, highest, found_ratio.high),
    )


def _most_of_nothing(totals: Floats, count: Floats, *, tail: float) -> Floats:
    """The largest share of a total that may be a part's of which no user has shown anything.

    So many users may have some of it as would go unseen with chance `tail`, and none has more than the busiest user's whole.
    """
    unseen = share_limit(np.zeros(count.shape), count, tail=np.full(count.shape, tail))
    most: Floats = unseen * totals.max() * count / totals.sum()
    return most


@dataclass(frozen=True, slots=True, eq=False)
class _Compared:
    """Two shares, the variance of their difference and of the logarithm of their ratio; leading axes (1, columns)."""

    share: Floats
    other: Floats
    variance: Floats
    log_variance: Floats
    count: Floats


@dataclass(frozen=True, slots=True, eq=False)
class _Amounts:
    """Sums over users of parts, totals and their products, as they are and resampled."""

    sums: tuple[Floats, Floats]
    """Shape (terms, 1) and (terms, 1, resamples)."""
    columns: int
    resolution: Floats
    """Of squares, shape (4, columns): parts, totals, others, other totals."""
    everything: NDArray[np.bool_]
    """Columns whose parts are the whole of both totals, shape (columns,)."""

    @classmethod
    def of(
        cls,
        parts: Floats,
        others: Floats,
        totals: Floats,
        other_totals: Floats,
        *,
        resamples: int,
        seed: int,
        level: float,
    ) -> _Amounts:
        users = parts.shape[:1]
        if parts.ndim != 2 or others.shape != parts.shape or totals.shape != users or other_totals.shape != users:
            raise ValueError(
                f"parts, others and totals: found shapes {parts.shape}, {others.shape}, {totals.shape}, "
                f"{other_totals.shape}; needed (users, columns) twice and (users,) twice."
            )
        if not 0 < level < 1 or resamples < 2 / (1 - level) - 1e-9:
            raise ValueError(
                f"level and resamples: found {level} and {resamples}; needed a share between 0 and 1, and at least "
                "2 / (1 - level) resamples."
            )
        for amounts in (parts, others, totals, other_totals):
            if not (np.isfinite(amounts).all() and amounts.min(initial=0.0) >= 0):
                raise ValueError("parts, others and totals: found a negative or infinite amount; needed finite ones.")
        a, c, total, other = parts, others, totals[:, None], other_totals[:, None]
        by_column = (a, c, a * a, a * total, c * c, c * other, a * c, a * other, total * c)
        of_all = (total, other, total * total, other * other, total * other, (total > 0) | (other > 0))
        terms = np.hstack([*by_column, *of_all])
        sums = sums_and_resamples(terms, [np.arange(parts.shape[0])], resamples=resamples, seed=seed)
        resolution = [np.broadcast_to(square_resolution(amounts), parts.shape[1:]) for amounts in (a, total, c, other)]
        everything = (a == total).all(axis=0) & (c == other).all(axis=0)
        return cls(sums, parts.shape[1], np.stack(resolution), everything)

    def known(self, found: Intervals) -> Intervals:
        """The same, without doubt about what is so by definition."""
        return replace(
            found,
            low=np.where(self.everything, found.estimate, found.low),
            high=np.where(self.everything, found.estimate, found.high),
        )

    def compared(self, sums: Floats) -> _Compared:
        """Shares and variances, from each user's residuals (the delta method)."""
        split = 9 * self.columns
        a, c, aa, at, cc, co, ac, ao, tc = sums[:split].reshape(9, self.columns, *sums.shape[1:]).swapaxes(1, 2)
        total, other, tt, oo, to, count = (
            np.broadcast_to(row, a.shape) for row in sums[split:, :, None].swapaxes(1, 2)
        )
        rounding = self.resolution.reshape(4, 1, self.columns, *[1] * (a.ndim - 2))
        with np.errstate(divide="ignore", invalid="ignore"):
            s, r = a / total, c / other
            own = (aa - 2 * s * at + s**2 * tt) / total**2
            its = (cc - 2 * r * co + r**2 * oo) / other**2
            both = (ac - r * ao - s * tc + s * r * to) / (total * other)
            noise = (rounding[0] + s**2 * rounding[1]) / total**2
            other_noise = (rounding[2] + r**2 * rounding[3]) / other**2
            scale = np.where(count > 1, count / (count - 1), np.nan)

            def spread(of: Floats, least: Floats) -> Floats:
                """A sum of squares, none where rounding to the grid explains it."""
                kept: Floats = np.where(of > 8 * count * least, of, 0.0) * scale
                return kept

            return _Compared(
                share=s,
                other=r,
                variance=spread(own + its - 2 * both, noise + other_noise),
                log_variance=spread(own / s**2 + its / r**2 - 2 * both / (s * r), noise / s**2 + other_noise / r**2),
                count=count,
            )
