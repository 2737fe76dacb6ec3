"""The page in a real browser: nothing is loaded, nothing overflows, everything can be read and reached by keyboard."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from components.artifacts.documents import as_json
from components.card.build import write_card
from components.card.contract import Description
from components.verdict.contract import Purpose

from .conftest import Run, estimate, finding, gap, outcome, small_run
from .test_waivers import word_for

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDTHS = (360, 390, 1280)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}"),
]

CONTRASTS = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = text => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = node => { for (let at = node; at; at = at.parentElement) {
    const colour = rgba(getComputedStyle(at).backgroundColor); if (colour[3] === 255) return colour; }
    return [255, 255, 255, 255]; };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || ['STYLE', 'TITLE', 'title', 'desc'].includes(node.tagName)) continue;
    const style = getComputedStyle(node);
    const ink = light(rgba(node.namespaceURI.endsWith('svg') ? style.fill : style.color)), paper = light(behind(node));
    const contrast = (Math.max(ink, paper) + .05) / (Math.min(ink, paper) + .05);
    found.push([contrast, node.className + ': ' + node.textContent.slice(0, 60)]);
  }
  return found;
}"""


def broken_run() -> Run:
    """A blocked run with long, unbreakable names and many groups: the hardest page to fit."""
    run = small_run()
    name = "a_name_that_never_ends_" * 5
    held = run.evidence["fairness-users"]
    more = [e for place in range(20) for e in gap("city", f"{name}{place}", -0.01 * place, 40)]
    run.evidence["fairness-users"] = replace(held, estimates=(*held.estimates, *more))
    run.facts["submitted_by"] = name
    told = dict.fromkeys(("owner", "contact", "intended_use", "main_parameters", "user_options"), name)
    lists = {key: [name, name] for key in ("intended_users", "out_of_scope", "surfaces")}
    harms = {"risks": [{"harm": name, "affected": name, "mitigation": name}]}
    run.words = json.dumps({"schema": "rankgate/model-card/v1", **told, **lists, **harms})
    wrong = finding("fail", -0.2, segment={"city": name}, message=f"the gap of {name} is too large.")
    run.blocked(outcome(wrong, finding("fail", -0.1), title=f"No {name}", answer="fail", blocks=True))
    return run


def succeeding_run() -> Run:
    """A run of which everything is otherwise than with its incumbent, by names that never end."""
    run = small_run()
    name = "a_name_that_never_ends_" * 5
    digests = {"ranker": "e" * 64, "dataset": "d" * 64}
    words = Purpose(owner=name, out_of_scope=(name,))
    before = Description(f"{name}run", digests, {name: name}, {name: name}, {name: name}, {name: 0.9}, (name,), name,
                         {name: name}, {name: name}, words)  # fmt: skip
    run.facts |= {"incumbent": "e" * 64, "before": as_json(before)}
    run.verdict = replace(run.verdict, first_release=False)
    held = run.evidence["quality"]
    worse = estimate("ndcg@10", -0.03, statistic="difference", versus="incumbent")
    run.evidence["quality"] = replace(held, estimates=(*held.estimates, worse))
    return run


