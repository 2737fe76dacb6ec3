"""Co-visitation against the formula on dense arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.dataset import covisitation
from components.dataset.covisitation import cosine_neighbours, taken_matrix


def by_formula(taken: np.ndarray, top: int) -> list[dict[int, float]]:
    """The nearest items of each item, by comparing each with each."""
    found = []
    for item in range(taken.shape[1]):
        near = {}
        for other in range(taken.shape[1]):
            both = (taken[:, item] * taken[:, other]).sum()
            if other != item and both:
                near[other] = both / np.sqrt(taken[:, item].sum()) / np.sqrt(taken[:, other].sum())
        nearest = sorted(near, key=lambda other: (-near[other], other))[:top]
        found.append({other: near[other] for other in nearest})
    return found


takings = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6)), max_size=30)


@pytest.mark.parametrize("cells", [0, 10**9], ids=["sparse blocks", "dense blocks"])
@settings(max_examples=60, deadline=None)
@given(pairs=takings, top=st.integers(1, 8), entries=st.sampled_from([1, 5, 1 << 22]))
def test_neighbours_are_the_nearest_by_cosine_and_by_item_among_equals(
    cells: int, pairs: list[tuple[int, int]], top: int, entries: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(covisitation, "_DENSE_CELLS", cells)
        patch.setattr(covisitation, "_BLOCK_ENTRIES", entries)
        users, items = np.array(pairs, np.int32).reshape(-1, 2).T
        taken = taken_matrix(users, items, n_users=6, n_items=7)
        near = cosine_neighbours(taken, top=top)
    found = [
        dict(zip(near.items[low:high].tolist(), near.similarity[low:high].tolist(), strict=True))
        for low, high in zip(near.starts[:-1].tolist(), near.starts[1:].tolist(), strict=True)
    ]
    assert found == by_formula(taken.toarray(), top)
    assert all(
        (np.diff(near.items[low:high]) > 0).all() for low, high in zip(near.starts[:-1], near.starts[1:], strict=True)
    )


@settings(max_examples=60, deadline=None)
@given(pairs=takings)
def test_turned_neighbours_hold_the_same_pairs(pairs: list[tuple[int, int]]) -> None:
    users, items = np.array(pairs, np.int32).reshape(-1, 2).T
    near = cosine_neighbours(taken_matrix(users, items, n_users=6, n_items=7), top=3)
    np.testing.assert_array_equal(near.turned().matrix().toarray(), near.matrix().toarray().T)
