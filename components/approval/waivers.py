"""Waivers: a person signs that a release may go out although one criterion stops it, for a reason and a time.

waive              verdict, policy, criterion -> <criterion>.dsse.json
claimed_waivers    what the waivers of a run say, signatures unchecked: to show
valid_waivers      the same, after everything about them but the clock has been checked: to decide by
check_in_force     that they hold at a moment
as_shown           what a card tells of them

The verdict is never rewritten: a waived criterion still failed, or is still unsure. What may be waived is the policy's word
(`on_insufficient: waive`, `on_fail: waive`); what was not measured never may.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from components.approval.belonging import artifact_files, judged
from components.approval.contract import SCHEMA_VERSION, SignedWaiver, WaivedFinding, Waiver
from components.approval.envelope import Opened, open_envelope, read_unchecked, seal
from components.approval.keys import open_signer
from components.approval.people import is_same_person, two_people
from components.approval.statement import (
    Files,
    WaiverStatement,
    read_waiver_statement,
    subjects_of,
    tree_digest,
    write_waiver_statement,
)
from components.artifacts.digests import digest_bytes
from components.artifacts.files import write_atomically
from components.card.contract import Waived
from components.errors import InputError, NotApprovedError, nearest
from components.verdict.contract import Outcome, Verdict
from components.verdict.outcomes import is_waivable, stopping

LONGEST_DAYS = 90
"""A waiver is for the time that it takes to settle a question, not for good."""

_SUFFIX = ".dsse.json"
_LONGEST_REASON = 2000


@dataclass(frozen=True, slots=True)
class Judged:
    """What a waiver must be about: a run's verdict and policy, and who asked for the run."""

    run: str
    verdict: Verdict
    files: Mapping[str, Files]
    """sha256 of every file of `verdict` and `policy`, by role."""
    submitter: str


def waive(
    *,
    run: str,
    criterion: str,
    verdict: Path,
    policy: Path,
    submitter: str,
    waived_by: str,
    reason: str,
    until: date,
    key: Path | str,
    waived_at: datetime,
    out: Path,
) -> SignedWaiver:
    """Sign the waiver of a criterion and write <criterion>.dsse.json into `out`.

    Args:
        run: The run's name.
        criterion: Id of a criterion that stops the release and that the policy lets be waived.
        verdict: The verdict's directory.
        policy: The frozen policy's directory.
        submitter: Who asked for the run.
        waived_by: Who answers for the waiver; another person.
        reason: Why, in a sentence.
        until: Last day on which it holds, UTC; after today, at most `LONGEST_DAYS` days ahead.
        key: Their private key: a file, or a URI as `components.approval.keys` has it.
        waived_at: When; must know its time zone.
        out: An existing directory; a waiver of the same criterion in it is replaced.

    Raises:
        InputError: If any of it cannot be used, or the policy does not let the criterion be waived. Nothing is written then.
    """
    if waived_at.tzinfo is None:
        raise InputError(f"waived_at: found {waived_at.isoformat()} without a time zone; needed one.")
    asked_by, signed_by = two_people(submitter=submitter, other=waived_by, role="waived by")
    said = _reason(reason)
    _check_span(until, waived_at)
    files = artifact_files(verdict=verdict, policy=policy)
    found = judged(run, verdict=verdict, policy=policy)
    outcome = _waivable(found, criterion, run=run)
    signer = open_signer(key)
    waiver = Waiver(
        schema_version=SCHEMA_VERSION,
        run=run,
        criterion=criterion,
        verdict=tree_digest(files["verdict"]),
        policy=tree_digest(files["policy"]),
        findings=_findings(outcome),
        waived_by=signed_by,
        submitter=asked_by,
        reason=said,
        waived_at=waived_at.astimezone(UTC).isoformat(),
        until=until.isoformat(),
    )
    payload = write_waiver_statement(WaiverStatement(waiver, subjects_of(files)))
    write_atomically(out / waiver_file(criterion), seal(payload, signer))
    return SignedWaiver(digest_bytes(payload), waiver, signer.public_key.keyid)


def waiver_file(criterion: str) -> str:
    """Name of a criterion's waiver in the folder of a run's waivers."""
    return f"{criterion}{_SUFFIX}"


