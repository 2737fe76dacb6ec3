"""The array kernel that looks back: how much had happened to a key by a bucket, and how much of it within a window.

An event belongs to the bucket after the one it happened in (`own`), and is known from the bucket after the one it arrived in
(`enter` >= own). The feature of bucket b sees events with enter <= b; those of the trailing window of w buckets have
own > b - w as well. Everything is whole numbers, so results are exact whatever else lies in the table.

Events that arrived in the bucket they happened in are kept once, sorted by key and bucket with cumulative sums: a window is
the difference of two binary searches. Late ones, few, are kept apart with the bucket at which they leave each window.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sorted:
    """Marks on keys, ascending by key and bucket; `total[i]` sums the first i marks, shape (marks + 1,)."""

    marks: Ints
    """key * stride + (bucket - origin), shape (marks,), ascending."""
    total: Ints

    @classmethod
    def of(cls, keys: Ints, buckets: Ints, weights: Ints, *, origin: int, stride: int) -> Sorted:
        """Sort marks and sum them up."""
        marks = keys * stride + (buckets - origin)
        order = np.argsort(marks, kind="stable")
        total = np.zeros(len(marks) + 1, dtype=np.int64)
        np.cumsum(weights[order], out=total[1:])
        return cls(marks[order], total)

    def upto(self, places: Ints) -> Ints:
        """Sum of the marks at or before each place, over all keys: only differences within a key mean anything."""
        found: Ints = self.total[np.searchsorted(self.marks, places, side="right")]
        return found


@dataclass(frozen=True, slots=True)
class Trail:
    """What happened to each key, and when it was known.

    `windows` holds the lengths, in buckets, that late events were prepared for; `late_leave` their leaving, in that order.
    """

    origin: int
    stride: int
    """More than the number of buckets from `origin` to any that will be asked for."""
    on_time: Sorted
    late_enter: Sorted
    late_own: Ints
    """For each mark of `late_enter`, the latest `own` so far within its key."""
    late_first: Ints
    """The same, the earliest."""
    windows: Ints
    late_leave: tuple[Sorted, ...]

    @classmethod
    def of(cls, keys: Ints, own: Ints, enter: Ints, weights: Ints, *, origin: int, stride: int, windows: Ints) -> Trail:
        """Prepare the trail of events.

        Args:
            keys: Shape (events,), each >= 0.
            own: Bucket from which each counts, shape (events,).
            enter: Bucket from which each is known, shape (events,), >= own.
            weights: What each counts, shape (events,).
            origin: A bucket before all others.
            stride: More than any bucket that will be asked for, less `origin`.
            windows: Lengths of the trailing windows, in buckets.
        """
        late = enter > own
        place = {"origin": origin, "stride": stride}
        late_keys, late_own_all, late_enter_all, late_weights = keys[late], own[late], enter[late], weights[late]
        order = np.argsort(late_keys * stride + (late_enter_all - origin), kind="stable")
        sorted_keys, sorted_own = late_keys[order], late_own_all[order]
        return cls(
            origin,
            stride,
            Sorted.of(keys[~late], own[~late], weights[~late], **place),
            Sorted.of(late_keys, late_enter_all, late_weights, **place),
            _running(sorted_keys, sorted_own, np.maximum),
            _running(sorted_keys, sorted_own, np.minimum),
            windows,
            tuple(
                # One that arrives after its window has passed leaves as it enters: it never counts.
                _within(late_keys, np.maximum(late_enter_all, late_own_all + window), late_weights, **place)
                for window in windows.tolist()
            ),
        )

    def count(self, keys: Ints, buckets: Ints, *, window: int) -> Ints:
        """Sum of weights of each key as of each bucket; `window` 0 looks back to the beginning. 0 for unknown keys."""
        here = self._places(keys, buckets)
        start = self._places(keys, np.full_like(buckets, self.origin))
        entered = self.late_enter.upto(here) - self.late_enter.upto(start)
        if not window:
            ever: Ints = self.on_time.upto(here) - self.on_time.upto(start) + entered
            return ever
        back = self._places(keys, buckets - window)
        leaving = self.late_leave[int(np.searchsorted(self.windows, window))]
        left = leaving.upto(here) - leaving.upto(start)
        counted: Ints = self.on_time.upto(here) - self.on_time.upto(back) + entered - left
        return counted

    def last(self, keys: Ints, buckets: Ints) -> Floats:
        """Latest `own` bucket of what is known of each key as of each bucket; NaN where nothing is."""
        on_time = self._neighbour(self.on_time.marks, keys, buckets)
        late = self._late(self.late_own, keys, buckets)
        return np.fmax(on_time, late)

    def first(self, keys: Ints, buckets: Ints) -> Floats:
        """Earliest `own` bucket of what is known of each key as of each bucket; NaN where nothing is."""
        marks = self.on_time.marks
        if not len(marks):
            return self._late(self.late_first, keys, buckets)
        place = np.minimum(np.searchsorted(marks, self._floor(keys), side="left"), len(marks) - 1)
        found = marks[place]
        own = found - keys * self.stride + self.origin
        known = (found // self.stride == keys) & (own <= buckets)
        return np.fmin(np.where(known, own.astype(np.float64), np.nan), self._late(self.late_first, keys, buckets))

    def arrays(self) -> Iterator[tuple[str, Ints]]:
        """Name and content of each array, for keeping; `from_arrays` takes them back."""
        for name, held in (("on_time", self.on_time), ("late_enter", self.late_enter)):
            yield f"{name}.marks", held.marks
            yield f"{name}.total", held.total
        yield "late_own", self.late_own
        yield "late_first", self.late_first
        for index, held in enumerate(self.late_leave):
            yield f"late_leave_{index}.marks", held.marks
            yield f"late_leave_{index}.total", held.total

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Ints], *, origin: int, stride: int, windows: Ints) -> Trail:
        """The trail that `arrays` came from."""

        def held(name: str) -> Sorted:
            return Sorted(arrays[f"{name}.marks"], arrays[f"{name}.total"])

        leave = tuple(held(f"late_leave_{index}") for index in range(len(windows)))
        return cls(
            origin,
            stride,
            held("on_time"),
            held("late_enter"),
            arrays["late_own"],
            arrays["late_first"],
            windows,
            leave,
        )

    def _floor(self, keys: Ints) -> Ints:
        return keys * self.stride

    def _places(self, keys: Ints, buckets: Ints) -> Ints:
        # Before the origin nothing happened, and beyond the stride another key's marks begin.
        return self._floor(keys) + np.clip(buckets - self.origin, 0, self.stride - 1)

    def _neighbour(self, marks: Ints, keys: Ints, buckets: Ints) -> Floats:
        if not len(marks):
            return np.full(len(keys), np.nan)
        place = np.searchsorted(marks, self._places(keys, buckets), side="right") - 1
        found = marks[np.maximum(place, 0)]
        known = (place >= 0) & (found >= self._floor(keys)) & (keys >= 0)
        return np.where(known, (found - self._floor(keys) + self.origin).astype(np.float64), np.nan)

    def _late(self, values: Ints, keys: Ints, buckets: Ints) -> Floats:
        marks = self.late_enter.marks
        if not len(marks):
            return np.full(len(keys), np.nan)
        place = np.searchsorted(marks, self._places(keys, buckets), side="right") - 1
        inside = np.maximum(place, 0)
        known = (place >= 0) & (marks[inside] >= self._floor(keys)) & (keys >= 0)
        return np.where(known, values[inside].astype(np.float64), np.nan)


def _within(keys: Ints, buckets: Ints, weights: Ints, *, origin: int, stride: int) -> Sorted:
    """As `Sorted.of`, without what lies beyond the stride: nobody asks there, and another key's marks begin."""
    inside = buckets - origin < stride
    return Sorted.of(keys[inside], buckets[inside], weights[inside], origin=origin, stride=stride)


def _running(keys: Ints, values: Ints, pick: np.ufunc) -> Ints:
    """Running maximum or minimum of `values` within each run of equal keys."""
    result = values.astype(np.int64).copy()
    starts = np.flatnonzero(np.diff(keys, prepend=keys[0] - 1)) if len(keys) else np.empty(0, np.int64)
    for begin, end in zip(starts.tolist(), [*starts[1:].tolist(), len(keys)], strict=True) if len(keys) else ():
        result[begin:end] = pick.accumulate(values[begin:end])
    return result
