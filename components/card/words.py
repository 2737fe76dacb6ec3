"""Figures and names as a reader sees them; the same in HTML and in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from components.evidence.contract import Estimate
from components.verdict.contract import Finding

NOT_WRITTEN = "not yet written by the team"
ANSWERS = {"pass": "Pass", "fail": "Fail", "insufficient": "Insufficient"}


def figure(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    """A number with a fixed number of decimals, a dash where there is none."""
    if value is None:
        return "—"
    return f"{value:{'+' if signed else ''}.{digits}f}"


def count(value: float) -> str:
    """A whole number with thin spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def share(value: float | None, digits: int = 1) -> str:
    """A share as a percentage."""
    return "—" if value is None else f"{value:.{digits}%}"


def interval(found: Estimate | Finding, digits: int = 3, *, signed: bool = False) -> str:
    """`0.046 (0.039 to 0.052)`; the value alone where it is exact or has no interval."""
    value = figure(found.value, digits, signed=signed)
    if found.low is None or found.high is None or found.low == found.high:
        return value
    low, high = figure(found.low, digits, signed=signed), figure(found.high, digits, signed=signed)
    return f"{value} ({low} to {high})"


def segment(names: Mapping[str, str]) -> str:
    """`country DE, gender f`; `everyone` for no segment."""
    return ", ".join(f"{attribute} {value}" for attribute, value in names.items()) or "everyone"


def day(moment: str) -> str:
    """`1 March 2026, 08:26 UTC` of an ISO 8601 moment."""
    at = datetime.fromisoformat(moment)
    return f"{at.day} {at:%B %Y, %H:%M} UTC"


def short(digest: str) -> str:
    """The first twelve digits of a digest; a dash for none."""
    return digest[:12] or "—"
