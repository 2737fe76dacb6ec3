"""A finding leads back to the one estimate that it judged, or to none."""

from __future__ import annotations

from dataclasses import replace

from components.evidence.contract import Estimate, Evidence
from components.verdict.contract import Finding, Outcome
from components.verdict.tracing import estimate_of, measured_on


def _estimate(value: float | None = 0.1, *, segment: dict[str, str] | None = None, **given: str) -> Estimate:
    about = {"metric": "ndcg@10", "statistic": "difference", "subject": "candidate", "versus": "rest"} | given
    return Estimate(
        **about, segment=segment or {}, value=value, low=0.0, high=0.2, level=0.95, n_users=50, n_requests=90,
        method="user bootstrap", mde=0.05,
    )  # type: ignore[arg-type]  # fmt: skip


def _finding(value: float | None = 0.1, *, segment: dict[str, str] | None = None) -> Finding:
    return Finding("pass", "candidate", "rest", segment or {}, value, 0.0, 0.2, 0.95, 50, 0.0, None, "fine.")


def _evidence(*estimates: Estimate) -> dict[str, Evidence]:
    held = Evidence(1, "fairness-users", estimates, {}, {}, {}, {}, {}, 0)
    return {"fairness-users": held}


def _outcome(*findings: Finding) -> Outcome:
    return Outcome(
        "groups", "Groups", "fairness-users", "ndcg@10", "difference", True, "block", "pass", False, findings, "because"
    )


def test_the_estimate_of_the_same_thing_on_the_same_users_is_found() -> None:
    wanted = _estimate(segment={"country": "DE"})
    others = (
        _estimate(),
        _estimate(segment={"country": "FR"}),
        _estimate(segment={"country": "DE"}, metric="recall@10"),
        _estimate(segment={"country": "DE"}, statistic="ratio"),
        _estimate(segment={"country": "DE"}, versus="incumbent"),
        _estimate(segment={"country": "DE", "gender": "f"}),
    )
    finding = _finding(segment={"country": "DE"})
    assert estimate_of(_outcome(finding), finding, _evidence(*others, wanted)) is wanted


def test_a_figure_that_was_not_measured_still_leads_to_its_estimate() -> None:
    empty = replace(_estimate(segment={"country": "DE"}), value=None, low=None, high=None)
    finding = _finding(None, segment={"country": "DE"})
    assert estimate_of(_outcome(finding), finding, _evidence(empty)) is empty


def test_nothing_is_guessed_where_no_estimate_or_several_fit_or_the_figure_is_another() -> None:
    finding = _finding()
    assert estimate_of(_outcome(finding), finding, {}) is None
    assert estimate_of(_outcome(finding), finding, _evidence(_estimate(0.2))) is None
    assert estimate_of(_outcome(finding), finding, _evidence(_estimate(), _estimate())) is None


def test_all_that_was_measured_on_the_very_same_users_is_told_with_its_question() -> None:
    one, two = _estimate(segment={"country": "DE"}), _estimate(segment={"country": "DE"}, metric="recall@10")
    held = _evidence(one, _estimate(), two, _estimate(segment={"country": "DE", "gender": "f"}))
    assert measured_on({"country": "DE"}, held) == (("fairness-users", one), ("fairness-users", two))
