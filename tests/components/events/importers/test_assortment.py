from __future__ import annotations

import pytest

from components.events.importers.assortment import CATEGORIES, OTHER, category_of


@pytest.mark.parametrize(
    ("description", "category"),
    [
        ("WHITE HANGING HEART T-LIGHT HOLDER", "candle holder"),
        ("JUMBO BAG RED RETROSPOT", "bag"),
        ("SET OF 6 SPICE TINS PANTRY DESIGN", "tin"),
        ("PACK OF 72 RETROSPOT CAKE CASES", "paper"),
        ("CHRISTMAS CANDLE", "christmas"),
        ("Manual", OTHER),
        ("", OTHER),
    ],
)
def test_the_last_known_noun_names_the_category_unless_an_occasion_does(description: str, category: str) -> None:
    assert category_of(description) == category


def test_case_and_plural_do_not_matter() -> None:
    assert category_of("wicker baskets") == category_of("WICKER BASKET") == "basket"
    assert category_of("GIFT BOXES") == "box"


def test_every_category_is_listed_once() -> None:
    assert len(set(CATEGORIES)) == len(CATEGORIES)
    assert OTHER in CATEGORIES
