"""What a card is made of: sections of sentences, pictures and tables. Templates lay them out; nothing is computed there."""

from __future__ import annotations

from dataclasses import dataclass

from components.card.pictures.plots import Plot
from components.card.pictures.timeline import Timeline
from components.card.pictures.tracks import Tracks

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table: the first column holds names, the others figures or words."""

    caption: str
    headers: Row
    rows: tuple[Row, ...]
    shown: bool = False
    """True where it stands open on the page; else it lies behind its caption."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture, of one kind: rows on a shared track, a plot, or a timeline; with its figures as a table."""

    title: str
    takeaway: str
    """What it shows, in a sentence with the figures."""
    reading: str
    """How to read the marks."""
    table: Table
    tracks: Tracks | None = None
    plot: Plot | None = None
    timeline: Timeline | None = None
    key: tuple[tuple[str, str], ...] = ()
    """Legend: the CSS class of a mark, and what the mark is."""


@dataclass(frozen=True, slots=True)
class Section:
    """One section of the card."""

    id: str
    title: str
    question: str
    sentences: tuple[str, ...]
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[tuple[str, str], ...] = ()
    """Conventions: name and text."""
    measured: bool = True
    """False where there is no evidence to speak of."""
