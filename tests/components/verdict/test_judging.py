"""Every rule: what passes, what fails, the exact boundary, and what is missing; and that good news never makes it worse."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from components.artifacts import documents
from components.evidence.contract import Estimate, Evidence
from components.verdict.contract import Outcome
from components.verdict.judging import answer_to, judge
from components.verdict.outcomes import is_passed, is_waivable, stopping_messages
from components.verdict.policy import Bound, parse_policy

ORDER = {"fail": 0, "insufficient": 1, "pass": 2}


def estimate(**changes: Any) -> Estimate:
    """A difference against the rest of all users; `exact` makes a counted figure."""
    base = {
        "metric": "ndcg@10",
        "statistic": "difference",
        "subject": "candidate",
        "versus": "rest",
        "segment": {"country": "DE"},
        "value": 0.0,
        "low": -0.01,
        "high": 0.01,
        "level": 0.95,
        "n_users": 1212,
        "n_requests": 3000,
        "method": "user bootstrap",
        "mde": None,
    }
    if "exact" in changes:
        value = changes.pop("exact")
        base |= {"value": value, "low": value, "high": value, "level": 1.0, "method": "exact"}
    return Estimate(**{**base, **changes})


def evidence(*estimates: Estimate, question: str = "fairness-users") -> Evidence:
    return Evidence(1, question, estimates, {}, {}, {}, {}, {}, 0)  # type: ignore[arg-type]


def policy(first_release: str = "excuse", **criterion: Any) -> Any:
    base = {
        "id": "gaps",
        "title": "No group is left behind",
        "why": "Because.",
        "evidence": "fairness-users",
        "metric": "ndcg@10",
        "statistic": "difference",
        "select": {"versus": "rest", "segments": "every"},
        "bound": {"at_least": 0, "margin": 0.02},
    }
    text = yaml.safe_dump(
        {
            "schema": "rankgate/policy/v1",
            "name": "default",
            "version": "1.2.0",
            "description": "For tests.",
            "level": 0.95,
            "first_release": first_release,
            "criteria": [base | criterion],
        }
    )
    return parse_policy(text, subject="policy")


def outcome_of(
    rules: Any, *estimates: Estimate, first_release: bool = False, question: str = "fairness-users"
) -> Outcome:
    (outcome,) = judge(rules, {question: evidence(*estimates, question=question)}, {}, first_release=first_release)  # type: ignore[dict-item]
    return outcome


@pytest.mark.parametrize(
    ("bound", "low", "high", "answer"),
    [
        ({"at_least": 0}, 0.001, 0.002, "pass"),
        ({"at_least": 0}, -0.002, -0.001, "fail"),
        ({"at_least": 0}, -0.001, 0.001, "insufficient"),
        ({"at_least": 0}, 0.0, 0.001, "insufficient"),
        ({"at_least": 0}, -0.001, 0.0, "insufficient"),
        ({"at_least": 0}, 0.0, 0.0, "insufficient"),
        ({"at_least": 0, "margin": 0.02}, -0.02, 0.1, "insufficient"),
        ({"at_least": 0, "margin": 0.02}, -0.0199, 0.1, "pass"),
        ({"at_least": 0, "margin": 0.02}, -0.1, -0.0201, "fail"),
        ({"at_most": 0.05}, 0.01, 0.049, "pass"),
        ({"at_most": 0.05}, 0.051, 0.06, "fail"),
        ({"at_most": 0.05}, 0.01, 0.05, "insufficient"),
        ({"at_most": 0.05, "margin": 0.01}, 0.01, 0.055, "pass"),
        ({"within": [0.5, 2]}, 0.6, 1.9, "pass"),
        ({"within": [0.5, 2]}, 0.5, 1.9, "insufficient"),
        ({"within": [0.5, 2]}, 0.6, 2.0, "insufficient"),
        ({"within": [0.5, 2]}, 0.4, 2.1, "insufficient"),
        ({"within": [0.5, 2]}, 0.1, 0.4, "fail"),
        ({"within": [0.5, 2]}, 2.1, 3.0, "fail"),
    ],
)
def test_an_interval_is_held_against_the_bound(bound: dict[str, Any], low: float, high: float, answer: str) -> None:
    assert answer_to(Bound(**bound), low, high, exact=False) == answer


@pytest.mark.parametrize(
    ("bound", "value", "answer"),
    [
        ({"at_most": 0.05}, 0.05, "pass"),
        ({"at_most": 0.05}, 0.0500000001, "fail"),
        ({"at_least": 0.95}, 0.95, "pass"),
        ({"at_least": 0.95}, 0.9499999999, "fail"),
        ({"at_least": 0.3, "margin": 0.1}, 0.2, "pass"),
        ({"within": [0.5, 2]}, 0.5, "pass"),
        ({"within": [0.5, 2]}, 2, "pass"),
        ({"within": [0.5, 2]}, 2.1, "fail"),
    ],
)
def test_an_exact_figure_on_its_limit_holds(bound: dict[str, Any], value: float, answer: str) -> None:
    assert answer_to(Bound(**bound), value, value, exact=True) == answer


def test_the_message_of_a_failure_says_all() -> None:
    outcome = outcome_of(policy(), estimate(value=-0.041, low=-0.062, high=-0.021))
    assert (outcome.answer, outcome.blocks) == ("fail", True)
    (finding,) = outcome.findings
    message = " ".join(finding.message.split())
    assert message == (
        "gaps: NDCG@10 of country 'DE' is 0.041 below the rest (95% interval -0.062..-0.021, 1 212 users), "
        "beyond the margin 0.02 of policy default@1.2.0. See fairness-users.json."
    )
    assert (finding.margin, finding.needed) == (-0.02, "at least -0.02")


def test_an_insufficient_message_says_how_many_more_users_would_settle_it() -> None:
    outcome = outcome_of(policy(), estimate(value=-0.005, low=-0.03, high=0.02, n_users=500))
    (finding,) = outcome.findings
    assert (finding.answer, outcome.blocks) == ("insufficient", True)
    # About (half-width / distance to the bound)^2 times as many users, and more for certainty of an answer.
    assert finding.more_users is not None
    assert 500 * ((0.025 / 0.015) ** 2 - 1) < finding.more_users < 5000
    assert "harm beyond the margin 0.02 of policy default@1.2.0 is neither shown nor ruled out" in finding.message
    assert " ".join(finding.message.split()).endswith("more users would settle it. See fairness-users.json.")


def test_figures_that_would_look_alike_get_more_decimals() -> None:
    (finding,) = outcome_of(policy(), estimate(value=-0.02004, low=-0.02007, high=-0.02001)).findings
    assert "0.02004 below the rest (95% interval -0.02007..-0.02001" in finding.message


MISSING = {
    "no value": {"value": None, "low": None, "high": None},
    "no limits": {"low": None, "high": None},
    "no lower limit": {"low": None},
    "no upper limit": {"high": None},
    "infinite value": {"value": float("inf"), "high": float("inf")},
    "infinite limit": {"high": float("inf")},
    "NaN": {"value": float("nan")},
    "limits crossed": {"low": 0.02, "high": 0.01},
    "value outside": {"value": 0.5},
    "level too low": {"level": 0.9},
    "level NaN": {"level": float("nan")},
    "level beyond one": {"level": 95.0},
    "nobody": {"n_users": 0},
    "exact with an interval": {"method": "exact"},
}


@pytest.mark.parametrize("changes", MISSING.values(), ids=MISSING.keys())
def test_what_cannot_be_judged_is_insufficient_and_blocks(changes: dict[str, Any]) -> None:
    good = {"value": 0.0, "low": -0.01, "high": 0.01}
    outcome = outcome_of(policy(), estimate(**(good | changes)))
    assert (outcome.answer, outcome.blocks) == ("insufficient", True)
    (finding,) = outcome.findings
    assert "What is not measured cannot pass." in finding.message
    assert finding.more_users is None
    documents.to_bytes(outcome)  # canonical JSON refuses NaN and infinity


@pytest.mark.parametrize("changes", MISSING.values(), ids=MISSING.keys())
def test_noting_insufficiency_excuses_only_what_was_measured(changes: dict[str, Any]) -> None:
    good = estimate(segment={"country": "FR"})
    unsure = estimate(value=-0.005, low=-0.03, high=0.02)
    rules = policy(on_insufficient="note")
    noted = outcome_of(rules, good, unsure)
    assert (noted.answer, noted.blocks) == ("insufficient", False)
    assert "The policy notes" in noted.findings[1].excused
    assert outcome_of(rules, good, replace(unsure, **changes)).blocks


def test_a_level_may_be_raised_for_one_criterion() -> None:
    assert outcome_of(policy(level=0.99), estimate()).answer == "insufficient"
    assert "the interval's level is 0.95; needed 0.99" in outcome_of(policy(level=0.99), estimate()).findings[0].message
    assert outcome_of(policy(level=0.99), estimate(level=0.99)).answer == "pass"


def test_an_outcome_is_as_bad_as_its_worst_finding() -> None:
    good, unsure = estimate(), estimate(segment={"country": "FR"}, low=-0.05)
    bad = estimate(segment={"country": "IT"}, value=-0.05, low=-0.06, high=-0.04)
    assert outcome_of(policy(), good).answer == "pass"
    assert outcome_of(policy(), good, unsure).answer == "insufficient"
    outcome = outcome_of(policy(), good, unsure, bad)
    assert outcome.answer == "fail"
    assert [finding.answer for finding in outcome.findings] == ["pass", "insufficient", "fail"]
    assert len(stopping_messages(outcome)) == 2


@pytest.mark.parametrize(
    ("effect", "on_insufficient", "answer", "blocks"),
    [
        ("blocking", "block", "insufficient", True),
        ("blocking", "waive", "insufficient", True),
        ("blocking", "note", "insufficient", False),
        ("blocking", "note", "fail", True),
        ("advisory", "block", "insufficient", False),
        ("advisory", "block", "fail", False),
    ],
)
def test_what_blocks(effect: str, on_insufficient: str, answer: str, blocks: bool) -> None:
    shown = {"insufficient": estimate(low=-0.05), "fail": estimate(value=-0.05, low=-0.06, high=-0.04)}[answer]
    rules = parse_with_blocking_sibling(effect=effect, on_insufficient=on_insufficient)
    outcome = judge(rules, {"fairness-users": evidence(shown)}, {}, first_release=False)[0]
    assert (outcome.answer, outcome.blocks) == (answer, blocks)
    if on_insufficient == "waive":
        assert "it takes a signed waiver" in outcome.findings[0].message


UNSURE = estimate(low=-0.05)
HARMED = estimate(segment={"country": "IT"}, value=-0.05, low=-0.06, high=-0.04)
UNMEASURED = estimate(segment={"country": "LU"}, value=None, low=None, high=None)


@pytest.mark.parametrize(
    ("on_insufficient", "on_fail", "found", "waivable"),
    [
        ("waive", "block", [UNSURE], True),
        ("waive", "block", [HARMED], False),
        ("waive", "block", [UNSURE, HARMED], False),
        ("waive", "waive", [UNSURE, HARMED], True),
        ("waive", "waive", [UNSURE, UNMEASURED], False),
        ("waive", "waive", [UNMEASURED], False),
        ("waive", "waive", [], False),
        ("waive", "waive", [estimate()], False),
        ("note", "waive", [UNSURE], False),
        ("note", "waive", [UNSURE, HARMED], True),
        ("block", "block", [UNSURE], False),
    ],
)
def test_a_waiver_may_stand_in_only_for_what_was_measured_and_the_policy_names(
    on_insufficient: str, on_fail: str, found: list[Estimate], waivable: bool
) -> None:
    outcome = outcome_of(policy(on_insufficient=on_insufficient, on_fail=on_fail), *found)
    assert is_waivable(outcome) is waivable
    assert outcome.on_fail == on_fail
    if waivable:
        assert outcome.blocks
    for message in stopping_messages(outcome):
        assert ("signed waiver" in message) == any(f.waivable and f.message == message for f in outcome.findings)


def test_evidence_that_is_missing_is_never_waived() -> None:
    (outcome,) = judge(policy(on_insufficient="waive", on_fail="waive"), {}, {}, first_release=False)
    assert outcome.blocks
    assert not is_waivable(outcome)


def parse_with_blocking_sibling(**criterion: Any) -> Any:
    """A policy needs one blocking rule; this one has it beside the rule that is tried."""
    rules = policy(**{**criterion, "effect": "blocking"})
    (first,) = rules.criteria
    tried = first.model_copy(update={"effect": criterion["effect"]})
    return rules.model_copy(update={"criteria": (tried, first.model_copy(update={"id": "sibling"}))})


class TestSmallGroups:
    """Groups below the policy's size are shown, never silently passed, and excused only for not being sure."""

    select = {"versus": "rest", "segments": "every", "minimum_users": 100}  # noqa: RUF012
    large = estimate(segment={"country": "DE"}, n_users=1000)

    def test_an_unsure_small_group_is_excused_and_shown(self) -> None:
        small = estimate(segment={"country": "LU"}, n_users=99, low=-0.2, high=0.2)
        outcome = outcome_of(policy(select=self.select), self.large, small)
        assert (outcome.answer, outcome.blocks) == ("insufficient", False)
        assert "Fewer than the 100 users" in outcome.findings[1].excused

    def test_a_group_of_just_the_size_is_judged(self) -> None:
        enough = estimate(segment={"country": "LU"}, n_users=100, low=-0.2, high=0.2)
        outcome = outcome_of(policy(select=self.select), self.large, enough)
        assert (outcome.answer, outcome.blocks) == ("insufficient", True)

    def test_a_harmed_small_group_fails(self) -> None:
        harmed = estimate(segment={"country": "LU"}, n_users=40, value=-0.3, low=-0.4, high=-0.2)
        outcome = outcome_of(policy(select=self.select), self.large, harmed)
        assert (outcome.answer, outcome.blocks) == ("fail", True)

    def test_a_group_of_one_user_has_no_interval_and_is_excused(self) -> None:
        single = estimate(segment={"country": "LU"}, n_users=1, low=None, high=None)
        assert not outcome_of(policy(select=self.select), self.large, single).blocks

    def test_only_small_groups_are_no_answer(self) -> None:
        small = estimate(segment={"country": "LU"}, n_users=40, low=-0.2, high=0.2)
        outcome = outcome_of(policy(select=self.select), small)
        assert (outcome.answer, outcome.blocks) == ("insufficient", True)
        (message,) = stopping_messages(outcome)
        assert "of 1 group none could be judged; each is too small" in message
        assert outcome.findings[0].excused

    def test_only_small_groups_are_no_answer_even_where_insufficiency_is_noted(self) -> None:
        single = estimate(segment={"country": "LU"}, n_users=1, low=None, high=None)
        assert outcome_of(policy(select=self.select, on_insufficient="note"), single).blocks

    @pytest.mark.parametrize(("rest", "blocks"), [(99, False), (100, True)])
    def test_a_comparison_is_as_small_as_its_smaller_side(self, rest: int, blocks: bool) -> None:
        share = 900 / (900 + rest)
        most = estimate(segment={"region": "UK"}, n_users=900, low=-0.2, high=0.2, detail={"share_of_users": share})
        assert outcome_of(policy(select=self.select), self.large, most).blocks is blocks

    def test_a_group_that_is_everyone_has_no_rest(self) -> None:
        everyone = estimate(segment={"plan": "free"}, value=None, low=None, high=None, detail={"share_of_users": 1.0})
        assert not outcome_of(policy(select=self.select), self.large, everyone).blocks
        assert outcome_of(policy(select=self.select), everyone).blocks

    @pytest.mark.parametrize(("rest", "blocks"), [(99, False), (100, True)])
    def test_a_change_of_a_gap_is_as_small_as_the_gaps_smaller_side(self, rest: int, blocks: bool) -> None:
        about = {"statistic": "change", "versus": "incumbent"}
        rules = policy(statistic="change", select={**self.select, "versus": "incumbent"})
        share = 900 / (900 + rest)
        large = replace(self.large, **about)
        most = estimate(
            segment={"region": "UK"}, n_users=900, low=-0.2, high=0.2, detail={"share_of_users": share}, **about
        )
        assert outcome_of(rules, large, most).blocks is blocks

    def test_a_group_that_is_everyone_has_no_gap_that_could_change(self) -> None:
        about = {"statistic": "change", "versus": "incumbent"}
        rules = policy(statistic="change", select={**self.select, "versus": "incumbent"})
        everyone = estimate(
            segment={"history": "none"}, value=None, low=None, high=None, detail={"share_of_users": 1.0}, **about
        )
        assert not outcome_of(rules, replace(self.large, **about), everyone).blocks
        assert outcome_of(rules, everyone).blocks