def waiver_files(folder: Path | None) -> list[Path]:
    """The waivers in a folder, by criterion; none where there is no folder."""
    if folder is None or not folder.is_dir():
        return []
    # A name that begins with a dot is a waiver that was being written when something ended its process.
    return sorted(path for path in folder.glob(f"*{_SUFFIX}") if not path.name.startswith("."))


def claimed_waivers(folder: Path | None) -> tuple[SignedWaiver, ...]:
    """What the waivers of a run say, their signatures unchecked: for whoever looks, not for whoever decides.

    Raises:
        InputError: If a file is no waiver.
    """
    found = []
    for path in waiver_files(folder):
        subject = f"waiver {path}"
        try:
            opened = read_unchecked(_content(path, subject), subject=subject)
            found.append(_signed(opened, subject))
        except NotApprovedError as error:
            raise InputError(f"{error} Remove that file, or have the criterion waived again.") from error
    return tuple(found)


def valid_waivers(folder: Path | None, about: Judged, *, trusted: Mapping[str, Any]) -> tuple[SignedWaiver, ...]:
    """Every waiver of a run, if all of them hold but for the clock; one that does not is no waiver to leave lying about.

    Args:
        folder: The run's waivers.
        about: What they must be about.
        trusted: Public keys by key id.

    Raises:
        NotApprovedError: If one is not signed by a trusted key, was changed, or is about something else.
    """
    return tuple(_valid(path, about, trusted) for path in waiver_files(folder))


def check_in_force(waivers: Sequence[SignedWaiver], *, at: datetime, when: str) -> None:
    """That waivers hold at a moment, which `when` names in errors: `when the run was approved`, `today`.

    Raises:
        NotApprovedError: If one has expired by then, or was signed later.
    """
    for signed in waivers:
        held = signed.waiver
        subject = f"waiver of {held.criterion}"
        if instant(held.waived_at) > at:
            raise NotApprovedError(f"{subject}: was signed at {held.waived_at}, after {at.isoformat()}, {when}.")
        if date.fromisoformat(held.until) < at.astimezone(UTC).date():
            raise NotApprovedError(
                f"{subject}: had expired {when}: {held.waived_by} waived it until {held.until}, UTC. Settle the question "
                f"and run again, or have it waived and approved again: rankgate waive {held.run} {held.criterion}"
            )


def as_shown(signed: SignedWaiver) -> Waived:
    """A waiver as a card tells it."""
    held = signed.waiver
    return Waived(
        criterion=held.criterion,
        waived_by=held.waived_by,
        reason=held.reason,
        waived_at=held.waived_at,
        until=held.until,
        digest=signed.digest,
        key_id=signed.key_id,
    )


def _valid(path: Path, about: Judged, trusted: Mapping[str, Any]) -> SignedWaiver:
    subject = f"waiver of {path.name.removesuffix(_SUFFIX)}"
    opened = open_envelope(_content(path, subject), trusted=trusted, subject=subject)
    signed = _signed(opened, subject)
    held = signed.waiver
    if waiver_file(held.criterion) != path.name:
        raise NotApprovedError(f"{subject}: is of {held.criterion!r}, under another criterion's name; give it its own.")
    if held.run != about.run:
        raise NotApprovedError(f"{subject}: was given for another run, {held.run!r}; needed {about.run!r}.")
    own = {"verdict": tree_digest(about.files["verdict"]), "policy": tree_digest(about.files["policy"])}
    subjects = read_waiver_statement(opened.payload, subject=subject).subjects
    if (held.verdict, held.policy) != (own["verdict"], own["policy"]) or subjects != subjects_of(about.files):
        raise NotApprovedError(
            f"{subject}: was given for the verdict {held.verdict[:12]} under the policy {held.policy[:12]}; found "
            f"{own['verdict'][:12]} and {own['policy'][:12]}. Have this one waived: rankgate waive {about.run} {held.criterion}"
        )
    if not is_same_person(held.submitter, about.submitter) or is_same_person(held.waived_by, about.submitter):
        raise NotApprovedError(
            f"{subject}: {held.waived_by!r} waived a run of {held.submitter!r}; needed another person than "
            f"{about.submitter!r}, who submitted it."
        )
    try:
        _reason(held.reason)
        _check_span(date.fromisoformat(held.until), instant(held.waived_at))
        outcome = _waivable(about.verdict, held.criterion, run=about.run)
    except InputError as error:
        raise NotApprovedError(f"{subject}: could never have been given. {error}") from error
    if held.findings != _findings(outcome):
        raise NotApprovedError(
            f"{subject}: speaks of other findings than those that stop the release; have it waived anew."
        )
    return signed


