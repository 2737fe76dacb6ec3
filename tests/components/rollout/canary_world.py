"""A simulated store in front of which a canary runs: traffic with hours, bursts, shared outages, and users who return.

Nothing here knows of the judge. What a real store does to a judge is in it on purpose:
- traffic follows the hour (a factor of six from night to evening) and comes in clumps;
- errors come in bursts: shared ones (a backend), which hit both arms, and one replica's own, of which the stable arm has nine
  and the canary one; and some users' requests fail always, who all are on one arm;
- latency drifts with load for both arms, and a replica now and then pauses;
- users differ in how much they come (Pareto) and how much they click (beta), return all day, and click more in the evening.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from components.serving.metrics import ANSWER_SECONDS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SECONDS = 5.0
DAY = 17_280
"""Windows of five seconds."""
BOUNDS = ANSWER_SECONDS
SCORE_BOUNDS = (-8.0, -4.0, -2.0, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
SCORE_SPREAD = 1.2
REPLICAS = 9
"""Of the stable arm; the canary has one."""
COUNTRIES = ("NL", "BE", "LU")
COUNTRY_SHARES = (0.6, 0.25, 0.15)
_SURFACES = 3


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with the canary; all at their neutral values: nothing."""

    name: str = "none"
    errors: float = 0.0
    """Share of requests that fail beside the usual ones."""
    latency: float = 1.0
    """Factor."""
    clicks: float = 1.0
    """Factor."""
    country_clicks: float = 1.0
    """Factor for users of LU."""
    scores: float = 0.0
    """Shift in standard deviations."""
    features_age: float = 600.0
    """Seconds at the beginning."""
    refreshed: bool = True
    """Whether features are read anew every ten minutes."""
    begins: float = 0.0
    """Seconds after the canary began."""


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """What scraping both arms gives, shape (windows, ...); `stable_` of the stable arm."""

    requests: Floats
    stable_requests: Floats
    errors: Floats
    stable_errors: Floats
    fallbacks: Floats
    stable_fallbacks: Floats
    empty: Floats
    stable_empty: Floats
    latency: Floats
    stable_latency: Floats
    scores: Floats
    features_age: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Visits:
    """What the logs give, a row a visit, in order of time."""

    at: Floats
    """Seconds after the canary began."""
    user: Ints
    country: Ints
    in_canary: NDArray[np.bool_]
    lists: Ints
    clicks: Ints


def moments(
    rng: np.random.Generator,
    *,
    windows: int,
    share: float = 0.1,
    a_second: float = 40.0,
    fault: Fault | None = None,
    prone: bool = True,
) -> Moments:
    """What scraping gives.

    Args:
        rng: Source of chance.
        windows: How many, from a random hour on.
        share: Of the canary.
        a_second: Requests, on average over a day.
        fault: Of the canary; None is none.
        prone: Whether some users' requests always fail: who they are makes arms differ for good, by some tenths of a margin.
    """
    fault = fault or Fault()
    late = np.arange(windows) * SECONDS >= fault.begins
    hours = (np.arange(windows) + rng.integers(DAY)) * SECONDS / 3600
    load = _by_hour(hours) * np.exp(_drift(rng, windows, spread=0.15, windows_back=60))
    clumps = rng.gamma(20.0, 1 / 20.0, size=windows)
    rate = a_second * SECONDS * load * clumps
    n, ns = rng.poisson(share * rate), rng.poisson((1 - share) * rate)
    shared = _bursts(rng, windows, a_day=6.0, lasting=12.0, height=(0.02, 0.3))
    own, others = (_replica_bursts(rng, windows, replicas).mean(axis=0) for replicas in (1, REPLICAS))
    mine, theirs = _proneness(rng, share) if prone else (0.0006, 0.0006)
    error = np.clip(0.001 + mine + shared + own + np.where(late, fault.errors, 0.0), 0, 1)
    stable_error = np.clip(0.001 + theirs + shared + others, 0, 1)
    slow = np.exp(0.25 * np.log(load) + _drift(rng, windows, spread=0.1, windows_back=24))
    pauses, stable_pauses = (4 * _replica_bursts(rng, windows, replicas) for replicas in (1, REPLICAS))
    factor = np.where(late, fault.latency, 1.0)
    fall = np.clip(0.003 * load**0.5 + 0.2 * shared, 0, 1)
    mix = 0.1 * np.sin(hours / 24 * 2 * np.pi)
    age = (
        fault.features_age + (hours - hours[0]) * 3600 if not fault.refreshed else np.full(windows, fault.features_age)
    )
    return Moments(
        requests=n.astype(np.float64),
        stable_requests=ns.astype(np.float64),
        errors=rng.binomial(n, error).astype(np.float64),
        stable_errors=rng.binomial(ns, stable_error).astype(np.float64),
        fallbacks=rng.binomial(n, fall).astype(np.float64),
        stable_fallbacks=rng.binomial(ns, fall).astype(np.float64),
        empty=rng.binomial(n, 0.0005).astype(np.float64),
        stable_empty=rng.binomial(ns, 0.0005).astype(np.float64),
        latency=_spread_over(rng, n, _latencies(slow * factor, pauses)),
        stable_latency=_spread_over(rng, ns, _latencies(slow, stable_pauses)),
        scores=_spread_over(rng, n, score_shares(mix + np.where(late, fault.scores, 0.0))),
        features_age=np.where(late, age, 600.0),
    )


