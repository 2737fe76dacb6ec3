"""Reasons that an answer may give are told in words, and none is told twice."""

from __future__ import annotations

from components.ranker.candidates.index import SOURCES
from components.ranker.scoring import GIVEN
from components.serving import contract
from components.serving.contract import FALLBACKS, STAGES, UNSCORED


def test_each_reason_has_a_sentence_of_its_own() -> None:
    named = {
        value
        for name, value in vars(contract).items()
        if name.isupper() and isinstance(value, str) and value in FALLBACKS
    }
    assert named == set(FALLBACKS)
    assert len(set(FALLBACKS.values())) == len(FALLBACKS)
    assert all(words.endswith(".") for words in FALLBACKS.values())


def test_what_the_model_did_not_order_is_a_reason_too() -> None:
    assert set(FALLBACKS) > UNSCORED


def test_sources_and_stages_are_names_of_one_meaning() -> None:
    places = [GIVEN, contract.FALLBACK, *SOURCES]
    assert len(set(places)) == len(places)
    assert len(set(STAGES)) == len(STAGES)
