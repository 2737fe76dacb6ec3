"""Writes the model card: card.html, card.md and card.json from the same values. The room's entry point."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from components.artifacts import documents
from components.artifacts.files import write_atomically
from components.card.contract import SCHEMA_VERSION, Card
from components.card.sections import Section, by_concern, limitations, main_cutoff, sections
from components.card.sources import CardSources, Opened, open_sources
from components.card.words import ANSWERS, NOT_WRITTEN, count, day, interval, short
from components.ranker.contract import CANDIDATE
from components.verdict.contract import Finding, Outcome

__all__ = ["CardSources", "write_card"]


@dataclass(frozen=True, slots=True)
class CriterionLine:
    """One row of the verdict's table."""

    answer: str
    tone: str
    title: str
    found: str
    needed: str
    users: str
    message: str
    why: str
    blocks: bool


@dataclass(frozen=True, slots=True)
class WindowPart:
    """One part of the log's window; `share` of its length, at least enough to hold its name."""

    name: str
    share: float
    days: str


def write_card(sources: CardSources, *, out: Path) -> Card:
    """Write the card into `out`. Equal sources give equal bytes.

    Args:
        sources: The run's artefacts and facts.
        out: An existing, empty directory.

    Raises:
        InputError: If a manifest or the verdict cannot be read. Missing evidence does not stop a card: it says so.
    """
    opened = open_sources(sources)
    card = Card(
        schema_version=SCHEMA_VERSION,
        run=sources.run,
        name=opened.dataset.name,
        created_at=sources.created_at,
        submitted_by=sources.submitted_by,
        purpose=sources.purpose,
        snapshot=opened.snapshot,
        dataset=opened.dataset,
        ranker=opened.ranker,
        rankings=opened.rankings,
        evidence=opened.evidence,
        verdict=opened.verdict,
        lineage=sources.lineage,
        libraries=dict(sources.libraries),
    )
    shown = sections(opened)
    values = _values(card, opened, shown)
    page, text = _environment(html=True), _environment(html=False)
    css, _, _ = page.loader.get_source(page, "card.css")  # type: ignore[union-attr]  # set below
    write_atomically(out / "card.html", page.get_template("card.html.j2").render(**values, css=Markup(css)).encode())  # noqa: S704  our own file
    markdown = text.get_template("card.md.j2").render(**values, front_matter=_front_matter(card, opened))
    write_atomically(out / "card.md", re.sub(r"\n{3,}", "\n\n", markdown).encode())
    documents.save(card, out / "card.json")
    return card


