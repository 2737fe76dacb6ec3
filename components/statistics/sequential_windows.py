"""Two arms, moment by moment: the difference of their rates with a variance that bursts do not fool.

    counts of a window (both arms) -> Scores -> running(...)       every look at once: arrays over windows
                                             -> Sums.plus(...)     one look more: some thirty numbers that can be kept

What is compared is what both arms did in the same five seconds, weighted by n_canary * n_stable / (n_canary + n_stable). So
neither the hour, nor a shared outage, nor a step that moved traffic can look like a difference: where arms are alike, each
window's score has mean zero whatever the rates and shares then were (Mantel and Haenszel 1959; Greenland and Robins 1985).

Requests of a moment are not independent (a replica pauses, a user retries), nor are moments that follow each other. So the unit
is the window, and the variance is taken between windows, between blocks of 6, of 24 and of 96, whichever is largest.
It is never below what as many independent requests would have, with four imagined events on top: an arm without a single
error is not known to make none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

BLOCKS = (1, 6, 24, 96)
"""Windows of a block, at each scale at which variance is taken."""
LEAST_BLOCKS = 5
"""A scale counts from so many blocks on."""
LEAST_WINDOWS = 24
"""Below it there is no variance, and so no limit: moments of one short trouble are all alike, and would look well measured."""
_IMAGINED = 4.0
"""Events added to each arm's: half of log(1 / alpha) for alphas around 0.0005, so that the limit of an arm without events is
about the exact one of Bernoulli trials."""


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What each window says, all arrays of one shape (windows, ...)."""

    score: Floats
    """Weight times the difference of rates."""
    weight: Floats
    """0 where an arm had no requests."""
    canary_part: Floats
    """Times p(1 - p) of the canary: variance of the score, were requests independent."""
    stable_part: Floats
    canary: tuple[Floats, Floats]
    """Events and requests."""
    stable: tuple[Floats, Floats]


def compared(events: ArrayLike, requests: ArrayLike, stable_events: ArrayLike, stable_requests: ArrayLike) -> Scores:
    """Scores of the canary against the stable arm.

    Args:
        events: Of the canary, shape (windows, ...), from 0 to `requests`; need not be whole.
        requests: Of the canary, same shape, at least 0.
        stable_events: Of the stable arm, same shape.
        stable_requests: Of the stable arm, same shape.

    Raises:
        ValueError: If a count is not finite, is negative, or events exceed requests.
    """
    y, n, ys, ns = (np.asarray(x, dtype=np.float64) for x in (events, requests, stable_events, stable_requests))
    y, n, ys, ns = np.broadcast_arrays(y, n, ys, ns)
    _check_counts(y, n)
    _check_counts(ys, ns)
    total = n + ns
    safe = np.where(total > 0, total, 1.0)
    both = (n > 0) & (ns > 0)
    weight = np.where(both, n * ns / safe, 0.0)
    score = np.where(both, (y * ns - ys * n) / safe, 0.0)
    return Scores(
        score,
        weight,
        np.where(both, n * ns**2 / safe**2, 0.0),
        np.where(both, ns * n**2 / safe**2, 0.0),
        (np.where(both, y, 0.0), np.where(both, n, 0.0)),
        (np.where(both, ys, 0.0), np.where(both, ns, 0.0)),
    )


def expected(events: ArrayLike, requests: ArrayLike, share: ArrayLike) -> Scores:
    """Scores of one arm against a share that is known beforehand.

    Args:
        events: As in `compared`.
        requests: As in `compared`.
        share: Expected events a request, shape () or (...), in [0, 1].
    """
    y, n = np.broadcast_arrays(np.asarray(events, dtype=np.float64), np.asarray(requests, dtype=np.float64))
    _check_counts(y, n)
    nothing = np.zeros_like(n)
    return Scores(y - np.asarray(share, dtype=np.float64) * n, n, n, nothing, (y, n), (nothing, nothing))


