"""What leaves the ranker room: a Ranker (what a release serves) and Rankings (what evidence reads).

A ranker is a directory, complete in itself: it serves and re-ranks with nothing else.

    ranker.json          this module's `Ranker`
    model.ubj            XGBoost's own format; never pickled
    calibration.json     monotone map from score to the probability of a positive outcome, fitted on validation
    candidates/          retrieval indexes as of the release cut (plain .npy / Arrow files)
    tables/              the dataset's bucket tables
    users.parquet        user, user_id and `feature` attributes only: no segment, no sensitive attribute
    items.parquet        as in the dataset

Rankings are a directory:

    rankings.json        this module's `Rankings`
    rankings.parquet     system: string, request: int32, rank: int32 (1-based, dense), item: int32, score: float32,
                         gain: float32, positive: bool. Ordered by system, request, rank; at most `depth` ranks a
                         request (`logged`: every shown item). Test requests for every system; validation requests for
                         the candidate only.
    requests.parquet     request: int32, request_id, user: int32, split, ts, n_candidates: int32, n_relevant: int32,
                         ideal_gains: list<float32> (the `depth` largest gains, descending)
    features.parquet     the candidate's inputs, for drift: split (validation = reference, test = current), request,
                         user, item: int32, day: date32, score, gain: float32, positive: bool, then one float32 column
                         a feature
    catalogue.parquet    item: int32, eligible: bool (at the test cut), popularity: float64 (users who took it before
                         the cut)

A batch is a directory, resumable while it grows:

    plan.json            this module's `BatchPlan`, written first: what every file beside it belongs to
    users-00000.parquet  user_id: string, rank: int32 (1-based, dense), item_id: string, score: float32; ascending by user_id
                         and rank; one file for each `block_users` users
    users-00000.json     this module's `BatchFile`, written after the file it promises
    visitor.parquet      the same columns for whoever is not known; user_id is null
    visitor.json         its `BatchFile`
    batch.json           this module's `Batch`, written last

Order within a request: score descending, then popularity descending, then item id ascending: a total order, the one that
is served, so ties need no averaging.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SCHEMA_VERSION = 1

CANDIDATE = "candidate"
INCUMBENT = "incumbent"
BASELINES = ("random", "popularity", "item-knn")


@dataclass(frozen=True, slots=True)
class Importance:
    """Share of the model's total gain that goes through one feature, in [0, 1]."""

    feature: str
    gain_share: float


@dataclass(frozen=True, slots=True)
class AttributeRule:
    """What an item's attribute must be among (`require`), or must not be (`exclude`)."""

    attribute: str
    values: tuple[str | float | None, ...]
    """Text for categories, numbers for numbers; None is an item that does not say."""
    request: str = ""
    """Context of the request whose value counts among `values`; empty where they are fixed."""
    request_unknown: Literal["skip", "refuse"] = "skip"
    """Where the request does not say: the rule does not apply to it, or `values` alone must hold."""


@dataclass(frozen=True, slots=True)
class Diversity:
    """Maximal marginal relevance within the window: strength x likeness to what stands above is taken off relevance."""

    strength: float
    """Between 0 (the scores' order) and 1 (relevance counts for nothing)."""
    pool: int
    """First items of a list that may be moved up; their scores, from 0 to 1, are relevance."""
    category: float
    """Shares of likeness, adding up to 1: the same category, the same provider, a near price."""
    provider: float
    price: float


@dataclass(frozen=True, slots=True)
class Exploration:
    """With `probability` a request's list shows, at one of `ranks`, one of the `pool` items that follow its window."""

    probability: float
    ranks: tuple[int, ...]
    pool: int
    seed: int


