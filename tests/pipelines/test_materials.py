"""`rankgate sbom` tells what was packaged, and nothing of what was changed since."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from components.approval.contract import SCHEMA_VERSION as APPROVAL_VERSION
from components.approval.contract import Approval, Release
from components.artifacts import documents
from components.artifacts.digests import digest_bytes
from components.card.build import write_card
from components.errors import InputError
from components.package.contract import SCHEMA_VERSION, Package
from components.package.requirements import LockedLibrary
from components.package.sbom import sbom as make_sbom
from pipelines.cli.sbom import sbom
from pipelines.materials import read_materials
from pipelines.request import SCHEMA_VERSION as REQUEST_VERSION
from pipelines.request import RunRequest
from pipelines.runs import Home, Run

from ..components.card.conftest import small_run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run with a package, whose bento is of no interest here."""
    request = RunRequest(
        schema_version=REQUEST_VERSION, name="small-shop", contract="{}", policy_files={}, sources={}, as_of="",
        as_of_is_declared=True, incumbent="", incumbent_run="", seed=0, threads=1, code="c" * 64, libraries={},
        before=None, submitted_by="ada", asked_at="2026-11-23T00:00:00+00:00",
    )  # fmt: skip
    run = Home(tmp_path / "home").run_at(request.run)
    documents.save(request, run.folder / "request.json")
    (tmp_path / "card").mkdir()
    card = write_card(small_run().sources(tmp_path / "run"), out=tmp_path / "card")
    approval = Approval(APPROVAL_VERSION, run.name, "approved", "rita", "ada", "read", "2026-11-23T10:00:00+00:00",
                        "c" * 64, "d" * 64, "e" * 64, "f" * 64)  # fmt: skip
    content = make_sbom(card, Release("a" * 64, approval, "b" * 64), tag="rankgate-small-shop:aaaa", roots=("numpy",),
                        files={"model.ubj": "1" * 64}, libraries=(LockedLibrary("numpy", "0.0.1", ("2" * 64,), ()),))  # fmt: skip
    folder = run.folder / "package"
    folder.mkdir()
    (folder / "sbom.cdx.json").write_bytes(content)
    package = Package(
        SCHEMA_VERSION, run.name, "a" * 64, "e" * 64, "rankgate-small-shop:aaaa", "s", 1, {}, digest_bytes(content)
    )
    documents.save(package, folder / "package.json")
    return run


def said(run: Run, *words: str) -> str:
    home = str(run.folder.parents[1])
    return CliRunner().invoke(sbom, [run.name, *words], obj=home, catch_exceptions=False).output


def test_in_short_it_names_model_data_figures_and_libraries(run: Run) -> None:
    told = said(run)
    for line in (
        "bento      rankgate-small-shop:aaaa",
        f"model      {'e' * 64}  1 files",
        "libraries  1, each with the hashes of the lock",
        "             1  not said",
        "2026-11-23T10:00:00+00:00",
    ):
        assert line in told
    assert "small-shop snapshot" in told


def test_json_is_the_document(run: Run) -> None:
    assert json.loads(said(run, "--json")) == json.loads(read_materials(run))


def test_out_writes_the_very_bytes(run: Run, tmp_path: Path) -> None:
    said(run, "--out", str(tmp_path / "sbom.json"))
    assert (tmp_path / "sbom.json").read_bytes() == read_materials(run)


def test_a_document_that_was_changed_is_not_told(run: Run) -> None:
    place = run.folder / "package" / "sbom.cdx.json"
    place.write_bytes(place.read_bytes().replace(b"0.58", b"0.99"))
    with pytest.raises(InputError, match=r"found .*; needed .*, which was packaged\. Something changed it"):
        said(run)


def test_a_document_that_is_gone_and_a_run_that_was_not_packaged_say_what_to_do(run: Run) -> None:
    (run.folder / "package" / "sbom.cdx.json").unlink()
    with pytest.raises(InputError, match=f"Package again: rankgate package {run.name}"):
        said(run)
    (run.folder / "package" / "package.json").unlink()
    with pytest.raises(InputError, match="found no package"):
        said(run)


def test_a_package_without_a_bill_of_materials_is_of_an_older_rankgate(run: Run) -> None:
    place = run.folder / "package" / "package.json"
    held = json.loads(place.read_text()) | {"schema_version": 1}
    del held["sbom"]
    place.write_text(json.dumps(held))
    with pytest.raises(InputError, match="schema_version is 1; this rankgate reads Package 2"):
        said(run)
