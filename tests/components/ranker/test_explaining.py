"""Why an item has its score: shares that add up to it, in words."""

from __future__ import annotations

import math

import numpy as np
import pytest

from components.dataset.contract import Feature
from components.errors import EvidenceError, InputError
from components.ranker.explaining import explain_rows, features_of, sentence, value_in_words
from components.ranker.scoring import LoadedRanker

BOUGHT = Feature(
    "item_buys_7d", "item", "count", "buy", 7.0, "number", "How many buy events the item had in the last 7 days."
)
COLOUR = Feature(
    "item_colour", "item", "attribute", "", 0.0, "category", "The item's colour, as the team's table has it.", "colour"
)
WORDS = {"item_colour": ("blue", "red")}


def explained(shares: list[float], score: float, values: tuple[float, float] = (12.0, 1.0)):
    return explain_rows(
        ["a"],
        np.array([values], dtype=np.float32),
        np.array([score], dtype=np.float32),
        np.array([shares], dtype=np.float32),
        features=(BOUGHT, COLOUR),
        vocabulary=WORDS,
    )[0]


def test_the_largest_effect_comes_first_and_reads_as_a_sentence() -> None:
    found = explained([0.25, -0.5, 1.0], 0.75)
    assert [(one.feature, one.value, one.effect) for one in found.contributions] == [
        ("item_colour", "red", -0.5),
        ("item_buys_7d", "12", 0.25),
    ]
    assert found.base == 1.0
    assert sentence(found.contributions[1]) == "How many buy events the item had in the last 7 days: 12 (+0.25)"


def test_a_feature_without_effect_is_left_out_and_equal_ones_keep_the_lists_order() -> None:
    assert [one.feature for one in explained([0.0, 0.5, 0.25], 0.75).contributions] == ["item_colour"]
    assert [one.feature for one in explained([0.5, -0.5, 0.0], 0.0).contributions] == ["item_buys_7d", "item_colour"]


@pytest.mark.parametrize("score", [0.7502, math.nan])
def test_shares_that_do_not_add_up_are_no_explanation(score: float) -> None:
    with pytest.raises(EvidenceError, match=r"item a: shares add up to 0\.75"):
        explained([0.25, -0.5, 1.0], score)


def test_what_is_missing_is_called_unknown() -> None:
    assert value_in_words(BOUGHT, math.nan, WORDS) == "unknown"
    assert value_in_words(COLOUR, -1.0, WORDS) == "unknown"
    assert value_in_words(COLOUR, 7.0, WORDS) == "unknown"
    assert value_in_words(COLOUR, 0.0, {}) == "unknown"
    assert value_in_words(BOUGHT, 1_234.567, WORDS) == "1235"


def test_features_are_named_in_the_order_of_the_models_columns() -> None:
    assert features_of(["item_colour", "item_buys_7d"], [BOUGHT, COLOUR]) == (COLOUR, BOUGHT)


@pytest.fixture(scope="module")
def shop(logged) -> LoadedRanker:
    return LoadedRanker.open(logged.ranker)


def test_shares_of_a_trained_model_add_up_to_the_very_scores_it_ranks_with(shop: LoadedRanker) -> None:
    items = [*shop.item_ids[:40], "nobody knows it"]
    for user in (None, "nobody", *shop.user_ids[:5]):
        scores = dict(shop.rank(user, items, k=100, context={"device": "mobile"}))
        for one in shop.explain(user, items, context={"device": "mobile"}):
            assert one.score == scores[one.item_id]
            total = one.base + math.fsum(share.effect for share in one.contributions)
            assert total == pytest.approx(one.score, abs=1e-5)


def test_shares_are_those_that_xgboost_gives_for_the_same_rows(shop: LoadedRanker) -> None:
    import xgboost

    items = shop.item_ids[:10]
    numbers = np.arange(10, dtype=np.int32)
    matrix = shop._inputs(3, numbers, {}, bucket=int(shop._tables.latest_bucket))
    shares = shop._booster._model.predict(xgboost.DMatrix(matrix), pred_contribs=True)
    for row, one in zip(shares, shop.explain(shop.user_ids[3], items), strict=True):
        told = {share.feature: share.effect for share in one.contributions}
        assert [told.get(name, 0.0) for name in shop.manifest.features] == row[:-1].tolist()


def test_categories_are_told_in_their_own_words(shop: LoadedRanker) -> None:
    words = {share.value for one in shop.explain(None, shop.item_ids[:40]) for share in one.contributions}
    texts = {text for texts in shop._vocabulary.values() for text in texts}
    assert words & texts


def test_a_context_that_nobody_knows_is_refused(shop: LoadedRanker) -> None:
    with pytest.raises(InputError, match="context: found devise"):
        shop.explain(None, shop.item_ids[:1], context={"devise": "mobile"})
