"""The kernel against a count over the raw events, event by event."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from components.dataset.kernel import Trail

ORIGIN, STRIDE = 99, 49
WINDOWS = (1, 3, 7)

Event = tuple[int, int, int, int]
"""key, own, how late, weight"""

events = st.lists(
    st.tuples(st.integers(0, 3), st.integers(100, 120), st.sampled_from([0, 0, 0, 1, 2, 5, 20]), st.integers(1, 4)),
    max_size=40,
)
asked = st.lists(st.tuples(st.integers(-1, 4), st.integers(95, 160)), min_size=1, max_size=20)


def make(rows: list[Event]) -> Trail:
    keys, own, late, weights = np.array(rows, np.int64).reshape(-1, 4).T
    return Trail.of(keys, own, own + late, weights, origin=ORIGIN, stride=STRIDE, windows=np.array(WINDOWS))


def known(rows: list[Event], key: int, bucket: int) -> list[Event]:
    return [row for row in rows if row[0] == key and row[1] + row[2] <= bucket]


@settings(max_examples=300, deadline=None)
@given(events, asked)
def test_counts_are_those_of_looking_at_every_event(rows: list[Event], pairs: list[tuple[int, int]]) -> None:
    keys, buckets = np.array(pairs, np.int64).T
    found = make(rows).counts(keys, buckets, (0, *WINDOWS))
    for place, (key, bucket) in enumerate(pairs):
        for window in (0, *WINDOWS):
            needed = sum(w for _, own, _, w in known(rows, key, bucket) if not window or own > bucket - window)
            assert found[window][place] == needed, (key, bucket, window)


@settings(max_examples=300, deadline=None)
@given(events, asked)
def test_last_and_first_are_those_of_looking_at_every_event(rows: list[Event], pairs: list[tuple[int, int]]) -> None:
    keys, buckets = np.array(pairs, np.int64).T
    trail = make(rows)
    last, first = trail.last(keys, buckets), trail.first(keys, buckets)
    for place, (key, bucket) in enumerate(pairs):
        times = [own for _, own, _, _ in known(rows, key, bucket)]
        assert last[place] == max(times) if times else math.isnan(last[place])
        assert first[place] == min(times) if times else math.isnan(first[place])


@settings(max_examples=50, deadline=None)
@given(events)
def test_a_trail_survives_its_arrays(rows: list[Event]) -> None:
    trail = make(rows)
    again = Trail.from_arrays(dict(trail.arrays()), origin=ORIGIN, stride=STRIDE, windows=trail.windows)
    keys, buckets = np.repeat(np.arange(-1, 5), 45), np.tile(np.arange(98, 143), 6)
    for window, counts in trail.counts(keys, buckets, (0, *WINDOWS)).items():
        assert (again.counts(keys, buckets, (window,))[window] == counts).all()
    np.testing.assert_array_equal(again.last(keys, buckets), trail.last(keys, buckets))
    np.testing.assert_array_equal(again.first(keys, buckets), trail.first(keys, buckets))


def test_an_event_counts_from_the_bucket_after_its_own_and_not_in_the_last_instant_of_its_window() -> None:
    # own = 105: it happened in bucket 104. A window of 3 buckets before 108 is 105, 106, 107.
    trail = make([(0, 105, 0, 1)])
    found = trail.counts(np.zeros(4, np.int64), np.array([104, 105, 107, 108]), (3,))[3]
    assert found.tolist() == [0, 1, 1, 0]


def test_an_event_that_arrives_after_its_window_has_passed_counts_for_ever_only() -> None:
    trail = make([(0, 105, 20, 1)])
    buckets = np.array([124, 125, 126])
    found = trail.counts(np.zeros(3, np.int64), buckets, (0, 7))
    assert found[0].tolist() == [0, 1, 1]
    assert found[7].tolist() == [0, 0, 0]


def test_a_late_event_that_leaves_last_of_all_does_not_touch_the_next_key() -> None:
    trail = Trail.of(
        np.array([0, 1]), np.array([120, 121]), np.array([140, 121]), np.ones(2, np.int64),
        origin=ORIGIN, stride=140 - ORIGIN + 30 + 1, windows=np.array([7, 30]),
    )  # fmt: skip
    found = trail.counts(np.array([0, 0, 1, 1]), np.array([149, 150, 150, 151]), (30,))
    assert found[30].tolist() == [1, 0, 1, 0]
