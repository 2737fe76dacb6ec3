"""A bento serves the release that it holds and nothing else, whoever starts it and with whatever words."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from components.approval.contract import SCHEMA_VERSION, Approval, Release
from components.artifacts import documents
from components.artifacts.digests import digest_file, digest_tree
from components.card.build import write_card
from components.errors import NotApprovedError
from components.package.bento import build_package
from components.package.contract import Package

from ..card.conftest import small_run

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


def _release(place: Path) -> Release:
    """What an approval of the ranker and the card below `place` lets out."""
    approval = Approval(
        schema_version=SCHEMA_VERSION,
        run="shop-1",
        decision="approved",
        approver="rita",
        submitter="ada",
        reason="read",
        decided_at="2026-11-23T00:00:00+00:00",
        card=digest_tree(place / "card"),
        verdict="b" * 64,
        ranker=digest_tree(place / "ranker"),
        policy="c" * 64,
    )
    return Release(digest="d" * 64, approval=approval, key_id="e" * 64)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """The files of a bento: `src` of what was exported, as its image would hold them."""
    folder = tmp_path_factory.mktemp("bento")
    for name in ("ranker", "out", "home", "unpacked", "card"):
        (folder / name).mkdir()
    (folder / "ranker" / "ranker.json").write_text("{}")
    (folder / "approval.dsse.json").write_text("{}")
    write_card(small_run().sources(folder / "run"), out=folder / "card")
    build_package(
        folder / "ranker",
        folder / "approval.dsse.json",
        _release(folder),
        card=folder / "card",
        lock=repository / "requirements.lock",
        bentoml_home=folder / "home",
        out=folder / "out",
    )
    with tarfile.open(folder / "out" / "ranker.tar") as packed:
        packed.extractall(folder / "unpacked", filter="data")
    return folder / "unpacked" / "src"


def started(source: Path, code: str, **said: str) -> subprocess.CompletedProcess[str]:
    """A program that knows the bento's code and no other rankgate."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RANKGATE")}
    environment |= {
        "PYTHONPATH": str(source),
        "BENTOML_DO_NOT_TRACK": "true",
        "BENTOML_HOME": str(source.parent),
        **said,
    }
    words = [sys.executable, "-P", "-c", code]
    return subprocess.run(words, cwd=source.parent, env=environment, capture_output=True, text=True, check=False)


def test_what_serves_a_bare_ranker_is_not_in_it(source: Path) -> None:
    held = {path.relative_to(source).as_posix() for path in source.rglob("*.py")}
    assert {"bentos/ranker/service.py", "bentos/ranker/answering.py", "components/package/release.py"} <= held
    assert not [name for name in held if "measuring" in name]
    assert not [
        path
        for path in source.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and b"RANKGATE_MEASURED_RANKER" in path.read_bytes()
    ]
    done = started(source, "import bentos.ranker, sys; print(bentos.ranker.__file__); import bentos.ranker.measuring")
    assert str(source) in done.stdout
    assert "No module named 'bentos.ranker.measuring'" in done.stderr


def test_naming_a_bare_ranker_to_it_changes_nothing(source: Path, tmp_path: Path) -> None:
    code = "from bentos.ranker.service import RankerService; RankerService.inner()"
    bare = tmp_path / "ranker"
    bare.mkdir()
    # The release of this bento is whole, but its ranker is an empty promise: what opens is the release, never the bare one.
    words = started(source, code, RANKGATE_MEASURED_RANKER=str(bare)).stderr
    assert "ranker.json" in words
    assert str(bare) not in words
    # A bare ranker in place of the release lacks the release's own document.
    words = started(source, code, RANKGATE_RELEASE=str(bare)).stderr
    assert "release.json" in words


def test_a_ranker_put_in_place_of_the_approved_one_is_refused(source: Path) -> None:
    foreign = source / "release" / "ranker" / "added.txt"
    foreign.write_text("another model")
    try:
        done = started(source, "from bentos.ranker.service import RankerService; RankerService.inner()")
    finally:
        foreign.unlink()
    assert done.returncode != 0
    assert "NotApprovedError" in done.stderr


def test_what_measures_candidates_refuses_even_when_it_is_put_there(source: Path, repository: Path) -> None:
    smuggled = source / "bentos" / "ranker" / "measuring.py"
    smuggled.write_text((repository / "bentos" / "ranker" / "measuring.py").read_text())
    try:
        code = "from bentos.ranker.measuring import MeasuredService; MeasuredService.inner()"
        done = started(source, code, RANKGATE_MEASURED_RANKER=str(source / "release" / "ranker"))
    finally:
        smuggled.unlink()
    assert done.returncode != 0
    assert "NotApprovedError" in done.stderr
    assert "found a release beside this code" in done.stderr


def test_the_package_names_its_bill_of_materials_by_its_bytes(source: Path) -> None:
    out = source.parents[1] / "out"
    package = documents.load(Package, out / "package.json")
    assert package.sbom == digest_file(out / "sbom.cdx.json")
    assert sorted(path.name for path in out.iterdir()) == ["package.json", "ranker.tar", "sbom.cdx.json"]


def test_the_same_release_is_packaged_again_with_the_same_bill_of_materials(
    source: Path, repository: Path, tmp_path: Path
) -> None:
    place = source.parents[1]
    before = documents.load(Package, place / "out" / "package.json")
    again = build_package(
        place / "ranker",
        place / "approval.dsse.json",
        _release(place),
        card=place / "card",
        lock=repository / "requirements.lock",
        bentoml_home=place / "home",
        out=tmp_path,
    )
    assert (again.sbom, again.bento_tag) == (before.sbom, before.bento_tag)


def test_a_card_that_was_not_approved_is_not_packaged(source: Path, repository: Path, tmp_path: Path) -> None:
    place = source.parents[1]
    held = _release(place)
    other = replace(held, approval=replace(held.approval, card="a" * 64))
    with pytest.raises(NotApprovedError, match=r"its card is .* the approval is for aaaaaaaaaaaa"):
        build_package(
            place / "ranker",
            place / "approval.dsse.json",
            other,
            card=place / "card",
            lock=repository / "requirements.lock",
            bentoml_home=tmp_path / "home",
            out=tmp_path,
        )
    assert list(tmp_path.iterdir()) == []
