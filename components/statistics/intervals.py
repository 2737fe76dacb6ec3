"""Intervals of many estimates at once."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from components.statistics.power import minimum_detectable_effect, normal_critical


@dataclass(frozen=True, slots=True, eq=False)
class Intervals:
    """Estimates with intervals; every array has shape (groups, columns).

    NaN in `estimate`: nothing to measure (no user, or a ratio without denominator). NaN in `low` and `high` alone: a value
    but no honest interval (one user, or all users alike and the range of values unknown).
    """

    estimate: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    standard_error: NDArray[np.float64]
    """Of the estimate; for ratios of its natural logarithm."""
    critical_low: NDArray[np.float64]
    """Standard errors between estimate and lower limit, and upper limit below: about 1.96 for many users at level 0.95."""
    critical_high: NDArray[np.float64]
    n_users: NDArray[np.int64]
    """Users with a value, in the group itself (not the rest)."""
    level: float
    method: str
    """How the limits were made, in words for a reader."""

    def minimum_detectable_effect(self, *, power: float = 0.8) -> NDArray[np.float64]:
        """Smallest true effect (for ratios: of the logarithm) that these very intervals would have shown."""
        critical = np.maximum(self.critical_low, self.critical_high)
        return minimum_detectable_effect(self.standard_error, critical=critical, power=power)

    def p_values(self, null: float = 0.0) -> NDArray[np.float64]:
        """Two-sided p-values of "the quantity equals `null`", which fall below 1 - level exactly where `null` is outside.

        A normal tail, stretched on each side to meet the interval's own limits. Meant for intervals that stand alone,
        as input to `holm` and `benjamini_hochberg`; those of a family are corrected already.
        """
        distance = self.estimate - null
        toward = np.where(distance > 0, self.estimate - self.low, self.high - self.estimate)
        with np.errstate(divide="ignore", invalid="ignore"):
            standardised = np.where(distance == 0, 0.0, np.abs(distance) / toward * normal_critical(self.level))
        return _two_sided(standardised)


def _two_sided(standardised: NDArray[np.float64]) -> NDArray[np.float64]:
    normal = NormalDist()
    flat = [float("nan") if np.isnan(x) else 2 * normal.cdf(-float(x)) for x in standardised.ravel()]
    return np.array(flat, dtype=np.float64).reshape(standardised.shape)
