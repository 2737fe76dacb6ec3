"""Places of marks, ticks, curves and stretches: what is drawn is where the figures say."""

from __future__ import annotations

import itertools
import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.card.pictures.plots import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, curve, reliability
from components.card.pictures.timeline import timeline
from components.card.pictures.tracks import Mark, ticks, tracks
from components.card.words import figure, typeset

FIGURES = st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-6)


def mark(value: float | None, low: float | None = None, high: float | None = None) -> Mark:
    return Mark("x", value, low, high, "")


@given(st.lists(FIGURES, min_size=1, max_size=8), st.one_of(st.none(), FIGURES))
def test_places_keep_the_order_of_figures_and_stay_on_the_track(values: list[float], reference: float | None) -> None:
    drawn = tracks([mark(value) for value in values], reference=reference)
    places = [placed.at for placed in drawn.marks]
    assert all(place is not None and 0 <= place <= 100 for place in places)
    for value, place in zip(values, places, strict=True):
        for other, at in zip(values, places, strict=True):
            assert value > other or place <= at
    assert all(0 <= tick.at <= 100 for tick in drawn.ticks)


@given(FIGURES, st.floats(1e-3, 1e6))
def test_ticks_are_few_and_say_where_they_stand(low: float, spread: float) -> None:
    high = low + spread
    held = ticks(low, high)
    assert len(held) <= 6
    for tick in held:
        value = float(tick.label.replace("\N{MINUS SIGN}", "-"))
        assert low + tick.at / 100 * spread == pytest.approx(value, abs=spread * 0.02)


def test_the_band_of_harm_reaches_from_its_bound_to_the_end_of_the_track() -> None:
    below = tracks([mark(0.0, -0.1, 0.1)], reference=0.0, band=(-math.inf, -0.05), signed=True)
    above = tracks([mark(0.0, -0.1, 0.1)], band=(0.05, math.inf))
    assert below.band is not None
    assert above.band is not None
    assert below.band[0] == 0
    # The track runs from -0.112 to 0.112.
    assert below.band[1] == pytest.approx((0.112 - 0.05) / 0.224 * 100, abs=0.02)
    assert sum(above.band) == pytest.approx(100, abs=0.02)


def test_what_has_no_figure_has_no_place() -> None:
    drawn = tracks([mark(None), mark(math.nan), mark(1.0)])
    assert [placed.at is None for placed in drawn.marks] == [True, True, False]
    assert tracks([]).marks == ()
    assert tracks([mark(None)], reference=0.0).marks[0].at is None


def test_bars_of_shares_begin_at_zero_at_the_left_edge() -> None:
    drawn = tracks([mark(0.5), mark(0.1)], reference=0.0)
    assert drawn.reference == 0
    assert drawn.marks[0].at == pytest.approx(100 / 1.06, abs=0.01)


def test_a_perfect_map_lies_on_the_diagonal() -> None:
    drawn = reliability([(0.1, 0.1, 0.05, 0.2), (0.4, 0.4, None, None)])
    assert drawn is not None
    assert drawn.diagonal is not None
    x1, y1, x2, y2 = drawn.diagonal
    for point in drawn.points:
        assert (point.x - x1) / (x2 - x1) == pytest.approx((point.y - y1) / (y2 - y1), abs=1e-3)
    assert drawn.points[0].y_high is not None
    assert drawn.points[0].y_high < drawn.points[0].y
    assert drawn.points[1].y_low is None
    assert reliability([]) is None


@given(st.lists(st.floats(0, 1), min_size=2, max_size=40), st.integers(0, 40))
def test_a_curve_stays_inside_its_axes_and_marks_what_was_chosen(values: list[float], chosen: int) -> None:
    drawn = curve(values, chosen=chosen, x_label="trees", y_label="NDCG")
    assert drawn is not None
    assert all(LEFT <= point.x <= WIDTH - RIGHT and TOP <= point.y <= HEIGHT - BOTTOM for point in drawn.points)
    assert drawn.mark == (drawn.points[chosen - 1] if 0 < chosen <= len(values) else None)
    if chosen and chosen <= len(values):
        assert str(chosen) in [tick.label for tick in drawn.x_ticks]
    assert drawn.path.count("L") == len(values) - 1


def test_one_tree_is_no_curve() -> None:
    assert curve([0.5], chosen=1, x_label="trees", y_label="NDCG") is None


def test_a_timeline_is_true_to_scale() -> None:
    first = datetime(2026, 3, 1, tzinfo=UTC)
    days = [first + timedelta(days=day) for day in (0, 60, 80, 100)]
    names = ("train", "validation", "test")
    parts = [(name, *ends, "") for name, ends in zip(names, itertools.pairwise(days), strict=True)]
    drawn = timeline(parts, [("train-1", first + timedelta(days=30)), ("outside", first - timedelta(days=1))])
    assert drawn is not None
    assert [(part.left, part.width) for part in drawn.parts] == [(0, 60), (60, 20), (80, 20)]
    assert drawn.moments == ((30.0, "train-1"),)
    assert timeline([("train", first, first, "")]) is None
    assert timeline([]) is None


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "—"), (math.nan, "—"), (-0.0001, "0.000"), (0.0, "0.000"), (-0.5, "−0.500"), (0.5, "+0.500")],
)
def test_figures_have_true_signs_and_no_zero_has_one(value: float | None, said: str) -> None:
    assert figure(value, signed=True) == said


def test_sentences_are_set_like_figures_and_names_stay_as_they_are() -> None:
    assert typeset("1,234,567 rows: -0.5..-0.1, age_band 35-49 on 2026-03-01, a,1 and x-ray") == (
        "1\N{NARROW NO-BREAK SPACE}234\N{NARROW NO-BREAK SPACE}567 rows: −0.5 to −0.1, age_band 35-49 on 2026-03-01, "
        "a,1 and x-ray"
    )
