"""A person's decision over the very card that they read, signed; and its check before anything is let out.

approve, refuse, ask   card, verdict, ranker, policy -> approval.dsse.json
verify_approval        approval.dsse.json and the same four -> Release, or the reason why not

The decision names the four artefacts by tree digest and every file of them by sha256, so that a later change of any byte,
in any of them, ends the approval. Who submitted a run cannot decide on it. A blocked run is approved only if trusted, unexpired
waivers lie beside it for all that stops it; the decision names these too, and ends with the first of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from components.approval.belonging import artifact_files, belonging
from components.approval.contract import SCHEMA_VERSION, Approval, Release, SignedWaiver
from components.approval.envelope import open_envelope, seal
from components.approval.keys import open_signer, open_trusted
from components.approval.lifting import check_card, check_rests_on, lifting_waivers
from components.approval.people import is_same_person, two_people
from components.approval.statement import (
    Files,
    Statement,
    read_statement,
    subjects_of,
    tree_digest,
    write_statement,
)
from components.approval.waivers import Judged, valid_waivers, waiver_files
from components.artifacts.digests import digest_bytes, digest_file
from components.artifacts.files import write_atomically
from components.errors import InputError, NotApprovedError

APPROVAL_FILE = "approval.dsse.json"

Decision = Literal["approved", "refused", "asked"]

_ROLES = ("card", "verdict", "ranker", "policy")


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
    waivers: Path | None = None,
    trusted: Sequence[Path] = (),
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
        waivers: Folder of the run's waivers; without one a blocked run cannot be approved.
        trusted: Public keys of those who may waive: files, or folders of `*.pub`. Needed where the run is blocked.

    Raises:
        BlockedError: If the verdict blocks the run and not all that stops it is waived by people whose keys are trusted.
        InputError: If approver and submitter are the same, the artefacts do not belong together, the card tells of other
            waivers, or a key cannot be used.
    """
    at = _moment(decided_at)
    people = two_people(submitter=submitter, other=approver, role="approver")
    artifacts = artifact_files(card=card, verdict=verdict, ranker=ranker, policy=policy)
    read, found = belonging(run, artifacts, card=card, verdict=verdict, policy=policy, submitter=people[0])
    held = lifting_waivers(found, Judged(run, found, _two(artifacts), people[0]), waivers, trusted, at=at)
    check_card(read, held, run=run)
    if held and waivers:
        artifacts["waivers"] = _waiver_files(waivers)
    return _sign("approved", run, artifacts, people, reason.strip(), key, at, out, held)


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
    if not reason.strip():
        raise InputError(f"run {run}: found a refusal without a reason; needed one that its submitter can act on.")
    places = {"card": card, "verdict": verdict, "ranker": ranker, "policy": policy}
    return _sign_other("refused", run, places, submitter, approver, reason.strip(), key, decided_at, out)