class TestSelection:
    """A criterion looks at all that fits, and tells what it asked for and did not find."""

    estimates = (
        estimate(segment={"country": "DE"}),
        estimate(segment={"gender": "f"}),
        estimate(segment={"country": "DE", "gender": "f"}),
        estimate(segment={}, versus="popularity"),
        estimate(segment={"country": "DE"}, statistic="ratio", value=1.0, low=0.9, high=1.1),
    )

    def segments(self, segments: Any, versus: str = "rest") -> list[dict[str, str]]:
        rules = policy(select={"versus": versus, "segments": segments})
        return [finding.segment for finding in outcome_of(rules, *self.estimates).findings]

    def test_everyone_one_attribute_any_attribute_an_intersection_or_all(self) -> None:
        country, gender, both = {"country": "DE"}, {"gender": "f"}, {"country": "DE", "gender": "f"}
        assert self.segments("none", "popularity") == [{}]
        assert self.segments({"each": ["country"]}) == [country]
        assert self.segments({"each": ["*"]}) == [country, gender]
        assert self.segments({"each": ["gender x country"]}) == [both]
        assert self.segments({"each": ["country", "gender x country"]}) == [country, both]
        assert self.segments("every") == [country, gender, both]

    def test_an_attribute_that_was_not_measured_blocks_beside_those_that_were(self) -> None:
        rules = policy(select={"versus": "rest", "segments": {"each": ["country", "age_band"]}})
        outcome = outcome_of(rules, *self.estimates)
        assert [finding.answer for finding in outcome.findings] == ["pass", "insufficient"]
        assert outcome.blocks
        assert "by age_band; it has this by country, country x gender, gender" in outcome.findings[1].message

    def test_any_subject_and_any_other(self) -> None:
        rules = policy(select={"subject": "*", "versus": "*", "segments": "every"})
        assert len(outcome_of(rules, *self.estimates, estimate(subject="incumbent")).findings) == 4

    def test_a_further_figure_narrows_but_never_hides_what_lacks_it(self) -> None:
        rules = policy(select={"versus": "rest", "segments": "every", "detail_at_least": {"importance": 0.1}})
        marked = [estimate(detail={"importance": share}) for share in (0.05, 0.1, 0.2)]
        assert len(outcome_of(rules, *marked, estimate(detail={})).findings) == 3

    @pytest.mark.parametrize(
        ("criterion", "hint"),
        [
            ({"metric": "ndcg@100"}, "did the policy mean ndcg@10?"),
            ({"metric": "latency"}, "its metrics are ndcg@10"),
            ({"statistic": "change"}, "of that metric it holds difference, ratio"),
            (
                {"select": {"versus": "incumbent"}},
                "it has this for candidate against popularity, candidate against rest",
            ),
            ({"select": {"versus": "rest"}}, "it has this by country, country x gender, gender"),
        ],
    )
    def test_what_is_not_there_blocks_and_says_what_is(self, criterion: dict[str, Any], hint: str) -> None:
        outcome = outcome_of(policy(**criterion), *self.estimates)
        assert (outcome.answer, outcome.blocks) == ("insufficient", True)
        assert hint in outcome.findings[0].message

    def test_an_evidence_without_estimates_blocks(self) -> None:
        outcome = outcome_of(policy())
        assert outcome.blocks
        assert "it holds no estimate at all" in outcome.findings[0].message


