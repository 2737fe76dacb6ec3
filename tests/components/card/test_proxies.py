"""The card's chapter on stand-ins for sensitive attributes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from components.card.chapters.proxies import proxies
from components.card.parts import Section
from components.card.sources import open_sources
from components.evidence.contract import Estimate

from .conftest import Run, Written, estimate, evidence, finding, outcome

Write = Callable[[Run], Written]


def _told(metric: str, value: str, auc: float | None, users: int = 120) -> Estimate:
    return estimate(
        metric, auc, versus="rest", segment={"gender": value}, n_users=users, family=f"{metric} of gender",
        detail={"share_of_users": users / 300},
    )  # fmt: skip


def _feature(name: str, auc: float, weight: float) -> Estimate:
    return estimate("feature_auc", auc, subject=name, versus="gender", detail={"importance": weight})


def _evidence(*estimates: Estimate, **given: Any) -> Any:
    whole = (
        estimate("inputs_macro_auc", 0.7, subject="gender"),
        estimate("lists_macro_auc", 0.6, subject="gender"),
        estimate("proxied_importance", 0.3, subject="gender"),
    )
    return evidence("proxies", *estimates, *whole, **given)


@pytest.fixture
def planted(run: Run) -> Run:
    """A run in which one feature gives away who is female, beyond the policy's bound."""
    run.evidence["proxies"] = _evidence(
        _told("inputs_auc", "female", 0.93),
        _told("inputs_auc", "male", 0.55, 90),
        _told("inputs_auc", "other", None, 9),
        _told("lists_auc", "female", 0.61),
        _told("lists_auc", "male", 0.52, 90),
        _feature("item_click_7d", 0.91, 0.75),
        _feature("item_age_days", 0.505, 0.25),
    )
    about: dict[str, Any] = {"evidence": "proxies", "statistic": "value", "title": "No stand-ins", "answer": "fail"}
    run.blocked(
        outcome(
            finding("fail", 0.93, margin=0.8, needed="at most 0.8", message="proxies-inputs: told. See proxies.json."),
            criterion="proxies-inputs", metric="inputs_auc", blocks=True, **about,
        ),
        outcome(
            finding("fail", 0.91, margin=0.75, needed="at most 0.75", message="proxies-features: told. See proxies.json."),
            criterion="proxies-features", metric="feature_auc", blocks=True, **about,
        ),
    )  # fmt: skip
    return run


def _section(run: Run, folder: Any) -> Section:
    return proxies(open_sources(run.sources(folder)))


def test_a_stand_in_is_named_with_its_weight_and_drawn_beyond_the_bound(planted: Run, tmp_path: Any) -> None:
    together, alone = _section(planted, tmp_path).pictures
    assert together.takeaway == (
        "2 of 2 values are shown to be told better than by a guess; gender female is told best, with AUC 0.93 (0.91 to 0.95)."
    )
    assert together.tracks is not None
    assert [placed.mark.tone for placed in together.tracks.marks] == ["bad", "main"]
    assert [placed.mark.ring for placed in together.tracks.marks] == [0.61, 0.52]
    assert together.tracks.band is not None
    assert alone.takeaway == "1 feature of 2 is shown to tell something of gender: item_click_7d, 75% of the model."
    assert alone.tracks is not None
    assert [(p.mark.label, p.mark.tone) for p in alone.tracks.marks] == [
        ("item_click_7d", "bad"),
        ("item_age_days", "plain"),
    ]


def test_a_value_that_few_have_is_in_the_table_and_not_in_the_picture(planted: Run, tmp_path: Any) -> None:
    together, _ = _section(planted, tmp_path).pictures
    assert together.tracks is not None
    assert {placed.mark.label for placed in together.tracks.marks} == {"gender female", "gender male"}
    assert together.table.rows[-1] == ("gender other", "—", "—", "9", "—")


def test_both_texts_hold_the_chapter(planted: Run, write: Write) -> None:
    written = write(planted)
    for text in (re.sub(r"\s+", " ", written.html), re.sub(r"\s+", " ", written.markdown)):
        assert "Stand-ins for sensitive attributes" in text
        assert "What each feature alone tells of gender, AUC" in text
        assert "0.505" in text


def test_honest_features_are_said_to_tell_nothing(run: Run, tmp_path: Any) -> None:
    run.evidence["proxies"] = _evidence(_told("inputs_auc", "female", 0.51), _feature("item_click_7d", 0.51, 1.0))
    together, alone = _section(run, tmp_path).pictures
    assert together.takeaway.startswith("None of 1 value is shown to be told better than by a guess; gender female")
    assert alone.takeaway == "None of 1 feature alone is shown to tell gender better than a guess."
    assert together.tracks is not None
    assert together.tracks.band is None
    assert [key for key, _ in together.key] == ["dot", "ring"]


def test_without_evidence_the_chapter_says_so(run: Run, tmp_path: Any) -> None:
    del run.evidence["proxies"]
    section = _section(run, tmp_path)
    assert not section.measured
    assert "no readable evidence on stand-ins for sensitive attributes" in section.sentences[0]


def test_without_a_sensitive_attribute_there_are_sentences_and_no_pictures(run: Run, tmp_path: Any) -> None:
    run.evidence["proxies"] = evidence("proxies", sentences=("None is declared.",))
    section = _section(run, tmp_path)
    assert (section.measured, section.pictures, section.tables) == (True, (), ())
    assert section.sentences == ("None is declared.",)


def test_many_features_stay_readable(run: Run, tmp_path: Any) -> None:
    features = [_feature(f"feature_{number:02d}", 0.5 + number / 200, 0.02) for number in range(40)]
    run.evidence["proxies"] = _evidence(_told("inputs_auc", "female", 0.6), *features)
    _, alone = _section(run, tmp_path).pictures
    assert alone.tracks is not None
    assert [placed.mark.label for placed in alone.tracks.marks][:2] == ["feature_39", "feature_38"]
    assert len(alone.tracks.marks) == 16
    assert len(alone.table.rows) == 40
    assert "and 29 more" in alone.takeaway
