"""Category codes of one data set in the words of another.

A category feature is a code: the place of its text among a data set's texts. A new provider or category shifts the codes
after it, so an incumbent that is scored on a newer data set must be asked in its own codes, or it would read `garden` where
it learned `games` and lose an unfair comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.dataset.contract import Feature

Vocabulary = Mapping[str, tuple[str, ...]]
"""Texts by feature, ascending: a text's place is its code."""


def vocabulary_of(
    features: Sequence[Feature], *, users: pa.Table, items: pa.Table, context: Mapping[str, Sequence[str]]
) -> Vocabulary:
    """The texts of every category feature.

    Args:
        features: The declarative list.
        users: Users with their feature attributes.
        items: Items with their attributes.
        context: Known values of each context column, ascending.
    """
    found: dict[str, tuple[str, ...]] = {}
    for feature in features:
        if feature.type != "category":
            continue
        if feature.entity == "request":
            found[feature.name] = tuple(context[feature.attribute])
        else:
            table = users if feature.entity == "user" else items
            found[feature.name] = tuple(pc.unique(table[feature.attribute].drop_null()).sort().to_pylist())
    return found


def recode(
    matrix: NDArray[np.float32], features: Sequence[str], *, found: Vocabulary, needed: Vocabulary
) -> NDArray[np.float32]:
    """The matrix with category codes of `found` turned into those of `needed`; a text that it lacks becomes -1, unknown."""
    changed = matrix
    for place, name in enumerate(features):
        old, new = found.get(name), needed.get(name)
        if old is None or new is None or old == new:
            continue
        if changed is matrix:
            changed = matrix.copy()
        codes = {text: code for code, text in enumerate(new)}
        # The last entry answers -1, which stays unknown.
        table = np.array([*(codes.get(text, -1) for text in old), -1], dtype=np.float32)
        changed[:, place] = table[matrix[:, place].astype(np.int64)]
    return changed