def test_a_missing_or_broken_question_blocks_even_an_advisory_criterion() -> None:
    rules = parse_with_blocking_sibling(effect="advisory")
    for broken, told in (({}, "the evidence fairness-users.json is missing"), ({"fairness-users": "torn"}, "torn")):
        outcome = judge(rules, {}, broken, first_release=False)[0]  # type: ignore[arg-type]
        assert (outcome.answer, outcome.blocks, outcome.blocking) == ("insufficient", True, False)
        assert told in outcome.findings[0].message


class TestFirstRelease:
    """Having no incumbent is a rule of the policy, not a hole in it."""

    criterion = {"when": "incumbent", "select": {"versus": "incumbent"}}  # noqa: RUF012
    other = estimate(segment={}, versus="popularity")
    worse = estimate(segment={}, versus="incumbent", value=-0.1, low=-0.11, high=-0.09)

    def test_a_first_release_is_excused_by_the_policys_own_rule(self) -> None:
        outcome = outcome_of(policy(**self.criterion), self.other, first_release=True)
        assert (outcome.answer, outcome.blocks, outcome.findings) == ("pass", False, ())
        assert "first_release: excuse" in outcome.not_applicable

    def test_a_policy_may_insist(self) -> None:
        assert outcome_of(policy("block", **self.criterion), self.other, first_release=True).blocks

    def test_later_releases_must_be_compared(self) -> None:
        assert outcome_of(policy(**self.criterion), self.other, first_release=False).blocks

    def test_what_was_measured_is_judged_whatever_it_is_called(self) -> None:
        outcome = outcome_of(policy(**self.criterion), self.worse, first_release=True)
        assert (outcome.answer, outcome.blocks) == ("fail", True)

    def test_nothing_judged_is_not_passed(self) -> None:
        outcome = outcome_of(policy(**self.criterion), self.other, first_release=True)
        assert not is_passed([outcome])
        assert not is_passed([])