def _environment(*, html: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("components.card", "templates"),
        autoescape=html,  # noqa: S701  Markdown is not HTML; the `md` filter escapes what it reads as marks
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = _markdown
    return environment


_MARKDOWN_MARKS = re.compile(r"([\\`*_\[\]<>|#])")


def _markdown(text: object) -> str:
    """Text that Markdown shows as it is, on one line: names come from outside."""
    return _MARKDOWN_MARKS.sub(r"\\\1", " ".join(str(text).split()))


def _values(card: Card, opened: Opened, shown: tuple[Section, ...]) -> dict[str, Any]:
    lineage = card.lineage
    return {
        "card": card,
        "passed": card.verdict.answer == "passed",
        # The word stands above it already.
        "summary": re.sub(r"^(Passed|Blocked): (.)", lambda found: found[2].upper(), card.verdict.summary),
        "asked": day(card.created_at),
        "incumbent": short(lineage.incumbent),
        "users": count(card.rankings.test_users),
        "requests": count(card.rankings.test_requests),
        "catalogue": count(card.rankings.catalogue),
        "criteria": [_line(outcome) for outcome in by_concern(card.verdict.outcomes)],
        "sections": shown,
        "limits": limitations(opened),
        "window": _window(opened),
        "timeline": _timeline(opened),
        "not_written": NOT_WRITTEN,
        "purpose": [
            ("Owner", card.purpose.owner),
            ("Intended use", card.purpose.intended_use),
            ("Out of scope", card.purpose.out_of_scope),
            ("Surfaces", card.purpose.surfaces),
            ("Main parameters", card.purpose.main_parameters),
            ("Risks and what is done about them", card.purpose.risks),
            ("Human oversight", card.purpose.oversight),
        ],
        "lineage": [
            ("request", lineage.request),
            ("code and libraries", lineage.code),
            ("snapshot", lineage.snapshot),
            ("dataset", lineage.dataset),
            ("ranker", lineage.ranker),
            ("rankings", lineage.rankings),
            *((f"evidence, {name}", digest) for name, digest in sorted(lineage.evidence.items())),
            ("policy", lineage.policy),
            ("verdict", lineage.verdict),
            ("incumbent", lineage.incumbent),
        ],
    }


def _line(outcome: Outcome) -> CriterionLine:
    finding = _deciding(outcome)
    exact = finding is None or finding.low is None or finding.low == finding.high
    message = ""
    if outcome.not_applicable:
        message = outcome.not_applicable
    elif outcome.answer != "pass" and finding is not None:
        message = finding.message
    answer = ANSWERS[outcome.answer]
    if outcome.not_applicable:
        answer = "Does not apply"
    elif outcome.answer != "pass" and not outcome.blocks:
        answer = f"{answer}, noted"
    return CriterionLine(
        answer=answer,
        tone="none" if outcome.not_applicable else outcome.answer,
        title=outcome.title,
        found=interval(finding, 4 if exact else 3) if finding and not outcome.not_applicable else "—",
        needed=finding.needed if finding and not outcome.not_applicable else "—",
        users=count(finding.n_users) if finding and finding.n_users and not outcome.not_applicable else "—",
        message=message,
        why=outcome.why,
        blocks=outcome.blocks,
    )


def _deciding(outcome: Outcome) -> Finding | None:
    """The finding that gave the outcome its answer: of those with that answer, the one nearest its bound."""
    same = [finding for finding in outcome.findings if finding.answer == outcome.answer]
    known = [finding for finding in same if finding.value is not None]
    if known:
        return min(known, key=lambda finding: abs((finding.value or 0.0) - finding.margin))
    return same[0] if same else None


def _window(opened: Opened) -> str:
    contract = opened.contract
    consent = (
        f"Users with consent only ({contract.consent.column})" if contract.consent else "No consent column is declared"
    )
    days = f"{contract.retention.days} days" if contract.retention else "no limit is declared"
    return (
        f"{day(opened.snapshot.first_ts)} to {day(opened.snapshot.last_ts)}, judged as of {day(opened.snapshot.as_of)}. "
        f"{consent}; retention: {days}."
    )


def _timeline(opened: Opened) -> list[WindowPart]:
    cuts = {cut.name: datetime.fromisoformat(cut.ts) for cut in opened.dataset.cuts}
    first = datetime.fromisoformat(opened.snapshot.first_ts)
    parts = (
        ("train", first, cuts["validation"]),
        ("validation", cuts["validation"], cuts["test"]),
        ("test", cuts["test"], cuts["release"]),
    )
    whole = (cuts["release"] - first).total_seconds() or 1.0
    return [
        WindowPart(
            name,
            round(max((end - begin).total_seconds() / whole, 0.14), 3),
            f"{(end - begin).days} days from {begin:%d %b}",
        )
        for name, begin, end in parts
    ]


def _front_matter(card: Card, opened: Opened) -> str:
    """Hugging Face model card metadata: the candidate's overall figures as results."""
    k = main_cutoff(opened)
    wanted = (f"ndcg@{k}", f"map@{k}", f"recall@{k}", f"mrr@{k}")
    held = opened.evidence.get("quality")
    metrics = [
        {"type": estimate.metric, "value": round(estimate.value, 6), "name": estimate.metric.upper()}
        for estimate in (held.estimates if held else ())
        if estimate.metric in wanted
        and estimate.statistic == "value"
        and estimate.subject == CANDIDATE
        and not estimate.segment
        and estimate.value is not None
    ]
    value: dict[str, Any] = {
        "library_name": "xgboost",
        "pipeline_tag": "tabular-regression",
        "tags": ["learning-to-rank", "recommendation", "rankgate"],
    }
    if metrics:
        value["model-index"] = [
            {
                "name": card.run,
                "results": [
                    {
                        "task": {"type": "tabular-regression", "name": "Ranking"},
                        "dataset": {"type": "private", "name": card.name},
                        "metrics": metrics,
                    }
                ],
            }
        ]
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    return text
