from __future__ import annotations

import numpy as np
import pyarrow as pa

from components.dataset.contract import Feature
from components.ranker.vocabulary import recode, vocabulary_of


def feature(name: str, entity: str, attribute: str, kind: str = "category") -> Feature:
    return Feature(name, entity, "attribute", "", 0.0, kind, "", attribute)


def test_codes_are_places_among_the_known_texts():
    items = pa.table({"item": [0, 1, 2], "category": ["toys", None, "books"], "price": [1.0, 2.0, 3.0]})
    users = pa.table({"user": [0], "plan": ["free"]})
    features = [
        feature("item_category", "item", "category"),
        feature("item_price", "item", "price", "number"),
        feature("user_plan", "user", "plan"),
        feature("context_device", "request", "device"),
    ]
    found = vocabulary_of(features, users=users, items=items, context={"device": ["desktop", "mobile"]})
    assert found == {
        "item_category": ("books", "toys"),
        "user_plan": ("free",),
        "context_device": ("desktop", "mobile"),
    }


def test_a_new_category_does_not_shift_what_an_incumbent_learned():
    matrix = np.array([[0, 0.5], [1, 0.6], [2, 0.7], [-1, np.nan]], dtype=np.float32)
    new, old = {"category": ("books", "games", "garden")}, {"category": ("books", "garden")}
    found = recode(matrix, ["category", "price"], found=new, needed=old)
    assert found[:, 0].tolist() == [0, -1, 1, -1]
    np.testing.assert_array_equal(found[:, 1], matrix[:, 1])
    assert matrix[:, 0].tolist() == [0, 1, 2, -1]


def test_equal_vocabularies_cost_nothing():
    matrix = np.zeros((2, 1), dtype=np.float32)
    assert recode(matrix, ["category"], found={"category": ("a",)}, needed={"category": ("a",)}) is matrix
