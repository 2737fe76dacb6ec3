"""The chapters on groups of users: those by history apart from the declared, and answers under both conventions."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from components.card.chapters.groups import groups
from components.card.chapters.quality import quality
from components.card.parts import Picture
from components.card.sources import Opened, open_sources
from components.evidence.contract import Estimate
from components.verdict.freezing import freeze_policy
from components.verdict.judging import judge
from components.verdict.policy import Policy, parse_policy

Run = Any


@pytest.fixture
def estimate() -> Callable[..., Any]:
    def made(metric: str, value: float, half: float = 0.02, **given: Any) -> Estimate:
        about = {
            "statistic": "ratio",
            "subject": "candidate",
            "versus": "rest",
            "segment": {},
            "low": value - half,
            "high": value + half,
            "level": 0.95,
            "n_users": 200,
            "n_requests": 400,
            "method": "user bootstrap",
            "mde": None,
        }
        return Estimate(metric=metric, value=value, **(about | given))

    return made


RULES = """
schema: rankgate/policy/v1
name: tried
version: 1.0.0
description: One rule on groups.
level: 0.95
first_release: excuse
criteria:
  - id: fairness-users
    title: No group is served far worse
    why: A group lives on what it is shown.
    evidence: fairness-users
    metric: ndcg@10
    statistic: ratio
    select: {versus: rest, segments: every, detail_at_least: {declared: 1}, minimum_users: 100}
    bound: {at_least: 1, margin: 0.2}
