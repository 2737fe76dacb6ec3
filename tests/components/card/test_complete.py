"""Every field that a reviewer must find is in all three texts of a card, or the card says that it is empty and who fills it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from components.artifacts.documents import as_json
from components.card.build import write_card
from components.card.contract import Card
from components.card.fields import TEAM_FIELDS
from components.card.obligations import AI_ACT, DSA, obligations
from components.ranker.contract import System
from components.verdict.contract import Harm, Purpose
from components.verdict.model_card import FIELDS

from .conftest import HEX, Run, Written, estimate, finding, gap, outcome, small_run
from .test_waivers import word_for
from .test_write_card import Page, read

Write = Callable[[Run], Written]

SAID = Purpose(
    owner="OWNER is the feed team",
    contact="CONTACT at example.org",
    licence="LICENCE-1.0",
    intended_use="INTENDED to order a feed",
    intended_users=("SHOPPERS", "SELLERS"),
    out_of_scope=("SEARCH", "PRICES"),
    surfaces=("HOME", "APP"),
    main_parameters="PARAMETERS are taste and novelty",
    user_options="OPTIONS are newest first",
    risks=(Harm("ECHO is a harm", "EXPLORING is done", "NEWCOMERS"),),
    oversight="OVERSIGHT by Mia",
    rollout="CANARY at five percent",
    retention="RETENTION of two years",
    changes="CHANGED to ten weeks",
)
MARKS = re.compile(r"\b[A-Z]{4,}\b")


def words_of(purpose: Purpose) -> str:
    """The model-card.yaml that says it; JSON is YAML."""
    return json.dumps({"schema": "rankgate/model-card/v1", **{k: v for k, v in as_json(purpose).items() if v}})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """The card of a waived run with an incumbent, an intersection, an unknown group and everything written."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "card").mkdir()
    card = write_card(whole_run().sources(folder / "run"), out=folder / "card")
    texts = ((folder / "card" / name).read_text(encoding="utf-8") for name in ("card.html", "card.md"))
    return Written(card, folder / "card", *texts)


@pytest.fixture(scope="module")
def texts(whole: Written) -> tuple[str, str, Any]:
    """What its page says, what its Markdown says, and its JSON."""
    return read(whole.html), whole.markdown.replace("\\", ""), json.loads((whole.folder / "card.json").read_text())


def whole_run() -> Run:
    run = small_run()
    run.words = words_of(SAID)
    run.facts["incumbent"] = "f" * 64
    run.rankings = replace(run.rankings, systems=(*run.rankings.systems, System("incumbent", "incumbent", HEX, "Old.")))
    crossed = gap("country", "", -0.02, 31, segment={"country": "DE", "gender": "female"})
    held = run.evidence["fairness-users"]
    run.evidence["fairness-users"] = replace(held, estimates=(*held.estimates, *crossed))
    held = run.evidence["quality"]
    run.evidence["quality"] = replace(
        held, estimates=(*held.estimates, estimate("ndcg@10", 0.03, statistic="difference", versus="incumbent"))
    )
    held = run.evidence["drift"]
    run.evidence["drift"] = replace(held, conventions={"null": "week over week, calibrated"})
    unsure = finding("insufficient", -0.01, waivable=True, message="drift-score: unsure.")
    run.blocked(outcome(unsure, criterion="drift-score", title="Scores are spread as before", evidence="drift",
                        answer="insufficient", blocks=True, on_insufficient="waive"))  # fmt: skip
    run.verdict = replace(run.verdict, first_release=False)
    run.waivers = (word_for("drift-score", reason="The canary watches them."),)
    return run