class TestMissingMetric:
    """A metric that the data cannot have may be excused with a reason; one that it has must be measured."""

    criterion = {"missing": {"not_applicable": "The dataset names no provider."}}  # noqa: RUF012

    def test_a_metric_that_nothing_speaks_of_is_excused(self) -> None:
        outcome = outcome_of(policy(**self.criterion), estimate(metric="recall@10"))
        assert (outcome.not_applicable, outcome.blocks) == ("The dataset names no provider.", False)

    def test_a_metric_that_was_measured_of_something_else_is_not(self) -> None:
        assert outcome_of(policy(**self.criterion), estimate(versus="catalogue")).blocks

    def test_an_estimate_without_a_value_is_not(self) -> None:
        assert outcome_of(policy(**self.criterion), estimate(value=None, low=None, high=None)).blocks

    def test_a_missing_question_is_not(self) -> None:
        (outcome,) = judge(policy(**self.criterion), {}, {}, first_release=False)
        assert outcome.blocks


numbers = st.floats(-1, 1, allow_nan=False).map(lambda x: round(x, 4))


@given(
    ends=st.tuples(numbers, numbers).map(sorted),
    shift=st.floats(0, 1).map(lambda x: round(x, 4)),
    limit=numbers,
    margin=st.floats(0, 0.5).map(lambda x: round(x, 4)),
    good=st.sampled_from(["up", "down"]),
    exact=st.booleans(),
)
def test_moving_the_good_way_never_makes_an_answer_worse(
    ends: list[float], shift: float, limit: float, margin: float, good: str, exact: bool
) -> None:
    low, high = (ends[0], ends[0]) if exact else ends
    bound = Bound(at_least=limit, margin=margin) if good == "up" else Bound(at_most=limit, margin=margin)
    moved = shift if good == "up" else -shift
    before = answer_to(bound, low, high, exact=exact)
    after = answer_to(bound, low + moved, high + moved, exact=exact)
    assert ORDER[after] >= ORDER[before]


