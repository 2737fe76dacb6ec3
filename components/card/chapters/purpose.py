"""Purpose: what the team says of its ranker, in its own words, as they were frozen before anything was measured."""

from __future__ import annotations

from dataclasses import dataclass

from components.card.fields import TEAM_FIELDS
from components.card.parts import Table
from components.card.sources import Opened
from components.card.words import DASH


@dataclass(frozen=True, slots=True)
class Told:
    """One field that the team filled; several lines where it is a list."""

    label: str
    lines: tuple[str, ...]


def told(opened: Opened) -> tuple[Told, ...]:
    """The fields that are filled, in the order a reviewer asks; who owns the data, where the dataset contract says so."""
    found = []
    for field in TEAM_FIELDS:
        value = getattr(opened.purpose, field.key)
        if field.key == "risks" or not value:
            continue
        found.append(Told(field.label, (value,) if isinstance(value, str) else value))
    if opened.contract.owner:
        found.append(Told("Owner of the data, by the dataset contract", (opened.contract.owner,)))
    if opened.contract.description:
        found.append(Told("The data, by the dataset contract", (opened.contract.description,)))
    return tuple(found)


def risks(opened: Opened) -> Table:
    """Foreseeable harm."""
    rows = tuple((risk.harm, risk.affected or DASH, risk.mitigation) for risk in opened.purpose.risks)
    headers = ("harm", "whom it would meet", "what is done about it")
    return Table("Foreseeable harm, and what is done about it", headers, rows, shown=True)
