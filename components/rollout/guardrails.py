"""What each guardrail says at one look: harm shown, ruled out, neither. Pure.

The chance that a guardrail may err in rolling back is divided once more: half to the reading since the beginning, half to the
readings of epochs, the k-th of which gets 1 / (k (k - 1)) of it (the first is the whole). Of each, rates give four fifths to the
sharp test on variances between moments, and one fifth to betting on outages, which needs no variance and sees a crash within
a minute and a half.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from components.rollout.contract import CANARY, Answer, Budget, GuardrailResult, Memory, Track
from components.rollout.guardrail_words import Words, missing_words, result_words
from components.rollout.memory import OUTAGE, key_of
from components.rollout.policy import Distribution, Latency, Outcome, Plain, Rate, RolloutPolicy, Sampled
from components.statistics.sequential import growth_needed, width
from components.statistics.sequential_bets import capital
from components.statistics.sequential_histograms import quantile_estimate, quantile_limits
from components.statistics.sequential_users import Contrast
from components.statistics.sequential_windows import LEAST_WINDOWS, Sums

MOMENTS = 0.8
"""Part of the test on variances between moments, where there is betting; the rest is betting's."""
LEAST_ANEW = 48
"""Windows of an epoch before its variance is believed: four minutes, in which a hiccup that was under way as it began has ended.
At the beginning of a canary, where nothing was under way, `LEAST_WINDOWS` are enough."""
_METHODS = {
    "moments": "confidence sequence, variance between moments and blocks of them",
    "bets": "betting on a bounded mean",
    "users": "confidence sequence, variance between users",
    "shape": "confidence sequences at every bound of the histogram, variance between moments",
    "plain": "read, not sampled",
}


def spent(epoch: int) -> float:
    """Part of the epochs' budget that the k-th of them has; 0 for the first, which is the whole. All together 1."""
    return 1 / (epoch * (epoch - 1)) if epoch > 1 else 0.0


@dataclass(frozen=True, slots=True)
class Levels:
    """Chances of error of one guardrail's parts."""

    whole: float
    recent: float
    whole_bets: float
    recent_bets: float
    onward: float

    @classmethod
    def of(cls, alpha: float, epoch: int, policy: RolloutPolicy, *, bets: bool) -> Levels:
        """Divide the chance of a guardrail, with or without betting."""
        later, moments = spent(epoch), MOMENTS if bets else 1.0
        return cls(
            alpha * moments / 2,
            alpha * moments / 2 * later,
            alpha * (1 - moments) / 2,
            alpha * (1 - moments) / 2 * later,
            policy.false_continue,
        )


@dataclass(frozen=True, slots=True)
class _Found:
    """What a test found, harm upwards."""

    answer: Answer
    estimate: float | None
    low: float | None
    high: float | None
    alpha: float
    how: str
    expected_seconds: float | None
    recent: bool = False


def results(
    policy: RolloutPolicy, memory: Memory, outcomes: Mapping[str, Contrast], budget: Budget
) -> tuple[GuardrailResult, ...]:
    """Of every guardrail, for everyone and then for its segments, in the policy's order.

    Args:
        policy: The rules.
        memory: What is kept of the canary.
        outcomes: By guardrail, or `guardrail@segment`: what users did so far, of the kind `outcome`. Segments are the caller's to
            choose, the same ones from look to look; beyond the policy's `most` they are not judged.
        budget: Of `budget_of`.
    """
    found = []
    for guardrail in policy.guardrails:
        if isinstance(guardrail, Plain):
            found.append(_plain(guardrail, memory))
            continue
        found.append(_sampled(guardrail, "", policy, memory, outcomes, budget))
        kept: Mapping[str, object] = outcomes if isinstance(guardrail, Outcome) else memory.tracks
        segments = sorted(key.partition("@")[2] for key in kept if key.startswith(f"{guardrail.id}@"))
        if isinstance(guardrail, Outcome) and guardrail.segments:
            by = guardrail.segments.by
            segments = [name for name in segments if name.partition("=")[0] in by][: guardrail.segments.most]
        if guardrail.id in budget.segments:
            found += [_sampled(guardrail, segment, policy, memory, outcomes, budget) for segment in segments]
    return tuple(found)


