"""Measures the canary's judge by simulation: false rollbacks, and how fast faults are found; `task bench:canary`.

    python tests/components/rollout/measure_canary.py [--days 200] [--repeats 20] [--page docs] [--seed 1]

Every day is made from its own seed, so a figure can be made again alone. Judges see the same days. Nothing is tuned to them: the
policy is policies/rollout/default.yaml. Times are those of the simulated store, not of this machine.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from canary_following import counts_of, first_stop, ruled_out, shown_by, split_shown
from canary_rivals import argo, flagger, margins, peeking
from canary_world import DAY, SECONDS, Fault, Moments, Visits, moments, visits

from components.rollout.policy import Plain, RolloutPolicy, load_rollout_policy

REPOSITORY = Path(__file__).resolve().parents[3]
POLICY = REPOSITORY / "policies" / "rollout"
SHARE = 0.1
OURS, FLAGGER, ARGO, MARGINS, PEEKING = "rankgate", "flagger", "argo", "margins", "peeking"
JUDGES = (OURS, FLAGGER, ARGO, MARGINS, PEEKING)
ALONE = 0.05
"""Level at which each guardrail is also asked alone."""

HORIZONS = (("half an hour", 360), ("2 hours", 1440), ("6 hours", 4320), ("a day", DAY))
"""Within which false rollbacks are told, in windows."""
_SIX_HOURS, _A_DAY = DAY // 4, DAY
FAULTS: tuple[tuple[Fault, int], ...] = (
    (Fault("latency, twice as slow", latency=2.0), _SIX_HOURS),
    (Fault("latency, four times as slow", latency=4.0), _SIX_HOURS),
    (Fault("errors, 1 in a hundred", errors=0.01), _SIX_HOURS),
    (Fault("errors, 5 in a hundred", errors=0.05), _SIX_HOURS),
    (Fault("errors, 5 in a hundred from the third hour on", errors=0.05, begins=7200.0), _SIX_HOURS),
    (Fault("crash, half of all requests", errors=0.5), _SIX_HOURS),
    (Fault("crash, all requests", errors=1.0), _SIX_HOURS),
    (Fault("bad ranking, a tenth fewer clicks", clicks=0.9), 3 * _A_DAY),
    (Fault("bad ranking, a third fewer clicks", clicks=0.67), _A_DAY),
    (Fault("segment harm, a third fewer clicks of 15 %", country_clicks=0.67), _A_DAY),
    (Fault("segment harm, two thirds fewer clicks of 15 %", country_clicks=0.33), _A_DAY),
    (Fault("skew, scores moved by half a deviation", scores=0.5), _SIX_HOURS),
    (Fault("skew, scores moved by a deviation", scores=1.0), _SIX_HOURS),
    (Fault("stale features, a day old", features_age=86_400.0), _SIX_HOURS),
    (Fault("stale features, no longer read anew", refreshed=False), _SIX_HOURS),
)
"""Each at two strengths, and one that begins late; with how many windows are simulated."""


@dataclass(slots=True)
class Tally:
    """What became of a number of canaries of one kind."""

    name: str
    windows: int
    canaries: int = 0
    stops: dict[str, list[int]] = field(default_factory=lambda: {judge: [] for judge in JUDGES})
    """By judge: windows after which it rolled back, of the canaries that it did."""
    requests: dict[str, list[float]] = field(default_factory=lambda: {judge: [] for judge in JUDGES})
    """Of the canary until then."""
    named: Counter[str] = field(default_factory=Counter)
    """Guardrails that rankgate named first."""


@dataclass(slots=True)
class Alone:
    """How often each guardrail, alone at 5 %, called harm what is exactly at its margin, and what is none."""

    days: int = 0
    at_margin: Counter[str] = field(default_factory=Counter)
    none: Counter[str] = field(default_factory=Counter)
    ruled_out: Counter[str] = field(default_factory=Counter)
    """How often harm at the margin was called ruled out, at any look."""


def day(seed: tuple[int, ...], fault: Fault, windows: int, *, prone: bool = True) -> tuple[Moments, Visits]:
    """A canary of so many windows."""
    rng = np.random.default_rng(seed)
    return moments(rng, windows=windows, share=SHARE, fault=fault, prone=prone), visits(
        rng, seconds=windows * SECONDS, share=SHARE, fault=fault
    )


def judged(policy: RolloutPolicy, tally: Tally, seen: Moments, found: Visits) -> None:
    """Ask all judges about one canary."""
    tally.canaries += 1
    counts, windows = counts_of(policy, seen), seen.requests.size
    stop = first_stop(shown_by(policy, seen, found, counts=counts))
    if stop is not None:
        tally.named[stop.guardrail] += 1
    stops: Mapping[str, int | None] = {
        OURS: None if stop is None else stop.window,
        FLAGGER: flagger(seen),
        ARGO: argo(seen),
        MARGINS: margins(policy, counts, windows, found),
        PEEKING: peeking(counts, windows, found),
    }
    for judge, window in stops.items():
        if window is not None:
            tally.stops[judge].append(window)
            tally.requests[judge].append(float(seen.requests[: window + 1].sum()))


AT_MARGIN = Fault("at the margin", errors=0.005, latency=1.2, clicks=0.95, scores=0.278)
"""Harm of the margins and no more: errors, slow requests, clicks, and scores that are 0.15 away at the worst hour."""


def asked_alone(policy: RolloutPolicy, alone: Alone, number: int, seed: int) -> None:
    """Ask each guardrail alone, at 5 %, of two days."""
    level = {guardrail.id: ALONE for guardrail in policy.guardrails if not isinstance(guardrail, Plain)}
    alone.days += 1
    for fault, tally in ((Fault(), alone.none), (AT_MARGIN, alone.at_margin)):
        # Users whose requests always fail would make some days' harm a little more than the margin and others' less.
        seen, found = day((seed, 2, number), fault, _A_DAY, prone=fault is not AT_MARGIN)
        if fault is AT_MARGIN:
            alone.ruled_out.update(name for name, ever in ruled_out(policy, seen, found).items() if ever)
        for name, looks in shown_by(policy, seen, found, only=level).items():
            tally[name] += bool(looks.any())
        looks_at = (np.arange(_A_DAY) + 1) * SECONDS
        tally["split"] += bool(split_shown(found, looks_at, SHARE, ALONE).any())


def measured(
    policy: RolloutPolicy, *, days: int, repeats: int, seed: int, progress: Callable[[str], None]
) -> tuple[Tally, Alone, tuple[Tally, ...]]:
    """Everything: days without a fault, guardrails alone, faults."""
    clean = Tally("no fault", _A_DAY)
    for number in range(days):
        judged(policy, clean, *day((seed, 0, number), Fault(), _A_DAY))
        if (number + 1) % 20 == 0:
            progress(f"{number + 1} of {days} days without a fault: {len(clean.stops[OURS])} rolled back")
    alone = Alone()
    for number in range(days // 2):
        asked_alone(policy, alone, number, seed)
    progress(f"{alone.days} days at the margins: {dict(alone.at_margin)}")
    faults = []
    for place, (fault, windows) in enumerate(FAULTS):
        tally = Tally(fault.name, windows)
        for number in range(repeats):
            judged(policy, tally, *day((seed, 3 + place, number), fault, windows))
        faults.append(tally)
        late = fault.begins / SECONDS
        found = [window - late for window in tally.stops[OURS]]
        progress(
            f"{fault.name}: {len(found)} of {repeats}, median {np.median(found or [np.nan]) * SECONDS / 60:.1f} min"
        )
    return clean, alone, tuple(faults)


def main() -> None:
    """Measure, and write the page where one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--page", type=Path, help="folder of canary-judge.md, whose measured part is written anew")
    asked = parser.parse_args()
    began = time.monotonic()
    policy = load_rollout_policy(POLICY)
    clean, alone, faults = measured(
        policy,
        days=asked.days,
        repeats=asked.repeats,
        seed=asked.seed,
        progress=lambda line: print(line, file=sys.stderr),
    )
    if asked.page:
        from canary_page import write_page

        words = " ".join([f"--days {asked.days}", f"--repeats {asked.repeats}", f"--seed {asked.seed}"])
        write_page(asked.page, policy, clean, alone, faults, command=f"task bench:canary -- {words}")
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
