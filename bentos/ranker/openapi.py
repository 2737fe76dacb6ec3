"""The service's OpenAPI document: exactly the routes that there are, with the very models that check and answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from bentos.ranker.messages import (
    BatchAnswer,
    BatchRequest,
    ExplainAnswer,
    ExplainRequest,
    Health,
    RankAnswer,
    RankRequest,
    RecommendRequest,
    Refusal,
    ReleaseAnswer,
    SessionEvent,
)

_REFERENCES = "#/components/schemas/{model}"

_PLACE: dict[str, Any] = {
    "item_id": "4", "score": 0.83, "rank": 1, "source": "given", "propensity": 1.0, "explored": False,
}  # fmt: skip
_ANSWERED: dict[str, Any] = {"release": "9f2c" * 16, "arm": "stable", "fallback": False, "fallbacks": []}
_LIST: dict[str, Any] = {
    "request_id": "feed-17",
    "items": [_PLACE, {**_PLACE, "item_id": "17", "score": 0.41, "rank": 2}],
    **_ANSWERED,
}
_RANK: dict[str, Any] = {
    "user_id": "u00042", "candidates": ["17", "4", "256"], "k": 2, "surface": "home", "exclude": ["256"],
    "request_id": "feed-17", "deadline_ms": 50,
}  # fmt: skip
_RECOMMEND: dict[str, Any] = {"user_id": "u00042", "k": 2, "surface": "home", "request_id": "feed-17"}
_WHY: dict[str, Any] = {
    "feature": "item_purchase_7d",
    "value": "12",
    "effect": 0.41,
    "words": "How many purchase events the item had in the last 7 days: 12 (+0.41)",
}
_EXPLAINED: dict[str, Any] = {
    "request_id": "why-17",
    "items": [
        {"item_id": "4", "score": 0.83, "rank": 1, "base": 0.5, "contributions": [_WHY], "others": -0.08},
    ],
    **_ANSWERED,
}
_RELEASED: dict[str, Any] = {
    "release": "9f2c" * 16, "run": "demo-shop-7b2ea25314", "ranker": "51ab" * 16, "approver": "rita@example.org",
    "decided_at": "2026-05-10T09:00:00+00:00", "latest_bucket_start": "2026-05-10T00:00:00+00:00", "arm": "stable",
    "features": "d0b3" * 16, "features_published_by": "feed-job", "features_published_at": "2026-05-10T00:05:12.000123+00:00",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Lists:
    """A route that answers with lists."""

    name: str
    summary: str
    asked: type[BaseModel]
    answered: type[BaseModel]
    request: dict[str, Any]
    answer: dict[str, Any]


_LISTS = (
    _Lists("rank", "Order given candidates.", RankRequest, RankAnswer, _RANK, _LIST),
    _Lists("recommend", "Find candidates, and order them.", RecommendRequest, RankAnswer, _RECOMMEND, _LIST),
    _Lists("batch", "Several requests in one call; a wrong one is named by its place.", BatchRequest, BatchAnswer,
     {"requests": [_RANK, _RECOMMEND]}, {"answers": [_LIST, _LIST]}),
    _Lists("explain", "Say why given candidates have their scores.", ExplainRequest, ExplainAnswer,
     {"user_id": "u00042", "candidates": ["17", "4"], "most": 1, "request_id": "why-17"}, _EXPLAINED),
)  # fmt: skip
_REFUSALS = {
    "400": "The body or a field of it is wrong; the error says what was found and needed.",
    "408": "The body did not come in time.",
    "413": "The body is longer than is read.",
    "415": "The body says that it is something else than JSON.",
    "503": "Not ready, or about to end: another replica answers.",
}
_DEADLINE: dict[str, Any] = {
    "name": "X-Deadline-Ms",
    "in": "header",
    "required": False,
    "description": "As `deadline_ms`, for gateways; the field stands above it.",
    "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": 60_000},
}


def document(context: Sequence[str], events: Sequence[str] = ()) -> dict[str, Any]:
    """The OpenAPI 3.1 document.

    Args:
        context: Names that a request's context may have: of the one ranker that answers.
        events: Names that a session's events may have; any without them.
    """
    models = {model for lists in _LISTS for model in (lists.asked, lists.answered)}
    models |= {ReleaseAnswer, Refusal, Health}
    ordered = sorted(models, key=lambda model: model.__name__)
    _, definitions = models_json_schema([(model, "validation") for model in ordered], ref_template=_REFERENCES)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "rankgate ranking service",
            "version": "1",
            "description": "Ordered lists by the ranker of one approved release. Each refusal says the field, what was found and "
            "what was needed.",
        },
        "paths": {
            **{f"/{lists.name}": {"post": _operation(lists)} for lists in _LISTS},
            "/release": {
                method: _read(f"release{suffix}", "What is being served.", ReleaseAnswer, _RELEASED, ("503",))
                for method, suffix in (("get", ""), ("post", "_by_post"))
            },
            "/livez": {"get": _read("livez", "Whether the process runs.", Health, {"status": "live"}, ())},
            "/readyz": {
                "get": _read(
                    "readyz", "Whether the ranker is open, checked and warm.", Health, {"status": "ready"}, ("503",)
                )
            },
            "/metrics": {
                "get": {
                    "operationId": "metrics",
                    "summary": "Prometheus metrics.",
                    "responses": {
                        "200": {"description": "Metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}}
                    },
                }
            },
            "/openapi.json": {
                "get": {
                    "operationId": "openapi",
                    "summary": "This document.",
                    "responses": {
                        "200": {
                            "description": "OpenAPI 3.1.",
                            "content": {"application/json": {"schema": {"type": "object"}}},
                        }
                    },
                }
            },
        },
        "components": {
            "schemas": {
                name: _with_events(one, events) if name == SessionEvent.__name__ else _with_context(one, context)
                for name, one in definitions["$defs"].items()
            }
        },
    }


def _with_events(schema: dict[str, Any], events: Sequence[str]) -> dict[str, Any]:
    """The schema of a session's event, which knows what events there are."""
    if not events:
        return schema
    event = {"type": "string", "enum": sorted(events), "description": schema["properties"]["event"]["description"]}
    return {**schema, "properties": {**schema["properties"], "event": event}}


