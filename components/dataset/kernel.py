"""The array kernel that looks back: how much had happened to a key by a bucket, and how much of it within a window.

An event belongs to the bucket after the one it happened in (`own`), and is known from the bucket after the one it arrived in
(`enter` >= own). The feature of bucket b sees events with enter <= b; those of the trailing window of w buckets have
own > b - w as well. Everything is whole numbers, so results are exact whatever else lies in the table.

Events that arrived in the bucket they happened in are kept once, sorted by key and bucket with cumulative sums: a window is
the difference of two binary searches. Late ones are kept apart, and for each window a second time, with what they count added
where they become known and taken off where they leave.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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

    `windows` holds the lengths, in buckets, that late events were prepared for; `late_within` what counts in each.
    """

    origin: int
    stride: int
    """More than the number of buckets from `origin` to the one in which the last event has left the longest window."""
    on_time: Sorted
    late_enter: Sorted
    late_own: Ints
    """For each mark of `late_enter`, the latest `own` so far within its key."""
    late_first: Ints
    """The same, the earliest."""
    windows: Ints
    late_within: tuple[Sorted, ...]

    @classmethod
    def of(cls, keys: Ints, own: Ints, enter: Ints, weights: Ints, *, origin: int, stride: int, windows: Ints) -> Trail:
        """Prepare the trail of events.

        Args:
            keys: Shape (events,), each >= 0.
            own: Bucket from which each counts, shape (events,).
            enter: Bucket from which each is known, shape (events,), >= own.
            weights: What each counts, shape (events,).
            origin: A bucket before all others.
            stride: More than any `enter`, and any `own` with the longest window, less `origin`: later all stays as it is.
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
            _latest_so_far(sorted_keys, sorted_own, **place),
            _earliest_so_far(sorted_keys, sorted_own, **place),
            windows,
            tuple(
                _passing(late_keys, late_own_all, late_enter_all, late_weights, window=window, **place)
                for window in windows.tolist()
            ),
        )

    def counts(self, keys: Ints, buckets: Ints, windows: Sequence[int]) -> dict[int, Ints]:
        """Sum of weights of each key as of each bucket, by window; 0 for unknown keys.

        Args:
            keys: Shape (asked,); -1 where unknown.
            buckets: Shape (asked,).
            windows: Lengths in buckets, each 0 (looks back to the beginning) or one of `self.windows`.
        """
        here, floor = self._places(keys, buckets), self._floor(keys)
        starts = [self._places(keys, buckets - window) if window else floor for window in windows]
        # One search for all windows: for a short list of rows the calls cost more than the searching.
        until, *since = self.on_time.upto(np.concatenate([here, *starts])).reshape(len(windows) + 1, -1)
        found: dict[int, Ints] = {window: until - before for window, before in zip(windows, since, strict=True)}
        both = np.concatenate([here, floor])
        for window in windows if len(self.late_enter.marks) else ():
            held = self.late_within[int(np.searchsorted(self.windows, window))] if window else self.late_enter
            until, before = held.upto(both).reshape(2, -1)
            found[window] += until - before
        return found

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

    def keys(self, first: int, stop: int) -> Ints:
        """Every key from `first` to below `stop` that something happened to, ascending."""
        marks = []
        for held in (self.on_time.marks, self.late_enter.marks):
            begin, end = np.searchsorted(held, [first * self.stride, stop * self.stride])
            marks.append(held[begin:end])
        return np.unique(np.concatenate(marks) // self.stride)

    def arrays(self) -> Iterator[tuple[str, Ints]]:
        """Name and content of each array, for keeping; `from_arrays` takes them back."""
        for name, held in (("on_time", self.on_time), ("late_enter", self.late_enter)):
            yield f"{name}.marks", held.marks
            yield f"{name}.total", held.total
        yield "late_own", self.late_own
        yield "late_first", self.late_first
        for index, held in enumerate(self.late_within):
            yield f"late_within_{index}.marks", held.marks
            yield f"late_within_{index}.total", held.total

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Ints], *, origin: int, stride: int, windows: Ints) -> Trail:
        """The trail that `arrays` came from."""

        def held(name: str) -> Sorted:
            return Sorted(arrays[f"{name}.marks"], arrays[f"{name}.total"])

        within = tuple(held(f"late_within_{index}") for index in range(len(windows)))
        return cls(
            origin,
            stride,
            held("on_time"),
            held("late_enter"),
            arrays["late_own"],
            arrays["late_first"],
            windows,
            within,
        )

    def _floor(self, keys: Ints) -> Ints:
        return keys * self.stride

    def _places(self, keys: Ints, buckets: Ints) -> Ints:
        # Before the origin nothing had happened, and at the stride's end all has left that ever will; then come the marks of
        # another key.
        return self._floor(keys) + np.minimum(np.maximum(buckets - self.origin, 0), self.stride - 1)

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


def _passing(keys: Ints, own: Ints, enter: Ints, weights: Ints, *, window: int, origin: int, stride: int) -> Sorted:
    """Late events of one window: added when they become known, taken off when they leave it."""
    leave = own + window
    counts = leave > enter  # One that arrives after its window has passed never does.
    return Sorted.of(
        np.concatenate([keys[counts], keys[counts]]),
        np.concatenate([enter[counts], leave[counts]]),
        np.concatenate([weights[counts], -weights[counts]]),
        origin=origin,
        stride=stride,
    )


def _latest_so_far(keys: Ints, buckets: Ints, *, origin: int, stride: int) -> Ints:
    """Running maximum of `buckets` within each run of equal keys; keys ascend."""
    # A key's marks lie above all of the one before, so that one maximum over everything starts anew at each key.
    latest: Ints = np.maximum.accumulate(keys * stride + (buckets - origin)) - keys * stride + origin
    return latest


def _earliest_so_far(keys: Ints, buckets: Ints, *, origin: int, stride: int) -> Ints:
    """Running minimum, likewise: the maximum of what is left to the end of the stride."""
    left = np.maximum.accumulate(keys * stride + (stride - 1 - (buckets - origin))) - keys * stride
    earliest: Ints = stride - 1 - left + origin
    return earliest
