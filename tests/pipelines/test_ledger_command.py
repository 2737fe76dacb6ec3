"""`rankgate approve --cluster`, `revoke --cluster` and `ledger`, before an API server that answers as a real one did."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))

from ledger_api import LedgerApi, by_conflict, by_policy, by_role, by_rule, serving, write_kubeconfig

import pipelines.ledger as ledger_module
from components.approval.contract import SCHEMA_VERSION, Approval, Release
from components.errors import BlockedError, InputError, NotApprovedError, RankgateError
from pipelines.cli.main import rankgate

ANA, BEN, SAM = "ana@shop.example", "ben@shop.example", "sam@shop.example"
IMAGE = f"registry.example.com/ranker@sha256:{'b' * 64}"
RUN = "shop-0123456789"
RELEASE = Release(
    "a" * 64,
    Approval(
        schema_version=SCHEMA_VERSION, run=RUN, decision="approved", approver=ANA, submitter=SAM, reason="read it",
        decided_at="2026-11-23T10:00:00+00:00", card="c" * 64, verdict="d" * 64, ranker="e" * 64, policy="f" * 64,
    ),
    "key",
)  # fmt: skip


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LedgerApi]:
    found = LedgerApi()
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    with serving(found, tmp_path / "kubeconfig"):
        yield found


class Desk:
    """Stands for the run's folder: what was signed there, and how often somebody signed."""

    def __init__(self) -> None:
        self.lies: Release | None = None
        self.signed = 0

    def decide(self, *_: Any, approver: str, decision: str, **__: Any) -> Release:
        assert decision == "approved"
        self.signed += 1
        self.lies = replace(RELEASE, approval=replace(RELEASE.approval, approver=approver))
        return self.lies

    def verify(self, *_: Any) -> Release:
        if self.lies is None:
            raise NotApprovedError("found no approval")
        return self.lies


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Desk:
    found = Desk()
    monkeypatch.setattr(ledger_module, "decide_release", found.decide)
    monkeypatch.setattr(ledger_module, "verify_release", found.verify)
    (tmp_path / "home" / "runs" / RUN).mkdir(parents=True)
    (tmp_path / "home" / "runs" / RUN / "request.json").write_text("{}")
    (tmp_path / "ana.pub").write_text("")
    return found


def _call(tmp_path: Path, *words: str) -> str:
    done = CliRunner().invoke(
        rankgate, ["--home", str(tmp_path / "home"), *words], catch_exceptions=False, standalone_mode=False
    )
    if done.exception:
        raise done.exception
    return done.output


def _approve(tmp_path: Path, *more: str, name: str = ANA, image: str = IMAGE) -> str:
    key = str(tmp_path / "ana")
    return _call(tmp_path, "approve", RUN, "--key", key, "--as", name, "--cluster", "--image", image, *more)


def _entries(api: LedgerApi) -> dict[str, Any]:
    assert api.ledger is not None
    releases: dict[str, Any] = api.ledger["spec"].get("releases", {})
    return releases


def test_an_approval_is_signed_and_written_as_signed(api: LedgerApi, desk: Desk, tmp_path: Path) -> None:
    said = _approve(tmp_path)
    assert _entries(api) == {
        RELEASE.digest: {
            "digest": RELEASE.digest, "run": RUN, "image": IMAGE, "approver": ANA, "submitter": SAM,
            "approvedAt": "2026-11-23T10:00:00+00:00", "card": "c" * 64,
        }
    }  # fmt: skip
    assert desk.signed == 1
    assert api.managers == [f"rankgate-approve-{'a' * 16}"]
    assert f"is in the ledger of ranking as {IMAGE}" in said
    assert api.ledger is not None
    assert api.ledger["status"] == {
        "releases": 1, "revoked": 0, "latest": f"{RUN} ({'a' * 12})", "by": ANA,
        "at": "2026-11-23T10:00:00+00:00", "image": IMAGE,
    }  # fmt: skip


def test_again_it_neither_signs_nor_writes(api: LedgerApi, desk: Desk, tmp_path: Path) -> None:
    _approve(tmp_path)
    assert "was already in the ledger" in _approve(tmp_path)
    assert (desk.signed, api.patches) == (1, 1)


def test_what_this_person_signed_before_is_written_as_it_is(api: LedgerApi, desk: Desk, tmp_path: Path) -> None:
    desk.lies = RELEASE
    _approve(tmp_path)
    assert desk.signed == 0
    assert list(_entries(api)) == [RELEASE.digest]


def test_what_another_signed_is_not_taken_for_ones_own(api: LedgerApi, desk: Desk, tmp_path: Path) -> None:
    desk.lies = replace(RELEASE, approval=replace(RELEASE.approval, approver=BEN))
    _approve(tmp_path)
    assert desk.signed == 1


def test_a_name_that_the_cluster_does_not_know_one_by_is_refused_before_signing(
    api: LedgerApi, desk: Desk, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=rf"found '{BEN}', while the cluster knows you as '{ANA}'.*--as {ANA}"):
        _approve(tmp_path, name=BEN)
    assert (desk.signed, api.patches) == (0, 0)


def test_an_anonymous_person_is_nobody(api: LedgerApi, desk: Desk, tmp_path: Path) -> None:
    api.username = "system:anonymous"
    with pytest.raises(InputError, match=r"needed somebody\. Log in"):
        _approve(tmp_path)
    assert desk.signed == 0


def test_without_an_image_nothing_is_signed(api: LedgerApi, desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="image: found none; needed the release's, by digest"):
        _approve(tmp_path, image="")
    assert desk.signed == 0


def test_an_image_by_tag_is_refused_and_never_sent(api: LedgerApi, desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="pinned by digest"):
        _approve(tmp_path, image="ranker:latest")
    assert api.patches == 0