def _check_counts(events: Floats, requests: Floats) -> None:
    if not (np.isfinite(events).all() and np.isfinite(requests).all()):
        raise ValueError("counts: found NaN or infinity; needed finite numbers.")
    if (events < 0).any() or (events > requests * (1 + 1e-9) + 1e-9).any():
        raise ValueError("counts: found events below 0 or above requests; needed 0 <= events <= requests.")


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """The weighted mean difference and its variance, shape of the scores; NaN and infinity while there are too few windows."""

    value: Floats
    variance: Floats
    design_effect: Floats
    """Variance over that of as many independent requests, at least 1: how much a request is worth less than it seems."""


@dataclass(frozen=True, slots=True)
class Sums:
    """All that is kept of the windows so far."""

    windows: int = 0
    score: float = 0.0
    weight: float = 0.0
    squares: tuple[float, ...] = (0.0,) * len(BLOCKS)
    """Of closed blocks, at each scale."""
    products: tuple[float, ...] = (0.0,) * len(BLOCKS)
    weights: tuple[float, ...] = (0.0,) * len(BLOCKS)
    open_scores: tuple[float, ...] = (0.0,) * len(BLOCKS)
    """Of the blocks that are not full yet."""
    open_weights: tuple[float, ...] = (0.0,) * len(BLOCKS)
    canary_part: float = 0.0
    stable_part: float = 0.0
    canary_events: float = 0.0
    canary_requests: float = 0.0
    stable_events: float = 0.0
    stable_requests: float = 0.0

    def plus(self, scores: Scores) -> Sums:
        """With one more window, whose arrays have one element. A window in which an arm had no requests changes nothing."""
        weight, score = float(scores.weight.item()), float(scores.score.item())
        if weight <= 0:
            return self
        count = self.windows + 1
        squares, products, weights = list(self.squares), list(self.products), list(self.weights)
        open_scores, open_weights = list(self.open_scores), list(self.open_weights)
        for scale, size in enumerate(BLOCKS):
            s, w = open_scores[scale] + score, open_weights[scale] + weight
            if count % size == 0:
                squares[scale] += s * s
                products[scale] += s * w
                weights[scale] += w * w
                s = w = 0.0
            open_scores[scale], open_weights[scale] = s, w
        return Sums(
            count,
            self.score + score,
            self.weight + weight,
            tuple(squares),
            tuple(products),
            tuple(weights),
            tuple(open_scores),
            tuple(open_weights),
            self.canary_part + float(scores.canary_part.item()),
            self.stable_part + float(scores.stable_part.item()),
            self.canary_events + float(scores.canary[0].item()),
            self.canary_requests + float(scores.canary[1].item()),
            self.stable_events + float(scores.stable[0].item()),
            self.stable_requests + float(scores.stable[1].item()),
        )

    def estimates(self) -> Estimates:
        """Arrays of shape ()."""
        return _estimates(
            np.asarray(self.windows, dtype=np.float64),
            np.asarray(self.score),
            np.asarray(self.weight),
            self._scales(),
            np.asarray(self._independent(1.0)),
        )

    def variance_after(self, growth: float) -> float:
        """Of the estimate, were there so many times as many windows of the same kind; for planning.

        What is found between moments shrinks with their number. The events that are imagined in each arm stay four: early on
        they are most of the variance, and a plan that let them grow would be several times too long.
        Infinite where there is none now.
        """
        now = self.estimates()
        variance = float(now.variance)
        if not math.isfinite(variance):
            return math.inf
        independent = self._independent(1.0) / self.weight**2
        between = variance if variance > independent * (1 + 1e-9) else 0.0
        return max(self._independent(growth) / (growth * self.weight) ** 2, between / growth)

    def _scales(self) -> list[tuple[Floats, Floats, Floats]]:
        return [
            (
                np.asarray(self.squares[i] + self.open_scores[i] ** 2),
                np.asarray(self.products[i] + self.open_scores[i] * self.open_weights[i]),
                np.asarray(self.weights[i] + self.open_weights[i] ** 2),
            )
            for i in range(len(BLOCKS))
        ]

    def _independent(self, growth: float) -> float:
        parts = (
            self.canary_part,
            self.stable_part,
            self.canary_events,
            self.canary_requests,
            self.stable_events,
            self.stable_requests,
        )
        return float(_independent(*(np.asarray(growth * part) for part in parts)))


