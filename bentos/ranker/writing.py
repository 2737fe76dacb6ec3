"""From an answer to the bytes of its message."""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter

from components.ranker.explaining import sentence
from components.serving.contract import Answer, Place

_PLACES = TypeAdapter(tuple[Place, ...])


def list_bytes(answer: Answer) -> bytes:
    """A `RankAnswer` as JSON: written field by field, a model of each place would cost five times as much."""
    return b'{"request_id":%b,"items":%b,%b}' % (
        json_bytes(answer.request_id),
        _PLACES.dump_json(answer.places),
        _provenance(answer),
    )


def _provenance(answer: Answer) -> bytes:
    fallbacks = json_bytes(list(answer.fallbacks)) if answer.fallbacks else b"[]"
    return b'"release":%b,"arm":%b,"fallback":%b,"fallbacks":%b' % (
        json_bytes(answer.release),
        json_bytes(answer.arm),
        b"true" if answer.fallbacks else b"false",
        fallbacks,
    )


def reasons_bytes(answer: Answer, most: int) -> bytes:
    """An `ExplainAnswer` as JSON, of each item the features of the `most` largest effects."""
    items = [
        {
            "item_id": one.item_id,
            "score": one.score,
            "rank": rank,
            "base": one.base,
            "contributions": [
                {"feature": share.feature, "value": share.value, "effect": share.effect, "words": sentence(share)}
                for share in one.contributions[:most]
            ],
            "others": sum(share.effect for share in one.contributions[most:]),
        }
        for rank, one in enumerate(answer.explanations, start=1)
    ]
    return b'{"request_id":%b,"items":%b,%b}' % (json_bytes(answer.request_id), json_bytes(items), _provenance(answer))


def json_bytes(value: Any) -> bytes:
    """Plain JSON of a value."""
    return json.dumps(value).encode()
