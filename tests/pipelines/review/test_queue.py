"""The queue: what waits first, who decided, what needs reading, and one broken run that hides no other."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import run as start

import pytest

from components.artifacts import documents
from components.verdict.contract import Verdict
from pipelines.releasing import decide_release
from pipelines.review.views import Views
from pipelines.review.waiting import PAGE_LENGTH, age, chosen, counts, lines, outline
from pipelines.runs import Run, RunResult
from pipelines.waiving import waive_criterion

from ...components.card.conftest import finding, outcome, small_run
from .conftest import ASKED, Place, waivable_run


def _decide(place: Place, run: Run, decision: str, reason: str = "as I said") -> None:
    decide_release(run, decision=decision, key=str(place.key), approver="rita@shop.example", reason=reason)


def _waive(place: Place, run: Run) -> None:
    until = (datetime.now(UTC).date() + timedelta(days=7)).isoformat()
    waive_criterion(
        run, place.home, "region", key=str(place.waiver_key), waived_by="wim@shop.example", reason="few", until=until
    )


def _places(place: Place) -> dict[str, str]:
    return {line.run.name: line.place for line in lines(place.home)}


def test_runs_are_listed_newest_first_with_the_place_they_are_in(
    place: Place, passed: Run, waivable: Run, failed: Run
) -> None:
    assert list(_places(place).items()) == [
        (failed.name, "blocked"),
        (waivable.name, "blocked"),
        (passed.name, "waiting"),
    ]
    _decide(place, passed, "approved")
    _decide(place, failed, "refused", "LU is served worse")
    assert _places(place) == {failed.name: "decided", waivable.name: "blocked", passed.name: "decided"}
    assert counts(lines(place.home)) == {"waiting": 0, "asked": 0, "blocked": 1, "decided": 2, "other": 0}


def test_a_run_whose_blocking_rules_are_all_waived_waits_for_a_decision(place: Place, waivable: Run) -> None:
    _waive(place, waivable)
    (line,) = lines(place.home)
    assert (line.place, line.words, line.left) == ("waiting", "waived", ())
    held = outline(line)
    assert held
    assert ("insufficient", "waived", 1) in held.tally


def test_a_decision_on_an_earlier_card_leaves_the_run_waiting_and_says_so(place: Place, waivable: Run) -> None:
    _decide(place, waivable, "refused", "nobody signed for it")
    assert _places(place) == {waivable.name: "decided"}
    _waive(place, waivable)
    (line,) = lines(place.home)
    assert (line.place, line.outdated) == ("waiting", True)
    browser = place.browser()
    assert "An earlier card was refused by rita@shop.example" in browser.get(browser.root).words
    assert "Over an earlier card" in browser.page(waivable.name).words


def test_what_stops_the_release_is_named_before_what_is_only_unsure(place: Place) -> None:
    held = waivable_run()
    noted = [
        outcome(
            finding("insufficient"), criterion=f"noted-{n}", title=f"Noted {n}", answer="insufficient", blocking=False
        )
        for n in range(4)
    ]
    held.verdict = replace(held.verdict, outcomes=(*noted, *held.verdict.outcomes))
    place.keep(held)
    (line,) = lines(place.home)
    told = outline(line)
    assert told
    assert told.first == ("Served alike at home and abroad", "Noted 0", "Noted 1")
    assert told.further == 2


def test_a_list_reads_no_finding_of_what_stops_nothing(place: Place, passed: Run) -> None:
    from pipelines.review.waiting import _verdict

    digest = passed.artifact_digests()["verdict"]
    whole = documents.load(Verdict, passed.artifact("verdict") / "verdict.json")
    short = _verdict(place.home.store, digest)
    assert [o.criterion for o in short.outcomes] == [o.criterion for o in whole.outcomes]
    assert all(not o.findings for o in short.outcomes)
    assert any(o.findings for o in whole.outcomes)


@pytest.mark.parametrize("broken", ["request.json", "result.json", "rewritten.json", "approval/approval.dsse.json"])
def test_a_run_that_cannot_be_read_hides_no_other(place: Place, passed: Run, failed: Run, broken: str) -> None:
    path = failed.folder / broken
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"nothing": 1}')
    found = {line.run.name: line for line in lines(place.home)}
    assert (found[failed.name].place, found[failed.name].state) == ("other", "unreadable")
    assert found[passed.name].place == "waiting"
    browser = place.browser()
    assert "rankgate show says why" in browser.get(f"{browser.root}?show=all").words


def test_an_unfinished_and_a_failed_run_are_listed_without_a_link(place: Place, passed: Run, failed: Run) -> None:
    (passed.folder / "result.json").unlink()
    result = documents.load(RunResult, failed.folder / "result.json")
    documents.save(replace(result, state="failed", artifacts={}), failed.folder / "result.json")
    assert _places(place) == {passed.name: "other", failed.name: "other"}
    browser = place.browser()
    text = browser.get(f"{browser.root}?show=other").text
    assert f"<h2>{failed.name}</h2>" in text
    assert f"<h2>{passed.name}</h2>" in text


def test_words_choose_by_run_submitter_state_and_approver(place: Place, passed: Run, failed: Run) -> None:
    other = place.keep(small_run(), seed=7, submitter="Bo@shop.example")
    _decide(place, failed, "refused", "no")
    found = lines(place.home)

    def names(words: str, show: str = "all") -> set[str]:
        return {line.run.name for line in chosen(found, place=show, words=words)}

    assert names("bo@") == {other.name}
    assert names(f"  {passed.name[:12].upper()} ") >= {passed.name}
    assert names("rita refused") == {failed.name}
    assert names("rita approved") == set()
    assert names("shop", "waiting") == {passed.name, other.name}
    browser = place.browser()
    answer = browser.get(f"{browser.root}?show=waiting&words=bo%40")
    assert other.name in answer.text
    assert passed.name not in answer.text
    assert "No run here fits “zebra”." in browser.get(f"{browser.root}?show=all&words=zebra").words


def test_who_opens_the_queue_sees_what_waits_or_else_everything(place: Place, passed: Run, failed: Run) -> None:
    browser = place.browser()
    assert failed.name not in browser.get(browser.root).text
    _decide(place, passed, "approved")
    text = browser.get(browser.root).text
    assert failed.name in text
    assert passed.name in text


@pytest.mark.parametrize(
    "query", ["show=nowhere", "page=0", "page=-1", "page=x", "page=99999999", "page=²", "show=&page="]
)
def test_a_query_that_means_nothing_shows_the_first_page(place: Place, passed: Run, query: str) -> None:
    browser = place.browser()
    answer = browser.get(f"{browser.root}?{query}")
    assert answer.status == 200
    assert passed.name in answer.text


def test_long_queues_have_pages(place: Place, passed: Run) -> None:
    request, result = passed.request, passed.result
    assert result
    for seed in range(100, 100 + PAGE_LENGTH):
        asked = replace(request, seed=seed, asked_at=(ASKED + timedelta(hours=seed)).isoformat())
        run = place.home.run_at(asked.run)
        documents.save(asked, run.folder / "request.json")
        documents.save(replace(result, run=run.name), run.folder / "result.json")
    browser = place.browser()
    first, second = browser.get(browser.root), browser.get(f"{browser.root}?show=waiting&words=&page=2")
    assert first.text.count("<h2>") == PAGE_LENGTH
    assert "Page 1 of 2, 26 runs" in first.words
    assert (second.text.count("<h2>"), passed.name in second.text) == (1, True)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "just now"), (59, "just now"), (60, "1 minute ago"), (3599, "59 minutes ago"), (3600, "1 hour ago"),
        (86_400, "1 day ago"), (86_400 * 29, "29 days ago"), (86_400 * 61, "2 months ago"), (86_400 * 800, "2 years ago"),
        (-5, "just now"),
    ],
)  # fmt: skip
def test_an_age_is_told_in_its_largest_unit(seconds: int, words: str) -> None:
    assert age(ASKED.isoformat(), ASKED + timedelta(seconds=seconds)) == words


def test_a_time_that_is_none_is_told_as_it_is() -> None:
    assert age("yesterday", ASKED) == "yesterday"


def test_two_hundred_runs_are_listed_in_less_than_a_moment(place: Place, passed: Run) -> None:
    request, result = passed.request, passed.result
    assert result
    for seed in range(1, 200):
        asked = replace(request, seed=1000 + seed)
        run = place.home.run_at(asked.run)
        documents.save(asked, run.folder / "request.json")
        documents.save(replace(result, run=run.name), run.folder / "result.json")
    views = Views(place.desk(), place.secrets)
    views.queue({"show": "all"})
    began = time.process_time()
    shown = views.queue({"show": "all"})
    # 0.04 s of CPU on two slow cores; the bound leaves room for a busy machine.
    assert time.process_time() - began < 0.3
    assert shown["of"] == 200


def test_the_desk_needs_no_heavy_library(repository: Path) -> None:
    heavy = ("pandas", "numpy", "pyarrow", "scipy", "sklearn", "xgboost", "kfp", "bentoml", "duckdb", "uvicorn")
    code = f"import sys, pipelines.review.application; print([name for name in {heavy!r} if name in sys.modules])"
    done = start([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
