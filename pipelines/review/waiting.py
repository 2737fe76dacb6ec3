"""The queue: every run of this machine, what it waits for, and what needs reading first. Fast, because it reads little.

A verdict holds a finding for each thing that was looked at, thousands in all; a line of the queue needs those for which the
run is stopped. The rest is left unread, and what was read of a finished run is kept, by the digest of its verdict.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

from components.approval.contract import Approval
from components.approval.envelope import read_unchecked
from components.approval.statement import read_statement
from components.artifacts import documents
from components.artifacts.store import Store
from components.card.chapters.rules import tally
from components.card.words import instant
from components.errors import InputError, RankgateError
from components.verdict.contract import Verdict
from components.verdict.outcomes import still_blocking
from pipelines.request import RunRequest
from pipelines.review.reading import current_digests, envelope_of
from pipelines.runs import Home, Run
from pipelines.waiving import standing

Place = Literal["waiting", "asked", "blocked", "decided", "other"]
PLACES: tuple[Place, ...] = get_args(Place)

PAGE_LENGTH = 25

_MOST_OUTLINES = 1024
_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Line:
    """One run of the queue, as far as all runs are looked at."""

    run: Run
    place: Place
    state: str
    """`passed`, `blocked`, `failed`, `unfinished` or `unreadable`."""
    dataset: str
    submitter: str
    asked_at: str
    incumbent: str
    words: str
    """`waived`, `partly waived`, `waiver expired`; empty without waivers."""
    left: tuple[str, ...]
    """Criteria that stop the release and are not waived; only known of runs with waivers."""
    verdict: str
    """Tree digest; empty where there is none."""
    decision: Approval | None
    outdated: bool
    """Whether the decision was over another card than the run has now."""


@dataclass(frozen=True, slots=True)
class Outline:
    """What a line says of a verdict."""

    summary: str
    tally: tuple[tuple[str, str, int], ...]
    first: tuple[str, ...]
    """Titles of what needs reading first: what stops the release, then what is unsure or broken and does not."""
    further: int


def lines(home: Home) -> list[Line]:
    """Every run, newest first."""
    found = [_line(home.run_at(path.parent.name)) for path in (home.root / "runs").glob("*/request.json")]
    return sorted(found, key=lambda line: (line.asked_at, line.run.name), reverse=True)


def counts(found: Sequence[Line]) -> dict[Place, int]:
    """How many runs are in each place."""
    return {place: sum(line.place == place for line in found) for place in PLACES}


def chosen(found: Sequence[Line], *, place: str, words: str) -> list[Line]:
    """The lines of one place, or of all, that hold every word in their run's name, submitter or decision."""
    wanted = words.casefold().split()

    def told(line: Line) -> str:
        by = f"{line.decision.approver} {line.decision.decision}" if line.decision else ""
        return f"{line.run.name} {line.submitter} {line.state} {line.words} {by}".casefold()

    return [line for line in found if place in ("all", line.place) and all(word in told(line) for word in wanted)]


def outline(line: Line) -> Outline | None:
    """What the verdict of a run says in a line; None where there is none that can be read."""
    if not line.verdict:
        return None
    try:
        verdict = _verdict(line.run.store, line.verdict)
    except InputError:
        return None
    waived = {o.criterion: "" for o in verdict.outcomes if o.blocks and line.words and o.criterion not in line.left}
    stopping = still_blocking(verdict.outcomes, waived)
    noted = [o for o in verdict.outcomes if o not in stopping and o.answer != "pass" and not o.not_applicable]
    titles = [o.title for o in (*stopping, *noted)]
    return Outline(
        verdict.summary, tally(verdict, waived), tuple(titles[:_MOST_NAMED]), max(0, len(titles) - _MOST_NAMED)
    )


def age(asked_at: str, now: datetime) -> str:
    """`3 hours ago`; the text itself where it is no moment."""
    at = instant(asked_at)
    if at is None:
        return asked_at
    seconds = (now - at).total_seconds()
    for length, unit in ((86400 * 365, "year"), (86400 * 30, "month"), (86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= length:
            number = int(seconds // length)
            return f"{number} {unit}{'' if number == 1 else 's'} ago"
    return "just now"


def _line(run: Run) -> Line:
    """A run's line; one that cannot be read must not hide the others."""
    try:
        request = _request(run.folder / "request.json", (run.folder / "request.json").stat().st_mtime_ns)
    except (InputError, OSError):
        return Line(run, "other", "unreadable", run.name, "", "", "", "", (), "", None, False)
    about = (request.name, request.submitted_by, request.asked_at, request.incumbent_run)
    try:
        state, digests = run.state, current_digests(run)
        decision = _decision(run)
        stands = standing(run) if run.waivers.is_dir() else None
    except RankgateError:
        return Line(run, "other", "unreadable", *about, "", (), "", None, False)
    left = stands.left if stands else ()
    outdated = decision is not None and decision.card != digests.get("card")
    may_go = state == "passed" or (state == "blocked" and stands is not None and not left)
    return Line(
        run=run,
        place=_place(state, decision, may_go=may_go, outdated=outdated),
        state=state,
        dataset=request.name,
        submitter=request.submitted_by,
        asked_at=request.asked_at,
        incumbent=request.incumbent_run,
        words=stands.words if stands else "",
        left=left,
        verdict=digests.get("verdict", ""),
        decision=decision,
        outdated=outdated,
    )


def _place(state: str, decision: Approval | None, *, may_go: bool, outdated: bool) -> Place:
    if state not in ("passed", "blocked"):
        return "other"
    if decision is not None and not outdated:
        return "asked" if decision.decision == "asked" else "decided"
    return "waiting" if may_go else "blocked"


def _decision(run: Run) -> Approval | None:
    """What the decision beside a run says, its signature unchecked: a run's own page checks it."""
    content = envelope_of(run)
    if content is None:
        return None
    subject = f"decision on run {run.name}"
    return read_statement(read_unchecked(content, subject=subject).payload, subject=subject).approval


@lru_cache(maxsize=_MOST_OUTLINES)
def _request(path: Path, written: int) -> RunRequest:  # noqa: ARG001  a file that is written again is read again
    return documents.load(RunRequest, path)


@lru_cache(maxsize=_MOST_OUTLINES)
def _verdict(store: Store, digest: str) -> Verdict:
    """A verdict without the findings of what stops nothing."""
    path = store.object_path(digest) / "verdict.json"
    try:
        value = json.loads(path.read_bytes())
        for outcome in value["outcomes"]:
            if not outcome["blocks"]:
                outcome["findings"] = []
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: cannot be read ({error}); needed a Verdict document.") from error
    return documents.parse(Verdict, json.dumps(value).encode(), subject=str(path))
