"""A person's decision over the very card that they read, signed; and its check before anything is let out.

approve, refuse    card, verdict, ranker, policy -> approval.dsse.json
verify_approval    approval.dsse.json and the same four -> Release, or the reason why not

The decision names the four artefacts by tree digest and every file of them by sha256, so that a later change of any byte,
in any of them, ends the approval. Who submitted a run cannot decide on it.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from components.approval.contract import SCHEMA_VERSION, Approval, Release
from components.approval.envelope import open_envelope, seal
from components.approval.keys import open_signer, open_trusted
from components.approval.statement import (
    Files,
    Statement,
    files_of,
    read_statement,
    subjects_of,
    tree_digest,
    write_statement,
)
from components.artifacts import documents
from components.artifacts.digests import digest_bytes, digest_file
from components.artifacts.files import write_atomically
from components.card.contract import Card
from components.errors import BlockedError, InputError, NotApprovedError
from components.verdict.contract import FrozenPolicy, Verdict

APPROVAL_FILE = "approval.dsse.json"

Decision = Literal["approved", "refused"]


def approve(
    *,
    run: str,
    card: Path,
    verdict: Path,
    ranker: Path,
    policy: Path,
    submitter: str,
    approver: str,
    reason: str,
    key: Path | str,
    decided_at: datetime,
    out: Path,
) -> Release:
    """Sign the approval of a run and write approval.dsse.json into `out`.

    Args:
        run: The run's name.
        card: The card's directory.
        verdict: The verdict's directory.
        ranker: The ranker's directory.
        policy: The frozen policy's directory.
        submitter: Who asked for the run.
        approver: Who decides; another person.
        reason: Why, in a sentence; may be empty.
        key: The approver's private key: a file, or a URI as `components.approval.keys` has it.
        decided_at: When; must know its time zone.
        out: An existing, empty directory.

    Raises:
        BlockedError: If the verdict blocks the run.
        InputError: If approver and submitter are the same, the artefacts do not belong together, or the key cannot be used.
    """
    people = _people(submitter, approver)
    artifacts = _artifacts(card=card, verdict=verdict, ranker=ranker, policy=policy)
    found = _consistent(run, card, verdict, policy, artifacts, submitter=people[0])
    if found.answer != "passed" or any(outcome.blocks for outcome in found.outcomes):
        raise BlockedError(f"run {run}: a blocked run cannot be approved. {found.summary}")
    return _sign("approved", run, artifacts, people, reason.strip(), key, decided_at, out)


def refuse(
    *,
    run: str,
    card: Path,
    verdict: Path,
    ranker: Path,
    policy: Path,
    submitter: str,
    approver: str,
    reason: str,
    key: Path | str,
    decided_at: datetime,
    out: Path,
) -> Release:
    """As `approve`, but signs a refusal, of a passed run or a blocked one; needs a reason.

    Returns:
        The signed decision. It lets nothing out: `verify_approval` says that it was refused.
    """
    people = _people(submitter, approver)
    if not reason.strip():
        raise InputError(f"run {run}: found a refusal without a reason; needed one that its submitter can act on.")
    artifacts = _artifacts(card=card, verdict=verdict, ranker=ranker, policy=policy)
    _consistent(run, card, verdict, policy, artifacts, submitter=people[0])
    return _sign("refused", run, artifacts, people, reason.strip(), key, decided_at, out)


def verify_approval(
    approval: Path, *, run: str, card: Path, ranker: Path, verdict: Path, policy: Path, trusted: Sequence[Path]
) -> Release:
    """What an approval lets out, after everything about it has been checked.

    Args:
        approval: The envelope's file.
        run: The run that should be released.
        card: The card's directory; it and the next three must be, byte for byte, what was approved.
        ranker: The ranker's directory.
        verdict: The verdict's directory.
        policy: The frozen policy's directory.
        trusted: Public keys of reviewers: files, or folders of `*.pub`.

    Raises:
        NotApprovedError: If anything does not hold; each break has its own message.
        InputError: If a trusted key cannot be read.
    """
    keys = open_trusted(trusted)
    subject = f"approval of run {run}"
    try:
        content = approval.read_bytes()
    except OSError as error:
        raise NotApprovedError(
            f"{subject}: {approval} cannot be read ({error.strerror}); needed a signed one."
        ) from error
    opened = open_envelope(content, trusted=keys, subject=subject)
    statement = read_statement(opened.payload, subject=subject)
    _check_decision(statement.approval, run=run, subject=subject)
    try:
        artifacts = _artifacts(card=card, verdict=verdict, ranker=ranker, policy=policy)
    except InputError as error:
        raise NotApprovedError(f"{subject}: what was approved is not there. {error}") from error
    _check_subjects(statement, artifacts, subject=subject)
    try:
        found = _consistent(run, card, verdict, policy, artifacts, submitter=statement.approval.submitter)
    except InputError as error:
        raise NotApprovedError(f"{subject}: was signed over artefacts that do not belong together. {error}") from error
    if found.answer != "passed" or any(outcome.blocks for outcome in found.outcomes):
        raise NotApprovedError(f"{subject}: was signed over a verdict that blocks. {found.summary}")
    return Release(digest=digest_bytes(opened.payload), approval=statement.approval, key_id=opened.key_id)


def is_same_person(one: str, other: str) -> bool:
    """Whether two names are the same but for case, white space around them and the way their letters are encoded."""
    return _name(one) == _name(other)


def _name(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip().casefold()


def _people(submitter: str, approver: str) -> tuple[str, str]:
    for role, name in (("submitter", submitter), ("approver", approver)):
        if not name.strip() or not name.strip().isprintable():
            raise InputError(f"{role}: found {name!r}; needed the name or address of a person.")
    if is_same_person(submitter, approver):
        raise InputError(
            f"approver: found {approver.strip()!r}, who submitted this run; needed another person. "
            "Nobody decides on their own run."
        )
    return submitter.strip(), approver.strip()


def _artifacts(**places: Path) -> dict[str, Files]:
    return {role: files_of(place, role=role) for role, place in places.items()}


def _consistent(
    run: str, card: Path, verdict: Path, policy: Path, artifacts: Mapping[str, Files], *, submitter: str
) -> Verdict:
    """The verdict, if card, verdict, ranker and policy speak of one another and of this run; InputError where not."""
    read = documents.load(Card, card / "card.json")
    found = documents.load(Verdict, verdict / "verdict.json")
    frozen = documents.load(FrozenPolicy, policy / "frozen.json")
    pairs = [
        ("run", read.run, run),
        ("submitter", _name(read.submitted_by), _name(submitter)),
        *(
            (role, getattr(read.lineage, role), tree_digest(artifacts[role]))
            for role in ("ranker", "verdict", "policy")
        ),
    ]
    for what, told, needed in pairs:
        if told != needed:
            raise InputError(
                f"run {run}: its card speaks of the {what} {told[:40]}; found {needed[:40]}. "
                "The card is of another run, or something changed it: run again, and have the new card read."
            )
    if read.verdict != found:
        raise InputError(f"run {run}: its card shows another verdict than verdict.json holds; run again.")
    if found.policy != frozen or digest_file(policy / "policy.yaml") != frozen.digest:
        raise InputError(
            f"run {run}: its verdict was reached under policy {found.policy.name}@{found.policy.version} "
            f"({found.policy.digest[:12]}); found the policy {frozen.name}@{frozen.version} ({frozen.digest[:12]})."
        )
    return found


def _sign(
    decision: Decision,
    run: str,
    artifacts: Mapping[str, Files],
    people: tuple[str, str],
    reason: str,
    key: Path | str,
    decided_at: datetime,
    out: Path,
) -> Release:
    if decided_at.tzinfo is None:
        raise InputError(f"decided_at: found {decided_at.isoformat()} without a time zone; needed one.")
    signer = open_signer(key)
    approval = Approval(
        schema_version=SCHEMA_VERSION,
        run=run,
        decision=decision,
        approver=people[1],
        submitter=people[0],
        reason=reason,
        decided_at=decided_at.astimezone(UTC).isoformat(),
        **{role: tree_digest(files) for role, files in artifacts.items()},
    )
    payload = write_statement(Statement(approval=approval, subjects=subjects_of(artifacts)))
    write_atomically(out / APPROVAL_FILE, seal(payload, signer))
    return Release(digest=digest_bytes(payload), approval=approval, key_id=signer.public_key.keyid)


def _check_decision(approval: Approval, *, run: str, subject: str) -> None:
    if is_same_person(approval.approver, approval.submitter):
        raise NotApprovedError(
            f"{subject}: its approver {approval.approver!r} is its submitter; needed another person's decision."
        )
    if approval.run != run:
        raise NotApprovedError(
            f"{subject}: was given for another run, {approval.run!r}. Have this one reviewed: rankgate approve {run}"
        )
    if approval.decision != "approved":
        raise NotApprovedError(
            f"{subject}: {approval.approver} refused it at {approval.decided_at}: {approval.reason or 'no reason given'}"
        )


def _check_subjects(statement: Statement, artifacts: Mapping[str, Files], *, subject: str) -> None:
    now = subjects_of(artifacts)
    for role, files in artifacts.items():
        approved = {name: sha for name, sha in statement.subjects.items() if name.startswith(f"{role}/")}
        present = {name: sha for name, sha in now.items() if name.startswith(f"{role}/")}
        told = [
            *(
                f"{name} has changed"
                for name in sorted(approved)
                if name in present and present[name] != approved[name]
            ),
            *(f"{name} is missing" for name in sorted(approved) if name not in present),
            *(f"{name} was not there" for name in sorted(present) if name not in approved),
        ]
        if told:
            more = f", and {len(told) - 3} more" if len(told) > 3 else ""
            raise NotApprovedError(
                f"{subject}: the {role} is not the one that was approved: {', '.join(told[:3])}{more}. "
                "Restore what was approved, or have the run reviewed again."
            )
        if tree_digest(files) != getattr(statement.approval, role):
            raise NotApprovedError(
                f"{subject}: names the {role} {getattr(statement.approval, role)[:12]}, but its subjects are "
                f"{tree_digest(files)[:12]}; it contradicts itself."
            )
    if unknown := sorted(set(statement.subjects) - set(now)):
        raise NotApprovedError(f"{subject}: is also about {', '.join(unknown[:3])}, which no release has.")
