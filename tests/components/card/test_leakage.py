"""The card's chapter on leakage: the strongest features beside the model, what changed without the future, what is shared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from components.card.chapters.leakage import leakage
from components.card.parts import Section
from components.card.sources import open_sources
from components.evidence.contract import Estimate

from .conftest import Run, estimate, finding, outcome


def made(run: Run, folder: Path, *held: Estimate) -> Section:
    run.evidence["leakage"] = replace(run.evidence["leakage"], estimates=held)
    return leakage(open_sources(run.sources(folder)))


def told(metric: str, subject: str, value: float | None, **given: Any) -> Estimate:
    return estimate(metric, value, subject=subject, **given)


def test_the_model_stands_first_and_features_follow_by_their_power(run: Run, tmp_path: Path) -> None:
    section = made(
        run,
        tmp_path,
        told("power@test", "weak", 0.52),
        told("power@test", "strong", 0.66),
        told("power@train", "strong", 0.6),
        told("model_power@test", "candidate", 0.7),
    )
    (picture,) = section.pictures
    assert picture.tracks is not None
    assert [placed.mark.label for placed in picture.tracks.marks] == ["the whole model", "strong", "weak"]
    assert picture.tracks.marks[1].mark.ring == 0.6
    assert picture.tracks.marks[2].mark.ring is None
    assert "strong alone orders most pairs: 0.66" in picture.takeaway
    assert "the whole model 0.70" in picture.takeaway


def test_a_feature_beyond_the_policys_bound_is_marked(run: Run, tmp_path: Path) -> None:
    run.blocked(
        outcome(
            finding("fail", 0.99, margin=0.85, needed="at most 0.85"),
            criterion="leakage-power", evidence="leakage", metric="power@test", statistic="value", answer="fail", blocks=True,
        )
    )  # fmt: skip
    section = made(run, tmp_path, told("power@test", "leaks", 0.99), told("power@test", "honest", 0.6))
    (picture,) = section.pictures
    assert picture.tracks is not None
    assert [placed.mark.tone for placed in picture.tracks.marks] == ["bad", "plain"]
    assert ("band", "beyond the policy’s bound") in picture.key


def test_training_rows_stand_in_where_the_catalogue_is_ranked(run: Run, tmp_path: Path) -> None:
    section = made(run, tmp_path, told("power@train", "item_purchase_7d", 0.81))
    (picture,) = section.pictures
    assert picture.reading.startswith("Training rows.")
    assert ("dot", "on training rows") in picture.key
    assert not any(kind == "ring" for kind, _ in picture.key)


def test_features_that_changed_stand_first_in_a_table_that_is_open(run: Run, tmp_path: Path) -> None:
    def changed(subject: str, value: float | None) -> Estimate:
        detail = {"values": 2000.0} | ({"largest": 3.0} if value else {})
        return replace(told("changed_without_future", subject, value), detail=detail)

    section = made(run, tmp_path, changed("kept", 0.0), changed("ahead", 12.0), changed("unknown", None))
    (table,) = section.tables
    assert table.shown
    assert [row[0] for row in table.rows] == ["unknown", "ahead", "kept"]
    assert table.rows[1][1:] == ("12", "2\N{NARROW NO-BREAK SPACE}000", "3.000")
    assert table.rows[0][1] == "—"


def test_where_nothing_changed_the_table_is_folded_away(run: Run, tmp_path: Path) -> None:
    section = made(run, tmp_path, told("changed_without_future", "kept", 0.0))
    assert not section.tables[0].shown


def test_what_splits_share_is_counted_in_words(run: Run, tmp_path: Path) -> None:
    late = replace(told("overlap", "labels of train", 3.0), detail={"of": 900.0})
    again = replace(told("returning_users", "test", 0.8), detail={"of": 50.0})
    early = replace(told("early_arrivals", "events", None), detail={"of": 0.0})
    (table,) = made(run, tmp_path, late, again, early).tables
    assert table.rows == (
        ("Training rows whose label was not complete when validation began", "3", "900"),
        ("Events that arrived before they happened", "—", "0"),
        ("Test users who were in training as well (no leak)", "80.0%", "50"),
    )


def test_evidence_without_a_value_has_no_picture(run: Run, tmp_path: Path) -> None:
    section = made(run, tmp_path, told("power@test", "item_click_7d", None), told("power@train", "item_click_7d", None))
    assert section.pictures == ()
    assert section.measured
