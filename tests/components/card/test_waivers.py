"""A waiver on the card: near the top, with who answers for it, and the rule's answer as it was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from components.artifacts import documents
from components.card.contract import Card, Waived
from components.verdict.contract import Outcome

from .conftest import Run, Written, finding, outcome

Write = Callable[[Run], Written]


def unsure(criterion: str = "region", title: str = "Served alike at home and abroad", **given: object) -> Outcome:
    """A rule that blocks because it could not be settled, and that the policy lets be waived."""
    found = finding(
        "insufficient", -0.01, message=f"{criterion}: neither shown nor ruled out for {criterion}.", waivable=True
    )
    about = {
        "criterion": criterion,
        "title": title,
        "answer": "insufficient",
        "blocks": True,
        "on_insufficient": "waive",
    }
    return outcome(found, **(about | given))  # type: ignore[arg-type]


def word_for(criterion: str = "region", **given: str) -> Waived:
    told = {
        "criterion": criterion,
        "waived_by": "wim@shop.example",
        "reason": "Few customers abroad; <b>the canary</b> watches *them*.",
        "waived_at": "2026-05-11T09:30:00+00:00",
        "until": "2026-06-30",
        "digest": "ab" * 32,
        "key_id": "cd" * 32,
    }
    return Waived(**(told | given))


@pytest.fixture
def waived(run: Run) -> Run:
    """A run that one rule blocks, and its waiver."""
    run.blocked(unsure())
    run.waivers = (word_for(),)
    return run


def test_a_waiver_stands_before_the_rules_with_who_why_and_until_when(waived: Run, write: Write) -> None:
    written = write(waived)
    html = written.html
    assert html.index('id="waivers"') < html.index('id="verdict"')
    for text in (html, written.markdown):
        for said in ("wim@shop.example", "11 May 2026, 09:30 UTC", "30 June 2026", "abababababab", "cdcdcdcdcdcd"):
            assert said in text
    assert "&lt;b&gt;the canary&lt;/b&gt; watches *them*" in html
    assert r"\<b\>the canary\</b\> watches \*them\*" in written.markdown


def test_a_waived_run_is_called_blocked_and_waived_and_its_rule_keeps_its_answer(waived: Run, write: Write) -> None:
    written = write(waived)
    assert "<title>Blocked, waived: small-shop" in written.html
    assert '<div class="verdict waived"><p class="word">Blocked, waived</p>' in written.html
    assert (
        "Waived, not passed: “Served alike at home and abroad” until 30 June 2026, by wim@shop.example." in written.html
    )
    assert "Neither shown nor ruled out for region." in written.html
    assert "| Insufficient (waived until 30 June 2026) | Served alike at home and abroad |" in written.markdown
    assert "**Blocked, waived.** Blocked by 1 of 3 blocking criteria" in written.markdown
    assert '<span class="answer pass">' not in written.html.split('id="waivers"')[1].split('id="verdict"')[0]
    assert written.card.verdict == waived.verdict


def test_a_waived_run_can_be_decided_on_and_the_command_asks_for_trusted_keys(waived: Run, write: Write) -> None:
    written = write(waived)
    for text in (written.html, written.markdown):
        assert "Awaiting a reviewer, under 1 waiver" in text
        assert 'rankgate approve small-shop-0123456789 --key KEY --as YOU --reason "..." --trust KEYS\n' in text
        assert "A blocked run cannot be approved" not in text


def test_what_is_not_waived_still_stops_and_stands_first(run: Run, write: Write) -> None:
    firm = outcome(finding("fail", -0.3), criterion="firm", title="Firm rule", answer="fail", blocks=True)
    run.blocked(unsure(), unsure("other", "Another question"), firm)
    run.waivers = (word_for(),)
    written = write(run)
    table = written.html.split('id="verdict"')[1]
    order = [
        table.index(f">{title} ") for title in ("Another question", "Firm rule", "Served alike at home and abroad")
    ]
    assert order == sorted(order)
    assert '<div class="verdict partly"><p class="word">Blocked, partly waived</p>' in written.html
    assert "Still stopping the release: “Another question” and “Firm rule”." in written.html
    assert "None can be taken: 2 rules still block" in written.markdown
    assert "rankgate waive small-shop-0123456789 other --reason" in written.html
    assert "waive small-shop-0123456789 firm" not in written.html
    assert "waive small-shop-0123456789 region" not in written.html
    assert "rankgate approve" not in written.html


def test_a_blocked_card_says_what_may_be_waived(run: Run, write: Write) -> None:
    run.blocked(unsure())
    written = write(run)
    assert "stops the release unless waived" in written.html
    assert "rankgate waive small-shop-0123456789 region --reason" in written.html
    assert "Waivers may be signed for: region." in written.markdown
    assert 'id="waivers"' not in written.html


def test_a_waiver_of_a_rule_that_may_not_be_waived_changes_nothing_on_the_page(run: Run, write: Write) -> None:
    run.blocked(unsure(on_insufficient="block"))
    run.waivers = (word_for(), word_for("of-another-policy"))
    written = write(run)
    assert '<p class="word">Blocked</p>' in written.html
    assert "wim@shop.example" not in written.html + written.markdown


def test_the_json_holds_the_waivers_and_an_older_card_without_them_still_reads(waived: Run, write: Write) -> None:
    written = write(waived)
    path = written.folder / "card.json"
    assert documents.load(Card, path).waivers == waived.waivers
    old = documents.as_json(replace(written.card, waivers=()))
    del old["waivers"]
    path.write_bytes(documents.canonical_json(old))
    assert documents.load(Card, path).waivers == ()
