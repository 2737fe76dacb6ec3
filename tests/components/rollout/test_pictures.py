"""A canary as a picture: every panel there is, nothing beyond its panel, the end in words."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from components.rollout.contract import Action, Answer, Budget, GuardrailResult, StepVerdict
from components.rollout.pictures import timeline

NAMES = {"errors": "Requests are <answered>", "clicks@country=LU": "Clicks in LU"}


def _result(guardrail: str, segment: str, value: float | None, width: float | None, answer: Answer) -> GuardrailResult:
    low, high = (None, None) if value is None or width is None else (value - width, value + width)
    return GuardrailResult(
        guardrail,
        segment,
        answer,
        value,
        low,
        high,
        0.005,
        10,
        "requests",
        0.99,
        0.95,
        "method",
        None,
        "message",
    )


def _verdicts(count: int) -> list[StepVerdict]:
    found = []
    for place in range(count):
        known = place > 2
        results = (
            _result("errors", "", 0.001 * place, 0.1 / (place + 1) if known else None, "insufficient"),
            _result("clicks", "country=LU", None, None, "insufficient"),
        )
        action: Action = "roll_back" if place + 1 == count else "hold"
        step = int(place > count / 2)
        budget = Budget(0.01, {}, {})
        found.append(
            StepVerdict(
                1, "default@1.0.0", 60.0 * place, step, 0.05, action, "Errors <rose>.", (), None, results, budget
            )
        )
    return found


def _drawn(verdicts: list[StepVerdict]) -> ElementTree.Element:
    return ElementTree.fromstring(timeline(verdicts, title="A & B", names=NAMES))


def _texts(svg: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in svg.iter() if element.tag.endswith("text")]


def test_a_picture_is_well_formed_and_says_how_it_ended() -> None:
    texts = _texts(_drawn(_verdicts(40)))
    assert "A & B" in texts
    assert "rolled back: Errors <rose>." in texts
    assert "Requests are <answered>" in texts
    assert "nothing was read" in texts
    assert "not settled" in texts
    assert texts.count("5 %") == 2


def test_nothing_is_drawn_beyond_the_panels() -> None:
    svg = _drawn(_verdicts(40))
    for element in svg.iter():
        for pair in element.get("points", "").split():
            x, y = map(float, pair.split(","))
            assert 250 <= x <= 770
            assert 92 <= y <= 166


def test_many_verdicts_are_thinned_and_the_last_one_stays() -> None:
    svg = _drawn(_verdicts(2000))
    (line,) = [element for element in svg.iter() if element.tag.endswith("polyline")]
    assert len(line.get("points", "").split()) == 300
    assert any("h" in text for text in _texts(svg))


def test_one_verdict_is_a_picture_and_none_is_refused() -> None:
    assert _texts(_drawn(_verdicts(1)))
    with pytest.raises(ValueError, match="at least one"):
        timeline([], title="", names=NAMES)


def test_the_same_verdicts_give_the_same_bytes() -> None:
    assert timeline(_verdicts(30), title="", names=NAMES) == timeline(_verdicts(30), title="", names=NAMES)


def test_a_figure_that_stands_still_has_a_place() -> None:
    flat = [
        replace(v, results=(replace(v.results[0], estimate=0.0, low=0.0, high=0.0, bound=0.0),)) for v in _verdicts(3)
    ]
    assert _texts(_drawn(flat))
