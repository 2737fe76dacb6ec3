"""What a reviewer finds in a card, whatever the run was like."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from components.artifacts import documents
from components.card.contract import Card
from components.card.fields import TEAM_FIELDS
from components.errors import InputError
from components.evidence.contract import QUESTIONS
from components.ranker.contract import Importance, System

from .conftest import HEX, Run, Written, estimate, evidence, finding, gap, outcome, small_run

Write = Callable[[Run], Written]
VOID = {"meta", "br", "link", "img", "input"}


class Page(HTMLParser):
    """Text by section, attributes by tag; fails on a tag that is closed by another."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += f" {data}"


def read(html: str) -> str:
    """The page's text, blanks as single spaces."""
    page = Page(html)
    assert page.open == []
    return re.sub(r"[ \n]+", " ", page.text)


def test_the_verdict_is_the_first_thing_that_both_texts_say(run: Run, write: Write) -> None:
    written = write(run)
    text = read(written.html.split("<body>")[1].split("</body>")[0])
    assert text.index("Passed") < text.index("The verdict, rule by rule") < text.index("Are the lists better")
    assert "Nothing stops the release under the 2 blocking criteria" in text
    assert written.markdown.split("---\n")[2].lstrip().startswith("# small-shop\n\n**Passed.** Nothing stops")


def test_what_blocks_stands_first_with_its_message_and_its_reason(run: Run, write: Write) -> None:
    broken = outcome(
        finding("fail", -0.2, message="drift-score: the score moved. See drift.json.", needed="at most 1.5"),
        criterion="drift-score", title="Scores are spread as before", evidence="drift", answer="fail", blocks=True,
        why="Whatever moves shows in the score.",
    )  # fmt: skip
    run.blocked(broken)
    written = write(run)
    text = read(written.html)
    assert "Blocked" in text
    assert text.index("Scores are spread as before") < text.index("Better than the most popular items")
    for said in ("stops the release", "The score moved.", "Whatever moves shows in the score.", "−0.200"):
        assert said in text
    assert "rankgate approve" not in text
    assert "rankgate refuse small-shop-0123456789" in text
    assert "- The score moved." in written.markdown


def test_every_finding_that_blocks_is_told_and_excused_ones_are_not(run: Run, write: Write) -> None:
    named = [finding("fail", -0.1 * place, message=f"group {place} is worse.") for place in range(1, 4)]
    excused = finding("fail", -0.9, message="a tiny group is worse.", excused="Too few users to judge alone.")
    run.blocked(outcome(*named, excused, title="Groups", answer="fail", blocks=True))
    text = read(write(run).html)
    assert re.search(r"Group 3 is worse\. .*Group 2 is worse\. .*Group 1 is worse\.", text)
    assert "tiny group" not in text


def test_a_rule_that_is_unsure_but_does_not_block_is_told_with_what_excuses_it(run: Run, write: Write) -> None:
    excused = [
        finding("insufficient", 0.01 * place, message=f"group {place} is unsure.", excused="Fewer than 150 users.")
        for place in range(1, 6)
    ]
    noted = outcome(*excused, title="Groups", answer="insufficient")
    run.verdict = replace(run.verdict, outcomes=(*run.verdict.outcomes, noted))
    text = read(write(run).html)
    assert "Insufficient, noted" in text
    assert text.count("Fewer than 150 users.") == 1
    assert "3 further findings of this kind" in text


def test_each_figure_of_the_evidence_is_in_the_page_and_in_the_markdown(run: Run, write: Write) -> None:
    written = write(run)
    text = read(written.html)
    for said in (
        "0.580 (0.560 to 0.600)",
        "+0.090 (+0.070 to +0.110)",
        "−0.040 (−0.060 to −0.020)",
        "A sentence on drift: 1\N{NARROW NO-BREAK SPACE}234 rows moved by −0.5.",
        "0.890 (0.870 to 0.910)",
        "duplicate row",
        "365 days",
        HEX,
    ):
        assert said in text
        assert said in written.markdown


def test_tables_of_the_page_and_of_the_markdown_hold_the_same_rows(run: Run, write: Write) -> None:
    written = write(run)
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</tr>", written.html, re.DOTALL)
    shown = [re.split(r"</th>|</td>", row)[:-1] for row in rows]
    in_html = {tuple(re.sub(r"<[^>]+>", "", cell) for cell in row) for row in shown}
    lines = [line for line in written.markdown.splitlines() if line.startswith("| ") and "---" not in line]
    in_markdown = {tuple(line.replace("\\", "").strip("| ").split(" | ")) for line in lines}
    listed_otherwise = {"numpy", "xgboost", "Incumbent"}
    kept = {row for row in in_html if len(row) > 1 and len(row[1]) != len(HEX) and row[0] not in listed_otherwise}
    assert len(kept) > 30
    assert kept <= in_markdown


