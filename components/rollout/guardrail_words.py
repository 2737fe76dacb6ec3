"""What a guardrail's result says to a person: which thing, what was found, how sure, against which bound, and what is next."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from components.rollout.contract import GuardrailResult
from components.rollout.policy import Distribution, Guardrail, Latency, Outcome, Plain, Rate


@dataclass(frozen=True, slots=True)
class Words:
    """What a message needs beside the result."""

    guardrail: Guardrail
    segment: str
    n: int
    unit: str
    detail: str
    since: float | None
    """Where the result rests on the reading since then."""


def lasting(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`, `2 days`: a planning figure is no more exact."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.2g} h"
    return f"{seconds / 86400:.2g} days"


def result_words(words: Words, result: GuardrailResult) -> str:
    """The message of a result that was read."""
    about = f"{words.guardrail.id}{f' ({words.segment})' if words.segment else ''}"
    if isinstance(words.guardrail, Plain):
        return f"{about}: {_plain(words.guardrail, result, words.detail)}"
    if result.answer == "void":
        return f"{about}: not judged, because users are not split as set."
    if result.estimate is None:
        return f"{about}: nothing to compare yet. {_when(result)}"
    text = f"{about}: {_found(words.guardrail, result)} ({_how_sure(words, result)})"
    if words.detail:
        text += f"; {words.detail}"
    margin = _margin(words.guardrail)
    if result.answer == "harm":
        return f"{text}: beyond {margin}."
    if result.answer == "within":
        return f"{text}: harm beyond {margin} is ruled out."
    return f"{text}: harm beyond {margin} is neither shown nor ruled out. {_when(result)}"


def missing_words(words: Words, missing_for: float) -> str:
    """The message of a result that could not be read."""
    about = f"{words.guardrail.id}: {words.guardrail.measure}"
    return f"{about} could not be read for {lasting(missing_for)}. What is not measured cannot pass."


def _when(result: GuardrailResult) -> str:
    if result.expected_seconds is None:
        return "How long that takes cannot be told yet."
    return f"At this traffic about {lasting(result.expected_seconds)} more would settle it."


def _found(guardrail: Guardrail, result: GuardrailResult) -> str:
    value = result.estimate or 0.0
    if isinstance(guardrail, Outcome):
        way = "fewer" if value < 1 else "more"
        return f"{abs(1 - value):.1%} {way} {guardrail.measure} a list than the stable arm"
    if isinstance(guardrail, Distribution):
        return f"{guardrail.measure} lies {value:.3f} from what was expected"
    harm_less = isinstance(guardrail, Rate) and guardrail.harm == "less"
    way = "more" if (value >= 0) != harm_less else "fewer"
    what = f"slow {result.unit}" if isinstance(guardrail, Latency) else guardrail.measure
    return f"{100 * abs(value):.3g} {way} {what} in a hundred {result.unit} than the stable arm"


def _limit(guardrail: Guardrail, value: float | None) -> str:
    if value is None:
        return "unknown"
    if isinstance(guardrail, Outcome):
        return f"{100 * (value - 1):+.2g}%"
    return f"{value:.3f}" if isinstance(guardrail, Distribution) else f"{100 * value:.3g}"


def _how_sure(words: Words, result: GuardrailResult) -> str:
    low, high = (_limit(words.guardrail, value) for value in (result.low, result.high))
    since = "" if words.since is None else f" since {datetime.fromtimestamp(words.since, UTC):%H:%M} UTC"
    return f"limits at every look {low}..{high}, {words.n} {words.unit}{since}"


def _margin(guardrail: Guardrail) -> str:
    if isinstance(guardrail, Latency):
        quantile = f"{100 * guardrail.quantile:g}% quantile"
        return f"{guardrail.ratio:g} times the stable arm's {quantile} ({100 * guardrail.margin:g} in a hundred slower)"
    if isinstance(guardrail, Outcome):
        return f"a loss of {guardrail.margin:.1%}"
    if isinstance(guardrail, Distribution):
        return f"a distance of {guardrail.margin:g}"
    return f"the margin of {100 * guardrail.margin:g} in a hundred" if isinstance(guardrail, Rate) else "the bound"


def _plain(guardrail: Plain, result: GuardrailResult, lasted: str) -> str:
    text = f"{guardrail.measure} is {result.estimate:g}; at most {guardrail.at_most:g}"
    if result.answer == "within":
        return f"{text}."
    return f"{text}, for {lasted} s now; {guardrail.for_seconds:g} s are tolerated."