def test_another_image_of_an_entry_is_refused_with_both_named(api: LedgerApi, desk: Desk, tmp_path: Path) -> None:
    _approve(tmp_path)
    other = IMAGE.replace("b", "d")
    with pytest.raises(InputError, match=f"was approved as {IMAGE}; found {other}"):
        _approve(tmp_path, image=other)
    assert api.patches == 1


def test_a_revoked_release_is_not_added_again(api: LedgerApi, desk: Desk, tmp_path: Path) -> None:
    _approve(tmp_path)
    _call(tmp_path, "revoke", RUN, "--cluster", "--reason", "shows nobody anything new")
    with pytest.raises(BlockedError, match=f"was revoked by {ANA} at .*: shows nobody anything new"):
        _approve(tmp_path)


@pytest.mark.parametrize(
    ("refusal", "kind", "words"),
    [
        (by_policy("an approval is made in one's own name"), BlockedError, "refused to approve a release: an approval is"),
        (by_rule("nobody approves their own run"), BlockedError, "refused to approve a release: nobody approves their own run."),
        (by_rule("one", "two", "one"), BlockedError, "refused to approve a release: one; two."),
        (by_role(), InputError, "could not approve a release: you may not .*cannot patch.*Ask the platform team"),
        ((401, {"message": "Unauthorized"}), InputError, "it does not know you .*Log in"),
        ((500, {}), InputError, "HTTP 500.*Try again"),
    ],
)  # fmt: skip
def test_a_refusal_is_told_in_the_clusters_words(
    api: LedgerApi, desk: Desk, tmp_path: Path, refusal: tuple[int, Any], kind: type[RankgateError], words: str
) -> None:
    api.refusals = [refusal]
    with pytest.raises(kind, match=words):
        _approve(tmp_path)
    assert _entries(api) == {}


def test_a_conflict_is_tried_again(api: LedgerApi, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.approval.ledger_cluster.time.sleep", lambda _: None)
    api.refusals = [by_conflict()] * 5
    _approve(tmp_path)
    assert (api.patches, list(_entries(api))) == (6, [RELEASE.digest])


def test_a_conflict_that_does_not_end_is_told(
    api: LedgerApi, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.approval.ledger_cluster.time.sleep", lambda _: None)
    api.refusals = [by_conflict()] * 6
    with pytest.raises(InputError, match="others wrote to it each of 6 times"):
        _approve(tmp_path)
    assert _entries(api) == {}


def test_a_cluster_without_a_ledger_is_told_before_anything_is_made(api: LedgerApi, desk: Desk, tmp_path: Path) -> None:
    api.ledger = None
    with pytest.raises(InputError, match=r"there is none .*The platform team sets it up \(docs/cluster.md\)"):
        _approve(tmp_path)
    assert api.patches == 0


def test_a_cluster_that_does_not_answer_is_named(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    write_kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1")
    with pytest.raises(InputError, match=r"cannot be reached at http://127.0.0.1:1"):
        _approve(tmp_path)
    assert desk.signed == 0


def test_without_a_kubeconfig_it_says_how_to_name_one(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"kubeconfig: found none.*KUBECONFIG.*--context"):
        _approve(tmp_path)


def test_a_context_that_is_none_is_told(api: LedgerApi, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="elsewhere"):
        _call(tmp_path, "ledger", "--context", "elsewhere")


def test_a_revocation_says_who_why_and_what_still_runs(api: LedgerApi, desk: Desk, tmp_path: Path) -> None:
    _approve(tmp_path)
    api.username = BEN
    annotations = {"rankgate.dev/release": RELEASE.digest}
    api.pods = [
        {"metadata": {"name": "two", "annotations": annotations}, "status": {"phase": "Running"}},
        {"metadata": {"name": "over", "annotations": annotations}, "status": {"phase": "Failed"}},
        {"metadata": {"name": "other"}, "status": {"phase": "Running"}},
    ]
    said = _call(tmp_path, "revoke", "aaaa", "--cluster", "--reason", "shows nobody\nanything new")
    revoked = _entries(api)[RELEASE.digest]["revoked"]
    assert (revoked["by"], revoked["reason"]) == (BEN, "shows nobody anything new")
    assert f"{RUN}: revoked by {BEN}" in said
    assert "1 Pod still runs it: two." in said
    again = _call(tmp_path, "revoke", RUN, "--cluster", "--reason", "another reason")
    assert f"was already revoked by {BEN}" in again
    assert _entries(api)[RELEASE.digest]["revoked"] == revoked


def test_a_release_that_is_not_there_is_not_revoked(api: LedgerApi, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no release or run of that name: 'shop'"):
        _call(tmp_path, "revoke", "shop", "--cluster", "--reason", "because")


def test_the_list_shows_what_may_run_and_what_not(api: LedgerApi, desk: Desk, tmp_path: Path) -> None:
    assert "has no releases" in _call(tmp_path, "ledger")
    _approve(tmp_path)
    said = _call(tmp_path, "ledger")
    assert [word in said for word in ("a" * 12, RUN, ANA, SAM, "may run")] == [True] * 5
    _call(tmp_path, "revoke", RUN, "--cluster", "--reason", "because")
    said = json.loads(_call(tmp_path, "ledger", "--json"))
    assert said["namespace"] == "ranking"
    (entry,) = said["entries"]
    assert (entry["run"], entry["revoked"]["reason"]) == (RUN, "because")


def test_where_in_a_cluster_is_no_question_without_one(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="add --cluster"):
        _call(tmp_path, "approve", RUN, "--key", "k", "--as", ANA, "--image", IMAGE)
