"""The judge at every look at once: when would it first have rolled back? Same kernels, whole days as arrays.

`test_judging.py` holds this against `components.rollout.judging.judge`, asked look by look: the same looks, the same answers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from canary_world import SECONDS, Moments, Visits, score_shares
from numpy.typing import NDArray

from components.rollout.guardrails import LEAST_ANEW, Levels
from components.rollout.memory import LEAST_BEYOND, log_gains
from components.rollout.policy import Distribution, Latency, Outcome, Plain, Rate, RolloutPolicy, budget_of
from components.statistics.sequential import SIZES, log_evidence
from components.statistics.sequential_bets import capital
from components.statistics.sequential_counts import log_split
from components.statistics.sequential_windows import compared, expected, running

Floats = NDArray[np.float64]
Four = tuple[Floats, Floats, Floats, Floats]
"""Events and requests of the canary, events and requests of the stable arm."""


@dataclass(frozen=True, slots=True)
class Stop:
    """First look at which something was shown."""

    window: int
    """Of the look; it ends at (window + 1) * 5 seconds."""
    guardrail: str


def proof(distance: Floats, variance: Floats, *, margin: float, alpha: float | Floats) -> NDArray[np.bool_]:
    """Whether the limit excludes the bound: `sequential.width` by its evidence, which is quicker."""
    needed = np.log(len(SIZES) / np.asarray(alpha))
    found = [log_evidence(distance, variance, scale=margin * size) >= needed for size in SIZES]
    return np.logical_or.reduce(found)


def rate_shown(counts: Four, guardrail: Rate | Latency, policy: RolloutPolicy, alpha: float) -> NDArray[np.bool_]:
    """Whether harm is shown at each look, shape (windows,)."""
    windows = counts[0].size
    margin = guardrail.margin
    bets = isinstance(guardrail, Rate)
    gains = log_gains(*counts, guardrail) if isinstance(guardrail, Rate) else np.zeros((windows, 1))
    first = Levels.of(alpha, 1, policy, bets=bets)
    found = running(compared(*counts))
    shown = proof(found.value - margin, found.variance, margin=margin, alpha=first.whole)
    if bets:
        shown |= capital(np.cumsum(gains, axis=0)) >= math.log(1 / first.whole_bets)
    size = round(policy.restart_seconds / SECONDS)
    whole = windows // size
    # Epochs in which both arms had requests in every window are columns of one array; the few others come one by one.
    busy = np.flatnonzero(((counts[1] > 0) & (counts[3] > 0))[: whole * size].reshape(whole, size).all(axis=1))
    others = sorted(set(range(1, math.ceil(windows / size))) - set(busy.tolist()))
    for epochs in (busy[busy > 0], *(np.array([epoch]) for epoch in others)):
        if not epochs.size:
            continue
        places = np.arange(size)[:, None] + epochs * size
        places = places[places[:, -1] < windows]
        late = running(compared(*(x[places] for x in counts)))
        levels = [Levels.of(alpha, epoch + 1, policy, bets=bets) for epoch in epochs.tolist()]
        recent = np.array([level.recent for level in levels])
        enough = np.cumsum((counts[1][places] > 0) & (counts[3][places] > 0), axis=0) >= LEAST_ANEW
        shown[places] |= enough & proof(late.value - margin, late.variance, margin=margin, alpha=recent)
        if bets:
            needed = np.log([1 / level.recent_bets for level in levels])
            shown[places] |= capital(np.cumsum(gains[places], axis=0)) >= needed
    return shown


def slow_counts(guardrail: Latency, own: Floats, others: Floats) -> Four:
    """Slow requests of each window, beyond the bound that the stable arm's windows before it give."""
    bounds = np.array(guardrail.bounds)
    before = np.concatenate([np.zeros((1, others.shape[1])), np.cumsum(others, axis=0)[:-1]])
    cumulative = np.cumsum(before, axis=1)
    wanted = guardrail.quantile * cumulative[:, -1]
    # `quantile_estimate` and `slow_from` of all windows at once.
    bucket = np.minimum((cumulative < wanted[:, None]).sum(axis=1), bounds.size)
    known = (cumulative[:, -1] * guardrail.margin >= LEAST_BEYOND) & (bucket < bounds.size)
    inside = np.minimum(bucket, bounds.size - 1)
    low = np.where(inside > 0, bounds[inside - 1], 0.0)
    rows = np.arange(own.shape[0])
    reached = np.where(inside > 0, cumulative[rows, inside - 1], 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        quantile = low + (bounds[inside] - low) * (wanted - reached) / before[rows, inside]
    place = np.searchsorted(bounds, np.nan_to_num(quantile * guardrail.ratio * (1 - 1e-9)))
    known &= place < bounds.size
    beyond = np.arange(own.shape[1])[None, :] > place[:, None]
    return (
        np.where(known, (own * beyond).sum(axis=1), 0.0),
        np.where(known, own.sum(axis=1), 0.0),
        np.where(known, (others * beyond).sum(axis=1), 0.0),
        np.where(known, others.sum(axis=1), 0.0),
    )


def counts_of(policy: RolloutPolicy, seen: Moments) -> dict[str, Four]:
    """Events and requests of both arms, by guardrail that compares rates or slow requests."""
    measured: dict[str, Four] = {
        "errors": (seen.errors, seen.requests, seen.stable_errors, seen.stable_requests),
        "fallbacks": (seen.fallbacks, seen.requests, seen.stable_fallbacks, seen.stable_requests),
        "empty": (seen.empty, seen.requests, seen.stable_empty, seen.stable_requests),
    }
    found = {g.id: measured[g.measure] for g in policy.guardrails if isinstance(g, Rate)}
    return found | {
        g.id: slow_counts(g, seen.latency, seen.stable_latency) for g in policy.guardrails if isinstance(g, Latency)
    }


def shape_shown(guardrail: Distribution, counts: Floats, shares: Floats, alpha: float) -> NDArray[np.bool_]:
    """Whether a distribution is shown to be elsewhere, at each look."""
    total = counts.sum(axis=1)
    cumulative = np.minimum(np.cumsum(counts, axis=1)[:, :-1], total[:, None])
    should = np.cumsum(shares)[:-1] / shares.sum()
    found = running(expected(cumulative, np.broadcast_to(total[:, None], cumulative.shape), should))
    each = proof(
        np.abs(found.value) - guardrail.margin,
        found.variance,
        margin=guardrail.margin,
        alpha=alpha / (2 * should.size),
    )
    return np.asarray(each.any(axis=1))


@dataclass(frozen=True, slots=True, eq=False)
class Running:
    """Sums over users at each look, shape (looks,): what `contrast` would find of the visits until then."""

    ratio: Floats
    variance_parts: tuple[Floats, Floats]
    """Of the canary and of the stable arm, for a ratio r: first + r^2 * second."""
    fewest: Floats

    def variance(self, ratio: float) -> Floats:
        """As `Contrast.variance`."""
        spread = (
            (self.variance_parts[0] + ratio**2 * self.variance_parts[1]) * self.fewest / np.maximum(self.fewest - 1, 1)
        )
        return np.where((self.fewest >= 2) & (spread > 0), spread, np.inf)


def users_running(found: Visits, looks: Floats, chosen: NDArray[np.bool_] | None = None) -> Running:
    """Sums over users at each moment of `looks` (seconds, ascending); of the chosen visits only."""
    kept = np.ones(found.at.size, dtype=bool) if chosen is None else chosen
    at, user, arm = found.at[kept], found.user[kept], found.in_canary[kept]
    n, y = found.lists[kept].astype(np.float64), found.clicks[kept].astype(np.float64)
    order = np.argsort(user, kind="stable")
    own_n, own_y = np.cumsum(n[order]), np.cumsum(y[order])
    begins = np.concatenate([[True], user[order][1:] != user[order][:-1]]) if user.size else np.zeros(0, dtype=bool)
    first = np.maximum.accumulate(np.where(begins, np.arange(user.size), 0))
    before_n, before_y = np.empty(user.size), np.empty(user.size)
    before_n[order] = own_n - n[order] - (own_n - n[order])[first]
    before_y[order] = own_y - y[order] - (own_y - y[order])[first]
    new = np.zeros(user.size)
    new[order] = begins
    added = (y, n, 2 * before_y * y + y * y, before_y * n + before_n * y + y * n, 2 * before_n * n + n * n, new)
    place = np.searchsorted(at, looks, side="right")
    sums = {}
    for canary in (True, False):
        of_arm = [np.concatenate([[0.0], np.cumsum(np.where(arm == canary, x, 0.0))])[place] for x in added]
        sums[canary] = of_arm
    (yc, nc, yyc, ync, nnc, uc), (ys, ns, yys, yns, nns, us) = sums[True], sums[False]
    with np.errstate(divide="ignore", invalid="ignore"):
        pc, ps = yc / nc, ys / ns
        total = nc + ns
        canary_part = (ns / total) ** 2 * (yyc - 2 * pc * ync + pc**2 * nnc)
        stable_part = (nc / total) ** 2 * (yys - 2 * ps * yns + ps**2 * nns)
        base = (nc / total * ys) ** 2
        ratio = pc / ps
        parts = (canary_part / base, stable_part / base)
    return Running(ratio, parts, np.minimum(uc, us))


def outcome_shown(guardrail: Outcome, found: Running, alpha: float) -> NDArray[np.bool_]:
    """Whether a loss is shown at each look."""
    bound = 1 - guardrail.margin
    enough = (found.fewest >= guardrail.least_users) & np.isfinite(found.ratio)
    distance = np.where(enough, bound - found.ratio, -1.0)
    variance = np.where(enough, found.variance(bound), np.inf)
    return enough & proof(distance, variance, margin=guardrail.margin, alpha=alpha)


def ruled_out(policy: RolloutPolicy, seen: Moments, found: Visits) -> dict[str, bool]:
    """Whether harm was called ruled out at any look, by errors and by clicks on everything so far."""
    alpha, ever = policy.false_continue, {}
    counts = counts_of(policy, seen)
    looks = (np.arange(seen.requests.size) + 1) * SECONDS
    for guardrail in policy.guardrails:
        if isinstance(guardrail, Rate) and guardrail.id == "errors":
            rate = running(compared(*counts[guardrail.id]))
            distance = guardrail.margin - rate.value
            ever[guardrail.id] = bool(proof(distance, rate.variance, margin=guardrail.margin, alpha=alpha).any())
        elif isinstance(guardrail, Outcome):
            users, bound = users_running(found, looks), 1 - guardrail.margin
            known = (users.fewest >= guardrail.least_users) & np.isfinite(users.ratio)
            distance = np.where(known, users.ratio - bound, -1.0)
            shown = proof(distance, users.variance(bound), margin=guardrail.margin, alpha=alpha)
            ever[guardrail.id] = bool((known & shown).any())
    return ever


def gauge_shown(guardrail: Plain, values: Floats) -> NDArray[np.bool_]:
    """Whether a plain bound was broken for as long as is tolerated."""
    out = values > guardrail.at_most
    begin = np.maximum.accumulate(np.where(out, -1, np.arange(values.size) + 1))
    lasted = (np.arange(values.size) + 1 - np.maximum(begin, 0)) * SECONDS
    return out & (lasted >= guardrail.for_seconds)


def split_shown(found: Visits, looks: Floats, share: float, level: float) -> NDArray[np.bool_]:
    """Whether users are shown not to be split as set, at each look."""
    _, first = np.unique(found.user, return_index=True)
    first = np.sort(first)
    at, arm = found.at[first], found.in_canary[first]
    place = np.searchsorted(at, looks, side="right")
    canary = np.concatenate([[0], np.cumsum(arm)])[place]
    return np.asarray(log_split(np.stack([canary, place - canary], axis=-1), [share, 1 - share]) >= math.log(1 / level))


def shown_by(
    policy: RolloutPolicy,
    seen: Moments,
    found: Visits,
    *,
    counts: Mapping[str, Four] | None = None,
    only: Mapping[str, float] | None = None,
) -> dict[str, NDArray[np.bool_]]:
    """Whether each guardrail (and `id@segment`) has shown harm, at each look.

    Args:
        policy: The rules.
        seen: Of the scrapes.
        found: Of the logs.
        counts: Of `counts_of`, where they are known already.
        only: Levels of the guardrails to be asked, instead of the policy's budget.
    """
    windows = seen.requests.size
    looks = (np.arange(windows) + 1) * SECONDS
    budget = budget_of(policy)
    level = dict(budget.guardrails) if only is None else dict(only)
    shown: dict[str, NDArray[np.bool_]] = {}
    pairs = counts_of(policy, seen) if counts is None else counts
    everyone = None
    for guardrail in policy.guardrails:
        if isinstance(guardrail, Plain):
            values = seen.features_age if guardrail.measure == "features_age_seconds" else np.zeros(windows)
            shown[guardrail.id] = gauge_shown(guardrail, values)
            continue
        alpha = level.get(guardrail.id)
        if alpha is None:
            continue
        if isinstance(guardrail, Rate | Latency):
            shown[guardrail.id] = rate_shown(pairs[guardrail.id], guardrail, policy, alpha)
        elif isinstance(guardrail, Distribution):
            shown[guardrail.id] = shape_shown(guardrail, seen.scores, score_shares(np.zeros(())), alpha)
        else:
            everyone = users_running(found, looks) if everyone is None else everyone
            shown[guardrail.id] = outcome_shown(guardrail, everyone, alpha)
            for country in range(3) if guardrail.segments and only is None else ():
                part = users_running(found, looks, found.country == country)
                shown[f"{guardrail.id}@{country}"] = outcome_shown(guardrail, part, budget.segments[guardrail.id])
    return shown


def first_stop(shown: Mapping[str, NDArray[np.bool_]]) -> Stop | None:
    """The first look at which any guardrail had shown harm."""
    stops = [Stop(int(np.argmax(looks)), name) for name, looks in shown.items() if looks.any()]
    return min(stops, key=lambda stop: stop.window, default=None)
