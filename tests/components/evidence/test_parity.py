"""Kernels of parity: cells to the bit, lists to the place, against cases by hand and a plain Python reading of the rule."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.evidence.parity import TOLERANCE, ListParity, compare_lists, differing

CANDIDATES = np.array([7, 3, 9, 5], dtype=np.int32)
SCORES = np.array([0.4, 0.9, 0.4 + TOLERANCE / 2, 0.1], dtype=np.float64)
"""Items 7 and 9 have one score; 3 stands above, 5 below."""
SHOWN = np.array([1, 2, 0, 3])
"""3, 9, 7, 5."""
OF = dict(zip(CANDIDATES.tolist(), SCORES.tolist(), strict=True))


def compared(items: list[int], scores: list[float] | None = None, *, shown: np.ndarray = SHOWN) -> ListParity:
    served = np.array([OF.get(item, 0.0) for item in items] if scores is None else scores, dtype=np.float64)
    return compare_lists(CANDIDATES, SCORES, shown, np.array(items, dtype=np.int32), served)


def test_cells_differ_to_the_bit_and_two_gaps_are_equal() -> None:
    trained = np.array([[1.0, np.nan], [2.0, 3.0], [0.0, 1.0]], dtype=np.float32)
    served = np.array(
        [[1.0, np.nan], [np.nextafter(np.float32(2), np.float32(3)), 3.0], [0.0, np.nan]], dtype=np.float32
    )
    assert differing(trained, served).tolist() == [1, 1]


def test_the_expected_list_is_the_same() -> None:
    assert compared([3, 9, 7, 5]) == ListParity(0.0, same=True, swapped=False)


def test_items_of_one_score_may_stand_either_way_and_it_is_told() -> None:
    assert compared([3, 7, 9, 5]) == ListParity(0.0, same=True, swapped=True)


@pytest.mark.parametrize(
    "items",
    [
        pytest.param([9, 3, 7, 5], id="two that differ in score swapped"),
        pytest.param([3, 9, 7], id="the last one missing"),
        pytest.param([9, 7, 5], id="the first one missing"),
        pytest.param([3, 9, 7, 5, 5], id="one twice"),
        pytest.param([3, 9, 9, 5], id="one in place of another of its score"),
        pytest.param([3, 9, 7, 5, 8], id="one that nobody asked about"),
        pytest.param([3, 9, 7, -1], id="one that nobody knows"),
        pytest.param([], id="nothing"),
    ],
)
def test_any_other_list_is_not_the_same(items: list[int]) -> None:
    found = compared(items)
    assert not found.same
    assert not found.swapped


def test_an_item_that_the_rules_hide_must_not_be_shown() -> None:
    hidden = SHOWN[:3]
    assert compared([3, 9, 7], shown=hidden).same
    assert not compared([3, 9, 7, 5], shown=hidden).same


def test_one_score_is_a_millionth_apart_and_no_more() -> None:
    items, shown, order = np.array([1, 2], np.int32), np.array([0, 1]), np.array([2, 1], np.int32)
    for apart, same in ((TOLERANCE, True), (math.nextafter(TOLERANCE, 1), False)):
        scores = np.array([apart, 0.0])
        assert compare_lists(items, scores, shown, order, scores[::-1]).same is same


def test_the_largest_difference_of_a_score_is_told_whatever_the_order() -> None:
    assert compared([5, 3, 9, 7], [0.1, 0.9, 0.65, 0.4]).difference == pytest.approx(0.25, abs=1e-6)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_differs_infinitely(score: float) -> None:
    assert compared([3, 9, 7, 5], [score, 0.4, 0.4, 0.1]).difference == math.inf


def test_two_empty_lists_are_the_same_and_nothing_beside_something_is_not() -> None:
    nothing, none = np.empty(0, np.int32), np.empty(0)
    empty = compare_lists(nothing, none, np.empty(0, np.int64), nothing, none)
    assert empty.same
    assert math.isnan(empty.difference)
    extra = compare_lists(nothing, none, np.empty(0, np.int64), np.array([4], np.int32), np.array([0.5]))
    assert not extra.same
    assert math.isnan(extra.difference)


@dataclass(frozen=True)
class Case:
    known: dict[int, float]
    expected: list[int]
    served: list[tuple[int, float]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Few items and few scores, so that ties, swaps, repeats and strangers are common."""
    items = draw(st.lists(st.integers(0, 6), unique=True, max_size=6))
    score = st.sampled_from([0.0, 4e-7, 1e-6, 1.4e-6, 0.5])
    known = {item: float(np.float32(draw(score))) for item in items}
    expected = draw(st.permutations(items))[: draw(st.integers(0, len(items)))]
    served = draw(
        st.one_of(
            st.just(expected),
            st.permutations(expected),
            st.lists(st.integers(-1, 7), max_size=6),
        )
    )
    scores = [draw(st.sampled_from([known.get(item, 0.0), 0.25, math.nan])) for item in served]
    return Case(known, list(expected), list(zip(served, scores, strict=True)))


@settings(max_examples=400, deadline=None)
@given(cases())
def test_lists_are_compared_as_a_plain_reading_of_the_rule_does(case: Case) -> None:
    differences = [abs(score - case.known[item]) for item, score in case.served if item in case.known]
    largest = max((math.inf if math.isnan(one) else one for one in differences), default=math.nan)
    listed = [item for item, _ in case.served]
    same = sorted(listed) == sorted(case.expected) and all(
        abs(case.known[served] - case.known[expected]) <= TOLERANCE
        for served, expected in zip(listed, case.expected, strict=True)
    )

    items = list(case.known)
    found = compare_lists(
        np.array(items, dtype=np.int32),
        np.array([case.known[item] for item in items], dtype=np.float32),
        np.array([items.index(item) for item in case.expected], dtype=np.int64),
        np.array(listed, dtype=np.int32),
        np.array([score for _, score in case.served], dtype=np.float64),
    )

    assert found.difference == largest or (math.isnan(found.difference) and math.isnan(largest))
    assert found.same is same
    assert found.swapped is (same and listed != case.expected)
