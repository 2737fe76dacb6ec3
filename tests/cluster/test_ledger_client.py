"""What `rankgate approve --cluster` and `revoke --cluster` send, and what a real API server makes of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from api_server import Person, pod_template
from conftest import ANA, BEN, IMAGE, SAM, Gated, release

from components.approval.ledger import LedgerEntry, Revocation
from components.approval.ledger_cluster import ClusterLedger
from components.errors import BlockedError, InputError

pytestmark = pytest.mark.cluster

_REVOKED = Revocation(BEN.name, "2026-11-24T10:00:00+00:00", "shows nobody anything new")


def _as(gated: Gated, person: Person) -> ClusterLedger:
    return ClusterLedger(gated.server.client_of(person), gated.name)


def _entry(approver: str = ANA.name) -> LedgerEntry:
    return LedgerEntry(release(), "shop-0123456789", IMAGE, approver, SAM.name, "2026-11-23T10:00:00+00:00", "c" * 64)


def test_the_server_says_who_asks(gated: Gated) -> None:
    assert _as(gated, ANA).username() == ANA.name


def test_an_entry_is_added_once_and_revoked_once(gated: Gated) -> None:
    entry = _entry()
    for _ in range(2):
        assert _as(gated, ANA).add(entry).entries == (entry,)
    revoked = replace(entry, revoked=_REVOKED)
    for _ in range(2):
        assert _as(gated, BEN).revoke(entry.digest, _REVOKED).entries == (revoked,)
    assert _as(gated, SAM).read().entries == (revoked,)


def test_kubectl_shows_the_latest(gated: Gated) -> None:
    entry = _entry()
    _as(gated, ANA).add(entry)
    said = gated.server.kubectl("get", "ledger", "-n", gated.name).stdout.splitlines()
    assert said[0].split() == ["NAME", "RELEASES", "REVOKED", "LATEST", "BY", "AT"]
    assert said[1].split() == ["releases", "1", "0", entry.run, f"({entry.digest[:12]})", ANA.name, entry.approved_at]


def test_the_clusters_refusals_arrive_in_its_words(gated: Gated) -> None:
    entry = _entry()
    with pytest.raises(
        BlockedError, match=f"approve a release: an approval is made in one's own name: found approver {ANA.name}"
    ):
        _as(gated, BEN).add(entry)
    with pytest.raises(BlockedError, match=r"approve a release: nobody approves their own run\.$"):
        _as(gated, ANA).add(replace(entry, submitter=ANA.name))
    with pytest.raises(InputError, match=r"you may not .*cannot patch.*Ask the platform team"):
        _as(gated, SAM).add(replace(entry, approver=SAM.name, submitter=ANA.name))
    _as(gated, ANA).add(entry)
    with pytest.raises(
        BlockedError, match=r"an entry of the ledger is never rewritten; approve again, as another release\.$"
    ):
        _as(gated, ANA).add(replace(entry, image=IMAGE.replace("b", "d")))
    with pytest.raises(InputError, match="there is none"):
        ClusterLedger(gated.server.client_of(Person()), f"{gated.name}-other").read()


def test_people_who_write_at_once_all_write(gated: Gated) -> None:
    entries = [_entry((ANA, BEN)[number % 2].name) for number in range(12)]
    people = {person.name: _as(gated, person) for person in (ANA, BEN)}
    with ThreadPoolExecutor(6) as several:
        list(several.map(lambda entry: people[entry.approver].add(entry), entries))
    assert {entry.digest for entry in people[ANA.name].read().entries} == {entry.digest for entry in entries}


def test_whoever_revokes_sees_what_still_runs(gated: Gated) -> None:
    known = gated.approved()
    assert gated.create("Pod", pod_template(known, IMAGE)).admitted
    assert _as(gated, BEN).running(known) == ["tried"]
    assert _as(gated, BEN).running(release()) == []