# What a reviewer must find: its words in the page and in the Markdown, and its way into card.json.
REQUIRED: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "purpose": ("INTENDED", lambda card: card["purpose"]["intended_use"]),
    "out-of-scope use": ("PRICES", lambda card: card["purpose"]["out_of_scope"][1]),
    "surfaces": ("HOME", lambda card: card["purpose"]["surfaces"][0]),
    "main ranking parameters, by the team": ("PARAMETERS", lambda card: card["purpose"]["main_parameters"]),
    "main ranking parameters, by the model": (
        "The 2 main parameters carry", lambda card: card["ranker"]["importance"][0]["gain_share"],
    ),
    "owner": ("OWNER", lambda card: card["purpose"]["owner"]),
    "contact": ("CONTACT", lambda card: card["purpose"]["contact"]),
    "licence": ("LICENCE-1.0", lambda card: card["purpose"]["licence"]),
    "retention of models": ("RETENTION", lambda card: card["purpose"]["retention"]),
    "digest of the model": ("Ranker", lambda card: card["lineage"]["ranker"]),
    "digest of the data": ("Snapshot of the log", lambda card: card["lineage"]["snapshot"]),
    "digest of the code": ("Code and libraries", lambda card: card["lineage"]["code"]),
    "digest of the policy": ("Policy", lambda card: card["lineage"]["policy"]),
    "digest of the incumbent": ("f" * 64, lambda card: card["lineage"]["incumbent"]),
    "data window": ("1 March 2026 to 9 May 2026", lambda card: card["snapshot"]["first_ts"]),
    "consent": ("Consent: only users", lambda card: card["rights"][0].startswith("Consent")),
    "retention of data": ("Retention: rows older than", lambda card: "365 days" in card["rights"][1]),
    "deletions": ("Deletions: every run reads", lambda card: "no later snapshot" in card["rights"][2]),
    "result with interval": ("0.580 (0.560 to 0.600)", lambda card: card["evidence"]["quality"]["estimates"][0]["low"]),
    "number of users": ("measured on 120 users", lambda card: card["evidence"]["quality"]["estimates"][0]["n_users"]),
    "against the incumbent": ("+0.030 (+0.010 to +0.050)", lambda card: card["evidence"]["quality"]["estimates"][-1]["versus"]),
    "against baselines": ("+0.090 (+0.070 to +0.110)", lambda card: card["evidence"]["quality"]["estimates"][2]["versus"]),
    "per group": ("country LU", lambda card: card["evidence"]["fairness-users"]["estimates"][3]["segment"]),
    "per intersection": (
        "country DE and gender female", lambda card: card["evidence"]["fairness-users"]["estimates"][-1]["segment"],
    ),
    "groups too small": ("fewer than 30 users", lambda card: [line for line in card["limits"] if "fewer than" in line]),
    "groups unknown": ("not known for 10.0%", lambda card: [line for line in card["limits"] if "not known for" in line]),
    "calibration": ("Scores as chances", lambda card: card["evidence"]["calibration"]["estimates"]),
    "drift verdict": ("Scores are spread as before", lambda card: card["verdict"]["outcomes"][-1]["answer"]),
    "drift method": ("week over week, calibrated", lambda card: card["evidence"]["drift"]["conventions"]),
    "multiplicity": ("hold together", lambda card: card["evidence"]["fairness-users"]["estimates"][0]["family"]),
    "power": ("four times in five", lambda card: card["evidence"]["quality"]["estimates"][2]["mde"]),
    "limitations": ("Lists were re-ranked", lambda card: card["limits"]),
    "foreseeable harm": ("ECHO", lambda card: card["purpose"]["risks"][0]["harm"]),
    "mitigation": ("EXPLORING", lambda card: card["purpose"]["risks"][0]["mitigation"]),
    "human oversight": ("OVERSIGHT", lambda card: card["purpose"]["oversight"]),
    "canary and rollback plan": ("CANARY", lambda card: card["purpose"]["rollout"]),
    "waivers": ("The canary watches them.", lambda card: card["waivers"][0]["reason"]),
    "approver, time, signature": ("approval.dsse.json", lambda card: card["unwritten"][-1]["who"]),
    "change log, by the team": ("CHANGED", lambda card: card["purpose"]["changes"]),
    "change log": ("only its ranker was at hand", lambda card: card["lineage"]["incumbent"]),
    "what the law asks for": ("Annex IV", lambda card: card["obligations"]),
    "four fifths": ("above four fifths: it is information", lambda card: card["limits"]),
}  # fmt: skip


@pytest.mark.parametrize("field", REQUIRED)
def test_a_required_field_is_in_all_three_texts(texts: tuple[str, str, Any], field: str) -> None:
    said, in_json = REQUIRED[field]
    html, markdown, document = texts
    assert said in html
    assert said in markdown
    assert in_json(document)


