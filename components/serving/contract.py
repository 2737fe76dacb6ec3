"""What goes through the serving room: an Ask comes in, an Answer leaves it, an Exposure of each place is logged.

    Ask -> Answerer -> Answer -> HTTP (`bentos.ranker`)
                              -> Exposure, one a place -> log -> the next snapshot's events
                              -> metrics

An answer is never an error: what could not be done as asked is done as well as it can be, and `fallbacks` says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from components.ranker.contract import Explanation
from components.ranker.contract import Place as Place  # noqa: PLC0414 (a part of this contract too)
from components.ranker.stored_users import StoredUser

SCHEMA_VERSION = 1
"""Of `Exposure`, the only thing of this room that is kept."""

UNKNOWN_USER = "unknown_user"
UNKNOWN_ITEMS = "unknown_items"
MISSING_FEATURES = "missing_features"
NOTHING_ELIGIBLE = "nothing_eligible"
NOTHING_RETRIEVED = "nothing_retrieved"
DEADLINE = "deadline"
FAILED = "failed"
UNEXPLAINED = "unexplained"

FALLBACKS: Mapping[str, str] = {
    UNKNOWN_USER: "The user is not known: ranked as a visitor, by what is known of items and of the request.",
    UNKNOWN_ITEMS: "Some candidates are not known: ranked without counts, behind known ones of the same score.",
    MISSING_FEATURES: "A shared store did not give the user: looked up in the tables that the service has itself.",
    NOTHING_ELIGIBLE: "None of the candidates may be shown: the list was retrieved instead.",
    NOTHING_RETRIEVED: "No source named an item that may be shown: what is popular was listed.",
    DEADLINE: "Too little time was left to score: the order of what is popular was used.",
    FAILED: "Scoring failed: the order of what is popular was used.",
    UNEXPLAINED: "The scores could not be explained.",
}
"""Every reason there is, in the order in which an answer names them, and what was done."""
UNSCORED = frozenset({NOTHING_RETRIEVED, DEADLINE, FAILED})
"""Reasons whose lists the model did not order."""

FALLBACK = "fallback"
"""Source of a place that no model ordered; others are `ranker.scoring.GIVEN` and `ranker.candidates.index.SOURCES`."""

STAGES = ("store", "retrieve", "features", "score", "rerank", "explain", "fallback")
"""Every stage whose seconds an answer may tell."""


@dataclass(frozen=True, slots=True)
class Interaction:
    """Something that the user did just now, later than the features know."""

    item_id: str
    event: str
    """By its name in the dataset contract."""
    seconds_ago: float


@dataclass(frozen=True, slots=True)
class Ask:
    """One request for a list."""

    request_id: str
    """Key of the request: the exploration slot draws by it, and the exposure log names it."""
    user_id: str | None
    """None for a visitor."""
    candidates: tuple[str, ...] | None
    """What to order; None retrieves."""
    k: int
    """Most places, at least 1."""
    context: Mapping[str, str] = field(default_factory=dict)
    exclude: frozenset[str] = frozenset()
    """Items that must not be shown for this request."""
    session: tuple[Interaction, ...] = ()
    """In any order. What counts as taken seeds retrieval, and is left out where what was taken is."""
    surface: str = ""
    """Where the list will stand; empty where the caller does not say."""
    deadline: float | None = None
    """Instant of `time.monotonic` by which the answer is wanted."""
    explain: bool = False
    explore: bool = True
    """Whether the exploration slot may draw; callers that gave no key of their own could not join its outcome to the draw."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What a shared store said of a user whom the ranker knows."""

    user: StoredUser | None
    reason: str
    """Why there is none, a key of `shared_store.REASONS`; empty where there is."""
    seconds: float
    """That asking took."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is shown for one ask."""

    request_id: str
    places: tuple[Place, ...]
    """Best first; empty only where nothing in the catalogue may be shown."""
    release: str
    """Digest of the release; `unreleased` for a candidate that is measured."""
    arm: str
    """The rollout's arm that answered; empty outside of one."""
    fallbacks: tuple[str, ...]
    """Keys of `FALLBACKS`, in its order; empty where all went as asked."""
    stages: Mapping[str, float]
    """Seconds by stage, of those that were gone through."""
    explanations: tuple[Explanation, ...] = ()
    """One a place, in their order, where it was asked for and the model scored the list."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """A place as it was shown: one row of the exposure log."""

    at: str
    """ISO 8601, UTC, with microseconds."""
    request_id: str
    user_id: str | None
    surface: str
    context: Mapping[str, str]
    item_id: str
    rank: int
    score: float
    propensity: float
    explored: bool
    source: str
    release: str
    arm: str
    fallbacks: tuple[str, ...]