def _sampled(
    guardrail: Sampled,
    segment: str,
    policy: RolloutPolicy,
    memory: Memory,
    outcomes: Mapping[str, Contrast],
    budget: Budget,
) -> GuardrailResult:
    key = key_of(guardrail.id, segment)
    alpha = budget.segments[guardrail.id] if segment else budget.guardrails[guardrail.id]
    levels = Levels.of(alpha, memory.epoch, policy, bets=isinstance(guardrail, Rate))
    detail, n, unit = "", 0, "requests"
    if isinstance(guardrail, Outcome):
        contrast = outcomes.get(key)
        found = _of_users(guardrail, contrast, memory, alpha, policy)
        n, unit = (contrast.canary_users if contrast else 0), "users"
    elif isinstance(guardrail, Distribution):
        shape = memory.shapes.get(guardrail.id, ())
        found = _of_shape(guardrail, shape, memory, alpha, policy)
        n, unit = (round(shape[0].canary_requests) if shape else 0), "values"
    else:
        track = memory.tracks.get(key, Track())
        found = of_track(track, guardrail.margin, levels, seconds_per_weight(memory, track))
        n = round((track.recent if found.recent else track.whole).canary_requests)
        unit = guardrail.of if isinstance(guardrail, Rate) else "requests"
        if isinstance(guardrail, Latency):
            detail = _quantiles(guardrail, key, memory, policy, track)
    since = None if segment else memory.missing_since.get(guardrail.id)
    answer: Answer = found.answer
    if since is not None and answer != "harm":
        answer = "missing"
    if memory.mismatched_since is not None:
        answer = "void"
    bound = 1 - guardrail.margin if isinstance(guardrail, Outcome) else guardrail.margin
    words = Words(guardrail, segment, n, unit, detail, memory.epoch_began if found.recent else None)
    result = GuardrailResult(
        guardrail=guardrail.id,
        segment=segment,
        answer=answer,
        estimate=found.estimate,
        low=found.low,
        high=found.high,
        bound=bound,
        n=n,
        unit=unit,
        level=1 - found.alpha,
        continue_level=1 - policy.false_continue,
        method=_METHODS[found.how],
        expected_seconds=found.expected_seconds if answer == "insufficient" else None,
        message="",
    )
    return _told(result, words, None if since is None else memory.until - since)


def _told(result: GuardrailResult, words: Words, missing_for: float | None) -> GuardrailResult:
    text = (
        missing_words(words, missing_for)
        if result.answer == "missing" and missing_for is not None
        else result_words(words, result)
    )
    return replace(result, message=text)


def of_track(track: Track, margin: float, levels: Levels, per_weight: float | None) -> _Found:
    """What a rate's track says, harm upwards, against its margin."""
    whole, recent = track.whole.estimates(), track.recent.estimates()
    value, variance = float(whole.value), float(whole.variance)
    low = value - float(width(variance, margin=margin, alpha=levels.whole))
    high = value + float(width(variance, margin=margin, alpha=levels.onward))
    estimate = None if math.isnan(value) else value
    if low > margin:
        return _Found("harm", estimate, low, high, levels.whole, "moments", None)
    if levels.recent > 0:
        late, late_variance = float(recent.value), float(recent.variance)
        late_low = late - float(width(late_variance, margin=margin, alpha=levels.recent))
        late_high = late + float(width(late_variance, margin=margin, alpha=levels.onward))
        if late_low > margin and track.recent.windows >= LEAST_ANEW:
            return _Found("harm", late, late_low, late_high, levels.recent, "moments", None, recent=True)
        if levels.recent_bets and float(capital(track.recent_purses)) >= math.log(1 / levels.recent_bets):
            return _Found("harm", late, OUTAGE, _known(late_high), levels.recent_bets, "bets", None, recent=True)
    if levels.whole_bets and float(capital(track.purses)) >= math.log(1 / levels.whole_bets):
        return _Found("harm", estimate, OUTAGE, _known(high), levels.whole_bets, "bets", None)
    # Ruled out of the whole is not enough while what came last looks like harm.
    lately = float(recent.value) > margin and math.isfinite(float(recent.variance))
    if high < margin and not lately:
        return _Found("within", estimate, low, high, levels.whole, "moments", None)
    truth = _likely(value, variance, margin)
    seconds = _settled_in(
        margin - truth, variance, margin, levels.onward if truth < margin else levels.whole, track.whole, per_weight
    )
    return _Found("insufficient", estimate, _known(low), _known(high), levels.whole, "moments", seconds)


def _likely(value: float, variance: float, margin: float) -> float:
    """The estimate drawn towards no difference by how little is known: a plan made of ten requests would be a plan of noise."""
    return value * margin**2 / (margin**2 + variance) if math.isfinite(variance) else 0.0


def _known(limit: float) -> float | None:
    return limit if math.isfinite(limit) else None


def seconds_per_weight(memory: Memory, track: Track) -> float | None:
    """Seconds in which a unit of information comes, as of late; None where none came."""
    late = track.recent.windows >= LEAST_WINDOWS
    weight = track.recent.weight if late else track.whole.weight
    elapsed = memory.until - (memory.epoch_began if late else memory.began)
    return elapsed / weight if weight > 0 and elapsed > 0 else None


def _settled_in(
    distance: float, variance: float, margin: float, alpha: float, sums: Sums, per_weight: float | None
) -> float | None:
    if per_weight is None or sums.windows == 0:
        return None
    if not math.isfinite(variance):
        return (LEAST_WINDOWS - sums.windows) * sums.weight / sums.windows * per_weight
    growth = growth_needed(distance, sums.variance_after, margin=margin, alpha=alpha)
    return None if growth is None else max(growth - 1, 0.0) * sums.weight * per_weight