def _content(path: Path, subject: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotApprovedError(f"{subject}: {path} cannot be read ({error.strerror}).") from error


def _signed(opened: Opened, subject: str) -> SignedWaiver:
    waiver = read_waiver_statement(opened.payload, subject=subject).waiver
    try:
        instant(waiver.waived_at)
        date.fromisoformat(waiver.until)
    except ValueError as error:
        raise NotApprovedError(f"{subject}: its times are no times ({error}).") from error
    return SignedWaiver(digest_bytes(opened.payload), waiver, opened.key_id)


def instant(text: str) -> datetime:
    """A moment with its zone; ValueError where the text is none."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return at.astimezone(UTC)


def _reason(text: str) -> str:
    said = " ".join(text.split())
    if not said:
        raise InputError(
            "reason: found none; needed why this release may go out all the same, for whoever reads the card."
        )
    if len(said) > _LONGEST_REASON or not said.isprintable():
        raise InputError(
            f"reason: found {len(said):,} characters; needed printable text of at most {_LONGEST_REASON:,}."
        )
    return said


def _check_span(until: date, waived_at: datetime) -> None:
    today = waived_at.astimezone(UTC).date()
    last = today + timedelta(days=LONGEST_DAYS)
    if not today < until <= last:
        raise InputError(
            f"until: found {until}; needed a day after {today} and not after {last}: a waiver is for the time that it takes "
            f"to settle a question, {LONGEST_DAYS} days at most."
        )


def _findings(outcome: Outcome) -> tuple[WaivedFinding, ...]:
    return tuple(
        WaivedFinding(
            answer="fail" if finding.answer == "fail" else "insufficient",
            subject=finding.subject,
            versus=finding.versus,
            segment=dict(finding.segment),
        )
        for finding in stopping(outcome)
    )


def _waivable(found: Verdict, criterion: str, *, run: str) -> Outcome:
    """The outcome of a criterion that stops the release and may be waived; InputError says why it may not."""
    label = f"policy {found.policy.name}@{found.policy.version}"
    by_name = {outcome.criterion: outcome for outcome in found.outcomes}
    outcome = by_name.get(criterion)
    if outcome is None:
        raise InputError(f"criterion: {label} has no {criterion!r}. {nearest(criterion, list(by_name))}")
    if not outcome.blocks:
        answer = "does not apply" if outcome.not_applicable else f"answers {outcome.answer}"
        others = ", ".join(held.criterion for held in found.outcomes if held.blocks) or "nothing"
        raise InputError(
            f"criterion {criterion}: {answer} in run {run} and stops nothing, so there is nothing to waive. "
            f"What stops it: {others}."
        )
    if not is_waivable(outcome):
        raise InputError(f"criterion {criterion}: cannot be waived in run {run}. {_why_not(outcome, label)}")
    return outcome


def _why_not(outcome: Outcome, label: str) -> str:
    firm = [finding for finding in stopping(outcome) if not finding.waivable]
    if any(finding.answer == "fail" for finding in firm) and outcome.on_fail == "block":
        return (
            f"It fails, and {label} says on_fail: block: no signature lets a shown harm through. "
            "Change the model or the data and run again."
        )
    if outcome.on_insufficient == "waive":
        return (
            "Something that it asks for was not measured, or not so that it can be relied on, and nobody knows what they "
            f"would sign for: {firm[0].message if firm else 'there is no finding'} Measure it and run again."
        )
    return (
        f"It is insufficient, and {label} says on_insufficient: {outcome.on_insufficient}. Collect more users and run again, "
        "or let a new version of the policy say waive before the next run."
    )
