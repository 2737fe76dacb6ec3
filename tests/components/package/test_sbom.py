"""The bill of materials is what CycloneDX says one is, tells all of the release, and has the same bytes every time."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.approval.contract import SCHEMA_VERSION, Approval, Release
from components.card.build import write_card
from components.card.contract import Card
from components.package.requirements import LockedLibrary, cut_lock, locked_libraries
from components.package.sbom import sbom

from ..card.conftest import HEX, Run, small_run

ROOTS = ("numpy", "xgboost", "pyarrow")
FILES = {"model.ubj": "1" * 64, "ranker.json": "2" * 64}


def release(**changes: Any) -> Release:
    approval = Approval(SCHEMA_VERSION, "small-shop-0123456789", "approved", "rita@example.org", "ada@example.org", "read",
                        "2026-11-23T10:00:00+00:00", "c" * 64, "d" * 64, "e" * 64, "f" * 64)  # fmt: skip
    return Release(digest=changes.pop("digest", "a" * 64), approval=replace(approval, **changes), key_id="b" * 64)


@pytest.fixture(scope="module")
def libraries(repository: Path) -> tuple[LockedLibrary, ...]:
    return locked_libraries(cut_lock((repository / "requirements.lock").read_text(), ROOTS))


@pytest.fixture
def made(tmp_path: Path, libraries: tuple[LockedLibrary, ...]) -> Callable[..., bytes]:
    """The SBOM of a run's card."""

    def write(run: Run | None = None, **changes: Any) -> bytes:
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        (place / "card").mkdir(parents=True)
        card: Card = write_card((run or small_run()).sources(place / "run"), out=place / "card")
        return sbom(card, release(**changes), tag="rankgate-small-shop:aaaaaaaaaaaaaaaa", files=FILES,
                    libraries=libraries, roots=ROOTS)  # fmt: skip

    return write


@pytest.fixture
def document(made: Callable[..., bytes]) -> dict[str, Any]:
    return json.loads(made())


