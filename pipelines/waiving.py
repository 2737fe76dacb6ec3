"""Waivers on this machine's runs directory: signed into the run's folder, told on a card written anew, and looked at.

The verdict stays as it is. The card is written again from the very artefacts that it was first written from, with what was
waived near its top, and takes the first one's place: what an approval signs is what a reviewer can read. The first card stays
in the store.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path

from components.approval.contract import SignedWaiver
from components.artifacts import documents
from components.artifacts.files import write_atomically
from components.card.contract import Waived
from components.errors import InputError
from components.verdict.contract import Outcome, Verdict
from components.verdict.outcomes import still_blocking
from pipelines.local import locked, shared_store
from pipelines.request import pipeline_arguments
from pipelines.runs import Home, Run

_CARD_READS = ("snapshot", "dataset", "ranker", "rankings", "policy", "verdict")


@dataclass(frozen=True, slots=True)
class Waiving:
    """What became of signing a waiver."""

    signed: SignedWaiver
    replaced: SignedWaiver | None
    """The waiver of the same criterion that it took the place of."""
    card: str
    """Tree digest of the card that tells of it."""
    left: tuple[str, ...]
    """Criteria that still stop the release."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a run stands when its waivers are taken at their word; `rankgate approve` checks their signatures."""

    waivers: tuple[SignedWaiver, ...]
    expired: tuple[str, ...]
    """Criteria whose waiver has expired."""
    left: tuple[str, ...]
    """Criteria that stop the release and are not waived, or no longer."""

    @property
    def waived(self) -> frozenset[str]:
        """Criteria that are waived today."""
        return frozenset(s.waiver.criterion for s in self.waivers) - {*self.expired, *self.left}

    @property
    def words(self) -> str:
        """`waived`, `partly waived` or `waiver expired`; empty without waivers."""
        if not self.waivers:
            return ""
        if not self.left:
            return "waived"
        return "waiver expired" if self.expired else "partly waived"

    def beside(self, state: str) -> str:
        """`blocked, waived`: a run's state or answer, and what was waived of it."""
        return f"{state}, {self.words}" if self.words else state


def waive_criterion(
    run: Run, home: Home, criterion: str, *, key: str, waived_by: str, reason: str, until: str
) -> Waiving:
    """Sign the waiver of one criterion of a blocked run and write its card anew. Nothing is left behind where it fails.

    Args:
        run: The run.
        home: Where it is kept.
        criterion: Id of the criterion.
        key: Private key of who waives: a file or a URI.
        waived_by: Their name.
        reason: Why.
        until: Last day on which it holds, such as 2026-12-31.

    Raises:
        InputError: If the run did not end blocked, or the waiver cannot be given.
    """
    from components.approval.waivers import as_shown, claimed_waivers, waive, waiver_file

    if run.state != "blocked":
        raise InputError(f"run {run.name}: is {run.state}; needed a blocked one. Nothing else is there to be waived.")
    now = datetime.now(UTC).replace(microsecond=0)
    with locked(run), shared_store(home), tempfile.TemporaryDirectory(prefix=".waiving.", dir=run.folder) as work:
        folder = Path(work)
        signed = waive(
            run=run.name,
            criterion=criterion,
            verdict=run.artifact("verdict"),
            policy=run.artifact("policy"),
            submitter=run.request.submitted_by,
            waived_by=waived_by,
            reason=reason,
            until=_day(until),
            key=key,
            waived_at=now,
            out=folder,
        )
        before = claimed_waivers(run.waivers)
        kept = tuple(held for held in before if held.waiver.criterion != criterion)
        card = write_card_of(run, tuple(map(as_shown, (*kept, signed))))
        name = waiver_file(criterion)
        write_atomically(run.waivers / name, (folder / name).read_bytes())
        # The last word: until it is written, the card that an approval would sign does not tell of the waiver.
        run.rewrite("card", card)
    return Waiving(
        signed=signed,
        replaced=next((held for held in before if held.waiver.criterion == criterion), None),
        card=card,
        left=standing(run, today=now.date()).left,
    )


def standing(run: Run, *, today: date | None = None) -> Standing:
    """Where a run stands with its waivers; nothing is left to waive where it is not blocked."""
    if not run.waivers.is_dir():
        return Standing((), (), _left(run, ()))
    from components.approval.waivers import claimed_waivers

    at = today or datetime.now(UTC).date()
    waivers = claimed_waivers(run.waivers)
    expired = tuple(held.waiver.criterion for held in waivers if date.fromisoformat(held.waiver.until) < at)
    held = tuple(signed.waiver.criterion for signed in waivers if signed.waiver.criterion not in expired)
    return Standing(waivers, expired, _left(run, held))


def _left(run: Run, waived: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(outcome.criterion for outcome in still_blocking(_outcomes(run), waived))


def _outcomes(run: Run) -> tuple[Outcome, ...]:
    if "verdict" not in run.artifact_digests():
        return ()
    return documents.load(Verdict, run.artifact("verdict") / "verdict.json").outcomes


def write_card_of(run: Run, waivers: Sequence[Waived]) -> str:
    """Write a run's card from the artefacts that it was first written from, with these waivers, and put it into the store.

    Returns:
        Its tree digest; the run's own card's where there is no waiver.
    """
    from components.card.build import CardSources, write_card
    from components.card.sources import EVIDENCE_ROLES

    request = run.request
    digests = run.artifact_digests()
    # A step that measures is called by what it measures; the card knows it by the first word of that.
    measured = {role: name for role in EVIDENCE_ROLES for name in digests if name.startswith(f"evidence-{role}")}
    named = {**{role: role for role in _CARD_READS}, **measured}
    sources = CardSources.of(
        **{role: run.artifact(role) for role in _CARD_READS},
        evidence=tuple(run.artifact(measured[role]) for role in EVIDENCE_ROLES if role in measured),
        code=request.code,
        digests={role: digests[name] for role, name in named.items()},
        facts=pipeline_arguments(request, incumbent="")["facts"],
    )
    told = tuple(sorted(waivers, key=lambda waived: waived.criterion))
    out = run.store.work_directory("card-waived")
    write_card(replace(sources, waivers=told), out=out)
    return run.store.put(out)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"until: found {text!r}; needed a day such as 2026-12-31, UTC.") from error
