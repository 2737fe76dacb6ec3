"""Do intervals hold what they say? Drawn users of one large store, measured again and again, against all of its users.

A population is a store so large that its own figures are taken for the truth. From its test users a few are drawn, their
rankings are measured as a run's are, and every interval is asked whether it holds the population's figure. Drawn users are
a small share of all, so that drawing without replacement is as good as drawing from an endless store.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.evidence.contract import Estimate, Evidence, Question
from pipelines.trials.measuring import measure
from pipelines.trials.planting.copies import copied
from pipelines.trials.records import Held
from pipelines.trials.worlds import Parts, World, parts_of, shop

POPULATION: World = shop(4)
"""About 7 500 test users."""
DRAWN = (100, 400)
"""Test users of a draw."""
QUESTIONS: tuple[Question, ...] = ("quality", "fairness-users", "fairness-providers", "calibration")

_TABLES = ("requests.parquet", "rankings.parquet", "features.parquet")

Key = tuple[str, str, str, str, str, str]


def truth(base: Path, *, out: Path, seed: int) -> dict[Key, float]:
    """The population's figure for every estimate that has one; evidence is written into the empty folder `out`."""
    found = measure(parts_of(base), QUESTIONS, out=out, seed=seed)
    return {_key(question, held): held.value for question, held in _all(found) if held.value is not None}


def draw(base: Path, *, users: int, seed: int, folder: Path) -> Parts:
    """The run with `users` of its test users; validation requests stay whole.

    `folder` is an empty folder on the base's disk.
    """
    parts = parts_of(base)
    requests = pq.read_table(parts.rankings / "requests.parquet")
    test = pc.equal(requests["split"].cast(pa.string()), "test").to_numpy(zero_copy_only=False)
    owner = requests["user"].to_numpy()
    chosen = np.random.default_rng([seed, users]).choice(np.unique(owner[test]), size=users, replace=False)
    kept = ~test | np.isin(owner, chosen)
    numbers = requests["request"].to_numpy()[kept]
    drawn = copied(parts, folder, "rankings", without=_TABLES)
    for name in _TABLES:
        table = pq.read_table(parts.rankings / name)
        pq.write_table(table.filter(pa.array(np.isin(table["request"].to_numpy(), numbers))), drawn.rankings / name)
    return drawn


def held_in(
    drawn: Mapping[Question, Evidence], known: Mapping[Key, float], *, code: str, number: int, users: int
) -> list[Held]:
    """Which intervals of a draw hold the truth, kind by kind.

    Groups that only the draw has (all small groups as one) and figures that only the draw lacks are not asked.
    """
    alone: defaultdict[str, list[bool]] = defaultdict(list)
    together: defaultdict[str, list[bool]] = defaultdict(list)
    for question, held in _all(drawn):
        wanted = known.get(_key(question, held))
        if wanted is None or held.low is None or held.high is None or held.method == "exact":
            continue
        holds = held.low <= wanted <= held.high
        if held.family:
            together[f"{question}: {_family(held)}, all together"].append(holds)
        else:
            alone[_kind(question, held)].append(holds)
    return [
        *(Held(code, number, users, kind, sum(found), len(found)) for kind, found in sorted(alone.items())),
        *(Held(code, number, users, kind, int(all(found)), 1) for kind, found in sorted(together.items())),
    ]


def _all(found: Mapping[Question, Evidence]) -> Iterable[tuple[Question, Estimate]]:
    return ((question, held) for question, evidence in found.items() for held in evidence.estimates)


def _key(question: Question, held: Estimate) -> Key:
    segment = json.dumps(held.segment, sort_keys=True)
    return (question, held.metric, held.statistic, held.subject, held.versus, segment)


def _family(held: Estimate) -> str:
    """The family's name, with the statistic where it does not say it."""
    return held.family if held.statistic in held.family else f"{held.family}, {held.statistic}"


def _kind(question: Question, held: Estimate) -> str:
    metric = held.metric.split("@")[0]
    by = ", by group" if held.segment else ""
    return f"{question}: {metric}, {held.statistic}{by}"