"""


@pytest.fixture
def judged(run: Run, estimate: Callable[..., Any]) -> Callable[..., Run]:
    """A run with two countries that a rule judges at 0.8, newcomers that it does not, and the other convention."""
    german, french, new = {"country": "DE"}, {"country": "FR"}, {"history": "none"}

    def made(*, counted_as_zero: float, users: int = 200) -> Run:
        undeclared = {"segment": new, "detail": {"declared": 0.0}}
        run.evidence["fairness-users"] = replace(
            run.evidence["fairness-users"],
            estimates=(
                estimate("ndcg@10", 1.05, segment=german),
                estimate("ndcg@10", 0.95, segment=french, n_users=users),
                estimate("ndcg@10", 0.7, **undeclared),
                estimate("ndcg@10", -0.1, statistic="difference", **undeclared),
                estimate("ndcg@10", -0.01, statistic="change", **(undeclared | {"versus": "incumbent"})),
                estimate("ndcg_empty_as_zero@10", 1.02, segment=german),
                estimate("ndcg_empty_as_zero@10", counted_as_zero, segment=french, n_users=users),
            ),
        )
        outcomes = judge(_rules(), {"fairness-users": run.evidence["fairness-users"]}, {}, first_release=False)
        run.verdict = replace(run.verdict, outcomes=outcomes)
        return run

    return made


def _rules() -> Policy:
    return parse_policy(RULES, subject="policy.yaml")


def _opened(run: Run, folder: Any) -> Opened:
    return replace(open_sources(run.sources(folder)), policy=_rules())


def _pictures(run: Run, folder: Any, chapter: Callable[..., Any] = groups) -> dict[str, Picture]:
    return {picture.title: picture for picture in chapter(_opened(run, folder)).pictures}


def _titled(pictures: dict[str, Picture], words: str) -> Picture:
    (found,) = [picture for title, picture in pictures.items() if words in title]
    return found


def test_newcomers_have_a_picture_of_their_own_and_no_margin_that_is_not_theirs(
    judged: Callable[..., Run], tmp_path: Any
) -> None:
    pictures = _pictures(judged(counted_as_zero=0.95), tmp_path)
    main = _titled(pictures, "of each group as a ratio to the rest")
    assert main.tracks is not None
    assert [placed.mark.label for placed in main.tracks.marks] == ["country DE", "country FR"]
    history = _titled(pictures, "by how much was known of a user")
    assert history.tracks is not None
    assert [placed.mark.label for placed in history.tracks.marks] == ["history none"]
    # 0.70 lies beyond the countries' margin of 0.8, which nobody set for newcomers.
    assert history.tracks.marks[0].mark.tone == "plain"
    assert "The policy sets no margin here" in history.takeaway
    assert "since the incumbent the gap moved by \N{MINUS SIGN}0.010" in history.takeaway


def test_answers_that_hold_under_both_conventions_are_said_to_hold(judged: Callable[..., Run], tmp_path: Any) -> None:
    picture = _titled(_pictures(judged(counted_as_zero=0.95), tmp_path), "counted as 0")
    assert picture.takeaway.startswith("No answer of 1 rule on 2 judged groups rests on leaving out")
    assert [row[2] for row in picture.table.rows] == ["Pass", "Pass"]


@pytest.mark.parametrize(("value", "answer"), [(0.79, "insufficient"), (0.7, "fail")])
def test_an_answer_that_rests_on_the_convention_is_named(
    judged: Callable[..., Run], tmp_path: Any, value: float, answer: str
) -> None:
    picture = _titled(_pictures(judged(counted_as_zero=value), tmp_path), "counted as 0")
    assert "1 answer would be another" in picture.takeaway
    assert "(country FR)" in picture.takeaway
    assert f"fairness-users would answer {answer} instead of pass" in picture.takeaway
    assert picture.table.rows[1] == (
        "fairness-users, country FR",
        "0.950 (0.930 to 0.970)",
        "Pass",
        f"{value:.3f} ({value - 0.02:.3f} to {value + 0.02:.3f})",
        answer.capitalize(),
    )
    assert picture.tracks is not None
    first = picture.tracks.marks[0].mark
    assert (first.label, first.tone, first.ring) == ("country FR", "bad", 0.95)


def test_a_group_too_small_to_be_judged_changes_no_answer(judged: Callable[..., Run], tmp_path: Any) -> None:
    picture = _titled(_pictures(judged(counted_as_zero=0.79, users=99), tmp_path), "counted as 0")
    assert picture.takeaway.startswith("No answer of 1 rule on 2 judged groups")
    assert picture.table.rows[1][2:] == ("Pass", "0.790 (0.770 to 0.810)", "Insufficient, excused")


def test_the_frozen_policy_is_asked_again(judged: Callable[..., Run], tmp_path: Any) -> None:
    sources = judged(counted_as_zero=0.7).sources(tmp_path / "run")
    (sources.policy / "frozen.json").unlink()
    assert open_sources(sources).policy is None
    policy = tmp_path / "rules"
    shutil.copytree(Path(__file__).resolve().parents[3] / "policies" / "default", policy)
    frozen = tmp_path / "frozen"
    frozen.mkdir()
    freeze_policy(policy, at=datetime(2026, 5, 1, tzinfo=UTC), out=frozen)
    opened = open_sources(replace(sources, policy=frozen))
    assert opened.policy is not None
    assert (
        "would answer fail instead of pass"
        in _titled({picture.title: picture for picture in groups(opened).pictures}, "counted as 0").takeaway
    )


def test_groups_are_held_against_the_incumbent_and_on_a_first_release_against_popularity(
    run: Run, estimate: Callable[..., Any], tmp_path: Any
) -> None:
    def gaps(versus: str) -> tuple[Any, ...]:
        about = {"statistic": "difference", "versus": versus}
        return (
            estimate("ndcg@10", 0.01, segment={"country": "DE"}, **about),
            estimate("ndcg@10", -0.09, segment={"history": "none"}, detail={"declared": 0.0}, **about),
        )

    measured = run.evidence["quality"]
    run.evidence["quality"] = replace(measured, estimates=(*measured.estimates, *gaps("popularity")))
    first = _titled(_pictures(run, tmp_path / "first", quality), "by group of users")
    assert "less popularity" in first.title
    assert first.takeaway.startswith("Shown to be worse off than with popularity: history none.")
    run.evidence["quality"] = replace(
        measured, estimates=(*measured.estimates, *gaps("popularity"), *gaps("incumbent"))
    )
    second = _titled(_pictures(run, tmp_path / "second", quality), "by group of users")
    assert "less the incumbent" in second.title
    assert second.tracks is not None
    assert [placed.mark.label for placed in second.tracks.marks] == ["history none", "country DE"]