def ask(
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
    """As `refuse`, but signs a question to the submitter, which is the reason. Another decision takes its place later."""
    if not reason.strip():
        raise InputError(f"run {run}: found no question; needed one that its submitter can answer.")
    places = {"card": card, "verdict": verdict, "ranker": ranker, "policy": policy}
    return _sign_other("asked", run, places, submitter, approver, reason.strip(), key, decided_at, out)


def verify_approval(
    approval: Path,
    *,
    run: str,
    card: Path,
    ranker: Path,
    verdict: Path,
    policy: Path,
    trusted: Sequence[Path],
    at: datetime,
    waivers: Path | None = None,
) -> Release:
    """What an approval lets out, after everything about it has been checked.

    Args:
        approval: The envelope's file.
        run: The run that should be released.
        card: The card's directory; it and the next three must be, byte for byte, what was approved.
        ranker: The ranker's directory.
        verdict: The verdict's directory.
        policy: The frozen policy's directory.
        trusted: Public keys of reviewers: files, or folders of `*.pub`. They count for waivers as well.
        at: The moment for which it is asked; must know its time zone. A waiver that has expired by then ends the approval.
        waivers: Folder of the run's waivers, which an approval may rest on.

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
        artifacts = artifact_files(card=card, verdict=verdict, ranker=ranker, policy=policy)
        if statement.approval.waivers:
            artifacts["waivers"] = _waiver_files(waivers)
    except InputError as error:
        raise NotApprovedError(f"{subject}: what was approved is not there. {error}") from error
    _check_subjects(statement, artifacts, subject=subject)
    submitter = statement.approval.submitter
    try:
        read, found = belonging(run, artifacts, card=card, verdict=verdict, policy=policy, submitter=submitter)
    except InputError as error:
        raise NotApprovedError(f"{subject}: was signed over artefacts that do not belong together. {error}") from error
    held: tuple[SignedWaiver, ...] = ()
    if statement.approval.waivers:
        held = valid_waivers(waivers, Judged(run, found, _two(artifacts), submitter), trusted=keys)
    check_rests_on(statement.approval, found, held, at=_moment(at), subject=subject)
    try:
        check_card(read, held, run=run)
    except InputError as error:
        raise NotApprovedError(f"{subject}: was signed over artefacts that do not belong together. {error}") from error
    return Release(digest=digest_bytes(opened.payload), approval=statement.approval, key_id=opened.key_id)


def _sign_other(
    decision: Decision,
    run: str,
    places: Mapping[str, Path],
    submitter: str,
    approver: str,
    reason: str,
    key: Path | str,
    decided_at: datetime,
    out: Path,
) -> Release:
    """Sign what lets nothing out, of a passed run or a blocked one."""
    at = _moment(decided_at)
    people = two_people(submitter=submitter, other=approver, role="approver")
    artifacts = artifact_files(**places)
    belonging(
        run, artifacts, card=places["card"], verdict=places["verdict"], policy=places["policy"], submitter=people[0]
    )
    return _sign(decision, run, artifacts, people, reason, key, at, out)


def _sign(
    decision: Decision,
    run: str,
    artifacts: Mapping[str, Files],
    people: tuple[str, str],
    reason: str,
    key: Path | str,
    decided_at: datetime,
    out: Path,
    waivers: Sequence[SignedWaiver] = (),
) -> Release:
    signer = open_signer(key)
    approval = Approval(
        schema_version=SCHEMA_VERSION,
        run=run,
        decision=decision,
        approver=people[1],
        submitter=people[0],
        reason=reason,
        decided_at=decided_at.isoformat(),
        **{role: tree_digest(artifacts[role]) for role in _ROLES},
        waivers={signed.waiver.criterion: signed.digest for signed in waivers},
    )
    payload = write_statement(Statement(approval=approval, subjects=subjects_of(artifacts)))
    write_atomically(out / APPROVAL_FILE, seal(payload, signer))
    return Release(digest=digest_bytes(payload), approval=approval, key_id=signer.public_key.keyid)


def _moment(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise InputError(f"moment: found {at.isoformat()} without a time zone; needed one.")
    return at.astimezone(UTC)


def _two(artifacts: Mapping[str, Files]) -> dict[str, Files]:
    return {role: artifacts[role] for role in ("verdict", "policy")}


def _waiver_files(folder: Path | None) -> Files:
    """sha256 of each waiver of a run, by file name."""
    try:
        files = {path.name: digest_file(path) for path in waiver_files(folder)}
    except OSError as error:
        raise InputError(f"waivers: {error.filename} cannot be read ({error.strerror}).") from error
    if not files:
        raise InputError(f"waivers: found none at {folder}; needed those that the approval rests on.")
    return files


def _check_decision(approval: Approval, *, run: str, subject: str) -> None:
    if is_same_person(approval.approver, approval.submitter):
        raise NotApprovedError(
            f"{subject}: its approver {approval.approver!r} is its submitter; needed another person's decision."
        )
    if approval.run != run:
        raise NotApprovedError(
            f"{subject}: was given for another run, {approval.run!r}. Have this one reviewed: rankgate approve {run}"
        )
    if approval.decision == "asked":
        raise NotApprovedError(
            f"{subject}: {approval.approver} asked its submitter at {approval.decided_at}: {approval.reason} "
            "Nobody has approved it yet."
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
            other = (
                "the waivers are not those that were" if role == "waivers" else f"the {role} is not the one that was"
            )
            raise NotApprovedError(
                f"{subject}: {other} approved: {', '.join(told[:3])}{more}. "
                "Restore what was approved, or have the run reviewed again."
            )
        if role in _ROLES and tree_digest(files) != getattr(statement.approval, role):
            raise NotApprovedError(
                f"{subject}: names the {role} {getattr(statement.approval, role)[:12]}, but its subjects are "
                f"{tree_digest(files)[:12]}; it contradicts itself."
            )
    if unknown := sorted(set(statement.subjects) - set(now)):
        raise NotApprovedError(f"{subject}: is also about {', '.join(unknown[:3])}, which no release has.")
