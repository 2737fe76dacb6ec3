"""A policy's folder travels as text and comes out as it went in, inside its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.errors import InputError
from components.verdict.bundle import pack, unpack
from components.verdict.suite import check_suite


def test_a_policy_comes_out_as_it_went_in(repository: Path, tmp_path: Path) -> None:
    folder = repository / "policies" / "default"
    packed = pack(folder / "policy.yaml")
    place = unpack(packed, tmp_path)
    assert place == tmp_path / "policy.yaml"
    assert pack(tmp_path) == packed
    before, after = check_suite(folder), check_suite(place)
    assert (after.policy_digest, after.suite_digest) == (before.policy_digest, before.suite_digest)


def test_only_yaml_and_json_travel(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("name: x\n")
    (tmp_path / "notes.txt").write_text("mine")
    assert pack(tmp_path) == {"policy.yaml": "name: x\n"}


@pytest.mark.parametrize("name", ["../policy.yaml", "/tmp/policy.yaml", "a/../../b.yaml"])
def test_a_packed_policy_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="paths inside the policy's folder"):
        unpack({name: "x", "policy.yaml": "x"}, tmp_path / "in")
    assert not list(tmp_path.rglob("b.yaml"))


def test_a_folder_without_policy_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"found no policy\.yaml"):
        pack(tmp_path)
    with pytest.raises(InputError, match=r"needed policy\.yaml among them"):
        unpack({"suite.yaml": "x"}, tmp_path)


def test_a_policy_that_is_too_large_to_travel_is_told(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("# " + "x" * 120_000)
    with pytest.raises(InputError, match="needed at most 100,000"):
        pack(tmp_path)


def test_a_policy_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="cannot be read as text"):
        pack(tmp_path)
