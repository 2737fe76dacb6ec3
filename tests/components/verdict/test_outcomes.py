"""Which finding stands for an outcome, and in which order outcomes are read; the card and the terminal both ask here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from components.verdict.contract import Finding, Outcome
from components.verdict.outcomes import by_concern, deciding, is_waivable, still_blocking


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


def _waivable(name: str) -> Outcome:
    finding = replace(_finding("insufficient", -0.1), waivable=True)
    return replace(_outcome("insufficient", finding, blocks=True, name=name), on_insufficient="waive")


def test_a_waived_outcome_no_longer_stops_and_every_other_one_does() -> None:
    unsure, other = _waivable("unsure"), _waivable("other")
    firm, passed = _outcome("fail", _finding("fail", -1.0), blocks=True, name="firm"), _outcome("pass", name="passed")
    assert still_blocking([unsure, other, firm, passed], {"unsure"}) == (other, firm)
    assert still_blocking([unsure, other], {"unsure", "other"}) == ()
    # A waiver of what may not be waived counts for nothing, whoever signed it.
    assert still_blocking([firm], {"firm"}) == (firm,)


def test_a_finding_is_not_waivable_against_its_own_rule() -> None:
    """A verdict file that says both contradicts itself; the stricter word holds."""
    held = _waivable("unsure")
    assert is_waivable(held)
    assert not is_waivable(replace(held, on_insufficient="block"))
    assert not is_waivable(replace(held, blocking=False))
    assert not is_waivable(replace(held, blocks=False))
