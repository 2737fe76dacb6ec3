"""Requests and answers of the ranking service. What a client sends is checked field by field; unknown fields are refused."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

# Longer lists and ids than a page could show are a mistake or an attack.
MOST_CANDIDATES = 1_000
MOST_EXPLAINED = 50
MOST_REQUESTS = 64
MOST_SESSION = 100
MOST_SECONDS_AGO = 7 * 86_400
MOST_PAIRS = 10_000
"""Candidates in all requests of a batch together."""

Identifier = Annotated[str, Field(strict=True, min_length=1, max_length=256)]
Context = Annotated[
    dict[
        Annotated[str, Field(strict=True, min_length=1, max_length=64)],
        Annotated[str, Field(strict=True, max_length=256)],
    ],
    Field(max_length=32),
]


def _whole(value: object) -> object:
    """JSON knows no whole numbers: 20.0 is one too. `true` and `"20"` are none."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Count = Annotated[int, Field(strict=True, ge=1, le=MOST_CANDIDATES), BeforeValidator(_whole)]
Candidates = Annotated[
    list[Identifier],
    Field(
        min_length=1,
        max_length=MOST_CANDIDATES,
        description="Items to order; one that comes twice is ranked once.",
        examples=[["17", "4", "256"]],
    ),
]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SessionEvent(_Message):
    """Something that the user did just now."""

    item_id: Identifier
    event: Annotated[str, Field(strict=True, min_length=1, max_length=64)] = Field(
        description="By its name in the dataset contract. Impressions are taken in and change nothing."
    )
    seconds_ago: Annotated[float, Field(ge=0, le=MOST_SECONDS_AGO, strict=True, allow_inf_nan=False)]


class _Request(_Message):
    user_id: Identifier | None = Field(
        default=None, description="Absent for a visitor who is not known.", examples=["u00042"]
    )
    context: Context = Field(
        default_factory=dict,
        description="Context of the request, by the names that the ranker was trained with.",
    )
    request_id: Annotated[str, Field(strict=True, min_length=1, max_length=128)] | None = Field(
        default=None,
        description="The caller's own key of this request. The exploration slot draws by it, and only where it is given: the "
        "same key draws the same. Without it the service makes one up.",
        examples=["feed-2026-05-10-000017"],
    )
    deadline_ms: Annotated[float, Field(gt=0, le=60_000, strict=True, allow_inf_nan=False)] | None = Field(
        default=None,
        description="Milliseconds from the arrival of the request within which the answer is wanted. Where scoring would take "
        "longer the order of what is popular is used. Stands above the header X-Deadline-Ms; 5000 without either.",
        examples=[50],
    )


class _ListRequest(_Request):
    k: Count = Field(default=20, description="Most places of the list.")
    surface: Annotated[str, Field(strict=True, max_length=64, pattern=r"^[A-Za-z0-9._:-]*$")] = Field(
        default="", description="Where the list will stand, for metrics and the exposure log.", examples=["home"]
    )
    exclude: Annotated[list[Identifier], Field(max_length=MOST_CANDIDATES)] = Field(
        default_factory=list, description="Items that must not be shown this time.", examples=[["4711"]]
    )
    session: Annotated[list[SessionEvent], Field(max_length=MOST_SESSION)] = Field(
        default_factory=list,
        description="What the user did since the features were made, in any order. What they took seeds retrieval, and is "
        "left out where the rules leave out what was taken; scores are by the features as they are.",
    )


class RankRequest(_ListRequest):
    """Order these candidates for this user."""

    candidates: Candidates


class RecommendRequest(_ListRequest):
    """Find candidates for this user, and order them."""


class BatchedRequest(_ListRequest):
    """One request of a batch: as to /rank where it has candidates, as to /recommend where it has none."""

    candidates: Candidates | None = None


class BatchRequest(_Message):
    """Several requests, answered one by one in their order."""

    requests: Annotated[list[BatchedRequest], Field(min_length=1, max_length=MOST_REQUESTS)]

    @model_validator(mode="after")
    def _within_bounds(self) -> BatchRequest:
        pairs = sum(len(request.candidates or ()) for request in self.requests)
        if pairs > MOST_PAIRS:
            raise ValueError(f"at most {MOST_PAIRS} candidates in all requests together (found {pairs})")
        return self


class ExplainRequest(_Request):
    """Say why these candidates have their scores for this user."""

    candidates: Annotated[list[Identifier], Field(min_length=1, max_length=MOST_EXPLAINED, examples=[["17", "4"]])]
    most: Annotated[int, Field(strict=True, ge=1, le=200), BeforeValidator(_whole)] = Field(
        default=10, description="Features to name for each item, those of the largest effect."
    )


class RankedItem(_Message):
    """One place in the list."""

    item_id: str
    score: float = Field(
        description="Only differences within one list mean anything. Where the model did not order the list: minus the item's "
        "place in the order of what is popular."
    )
    rank: int = Field(ge=1, description="From 1.")
    source: Literal["given", "covisitation", "factors", "popularity", "newest", "fallback"] = Field(
        description="Where the item comes from: the request, the first retrieval source that names it, or the fallback."
    )
    propensity: float = Field(
        gt=0,
        le=1,
        description="Chance, given the request, that this item is shown at this rank. Log it with the exposure.",
    )
    explored: bool = Field(description="True for the item that the exploration slot drew.")


class _Answer(_Message):
    request_id: str
    release: str = Field(description="Digest of the release that answered.")
    arm: str = Field(description="Arm of the rollout that answered; empty outside of one.")
    fallback: bool = Field(description="Whether anything was not as asked for; `fallbacks` says what.")
    fallbacks: list[
        Literal[
            "unknown_user", "unknown_items", "missing_features", "nothing_eligible", "nothing_retrieved", "deadline",
            "failed", "unexplained",
        ]
    ]  # fmt: skip


class RankAnswer(_Answer):
    """The list, best first, and the release that made it."""

    items: list[RankedItem]


class BatchAnswer(_Message):
    """One answer for each request, in their order."""

    answers: list[RankAnswer]


class Share(_Message):
    """What one feature's value did to the score."""

    feature: str
    value: str = Field(description="The value in words; `unknown` where there is none.")
    effect: float = Field(description="Shapley value: added to the score, negative where taken off.")
    words: str


class ExplainedItem(_Message):
    """Why an item has its score: base, effects and others add up to it."""

    item_id: str
    score: float
    rank: int = Field(ge=1)
    base: float = Field(description="The score expected before any feature is looked at.")
    contributions: list[Share] = Field(description="The features of the largest effect, that one first.")
    others: float = Field(description="The effects of all other features, summed.")


class ExplainAnswer(_Answer):
    """Why each item has its score, best first; empty with the reason `unexplained` where the model did not score it."""

    items: list[ExplainedItem]


class ReleaseAnswer(_Message):
    """What is being served, for whoever compares it with the ledger."""

    release: str
    run: str
    ranker: str
    approver: str
    decided_at: str
    latest_bucket_start: str = Field(description="Features know events before this moment; ISO 8601, UTC.")
    features: str = Field(
        description="Digest of the published features that are looked up; empty for the release's own."
    )
    features_published_by: str
    features_published_at: str = Field(description="ISO 8601, UTC; empty as `features` is.")
    arm: str


class Refusal(_Message):
    """Why a request was not answered: the field, what was found, what was needed."""

    error: str


class Health(_Message):
    """What a probe reads."""

    status: Literal["live", "ready"]
