"""The messages say of answers what the rooms can give, no more and no less."""

from __future__ import annotations

import json
from typing import get_args, get_type_hints

from pydantic import TypeAdapter

from bentos.ranker.messages import MOST_CANDIDATES, RankAnswer, RankedItem, RankRequest
from bentos.ranker.reading import MOST_BYTES
from components.ranker.candidates.index import SOURCES
from components.ranker.contract import Place
from components.ranker.scoring import GIVEN
from components.serving.contract import FALLBACK, FALLBACKS


def test_reasons_and_sources_are_those_of_the_rooms() -> None:
    (reasons,) = get_args(get_type_hints(RankAnswer)["fallbacks"])
    assert get_args(reasons) == tuple(FALLBACKS)
    assert set(get_args(get_type_hints(RankedItem)["source"])) == {GIVEN, *SOURCES, FALLBACK}


def test_a_place_is_written_as_the_item_of_an_answer() -> None:
    place = Place("a", 0.5, 1, 0.25, explored=True, source=GIVEN)
    written = TypeAdapter(Place).dump_json(place)
    assert RankedItem.model_validate_json(written).model_dump() == TypeAdapter(Place).dump_python(place)
    assert set(RankedItem.model_fields) == set(Place.__dataclass_fields__)


def test_the_longest_request_that_is_allowed_fits_into_a_body() -> None:
    longest = {
        "user_id": "u" * 256,
        "candidates": [f"{place:0256d}" for place in range(MOST_CANDIDATES)],
        "exclude": [f"{place:0256d}" for place in range(MOST_CANDIDATES)],
        "context": {f"{place:064d}": "x" * 256 for place in range(32)},
        "request_id": "r" * 128,
        "surface": "s" * 64,
        "k": MOST_CANDIDATES,
        "deadline_ms": 60_000,
    }
    body = json.dumps(longest).encode()
    RankRequest.model_validate_json(body)
    assert len(body) < MOST_BYTES
