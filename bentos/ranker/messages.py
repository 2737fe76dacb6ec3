"""Requests and answers of the ranking service. What a client sends is checked field by field; unknown fields are refused."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# Longer lists and ids than a page could show are a mistake or an attack.
_MOST_CANDIDATES = 1_000
Identifier = Annotated[str, Field(min_length=1, max_length=256, coerce_numbers_to_str=True)]
Context = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=256)]], Field(max_length=32)
]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RankRequest(_Message):
    """Rank these candidates for this user."""

    user_id: Identifier | None = Field(
        default=None, description="Absent for a visitor who is not known.", examples=["u00042"]
    )
    candidates: Annotated[
        list[Identifier], Field(min_length=1, max_length=_MOST_CANDIDATES, examples=[["17", "4", "256"]])
    ]
    k: Annotated[int, Field(ge=1, le=_MOST_CANDIDATES)] = 20
    context: Context = Field(default_factory=dict, description="Context of the request, such as device.")


class RecommendRequest(_Message):
    """Find candidates for this user, and rank them."""

    user_id: Identifier | None = Field(
        default=None, description="Absent for a visitor who is not known.", examples=["u00042"]
    )
    k: Annotated[int, Field(ge=1, le=_MOST_CANDIDATES)] = 20
    context: Context = Field(default_factory=dict, description="Context of the request, such as device.")


class RankedItem(_Message):
    """One place in the list."""

    item_id: str
    score: float
    rank: int
    """1-based."""


class RankAnswer(_Message):
    """The list, best first, and the release that made it."""

    items: list[RankedItem]
    release: str


class ReleaseAnswer(_Message):
    """What is being served, for whoever compares it with the ledger."""

    release: str
    run: str
    ranker: str
    approver: str
    decided_at: str
    latest_bucket_start: str
    """Features know events before this moment; ISO 8601, UTC."""