def _with_context(schema: dict[str, Any], context: Sequence[str]) -> dict[str, Any]:
    """A model's schema that knows which names its context may have."""
    declared = schema.get("properties", {}).get("context")
    if declared is None:
        return schema
    values = declared["additionalProperties"]
    known = {
        "type": "object",
        "properties": dict.fromkeys(context, values),
        "additionalProperties": False,
        "description": declared["description"],
        "title": declared["title"],
    }
    return {**schema, "properties": {**schema["properties"], "context": known}}


def _operation(lists: _Lists) -> dict[str, Any]:
    answered = {"description": "Answered.", "content": _content(lists.answered, lists.answer)}
    return {
        "operationId": lists.name,
        "summary": lists.summary,
        "parameters": [_DEADLINE],
        "requestBody": {"required": True, "content": _content(lists.asked, lists.request)},
        "responses": {"200": answered, **_refused(_REFUSALS)},
    }


def _read(name: str, summary: str, answered: type[BaseModel], answer: dict[str, Any], refusals: tuple[str, ...]) -> Any:
    return {
        "operationId": name,
        "summary": summary,
        "responses": {"200": {"description": "Answered.", "content": _content(answered, answer)}, **_refused(refusals)},
    }


def _refused(codes: Any) -> dict[str, Any]:
    schema = {"$ref": _REFERENCES.format(model="Refusal")}
    return {
        code: {"description": _REFUSALS[code], "content": {"application/json": {"schema": schema}}} for code in codes
    }


def _content(model: type[BaseModel], example: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REFERENCES.format(model=model.__name__)}, "example": example}}