NOTHING = Sums()
"""Of no window."""


def running(scores: Scores) -> Estimates:
    """What `Sums` would say after each window, shape (windows, ...); windows without weight repeat the one before."""
    w = scores.weight
    flat = w.reshape(w.shape[0], -1)
    if ((flat > 0) != (flat[:, :1] > 0)).any() and flat.shape[1] > 1:
        raise ValueError("windows: columns differ in which windows have requests; needed one column at a time.")
    kept = np.flatnonzero(flat[:, 0] > 0) if flat.size else np.zeros(0, dtype=np.intp)
    s, w = scores.score[kept], w[kept]
    count = np.arange(1, kept.size + 1, dtype=np.float64).reshape(-1, *([1] * (s.ndim - 1)))
    scales = [_block_sums(s, w, size) for size in BLOCKS]
    summed = [
        np.cumsum(x[kept], axis=0) for x in (scores.canary_part, scores.stable_part, *scores.canary, *scores.stable)
    ]
    found = _estimates(count, np.cumsum(s, axis=0), np.cumsum(w, axis=0), scales, _independent(*summed))
    last = np.searchsorted(kept, np.arange(scores.weight.shape[0]), side="right") - 1
    before = last < 0

    def spread(values: Floats, nothing: float) -> Floats:
        full = np.full(scores.weight.shape, nothing)
        full[~before] = values[last[~before]]
        return full

    return Estimates(spread(found.value, np.nan), spread(found.variance, np.inf), spread(found.design_effect, 1.0))


def _block_sums(s: Floats, w: Floats, size: int) -> tuple[Floats, Floats, Floats]:
    """Sums over blocks of scores squared, scores times weights and weights squared, after each window, open block included."""
    if size == 1:
        return np.cumsum(s * s, axis=0), np.cumsum(s * w, axis=0), np.cumsum(w * w, axis=0)
    place = np.arange(s.shape[0])
    begin = place - place % size
    cumulative_s, cumulative_w = (np.concatenate([np.zeros((1, *x.shape[1:])), np.cumsum(x, axis=0)]) for x in (s, w))
    open_s = cumulative_s[1:] - cumulative_s[begin]
    open_w = cumulative_w[1:] - cumulative_w[begin]
    full = place % size == size - 1
    found = []
    for product in (open_s * open_s, open_s * open_w, open_w * open_w):
        closed = np.cumsum(np.where(full.reshape(-1, *([1] * (s.ndim - 1))), product, 0.0), axis=0)
        found.append(np.where(full.reshape(-1, *([1] * (s.ndim - 1))), closed, closed + product))
    return found[0], found[1], found[2]


def _independent(
    canary_part: Floats, stable_part: Floats, y: Floats, n: Floats, stable_y: Floats, stable_n: Floats
) -> Floats:
    """Variance that the sum of scores would have, were requests independent, with some imagined events in each arm."""

    def spread(events: Floats, requests: Floats) -> Floats:
        # Of the rarer of the two, events or their absence.
        share = np.minimum((np.minimum(events, requests - events) + _IMAGINED) / np.maximum(requests, 1.0), 0.5)
        return np.asarray(share * (1 - share))

    return canary_part * spread(y, n) + stable_part * spread(stable_y, stable_n)


def _estimates(
    count: Floats, score: Floats, weight: Floats, scales: list[tuple[Floats, Floats, Floats]], independent: Floats
) -> Estimates:
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.where(weight > 0, score / weight, np.nan)
        variance = independent
        for size, (squares, products, weights) in zip(BLOCKS, scales, strict=True):
            blocks = np.ceil(count / size)
            between = (squares - 2 * value * products + value**2 * weights) * blocks / np.maximum(blocks - 1, 1)
            variance = np.where(blocks >= LEAST_BLOCKS, np.fmax(variance, between), variance)
        enough = (count >= LEAST_WINDOWS) & (weight > 0)
        return Estimates(
            np.where(weight > 0, value, np.nan),
            np.where(enough, variance / weight**2, np.inf),
            np.where(enough & (independent > 0), variance / independent, 1.0),
        )
