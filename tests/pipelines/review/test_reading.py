"""What a run's pages show: side by side, from a rule to its finding to the users it is about."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

import pytest

from components.card.contract import Card
from components.card.pictures.tracks import Mark
from components.evidence.contract import Estimate
from pipelines.releasing import decide_release
from pipelines.review.drawing import cut
from pipelines.review.drilling import criterion_view, finding_view
from pipelines.review.reading import shown_card
from pipelines.review.side_by_side import side_by_side
from pipelines.runs import Run

from ...components.card.conftest import Run as Documents
from ...components.card.conftest import estimate, finding, gap, outcome, small_run
from .conftest import Place


def with_incumbent(held: Documents) -> Documents:
    """The same documents, with an incumbent on the same requests."""
    quality = held.evidence["quality"]
    more: list[Estimate] = [
        estimate("ndcg@10", 0.56, subject="incumbent"),
        estimate("ndcg@10", 0.02, statistic="difference", versus="incumbent", low=0.005, high=0.035),
        estimate("map@10", 0.44, subject="incumbent"),
        estimate("map@10", -0.03, statistic="difference", versus="incumbent", low=-0.05, high=-0.01),
        estimate("recall@10", 0.7),
        estimate("recall@10", 0.7, subject="incumbent"),
        estimate("recall@10", 0.0, statistic="difference", versus="incumbent"),
        *(
            estimate(
                "ndcg@10", value, statistic="difference", versus="incumbent", segment={"country": name}, n_users=users
            )
            for name, value, users in (("DE", 0.01, 80), ("LU", -0.04, 12))
        ),
    ]
    held.evidence["quality"] = replace(quality, estimates=(*quality.estimates, *more))
    judged = finding(value=0.02, versus="incumbent", low=0.005, high=0.035, margin=-0.01, needed="at least -0.01")
    groups = [
        finding(value=value, versus="incumbent", segment={"country": name}, margin=-0.05, needed="at least -0.05")
        for name, value in (("DE", 0.01), ("LU", -0.04))
    ]
    outcomes = tuple(o for o in held.verdict.outcomes if o.criterion != "quality-incumbent")
    held.verdict = replace(
        held.verdict,
        first_release=False,
        outcomes=(
            *outcomes,
            outcome(judged, criterion="quality-incumbent", title="Not worse than the incumbent"),
            outcome(*groups, criterion="quality-incumbent-groups", title="No group loses"),
        ),
    )
    return held


@pytest.fixture
def card(place: Place) -> Card:
    return shown_card(place.keep(with_incumbent(small_run()))).card


def test_candidate_and_incumbent_stand_side_by_side_with_their_paired_difference(card: Card) -> None:
    both = side_by_side(card, None)
    assert both
    assert both.rival == "incumbent"
    assert both.levels
    assert both.differences
    assert [placed.mark.label for placed in both.levels.marks] == ["NDCG@10", "MAP@10", "Recall@10"]
    assert [placed.mark.figure for placed in both.levels.marks] == ["0.580 · 0.560", "0.410 · 0.440", "0.700 · 0.700"]
    assert [placed.mark.ring for placed in both.levels.marks] == [0.56, 0.44, 0.7]
    assert [placed.mark.tone for placed in both.differences.marks] == ["good", "bad", "main"]
    assert both.differences.marks[0].mark.figure == "+0.020 (+0.005 to +0.035)"
    # The policy's bound stands where the gate is, and nowhere else.
    assert [placed.mark.threshold for placed in both.differences.marks] == [-0.01, None, None]


def test_groups_are_drawn_lowest_first_with_the_policys_bound(card: Card) -> None:
    both = side_by_side(card, None)
    assert both
    assert both.groups
    assert [placed.mark.label for placed in both.groups.marks] == ["country LU", "country DE"]
    assert both.groups.band
    assert both.groups.band[0] == 0.0
    assert both.groups.reference


def test_every_metric_is_in_the_table_and_more_is_only_better_where_it_is(card: Card) -> None:
    rows = {row.name: row for row in side_by_side(card, None).rows}  # type: ignore[union-attr]
    assert rows["NDCG@10"].tone == "good"
    assert (rows["MAP@10"].rival, rows["MAP@10"].difference) == ("0.440 (0.420 to 0.460)", "−0.030 (−0.050 to −0.010)")
    assert rows["Recall@10"].mde == "0.030"


def test_a_first_release_is_held_against_the_best_simple_lists(place: Place) -> None:
    both = side_by_side(shown_card(place.keep(small_run())).card, None)
    assert both
    assert both.rival == "popularity"
    assert both.gates == ()


def test_without_quality_there_is_nothing_side_by_side_and_the_page_still_opens(place: Place) -> None:
    held = small_run()
    del held.evidence["quality"]
    run = place.keep(held)
    assert side_by_side(shown_card(run).card, None) is None
    answer = place.browser().page(run.name)
    assert answer.status == 200
    assert "Side by side" not in answer.words


def test_gates_are_held_against_those_of_the_incumbents_own_run(card: Card, place: Place) -> None:
    before = shown_card(place.keep(small_run(), seed=9)).card
    both = side_by_side(card, before)
    assert both
    told = {row.criterion: (row.answer, row.rival_answer) for row in both.gates}
    assert told["quality-incumbent"] == ("Pass", "Does not apply")
    assert told["quality-incumbent-groups"] == ("Pass", "—")
    assert told["quality-popularity"] == ("Pass", "Pass")
    assert [row.criterion for row in both.turned] == ["quality-incumbent", "quality-incumbent-groups"]
    assert both.gates[:2] == both.turned


def _grouped(place: Place) -> Run:
    held = small_run()
    users = held.evidence["fairness-users"]
    held.evidence["fairness-users"] = replace(users, estimates=(*users.estimates, *gap("country", "FR", -0.03, 40)))
    found = (
        finding(value=0.01, segment={"country": "DE"}, versus="rest", margin=-0.05, needed="at least -0.05", n_users=80),
        finding("fail", value=-0.2, segment={"country": "NL"}, versus="rest", margin=-0.05, needed="at least -0.05"),
        finding(
            "insufficient", value=-0.04, segment={"country": "LU"}, versus="rest", margin=-0.05, needed="at least -0.05",
            n_users=12, more_users=1234, message="groups: LU is unsure. See fairness-users.json.",
        ),
        finding("insufficient", value=None, subject="candidate", versus="rest", needed="at least -0.05"),
    )  # fmt: skip
    held.blocked(
        outcome(*found, criterion="groups", title="No group is served worse", evidence="fairness-users", answer="fail",
                blocks=True)
    )  # fmt: skip
    return place.keep(held)


def test_a_rule_shows_its_findings_gravest_first_drawn_against_its_bound(place: Place) -> None:
    view = criterion_view(shown_card(_grouped(place)).card, "groups")
    assert view
    assert [(row.number, row.answer, row.about) for row in view.findings] == [
        (1, "Fail", "country NL"),
        (3, "Insufficient", "candidate against rest"),
        (2, "Insufficient", "country LU"),
        (0, "Pass", "country DE"),
    ]
    assert view.findings[2].more == "about 1\N{NARROW NO-BREAK SPACE}300 more"
    assert view.drawn
    assert [placed.mark.tone for placed in view.drawn.marks] == ["bad", "main", "good"]
    assert view.drawn.band
    assert dict(view.conventions)["unit"].startswith("One row a user")


def test_a_finding_shows_the_estimate_that_it_judged_and_all_that_is_known_of_its_users(place: Place) -> None:
    view = finding_view(shown_card(_grouped(place)).card, "groups", 2)
    assert view
    facts = {fact.name: fact.text for fact in view.facts}
    assert view.traced
    assert view.message == "LU is unsure."
    assert facts["Interval"] == "−0.0600 to −0.0200"
    assert (facts["Level"], facts["Users"], facts["Requests"]) == ("0.95", "12", "300")
    assert facts["Method"] == "user bootstrap, 1000 resamples"
    assert facts["Smallest effect it would show"] == "0.03"
    assert facts["More users that would settle it"] == "about 1\N{NARROW NO-BREAK SPACE}300"
    assert view.group == "country LU"
    assert [row.name for row in view.beside] == [
        "NDCG@10, value of candidate",
        "NDCG@10, difference of candidate against rest",
        "NDCG@10, ratio of candidate against rest",
    ]
    assert [row.is_this for row in view.beside] == [False, True, False]
    assert (view.before, view.after, view.position, view.of) == (3, 0, 3, 4)


def test_a_finding_of_nothing_measured_says_so(place: Place) -> None:
    run = _grouped(place)
    browser = place.browser()
    words = browser.get(f"{browser.root}runs/{run.name}/rules/groups/3").words
    assert "The evidence holds no estimate that this finding judged" in words
    assert "More users that would settle it unknown" in words


def test_links_lead_from_the_run_to_the_rule_to_the_finding_and_back(place: Place) -> None:
    run = _grouped(place)
    browser = place.browser()
    at = f"{browser.root}runs/{run.name}"
    assert f'href="{at}/rules/groups"' in browser.page(run.name).text
    rule = browser.get(f"{at}/rules/groups").text
    assert all(f'href="{at}/rules/groups/{number}"' in rule for number in range(4))
    found = browser.get(f"{at}/rules/groups/2").text
    assert f'rel="prev" accesskey="p" href="{at}/rules/groups/3"' in found
    assert f'rel="next" accesskey="n" href="{at}/rules/groups/0"' in found
    assert f'href="{at}/rules/groups"' in found


@pytest.mark.parametrize(
    "path", ["rules/none", "rules/none/0", "rules/groups/4", "rules/groups/-1", "rules/groups/x", "rules"]
)
def test_a_rule_or_a_finding_that_is_not_there_is_not_found(place: Place, path: str) -> None:
    run = _grouped(place)
    browser = place.browser()
    assert browser.get(f"{browser.root}runs/{run.name}/{path}").status == 404


def test_a_rule_that_does_not_apply_says_why(place: Place, passed: Run) -> None:
    browser = place.browser()
    words = browser.get(f"{browser.root}runs/{passed.name}/rules/quality-incumbent").words
    assert "Does not apply" in words
    assert "A first release has no incumbent." in words


def test_a_criterion_with_odd_letters_has_a_page(place: Place) -> None:
    held = small_run()
    name = "a b?c#d%e&é"
    held.verdict = replace(held.verdict, outcomes=(*held.verdict.outcomes, outcome(finding(), criterion=name)))
    run = place.keep(held)
    browser = place.browser()
    address = f"{browser.root}runs/{run.name}/rules/{quote(name, safe='')}"
    assert f'href="{address}"' in browser.page(run.name).text
    assert browser.get(address).status == 200


def test_the_digests_that_a_decision_signs_are_told_beside_the_card(place: Place, passed: Run) -> None:
    from hashlib import sha256

    text = place.browser().page(passed.name).text
    digest = passed.artifact_digests()["card"]
    page = sha256((passed.artifact("card") / "card.html").read_bytes()).hexdigest()
    assert f"<code>{digest}</code>" in text
    assert f"<code>{page}</code>" in text
    assert f'/card/{digest}" sandbox title="Model card of {passed.name}">' in text


def test_a_signature_is_told_as_far_as_it_was_checked(place: Place, passed: Run) -> None:
    decide_release(passed, decision="approved", key=str(place.waiver_key), approver="wim@shop.example", reason="fine")
    assert "the signature holds" in place.browser().page(passed.name).words
    stranger = place.browser(place.desk("", key="", trusted=[place.public]))
    assert "not a key that this desk was told to trust" in stranger.page(passed.name).words
    own = place.browser(place.desk(key=str(place.waiver_key), name="wim@shop.example", trusted=[]))
    assert "the signature holds" in own.page(passed.name).words


@pytest.mark.parametrize("trusting", [True, False])
def test_a_decision_that_was_changed_after_signing_is_told_as_broken(place: Place, passed: Run, trusting: bool) -> None:
    import base64
    import json

    from components.artifacts.digests import canonical_json

    decide_release(passed, decision="refused", key=str(place.key), approver="rita@shop.example", reason="unfair")
    path = passed.folder / "approval" / "approval.dsse.json"
    value = json.loads(path.read_bytes())
    payload = base64.b64decode(value["payload"]).replace(b"unfair", b"fair!!")
    path.write_bytes(canonical_json({**value, "payload": base64.b64encode(payload).decode()}) + b"\n")
    browser = place.browser(place.desk(trusted=[place.public] if trusting else []))
    assert "the signature does not hold" in browser.page(passed.name).words


def test_a_decision_that_is_none_is_told_with_its_fault(place: Place, passed: Run) -> None:
    (passed.folder / "approval").mkdir()
    (passed.folder / "approval" / "approval.dsse.json").write_text("{}")
    browser = place.browser()
    answer = browser.page(passed.name)
    assert answer.status == 200
    assert "is not a DSSE envelope" in answer.words


def test_a_run_without_a_card_says_what_it_has(place: Place, passed: Run) -> None:
    (passed.folder / "steps" / "card.json").unlink()
    answer = place.browser().page(passed.name)
    assert answer.status == 409
    assert "has no card; it has" in answer.words


def _mark(value: float | None, low: float | None, high: float | None) -> Mark:
    return Mark("x", value, low, high, "")


def test_a_few_users_wide_interval_does_not_stretch_the_axis() -> None:
    usual = [_mark(0.01 * n, 0.01 * n - 0.05, 0.01 * n + 0.05) for n in range(5)]
    marks = cut([*usual, _mark(0.0, -1.0, 9.0)], keep=(-0.1,))
    assert [(mark.low, mark.high) for mark in marks[:5]] == [(mark.low, mark.high) for mark in usual]
    assert marks[5].low == pytest.approx(-0.3)
    assert marks[5].high == pytest.approx(0.24)


def test_what_has_no_interval_or_no_value_is_left_as_it_is() -> None:
    marks = [_mark(None, None, None), _mark(0.5, None, None)]
    assert cut(marks) == marks
    assert cut([]) == []
