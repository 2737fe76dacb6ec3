"""What is kept of a canary between looks, so that any process can go on where another was killed. Pure.

    begin -> Memory -> taken_in(memory, policy, readings of one window) -> Memory -> ...
                       moved(memory, step)  when the controller has set the next share

Nothing kept grows with time. A window that was taken in already changes nothing, so whoever is not sure may hand it in again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from components.rollout.contract import CANARY, SCHEMA_VERSION, Memory, Reading, Track
from components.rollout.policy import Distribution, Guardrail, Latency, Outcome, Plain, Rate, RolloutPolicy, segments_of
from components.statistics.sequential_bets import wagers
from components.statistics.sequential_counts import log_split
from components.statistics.sequential_histograms import first_bound, quantile_estimate
from components.statistics.sequential_windows import NOTHING, Scores, Sums, compared, expected

LEAST_BEYOND = 10.0
"""Requests of the stable arm beyond its own quantile, before the quantile is believed."""
OUTAGE = 0.1
"""Betting asks about outages alone: one request in ten more than at the stable arm, or the margin where that is more. Asked about
a small margin it would take a hiccup of two minutes, which replicas of every release have now and then, for harm of this one."""
_SLACK = 1e-6
"""Seconds: times are sums of floats."""

Expected = Mapping[str, tuple[float, ...]]
"""By measure: share of values in each bucket that the evidence leads one to expect."""


def begin(policy: RolloutPolicy, *, at: float) -> Memory:
    """Of a canary whose first step begins now.

    Args:
        policy: The rules, which stay the same until the canary ends.
        at: Seconds since 1970.
    """
    return Memory(SCHEMA_VERSION, policy.label, at, 0, at, 1, at, at)


def moved(memory: Memory, *, step: int, at: float) -> Memory:
    """With the canary in another step from now on: reading begins anew beside the reading since the beginning."""
    return replace(_anew(memory, at), step=step, step_began=at, requests=0.0)


@dataclass(frozen=True, slots=True)
class _Taken:
    """What a window changes, while it is taken in."""

    tracks: dict[str, Track]
    shapes: dict[str, tuple[Sums, ...]]
    histograms: dict[str, tuple[float, ...]]
    gauges: dict[str, float]


def key_of(guardrail: str, segment: str) -> str:
    """Under which a guardrail's track is kept."""
    return f"{guardrail}@{segment}" if segment else guardrail


def taken_in(
    memory: Memory, policy: RolloutPolicy, readings: Sequence[Reading], *, expectations: Expected | None = None
) -> Memory:
    """With one window more.

    Args:
        memory: So far.
        policy: The rules.
        readings: Of one window: one of each arm and segment. An arm that could not be read is absent.
        expectations: What distributions are held against.

    Returns:
        The memory unchanged where the window (or a later one) was taken in before.

    Raises:
        ValueError: If the readings are of different windows, or one arm and segment is there twice.
    """
    if not readings:
        return memory
    began, seconds = _window(readings)
    if began < memory.until - _SLACK:
        return memory
    if began - memory.epoch_began >= policy.restart_seconds - _SLACK:
        memory = _anew(memory, began)
    arms = {(reading.arm, reading.segment): reading for reading in readings}
    canary = arms.get((CANARY, ""))
    missing = {arm for arm in (CANARY, policy.compare_with) if (arm, "") not in arms}
    taken = _Taken(dict(memory.tracks), dict(memory.shapes), dict(memory.histograms), dict(memory.gauges))
    for guardrail in policy.guardrails:
        if not _measured(guardrail, policy, arms, taken, expectations or {}):
            missing.add(guardrail.id)
    breached = {
        guardrail.id
        for guardrail in policy.guardrails
        if isinstance(guardrail, Plain)
        and guardrail.id not in missing
        and taken.gauges[guardrail.measure] > guardrail.at_most
    }
    memory = _split(memory, [reading for reading in readings if not reading.segment])
    return replace(
        memory,
        until=began + seconds,
        requests=memory.requests + (canary.counts.get("requests", 0.0) if canary else 0.0),
        tracks=taken.tracks,
        shapes=taken.shapes,
        histograms=taken.histograms,
        gauges=taken.gauges,
        missing_since=_since(memory.missing_since, missing, began),
        breached_since=_since(memory.breached_since, breached, began),
        mismatched_since=_mismatched(memory, policy, began),
    )


def unread(memory: Memory, policy: RolloutPolicy, *, at: float) -> Memory:
    """Where nothing could be read of any arm: all is missing from the end of the last window on."""
    names = {CANARY, policy.compare_with}
    since = _since(memory.missing_since, names | set(memory.missing_since), memory.until)
    return replace(memory, missing_since=since, until=max(memory.until, at))


