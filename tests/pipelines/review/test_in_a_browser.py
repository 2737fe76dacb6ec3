"""The desk in a real browser: by keyboard from the queue to a signed approval, in light, dark and narrow, alone."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest

from components.approval.keys import new_key
from pipelines.releasing import decide_release
from pipelines.runs import Home
from pipelines.waiving import waive_criterion

from ...components.card.conftest import gap, small_run
from ...components.card.test_page import CHROMIUM, CONTRASTS, FLAGS
from .conftest import Place, failed_run, waivable_run

playwright = pytest.importorskip("playwright.sync_api")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}"),
]

PAGES = (
    "?show=all",
    "runs/{passed}",
    "runs/{failed}",
    "runs/{waivable}",
    "runs/{waived}",
    "runs/{failed}/rules/region",
    "runs/{failed}/rules/region/0",
    "nowhere",
)
ENDLESS = "a_name_that_never_ends_" * 6


@dataclass(frozen=True)
class Started:
    """A desk that `rankgate review` serves, and the runs at it."""

    place: Place
    address: str
    runs: dict[str, str]

    def open(self, browser: Any, **how: Any) -> Any:
        """A page of a new browser that has been let in; what it complains of and asks for is kept on it."""
        page = browser.new_context(**how).new_page()
        page.complaints, page.asked = [], []
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(self.address)
        page.root = page.url
        return page

    def path(self, page: str) -> str:
        return page.format(**self.runs)


def _command(place: Place, *words: str) -> list[str]:
    return [sys.executable, "-m", "pipelines.cli.main", "--home", str(place.home.root), *words]


def _waived(place: Place) -> str:
    """A run that was refused, waived, asked about and refused again: all that a page may hold."""
    run = place.keep(waivable_run(), seed=4)

    def decide(decision: str, reason: str) -> None:
        decide_release(run, decision=decision, key=str(place.key), approver="rita@shop.example", reason=reason)

    decide("refused", "Nobody signed for it.")
    until = (datetime.now(UTC).date() + timedelta(days=7)).isoformat()
    waive_criterion(
        run,
        place.home,
        "region",
        key=str(place.waiver_key),
        waived_by=f"{ENDLESS}@shop.example",
        reason=ENDLESS,
        until=until,
    )
    decide("asked", ENDLESS)
    decide("refused", f"{ENDLESS} {ENDLESS}")
    return run.name


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    work = tmp_path_factory.mktemp("desk")
    (work / "documents").mkdir()
    place = Place(Home(work / "home"), work)
    new_key(place.key)
    new_key(place.waiver_key)
    wide = failed_run()
    held = wide.evidence["fairness-users"]
    wide.evidence["fairness-users"] = replace(
        held, estimates=(*held.estimates, *(e for n in range(20) for e in gap("city", f"{ENDLESS}{n}", -0.01 * n, 40)))
    )
    *others, wrong = wide.verdict.outcomes
    far = replace(wrong.findings[0], segment={"city": f"{ENDLESS}1"}, value=-0.01, low=-0.03, high=0.01)
    wide.verdict = replace(wide.verdict, outcomes=(*others, replace(wrong, findings=(far, *wrong.findings))))
    runs = {
        "passed": place.keep(small_run()).name,
        "waivable": place.keep(waivable_run(), seed=1).name,
        "failed": place.keep(wide, seed=2, submitter=f"{ENDLESS}@shop.example").name,
        "decided": place.keep(small_run(), seed=3).name,
        "waived": _waived(place),
    }
    words = ["review", "--key", str(place.key), "--as", "rita@shop.example", "--trust", str(place.public)]
    process = subprocess.Popen(
        _command(place, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=work,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert process.stdout
    assert process.stderr
    address = process.stdout.readline().strip()
    yield Started(place, address, runs)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "")
    assert err == "Decisions are signed as rita@shop.example. Stop with Ctrl-C.\n"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as opened:
        held = opened.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        yield held
        held.close()


def _focused(page: Any) -> str:
    text: str = page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()")
    return text


def _tab_to(page: Any, wanted: str, *, most: int = 60) -> None:
    for _ in range(most):
        page.keyboard.press("Tab")
        if _focused(page) == wanted:
            return
    raise AssertionError(f"{most} times Tab do not lead to {wanted!r}")


def test_by_keyboard_alone_from_the_queue_to_an_approval_that_verifies(started: Started, browser: Any) -> None:
    page = started.open(browser, java_script_enabled=False)
    assert "token" not in page.url
    page.keyboard.press("Tab")
    assert _focused(page) == "Go to the content"
    _tab_to(page, started.runs["passed"])
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/runs/{started.runs['passed']}")
    assert page.frames[1].title().startswith("Passed: small-shop, model card of")
    _tab_to(page, "Decide")
    page.keyboard.press("Enter")
    _tab_to(page, "approved", most=8)
    page.keyboard.press("Space")
    _tab_to(page, "reason", most=3)
    page.keyboard.type("Better for everyone who was measured.")
    page.keyboard.press("Tab")
    assert _focused(page) == "Sign as rita@shop.example"
    page.keyboard.press("Enter")
    page.wait_for_url("**signed=**")
    assert "Signed: approved by rita@shop.example" in page.locator("[role=status]").inner_text()
    page.context.close()
    verified = subprocess.run(
        _command(started.place, "verify", started.runs["passed"], "--trust", str(started.place.public)),
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert verified.returncode == 0, verified.stderr
    assert f"{started.runs['passed']}" in verified.stdout


def _access(page: Any, letter: str) -> None:
    """Alt and a letter, as a keyboard sends them: the browser looks for an access key when the letter is written."""
    session = page.context.new_cdp_session(page)
    code = {"code": f"Key{letter.upper()}", "windowsVirtualKeyCode": ord(letter.upper())}
    for kind, more in (("rawKeyDown", code), ("char", {"text": letter}), ("keyUp", code)):
        event = {"type": kind, "modifiers": 1, "key": letter, "unmodifiedText": letter, **more}
        session.send("Input.dispatchKeyEvent", event)
    session.detach()


def test_access_keys_lead_to_the_decision_and_back_to_the_queue(started: Started, browser: Any) -> None:
    page = started.open(browser)
    page.goto(f"{page.root}runs/{started.runs['decided']}")
    _access(page, "s")
    page.wait_for_url("**#decide")
    _access(page, "q")
    page.wait_for_url(page.root)
    _access(page, "w")
    assert _focused(page) == "words"
    page.context.close()


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_comes_from_elsewhere_nothing_is_complained_of_and_nothing_overflows(
    started: Started, browser: Any, width: int
) -> None:
    page = started.open(browser, viewport={"width": width, "height": 800})
    for path in PAGES:
        page.goto(page.root + started.path(path))
        page.evaluate("document.querySelectorAll('details').forEach(held => held.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        outside = page.evaluate(
            """width => [...document.querySelectorAll('main *, header *, footer *')].filter(node => {
              if (node.closest('.scroll, svg, .shell > nav, .skip')) return false;
              const box = node.getBoundingClientRect(); return box.width && (box.right > width + 1 || box.left < -1);
            }).map(node => node.outerHTML.slice(0, 80))""",
            width,
        )
        assert [held for held in outside if "<thead" not in held and "columnheader" not in held] == [], path
    ours = urlsplit(page.root).netloc
    assert {urlsplit(address).netloc for address in page.asked} == {ours}
    # A page that is not there says so with its status, and the browser says that.
    assert all("404 (Not Found)" in complaint for complaint in page.complaints)
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_a_contrast_of_at_least_four_and_a_half(started: Started, browser: Any, scheme: str) -> None:
    page = started.open(browser, color_scheme=scheme)
    for path in PAGES:
        page.goto(page.root + started.path(path))
        page.evaluate("document.querySelectorAll('details').forEach(held => held.open = true)")
        found = page.evaluate(CONTRASTS)
        assert len(found) > 10
        assert [held for held in found if held[0] < 4.5] == [], path
        assert (
            page.evaluate("getComputedStyle(document.body).backgroundColor")
            == {
                "light": "rgb(250, 249, 246)",
                "dark": "rgb(21, 24, 27)",
            }[scheme]
        )
    page.context.close()


FOCUS = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = text => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const node = document.activeElement, style = getComputedStyle(node);
  let at = node.parentElement; while (at && rgba(getComputedStyle(at).backgroundColor)[3] < 255) at = at.parentElement;
  const line = light(rgba(style.outlineColor)), paper = light(rgba(getComputedStyle(at || document.body).backgroundColor));
  return {what: node.outerHTML.slice(0, 90), shown: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
    contrast: (Math.max(line, paper) + .05) / (Math.min(line, paper) + .05), tag: node.tagName};
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_stop_of_the_keyboard_is_seen(started: Started, browser: Any, scheme: str) -> None:
    page = started.open(browser, color_scheme=scheme)
    for path in ("?show=all", f"runs/{started.runs['decided']}", f"runs/{started.runs['failed']}/rules/region"):
        page.goto(page.root + path)
        stops = []
        for _ in range(80):
            page.keyboard.press("Tab")
            stop = page.evaluate(FOCUS)
            if stop["tag"] == "BODY":
                break
            stops.append(stop)
        assert len(stops) > 8
        # A frame's own page shows where the focus in it is.
        stops = [stop for stop in stops if stop["tag"] != "IFRAME"]
        assert [stop for stop in stops if not stop["shown"] or stop["contrast"] < 3] == []
    page.context.close()


def test_everything_that_can_be_used_has_a_name_and_every_page_its_landmarks(started: Started, browser: Any) -> None:
    page = started.open(browser)
    session = page.context.new_cdp_session(page)
    for path in PAGES:
        page.goto(page.root + started.path(path))
        page.evaluate("document.querySelectorAll('details').forEach(held => held.open = true)")
        nodes = [
            (node["role"]["value"], node.get("name", {}).get("value", "").strip())
            for node in session.send("Accessibility.getFullAXTree")["nodes"]
            if not node["ignored"] and "role" in node
        ]
        used = {
            "link",
            "button",
            "textbox",
            "searchbox",
            "radio",
            "Iframe",
            "navigation",
            "region",
            "figure",
        }
        assert [node for node in nodes if node[0] in used and not node[1]] == [], path
        for landmark in ("main", "banner", "contentinfo"):
            assert sum(role == landmark for role, _ in nodes) == 1, (path, landmark)
        names = [name for role, name in nodes if role == "navigation"]
        assert len(names) == len(set(names))
        levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(node => +node.tagName[1])")
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels)), path
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map(node => node.id)")
        assert len(ids) == len(set(ids))
        assert page.evaluate("document.documentElement.lang") == "en"
        assert page.title().endswith("rankgate review")
    page.context.close()


def test_another_page_of_this_browser_can_neither_read_nor_decide(started: Started, browser: Any) -> None:
    page = started.open(browser)
    run = f"{page.root}runs/{started.runs['decided']}"
    page.goto(run)
    fields = dict(
        page.evaluate("[...document.querySelectorAll('input[type=hidden]')].map(node => [node.name, node.value])")
    )
    other = page.context.new_page()
    other.goto("data:text/html,<title>elsewhere</title>")
    statuses = []
    other.on("response", lambda response: statuses.append(response.status))
    other.evaluate(
        """([address, fields]) => { const form = document.createElement('form'); form.method = 'post'; form.action = address;
          for (const [name, value] of Object.entries(fields)) { const field = document.createElement('input');
            field.name = name; field.value = value; form.append(field); }
          document.body.append(form); form.submit(); }""",
        [f"{run}/decision", {**fields, "decision": "approved", "reason": "forged"}],
    )
    other.wait_for_url("**/decision")
    assert statuses == [403]
    assert not (started.place.home.run_folder(started.runs["decided"]) / "approval").exists()
    page.context.close()
