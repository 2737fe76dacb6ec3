"""Why an item has its score: each feature's share of it, in words.

Shares are Shapley values as XGBoost computes them for its trees (`pred_contribs`): what the model expects before it looks at
anything, plus one figure a feature, add up to the score. They say what the model did with the values that it was given. They
do not say what would happen if the value were another, nor that the feature is the cause of anything.

Source: Lundberg, Erion and Lee (2018), "Consistent individualized feature attribution for tree ensembles" (1802.03888).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from components.dataset.contract import Feature
from components.errors import EvidenceError
from components.ranker.contract import Contribution, Explanation
from components.ranker.vocabulary import Vocabulary

UNKNOWN = "unknown"
ADDS_UP = 1e-5
"""Largest difference between a score and what its shares add up to, for each unit of the largest share: they are 32-bit sums."""


def explain_rows(
    item_ids: Sequence[str],
    matrix: NDArray[np.float32],
    scores: NDArray[np.float32],
    contributions: NDArray[np.float32],
    *,
    features: Sequence[Feature],
    vocabulary: Vocabulary,
) -> tuple[Explanation, ...]:
    """Shares of scores, in words.

    Args:
        item_ids: Item of each row.
        matrix: What the model was given, shape (rows, features).
        scores: What it made of it, shape (rows,).
        contributions: Shape (rows, features + 1), the expectation last.
        features: The model's, in the order of its columns.
        vocabulary: Texts of category codes, by feature.

    Raises:
        EvidenceError: If shares do not add up to a score.
    """
    explained = []
    for item_id, values, score, shares in zip(item_ids, matrix, scores.tolist(), contributions.tolist(), strict=True):
        total = math.fsum(shares)
        if not abs(total - score) <= ADDS_UP * max(1.0, *map(abs, shares)):
            raise EvidenceError(
                f"explanation of item {item_id}: shares add up to {total:.6f}; needed its score {score:.6f}."
            )
        order = sorted((place for place, share in enumerate(shares[:-1]) if share), key=lambda p: (-abs(shares[p]), p))
        explained.append(
            Explanation(
                item_id=item_id,
                score=score,
                base=shares[-1],
                contributions=tuple(
                    Contribution(
                        feature=features[place].name,
                        value=value_in_words(features[place], float(values[place]), vocabulary),
                        meaning=features[place].meaning,
                        effect=shares[place],
                    )
                    for place in order
                ),
            )
        )
    return tuple(explained)


def value_in_words(feature: Feature, value: float, vocabulary: Vocabulary) -> str:
    """A feature's value as a person reads it: a category's text, a number with four figures, or `unknown`."""
    if feature.type == "category":
        texts = vocabulary.get(feature.name, ())
        return texts[int(value)] if 0 <= value < len(texts) else UNKNOWN
    return UNKNOWN if math.isnan(value) else f"{value:.4g}"


def sentence(contribution: Contribution) -> str:
    """One share as a sentence, such as `How many purchase events the item had in the last 7 days: 12 (+0.41)`."""
    return f"{contribution.meaning.rstrip('.')}: {contribution.value} ({contribution.effect:+.2f})"


def features_of(names: Sequence[str], declared: Sequence[Feature]) -> tuple[Feature, ...]:
    """The entries of the declarative list that a model was trained on, in the order of its columns."""
    known: Mapping[str, Feature] = {feature.name: feature for feature in declared}
    return tuple(known[name] for name in names)