def split_evidence(memory: Memory) -> float:
    """Logarithm of the evidence that users are not split as set; a mismatch is shown where it reaches log(1 / split_level).

    The largest of any stretch of constant shares, the k-th less log(k (k + 1)): its part of the level. Stretches are not added
    up, because the same users come in each of them, and who was in the canary at a tenth is in it at a quarter.
    """
    shares = memory.split_shares
    if len(shares) < 2:
        return memory.split_evidence
    arms = sorted(shares)
    total = sum(shares.values())
    counts = [memory.split_counts.get(arm, 0) for arm in arms]
    now = float(log_split(counts, [shares[arm] / total for arm in arms]))
    return max(memory.split_evidence, now - math.log(memory.split_stretch * (memory.split_stretch + 1)))


def _measured(
    guardrail: Guardrail,
    policy: RolloutPolicy,
    arms: Mapping[tuple[str, str], Reading],
    taken: _Taken,
    expectations: Expected,
) -> bool:
    """Take one guardrail's window in; whether it could be read for everyone."""
    canary = arms.get((CANARY, ""))
    if isinstance(guardrail, Outcome):
        return True
    if isinstance(guardrail, Plain):
        value = math.nan if canary is None else canary.gauges.get(guardrail.measure, math.nan)
        if not math.isnan(value):
            taken.gauges[guardrail.measure] = value
        return not math.isnan(value)
    if isinstance(guardrail, Distribution):
        shares = expectations.get(guardrail.measure)
        counts = None if canary is None else _filled(canary.histograms.get(guardrail.measure))
        if shares is None or counts is None or len(shares) != len(counts):
            return False
        taken.shapes[guardrail.id] = _shaped(taken.shapes.get(guardrail.id), counts, shares)
        return True
    readable = _followed(guardrail, policy, arms, "", taken)
    for segment in _segments(guardrail, arms, taken.tracks):
        _followed(guardrail, policy, arms, segment, taken)
    return readable


def _window(readings: Sequence[Reading]) -> tuple[float, float]:
    windows = {(reading.began, reading.seconds) for reading in readings}
    if len(windows) > 1:
        raise ValueError(f"readings: found {len(windows)} different windows; needed one.")
    named = [(reading.arm, reading.segment) for reading in readings]
    if len(set(named)) < len(named):
        raise ValueError("readings: found an arm and segment twice in one window; needed each once.")
    return windows.pop()


def _anew(memory: Memory, at: float) -> Memory:
    tracks = {
        key: replace(track, recent=NOTHING, recent_purses=Track().recent_purses) for key, track in memory.tracks.items()
    }
    return replace(memory, epoch=memory.epoch + 1, epoch_began=at, tracks=tracks)


def _segments(
    guardrail: Rate | Latency, arms: Mapping[tuple[str, str], Reading], tracks: Mapping[str, Track]
) -> list[str]:
    """Segments that have a part of the budget: those followed already, then new ones by name while there is room."""
    held = segments_of(guardrail)
    if held is None:
        return []
    followed = sorted(key.partition("@")[2] for key in tracks if key.startswith(f"{guardrail.id}@"))
    seen = {segment for _, segment in arms if segment and segment.partition("=")[0] in held.by}
    return followed + sorted(seen - set(followed))[: max(held.most - len(followed), 0)]


def _followed(
    guardrail: Rate | Latency,
    policy: RolloutPolicy,
    arms: Mapping[tuple[str, str], Reading],
    segment: str,
    taken: _Taken,
) -> bool:
    """Take one guardrail's window in, for everyone or a segment; whether it could be read."""
    key = key_of(guardrail.id, segment)
    pair = [arms.get((arm, segment)) for arm in (CANARY, policy.compare_with)]
    if any(reading is None for reading in pair):
        return False
    if isinstance(guardrail, Rate):
        found = [_share(reading, guardrail) for reading in pair if reading]
        if any(one is None for one in found):
            return False
        (y, n), (ys, ns) = (one for one in found if one is not None)
    else:
        counts = [_filled(reading.histograms.get(guardrail.measure)) for reading in pair if reading]
        if any(one is None or len(one) != len(guardrail.bounds) + 1 for one in counts):
            return False
        own, others = (one for one in counts if one is not None)
        reference = taken.histograms.get(f"{key}@{policy.compare_with}", (0.0,) * len(others))
        for arm, new in ((CANARY, own), (policy.compare_with, others)):
            before = taken.histograms.get(f"{key}@{arm}", (0.0,) * len(new))
            taken.histograms[f"{key}@{arm}"] = tuple(a + b for a, b in zip(before, new, strict=True))
        # Of the windows before this one: a limit that this window had a part in would be judged by itself.
        place = slow_from(guardrail, reference)
        if place is None:
            return sum(reference) * guardrail.margin < LEAST_BEYOND
        y, n, ys, ns = sum(own[place + 1 :]), sum(own), sum(others[place + 1 :]), sum(others)
    taken.tracks[key] = tracked(taken.tracks.get(key, Track()), guardrail, (y, n, ys, ns))
    return True