def test_the_json_is_the_card_and_reads_back(run: Run, write: Write) -> None:
    written = write(run)
    assert documents.load(Card, written.folder / "card.json") == written.card
    assert sorted(path.name for path in written.folder.iterdir()) == ["card.html", "card.json", "card.md"]
    assert written.card.lineage.evidence == {"features": HEX, "groups": HEX, "ranking": HEX, "serving": HEX}
    assert written.card.purpose.out_of_scope == ("Search results", "Prices")


def test_equal_sources_give_equal_bytes_and_no_place_of_this_machine(write: Write, tmp_path: Path) -> None:
    first, second = write(small_run()), write(small_run())
    for name in ("card.html", "card.md", "card.json"):
        content = (first.folder / name).read_bytes()
        assert content == (second.folder / name).read_bytes()
        assert str(tmp_path).encode() not in content


def test_the_front_matter_has_the_results_that_hugging_face_reads(run: Run, write: Write) -> None:
    held = yaml.safe_load(write(run).markdown.split("---\n")[1])
    result = held["model-index"][0]["results"][0]
    assert held["model-index"][0]["name"] == "small-shop-0123456789"
    assert result["dataset"] == {"type": "small-shop", "name": "small-shop", "split": "test", "revision": HEX}
    assert {metric["type"]: metric["value"] for metric in result["metrics"]} == {"ndcg@10": 0.58, "map@10": 0.41}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_run_without_one_kind_of_evidence_still_gets_its_card_which_says_so(
    question: str, run: Run, write: Write
) -> None:
    del run.evidence[question]
    missing = finding("insufficient", None, message=f"the evidence {question}.json is missing.", needed="at least 0")
    run.blocked(outcome(missing, evidence=question, title="Measured at all", answer="insufficient", blocks=True))
    written = write(run)
    text = read(written.html)
    assert "This was not measured: the run has no readable evidence" in text
    assert f"The evidence {question}.json is missing." in text
    assert "not measured" in text
    assert "Not measured in this run:" in written.markdown


def test_a_run_without_any_evidence_still_gets_its_card(run: Run, write: Write) -> None:
    run.evidence = {}
    run.blocked(outcome(finding("insufficient", None), answer="insufficient", blocks=True))
    written = write(run)
    assert "model-index" not in written.markdown
    assert read(written.html).count("This was not measured") == len(QUESTIONS)


def test_evidence_that_cannot_be_read_counts_as_missing(run: Run, tmp_path: Path) -> None:
    from components.card.build import write_card

    sources = run.sources(tmp_path)
    (tmp_path / "ranking" / "quality.json").write_text('{"schema_version": 1, "value": NaN}')
    (tmp_path / "ranking" / "calibration-bins.parquet").write_bytes(b"no parquet")
    (tmp_path / "groups" / "drift.json").write_bytes((tmp_path / "ranking" / "data.json").read_bytes())
    out = tmp_path / "card"
    out.mkdir()
    card = write_card(sources, out=out)
    assert sorted(card.evidence) == sorted({*QUESTIONS} & {*run.evidence} - {"quality", "drift"})
    assert "Predicted against observed" not in (out / "card.html").read_text()


def test_a_manifest_that_cannot_be_read_stops_the_card(run: Run, tmp_path: Path) -> None:
    from components.card.build import write_card

    sources = run.sources(tmp_path)
    (tmp_path / "verdict" / "verdict.json").unlink()
    with pytest.raises(InputError, match="needed a Verdict document"):
        write_card(sources, out=tmp_path)


def test_names_from_outside_are_text_and_never_markup(run: Run, write: Write) -> None:
    hostile = '<script>alert("1")</script>|`*_\n# x'
    run.facts["submitted_by"] = hostile
    run.words = f"schema: rankgate/model-card/v1\nintended_use: {json.dumps(hostile)}\nowner: {json.dumps(hostile)}\n"
    held = run.evidence["fairness-users"]
    run.evidence["fairness-users"] = replace(held, estimates=(*held.estimates, *gap("country", hostile, -0.3, 9)))
    run.evidence["quality"] = replace(run.evidence["quality"], sentences=(hostile,))
    run.blocked(outcome(finding("fail", -1.0, message=hostile), title=hostile, why=hostile, answer="fail", blocks=True))
    written = write(run)
    assert "<script" not in written.html
    assert 'alert("1")' in read(written.html)
    assert "<script" not in written.markdown.replace("\\<", "")
    body = written.markdown.split("---\n")[2]
    assert not [line for line in body.splitlines() if line.startswith("# x")]
    cells = {line.count("|") - line.count("\\|") for line in body.splitlines() if line.startswith("| Pass |")}
    assert cells == {7}


def test_estimates_without_a_value_are_shown_as_dashes(run: Run, write: Write) -> None:
    held = run.evidence["fairness-users"]
    empty = gap("country", "XX", None, 0)
    run.evidence["fairness-users"] = replace(held, estimates=(*held.estimates, *empty))
    run.evidence["drift"] = evidence("drift", estimate("distance", None, subject="item_age_days"))
    run.evidence["quality"] = evidence("quality", estimate("ndcg@10", None))
    written = write(run)
    assert "| country XX | 0 | — | — | — | — | — |" in written.markdown
    assert "None" not in re.sub(r"None of|None can", "", read(written.html))
    assert not re.search(r"\bnan\b", written.html.lower())


