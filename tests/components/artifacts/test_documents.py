"""Contract dataclasses to JSON and back."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from components.artifacts import documents
from components.errors import FaultyInputError, InputError
from components.evidence.contract import SCHEMA_VERSION, Estimate, Evidence


def _evidence(**changes: object) -> Evidence:
    estimate = Estimate(
        metric="ndcg@10",
        statistic="difference",
        subject="candidate",
        versus="popularity",
        segment={"country": "DE"},
        value=0.1,
        low=0.05,
        high=0.15,
        level=0.95,
        n_users=1200,
        n_requests=4000,
        method="user bootstrap",
        mde=0.02,
        detail={"ratio": 1.2},
    )
    whole = Evidence(
        schema_version=SCHEMA_VERSION,
        question="quality",
        estimates=(estimate, dataclasses.replace(estimate, value=None, low=None, high=None)),
        conventions={"ties": "served order"},
        inputs={"rankings": "0" * 64},
        tables={},
        reports={},
        libraries={"numpy": "2"},
        seed=1,
    )
    return dataclasses.replace(whole, **changes)  # type: ignore[arg-type]


def test_a_document_reads_back_as_it_was(tmp_path: Path) -> None:
    documents.save(_evidence(), tmp_path / "quality.json")
    assert documents.load(Evidence, tmp_path / "quality.json") == _evidence()


def test_the_same_document_is_the_same_bytes() -> None:
    assert documents.to_bytes(_evidence()) == documents.to_bytes(_evidence())


def test_a_document_with_nan_cannot_be_written(tmp_path: Path) -> None:
    bad = dataclasses.replace(_evidence().estimates[0], value=float("nan"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        documents.save(_evidence(estimates=(bad,)), tmp_path / "quality.json")
    assert not (tmp_path / "quality.json").exists()


def _altered(**changes: object) -> bytes:
    value = json.loads(documents.to_bytes(_evidence()))
    for path, new in changes.items():
        place = value
        *way, last = path.split("__")
        for key in way:
            place = place[int(key) if key.isdigit() else key]
        if new is KeyError:
            del place[last]
        else:
            place[last] = new
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({"estimates__0__value": "much"}, "estimates.0.value"),
        ({"estimates__0__metric": KeyError}, "estimates.0.metric"),
        ({"estimates__1__surprise": 1}, "estimates.1.surprise"),
        ({"surprise": 1}, "surprise"),
        ({"question": "taste"}, "question"),
    ],
)
def test_a_fault_at_any_depth_is_refused_with_its_place(changes: dict[str, object], needed: str) -> None:
    with pytest.raises(FaultyInputError, match=needed.replace(".", r"\.")):
        documents.parse(Evidence, _altered(**changes), subject="quality.json")


def test_nan_in_a_document_is_refused() -> None:
    content = documents.to_bytes(_evidence()).replace(b'"value":0.1', b'"value":NaN')
    with pytest.raises(InputError, match="NaN is not a number"):
        documents.parse(Evidence, content, subject="quality.json")


@pytest.mark.parametrize("version", [0, SCHEMA_VERSION + 1, "1", None])
def test_another_schema_version_is_refused(version: object) -> None:
    with pytest.raises(InputError, match="schema_version is"):
        documents.parse(Evidence, _altered(schema_version=version), subject="quality.json")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_what_is_no_document_is_refused(content: bytes) -> None:
    with pytest.raises(InputError):
        documents.parse(Evidence, content, subject="quality.json")


def test_an_absent_document_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        documents.load(Evidence, tmp_path / "quality.json")
