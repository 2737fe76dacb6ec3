"""Who may write what into a ledger, asked of a real API server: the kind's own rules, RBAC and the ledger's policy."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from api_server import ADMIN, JSON_PATCH, LEDGERS, MERGE, Answer, Person
from conftest import ANA, BEN, IMAGE, PAT, PROXY, SAM, Gated, entry_said, release

pytestmark = pytest.mark.cluster

NOBODY = Person("nobody@shop.example")


def refused(answer: Answer, *words: str) -> None:
    assert not answer.admitted
    for word in words:
        assert word in answer.message


def held(gated: Gated) -> dict[str, Any]:
    answer = gated.server.ask("GET", gated.ledger)
    assert answer.admitted, answer.message
    releases: dict[str, Any] = answer.body["spec"].get("releases", {})
    return releases


def test_a_reviewer_adds_an_entry_in_their_own_name(gated: Gated) -> None:
    digest = release()
    assert gated.approve(ANA, digest).admitted
    assert held(gated) == {digest: entry_said(digest, approver=ANA.name)}


def test_the_same_entry_twice_is_one_entry(gated: Gated) -> None:
    digest = release()
    assert gated.approve(ANA, digest).admitted
    assert gated.approve(ANA, digest).admitted
    assert list(held(gated)) == [digest]


def test_nobody_approves_in_anothers_name(gated: Gated) -> None:
    refused(
        gated.approve(ANA, approver=BEN.name), "in one's own name", f"found approver {BEN.name}", f"asked by {ANA.name}"
    )


def test_a_cluster_administrator_does_not_either(gated: Gated) -> None:
    refused(gated.approve(ADMIN, approver=BEN.name), "in one's own name")


@pytest.mark.parametrize("submitter", [ANA.name, ANA.name.upper()])
def test_nobody_approves_their_own_run(gated: Gated, submitter: str) -> None:
    refused(gated.approve(ANA, submitter=submitter), "nobody approves their own run")


def test_a_submitter_reads_the_ledger_and_writes_nothing(gated: Gated) -> None:
    assert gated.server.ask("GET", gated.ledger, person=SAM).admitted
    refused(gated.approve(SAM, submitter=ANA.name), "cannot patch resource", "releaseledgers")


def test_a_stranger_does_not_even_read_it(gated: Gated) -> None:
    refused(gated.server.ask("GET", gated.ledger, person=NOBODY), "cannot get resource")


def test_the_platform_team_approves_nothing(gated: Gated) -> None:
    refused(gated.approve(PAT), f"{PAT.name} may not approve in namespace {gated.name}", "which reviewers have")


def test_the_platform_team_revokes_nothing(gated: Gated) -> None:
    digest = release()
    assert gated.approve(ANA, digest).admitted
    refused(gated.revoke(digest, PAT), f"{PAT.name} may not revoke in namespace {gated.name}")


def test_a_reviewer_of_one_namespace_is_none_of_another(gated: Gated, make_namespace: Callable[[], Gated]) -> None:
    other = make_namespace()
    binding = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{other.name}/rolebindings/rankgate-reviewers"
    assert gated.server.ask("DELETE", binding).admitted
    refused(other.approve(ANA), "cannot patch resource")
    assert gated.approve(ANA).admitted


def test_a_deployer_approves_nothing(gated: Gated) -> None:
    refused(gated.approve(gated.deployer), "cannot patch resource")


@pytest.mark.parametrize(
    ("field", "value"),
    [("run", "shop-other"), ("image", IMAGE.replace("b", "d")), ("submitter", "eve@shop.example"),
     ("approvedAt", "2026-11-24T10:00:00Z"), ("card", "d" * 64), ("approver", BEN.name)],
)  # fmt: skip
def test_an_entry_is_never_rewritten(gated: Gated, field: str, value: str) -> None:
    digest = release()
    assert gated.approve(ANA, digest).admitted
    refused(gated.approve(ANA, digest, **{field: value}), "never rewritten")
    refused(gated.approve(ADMIN, digest, approver=ANA.name, **{field: value}) if field != "approver" else
            gated.approve(ADMIN, digest, approver=value), "never rewritten")  # fmt: skip
    assert held(gated)[digest] == entry_said(digest, approver=ANA.name)


@pytest.mark.parametrize("person", [ANA, ADMIN], ids=["reviewer", "administrator"])
@pytest.mark.parametrize("whole", [False, True], ids=["entry", "all"])
def test_an_entry_is_never_removed(gated: Gated, person: Person, whole: bool) -> None:
    digest = release()
    assert gated.approve(ANA, digest).admitted
    path = "/spec/releases" if whole else f"/spec/releases/{digest}"
    answer = gated.server.ask(
        "PATCH", gated.ledger, [{"op": "remove", "path": path}], person=person, content=JSON_PATCH
    )
    refused(answer, "never removed; revoke it")


def test_a_ledger_is_not_replaced_by_an_empty_one(gated: Gated) -> None:
    assert gated.approve(ANA).admitted
    now = gated.server.ask("GET", gated.ledger).body
    refused(gated.server.ask("PUT", gated.ledger, now | {"spec": {}}), "never removed; revoke it")


def test_an_entry_withdrawn_by_its_manager_is_refused_too(gated: Gated) -> None:
    """Server-side apply drops what a manager no longer names: that would remove the entry."""
    digest = release()
    assert gated.apply({digest: entry_said(digest, approver=ANA.name)}, ANA, manager="one").admitted
    refused(gated.apply({}, ANA, manager="one"), "never removed; revoke it")


def test_a_reviewer_revokes_anothers_approval_in_their_own_name(gated: Gated) -> None:
    digest = release()
    assert gated.approve(ANA, digest).admitted
    assert gated.revoke(digest, BEN).admitted
    assert held(gated)[digest]["revoked"]["by"] == BEN.name


def test_nobody_revokes_in_anothers_name(gated: Gated) -> None:
    digest = release()
    assert gated.approve(ANA, digest).admitted
    refused(gated.revoke(digest, BEN, by=ANA.name), "in one's own name", f"found by {ANA.name}", f"asked by {BEN.name}")


def test_a_revocation_is_never_taken_back(gated: Gated) -> None:
    digest = release()
    assert gated.approve(ANA, digest).admitted
    assert gated.revoke(digest, BEN).admitted
    path = f"/spec/releases/{digest}/revoked"
    for person in (ANA, BEN, ADMIN):
        answer = gated.server.ask(
            "PATCH", gated.ledger, [{"op": "remove", "path": path}], person=person, content=JSON_PATCH
        )
        refused(answer, "never taken back")


def test_a_revocation_is_never_rewritten(gated: Gated) -> None:
    digest = release()
    assert gated.approve(ANA, digest).admitted
    assert gated.revoke(digest, BEN).admitted
    refused(gated.revoke(digest, BEN, reason="another"), "never taken back or rewritten")


def test_an_entry_that_comes_revoked_is_revoked_in_ones_own_name(gated: Gated) -> None:
    revoked = {"by": BEN.name, "at": "2026-11-23T12:00:00Z", "reason": "seen before"}
    refused(gated.approve(ANA, revoked=revoked), "a revocation is made in one's own name")
    assert gated.approve(ANA, revoked=revoked | {"by": ANA.name}).admitted


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image": "registry.example.com/ranker:latest"}, ("image", "should match")),
        ({"card": "0123"}, ("card", "should match")),
        ({"run": "../other"}, ("run", "should match")),
        ({"submitter": ""}, ("submitter", "should match")),
        ({"submitter": "system:serviceaccount:x:y"}, ("system accounts do not",)),
        ({"approvedAt": "yesterday"}, ("approvedAt", "date-time")),
        ({"submitter": "x" * 257}, ("Too long",)),
        ({"revoked": {"by": ANA.name, "at": "2026-11-23T12:00:00Z", "reason": "one\ntwo"}}, ("reason", "should match")),
        ({"revoked": {"by": ANA.name, "at": "2026-11-23T12:00:00Z", "reason": ""}}, ("reason",)),
    ],
)  # fmt: skip
def test_an_entry_has_its_shape(gated: Gated, changes: dict[str, Any], words: tuple[str, ...]) -> None:
    refused(gated.approve(ANA, **changes), *words)


def test_an_entry_lies_under_its_own_digest(gated: Gated) -> None:
    for key, digest, words in (
        (release(), release(), "an entry's key is its release's digest"),
        ("shop", "shop", "should match"),
        ("A" * 64, "A" * 64, "should match"),
    ):
        refused(gated.apply({key: entry_said(digest, approver=ANA.name)}, ANA), words)


def test_an_entry_is_whole(gated: Gated) -> None:
    digest = release()
    for field in entry_said(digest, approver=ANA.name):
        entry = entry_said(digest, approver=ANA.name)
        del entry[field]
        assert not gated.apply({digest: entry}, ANA).admitted, field


def test_a_service_account_approves_nothing_whatever_its_role(gated: Gated) -> None:
    bindings = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{gated.name}/rolebindings"
    binding = {
        "metadata": {"name": "too-much"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "rankgate-reviewer"},
        "subjects": [{"kind": "ServiceAccount", "name": "deployer", "namespace": gated.name}],
    }
    assert gated.server.ask("POST", bindings, binding).admitted
    gated.until(lambda: "system accounts do not" in gated.approve(gated.deployer).message)


def test_a_ledger_has_room_for_512_releases_and_no_more(gated: Gated) -> None:
    many = {digest: entry_said(digest, approver=ANA.name) for digest in (release() for _ in range(513))}
    refused(gated.apply(many, ANA), "must have at most 512 items")
    del many[next(iter(many))]
    assert gated.apply(many, ANA).admitted
    assert gated.revoke(next(iter(many)), BEN).admitted


def test_a_namespace_has_one_ledger(gated: Gated) -> None:
    other = {"apiVersion": "rankgate.dev/v1", "kind": "ReleaseLedger", "metadata": {"name": "mine"}, "spec": {}}
    refused(
        gated.server.ask("POST", LEDGERS.format(gated.name), other),
        "a namespace has one ledger, which is called releases",
    )


def test_a_ledger_with_entries_is_not_deleted(gated: Gated) -> None:
    assert gated.approve(ANA).admitted
    refused(gated.server.ask("DELETE", gated.ledger), "a ledger with entries is not deleted")
    refused(gated.server.ask("DELETE", LEDGERS.format(gated.name)), "a ledger with entries is not deleted")
    assert held(gated)


def test_an_empty_ledger_may_be_deleted_and_made_with_entries_only_in_ones_own_name(gated: Gated) -> None:
    assert gated.server.ask("DELETE", gated.ledger).admitted
    digest = release()
    new = {"apiVersion": "rankgate.dev/v1", "kind": "ReleaseLedger", "metadata": {"name": "releases"}}
    told = new | {"spec": {"releases": {digest: entry_said(digest, approver=BEN.name)}}}
    refused(gated.server.ask("POST", LEDGERS.format(gated.name), told), "in one's own name")
    refused(gated.server.ask("POST", LEDGERS.format(gated.name), told, person=PAT), "may not approve")
    assert gated.server.ask("POST", LEDGERS.format(gated.name), new | {"spec": {}}, person=PAT).admitted


def test_the_platform_team_says_what_else_may_run(gated: Gated) -> None:
    change = {"spec": {"infrastructure": {"proxy": PROXY}}}
    for person in (ANA, SAM, gated.deployer):
        assert not gated.server.ask("PATCH", gated.ledger, change, person=person, content=MERGE).admitted
    answer = gated.server.ask("PATCH", gated.ledger, change, person=ANA, content=MERGE)
    refused(
        answer, f"{ANA.name} may not change the infrastructure of namespace {gated.name}", "which the platform team has"
    )
    assert gated.server.ask("PATCH", gated.ledger, change, person=PAT, content=MERGE).admitted
    assert gated.server.ask(
        "PATCH", gated.ledger, {"spec": {"infrastructure": None}}, person=PAT, content=MERGE
    ).admitted


def test_infrastructure_is_by_digest(gated: Gated) -> None:
    change = {"spec": {"infrastructure": {"proxy": "envoyproxy/envoy:v1.40"}}}
    refused(
        gated.server.ask("PATCH", gated.ledger, change, person=PAT, content=MERGE),
        "infrastructure.proxy",
        "should match",
    )


def test_twenty_approvals_at_once_are_all_there(gated: Gated) -> None:
    digests = [release() for _ in range(20)]
    with ThreadPoolExecutor(8) as several:
        answers = list(several.map(lambda at: gated.approve((ANA, BEN)[at[0] % 2], at[1]), enumerate(digests)))
    assert [answer.message for answer in answers if not answer.admitted] == []
    assert set(held(gated)) == set(digests)


def test_a_summary_is_written_by_reviewers_and_decides_nothing(gated: Gated) -> None:
    status = {"status": {"releases": 7, "latest": "any"}, "spec": {"releases": {secrets.token_hex(32): {}}}}
    assert gated.server.ask("PATCH", f"{gated.ledger}/status", status, person=ANA, content=MERGE).admitted
    assert held(gated) == {}
    refused(gated.server.ask("PATCH", f"{gated.ledger}/status", status, person=SAM, content=MERGE), "cannot patch")
