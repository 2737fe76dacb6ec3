"""What goes into a cluster's ledger and what is read out of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from components.approval.contract import SCHEMA_VERSION, Approval, Release
from components.approval.ledger import (
    Ledger,
    LedgerEntry,
    Revocation,
    addition,
    entry_of,
    field_manager,
    read_ledger,
    reason_of,
    revocation,
    summary,
)
from components.errors import FaultyInputError, InputError

_IMAGE = f"registry.example.com/ranker@sha256:{'b' * 64}"
_APPROVAL = Approval(
    schema_version=SCHEMA_VERSION,
    run="shop-0123456789",
    decision="approved",
    approver="ana@shop.example",
    submitter="sam@shop.example",
    reason="",
    decided_at="2026-11-23T10:00:00+00:00",
    card="c" * 64,
    verdict="d" * 64,
    ranker="e" * 64,
    policy="f" * 64,
)
_RELEASE = Release("a" * 64, _APPROVAL, "key")
_ENTRY = entry_of(_RELEASE, image=_IMAGE)
_REVOKED = Revocation("ben@shop.example", "2026-11-24T10:00:00+00:00", "shows nobody anything new")


def _object(*patches: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """What an API server makes of patches that are applied one after another."""
    releases: dict[str, Any] = {}
    for patch in patches:
        for digest, fields in patch["spec"]["releases"].items():
            releases[digest] = releases.get(digest, {}) | fields
    return {"spec": {"releases": releases, **spec}}


def test_an_entry_says_what_was_signed() -> None:
    assert replace(_ENTRY, digest="", card="") == LedgerEntry(
        "", _APPROVAL.run, _IMAGE, _APPROVAL.approver, _APPROVAL.submitter, _APPROVAL.decided_at, ""
    )
    assert (_ENTRY.digest, _ENTRY.card) == (_RELEASE.digest, _APPROVAL.card)


def test_what_was_added_and_revoked_is_read_back() -> None:
    added = _object(addition(_ENTRY))
    assert read_ledger(added, namespace="ranking").entries == (_ENTRY,)
    both = _object(addition(_ENTRY), revocation(_ENTRY.digest, _REVOKED))
    assert read_ledger(both, namespace="ranking").entries == (replace(_ENTRY, revoked=_REVOKED),)


def test_a_revocation_names_nothing_else_of_the_entry() -> None:
    """Whoever applies a field owns it with others: a revocation is not to hold the approval."""
    (fields,) = revocation(_ENTRY.digest, _REVOKED)["spec"]["releases"].values()
    assert set(fields) == {"revoked"}
    (fields,) = addition(replace(_ENTRY, revoked=_REVOKED))["spec"]["releases"].values()
    assert "revoked" not in fields


def test_each_action_on_each_release_has_a_field_manager_of_its_own() -> None:
    names = {field_manager(action, digest * 64) for action in ("approve", "revoke") for digest in "ab"}
    assert len(names) == 4
    assert all(len(name) <= 128 for name in names)


def test_what_the_cluster_would_refuse_is_refused_before_all_at_once() -> None:
    wrong = replace(_APPROVAL, decision="refused", approver="SAM@shop.example ", run="a/b")
    with pytest.raises(FaultyInputError) as caught:
        entry_of(replace(_RELEASE, approval=wrong), image="ranker:latest")
    assert [fault.where for fault in caught.value.faults] == ["image", "run", "decision", "approver"]


@pytest.mark.parametrize(
    "image", ["", "ranker", "ranker:1", f"ranker@sha256:{'b' * 63}", f"ranker@sha256:{'b' * 64}\n"]
)
def test_an_image_is_pinned(image: str) -> None:
    with pytest.raises(FaultyInputError, match="pinned by digest"):
        entry_of(_RELEASE, image=image)


@pytest.mark.parametrize("name", ["system:serviceaccount:ranking:deployer", "x" * 257])
def test_a_person_is_one(name: str) -> None:
    with pytest.raises(FaultyInputError, match="name of a person"):
        entry_of(replace(_RELEASE, approval=replace(_APPROVAL, approver=name)), image=_IMAGE)


def test_a_name_of_256_characters_is_taken() -> None:
    assert entry_of(replace(_RELEASE, approval=replace(_APPROVAL, approver="x" * 256)), image=_IMAGE)


@pytest.mark.parametrize(("text", "reason"), [(" one\n two ", "one two"), ("x" * 500, "x" * 500)])
def test_a_reason_is_one_line(text: str, reason: str) -> None:
    assert reason_of(text) == reason


@pytest.mark.parametrize("text", ["", " \n", "x" * 501])
def test_a_revocation_has_a_reason_of_some_length(text: str) -> None:
    with pytest.raises(InputError, match="needed 1 to 500"):
        reason_of(text)


def _ledger() -> Ledger:
    later = replace(
        _ENTRY, digest="ab" * 32, run="shop-later", approved_at="2026-11-25T10:00:00+00:00", revoked=_REVOKED
    )
    again = replace(_ENTRY, digest="ac" * 32, approved_at="2026-11-24T10:00:00+00:00")
    patches = [addition(_ENTRY), addition(again), addition(later), revocation(later.digest, _REVOKED)]
    return read_ledger(_object(*patches, infrastructure={"proxy": _IMAGE}), namespace="ranking")


def test_the_latest_comes_first() -> None:
    assert [entry.digest[:2] for entry in _ledger().entries] == ["ab", "ac", "aa"]


@pytest.mark.parametrize(
    ("word", "digest"),
    [("shop-0123456789", "ac" * 32), ("aa", "a" * 64), ("ab" * 32, "ab" * 32), ("shop-later", "ab" * 32)],
)
def test_a_release_is_found_by_run_or_by_what_its_digest_begins_with(word: str, digest: str) -> None:
    assert _ledger().find(word).digest == digest


@pytest.mark.parametrize(
    ("word", "found"), [("a", "3 releases"), ("b", "no release or run"), ("", "no release or run")]
)
def test_a_word_that_names_none_or_several_is_refused(word: str, found: str) -> None:
    with pytest.raises(InputError, match=found):
        _ledger().find(word)


def test_what_kubectl_shows_counts_and_names_the_latest() -> None:
    assert summary(_ledger()) == {
        "releases": 3,
        "revoked": 1,
        "latest": f"shop-later ({'ab' * 6}, revoked)",
        "by": "ana@shop.example",
        "at": "2026-11-25T10:00:00+00:00",
        "image": _IMAGE,
    }
    assert summary(Ledger("ranking", (), {})) == {"releases": 0, "revoked": 0}


@pytest.mark.parametrize("spec", [{}, {"releases": {}}, {"infrastructure": {}}])
def test_an_empty_ledger_is_one(spec: dict[str, Any]) -> None:
    assert read_ledger({"spec": spec}, namespace="ranking") == Ledger("ranking", (), {})


@pytest.mark.parametrize(
    "document", [{}, {"spec": None}, {"spec": {"releases": {"a": {"run": 3}}}}, {"spec": {"releases": []}}]
)
def test_what_is_no_ledger_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="ledger of ranking: found something else at spec"):
        read_ledger(document, namespace="ranking")


def test_a_digest_that_is_none_is_never_sent() -> None:
    with pytest.raises(InputError, match="64 hexadecimal digits"):
        revocation("../status", _REVOKED)
