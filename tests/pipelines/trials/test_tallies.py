"""Rates and their intervals, and when a promise counts as kept."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from pipelines.trials.records import Held, Record
from pipelines.trials.tallies import Rate, coverages, tallies


def record(
    *, seed: int, harm: str = "clean", strength: str = "", answer: str = "pass", adequate: bool = True
) -> Record:
    return Record(
        code="c",
        world="shop x1",
        seed=seed,
        harm=harm,
        strength=strength,
        answer=answer,  # type: ignore[arg-type]  # as a test writes it
        caught=answer,  # type: ignore[arg-type]
        failed=("quality-incumbent",) if answer == "fail" else (),
        unsure=("fairness-users",) if answer == "insufficient" else (),
        peers={"fixed-ndcg": seed % 2 == 0},
        users=100 + seed,
        planted=0.0,
        reached=0.0,
        adequate=adequate,
    )


def runs(fails: int, of: int, **told: object) -> list[Record]:
    return [record(seed=n, answer="fail" if n < fails else "pass", **told) for n in range(of)]  # type: ignore[arg-type]


@pytest.mark.parametrize("p", [0.0, 0.01, 0.05, 0.5, 0.99])
@pytest.mark.parametrize("n", [20, 100, 300])
def test_the_interval_of_a_rate_holds_the_truth_at_least_as_often_as_it_says(p: float, n: int) -> None:
    counts = np.arange(n + 1)
    held = np.array([Rate(int(count), n).low <= p <= Rate(int(count), n).high for count in counts])
    assert binom.pmf(counts, n, p)[held].sum() >= 0.95 - 1e-9


def test_a_false_fail_in_three_hundred_keeps_the_promise_and_four_do_not_prove_it_broken() -> None:
    assert tallies(runs(1, 300))[0].kept == "kept"
    assert tallies(runs(4, 300))[0].kept == "within chance"
    assert tallies(runs(12, 300))[0].kept == "broken"


def test_a_harm_of_two_margins_must_be_caught_where_n_is_adequate() -> None:
    told = {"harm": "spoiled-segment", "strength": "2 margins"}
    assert tallies(runs(100, 100, **told))[0].kept == "kept"
    assert tallies(runs(97, 100, **told))[0].kept == "within chance"
    assert tallies(runs(80, 100, **told))[0].kept == "broken"


def test_nothing_is_promised_where_n_is_too_small() -> None:
    found = tallies(runs(10, 100, harm="spoiled-segment", strength="2 margins", adequate=False))[0]
    assert (found.promise, found.kept) == ("told", "no promise")


def test_a_harm_below_its_margin_may_fail_at_the_stated_level_and_no_more() -> None:
    told = {"harm": "spoiled-segment", "strength": "0.5 margins"}
    assert tallies(runs(5, 100, **told))[0].kept == "kept"
    assert tallies(runs(20, 100, **told))[0].kept == "broken"


def test_clean_runs_come_first_and_strengths_in_their_order() -> None:
    found = tallies(
        [
            *runs(0, 2, harm="stale", strength="2 bounds old"),
            *runs(0, 2, harm="stale", strength="1.25 bounds old"),
            *runs(0, 2),
        ]
    )
    assert [(held.harm, held.strength) for held in found] == [
        ("clean", ""),
        ("stale", "1.25 bounds old"),
        ("stale", "2 bounds old"),
    ]


def test_coverage_adds_up_over_draws() -> None:
    found = coverages([Held("c", draw, 100, "quality: ndcg, value", 4, 5) for draw in range(10)])
    assert [(held.users, held.rate.count, held.rate.of) for held in found] == [(100, 40, 50)]
