"""From sums over users to means and their variances, for the sample and for all its resamples at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.statistics.sums import group_sums, resampled_sums, square_resolution

Floats = NDArray[np.float64]
Members = list[NDArray[np.intp]]
"""Row numbers of each group's users."""


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Mean over users, variance of that mean, and number of users; axes (groups, columns) or (groups, columns, resamples)."""

    mean: Floats
    variance: Floats
    count: Floats

    @staticmethod
    def of(sums: Floats, resolution: Floats) -> Moments:
        """From sums of values, squares and presence; NaN mean without users, NaN variance with fewer than two.

        A spread below `resolution`, shape (columns,), is what rounding to the grid leaves of identical values: none.
        """
        total, squares, count = (part.swapaxes(0, 1) for part in np.split(sums, 3))
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = total / count
            spread = squares / count - mean**2
            spread = np.where(spread > resolution.reshape(-1, *[1] * (spread.ndim - 2)), spread, 0.0)
            return Moments(mean, np.where(count > 1, spread / (count - 1), np.nan), count)


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Two columns whose sums are divided; the resolution of their squares tells a spread from rounding."""

    above_resolution: Floats
    under_resolution: Floats

    def pooled_mean(self, sums: Floats) -> tuple[Floats, Floats, Floats]:
        """The ratio, its variance from users' residuals, and the number of users."""
        above, under, above2, under2, product, count = (part.swapaxes(0, 1) for part in np.split(sums, 6))
        shape = (-1, *[1] * (above.ndim - 2))
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = above / under
            residual = above2 - 2 * mean * product + mean**2 * under2
            rounding = self.above_resolution.reshape(shape) + mean**2 * self.under_resolution.reshape(shape)
            residual = np.where(residual > 4 * count * rounding, residual, 0.0)
            return mean, np.where(count > 1, residual / under**2 * count / (count - 1), np.nan), count

    def log_ratio(self, sums: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Logarithm of the ratio, its variance by the delta method, the ratio and the number of users."""
        ratio, variance, count = self.pooled_mean(sums)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(np.isfinite(ratio), ratio, np.nan)
            return np.log(ratio), variance / ratio**2, ratio, count


def centred(table: Floats, present: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Values minus their column's mean (absent: 0), and that mean: squares of centred values lose no digits."""
    filled = np.where(present, table, 0.0)
    centre = group_sums(filled, [np.arange(table.shape[0])])[0] / np.maximum(present.sum(axis=0), 1)
    return np.where(present, filled - centre, 0.0), centre


def sums_and_resamples(terms: Floats, members: Members, *, resamples: int, seed: int) -> tuple[Floats, Floats]:
    """Sums of terms as they are, shape (terms, groups), and resampled, shape (terms, groups, resamples)."""
    exact = group_sums(terms, members).T
    return exact, resampled_sums(terms, members, resamples=resamples, seed=seed).transpose(1, 0, 2)


def group_and_rest(
    filled: Floats,
    present: NDArray[np.bool_],
    members: Members,
    rest: Members | None,
    *,
    resamples: int,
    seed: int,
) -> list[tuple[Moments, Moments]]:
    """Moments of groups and rests, as they are and resampled."""
    size = len(members)
    # Sums are exact, so the rest is everyone minus the group, without a pass over it.
    others = [np.arange(filled.shape[0])] if rest is None else rest
    found = sums_and_resamples(
        np.hstack([filled, filled**2, present]), members + others, resamples=resamples, seed=seed
    )
    resolution = square_resolution(filled)
    return [
        (
            Moments.of(sums[:, :size], resolution),
            Moments.of(sums[:, size:] - sums[:, :size] if rest is None else sums[:, size:], resolution),
        )
        for sums in found
    ]


def welch_degrees(variance: Floats, count: Floats, other: Floats, other_count: Floats) -> Floats:
    """Degrees of freedom of the difference of two means (Welch and Satterthwaite)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return (variance + other) ** 2 / (variance**2 / (count - 1) + other**2 / (other_count - 1))
