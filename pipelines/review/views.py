"""What each page shows, as values for its template."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.approval.waivers import waiver_files
from components.card.chapters.rules import headline, rules, tally
from components.card.chapters.waivers import sentence, standing
from components.errors import InputError, RankgateError
from pipelines.releasing import earlier_decisions
from pipelines.review.deciding import LONGEST_REASON
from pipelines.review.desk import Desk, now
from pipelines.review.drilling import criterion_view, finding_view
from pipelines.review.pages import Addresses
from pipelines.review.reading import Decision, Shown, envelope_of, read_decision, seen_digest, shown_card
from pipelines.review.security import Secrets
from pipelines.review.side_by_side import side_by_side
from pipelines.review.waiting import PAGE_LENGTH, PLACES, age, chosen, counts, lines, outline
from pipelines.runs import Run
from pipelines.waiving import standing as waivers_of

PLACE_WORDS = {
    "waiting": "To decide",
    "asked": "Asked",
    "blocked": "Blocked",
    "decided": "Decided",
    "other": "Not finished",
    "all": "All",
}


@dataclass(frozen=True, slots=True)
class Said:
    """A message above a run's page, and what the reviewer had filled in."""

    words: str
    tone: str
    reason: str = ""
    decision: str = ""


class Views:
    """The desk's pages."""

    def __init__(self, desk: Desk, secrets_: Secrets) -> None:
        self.desk = desk
        self.secrets = secrets_
        self.at = Addresses(f"/{secrets_.folder}/")

    def queue(self, query: Mapping[str, str]) -> dict[str, Any]:
        """The list of runs: `show` is a place or `all`, `words` a search, `page` counts from 1."""
        found = lines(self.desk.home)
        numbers: dict[str, int] = {"all": len(found)}
        numbers.update((place, number) for place, number in counts(found).items())
        show = query.get("show", "")
        if show not in PLACE_WORDS:
            show = "waiting" if numbers["waiting"] else "all"
        words = query.get("words", "")[:200]
        held = chosen(found, place=show, words=words)
        pages = max(1, -(-len(held) // PAGE_LENGTH))
        asked = query.get("page", "1")
        page = min(max(int(asked), 1), pages) if asked.isascii() and asked.isdigit() and len(asked) < 6 else 1
        moment = now()
        part = held[(page - 1) * PAGE_LENGTH : page * PAGE_LENGTH]
        return {
            **self._everywhere(),
            "tabs": [(place, PLACE_WORDS[place], numbers[place]) for place in (*PLACES, "all")],
            "show": show,
            "words": words,
            "page": page,
            "pages": pages,
            "of": len(held),
            "entries": [(line, outline(line), age(line.asked_at, moment)) for line in part],
        }

    def run(self, run: Run, said: Said | None = None) -> dict[str, Any]:
        """A run's page."""
        shown = shown_card(run)
        card = shown.card
        stands = standing(card)
        waived = {told.criterion: told.until for told in stands.waivers}
        # Read once: what the page shows of the decision is what its form says that it has shown.
        envelope = envelope_of(run)
        decision, fault = self._decision(run, envelope)
        ordered = rules(card.verdict, waived)
        return {
            **self._everywhere(),
            "run": run,
            "shown": shown,
            "card": card,
            "stands": stands,
            "summary": card.verdict.summary if stands.waivers else headline(card.verdict),
            "waived_sentence": sentence(stands),
            "tally": tally(card.verdict, waived),
            "age": age(card.created_at, now()),
            "incumbent": run.request.incumbent_run,
            "to_read": [rule for rule in ordered if rule.row not in ("pass", "none")],
            "passed": [rule for rule in ordered if rule.row in ("pass", "none")],
            "against": side_by_side(card, self._incumbent_card(run)),
            "waivers": self._waivers(run),
            "decision": decision,
            "decision_fault": fault,
            "earlier": [self._decision(run, path.read_bytes()) for path in reversed(earlier_decisions(run))],
            "outdated": decision is not None and decision.approval.card != shown.digest,
            "said": said,
            "form": self._form(run, shown, seen=seen_digest(envelope)),
            "next": self._next(run),
        }

    def criterion(self, run: Run, criterion: str) -> dict[str, Any] | None:
        """The page of one criterion; None where there is none of that name."""
        view = criterion_view(shown_card(run).card, criterion)
        if view is None:
            return None
        return {**self._everywhere(), "run": run, "view": view}

    def finding(self, run: Run, criterion: str, number: int) -> dict[str, Any] | None:
        """The page of one finding; None where there is none."""
        view = finding_view(shown_card(run).card, criterion, number)
        if view is None:
            return None
        return {**self._everywhere(), "run": run, "view": view}

    def message(self, title: str, words: str) -> dict[str, Any]:
        """A page that only says something."""
        return {**self._everywhere(), "title": title, "words": words}

    def _everywhere(self) -> dict[str, Any]:
        return {"at": self.at, "desk": self.desk, "reviewer": self.desk.reviewer}

    def decision(self, run: Run) -> Decision | None:
        """The decision beside a run; None where there is none that can be read."""
        return self._decision(run, envelope_of(run))[0]

    def _decision(self, run: Run, envelope: bytes | None) -> tuple[Decision | None, str]:
        if envelope is None:
            return None, ""
        try:
            return read_decision(envelope, run, self.desk), ""
        except RankgateError as error:
            return None, str(error)

    def _form(self, run: Run, shown: Shown, *, seen: str) -> dict[str, Any]:
        page = secrets.token_urlsafe(16)
        return {
            "page": page,
            "code": self.secrets.form_code(run.name, page),
            "card": shown.digest,
            "seen": seen,
            "own": self.desk.is_own(run.request.submitted_by),
            "longest": LONGEST_REASON,
        }

    def _incumbent_card(self, run: Run) -> Any:
        held = self.desk.run(run.request.incumbent_run) if run.request.incumbent_run else None
        if held is None:
            return None
        try:
            return shown_card(held).card
        except RankgateError:
            # The incumbent's own run may be of an older rankgate; the candidate's figures of it are in this card.
            return None

    def _waivers(self, run: Run) -> dict[str, Any]:
        """The waiver files beside a run: what they say, which have expired, and why one cannot be read."""
        files = len(waiver_files(run.waivers))
        try:
            now_stands = waivers_of(run)
        except InputError as error:
            return {"files": files, "held": (), "expired": (), "fault": str(error)}
        return {"files": files, "held": now_stands.waivers, "expired": now_stands.expired, "fault": ""}

    def _next(self, run: Run) -> str:
        """The next run that waits for a decision, after this one in the queue and else from its start."""
        waiting = [line.run.name for line in lines(self.desk.home) if line.place == "waiting" or line.run == run]
        if run.name not in waiting:
            return ""
        at = waiting.index(run.name)
        others = [*waiting[at + 1 :], *waiting[:at]]
        return others[0] if others else ""
