"""How much time to set aside: learned from what work took, never believed for ever."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.serving.pace import Pace


def test_nothing_is_set_aside_for_what_was_never_done() -> None:
    assert Pace().needed("rank") == 0.0


@given(st.floats(1e-6, 10.0))
def test_work_that_always_takes_as_long_needs_that_long(seconds: float) -> None:
    pace = Pace()
    for _ in range(100):
        pace.took("rank", seconds)
    assert pace.needed("rank") == pytest.approx(seconds, rel=1e-6)


def test_of_times_that_scatter_few_take_longer_than_was_set_aside() -> None:
    rng = np.random.default_rng(0)
    for times in (
        0.002 + 0.0003 * rng.standard_normal(5_000),
        0.002 * rng.lognormal(0, 0.4, 5_000),
        rng.exponential(0.002, 5_000),
    ):
        pace, late = Pace(), 0
        for number, seconds in enumerate(times.tolist()):
            late += number >= 100 and seconds > pace.needed("rank")
            pace.took("rank", seconds)
        assert late / 4_900 < 0.08


def test_kinds_of_work_are_kept_apart() -> None:
    pace = Pace()
    pace.took("long", 1.0)
    assert pace.needed("short") == 0.0


def test_one_slow_moment_is_not_believed_for_ever() -> None:
    pace = Pace()
    for _ in range(100):
        pace.took("rank", 0.002)
    pace.took("rank", 30.0)
    given_up = 0
    while pace.needed("rank") > 0.01:
        pace.gave_up("rank")
        given_up += 1
    assert 0 < given_up < 200


def test_giving_up_what_was_never_done_changes_nothing() -> None:
    pace = Pace()
    pace.gave_up("rank")
    assert pace.needed("rank") == 0.0