def _of_users(
    guardrail: Outcome, contrast: Contrast | None, memory: Memory, alpha: float, policy: RolloutPolicy
) -> _Found:
    nothing = _Found("insufficient", None, None, None, alpha, "users", None)
    if contrast is None or not math.isfinite(contrast.ratio):
        return nothing
    bound, ratio = 1 - guardrail.margin, contrast.ratio
    elapsed = memory.until - memory.began
    fewest = min(contrast.canary_users, contrast.stable_users)
    if fewest < guardrail.least_users:
        seconds = elapsed * (guardrail.least_users / fewest - 1) if fewest else None
        return _Found("insufficient", ratio, None, None, alpha, "users", seconds)
    onward, _ = contrast.limits(margin=guardrail.margin, alpha=policy.false_continue)
    _, backward = contrast.limits(margin=guardrail.margin, alpha=alpha)
    if backward < bound:
        return _Found("harm", ratio, onward, backward, alpha, "users", None)
    if onward > bound:
        return _Found("within", ratio, onward, _known(backward), alpha, "users", None)
    variance = contrast.variance(bound)
    likely = 1 + _likely(ratio - 1, variance, guardrail.margin)
    growth = growth_needed(
        likely - bound,
        lambda growth: variance / growth,
        margin=guardrail.margin,
        alpha=policy.false_continue if likely > bound else alpha,
    )
    seconds = None if growth is None else (growth - 1) * elapsed
    return _Found("insufficient", ratio, onward, _known(backward), alpha, "users", seconds)


def _of_shape(
    guardrail: Distribution, shape: tuple[Sums, ...], memory: Memory, alpha: float, policy: RolloutPolicy
) -> _Found:
    if not shape:
        return _Found("insufficient", None, None, None, alpha, "shape", None)
    each = [sums.estimates() for sums in shape]
    values = np.abs([float(one.value) for one in each])
    variances = np.array([float(one.variance) for one in each])
    if not np.isfinite(values).all():
        return _Found("insufficient", None, None, None, alpha, "shape", None)
    # Both directions of every bound: a distance is their largest, and all limits hold together.
    back = width(variances, margin=guardrail.margin, alpha=alpha / (2 * len(shape)))
    # To be ruled out, each must be: no division, as where every rule of a policy must pass (Berger 1982).
    on = width(variances, margin=guardrail.margin, alpha=policy.false_continue)
    worst = int(values.argmax())
    estimate, low, high = float(values[worst]), float((values - back).max()), float((values + on).max())
    low = max(low, 0.0)
    if low > guardrail.margin:
        return _Found("harm", estimate, low, _known(high), alpha, "shape", None)
    if high < guardrail.margin:
        return _Found("within", estimate, low, high, alpha, "shape", None)
    sums = shape[worst]
    elapsed = memory.until - memory.began
    seconds = _settled_in(
        guardrail.margin - estimate,
        float(variances[worst]),
        guardrail.margin,
        policy.false_continue,
        sums,
        elapsed / sums.weight if sums.weight else None,
    )
    return _Found("insufficient", estimate, _known(low), _known(high), alpha, "shape", seconds)


def _plain(guardrail: Plain, memory: Memory) -> GuardrailResult:
    value = memory.gauges.get(guardrail.measure)
    missing, breached = memory.missing_since.get(guardrail.id), memory.breached_since.get(guardrail.id)
    answer: Answer = "within"
    seconds = None
    if missing is not None or value is None:
        answer = "missing"
    elif breached is not None:
        lasted = memory.until - breached
        answer = "harm" if lasted >= guardrail.for_seconds else "insufficient"
        seconds = None if answer == "harm" else guardrail.for_seconds - lasted
    result = GuardrailResult(
        guardrail=guardrail.id,
        segment="",
        answer=answer,
        estimate=value,
        low=value,
        high=value,
        bound=guardrail.at_most,
        n=0,
        unit="",
        level=None,
        continue_level=None,
        method=_METHODS["plain"],
        expected_seconds=seconds,
        message="",
    )
    words = Words(guardrail, "", 0, "", "" if breached is None else f"{memory.until - breached:.0f}", None)
    return _told(result, words, None if answer != "missing" else memory.until - (missing or memory.began))


def _quantiles(guardrail: Latency, key: str, memory: Memory, policy: RolloutPolicy, track: Track) -> str:
    """The quantile of both arms in words, with limits for the canary's."""
    parts = []
    effect = max(float(track.whole.estimates().design_effect), 1.0)
    for arm in (CANARY, policy.compare_with):
        counts = memory.histograms.get(f"{key}@{arm}")
        if counts is None or not sum(counts):
            continue
        estimate = quantile_estimate(counts, guardrail.bounds, quantile=guardrail.quantile)
        low, high = quantile_limits(
            counts, guardrail.bounds, quantile=guardrail.quantile, alpha=policy.false_continue, design_effect=effect
        )
        parts.append(f"{arm} {_ms(estimate)} ms, between {_ms(low)} and {_ms(high)}")
    return "; ".join(parts)


def _ms(seconds: float) -> str:
    return "more than can be told" if math.isinf(seconds) else f"{seconds * 1000:.3g}"