@given(ends=st.tuples(numbers, numbers).map(sorted), inner=st.tuples(st.floats(0, 1), st.floats(0, 1)), limit=numbers)
def test_a_narrower_interval_inside_never_changes_a_decision(
    ends: list[float], inner: tuple[float, float], limit: float
) -> None:
    low, high = ends
    narrow = sorted(min(max(low + part * (high - low), low), high) for part in inner)
    before = answer_to(Bound(at_least=limit), low, high, exact=False)
    after = answer_to(Bound(at_least=limit), narrow[0], narrow[1], exact=False)
    assert before in ("insufficient", after)


@given(margins=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted), ends=st.tuples(numbers, numbers).map(sorted))
def test_a_wider_margin_never_makes_an_answer_worse(margins: list[float], ends: list[float]) -> None:
    narrow, wide = (answer_to(Bound(within=(-0.2, 0.2), margin=m), *ends, exact=False) for m in margins)
    assert ORDER[wide] >= ORDER[narrow]


@given(
    value=st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)),
    low=st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)),
    high=st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)),
    level=st.floats(allow_nan=True, allow_infinity=True),
    users=st.integers(-5, 10**12),
    method=st.sampled_from(["exact", "user bootstrap", ""]),
)
def test_no_estimate_makes_judging_raise_or_leaves_json(
    value: float | None, low: float | None, high: float | None, level: float, users: int, method: str
) -> None:
    odd = estimate(value=value, low=low, high=high, level=level, n_users=users, method=method)
    outcome = outcome_of(policy(), odd)
    assert json.loads(documents.to_bytes(outcome))["answer"] == outcome.answer
    if outcome.answer == "pass":
        assert low is not None
        assert low > -0.02 or (method == "exact" and low >= -0.02)
