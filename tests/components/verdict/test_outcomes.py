"""Which finding stands for an outcome, and in which order outcomes are read; the card and the terminal both ask here."""

from __future__ import annotations

from typing import Any

import pytest

from components.verdict.contract import Finding, Outcome
from components.verdict.outcomes import by_concern, deciding


def _finding(answer: Any, value: float | None, *, excused: str = "", subject: str = "candidate") -> Finding:
    return Finding(answer, subject, "rest", {}, value, value, value, 0.95, 100, -0.05, None, "", excused=excused)


def _outcome(answer: Any, *findings: Finding, blocks: bool = False, name: str = "rule", excuse: str = "") -> Outcome:
    return Outcome(
        name,
        name,
        "quality",
        "ndcg@10",
        "difference",
        True,
        "block",
        answer,
        blocks,
        findings,
        "",
        not_applicable=excuse,
    )


@pytest.mark.parametrize(("answer", "chosen"), [("fail", -0.4), ("insufficient", -0.1), ("pass", -0.1)])
def test_the_worst_break_decides_and_otherwise_what_lies_nearest_the_bound(answer: str, chosen: float) -> None:
    found = deciding(_outcome(answer, _finding(answer, -0.1), _finding(answer, -0.4), _finding("pass", 9.0)))
    assert found is not None
    assert found.value == chosen


def test_what_has_no_figure_does_not_hide_what_has_one() -> None:
    found = deciding(_outcome("insufficient", _finding("insufficient", None), _finding("insufficient", -0.2)))
    assert found is not None
    assert found.value == -0.2


def test_an_excused_finding_does_not_stand_for_what_blocks() -> None:
    excused, other = _finding("insufficient", -0.06, excused="too few"), _finding("insufficient", -0.3)
    assert deciding(_outcome("insufficient", excused, other, blocks=True)) == other


def test_without_findings_nothing_decides() -> None:
    assert deciding(_outcome("insufficient")) is None


def test_what_blocks_is_read_first_and_what_does_not_apply_last() -> None:
    outcomes = [
        _outcome("pass", name="passed"),
        _outcome("pass", name="excused", excuse="first release"),
        _outcome("insufficient", name="unsure"),
        _outcome("fail", name="blocking", blocks=True),
    ]
    assert [outcome.title for outcome in by_concern(outcomes)] == ["blocking", "unsure", "passed", "excused"]
