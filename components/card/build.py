"""Writes the model card: card.html, card.md and card.json from the same values. The room's entry point."""

from __future__ import annotations

from pathlib import Path

from components.artifacts import documents
from components.artifacts.files import write_atomically
from components.card.chapters.calibration import calibration
from components.card.chapters.certainty import certainty
from components.card.chapters.changes import changes
from components.card.chapters.data import data, rights
from components.card.chapters.drift import drift
from components.card.chapters.glossary import GLOSSARY
from components.card.chapters.groups import groups
from components.card.chapters.leakage import leakage
from components.card.chapters.limits import limitations
from components.card.chapters.model import model
from components.card.chapters.providers import providers
from components.card.chapters.proxies import proxies
from components.card.chapters.purpose import risks, told
from components.card.chapters.quality import quality
from components.card.chapters.rules import headline, rules, tally
from components.card.chapters.serving import serving
from components.card.chapters.waivers import sentence, standing
from components.card.contract import SCHEMA_VERSION, Card
from components.card.describing import describe, differences
from components.card.fields import unwritten
from components.card.front_matter import front_matter
from components.card.obligations import obligations
from components.card.pages import html_page, markdown_page
from components.card.parts import Section
from components.card.sources import EVIDENCE_ROLES, CardSources, Opened, open_sources
from components.card.words import NOT_WRITTEN, count, moment, short

_TITLES = {"verdict": "Verdict", "limits": "Limits", "purpose": "Purpose", "lineage": "Lineage", "decide": "Decide",
           "glossary": "Glossary"}  # fmt: skip
"""Titles of the sections that the templates lay out themselves."""

__all__ = ["EVIDENCE_ROLES", "CardSources", "write_card"]


def write_card(sources: CardSources, *, out: Path) -> Card:
    """Write the card into `out`. Equal sources give equal bytes.

    Args:
        sources: The run's artefacts and facts.
        out: An existing, empty directory.

    Raises:
        InputError: If a manifest or the verdict cannot be read. Missing evidence does not stop a card: it says so.
    """
    opened = open_sources(sources)
    frozen = opened.verdict.policy
    now = describe(
        sources.run, sources.lineage, opened.snapshot, opened.dataset, opened.ranker, opened.policy, opened.purpose,
        label=f"{frozen.name}@{frozen.version}", libraries=sources.libraries,
    )  # fmt: skip
    found = differences(sources.before, now) if sources.before else ()
    first, *others = sections(opened)
    # After the figures of the whole: what came of it is read before what was done.
    shown = (first, changes(opened, found, sources.before, now), *others)
    card = Card(
        schema_version=SCHEMA_VERSION,
        run=sources.run,
        name=opened.dataset.name,
        created_at=sources.created_at,
        submitted_by=sources.submitted_by,
        purpose=opened.purpose,
        snapshot=opened.snapshot,
        dataset=opened.dataset,
        ranker=opened.ranker,
        rankings=opened.rankings,
        evidence=opened.evidence,
        verdict=opened.verdict,
        lineage=sources.lineage,
        libraries=dict(sorted(sources.libraries.items())),
        rights=rights(opened),
        limits=limitations(opened),
        changes=found,
        before=sources.before,
        unwritten=unwritten(opened.purpose, submitted_by=sources.submitted_by),
        obligations=obligations(opened.purpose, unmeasured={held.id for held in shown if not held.measured}),
        waivers=sources.waivers,
    )
    values = _values(card, opened, shown)
    write_atomically(out / "card.html", html_page(values).encode())
    write_atomically(out / "card.md", markdown_page(values, front_matter(card, opened)).encode())
    documents.save(card, out / "card.json")
    return card


def sections(opened: Opened) -> tuple[Section, ...]:
    """What was measured, in reading order; a question without evidence keeps its section and says so."""
    chapters = (quality, groups, providers, proxies, leakage, calibration, drift, serving, data, model, certainty)
    return tuple(chapter(opened) for chapter in chapters)


def _values(card: Card, opened: Opened, shown: tuple[Section, ...]) -> dict[str, object]:
    first = card.verdict.first_release
    stands = standing(card)
    waived = {told.criterion: told.until for told in stands.waivers}
    return {
        "card": card,
        "stands": stands,
        "waived": sentence(stands),
        "summary": card.verdict.summary if stands.waivers else headline(card.verdict),
        "tally": tally(card.verdict, waived),
        "asked": moment(card.created_at),
        "frozen": moment(card.verdict.policy.frozen_at),
        "against": "No incumbent: a first release" if first else f"Incumbent {short(card.lineage.incumbent)}",
        "users": count(card.rankings.test_users),
        "requests": count(card.rankings.test_requests),
        "catalogue": count(card.rankings.catalogue),
        "rules": rules(card.verdict, waived),
        "sections": shown,
        "laws": tuple(dict.fromkeys(obligation.law for obligation in card.obligations)),
        "titles": {held.id: held.title for held in shown} | _TITLES,
        "not_written": NOT_WRITTEN,
        "purpose": told(opened),
        "risks": risks(opened),
        "lineage": _lineage(card),
        "evidence_files": tuple(sorted(card.verdict.evidence.items())),
        "glossary": GLOSSARY,
    }


def _lineage(card: Card) -> tuple[tuple[str, str], ...]:
    lineage = card.lineage
    return (
        ("Request", lineage.request),
        ("Code and libraries", lineage.code),
        ("Snapshot of the log", lineage.snapshot),
        ("Dataset", lineage.dataset),
        ("Ranker", lineage.ranker),
        ("Rankings", lineage.rankings),
        *((f"Evidence: {name}", digest) for name, digest in sorted(lineage.evidence.items())),
        ("Policy", lineage.policy),
        ("Verdict", lineage.verdict),
        ("Incumbent", lineage.incumbent),
    )
