"""What lets a blocked run be approved all the same: trusted waivers, in force, of everything that stops it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from components.approval.contract import Approval, SignedWaiver
from components.approval.keys import open_trusted
from components.approval.waivers import Judged, as_shown, check_in_force, instant, valid_waivers, waiver_files
from components.card.contract import Card
from components.errors import BlockedError, InputError, NotApprovedError
from components.verdict.contract import Verdict
from components.verdict.outcomes import is_waivable, still_blocking


def lifting_waivers(
    found: Verdict, about: Judged, waivers: Path | None, trusted: Sequence[Path], *, at: datetime
) -> tuple[SignedWaiver, ...]:
    """The waivers that let a blocked verdict be approved; none where it passed.

    Args:
        found: The verdict.
        about: What the waivers must be about.
        waivers: The folder that they lie in.
        trusted: Public keys of those who may waive: files, or folders of `*.pub`.
        at: When it should be approved.

    Raises:
        BlockedError: If they do not lift everything that stops the release.
        InputError: If there are waivers and no key that is trusted.
    """
    if _is_passed(found):
        return ()
    refused = f"run {about.run}: a blocked run cannot be approved. {found.summary}"
    stopping = [outcome for outcome in found.outcomes if outcome.blocks]
    if found.answer != "blocked" or not stopping:
        raise BlockedError(refused)
    if not waiver_files(waivers):
        names = [outcome.criterion for outcome in stopping]
        hint = (
            f" Each of these may be waived: rankgate waive {about.run} {names[0]}"
            if all(map(is_waivable, stopping))
            else ""
        )
        raise BlockedError(f"{refused}{hint}")
    if not trusted:
        raise InputError(
            f"run {about.run}: is blocked and has waivers, and no key is trusted to have signed them; needed --trust with "
            "the public key of whoever may waive. A signature by an unknown key does not count."
        )
    try:
        held = valid_waivers(waivers, about, trusted=open_trusted(trusted))
        check_in_force(held, at=at, when="when it should be approved")
    except NotApprovedError as error:
        raise BlockedError(f"{refused} Its waivers do not lift that: {error}") from error
    if left := still_blocking(found.outcomes, {signed.waiver.criterion for signed in held}):
        names = [f"{outcome.criterion} ({outcome.answer})" for outcome in left]
        raise BlockedError(f"{refused} Not waived: {', '.join(names)}.")
    return held


def check_card(card: Card, held: Sequence[SignedWaiver], *, run: str) -> None:
    """InputError unless a card tells of these waivers and no others: what is signed must be what was read."""
    if card.waivers != tuple(map(as_shown, held)):
        told = ", ".join(waived.criterion for waived in card.waivers) or "none"
        needed = ", ".join(signed.waiver.criterion for signed in held) or "none"
        raise InputError(
            f"run {run}: its card tells of other waivers ({told}) than those that lie beside it ({needed}); what is signed "
            "must be what was read. Have the criterion waived again, which writes the card anew."
        )


def check_rests_on(
    approval: Approval, found: Verdict, held: Sequence[SignedWaiver], *, at: datetime, subject: str
) -> None:
    """That the verdict passed, or that every waiver the approval names holds and together they cover what blocks.

    Raises:
        NotApprovedError: If not: other waivers than it names, one that does not suffice, or that has expired.
    """
    named = {signed.waiver.criterion: signed.digest for signed in held}
    if named != approval.waivers:
        raise NotApprovedError(f"{subject}: names other waivers than its subjects are; it contradicts itself.")
    left = still_blocking(found.outcomes, named)
    if not _is_passed(found) and (not held or left):
        raise NotApprovedError(f"{subject}: was signed over a verdict that blocks. {found.summary}")
    for moment, when in ((approval.decided_at, "when the run was approved"), (at.isoformat(), f"by {at:%Y-%m-%d}")):
        try:
            check_in_force(held, at=instant(moment), when=when)
        except (NotApprovedError, ValueError) as error:
            raise NotApprovedError(f"{subject}: rests on a waiver that does not hold. {error}") from error


def _is_passed(found: Verdict) -> bool:
    return found.answer == "passed" and not any(outcome.blocks for outcome in found.outcomes)