def visits(
    rng: np.random.Generator,
    *,
    seconds: float,
    share: float = 0.1,
    users: int = 60_000,
    fault: Fault | None = None,
) -> Visits:
    """What users did: about six visits a user and day, ten lists each, a click in ten lists.

    Args:
        rng: Source of chance.
        seconds: How long.
        share: Of the canary.
        users: Who come at all in a long time.
        fault: Of the canary.
    """
    fault = fault or Fault()
    busy = np.minimum((rng.pareto(2.2, size=users) + 0.3) * 5.2, 60.0)
    taste = rng.beta(2.0, 18.0, size=users)
    country = rng.choice(3, p=COUNTRY_SHARES, size=users)
    in_canary = rng.random(users) < share
    count = rng.poisson(busy * seconds / 86_400)
    user = np.repeat(np.arange(users), count)
    at = rng.random(user.size) * seconds
    hours = at / 3600 + rng.random() * 24
    kept = rng.random(user.size) < _by_hour(hours) / 1.8
    user, at, hours = user[kept], at[kept], hours[kept]
    order = np.argsort(at, kind="stable")
    user, at, hours = user[order], at[order], hours[order]
    lists = 1 + rng.poisson(9.0, size=user.size)
    chance = taste[user] * (1 + 0.2 * np.sin(hours / 24 * 2 * np.pi))
    harmed = in_canary[user] & (at >= fault.begins)
    chance *= np.where(harmed, fault.clicks * np.where(country[user] == 2, fault.country_clicks, 1.0), 1.0)
    clicks = rng.binomial(lists, np.clip(chance, 0, 1))
    return Visits(at, user, country[user], in_canary[user], lists, clicks)


def score_shares(shift: Floats) -> Floats:
    """Share of scores in each bucket, shape (..., buckets)."""
    cumulative = ndtr((np.array(SCORE_BOUNDS) / SCORE_SPREAD) - np.asarray(shift)[..., None])
    ends = [np.zeros((*np.shape(shift), 1)), cumulative, np.ones((*np.shape(shift), 1))]
    return np.diff(np.concatenate(ends, axis=-1), axis=-1)


def _by_hour(hours: Floats) -> Floats:
    """Traffic around 1, lowest at four in the morning."""
    return 1 - 0.7 * np.cos((hours - 4) / 24 * 2 * np.pi)