@dataclass(frozen=True, slots=True)
class RerankRules:
    """What is done to a scored list before it is shown, the same offline and online (docs/serving.md)."""

    max_per_category: int
    """0 = no cap. Counted within the first `window` ranks."""
    max_per_provider: int
    window: int
    exclude_seen: bool
    blocked_items: tuple[str, ...] = ()
    """Ids that are never shown, whether the catalogue knows them or not."""
    exclude: tuple[AttributeRule, ...] = ()
    require: tuple[AttributeRule, ...] = ()
    diversity: Diversity | None = None
    exploration: Exploration | None = None
    """Evaluation looks at the list without it."""
    declared: str = ""
    """sha256 of the rerank.yaml they come from; empty where the policy has none."""


@dataclass(frozen=True, slots=True)
class Ranker:
    schema_version: int
    dataset: str
    """Digest of the dataset it was trained on."""
    name: str
    mode: Literal["logged", "sampled"]
    objective: str
    parameters: dict[str, str | int | float | bool]
    features: tuple[str, ...]
    trees: int
    """Trees kept by early stopping; scoring uses no others."""
    validation_metric: str
    """Such as `ndcg@10`; `ndcg@10 among retrieved` where the ideal list is that of the retrieved candidates only."""
    validation_curve: tuple[float, ...]
    """The metric after each round, of validation requests that hold a positive and a negative."""
    importance: tuple[Importance, ...]
    position_bias: tuple[float, ...]
    """Estimated click propensity by position relative to the first; empty where positions are not logged."""
    candidate_sources: dict[str, int]
    """Quota of each retrieval source."""
    rerank: RerankRules
    seed: int
    threads: int
    training_rows: int
    training_requests: int
    files: dict[str, str]
    """sha256 of each file of the ranker, by relative path."""


@dataclass(frozen=True, slots=True)
class System:
    """One ranking that was produced on the test requests."""

    name: str
    kind: Literal["candidate", "incumbent", "baseline"]
    digest: str
    """Tree digest of the ranker; empty for baselines."""
    description: str


@dataclass(frozen=True, slots=True)
class Rankings:
    schema_version: int
    dataset: str
    ranker: str
    mode: Literal["logged", "sampled"]
    systems: tuple[System, ...]
    depth: int
    cutoffs: tuple[int, ...]
    test_requests: int
    test_users: int
    catalogue: int
    """Items eligible at the test cut."""


@dataclass(frozen=True, slots=True)
class Place:
    """One place of a list as it is shown."""

    item_id: str
    score: float
    """Of the model; where it did not order the list, minus the item's place in the order of what is popular."""
    rank: int
    """1-based."""
    propensity: float
    """Chance, given the request, that this item is shown at this rank; 1 where nothing is explored."""
    explored: bool
    """True for the item that the exploration slot drew."""
    source: str
    """`given`, the first retrieval source that names the item, or `fallback`."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one feature's value did to one score: its Shapley value, in the units of the score."""

    feature: str
    value: str
    """The feature's value in words; `unknown` where it is missing."""
    meaning: str
    effect: float
    """Added to the score, negative where taken off."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an item has its score: `base` and all effects add up to it."""

    item_id: str
    score: float
    base: float
    """The score that is expected before any feature is looked at."""
    contributions: tuple[Contribution, ...]
    """Largest effect first; features without any effect are left out."""


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """What a batch was asked to be; a folder is only ever filled for one plan."""

    schema_version: int
    ranker: str
    """Tree digest of the ranker."""
    release: str
    """Digest of the approved release it was checked against; empty where it was not."""
    as_of: str
    """Features know events before this moment, ISO 8601, UTC."""
    k: int
    """Most items a user."""
    users: int
    block_users: int


@dataclass(frozen=True, slots=True)
class BatchFile:
    """A finished file of a batch."""

    schema_version: int
    sha256: str
    users: int
    rows: int
    pairs: int
    """(user, candidate) pairs that were scored for it."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A whole batch."""

    schema_version: int
    plan: BatchPlan
    rows: int
    pairs: int
    files: dict[str, str]
    """sha256 of each table, by name."""
