"""From a signed approval to a cluster's ledger, and back: written as the person in the kubeconfig, who is the approver.

The image of a release is built from its package, which needs the approval: so a decision is signed first, and comes into the
ledger once its image has a digest. `approve_in_cluster` signs only what this person has not signed already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from components.approval.contract import Release
from components.approval.ledger import Ledger, LedgerEntry, Revocation, entry_of, reason_of
from components.errors import BlockedError, InputError, NotApprovedError
from pipelines.releasing import decide_release, packaged, verify_release
from pipelines.runs import Run

if TYPE_CHECKING:
    from components.approval.ledger_cluster import ClusterLedger


@dataclass(frozen=True, slots=True)
class ClusterTarget:
    """Which ledger, and, to approve, which image."""

    namespace: str
    context: str = ""
    """Of the kubeconfig; its current one where empty."""
    image: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """An entry as the ledger has it now."""

    entry: LedgerEntry
    namespace: str
    new: bool
    """False: it was there already, and nothing was written."""
    running: tuple[str, ...] = ()
    """Pods that run a release that is revoked."""


def approve_in_cluster(
    run: Run, target: ClusterTarget, *, key: str, approver: str, reason: str, trusted: Sequence[Path] = ()
) -> Written:
    """Sign the approval of a run unless this person has, and write it into the cluster's ledger.

    Args:
        run: The run.
        target: Which ledger, and the image of the run's bento, by digest.
        key: The approver's private key: a file or a URI.
        approver: Who decides; the very name by which the cluster knows them.
        reason: Why, where it is signed now.
        trusted: Public keys of those whose waivers count, and whose approvals are not signed again; the public half beside a
            key file is one of them.

    Raises:
        InputError: If the cluster knows this person by another name or cannot be reached, the image is not that of this
            release's package, or an entry of the release names another image.
        BlockedError: If the run is blocked, or the cluster refuses the entry.
    """
    if not target.image:
        raise InputError(
            "image: found none; needed the release's, by digest: --image registry/name@sha256:... "
            f"Without a cluster, sign first: rankgate approve {run.name}; then package it and push its image."
        )
    ledger = _connect(target)
    known_as = ledger.username()
    if known_as != approver.strip():
        raise InputError(
            f"approver: found {approver.strip()!r}, while the cluster knows you as {known_as!r}; needed the same name, since "
            f"an approval counts there only in one's own. Either: --as {known_as}; or log in as {approver.strip()}."
        )
    release = _signed_by(run, approver.strip(), key, trusted) or decide_release(
        run, decision="approved", key=key, approver=approver, reason=reason, trusted=trusted
    )
    _check_package(run, release)
    entry = entry_of(release, image=target.image)
    held = ledger.read().entry(entry.digest)
    if held:
        return Written(_same(held, entry, target.namespace), target.namespace, new=False)
    return Written(_found(ledger.add(entry), entry.digest), target.namespace, new=True)


def revoke_in_cluster(word: str, target: ClusterTarget, *, reason: str) -> Written:
    """Revoke a release in the cluster's ledger, as the person in the kubeconfig.

    Args:
        word: The release's digest, or what it begins with, or its run.
        target: Which ledger.
        reason: Why; whoever's Pods are refused reads it.

    Raises:
        InputError: If the ledger has no such release or cannot be reached, or the reason is none.
        BlockedError: If the cluster refuses it.
    """
    said = reason_of(reason)
    ledger = _connect(target)
    entry = ledger.read().find(word)
    new = entry.revoked is None
    if new:
        at = datetime.now(UTC).replace(microsecond=0).isoformat()
        entry = _found(ledger.revoke(entry.digest, Revocation(ledger.username(), at, said)), entry.digest)
    try:
        running = tuple(ledger.running(entry.digest))
    except InputError:
        # Who may revoke need not be one who may look at Pods.
        running = ()
    return Written(entry, target.namespace, new=new, running=running)


def read_cluster(target: ClusterTarget) -> Ledger:
    """The cluster's ledger.

    Raises:
        InputError: If there is none, or it cannot be read.
    """
    return _connect(target).read()


def _connect(target: ClusterTarget) -> ClusterLedger:
    # The cluster's client takes half a second to import: only for who needs it.
    from components.approval.ledger_cluster import ClusterLedger

    return ClusterLedger.connect(context=target.context, namespace=target.namespace)


def _signed_by(run: Run, approver: str, key: str, trusted: Sequence[Path]) -> Release | None:
    """The approval that lies beside the run, if this person signed it and it holds."""
    public = Path(f"{key}.pub")
    keys = [*trusted, *([public] if public.is_file() else [])]
    if not keys:
        return None
    try:
        release = verify_release(run, keys)
    except NotApprovedError:
        return None
    return release if release.approval.approver == approver else None


def _check_package(run: Run, release: Release) -> None:
    """An image is made from the package on this machine, or on another."""
    if not (run.folder / "package" / "package.json").exists():
        return
    built = packaged(run).release
    if built != release.digest:
        raise InputError(
            f"run {run.name}: was packaged for release {built[:12]}, while this approval is release {release.digest[:12]}; "
            f"needed the image of this one. Package it again and push its image: rankgate package {run.name}"
        )


def _same(held: LedgerEntry, entry: LedgerEntry, namespace: str) -> LedgerEntry:
    if held.revoked:
        raise BlockedError(
            f"ledger of {namespace}: release {held.digest[:12]} was revoked by {held.revoked.by} at {held.revoked.at}: "
            f"{held.revoked.reason}. A revocation is never taken back; approve the run anew, as another release."
        )
    if held.image != entry.image:
        raise InputError(
            f"ledger of {namespace}: release {held.digest[:12]} was approved as {held.image}; found {entry.image}; needed the "
            "same, since an entry is never rewritten. For another image, approve the run anew, as another release."
        )
    return held


def _found(ledger: Ledger, digest: str) -> LedgerEntry:
    entry = ledger.entry(digest)
    if entry is None:
        raise InputError(
            f"ledger of {ledger.namespace}: has no release {digest[:12]} after it was written; read it again."
        )
    return entry