def _drift(rng: np.random.Generator, windows: int, *, spread: float, windows_back: int) -> Floats:
    """A wandering level with a memory of so many windows."""
    keep = np.exp(-1 / windows_back)
    noise = rng.standard_normal(windows) * spread * np.sqrt(1 - keep**2)
    # The recursion as a convolution, cut where nothing is left of it.
    kernel = keep ** np.arange(min(8 * windows_back, windows))
    size = 1 << int(np.ceil(np.log2(windows + kernel.size)))
    found = np.fft.irfft(np.fft.rfft(noise, size) * np.fft.rfft(kernel, size), size)[:windows]
    return np.asarray(found)


def _bursts(
    rng: np.random.Generator, windows: int, *, a_day: float, lasting: float, height: tuple[float, float]
) -> Floats:
    """Stretches of a random length (windows, on average `lasting`) and height."""
    found = np.zeros(windows)
    for begin in rng.integers(0, windows, size=rng.poisson(a_day * windows / DAY)).tolist():
        found[begin : begin + 1 + int(rng.exponential(lasting))] += rng.uniform(*height)
    return found


def _replica_bursts(rng: np.random.Generator, windows: int, replicas: int) -> Floats:
    """Bursts of each replica's own, shape (replicas, windows)."""
    return np.stack([_bursts(rng, windows, a_day=2.0, lasting=5.0, height=(0.05, 0.4)) for _ in range(replicas)])


def _proneness(rng: np.random.Generator, share: float) -> tuple[float, float]:
    """Share of each arm's requests that fail for who sends them: 2 users in a thousand, 3 in ten of whose requests fail."""
    busy = rng.pareto(2.2, size=20_000) + 0.3
    failing = np.where(rng.random(busy.size) < 0.002, 0.3, 0.0)
    inside = rng.random(busy.size) < share
    return float(np.average(failing[inside], weights=busy[inside])), float(
        np.average(failing[~inside], weights=busy[~inside])
    )


def _latencies(factor: Floats, pauses: Floats) -> Floats:
    """Share of requests in each bucket, shape (windows, buckets): log-normal, median 12 ms, 95 % quantile 32 ms, 99 % 48 ms.

    Each replica answers its part of the requests, slower by its own pauses, shape (replicas, windows).
    """
    found = _log_normal(factor)
    replicas = pauses.shape[0]
    for pause in pauses:
        slowed = np.flatnonzero(pause)
        found[slowed] += (_log_normal(factor[slowed] * (1 + pause[slowed])) - _log_normal(factor[slowed])) / replicas
    return np.maximum(found, 0.0)


def _log_normal(factor: Floats) -> Floats:
    cumulative = ndtr((np.log(np.array(BOUNDS)) - np.log(0.012 * factor)[:, None]) / 0.6)
    return np.diff(np.concatenate([np.zeros((factor.size, 1)), cumulative, np.ones((factor.size, 1))], axis=1), axis=1)


def _spread_over(rng: np.random.Generator, total: Ints, shares: Floats) -> Floats:
    """Multinomial counts, shape (windows, buckets)."""
    counts = np.empty(shares.shape)
    left, rest = total.copy(), np.ones(total.size)
    for bucket in range(shares.shape[1] - 1):
        chance = np.clip(np.where(rest > 1e-12, shares[:, bucket] / np.maximum(rest, 1e-12), 0.0), 0, 1)
        found = rng.binomial(left, chance)
        counts[:, bucket] = found
        left = left - found
        rest = rest - shares[:, bucket]
    counts[:, -1] = left
    return counts


def at_random_surface(rng: np.random.Generator, counts: Floats) -> list[Floats]:
    """Counts of each of three surfaces, which have a half, three and two tenths of the requests."""
    left, parts = counts.astype(np.int64), []
    for chance in (0.5, 0.6)[: _SURFACES - 1]:
        found = rng.binomial(left, chance)
        parts.append(found.astype(np.float64))
        left = left - found
    return [*parts, left.astype(np.float64)]
