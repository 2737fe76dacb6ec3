"""From records to rates with intervals, and whether each promise was kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.stats import beta

from pipelines.trials.harms import BY_NAME, CLEAN, Promise
from pipelines.trials.peers import PEERS
from pipelines.trials.records import Held, Record

Kept = Literal["kept", "within chance", "broken", "no promise"]

MOST_FALSE = 0.01
"""Clean runs, and runs without harm, that may fail."""
MOST_BELOW = 0.05
"""Runs with a harm of at most the margin that may fail: what the policy's level leaves."""
LEAST_CAUGHT = 0.99
COVERAGE = (0.93, 0.97)
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of runs, with its Clopper-Pearson interval of 95 %."""

    count: int
    of: int

    @property
    def value(self) -> float:
        return self.count / self.of

    @property
    def low(self) -> float:
        return 0.0 if self.count == 0 else float(beta.ppf(0.025, self.count, self.of - self.count + 1))

    @property
    def high(self) -> float:
        return 1.0 if self.count == self.of else float(beta.ppf(0.975, self.count + 1, self.of - self.count))


@dataclass(frozen=True, slots=True)
class Tally:
    """All runs of one harm at one strength in one world."""

    world: str
    harm: str
    strength: str
    users: int
    """Median test users."""
    fail: Rate
    insufficient: Rate
    passed: Rate
    peers: dict[str, Rate]
    promise: Promise
    kept: Kept
    reached: float
    adequate: bool
    criteria: dict[str, int]
    """How often each criterion failed (of a clean run) or was not settled."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """Intervals of one kind at one size."""

    users: int
    kind: str
    rate: Rate
    together: bool


def tallies(records: Sequence[Record]) -> list[Tally]:
    """One a world, harm and strength: clean first, then in the order of the harms."""
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        groups.setdefault((record.world, record.harm, record.strength), []).append(record)
    order = {CLEAN: -1} | {name: place for place, name in enumerate(BY_NAME)}
    strengths = {
        (name, strength.label): place for name, harm in BY_NAME.items() for place, strength in enumerate(harm.strengths)
    }
    keys = sorted(groups, key=lambda key: (order[key[1]], strengths.get((key[1], key[2]), 0), key[0]))
    return [_tally(*key, groups[key]) for key in keys]


def coverages(found: Sequence[Held]) -> list[Coverage]:
    """One a size and kind."""
    total: Counter[tuple[int, str]] = Counter()
    asked: Counter[tuple[int, str]] = Counter()
    for one in found:
        total[one.users, one.kind] += one.held
        asked[one.users, one.kind] += one.asked
    return [
        Coverage(users, kind, Rate(total[users, kind], asked[users, kind]), kind.endswith("all together"))
        for users, kind in sorted(asked)
    ]


def promised(harm: str, strength: str) -> Promise:
    """What is promised of a harm at a strength."""
    if harm == CLEAN:
        return "never"
    return next(held.promise for held in BY_NAME[harm].strengths if held.label == strength)


def _tally(world: str, harm: str, strength: str, records: list[Record]) -> Tally:
    answers = Counter(record.caught for record in records)
    n = len(records)
    fail = Rate(answers["fail"], n)
    adequate = all(record.adequate for record in records)
    promise = promised(harm, strength)
    reached = records[0].reached
    if promise == "caught" and not adequate:
        promise = "told"
    users = sorted(record.users for record in records)
    names = [name for name in PEERS if name in records[0].peers]
    return Tally(
        world=world,
        harm=harm,
        strength=strength,
        users=users[n // 2],
        fail=fail,
        insufficient=Rate(answers["insufficient"], n),
        passed=Rate(answers["pass"], n),
        peers={name: Rate(sum(record.peers[name] for record in records), n) for name in names},
        promise=promise,
        kept=_kept(promise, fail),
        reached=reached,
        adequate=adequate,
        criteria=dict(sorted(Counter(name for record in records for name in (*record.failed, *record.unsure)).items())),
    )


def _kept(promise: Promise, fail: Rate) -> Kept:
    if promise == "told":
        return "no promise"
    if promise == "caught":
        holds, possible = fail.value >= LEAST_CAUGHT, fail.high >= LEAST_CAUGHT
    else:
        most = MOST_FALSE if promise == "never" else MOST_BELOW
        holds, possible = fail.value <= most, fail.low <= most
    if holds:
        return "kept"
    return "within chance" if possible else "broken"
