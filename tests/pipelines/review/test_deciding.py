"""A decision from the desk: over the card that was shown, once, and by who may."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from components.errors import NotApprovedError
from pipelines.local import locked
from pipelines.releasing import decide_release, earlier_decisions, verify_release
from pipelines.review.reading import envelope_of
from pipelines.runs import Run
from pipelines.waiving import waive_criterion

from .conftest import Place


def test_what_was_approved_on_the_page_is_a_release_that_verifies(place: Place, passed: Run) -> None:
    browser = place.browser()
    answer = browser.decide(passed.name, "approved", "Better for everyone measured.")
    release = verify_release(passed, [place.public])
    assert answer.status == 303
    assert answer.headers["location"] == f"{browser.root}runs/{passed.name}?signed={release.digest}"
    assert (release.approval.approver, release.approval.reason) == (
        "rita@shop.example",
        "Better for everyone measured.",
    )
    assert release.approval.card == passed.artifact_digests()["card"]
    after = browser.get(answer.headers["location"]).words
    assert f"Signed: approved by rita@shop.example. Release {release.digest[:12]}." in after
    assert "the signature holds" in after


def test_a_refusal_keeps_its_reason_and_lets_nothing_out(place: Place, passed: Run) -> None:
    assert place.browser().decide(passed.name, "refused", "Too few users\nof LU.").status == 303
    with pytest.raises(NotApprovedError, match=r"rita@shop\.example refused it at .*: Too few users of LU\."):
        verify_release(passed, [place.public])


def test_a_question_is_signed_and_lets_nothing_out_until_somebody_decides(place: Place, passed: Run) -> None:
    browser = place.browser()
    assert browser.decide(passed.name, "asked", "Why is LU so small?").status == 303
    with pytest.raises(
        NotApprovedError, match=r"rita@shop\.example asked its submitter at .*: Why is LU so small\? Nobody"
    ):
        verify_release(passed, [place.public])
    assert "rita@shop.example asked: Why is LU so small?" in browser.get(f"{browser.root}?show=asked").words
    assert browser.decide(passed.name, "approved", "answered: it opened in May").status == 303
    assert verify_release(passed, [place.public]).approval.decision == "approved"


@pytest.mark.parametrize("decision", ["refused", "asked"])
@pytest.mark.parametrize("reason", ["", " \n "])
def test_a_refusal_and_a_question_need_words(place: Place, passed: Run, decision: str, reason: str) -> None:
    answer = place.browser().decide(passed.name, decision, reason)
    assert answer.status == 422
    assert "reason: found none" in answer.words
    assert envelope_of(passed) is None


@pytest.mark.parametrize("reason", ["a" * 2001, "bell \x07", "turned \u202e round"])
def test_words_that_nobody_can_read_are_not_signed(place: Place, passed: Run, reason: str) -> None:
    answer = place.browser().decide(passed.name, "approved", reason)
    assert (answer.status, envelope_of(passed)) == (422, None)


@pytest.mark.parametrize("decision", ["", "Approved", "revoked"])
def test_what_is_no_decision_is_not_signed(place: Place, passed: Run, decision: str) -> None:
    answer = place.browser().decide(passed.name, decision)
    assert (answer.status, envelope_of(passed)) == (422, None)
    assert "needed one of approved, refused, asked" in answer.words


def test_the_submitter_sees_no_form_and_cannot_decide_without_it(place: Place, passed: Run) -> None:
    fields = place.browser().form(passed.name)
    browser = place.browser(place.desk(" SAM@shop.example "))
    page = browser.page(passed.name)
    assert "Nobody decides on their own run" in page.words
    assert 'name="decision"' not in page.text
    answer = browser.post(
        f"{browser.root}runs/{passed.name}/decision", fields | {"decision": "approved", "reason": "mine"}
    )
    assert (answer.status, envelope_of(passed)) == (422, None)
    assert "who submitted this run; needed another person" in answer.words


def test_a_desk_without_a_key_says_so_and_signs_nothing(place: Place, passed: Run) -> None:
    fields = place.browser().form(passed.name)
    browser = place.browser(place.desk("", key=""))
    page = browser.page(passed.name)
    assert "for reading only" in page.words
    assert "rankgate review --key KEY --as YOU" in page.words
    answer = browser.post(
        f"{browser.root}runs/{passed.name}/decision", fields | {"decision": "approved", "reason": "no key"}
    )
    assert (answer.status, envelope_of(passed)) == (422, None)


def test_a_blocked_run_is_not_approved_and_the_page_says_what_blocks(place: Place, failed: Run) -> None:
    browser = place.browser()
    assert 'value="approved" required disabled' in browser.page(failed.name).text
    answer = browser.decide(failed.name, "approved", "please")
    assert (answer.status, envelope_of(failed)) == (403, None)
    assert "a blocked run cannot be approved" in answer.words
    assert ">please</textarea>" in answer.text
    assert browser.decide(failed.name, "refused", "LU is served worse").status == 303


def _waive(place: Place, run: Run) -> None:
    until = (datetime.now(UTC).date() + timedelta(days=7)).isoformat()
    waive_criterion(
        run, place.home, "region", key=str(place.waiver_key), waived_by="wim@shop.example", reason="few", until=until
    )


def test_a_blocked_run_is_approved_under_waivers_that_are_trusted(place: Place, waivable: Run) -> None:
    _waive(place, waivable)
    browser = place.browser()
    page = browser.page(waivable.name)
    assert "Blocked, waived" in page.words
    assert "under the waivers above" in page.words
    strict = place.browser(place.desk(trusted=[place.public]))
    refused = strict.decide(waivable.name, "approved")
    assert refused.status == 403
    assert "Its waivers do not lift that" in refused.words
    assert browser.decide(waivable.name, "approved").status == 303
    held = verify_release(waivable, [place.public, Path(f"{place.waiver_key}.pub")])
    assert list(held.approval.waivers) == ["region"]


def test_a_card_that_was_written_anew_while_it_was_read_is_shown_again_and_not_signed(
    place: Place, waivable: Run
) -> None:
    browser = place.browser()
    fields = browser.form(waivable.name)
    _waive(place, waivable)
    now = waivable.artifact_digests()["card"]
    assert now != fields["card"]
    answer = browser.post(
        f"{browser.root}runs/{waivable.name}/decision", fields | {"decision": "approved", "reason": "as I read it"}
    )
    assert (answer.status, envelope_of(waivable)) == (409, None)
    assert f"({fields['card'][:12]} then, {now[:12]} now)" in answer.words
    assert f'name="card" value="{now}"' in answer.text
    assert f"/card/{now}" in answer.text
    assert ">as I read it</textarea>" in answer.text


def test_a_card_that_the_form_makes_up_is_not_signed(place: Place, passed: Run, failed: Run) -> None:
    browser = place.browser()
    for card in ("0" * 64, failed.artifact_digests()["card"], ""):
        assert browser.decide(passed.name, "approved", card=card).status == 409
    assert envelope_of(passed) is None


def test_the_same_form_twice_is_one_decision(place: Place, passed: Run) -> None:
    browser = place.browser()
    fields = browser.form(passed.name) | {"decision": "approved", "reason": "once"}
    first = browser.post(f"{browser.root}runs/{passed.name}/decision", fields)
    signed = envelope_of(passed)
    again = browser.post(f"{browser.root}runs/{passed.name}/decision", fields)
    assert (again.status, again.headers["location"]) == (303, first.headers["location"])
    assert envelope_of(passed) == signed


def test_a_decision_that_another_process_took_meanwhile_is_not_overwritten(place: Place, passed: Run) -> None:
    browser = place.browser()
    fields = browser.form(passed.name) | {"decision": "approved", "reason": "late"}
    decide_release(
        passed, decision="refused", key=str(place.waiver_key), approver="wim@shop.example", reason="I was first"
    )
    first = envelope_of(passed)
    answer = browser.post(f"{browser.root}runs/{passed.name}/decision", fields)
    assert (answer.status, envelope_of(passed)) == (409, first)
    assert "somebody decided while you read" in answer.words
    assert "I was first" in answer.words
    assert browser.decide(passed.name, "approved", "all the same").status == 303
    assert verify_release(passed, [place.public]).approval.reason == "all the same"


def test_a_decision_that_cannot_be_read_can_be_replaced(place: Place, passed: Run) -> None:
    (passed.folder / "approval").mkdir()
    (passed.folder / "approval" / "approval.dsse.json").write_text("{}")
    assert place.browser().decide(passed.name, "approved").status == 303
    assert verify_release(passed, [place.public]).approval.decision == "approved"


def test_two_forms_at_the_same_time_make_one_decision(place: Place, passed: Run) -> None:
    """Whichever comes first is signed; the other is told that somebody decided."""
    browsers = [place.browser(), place.browser(place.desk("wim@shop.example", key=str(place.waiver_key)))]
    forms = [
        browser.form(passed.name) | {"decision": "approved", "reason": f"by {number}"}
        for number, browser in enumerate(browsers)
    ]
    with ThreadPoolExecutor(2) as pool:
        answers = list(
            pool.map(
                lambda pair: pair[0].post(f"{pair[0].root}runs/{passed.name}/decision", pair[1]),
                zip(browsers, forms, strict=True),
            )
        )
    assert sorted(answer.status for answer in answers) == [303, 409]
    first = next(number for number, answer in enumerate(answers) if answer.status == 303)
    held = verify_release(passed, [place.public, Path(f"{place.waiver_key}.pub")])
    assert held.approval.reason == f"by {first}"


def test_a_run_that_another_process_holds_is_not_decided_on(
    place: Place, passed: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.local._LOCK_PATIENCE_SECONDS", 0.0)
    browser = place.browser()
    with locked(passed):
        answer = browser.decide(passed.name, "approved")
    assert (answer.status, envelope_of(passed)) == (422, None)
    assert "another process is working on it" in answer.words


def test_a_waiver_that_has_expired_is_told_as_expired_and_lifts_nothing(
    place: Place, waivable: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    _waive(place, waivable)
    later = datetime.now(UTC) + timedelta(days=30)

    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # noqa: ARG003
            return later

    monkeypatch.setattr("pipelines.waiving.datetime", Later)
    monkeypatch.setattr("pipelines.releasing.datetime", Later)
    browser = place.browser()
    assert "Expired at the end of" in browser.page(waivable.name).words
    answer = browser.decide(waivable.name, "approved")
    assert (answer.status, envelope_of(waivable)) == (403, None)
    assert "had expired when it should be approved" in answer.words


def test_a_decision_that_another_took_the_place_of_is_kept_and_told(place: Place, passed: Run) -> None:
    browser = place.browser()
    for decision, reason in (("asked", "Why is LU so small?"), ("refused", "No answer."), ("approved", "Answered.")):
        assert browser.decide(passed.name, decision, reason).status == 303
    assert verify_release(passed, [place.public]).approval.reason == "Answered."
    words = browser.page(passed.name).words
    told = words[words.index("What has been decided on this run?") :]
    assert "2 earlier decisions, the last one first" in told
    assert told.index("Answered.") < told.index("No answer.") < told.index("Why is LU so small?")
    assert told.count("the signature holds") == 3


def test_what_fails_to_be_signed_leaves_what_was_decided(place: Place, failed: Run) -> None:
    browser = place.browser()
    browser.decide(failed.name, "refused", "LU is served worse")
    before = envelope_of(failed)
    assert browser.decide(failed.name, "approved", "please").status == 403
    assert envelope_of(failed) == before
    assert earlier_decisions(failed) == []