def kind(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [held for held in document["components"] if held["type"] == name]


def every(value: Any) -> list[Any]:
    """All dictionaries inside a value."""
    inside = [held for child in (value.values() if isinstance(value, dict) else value) for held in every(child)] if (
        isinstance(value, dict | list)
    ) else []  # fmt: skip
    return [value, *inside] if isinstance(value, dict) else inside


def empty_run() -> Run:
    run = small_run()
    run.words, run.evidence = "", {}
    return run


@pytest.mark.parametrize("run", [small_run, empty_run], ids=["written", "empty"])
def test_it_holds_against_the_official_schema(made: Callable[..., bytes], run: Callable[[], Run]) -> None:
    pytest.importorskip("cyclonedx")
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(made(run()).decode())
    assert fault is None, str(fault)[:500]


def test_the_validator_finds_what_is_wrong(made: Callable[..., bytes]) -> None:
    pytest.importorskip("cyclonedx")
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    wrong = made().replace(b'"machine-learning-model"', b'"machine-learning"')
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(wrong.decode()) is not None


def test_the_same_release_has_the_same_bytes_and_another_one_another_number(made: Callable[..., bytes]) -> None:
    assert made() == made()
    first, other = json.loads(made()), json.loads(made(digest="9" * 64))
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", first["serialNumber"])
    assert first["serialNumber"] != other["serialNumber"]
    assert first["metadata"]["timestamp"] == "2026-11-23T10:00:00+00:00"


def test_no_place_of_this_machine_is_in_it(made: Callable[..., bytes], tmp_path: Path, repository: Path) -> None:
    assert str(tmp_path).encode() not in made()
    assert str(repository).encode() not in made()


def test_the_model_is_the_approved_one_file_by_file(document: dict[str, Any]) -> None:
    (model,) = kind(document, "machine-learning-model")
    assert model["hashes"] == [{"alg": "SHA-256", "content": "e" * 64}]
    assert {file["name"]: file["hashes"][0]["content"] for file in model["components"]} == FILES
    assert model["supplier"]["name"] == "Shop team"
    assert model["licenses"] == [{"expression": "Apache-2.0", "acknowledgement": "declared"}]
    parameters = model["modelCard"]["modelParameters"]
    assert parameters["modelArchitecture"] == "LambdaMART (rank:ndcg), 2 trees"
    assert parameters["datasets"] == [{"ref": "data:dataset"}]


def test_metrics_have_slices_and_intervals(document: dict[str, Any]) -> None:
    (model,) = kind(document, "machine-learning-model")
    metrics = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert {
        "type": "ndcg@10", "value": "0.58", "slice": "everyone, 120 users",
        "confidenceInterval": {"lowerBound": "0.56", "upperBound": "0.6"},
    } in metrics  # fmt: skip
    assert {
        "type": "ndcg@10, difference against rest", "value": "-0.04", "slice": "country = LU, 12 users",
        "confidenceInterval": {"lowerBound": "-0.06", "upperBound": "-0.02"},
    } in metrics  # fmt: skip
    assert "popularity" not in {metric["type"] for metric in metrics}


def test_considerations_are_the_teams_words_the_limits_and_what_rules_found_of_groups(document: dict[str, Any]) -> None:
    (model,) = kind(document, "machine-learning-model")
    said = model["modelCard"]["considerations"]
    assert said["useCases"] == ["The home feed of a small shop."]
    assert "Out of scope: Prices" in said["technicalLimitations"]
    assert any("no proof of equal treatment" in line for line in said["technicalLimitations"])
    assert said["ethicalConsiderations"] == [
        {"name": "The feed repeats itself.", "mitigationStrategy": "Caps by category."}
    ]
    assert said["fairnessAssessments"] == [
        {"groupAtRisk": "Small sellers", "harms": "New sellers are not seen.",
         "mitigationStrategy": "Exposure of each is measured."},
        {
            "groupAtRisk": "country = DE",
            "harms": "No group is served far worse: pass. quality-popularity: found 0.01. See quality.json.",
            "mitigationStrategy": "Rule fairness-users of policy default@1.0.0 can stop a release.",
        },
    ]  # fmt: skip


def test_data_have_digests_and_the_files_they_were_read_from(document: dict[str, Any]) -> None:
    dataset, snapshot = kind(document, "data")
    assert [held["hashes"][0]["content"] for held in (dataset, snapshot)] == [HEX, HEX]
    assert [(file["name"], file["hashes"][0]["content"]) for file in snapshot["components"]] == [
        ("events: events.parquet", HEX)
    ]
    assert dataset["data"][0]["sensitiveData"] == ["gender"]


def test_every_locked_library_is_there_with_purl_version_and_all_hashes(
    document: dict[str, Any], libraries: tuple[LockedLibrary, ...]
) -> None:
    held = {library["purl"]: library for library in kind(document, "library")}
    assert set(held) == {library.purl for library in libraries}
    for library in libraries:
        (files,) = held[library.purl]["externalReferences"]
        assert [digest["content"] for digest in files["hashes"]] == list(library.hashes)
    assert sum("licenses" in library for library in held.values()) > len(held) / 2


def test_the_graph_leads_from_the_bento_to_every_library_and_to_the_log(document: dict[str, Any]) -> None:
    graph = {held["ref"]: held["dependsOn"] for held in document["dependencies"]}
    refs = {held["bom-ref"] for held in every(document) if "bom-ref" in held}
    assert {*graph} | {on for held in graph.values() for on in held} <= refs
    reached, waiting = set(), ["bento"]
    while waiting:
        ref = waiting.pop()
        if ref not in reached:
            reached.add(ref)
            waiting += graph[ref]
    assert reached == set(graph)
    assert {"model", "data:dataset", "data:snapshot"} <= reached


def test_references_are_unique(document: dict[str, Any]) -> None:
    refs = [held["bom-ref"] for held in every(document) if "bom-ref" in held]
    assert len(refs) == len(set(refs))


def test_figures_without_a_value_are_not_told_and_exact_ones_have_no_width(made: Callable[..., bytes]) -> None:
    run = small_run()
    held = run.evidence["calibration"]
    first = held.estimates[0]
    none = replace(first, metric="none", value=None, low=None, high=None)
    run.evidence["calibration"] = replace(held, estimates=(none, replace(first, low=None, high=None)))
    (model,) = kind(json.loads(made(run)), "machine-learning-model")
    by_type = {metric["type"]: metric for metric in model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]}
    assert "none" not in by_type
    assert "confidenceInterval" not in by_type["ece"]
