"""Serving: whether the service of a release answers rightly, in time, within its memory."""

from __future__ import annotations

from components.card.chapters.looking import absent, beyond, estimates, harm_band, notes, sentences
from components.card.parts import Picture, Section, Table
from components.card.pictures.tracks import Mark, tracks
from components.card.sources import Opened
from components.card.words import DASH, count, figure, share
from components.evidence.contract import Estimate

_TITLE = "Serving"
_ASKS = "Does the service of a release answer rightly, in time, and refuse what is wrong?"
_TIMES = {"latency_p50": "half of the calls", "latency_p95": "95 of 100", "latency_p99": "99 of 100"}
_SHARES = {
    "order_parity": "Lists in the order that the training path gives",
    "error_share": "Calls without an answer, or answered 5xx",
    "malformed_refused": "Wrong requests refused, the field named",
}


def serving(opened: Opened) -> Section:
    """Latency as a picture, then what was answered rightly, then features that are served otherwise."""
    if missing := absent(opened, "servability", "serving", _TITLE, _ASKS):
        return missing
    found = estimates(opened, "servability")
    picture = _latency(opened, found)
    tables = (_answers(found), _skewed(found))
    return Section(
        "serving",
        _TITLE,
        _ASKS,
        sentences(opened, "servability"),
        (picture,) if picture else (),
        tuple(table for table in tables if table.rows),
        notes(opened, "servability"),
    )


def _latency(opened: Opened, found: tuple[Estimate, ...]) -> Picture | None:
    times = [e for e in found if e.metric in _TIMES and e.value is not None]
    if not times:
        return None
    band = harm_band(opened, "servability", "latency_p99", "value")
    marks = [
        Mark(
            _TIMES[e.metric],
            e.value,
            e.low,
            e.high,
            _milliseconds(e),
            tone="bad" if e.metric == "latency_p99" and beyond(e, band) else "main",
        )
        for e in times
    ]
    slowest = times[-1]
    return Picture(
        "How long a list of candidates takes",
        f"{_TIMES[slowest.metric][0].upper()}{_TIMES[slowest.metric][1:]} calls were answered within {_milliseconds(slowest)}.",
        "Milliseconds from sending a request to the last byte of its answer, on the machine that measured, feature lookup "
        "included; the bar is the interval of the figure.",
        Table(
            "Latency as a table",
            ("answered within", "milliseconds", "calls"),
            tuple((_TIMES[e.metric], _milliseconds(e), count(e.n_requests)) for e in times),
        ),
        tracks=tracks(marks, reference=0.0, band=band),
        key=(("dot", "measured"), *((("band", "beyond the policy’s budget"),) if band else ())),
    )


def _milliseconds(e: Estimate) -> str:
    if e.value is None:
        return DASH
    ends = [DASH if end is None else f"{end:.1f}" for end in (e.low, e.high)]
    return f"{e.value:.1f} ms ({ends[0]} to {ends[1]})"


def _answers(found: tuple[Estimate, ...]) -> Table:
    known = {e.metric: e.value for e in found}
    rows = [
        (said, share(known[name]) if known[name] is not None else DASH)
        for name, said in _SHARES.items()
        if name in known
    ]
    if "score_difference" in known:
        value = known["score_difference"]
        rows.append(
            (
                "Largest difference of a score from the training path",
                DASH if value is None else f"{value:.1e}" if value else "none",
            )
        )
    for name, said, unit in (
        ("throughput", "Answers a second, four connections", ""),
        ("startup_seconds", "From start to ready", " s"),
        ("memory_mb", "Memory, all processes", " MiB"),
    ):
        if name in known:
            value = known[name]
            rows.append((said, DASH if value is None else f"{figure(value, 1)}{unit}"))
    return Table("What the service did", ("what", "found"), tuple(rows), shown=True)


def _skewed(found: tuple[Estimate, ...]) -> Table:
    """Features that are served otherwise than they were trained on; empty where there are none."""
    skewed = sorted(
        (e for e in found if e.metric == "skewed_share" and e.value), key=lambda e: (-(e.value or 0.0), e.subject)
    )
    rows = tuple((e.subject, share(e.value), count(e.detail.get("cells", 0.0))) for e in skewed)
    return Table(
        "Features that are served otherwise than they were trained on",
        ("feature", "differs in", "of"),
        rows,
        shown=True,
    )
