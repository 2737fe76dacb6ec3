"""A small seeded part of `task bench:canary`, and that its short cut over whole days is the judge itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from canary_following import counts_of, first_stop, shown_by, users_running
from canary_rivals import argo, flagger, margins, peeking
from canary_world import SECONDS, Fault, Moments, Visits, moments, score_shares, visits
from measure_canary import OURS, PEEKING, POLICY, SHARE, Tally, day, judged

from components.rollout.contract import CANARY, STABLE, Reading
from components.rollout.judging import judge
from components.rollout.memory import begin, taken_in
from components.rollout.policy import RolloutPolicy, load_rollout_policy
from components.statistics.sequential_users import Contrast, contrast


@pytest.fixture(scope="module")
def policy() -> RolloutPolicy:
    return load_rollout_policy(POLICY)


def _readings(seen: Moments, window: int) -> list[Reading]:
    found = []
    for arm, share, prefix in ((CANARY, SHARE, ""), (STABLE, 1 - SHARE, "stable_")):
        told = {
            name: float(getattr(seen, f"{prefix}{name}")[window])
            for name in ("requests", "errors", "fallbacks", "empty")
        }
        histograms = {"latency": tuple(getattr(seen, f"{prefix}latency")[window].tolist())}
        if arm == CANARY:
            histograms["score"] = tuple(seen.scores[window].tolist())
        gauges = {"features_age_seconds": float(seen.features_age[window]), "skewed_share": 0.0}
        told["lists"] = told["requests"]
        found.append(Reading(arm, share, window * SECONDS, SECONDS, counts=told, histograms=histograms, gauges=gauges))
    return found


def _until(found: Visits, seconds: float) -> dict[str, Contrast]:
    kept = found.at <= seconds
    whole = contrast(
        found.user[kept], 0 * found.user[kept], found.in_canary[kept], found.lists[kept], found.clicks[kept]
    )
    parts = {"clicks": whole}
    for country in range(3):
        own = kept & (found.country == country)
        rows = (found.user[own], 0 * found.user[own], found.in_canary[own], found.lists[own], found.clicks[own])
        parts[f"clicks@country={country}"] = contrast(*rows)
    return parts


@pytest.mark.parametrize(
    ("fault", "windows"),
    [
        (Fault(), 420),
        (Fault(errors=0.03), 420),
        (Fault(errors=1.0, begins=1900.0), 420),
        (Fault(latency=2.0), 200),
        (Fault(scores=0.6), 200),
        (Fault(clicks=0.3), 700),
    ],
    ids=["none", "errors", "late crash", "latency", "scores", "clicks"],
)
def test_whole_days_at_once_stop_at_the_look_at_which_the_judge_stops(
    policy: RolloutPolicy, fault: Fault, windows: int
) -> None:
    rng = np.random.default_rng(12)
    seen = moments(rng, windows=windows, share=SHARE, fault=fault)
    found = visits(rng, seconds=windows * SECONDS, share=SHARE, fault=fault)
    stop = first_stop(shown_by(policy, seen, found))
    shares = {"score": tuple(score_shares(np.zeros(())).tolist())}
    memory, stopped = begin(policy, at=0.0), None
    for window in range(windows):
        memory = taken_in(memory, policy, _readings(seen, window), expectations=shares)
        near = stop is not None and abs(window - stop.window) <= 2
        if near or window % 7 == 0:
            verdict = judge(policy, memory, outcomes=_until(found, memory.until), at=memory.until)
            if verdict.action == "roll_back":
                stopped = window, next(r.guardrail for r in verdict.results if r.answer == "harm")
                break
    expected = None if stop is None else (stop.window, stop.guardrail.partition("@")[0])
    assert stopped == expected


def test_sums_over_users_at_any_look_are_those_of_the_visits_until_then() -> None:
    found = visits(np.random.default_rng(3), seconds=20_000, users=3000)
    looks = np.array([4_000.0, 11_000.0, 20_000.0])
    running = users_running(found, looks)
    for place, look in enumerate(looks):
        exact = _until(found, look)["clicks"]
        assert running.ratio[place] == pytest.approx(exact.ratio)
        assert running.variance(0.95)[place] == pytest.approx(exact.variance(0.95))
        assert running.fewest[place] == min(exact.canary_users, exact.stable_users)


def test_days_without_a_fault_are_not_rolled_back_and_peeking_rolls_most_of_them_back(policy: RolloutPolicy) -> None:
    tally = Tally("no fault", 4320)
    for number in range(12):
        judged(policy, tally, *day((9, 0, number), Fault(), 4320))
    assert len(tally.stops[OURS]) == 0
    assert len(tally.stops[PEEKING]) >= 6


@pytest.mark.parametrize(
    ("fault", "within_minutes", "guardrail"),
    [
        (Fault(errors=1.0), 2, "errors"),
        (Fault(errors=0.05), 20, "errors"),
        (Fault(latency=4.0), 5, "latency-p95"),
        (Fault(scores=1.0), 5, "scores"),
        (Fault(features_age=86_400.0), 3, "features-age"),
        (Fault(clicks=0.5), 90, "clicks"),
    ],
    ids=["crash", "errors", "latency", "skew", "stale features", "bad ranking"],
)
def test_a_strong_fault_is_found_soon_and_named(
    policy: RolloutPolicy, fault: Fault, within_minutes: float, guardrail: str
) -> None:
    times, named = [], []
    for number in range(3):
        stop = first_stop(shown_by(policy, *day((9, 1, number), fault, 1440)))
        times.append(math.inf if stop is None else (stop.window + 1) * SECONDS / 60)
        named.append("" if stop is None else stop.guardrail)
    assert np.median(times) <= within_minutes
    assert named.count(guardrail) >= 2


def test_rivals_follow_their_own_rules(policy: RolloutPolicy) -> None:
    seen, found = day((9, 2, 0), Fault(errors=0.2), 1440)
    # Five failed checks of a minute; three of five minutes.
    assert flagger(seen) == 5 * 12 - 1
    assert argo(seen) == 3 * 60 - 1
    calm, visited = day((9, 2, 1), Fault(), 1440)
    assert argo(calm) is None
    counts = counts_of(policy, seen)
    assert margins(policy, counts, 1440, found) == 5 * 12 - 1
    first = peeking(counts, 1440, found)
    assert first is not None
    assert first < 60
    assert visited.at.size > 0