def test_all_that_the_team_can_write_is_shown_and_nothing_of_it_is_called_empty(whole: Written) -> None:
    told = set(MARKS.findall(words_of(SAID)))
    assert len(told) > 15
    for text in (read(whole.html), whole.markdown, (whole.folder / "card.json").read_text()):
        assert told <= set(MARKS.findall(text))
    assert [held.key for held in whole.card.unwritten] == ["approval.dsse.json"]
    assert "Not yet written:" not in whole.markdown


@pytest.mark.parametrize("field", TEAM_FIELDS, ids=lambda field: field.key)
def test_a_field_that_is_empty_is_named_with_its_key_and_who_fills_it(run: Run, write: Write, field: Any) -> None:
    empty = type(getattr(SAID, field.key))()
    run.words = words_of(replace(SAID, **{field.key: empty}))
    written = write(run)
    row = f"| {field.label} | {field.key} | {field.who} | {field.asked} |"
    assert row in written.markdown.replace("\\", "")
    assert [held.key for held in written.card.unwritten] == [field.key, "approval.dsse.json"]
    page = read(written.html)
    assert f"{field.label} {field.key} {field.who}" in page[page.index("What is still empty") :]


def test_every_key_of_the_file_is_a_field_of_the_card() -> None:
    assert {field.key for field in TEAM_FIELDS} == {*FIELDS} == {*Purpose.__dataclass_fields__}


def test_words_that_changed_after_freezing_are_not_told(run: Run, write: Write) -> None:
    before = Run.sources

    def tampered(self: Run, folder: Any) -> Any:
        sources = before(self, folder)
        (sources.policy / "model-card.yaml").write_text(self.words.replace("Shop team", "Somebody else"))
        return sources

    run.sources = tampered.__get__(run)  # type: ignore[method-assign]
    written = write(run)
    assert "Somebody else" not in written.markdown
    assert written.card.purpose == Purpose()


def test_words_about_another_data_set_are_not_told(run: Run, write: Write) -> None:
    run.words = run.words.replace("small-shop", "large-shop")
    assert write(run).card.purpose == Purpose()


POINTS = ["1(a)", "1(b)", "1(c)", "1(d)", "1(e)", "1(f)", "1(g), (h)", "2(a)", "2(b)", "2(c)", "2(d)", "2(e)", "2(f)", "2(g)",
          "2(h)", "3", "4", "5", "6", "7", "8", "9"]  # fmt: skip
ARTICLES = ["Art. 27(1)", "Art. 27(1)", "Art. 27(2)(a)", "Art. 27(2)(b)", "Art. 27(3)", "Art. 38"]


def test_every_point_of_both_laws_is_answered_or_said_not_to_be() -> None:
    found = obligations(SAID, unmeasured=())
    assert [held.point for held in found if held.law == AI_ACT] == POINTS
    assert [held.point for held in found if held.law == DSA] == ARTICLES
    assert all(held.where for held in found if held.coverage != "not covered")
    # What is partly answered says what is not.
    assert all("ot covered" in held.words for held in found if held.coverage == "partly")


def test_a_point_rests_on_what_the_team_wrote() -> None:
    by_point = {(held.law, held.asks): held for held in obligations(replace(SAID, user_options=""), unmeasured=())}
    held = by_point[DSA, "Options to change or influence them"]
    assert (held.coverage, held.words) == ("not covered", "Not yet written: user_options.")
    nothing = obligations(Purpose(), unmeasured=())
    assert [held.coverage for held in nothing if held.point == "1(a)"] == ["partly"]
    assert [held.coverage for held in nothing if held.point == "9"] == ["not covered"]


def test_a_point_rests_on_what_the_run_measured() -> None:
    found = obligations(SAID, unmeasured={"drift", "groups"})
    tests, groups = (next(held for held in found if held.point == point) for point in ("2(g)", "3"))
    assert tests.coverage == groups.coverage == "partly"
    assert "Not measured in this run: groups and drift." in tests.words


def test_where_a_point_is_answered_is_a_section_of_the_page(run: Run, write: Write) -> None:
    written = write(run)
    ids = {str(attrs["id"]) for _, attrs in Page(written.html).tags if "id" in attrs}
    assert {section for held in written.card.obligations for section in held.where} <= ids
    assert isinstance(written.card, Card)
