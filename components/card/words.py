"""Figures and names as a reader sees them; the same in HTML and in Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from components.evidence.contract import Estimate
from components.verdict.contract import Finding

NOT_WRITTEN = "not yet written by the team"
DASH = "—"
ANSWERS = {"pass": "Pass", "fail": "Fail", "insufficient": "Insufficient"}
QUESTION_NAMES = {
    "data": "the data",
    "leakage": "leakage",
    "proxies": "stand-ins for sensitive attributes",
    "quality": "ranking quality",
    "calibration": "scores as chances",
    "fairness-users": "quality by group of users",
    "fairness-providers": "exposure of providers",
    "drift": "drift",
    "servability": "how it is served",
}
_ACRONYMS = {"ndcg": "NDCG", "map": "MAP", "mrr": "MRR", "ece": "Calibration error (ECE)"}


def figure(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    """A number with a fixed number of decimals and a true minus sign; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return DASH
    value = round(value, digits)
    if value == 0:
        return f"{0:.{digits}f}"
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "\N{MINUS SIGN}")


def plain(value: float) -> str:
    """A number as short as it can be said: `0.05`, `12`, `1.4e-05`."""
    return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")


def count(value: float) -> str:
    """A whole number with narrow spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def counted(value: int, noun: str) -> str:
    """`1 user`, `12 users`."""
    return f"{count(value)} {noun}{'' if value == 1 else 's'}"


def share(value: float | None, digits: int = 1) -> str:
    """A share as a percentage."""
    return DASH if value is None or not math.isfinite(value) else f"{value:.{digits}%}"


def interval(found: Estimate | Finding, digits: int = 3, *, signed: bool = False) -> str:
    """`0.046 (0.039 to 0.052)`; the value alone where it is exact or has no interval."""
    value = figure(found.value, digits, signed=signed)
    between = limits(found, digits, signed=signed)
    return f"{value} ({between})" if between else value


def limits(found: Estimate | Finding, digits: int = 3, *, signed: bool = False) -> str:
    """`0.039 to 0.052`; empty where the figure is exact or has no interval."""
    if found.low is None or found.high is None or found.low == found.high:
        return ""
    return f"{figure(found.low, digits, signed=signed)} to {figure(found.high, digits, signed=signed)}"


def metric(name: str) -> str:
    """`NDCG@10`, `Hit rate@5` of a metric's name in the evidence."""
    base, at, cutoff = name.partition("@")
    said = _ACRONYMS.get(base, base.replace("_", " ").capitalize())
    return f"{said}{at}{cutoff}"


def segment(names: Mapping[str, str]) -> str:
    """`country DE and gender f`; `everyone` for no segment."""
    return " and ".join(f"{attribute} {value}" for attribute, value in sorted(names.items())) or "everyone"


def moment(text: str) -> str:
    """`1 March 2026, 08:26 UTC` of an ISO 8601 moment; the text itself where it is none."""
    at = instant(text)
    return f"{at.day} {at:%B %Y, %H:%M} UTC" if at else text


def date(text: str) -> str:
    """`1 March 2026` of an ISO 8601 moment; the text itself where it is none."""
    at = instant(text)
    return f"{at.day} {at:%B %Y}" if at else text


def instant(text: str) -> datetime | None:
    """An ISO 8601 moment in UTC; None where the text is none."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


_HYPHEN_AS_MINUS = re.compile(r"(?<![\w.)])-(?=\d)")
_DOTS = re.compile(r"(?<=\d)\.\.(?=[+-]?\d)")


_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_BLANKS = re.compile(r"[ \t\r\n]+")


def one_line(text: str) -> str:
    """Text on one line; spaces that hold a figure together stay."""
    return _BLANKS.sub(" ", text).strip()


def typeset(sentence: str) -> str:
    """A sentence of the evidence or the verdict, set like the card's own figures: minus signs, thousands, `a to b`."""
    text = _THOUSANDS.sub("\N{NARROW NO-BREAK SPACE}", one_line(sentence))
    return _HYPHEN_AS_MINUS.sub("\N{MINUS SIGN}", _DOTS.sub(" to ", text))


def number(value: int) -> str:
    """`none` for 0, else the number."""
    return count(value) if value else "none"


def short(digest: str) -> str:
    """The first twelve digits of a digest; a dash for none."""
    return digest[:12] or DASH


def listed(names: Sequence[str], most: int = 6) -> str:
    """`a, b and c`; after `most` names, how many more there are."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else "none"
