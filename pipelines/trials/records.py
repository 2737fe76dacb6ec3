"""What is kept of a trial: one judged run, and how many intervals of one kind held the truth."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.trials.measuring import Answer


@dataclass(frozen=True, slots=True)
class Record:
    """One judged run."""

    code: str
    """Digest of what judged it."""
    world: str
    seed: int
    harm: str
    """`clean` where nothing was planted."""
    strength: str
    answer: Answer
    """Of all blocking criteria."""
    caught: Answer
    """The gravest answer among the harm's targets; of a clean run the same as `answer`."""
    failed: tuple[str, ...]
    """Blocking criteria that failed."""
    unsure: tuple[str, ...]
    """Blocking criteria that could not be settled."""
    peers: dict[str, bool]
    """Whether each peer's defaults flag the run."""
    users: int
    planted: float
    """Share or size that was planted."""
    reached: float
    """Margins that the planted share amounts to, on average over seeds; 0 for a strength that is no margin."""
    adequate: bool
    """Whether n is large enough to promise that this is caught; true where strengths are no margins."""


@dataclass(frozen=True, slots=True)
class Held:
    """How many intervals of one kind hold the truth, in one draw."""

    code: str
    draw: int
    users: int
    kind: str
    """What is estimated, and whether intervals stand alone or hold together."""
    held: int
    asked: int
    """1 for a family: all of its intervals together hold, or not."""