def waived_run() -> Run:
    """The hardest page once more, with a waiver whose words never end."""
    run = broken_run()
    *others, wrong = run.verdict.outcomes
    found = tuple(replace(held, waivable=True) for held in wrong.findings)
    run.verdict = replace(run.verdict, outcomes=(*others, replace(wrong, findings=found, on_fail="waive")))
    endless = "a_reason_that_never_ends_" * 8
    run.waivers = (word_for(wrong.criterion, reason=endless, waived_by=endless),)
    return run


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Addresses of a card that passed, of one that is blocked, of one that is waived and of one with an incumbent."""
    found = {}
    made = {"passed": small_run(), "blocked": broken_run(), "waived": waived_run(), "succeeding": succeeding_run()}
    for name, run in made.items():
        folder = tmp_path_factory.mktemp(name)
        out = folder / "card"
        out.mkdir()
        write_card(run.sources(folder), out=out)
        found[name] = (out / "card.html").as_uri()
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        yield opened
        opened.close()


@pytest.mark.parametrize("name", ["passed", "blocked", "waived", "succeeding"])
def test_nothing_is_loaded_nothing_is_complained_of_and_nothing_overflows(
    browser, pages: dict[str, str], name: str
) -> None:
    page = browser.new_page()
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 800})
        page.goto(pages[name])
        page.evaluate("document.querySelectorAll('details').forEach(held => held.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        outside = page.evaluate(
            """width => [...document.querySelectorAll('main *, header *')].filter(node => {
              if (node.closest('.scroll, svg, nav')) return false;
              const box = node.getBoundingClientRect(); return box.width && (box.right > width + 1 || box.left < -1);
            }).map(node => node.outerHTML.slice(0, 80))""",
            width,
        )
        assert [held for held in outside if "<thead" not in held and "columnheader" not in held] == []
    page.close()
    assert requests == [pages[name]] * len(WIDTHS)
    assert complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["passed", "blocked", "waived", "succeeding"])
def test_all_text_has_a_contrast_of_at_least_four_and_a_half(
    browser, pages: dict[str, str], name: str, scheme: str
) -> None:
    page = browser.new_page(color_scheme=scheme)
    page.goto(pages[name])
    page.evaluate("document.querySelectorAll('details').forEach(held => held.open = true)")
    # Playwright evaluates in a world of its own: the page's policy against scripts does not reach it.
    found = page.evaluate(CONTRASTS)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.close()
    assert len(found) > 200
    assert [held for held in found if held[0] < 4.5] == []
    assert background == {"light": "rgb(250, 249, 246)", "dark": "rgb(21, 24, 27)"}[scheme]


def test_a_print_from_a_dark_screen_is_dark_on_white_with_every_table_open(browser, pages: dict[str, str]) -> None:
    page = browser.new_page(color_scheme="dark", viewport={"width": 690, "height": 1000})
    page.goto(pages["passed"])
    page.emulate_media(media="print")
    found = page.evaluate(CONTRASTS)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    width = page.evaluate("document.documentElement.scrollWidth")
    heights = page.evaluate(
        "[...document.querySelectorAll('details > :not(summary)')].map(node => node.getBoundingClientRect().height)"
    )
    page.close()
    assert background == "rgb(255, 255, 255)"
    assert [held for held in found if held[0] < 4.5] == []
    assert width <= 690
    assert min(heights) > 0


def test_headings_go_down_one_step_at_a_time_and_every_picture_has_a_title(browser, pages: dict[str, str]) -> None:
    page = browser.new_page()
    page.goto(pages["passed"])
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(node => +node.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    untitled = page.evaluate(
        "[...document.querySelectorAll('svg')].filter(node => !node.querySelector('title')?.textContent.trim()).length"
    )
    figures = page.evaluate(
        "[...document.querySelectorAll('figure')].map(node => [node.querySelectorAll('svg').length, "
        "node.querySelector('.takeaway').textContent.length, node.querySelectorAll('details table tbody tr').length])"
    )
    page.close()
    assert untitled == 0
    assert len(figures) == 15
    assert all(drawn and said > 20 and rows for drawn, said, rows in figures)


def test_details_open_by_keyboard_and_the_first_stop_is_the_verdict(browser, pages: dict[str, str]) -> None:
    page = browser.new_page()
    page.goto(pages["passed"])
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#verdict"
    for summary in page.locator("summary").all():
        summary.focus()
        page.keyboard.press("Enter")
    opened = page.evaluate("[...document.querySelectorAll('details')].map(node => node.open)")
    reachable = page.evaluate("[...document.querySelectorAll('.scroll')].every(node => node.tabIndex === 0)")
    page.close()
    assert opened
    assert all(opened)
    assert reachable


def test_marks_on_a_track_stand_where_the_figures_are(browser, pages: dict[str, str]) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(pages["passed"])
    dots = page.evaluate(
        """[...document.querySelectorAll('figure[aria-labelledby=quality-1] .row')]
        .filter(row => row.querySelector('.g-dot')).map(row => {
          const dot = row.querySelector('.g-dot').getBoundingClientRect();
          const track = row.querySelector('.track').getBoundingClientRect();
          return [row.querySelector('.label').textContent, (dot.left + dot.right) / 2, track.left, track.right];
        })"""
    )
    page.close()
    by_name = {label.strip(): places for label, *places in dots}
    (best, left, right), (other, *edges) = by_name["candidate"], by_name["popularity"]
    assert edges == [left, right]
    # 0.49 and 0.58 with intervals of 0.02 to either side, and a margin of 6 % around them.
    scale = (right - left) / (0.13 * 1.12)
    assert best - other == pytest.approx(0.09 * scale, abs=1.5)
