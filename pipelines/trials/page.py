"""docs/trials.md: what was run, what was found, what was promised, and where it fell short. Written, never edited."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from components.artifacts.files import write_atomically
from pipelines.trials.harms import BY_NAME, CLEAN
from pipelines.trials.peers import PEERS
from pipelines.trials.pictures import picture
from pipelines.trials.tallies import (
    COVERAGE,
    LEAST_CAUGHT,
    MOST_BELOW,
    MOST_FALSE,
    Coverage,
    Rate,
    Tally,
    promised,
)

PAGE = "trials.md"

_PROMISES = {
    "never": f"fails ≤ {MOST_FALSE:.0%}",
    "seldom": f"fails ≤ {MOST_BELOW:.0%}",
    "caught": f"fails ≥ {LEAST_CAUGHT:.0%}",
    "told": "",
}
_MARKS = {"kept": "kept", "within chance": "within chance", "broken": "**broken**", "no promise": ""}

_HOW = """\
A clean run is made from nothing: a store is generated (or half of a real shop's customers are drawn), its log becomes a
snapshot and a dataset, and two rankers are trained on it that differ by their seed alone. One is the incumbent, one the
candidate: neither is better, so every *fail* is false. Then a harm is planted in a copy, the questions that it touches are
measured again by the rooms' own functions, and the policy answers. *Fail* below counts the rules that are there for this
harm; *insufficient* means that they could neither rule it out nor show it, which blocks a release as well but says so.

A harm *in margins* is scaled so that the true effect, averaged over seeds, is that many margins of the rule: 0.5 and 1 are
tolerated by the policy's own words and should not fail, 2 is harm. "Adequate n" is decided beforehand, by the width of the
interval: where it is too wide for 99 % power, nothing is promised and the row says *n too small*. Intervals of rates are
Clopper and Pearson's, 95 %.

Peers judge the same files by their defaults, on point values: Evidently's `DataDriftPreset` rule (its own choice of test
for each column, half of the columns), Fairlearn's `MetricFrame` with the four-fifths rule, and a fixed threshold (NDCG@10
not more than 0.01 below the incumbent's).
"""


@dataclass(frozen=True, slots=True)
class Told:
    """What the page says of how it came about."""

    command: str
    date: str
    code: str
    policies: Sequence[str]
    libraries: str


def write_page(told: Told, tallies: Sequence[Tally], coverages: Sequence[Coverage], *, out: Path) -> Path:
    """Write trials.md and a picture of each world into the folder `out`; returns the page."""
    worlds = sorted({held.world for held in tallies})
    for world in worlds:
        write_atomically(out / _picture_name(world), picture(tallies, world).encode())
    text = "\n".join(_lines(told, tallies, coverages, worlds)) + "\n"
    write_atomically(out / PAGE, text.encode())
    return out / PAGE


def _picture_name(world: str) -> str:
    return f"trials-{world.replace(' ', '-')}.svg"


def _lines(told: Told, tallies: Sequence[Tally], coverages: Sequence[Coverage], worlds: Sequence[str]) -> Iterator[str]:
    yield "# Trials: how often the gates are wrong"
    yield ""
    yield f"`{told.command}`, {told.date}; code {told.code[:12]}; policies {', '.join(told.policies)}; {told.libraries}."
    yield "This page is written by that command."
    yield ""
    yield from _short(tallies, coverages)
    yield ""
    yield "## How"
    yield ""
    yield _HOW
    yield "## Clean runs"
    yield ""
    yield from _clean(tallies)
    yield ""
    yield "## Planted harms"
    for world in worlds:
        yield ""
        yield f"### {world}"
        yield ""
        yield f"![What the gates said, harm by harm]({_picture_name(world)})"
        yield ""
        yield from _harms([held for held in tallies if held.world == world and held.harm != CLEAN])
    if coverages:
        yield ""
        yield "## Do 95 % intervals hold?"
        yield ""
        yield from _coverage(coverages)


def _short(tallies: Sequence[Tally], coverages: Sequence[Coverage]) -> Iterator[str]:
    """The answer first: what was promised and kept, and every promise that was not."""
    promised = [held for held in tallies if held.kept != "no promise"]
    clean = [held for held in tallies if held.harm == CLEAN]
    false = Rate(sum(held.fail.count for held in clean), sum(held.fail.of for held in clean))
    yield f"- Clean runs that failed: {_rate(false)} of {false.of} ({false.count})."
    for name in PEERS:
        flagged = [held.peers[name] for held in clean if name in held.peers]
        if flagged:
            peer = Rate(sum(held.count for held in flagged), sum(held.of for held in flagged))
            yield f"- The same clean runs, flagged by {name}: {_rate(peer)}."
    kept = sum(held.kept == "kept" for held in promised)
    yield f"- Promises kept: {kept} of {len(promised)}."
    for held in promised:
        if held.kept != "kept":
            yield (
                f"- Not kept ({held.kept}): {_title(held)}, {held.strength or 'as it is'}, {held.world}: "
                f"{_rate(held.fail)} failed; promised {_PROMISES[held.promise]}."
            )
    low, high = COVERAGE
    short = [held for held in coverages if held.rate.high < low]
    if coverages:
        inside = sum(low <= held.rate.value <= high for held in coverages)
        above = sum(held.rate.value > high for held in coverages)
        yield (
            f"- Coverage of 95 % intervals: {inside} of {len(coverages)} kinds within {low:.0%} to {high:.0%}, {above} above, "
            f"{len(coverages) - inside - above} below, {len(short)} of them beyond chance."
        )


def _clean(tallies: Sequence[Tally]) -> Iterator[str]:
    peers = list(PEERS)
    yield (
        "| world | test users | seeds | fail | insufficient | pass | "
        + " | ".join(peers)
        + " | not settled most often |"
    )
    yield "|---|---:|---:|---:|---:|---:|" + "---:|" * len(peers) + "---|"
    for held in tallies:
        if held.harm == CLEAN:
            said = " | ".join(_rate(held.peers[name]) if name in held.peers else "" for name in peers)
            often = sorted(held.criteria.items(), key=lambda one: (-one[1], one[0]))[:3]
            named = ", ".join(f"{name} {count / held.fail.of:.0%}" for name, count in often)
            yield (
                f"| {held.world} | {held.users} | {held.fail.of} | {_rate(held.fail)} | {_share(held.insufficient)} | "
                f"{_share(held.passed)} | {said} | {named} |"
            )


def _harms(tallies: Sequence[Tally]) -> Iterator[str]:
    peers = [name for name in PEERS if any(name in held.peers for held in tallies)]
    yield "| harm | strength | seeds | fail | insufficient | pass | promised | " + " | ".join(peers) + " |"
    yield "|---|---|---:|---:|---:|---:|---|" + "---:|" * len(peers)
    for held in tallies:
        said = " | ".join(_share(held.peers[name]) if name in held.peers else "" for name in peers)
        yield (
            f"| {_title(held)} | {_strength(held)} | {held.fail.of} | {_rate(held.fail)} | {_share(held.insufficient)} | "
            f"{_share(held.passed)} | {_promise(held)} | {said} |"
        )


def _coverage(coverages: Sequence[Coverage]) -> Iterator[str]:
    yield (
        "Users drawn from the test users of a store of 20 000, measured as a run's are, against the figures of all of them. "
        "*All together*: the intervals of one family, counted as held only if every one of them is. Above 97 %: few users, "
        "where limits are kept wide on purpose ([why](decisions/0010-intervals.md))."
    )
    sizes = sorted({held.users for held in coverages})
    yield ""
    yield "| intervals | " + " | ".join(f"{size} users" for size in sizes) + " |"
    yield "|---|" + "---:|" * len(sizes)
    known = {(held.users, held.kind): held for held in coverages}
    for kind in sorted({held.kind for held in coverages}):
        cells = [known.get((size, kind)) for size in sizes]
        yield f"| {kind} | " + " | ".join(_covered(held) for held in cells) + " |"


def _covered(held: Coverage | None) -> str:
    if held is None:
        return ""
    text = f"{held.rate.value:.1%} of {held.rate.of}"
    return f"**{text}**" if held.rate.high < COVERAGE[0] else text


def _title(held: Tally) -> str:
    return "Clean" if held.harm == CLEAN else BY_NAME[held.harm].title


def _strength(held: Tally) -> str:
    wanted = held.strength
    if held.reached and "margin" in wanted and abs(held.reached - float(wanted.split()[0])) > 0.01:
        return f"{wanted} (there are only {held.reached:.1f})"
    return wanted


def _promise(held: Tally) -> str:
    if not held.adequate and promised(held.harm, held.strength) == "caught":
        return "n too small"
    if held.promise == "told":
        return ""
    return f"{_PROMISES[held.promise]}: {_MARKS[held.kept]}"


def _rate(rate: Rate) -> str:
    return f"{rate.value:.1%} ({rate.low:.1%} to {rate.high:.1%})"


def _share(rate: Rate) -> str:
    return f"{rate.value:.0%}"
