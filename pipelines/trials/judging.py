"""One seed's base, judged as it is and with harms planted in it."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from components.evidence.contract import Evidence, Question
from components.verdict.policy import Policy
from pipelines.trials.harms import CLEAN, Harm, Planting, Strength
from pipelines.trials.measuring import MEASURES, Answer, judged, measure
from pipelines.trials.peers import PEERS
from pipelines.trials.planting.rankings import dealt
from pipelines.trials.records import Record
from pipelines.trials.scaling import Ends, reach
from pipelines.trials.worlds import Parts, World, parts_of

_OF_LISTS: tuple[Question, ...] = ("quality", "fairness-users", "fairness-providers")
"""Questions that compare the lists of names; the others are about the candidate's own features and scores."""
_GRAVEST: tuple[Answer, ...] = ("fail", "insufficient", "pass")


def honest_lists(world: World, base: Path, *, seed: int, folder: Path) -> Parts:
    """The parts of an honest run as its lists are judged: dealt, where the world deals; `folder` is on the base's disk."""
    parts = parts_of(base)
    if not world.deals:
        return parts
    place = folder / "dealt"
    place.mkdir()
    return dealt(parts, place, rng=np.random.default_rng([seed, 5]))


class Judging:
    """A base, and the evidence of its honest run, which every harm starts from."""

    def __init__(self, code: str, world: World, seed: int, base: Path, policy: Policy, folder: Path) -> None:
        """Measures the honest run.

        Args:
            code: Digest of what judges.
            world: The base's world.
            seed: The base's seed.
            base: Its folder.
            policy: What judges it.
            folder: An empty folder on the base's disk.
        """
        self._code, self._world, self._seed, self._base = code, world, seed, base
        self._policy, self._folder = policy, folder
        self._parts = parts_of(base)
        self._lists = lists = honest_lists(world, base, seed=seed, folder=folder)
        self._evidence, self._flags = self._measured(tuple(MEASURES), self._parts, tuple(PEERS))
        if world.deals:
            of_lists, flags = self._measured(_OF_LISTS, lists, tuple(PEERS))
            self._evidence, self._flags = {**self._evidence, **of_lists}, flags

    def clean(self) -> Record:
        """The honest run's record."""
        return self._record(CLEAN, "", 0.0, 0.0, self._evidence, (), self._flags, adequate=True)

    def planted(self, harm: Harm, strength: Strength, ends: Ends | None) -> Record:
        """The record of a harm; `ends` where its strengths are margins."""
        found = reach(harm, self._world, self._policy, ends, margins=strength.value) if ends else None
        size = found.share if found else strength.value
        rng = np.random.default_rng([self._seed, zlib.crc32(f"{harm.name}/{strength.label}".encode())])
        parts = self._lists if set(harm.questions) & set(_OF_LISTS) else self._parts
        with _scratch(self._folder) as out:
            run = harm.plant(Planting(self._base, parts, out, size, rng, self._seed))
            changed, flags = self._measured(harm.questions, run, harm.peers)
        targets = harm.targets[self._world.name]
        evidence = {**self._evidence, **changed}
        adequate = found.adequate if found else self._users >= strength.from_users
        reached = found.margins if found else 0.0
        return self._record(harm.name, strength.label, reached, size, evidence, targets, flags, adequate=adequate)

    @property
    def _users(self) -> int:
        return max(held.n_users for held in self._evidence["quality"].estimates)

    def _measured(
        self, questions: Sequence[Question], run: Parts, peers: Sequence[str]
    ) -> tuple[dict[Question, Evidence], dict[str, bool]]:
        with _scratch(self._folder) as out:
            evidence = measure(run, questions, out=out, seed=self._seed)
            return evidence, {name: PEERS[name](run, out) for name in peers}

    def _record(
        self,
        harm: str,
        strength: str,
        reached: float,
        size: float,
        evidence: Mapping[Question, Evidence],
        targets: Sequence[str],
        peers: Mapping[str, bool],
        *,
        adequate: bool,
    ) -> Record:
        said = judged(self._policy, evidence)
        gravest = min((said.answers[name] for name in targets), key=_GRAVEST.index, default=said.answer)
        return Record(
            code=self._code,
            world=self._world.label,
            seed=self._seed,
            harm=harm,
            strength=strength,
            answer=said.answer,
            caught=gravest,
            failed=tuple(sorted(name for name in said.stopping if said.answers[name] == "fail")),
            unsure=tuple(sorted(name for name in said.stopping if said.answers[name] != "fail")),
            peers=dict(sorted(peers.items())),
            users=self._users,
            planted=round(size, 6),
            reached=round(reached, 6),
            adequate=adequate,
        )


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """An empty folder on the same disk, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="trial-", dir=folder) as place:
        yield Path(place)
