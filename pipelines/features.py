"""Features of a run's release: from its home to the root that services read, on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from components.approval.keys import open_trusted
from components.artifacts import documents
from components.artifacts.progress import Progress, silent
from components.errors import InputError
from components.events.contract import DatasetContract
from components.events.declaration import load_contract
from components.serving.features_settings import FOLDER_VARIABLE, TRUST_VARIABLE
from components.serving.publishing import Listed, Published, Source, publish_features, put_back
from pipelines.releasing import verify_release
from pipelines.runs import Run


def publish(
    run: Run,
    events: Path,
    trusted: Sequence[Path],
    *,
    as_of: datetime | None,
    key: str,
    publisher: str,
    root: Path,
    keep: int,
    force: bool,
    progress: Progress = silent,
) -> Published:
    """Publish features of an approved run from newer tables.

    Args:
        run: The run.
        events: Dataset contract over the newer tables.
        trusted: Public keys of reviewers: nothing is published for what was not approved.
        as_of: Moment the log is judged from; the contract's, else now, without it.
        key: Private key of the publisher.
        publisher: Who publishes.
        root: Folder that services read.
        keep: Publications that stay.
        force: Publish what is older, fewer or staler than it should be.
        progress: Told what is being done.

    Raises:
        NotApprovedError: If the run's approval does not hold.
        InputError: If contract, tables, key or root cannot be used.
    """
    release = verify_release(run, trusted)
    contract = load_contract(events)
    approved = documents.load(DatasetContract, run.artifact("snapshot") / "contract.json")
    source = Source(
        contract=contract,
        base=events.absolute().parent,
        approved=approved,
        as_of=as_of or contract.as_of or datetime.now(UTC).replace(microsecond=0),
    )
    return publish_features(
        source,
        ranker=run.artifact("ranker"),
        release=release,
        key=key,
        publisher=publisher,
        root=root,
        keep=keep,
        force=force,
        progress=progress,
    )


def use(run: Run, digest: str, trusted: Sequence[Path], *, key: str, publisher: str, root: Path) -> Listed:
    """Put an earlier publication of an approved run in service again.

    Raises:
        NotApprovedError: If the run's approval does not hold.
        InputError: If there is no such publication, or it has changed.
    """
    return put_back(digest, root=root, release=verify_release(run, trusted).digest, key=key, publisher=publisher)


def served_from(root: Path | None, trust: Path | None) -> dict[str, str]:
    """What a service's environment says of published features; nothing where none are asked for.

    Raises:
        InputError: If one is named without the other, or no key is found.
    """
    if root is None and trust is None:
        return {}
    if root is None or trust is None:
        raise InputError(
            f"{'--features' if root is None else '--features-trust'}: found nothing; needed beside the other: features are "
            "served that a trusted publisher signed, and no others."
        )
    open_trusted([trust])
    return {FOLDER_VARIABLE: str(root.absolute()), TRUST_VARIABLE: str(trust.absolute())}