def test_no_provider_no_groups_no_positions_no_weights(run: Run, write: Write) -> None:
    run.dataset = replace(run.dataset, provider="", segments=(), sensitive=(), mode="sampled")
    run.ranker = replace(run.ranker, importance=(Importance("item_click_7d", 0.0),), position_bias=(),
                         validation_curve=(0.5,), trees=1)  # fmt: skip
    run.evidence["fairness-providers"] = evidence("fairness-providers", sentences=("Nothing was measured.",))
    run.evidence["fairness-users"] = evidence("fairness-users")
    run.tables = {key: rows for key, rows in run.tables.items() if key == "calibration.bins"}
    text = read(write(run).html)
    for said in (
        "gives no feature any weight",
        "names no provider of items",
        "declares no attribute to compare users by",
        "an item that was never offered counts as not wanted",
        "a single tree",
    ):
        assert said in text


def test_an_incumbent_is_named_by_its_digest_and_groups_are_held_against_it(run: Run, write: Write) -> None:
    run.facts["incumbent"] = "f" * 64
    run.rankings = replace(run.rankings, systems=(*run.rankings.systems, System("incumbent", "incumbent", HEX, "Old.")))
    run.verdict = replace(run.verdict, first_release=False)
    for_group = {"segment": {"country": "LU"}, "versus": "incumbent", "n_users": 12}
    changed = estimate("ndcg@10", -0.07, statistic="change", **for_group)
    gained = estimate("ndcg@10", -0.33, statistic="difference", **for_group)
    for question, more in (("fairness-users", changed), ("quality", gained)):
        held = run.evidence[question]
        run.evidence[question] = replace(held, estimates=(*held.estimates, more))
    text = read(write(run).html)
    assert "Most ground against the rest is lost by country LU: −0.070 (−0.090 to −0.050)." in text
    assert "What each group of users gains or loses" in text
    assert "−0.330 (−0.350 to −0.310)" in text
    assert "Incumbent ffffffffffff" in text
    assert "f" * 64 in text
    assert "no incumbent to compare with" not in text


def test_many_groups_providers_and_features_stay_readable(run: Run, write: Write) -> None:
    many = [gap("city", f"town-{place:03d}", -0.001 * place, 200 - place) for place in range(60)]
    crossed = [
        gap("city", "", -0.2 + 0.001 * place, 30, segment={"city": f"c{place}", "gender": "f"}) for place in range(50)
    ]
    run.evidence["fairness-users"] = evidence("fairness-users", *(e for group in (*many, *crossed) for e in group))
    feature = run.dataset.features[0]
    names = tuple(f"feature_{place:03d}" for place in range(90))
    run.dataset = replace(run.dataset, features=tuple(replace(feature, name=name) for name in names))
    run.ranker = replace(run.ranker, features=names, importance=tuple(Importance(name, 1 / 90) for name in names))
    written = write(run)
    rows = re.findall(r"<figure.*?</figure>", written.html, re.DOTALL)
    drawn = max(figure.count('<div class="row ') for figure in rows)
    assert drawn <= 17
    assert all(f"town-{place:03d}" in written.html for place in range(60))
    assert all(name in written.markdown.replace("\\", "") for name in names)
    assert "the table has all" in written.markdown


def test_what_the_team_did_not_write_is_said_to_be_missing(run: Run, write: Write) -> None:
    run.words = ""
    written = write(run)
    assert "Intended use: not yet written by the team." in read(written.html)
    assert "Owner of the data, by the dataset contract: data-team" in written.markdown
    assert [held.key for held in written.card.unwritten][:-1] == [field.key for field in TEAM_FIELDS]


def test_the_card_calls_nothing_fair_or_unbiased(run: Run, write: Write) -> None:
    written = write(run)
    said = re.sub(r"fairness-(users|providers)", "", f"{read(written.html)} {written.markdown}").lower()
    assert not re.search(r"\b(un)?fair|unbiased|debiased|bias-free", said)
    assert "no proof of equal treatment" in said


def test_the_page_loads_nothing_and_runs_nothing(run: Run, write: Write) -> None:
    page = Page(write(run).html)
    policies = [attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"]
    assert not [tag for tag, attrs in page.tags if tag in ("script", "link", "img", "iframe") or "src" in attrs]
    assert not [attrs["href"] for tag, attrs in page.tags if tag == "a" and not str(attrs["href"]).startswith("#")]
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]


def test_every_link_and_label_points_to_a_thing_that_is_there_once(run: Run, write: Write) -> None:
    page = Page(write(run).html)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    pointed = {str(attrs["href"])[1:] for tag, attrs in page.tags if tag == "a"}
    pointed |= {name for _, attrs in page.tags for name in str(attrs.get("aria-labelledby") or "").split()}
    assert pointed <= set(ids)


def test_the_markdown_of_the_small_run_is_as_it_was(run: Run, write: Write, golden: Callable[[str, str], None]) -> None:
    golden("card.md", write(run).markdown)
