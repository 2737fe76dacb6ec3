"""The measured part of docs/canary-judge.md and its pictures, from what `measure_canary` found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path

import numpy as np
from canary_world import SECONDS, Fault, moments, score_shares, visits
from measure_canary import (
    ALONE,
    ARGO,
    FAULTS,
    FLAGGER,
    HORIZONS,
    JUDGES,
    MARGINS,
    OURS,
    PEEKING,
    SHARE,
    Alone,
    Tally,
)
from scipy.stats import binomtest

from components.rollout.contract import CANARY, STABLE, Reading, StepVerdict
from components.rollout.judging import judge
from components.rollout.memory import begin, moved, taken_in
from components.rollout.pictures import timeline
from components.rollout.policy import Plain, RolloutPolicy
from components.statistics.sequential_users import contrast

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
_NAMES = {
    OURS: "rankgate",
    FLAGGER: "Flagger's example",
    ARGO: "Argo Rollouts' example",
    MARGINS: "this policy's margins as thresholds",
    PEEKING: "p < 0.05 at any look",
}
_COLOURS = {OURS: "#2b5797", FLAGGER: "#b3261e", ARGO: "#8a6d1b", MARGINS: "#7a4fa3", PEEKING: "#5b6673"}


def write_page(
    folder: Path, policy: RolloutPolicy, clean: Tally, alone: Alone, faults: Sequence[Tally], *, command: str
) -> None:
    """Write the measured part of canary-judge.md between its marks, and the pictures beside it.

    Raises:
        SystemExit: If the page has no marks.
    """
    page = folder / "canary-judge.md"
    text = page.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{page}: found no {BEGIN} ... {END}; needed both.")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    told = "\n".join([BEGIN, *_told(policy, clean, alone, faults, command), END])
    page.write_text(before + told + after, encoding="utf-8")
    (folder / "canary-judge-faults.svg").write_text(_faults_picture(faults), encoding="utf-8")
    (folder / "canary-judge-canary.svg").write_text(canary_picture(policy), encoding="utf-8")


def _told(policy: RolloutPolicy, clean: Tally, alone: Alone, faults: Sequence[Tally], command: str) -> list[str]:
    today = datetime.now(UTC).date().isoformat()
    lines = [
        f"`{command}`, {today}; policy {policy.label}, {100 * SHARE:g} % of 40 requests a second, a look every 5 s.",
        "",
        f"**Without a fault**, {clean.canaries} days, both arms alike. Rolled back within so long:",
        "",
        "| judge | " + " | ".join(name for name, _ in HORIZONS) + " |",
        "|---|" + "---:|" * len(HORIZONS),
    ]
    for judge_name in JUDGES:
        cells = [_rate(sum(w < windows for w in clean.stops[judge_name]), clean.canaries) for _, windows in HORIZONS]
        lines.append(f"| {_NAMES[judge_name]} | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"The stated level is {policy.false_rollback:.0%} for all guardrails, looks and segments together"
        + (f"; named first: {', '.join(f'{k} {v}' for k, v in sorted(clean.named.items()))}." if clean.named else "."),
        "",
        f"**Each guardrail alone at {ALONE:.0%}**, {alone.days} days each, a look every 5 s. At the margin the canary has just "
        "what is tolerated (errors, slow requests, clicks, scores), so every rollback is false:",
        "",
        "| guardrail | no fault | at the margin |",
        "|---|---:|---:|",
    ]
    names = [g.id for g in policy.guardrails if not isinstance(g, Plain)]
    lines += [
        f"| {name} | {_rate(alone.none[name], alone.days)} | {_rate(alone.at_margin[name], alone.days)} |"
        for name in [*names, "split"]
    ]
    told = ", ".join(f"{name} {_rate(alone.ruled_out[name], alone.days)}" for name in ("errors", "clicks"))
    lines += [
        "",
        f"Harm of exactly the margin was called ruled out at any look of a day, at {policy.false_continue:.0%}: {told}.",
    ]
    repeats = faults[0].canaries
    lines += ["", _harmless(policy)]
    lines += [
        "",
        f"**Faults**, {repeats} canaries each: how many were rolled back in the time simulated, and the median minutes from the "
        "fault to the rollback (10 % to 90 % of canaries), and the requests that the canary had answered with it. Who rolls "
        "back without a fault as well (the first table) is early here for the same reason:",
        "",
        f"| fault | simulated | {_NAMES[OURS]} | requests | " + " | ".join(_NAMES[j] for j in JUDGES[1:]) + " |",
        "|---|---:|---|---:|" + "---|" * (len(JUDGES) - 1),
    ]
    for (fault, windows), tally in zip(FAULTS, faults, strict=True):
        late = fault.begins / SECONDS
        ours = _time(tally.stops[OURS], tally.canaries, late, spread=True)
        asked = _requests(tally, fault.begins)
        others = " | ".join(_time(tally.stops[j], tally.canaries, late, spread=False) for j in JUDGES[1:])
        lines.append(f"| {fault.name} | {windows * SECONDS / 3600:g} h | {ours} | {asked} | {others} |")
    return [
        *lines,
        "",
        "![Median time to roll back, fault by fault](canary-judge-faults.svg)",
        "",
        "![A canary that begins to fail in its second hour](canary-judge-canary.svg)",
        "",
    ]


def _harmless(policy: RolloutPolicy) -> str:
    """How long canaries without a fault take through all steps, moved on as the judge says, clicks ruled out at the last."""
    ends = [followed(policy, Fault(), windows=_HARMLESS_WINDOWS, seed=seed)[-1] for seed in range(_HARMLESS)]
    promoted = sorted(end.at / 3600 for end in ends if end.action == "continue" and end.step + 1 == len(policy.steps))
    backed = sum(end.action == "roll_back" for end in ends)
    least = sum(step.dwell_seconds for step in policy.steps) / 3600
    hours = f"{promoted[0]:.1f} to {promoted[-1]:.1f} hours, median {np.median(promoted):.1f}" if promoted else "none"
    return (
        f"**Going on.** {len(promoted)} of {_HARMLESS} canaries without a fault were promoted within "
        f"{_HARMLESS_WINDOWS * SECONDS / 3600:g} hours ({hours}; the steps alone last {least:.2g}), {backed} rolled back; "
        "the last step waits until a loss of a twentieth of clicks is ruled out."
    )


def _rate(found: int, of: int) -> str:
    limits = binomtest(found, of).proportion_ci(0.95, method="exact")
    return f"{found} of {of} ({100 * limits.low:.1f} to {100 * limits.high:.1f} %)"


def _time(stops: Sequence[int], of: int, late: float, *, spread: bool) -> str:
    after = [(window + 1 - late) * SECONDS / 60 for window in stops if window >= late]
    early = len(stops) - len(after)
    false = f", {early} before it" if early else ""
    if not after:
        return f"0 of {of}{false}"
    text = f"{len(after)} of {of}{false}: {_minutes(float(np.median(after)))}"
    low, high = np.quantile(after, [0.1, 0.9])
    return text + (f" ({_minutes(low)} to {_minutes(high)})" if spread else "")


def _minutes(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def _requests(tally: Tally, begins: float) -> str:
    found = tally.requests[OURS]
    if not found:
        return ""
    # Requests are counted from the canary's beginning; before a late fault they were answered without it.
    if begins:
        return ""
    return f"{float(np.median(found)):,.0f}".replace(",", " ")


_HARMLESS, _HARMLESS_WINDOWS = 10, 17_280
_ROW, _TOP, _LEFT, _WIDTH = 26, 78, 320, 980


def _faults_picture(faults: Sequence[Tally]) -> str:
    """Medians on a logarithmic axis of minutes; a judge that found fewer than half of a fault is at the right edge."""
    height = _TOP + _ROW * len(faults) + 44
    right, least, most = _WIDTH - 60, 0.25, 5000.0

    def x(minutes: float) -> float:
        return _LEFT + math.log(max(minutes, least) / least) / math.log(most / least) * (right - _LEFT)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="12" role="img" aria-labelledby="title">',
        '<title id="title">Median minutes from a fault to the rollback, fault by fault, for each judge</title>',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        '<text x="16" y="28" font-size="17" font-weight="700" fill="#1d2733">From a fault to the rollback, median</text>',
    ]
    place = 16.0
    for name in JUDGES:
        filled = _COLOURS[name] if name == OURS else "#ffffff"
        parts.append(
            f'<circle cx="{place + 6}" cy="50" r="5" fill="{filled}" stroke="{_COLOURS[name]}" stroke-width="2"/>'
        )
        parts.append(f'<text x="{place + 17}" y="54" fill="#1d2733">{escape(_NAMES[name])}</text>')
        place += 40 + 6.6 * len(_NAMES[name])
    for minutes, words in ((1, "1 min"), (10, "10 min"), (60, "1 h"), (600, "10 h"), (1440, "1 day")):
        parts.append(
            f'<line x1="{x(minutes):.1f}" y1="{_TOP}" x2="{x(minutes):.1f}" y2="{height - 34}" stroke="#d9dee4"/>'
        )
        parts.append(f'<text x="{x(minutes):.1f}" y="{height - 16}" text-anchor="middle" fill="#5b6673">{words}</text>')
    parts.append(f'<text x="{right}" y="{height - 16}" text-anchor="middle" fill="#5b6673">not found</text>')
    for row, ((fault, _), tally) in enumerate(zip(FAULTS, faults, strict=True)):
        y = _TOP + 14 + _ROW * row
        parts.append(f'<text x="{_LEFT - 12}" y="{y + 4}" text-anchor="end" fill="#1d2733">{escape(fault.name)}</text>')
        parts.append(f'<line x1="{_LEFT}" y1="{y}" x2="{right}" y2="{y}" stroke="#eef1f4"/>')
        for name in reversed(JUDGES):
            late = fault.begins / SECONDS
            after = [(w + 1 - late) * SECONDS / 60 for w in tally.stops[name] if w >= late]
            found = len(after) * 2 >= tally.canaries
            at = x(float(np.median(after))) if found else float(right)
            filled = _COLOURS[name] if name == OURS else "#ffffff"
            parts.append(
                f'<circle cx="{at:.1f}" cy="{y}" r="5" fill="{filled}" stroke="{_COLOURS[name]}" stroke-width="2"/>'
            )
    return "\n".join([*parts, "</svg>"]) + "\n"


def canary_picture(policy: RolloutPolicy, *, windows: int = 1440, fault: Fault | None = None) -> str:
    """A canary judged look by look, drawn by `components.rollout.pictures`."""
    fault = fault or Fault(errors=0.02, begins=4500.0)
    verdicts = followed(policy, fault, windows=windows, seed=5)
    names = {
        g.id: g.title for g in policy.guardrails if g.id in ("errors", "latency-p95", "latency-p99", "scores", "clicks")
    }
    return timeline(
        verdicts, title="A canary that begins to fail: 2 more errors in a hundred from 01:15 on", names=names
    )


def followed(policy: RolloutPolicy, fault: Fault, *, windows: int, seed: int) -> list[StepVerdict]:
    """The verdicts of a canary that is moved from step to step as the judge says, one a minute."""
    shares = {"score": tuple(score_shares(np.zeros(())).tolist())}
    # Traffic of each step as it would be, cut from worlds of that share.
    memory, verdicts = begin(policy, at=0.0), []
    worlds = [
        moments(np.random.default_rng([seed, step]), windows=windows, share=s.share, fault=fault)
        for step, s in enumerate(policy.steps)
    ]
    people = visits(np.random.default_rng([seed, 99]), seconds=windows * SECONDS, fault=fault)
    draw = np.random.default_rng([seed, 98]).random(int(people.user.max()) + 1)[people.user]
    share_then, step_then = np.zeros(people.at.size), np.zeros(people.at.size, dtype=np.int64)
    for window in range(windows):
        step = memory.step
        share = policy.steps[step].share
        seen = worlds[step]
        readings = []
        for arm, part, prefix in ((CANARY, share, ""), (STABLE, 1 - share, "stable_")):
            names = ("requests", "errors", "fallbacks", "empty")
            counts = {name: float(getattr(seen, f"{prefix}{name}")[window]) for name in names}
            counts["lists"] = counts["requests"]
            histograms = {"latency": tuple(getattr(seen, f"{prefix}latency")[window].tolist())}
            histograms |= {"score": tuple(seen.scores[window].tolist())} if arm == CANARY else {}
            gauges = {"features_age_seconds": float(seen.features_age[window]), "skewed_share": 0.0}
            readings.append(Reading(arm, part, memory.until, SECONDS, "", counts, histograms, gauges))
        memory = taken_in(memory, policy, readings, expectations=shares)
        now = (people.at > memory.until - SECONDS) & (people.at <= memory.until)
        share_then[now], step_then[now] = share, step
        if window % 12 != 11:
            continue
        kept = people.at <= memory.until
        # Sticky, and growing: who was in the canary at a tenth is in it at a half.
        in_canary = draw[kept] < share_then[kept]
        rows = (people.user[kept], step_then[kept], in_canary, people.lists[kept], people.clicks[kept])
        verdict = judge(policy, memory, outcomes={"clicks": contrast(*rows)}, at=memory.until)
        verdicts.append(verdict)
        if verdict.action == "roll_back":
            break
        if verdict.action == "continue":
            if step + 1 == len(policy.steps):
                break
            memory = moved(memory, step=step + 1, at=memory.until)
    return verdicts
