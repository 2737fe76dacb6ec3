"""Who is answered: the reviewer's own browser. What is answered: nothing that could run, or be framed, or tell more."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.approval.keys import new_key
from pipelines.review.reading import envelope_of
from pipelines.review.security import CARD_POLICY, PAGE_POLICY, Secrets
from pipelines.runs import Home, Run

from .conftest import ORIGIN, PORT, Browser, Place, failed_run

MARKUP = '<img src=x onerror="alert(1)">\'"&{{7777*7}}'


@pytest.fixture
def browser(place: Place, passed: Run) -> Browser:
    return place.browser()


def test_the_printed_address_lets_in_once_and_hides_its_token(place: Place, browser: Browser) -> None:
    browser.cookie = ""
    answer = browser.get(f"{browser.root}?token={place.secrets.token}")
    assert (answer.status, answer.headers["location"]) == (303, browser.root)
    cookie = answer.headers["set-cookie"]
    assert re.fullmatch(rf"rankgate-review=[\w-]{{43}}; Path={browser.root}; HttpOnly; SameSite=Strict", cookie)
    assert place.secrets.token not in cookie


def test_a_token_in_the_address_of_who_is_in_already_is_hidden_too(place: Place, browser: Browser) -> None:
    assert browser.get(f"{browser.root}?token={place.secrets.token}").status == 303


@pytest.mark.parametrize("token", ["", "x", "token", "é"])
def test_another_token_lets_nobody_in(browser: Browser, token: str) -> None:
    browser.cookie = ""
    answer = browser.get(f"{browser.root}?token={quote(token)}")
    assert answer.status == 403
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "cookie", ["", "rankgate-review=", "rankgate-review=x", "other=1; rankgate-review=y", "\x00;;="]
)
@pytest.mark.parametrize(
    "path", ["", "?show=all", "runs/{run}", "runs/{run}/card/{card}", "static/style.css", "nowhere"]
)
def test_nothing_is_answered_without_the_cookie(passed: Run, browser: Browser, path: str, cookie: str) -> None:
    browser.cookie = cookie
    path = path.format(run=passed.name, card=passed.artifact_digests()["card"])
    answer = browser.get(f"{browser.root}{path}")
    assert answer.status == 403
    assert passed.name not in answer.text
    assert answer.text == "Open the address that `rankgate review` has printed in its terminal.\n"


def test_our_cookie_is_found_among_those_of_other_servers(browser: Browser) -> None:
    browser.cookie = f'odd=[}}"; csrf={{;a b; {browser.cookie}; z'
    assert browser.get(browser.root).status == 200


def test_the_cookie_of_another_start_is_worth_nothing(place: Place, browser: Browser) -> None:
    other = replace(place, secrets=Secrets.new())
    assert other.browser().get(other.browser().root).status == 200
    browser.cookie = other.browser().cookie
    assert browser.get(browser.root).status == 403


@pytest.mark.parametrize("path", ["/", "/runs", "/static/style.css", "/favicon.ico", "//", "/.."])
def test_outside_of_the_random_folder_there_is_nothing(browser: Browser, path: str) -> None:
    answer = browser.get(path)
    assert answer.status == 403
    assert browser.root not in answer.text


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        f"evil.example:{PORT}",
        "127.0.0.1",
        f"127.0.0.1:{PORT + 1}",
        f"127.0.0.1.evil.example:{PORT}",
        "",
    ],
)
def test_a_name_that_is_not_ours_is_not_answered(browser: Browser, host: str) -> None:
    answer = browser.get(browser.root, host=host)
    assert answer.status == 421
    assert "rankgate" not in answer.text


def test_localhost_is_ours(browser: Browser) -> None:
    assert browser.get(browser.root, host=f"localhost:{PORT}").status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": ""},
        {"origin": "null"},
        {"origin": "https://evil.example"},
        {"origin": f"http://127.0.0.1:{PORT + 1}"},
        {"origin": f"https://127.0.0.1:{PORT}"},
        {"origin": f"http://localhost:{PORT}"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "none"},
    ],
)
def test_a_decision_from_another_page_is_not_taken(browser: Browser, passed: Run, headers: dict[str, str]) -> None:
    fields = browser.form(passed.name) | {"decision": "approved", "reason": "forged"}
    answer = browser.post(f"{browser.root}runs/{passed.name}/decision", fields, **headers)
    assert (answer.status, envelope_of(passed)) == (403, None)
    assert answer.text == "A decision is only taken from the desk's own page.\n"


def test_a_decision_from_our_own_page_says_so_and_is_taken(browser: Browser, passed: Run) -> None:
    fields = browser.form(passed.name) | {"decision": "approved", "reason": "mine"}
    told = {"origin": ORIGIN, "sec_fetch_site": "same-origin"}
    assert browser.post(f"{browser.root}runs/{passed.name}/decision", fields, **told).status == 303


@pytest.mark.parametrize("name", ["code", "page"])
@pytest.mark.parametrize("value", ["", "0" * 64, "é"])
def test_a_form_without_our_code_is_not_taken(browser: Browser, passed: Run, name: str, value: str) -> None:
    answer = browser.decide(passed.name, "approved", **{name: value})
    assert (answer.status, envelope_of(passed)) == (403, None)
    assert "not from a page of this desk about this run" in answer.words


def test_the_code_of_one_run_is_none_for_another(place: Place, browser: Browser, passed: Run, failed: Run) -> None:
    fields = browser.form(failed.name) | {"decision": "approved", "reason": "swapped"}
    answer = browser.post(f"{browser.root}runs/{passed.name}/decision", fields)
    assert (answer.status, envelope_of(passed), envelope_of(failed)) == (403, None, None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"decision=approved",
        b"a=%ff&" * 40,
        b"x" * 40_000,
        b"&".join(b"f%d=1" % number for number in range(200)),
    ],
)
def test_a_body_that_is_no_form_is_not_taken(browser: Browser, passed: Run, body: bytes) -> None:
    answer = browser.post(f"{browser.root}runs/{passed.name}/decision", body)
    assert (answer.status, envelope_of(passed)) == (403, None)


def test_a_field_that_is_given_twice_is_not_believed(browser: Browser, passed: Run) -> None:
    fields = [*browser.form(passed.name).items(), ("decision", "refused"), ("decision", "approved"), ("reason", "two")]
    answer = browser.post(f"{browser.root}runs/{passed.name}/decision", urlencode(fields).encode())
    assert (answer.status, envelope_of(passed)) == (422, None)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "POST"])
def test_pages_only_answer_reading(browser: Browser, passed: Run, method: str) -> None:
    answer = browser.ask(method, f"{browser.root}runs/{passed.name}", headers={"origin": ORIGIN})
    assert answer.status == 405


def test_a_decision_is_never_read(browser: Browser, passed: Run) -> None:
    assert browser.get(f"{browser.root}runs/{passed.name}/decision").status == 405


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "%2e%2e",
        "..%2f..%2fetc",
        "%2e%2e%2f",
        "small-shop",
        "latest",
        "nothing-0123456789",
        "a%00b",
        "%0a",
        "C:%5c",
    ],
)
@pytest.mark.parametrize("rest", ["", "/rules/region", "/rules/region/0"])
def test_a_name_that_is_no_run_leads_nowhere(browser: Browser, name: str, rest: str) -> None:
    answer = browser.get(f"{browser.root}runs/{name}{rest}")
    assert answer.status == 404
    assert "There is no such page" in answer.words


@pytest.mark.parametrize("name", ["../x", "style.css.j2", "..%2fbase.html.j2", "review.css", "%2fetc%2fpasswd"])
def test_only_named_files_are_served(browser: Browser, name: str) -> None:
    assert browser.get(f"{browser.root}static/{name}").status == 404


def test_a_card_is_served_byte_for_byte_and_cannot_do_anything(browser: Browser, passed: Run) -> None:
    digest = passed.artifact_digests()["card"]
    answer = browser.get(f"{browser.root}runs/{passed.name}/card/{digest}")
    assert answer.body == (passed.artifact("card") / "card.html").read_bytes()
    assert answer.headers["content-security-policy"] == CARD_POLICY
    assert CARD_POLICY.startswith("sandbox; default-src 'none'")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


def test_a_card_of_another_run_is_not_served_as_this_ones(browser: Browser, passed: Run, failed: Run) -> None:
    other = failed.artifact_digests()
    for digest in (other["card"], other["verdict"], passed.artifact_digests()["ranker"], "0" * 64, "..", "%2e%2e%2f"):
        assert browser.get(f"{browser.root}runs/{passed.name}/card/{digest}").status == 404


def test_a_card_whose_bytes_have_changed_is_not_shown(browser: Browser, passed: Run) -> None:
    page = passed.artifact("card") / "card.html"
    page.chmod(0o644)
    page.write_bytes(page.read_bytes().replace(b"Passed", b"passed"))
    for path in ("", f"/card/{passed.artifact_digests()['card']}"):
        answer = browser.get(f"{browser.root}runs/{passed.name}{path}")
        assert answer.status == 409
        assert "its files now have digest" in answer.words


def test_every_answer_bears_the_protecting_headers(browser: Browser, passed: Run) -> None:
    paths = ["", "static/style.css", f"runs/{passed.name}", f"runs/{passed.name}/rules/fairness-users", "nowhere"]
    answers = [browser.get(f"{browser.root}{path}") for path in paths]
    answers += [browser.get("/"), browser.get(browser.root, host="evil.example")]
    for answer in answers:
        assert answer.headers["content-security-policy"] == PAGE_POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "set-cookie" not in answer.headers
        # A style sheet tells nothing of any run.
        kept = answer.headers["content-type"].startswith("text/css")
        assert answer.headers["cache-control"] == ("private, max-age=300" if kept else "no-store")


def test_no_page_holds_a_script_a_style_of_its_own_or_a_foreign_address(
    browser: Browser, passed: Run, failed: Run
) -> None:
    pages = [
        browser.root,
        f"{browser.root}runs/{passed.name}",
        f"{browser.root}runs/{failed.name}",
        f"{browser.root}runs/{failed.name}/rules/region",
        f"{browser.root}runs/{failed.name}/rules/region/0",
        f"{browser.root}nowhere",
    ]
    for page in pages:
        text = browser.get(page).text
        assert not re.search(r"<script|<style|\sstyle=|\son\w+=|javascript:|<base|<object|<embed", text, re.IGNORECASE)
        addresses = re.findall(r'(?:href|src|action)="([^"]*)"', text)
        assert all(address.startswith((browser.root, "#")) for address in addresses)
        assert "://" not in text
    assert "://" not in browser.get(f"{browser.root}static/style.css").text


def test_markup_in_names_reasons_groups_and_messages_is_shown_as_it_is_written(place: Place) -> None:
    held = failed_run()
    held.evidence.pop("fairness-users")
    *others, wrong = held.verdict.outcomes
    finding = replace(wrong.findings[0], segment={MARKUP: MARKUP}, message=f"region: {MARKUP}", excused="")
    bad = replace(wrong, title=MARKUP, why=MARKUP, findings=(finding,), criterion=MARKUP)
    held.verdict = replace(held.verdict, outcomes=(*others, bad), summary=f"Blocked: {MARKUP}")
    run = place.keep(held, submitter=MARKUP)
    desk = place.desk(f"rita {MARKUP}")
    browser = place.browser(desk)
    assert browser.decide(run.name, "refused", f"because {MARKUP}").status == 303
    pages = [
        browser.get(f"{browser.root}?show=all&words={quote('<img onerror=1>')}"),
        browser.get(f"{browser.root}?show=all"),
    ]
    pages.append(browser.page(run.name))
    rule = f"{browser.root}runs/{run.name}/rules/{quote(MARKUP, safe='')}"
    pages += [browser.get(rule), browser.get(f"{rule}/0")]
    assert [page.status for page in pages] == [200] * 5
    for page in pages:
        assert "<img" not in page.text
        assert "54439" not in page.words
    shown = pages[1].words + pages[2].words + pages[3].words + pages[4].words
    assert shown.count('<img src=x onerror="alert(1)">\'"&{{7777*7}}') > 8
    assert f"because {MARKUP}" in pages[1].words


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory, kept: dict[str, tuple[Path, str]]) -> tuple[Browser, Run]:
    """A desk for thousands of questions, and its one run."""
    work = tmp_path_factory.mktemp("fuzzed")
    shutil.copytree(kept["failed"][0], work / "home")
    place = Place(Home(work / "home"), work)
    new_key(place.key)
    return place.browser(place.desk(trusted=[])), place.home.run_at(kept["failed"][1])


_PARTS = st.sampled_from(
    [
        "runs",
        "{run}",
        "card",
        "{card}",
        "rules",
        "region",
        "0",
        "1",
        "decision",
        "static",
        "style.css",
        "..",
        "%2e%2e",
        "%2f",
        "",
    ]
) | st.text(max_size=12).map(quote)
_QUERIES = st.text(max_size=30).map(quote) | st.dictionaries(
    st.sampled_from(["show", "words", "page", "signed", "token"]), st.text(max_size=12), max_size=3
).map(urlencode)
_BODIES = st.binary(max_size=60) | st.dictionaries(
    st.sampled_from(["page", "code", "card", "seen", "decision", "reason", "x"]), st.text(max_size=30), max_size=7
).map(lambda fields: urlencode(fields).encode("utf-8", "surrogatepass"))


@settings(max_examples=300, deadline=None)
@given(
    method=st.sampled_from(["GET", "POST", "HEAD", "PUT", "get", "TRACE"]),
    parts=st.lists(_PARTS, max_size=6),
    query=_QUERIES,
    body=_BODIES,
    origin=st.sampled_from([ORIGIN, "", "null"]),
)
def test_whatever_is_asked_gets_an_answer_and_signs_nothing(
    fuzzed: tuple[Browser, Run], method: str, parts: list[str], query: str, body: bytes, origin: str
) -> None:
    browser, run = fuzzed
    path = "/".join(parts).replace("{run}", run.name).replace("{card}", run.artifact_digests()["card"])
    answer = browser.ask(method, f"{browser.root}{path}?{query}", body=body, headers={"origin": origin})
    assert answer.status in (200, 303, 403, 404, 405)
    assert answer.headers["content-security-policy"] in (PAGE_POLICY, CARD_POLICY)
    assert envelope_of(run) is None