def slow_from(guardrail: Latency, reference: Sequence[float]) -> int | None:
    """Place of the bound beyond which a request is called slow.

    None where the stable arm's quantile is not known, or too near the histogram's end to be multiplied.
    """
    if sum(reference) * guardrail.margin < LEAST_BEYOND:
        return None
    quantile = quantile_estimate(reference, guardrail.bounds, quantile=guardrail.quantile)
    return first_bound(guardrail.bounds, quantile * guardrail.ratio) if math.isfinite(quantile) else None


def tracked(track: Track, guardrail: Rate | Latency, counts: tuple[float, float, float, float]) -> Track:
    """A track with one window more: events and requests of the canary, events and requests of the other arm."""
    y, n, ys, ns = counts
    scores = turned(compared([y], [n], [ys], [ns]), guardrail)
    if isinstance(guardrail, Latency):
        return replace(track, whole=track.whole.plus(scores), recent=track.recent.plus(scores))
    bet = log_gains([y], [n], [ys], [ns], guardrail)[0]
    return Track(
        track.whole.plus(scores),
        track.recent.plus(scores),
        tuple(a + float(b) for a, b in zip(track.purses, bet, strict=True)),
        tuple(a + float(b) for a, b in zip(track.recent_purses, bet, strict=True)),
    )


def turned(scores: Scores, guardrail: Rate | Latency) -> Scores:
    """Scores with harm upwards."""
    return scores if _sign(guardrail) > 0 else replace(scores, score=-scores.score)


def log_gains(y: ArrayLike, n: ArrayLike, ys: ArrayLike, ns: ArrayLike, guardrail: Rate) -> NDArray[np.float64]:
    """Logarithm of what each purse is multiplied by in each window, shape (windows, stakes)."""
    own, other = (np.asarray(x, dtype=np.float64) for x in (n, ns))
    both = (own > 0) & (other > 0)
    rates = np.asarray(y) / np.where(both, own, 1.0) - np.asarray(ys) / np.where(both, other, 1.0)
    values = np.where(both, np.clip(_sign(guardrail) * rates, -1.0, 1.0), np.nan)
    return wagers(values, bound=max(guardrail.margin, OUTAGE), lowest=-1.0)


def _sign(guardrail: Rate | Latency) -> float:
    return -1.0 if isinstance(guardrail, Rate) and guardrail.harm == "less" else 1.0


def _share(reading: Reading, guardrail: Rate) -> tuple[float, float] | None:
    y, n = reading.counts.get(guardrail.measure), reading.counts.get(guardrail.of)
    if y is None or n is None or not (math.isfinite(y) and math.isfinite(n)) or not 0 <= y <= n + 1e-9:
        return None
    return min(y, n), n


def _filled(counts: tuple[float, ...] | None) -> tuple[float, ...] | None:
    """Counts that can be used, or None."""
    return counts if counts and all(math.isfinite(count) and count >= 0 for count in counts) else None


def _shaped(kept: tuple[Sums, ...] | None, counts: tuple[float, ...], shares: tuple[float, ...]) -> tuple[Sums, ...]:
    total = sum(counts)
    cumulative = np.cumsum(counts)[:-1]
    should = np.cumsum(shares)[:-1] / sum(shares)
    sums = kept or (NOTHING,) * len(should)
    return tuple(
        held.plus(expected([min(found, total)], [total], share))
        for held, found, share in zip(sums, cumulative.tolist(), should.tolist(), strict=True)
    )


def _split(memory: Memory, readings: Sequence[Reading]) -> Memory:
    shares = {reading.arm: reading.share for reading in readings}
    counts = {reading.arm: reading.new_users for reading in readings}
    if len(shares) < 2:
        return memory
    if dict(memory.split_shares) != shares:
        return replace(
            memory,
            split_evidence=split_evidence(memory),
            split_stretch=memory.split_stretch + 1,
            split_shares=shares,
            split_counts=counts,
        )
    added = {arm: memory.split_counts.get(arm, 0) + count for arm, count in counts.items()}
    return replace(memory, split_counts=added)


def _mismatched(memory: Memory, policy: RolloutPolicy, began: float) -> float | None:
    if split_evidence(memory) < math.log(1 / policy.split_level):
        return None
    return began if memory.mismatched_since is None else memory.mismatched_since


def _since(before: Mapping[str, float], now: set[str], began: float) -> dict[str, float]:
    return {name: before.get(name, began) for name in sorted(now)}
