"""What a cluster's ledger holds of releases, and the patches that add to it: plain values, no cluster.

A ledger is one object a namespace, `releases`, of the kind ReleaseLedger (manifests/base/gate). Each entry and each revocation is
applied by a field manager of its own, so that what two people write at once never meets. The cluster's own rules decide
whether a patch is taken; what is refused here is refused before anything is sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.approval.contract import Release
from components.approval.people import is_same_person
from components.errors import Fault, FaultyInputError, InputError

GROUP, VERSION, PLURAL, NAME = "rankgate.dev", "v1", "releaseledgers", "releases"

_IMAGE = re.compile(r"[a-z0-9][a-z0-9._/:-]*@sha256:[0-9a-f]{64}")
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LONGEST_REASON = 500


@dataclass(frozen=True, slots=True)
class Revocation:
    by: str
    at: str
    """RFC 3339."""
    reason: str


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    digest: str
    run: str
    image: str
    """By digest: what may run as this release, and nothing else."""
    approver: str
    submitter: str
    approved_at: str
    """RFC 3339."""
    card: str
    revoked: Revocation | None = None


@dataclass(frozen=True, slots=True)
class Ledger:
    namespace: str
    entries: tuple[LedgerEntry, ...]
    """The latest approval first."""
    infrastructure: Mapping[str, str]
    """Other images that may run in the namespace, by name."""

    def entry(self, digest: str) -> LedgerEntry | None:
        return next((entry for entry in self.entries if entry.digest == digest), None)

    def find(self, word: str) -> LedgerEntry:
        """The entry whose digest begins with `word`, or the latest of the run of that name.

        Raises:
            InputError: If there is none, or several digests begin so.
        """
        if of_run := [entry for entry in self.entries if entry.run == word]:
            return of_run[0]
        found = [entry for entry in self.entries if word and entry.digest.startswith(word)]
        if len(found) == 1:
            return found[0]
        what = f"{len(found)} releases whose digest begins so" if found else "no release or run of that name"
        raise InputError(
            f"ledger of {self.namespace}: found {what}: {word!r}; needed one. List them: "
            f"rankgate ledger --namespace {self.namespace}"
        )


class _Revoked(BaseModel):
    model_config = ConfigDict(extra="ignore")
    by: str
    at: str
    reason: str


class _Entry(BaseModel):
    # A newer ledger may say more of an entry than this reads; nothing is decided from it here.
    model_config = ConfigDict(extra="ignore", populate_by_name=True)
    run: str
    image: str
    approver: str
    submitter: str
    approved_at: str = Field(alias="approvedAt")
    card: str
    revoked: _Revoked | None = None


class _Spec(BaseModel):
    model_config = ConfigDict(extra="ignore")
    releases: dict[str, _Entry] = {}
    infrastructure: dict[str, str] = {}


def read_ledger(document: Mapping[str, Any], *, namespace: str) -> Ledger:
    """The ledger in what an API server answered.

    Raises:
        InputError: If that is no ledger.
    """
    try:
        spec = _Spec.model_validate(document.get("spec"))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(
            f"ledger of {namespace}: found something else at spec.{place} ({first['msg']}); needed a ReleaseLedger of {VERSION}."
        ) from error
    entries = [
        LedgerEntry(
            digest=digest,
            **held.model_dump(exclude={"revoked"}),
            revoked=Revocation(**held.revoked.model_dump()) if held.revoked else None,
        )
        for digest, held in spec.releases.items()
    ]
    entries.sort(key=lambda entry: (entry.approved_at, entry.digest), reverse=True)
    return Ledger(namespace, tuple(entries), dict(sorted(spec.infrastructure.items())))


def entry_of(release: Release, *, image: str) -> LedgerEntry:
    """What the ledger is to say of a release.

    Raises:
        FaultyInputError: If the cluster would not take it: an image that is not pinned, people who are one, names too long.
    """
    approval = release.approval
    faults = []
    if not _IMAGE.fullmatch(image):
        faults.append(
            Fault("image", repr(image), "one pinned by digest, registry/name@sha256:...", "A tag can be moved.")
        )
    if not _RUN.fullmatch(approval.run):
        faults.append(Fault("run", repr(approval.run), "at most 128 letters, digits, dots, underscores and hyphens"))
    if approval.decision != "approved":
        faults.append(Fault("decision", approval.decision, "an approval"))
    if is_same_person(approval.approver, approval.submitter):
        faults.append(Fault("approver", repr(approval.approver), "another person than the submitter"))
    faults += [
        Fault(role, repr(name), "the name of a person, at most 256 characters, that does not begin with system:")
        for role, name in (("approver", approval.approver), ("submitter", approval.submitter))
        if len(name) > 256 or name.startswith("system:")
    ]
    if faults:
        raise FaultyInputError(f"ledger entry of release {release.digest[:12]}", faults)
    return LedgerEntry(
        digest=release.digest,
        run=approval.run,
        image=image,
        approver=approval.approver,
        submitter=approval.submitter,
        approved_at=approval.decided_at,
        card=approval.card,
    )


def reason_of(text: str) -> str:
    """A revocation's reason as the ledger takes it: one line.

    Raises:
        InputError: If there is none, or more than 500 characters.
    """
    reason = " ".join(text.split())
    if not 1 <= len(reason) <= _LONGEST_REASON:
        raise InputError(
            f"reason: found {len(reason)} characters; needed 1 to {_LONGEST_REASON}: those read it whose Pods are refused."
        )
    return reason


def addition(entry: LedgerEntry) -> dict[str, Any]:
    """The patch that adds an entry; revoked or not, it adds none of a revocation."""
    return _patch(
        entry.digest,
        {
            "digest": entry.digest,
            "run": entry.run,
            "image": entry.image,
            "approver": entry.approver,
            "submitter": entry.submitter,
            "approvedAt": entry.approved_at,
            "card": entry.card,
        },
    )


def revocation(digest: str, revoked: Revocation) -> dict[str, Any]:
    """The patch that revokes an entry."""
    return _patch(digest, {"revoked": {"by": revoked.by, "at": revoked.at, "reason": revoked.reason}})


def field_manager(action: str, digest: str) -> str:
    """Who applies a patch, in the eyes of server-side apply: one manager an action on a release."""
    return f"rankgate-{action}-{digest[:16]}"


def summary(ledger: Ledger) -> dict[str, Any]:
    """What `kubectl get ledger` shows; of no consequence."""
    held: dict[str, Any] = {
        "releases": len(ledger.entries),
        "revoked": sum(entry.revoked is not None for entry in ledger.entries),
    }
    if ledger.entries:
        latest = ledger.entries[0]
        state = f"{latest.run} ({latest.digest[:12]}{', revoked' if latest.revoked else ''})"
        held |= {"latest": state, "by": latest.approver, "at": latest.approved_at, "image": latest.image}
    return held


def _patch(digest: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    if not _DIGEST.fullmatch(digest):
        raise InputError(f"release: found {digest!r}; needed its digest, 64 hexadecimal digits.")
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "ReleaseLedger",
        "metadata": {"name": NAME},
        "spec": {"releases": {digest: dict(fields)}},
    }
