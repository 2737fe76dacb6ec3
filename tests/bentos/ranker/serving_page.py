"""The page and the picture of a serving measurement, written from its figures and nothing else."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any

BARE, OURS = "bare", "rankgate"
LATENCY_LIMIT = 3.0
"""rankgate's p99 at one connection, at most so many times the bare server's p50 (issue 4)."""
RATE_LIMIT = 0.7
"""rankgate's throughput at saturation, at least this share of the bare server's."""
BATCH_LIMIT = 100_000
"""(user, candidate) pairs that a core must score a second for all users' lists."""
_BUSY = 0.05
"""Share of the time that servers may wait for their core before the page says that the machine was not free."""

PAGE, CHART = "serving-speed.md", "serving-speed.svg"
_INK, _QUIET, _LINE, _OURS, _PEER = "#1d2733", "#5b6673", "#d9dee4", "#1f5fa8", "#9aa7b4"


def write_page(result: Mapping[str, Any], folder: Path | None) -> str:
    """The page; written into the folder with its chart where there is one."""
    page = _page(result)
    if folder is not None:
        (folder / PAGE).write_text(page, encoding="utf-8")
        (folder / CHART).write_text(chart(result), encoding="utf-8")
    return page


def targets_of(result: Mapping[str, Any]) -> list[str]:
    """Names of what was measured, in the order of the tables."""
    return list(result["alone"])


def median(result: Mapping[str, Any], name: str, of: Callable[[Mapping[str, Any]], float]) -> float:
    """Of a figure over the rounds in turn."""
    return statistics.median(of(part[name]) for part in result["rounds"])


def ratios(result: Mapping[str, Any], name: str, of: Callable[[Any], float], to: Callable[[Any], float]) -> list[float]:
    """A figure of one target over a figure of the bare server, round by round."""
    return sorted(of(part[name]) / to(part[BARE]) for part in result["rounds"])


def _p(at: str) -> Callable[[Mapping[str, Any]], float]:
    return lambda part: float(part["latency_ms"][at])


def _rate(part: Mapping[str, Any]) -> float:
    return float(part["saturation"])


def _processor(part: Mapping[str, Any]) -> float:
    return float(part["processor_ms"])


def _busy(result: Mapping[str, Any]) -> float:
    return statistics.median(median(result, name, lambda part: part["waited_share"]) for name in targets_of(result))


def _page(result: Mapping[str, Any]) -> str:
    size, machine = result["size"], result["machine"]
    told = "; ".join(f"{name} {number}" for name, number in result["versions"].items())
    parts = [
        "# How fast the service answers",
        "",
        f"`{result['command']}`, {result['made']}; code {result['code']}; {told}; Python {machine['python']},",
        f"{machine['cores']} cores of {machine['processor']}. This page is written by that command.",
        "",
        *_verdicts(result),
        "",
        f"![Latency at one connection and throughput at saturation]({CHART})",
        "",
        "## Beside its peers",
        "",
        f"{size['candidates']} candidates, {size['trees']} trees, {size['features']} features. Milliseconds at one connection; "
        "medians of rounds. *vs bare* is the median of each round's ratio, with the smallest and the largest.",
        "",
        *_table(result),
        "",
        "## By connections",
        "",
        *_by_connections(result),
        "",
        "## Stalls",
        "",
        *_stalls(result),
        "",
        "## What was measured",
        "",
        *_method(result),
    ]
    return "\n".join(parts) + "\n"


def _verdicts(result: Mapping[str, Any]) -> list[str]:
    latency = ratios(result, OURS, _p("p99"), _p("p50"))
    rate = ratios(result, OURS, _rate, _rate)
    first, second = statistics.median(latency), statistics.median(rate)
    found = [
        f"- p99 of `/rank` against p50 of the bare server: {first:.2f} ({latency[0]:.2f} to {latency[-1]:.2f}); "
        f"wanted at most {LATENCY_LIMIT:g}: **{'reached' if first <= LATENCY_LIMIT else 'not reached'}**.",
        f"- Throughput of `/rank` at saturation against the bare server's: {second:.2f} ({rate[0]:.2f} to {rate[-1]:.2f}); "
        f"wanted at least {RATE_LIMIT:g}: **{'reached' if second >= RATE_LIMIT else 'not reached'}**.",
    ]
    batch = result["batch"]
    pairs = batch["pairs"] / batch["processor"]
    found.append(
        f"- Lists of all {batch['users']} users: {pairs:.0f} pairs a second of a core ({batch['pairs']} pairs in "
        f"{batch['seconds']:.1f} s); wanted at least {BATCH_LIMIT}: "
        f"**{'reached' if pairs >= BATCH_LIMIT else 'not reached'}**."
    )
    if (busy := _busy(result)) > _BUSY:
        found.append(
            f"- **The machine was not free**: servers waited {busy:.0%} of the time for a core that others had (load "
            f"{result['load_before']:.1f} before the start). Times and rates are worse than they are, and p99 above all."
        )
    return found


def _table(result: Mapping[str, Any]) -> list[str]:
    lines = [
        "| | p50 | p95 | p99 | p50 vs bare | answers/s at saturation | vs bare | p99 at half of that, from when due | CPU ms | "
        "vs bare | RSS MB | ready after s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name in targets_of(result):
        half = ratios(result, name, _p("p50"), _p("p50"))
        rate = ratios(result, name, _rate, _rate)
        spent = statistics.median(ratios(result, name, _processor, _processor))
        server = name if name in result["starts"] else OURS
        lines.append(
            f"| {name} | {median(result, name, _p('p50')):.2f} | {median(result, name, _p('p95')):.2f} | "
            f"{median(result, name, _p('p99')):.2f} | {statistics.median(half):.2f} ({half[0]:.2f} to {half[-1]:.2f}) | "
            f"{median(result, name, _rate):.0f} | {statistics.median(rate):.2f} ({rate[0]:.2f} to {rate[-1]:.2f}) | "
            f"{median(result, name, lambda part: part['paced']['p99']):.2f} | "
            f"{median(result, name, _processor):.2f} | {spent:.2f} | "
            f"{median(result, name, lambda part: part['resident']) / 2**20:.0f} | "
            f"{statistics.median(result['starts'][server]):.1f} |"
        )
    for name in result["floors"][0]:
        taken = {at: statistics.median(part[name][at] for part in result["floors"]) for at in ("p50", "p95", "p99")}
        lines.append(
            f"| {name}, no HTTP | {taken['p50']:.2f} | {taken['p95']:.2f} | {taken['p99']:.2f} | | | | | | | | |"
        )
    floor = statistics.median(part["inplace_predict"]["p50"] for part in result["floors"])
    ours = median(result, OURS, _p("p50"))
    turns = [part for turn in (result["alone"], *result["rounds"]) for part in turn.values()]
    errors, simple = (sum(part[key] for part in turns) for key in ("errors", "fallbacks"))
    return [
        *lines,
        "",
        f"`/rank` lies {ours - floor:.2f} ms above raw `inplace_predict` at p50, the bare server "
        f"{median(result, BARE, _p('p50')) - floor:.2f} ms. {errors or 'No'} answers were other than 200, {simple or 'none'} "
        "were lists that the model had not ordered.",
    ]


def _by_connections(result: Mapping[str, Any]) -> list[str]:
    names = targets_of(result)
    counts = list(result["rounds"][0][names[0]]["connections"])
    lines = [
        "Answers a second, and p99 in milliseconds.",
        "",
        "| | " + " | ".join(f"{count} connection{'s' if count != '1' else ''}" for count in counts) + " | alone |",
        "|---" * (len(counts) + 2) + "|",
    ]
    for name in names:
        cells = []
        for count in counts:
            rate = median(result, name, lambda part, count=count: part["connections"][count]["rate"])
            p99 = median(result, name, lambda part, count=count: part["connections"][count]["p99"])
            cells.append(f"{rate:.0f}/s, {p99:.1f}")
        lines.append(f"| {name} | {' | '.join(cells)} | {result['alone'][name]['saturation']:.0f}/s |")
    return [*lines, "", "*alone*: the most, in the first measurement, when no other server was running."]


def _stalls(result: Mapping[str, Any]) -> list[str]:
    lines = [
        "Answers of more than 20 ms at one connection, of all rounds, and what the answering thread did meanwhile: it ran "
        "(garbage collection, or work for others), was ready but had no core (the machine), or slept (a lock, a disk, "
        "another process). Collections are the interpreter's during these measurements, of the oldest generation and of "
        "all, where a server tells them.",
        "",
        "| | answers | stalls | ran | had no core | slept | collections |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in targets_of(result):
        held = [part[name]["stalls"] for part in result["rounds"]]
        answers = sum(part[name]["answers"] for part in result["rounds"])
        seconds = sum(one["seconds"] for one in held)
        shares = [
            f"{sum(one[key] for one in held) / seconds:.0%}" if seconds else "" for key in ("ran", "waited", "slept")
        ]
        told = [one["collected"] for one in held if one["collected"]]
        oldest, all_of_them = sum(one.get("2", 0) for one in told), sum(sum(one.values()) for one in told)
        shares.append(f"{oldest} of {all_of_them}" if told else "")
        lines.append(f"| {name} | {answers} | {sum(one['count'] for one in held)} | {' | '.join(shares)} |")
    return lines


def _method(result: Mapping[str, Any]) -> list[str]:
    rates = statistics.median(part["rate"] for part in result["client"])
    busy = statistics.median(part["client_busy"] for part in result["client"])
    floor = statistics.median(part["p50"] for part in result["client"])
    most = max(
        part["client_busy"]
        for turn in result["rounds"]
        for target in turn.values()
        for part in target["connections"].values()
    )
    where = "servers on one core, the client on another" if result["pinned"] else "servers and client on the same core"
    return [
        "Every server is one process with one worker and one XGBoost thread. rankgate serves a release: it is told a "
        "user and the ids, looks features up, scores, caps by category and provider, answers all places with scores, sources "
        "and propensities, and logs the exposure; the others are handed the rows as JSON and answer 100 scores. All were "
        "checked to give the scores that XGBoost gives in the measuring process.",
        "",
        f"{len(result['rounds'])} rounds in turn, in an order that moves on, {result['seconds']:g} s at one connection and half "
        f"of it at each other number; {where}. Latency at one connection is from sending to the last byte. *From when due*: "
        "requests come at a steady rate, half of the server's own most, and each time counts from when it was due, so a stall "
        "is charged for everything that waited behind it. CPU is user and system time of all the server's processes at 8 "
        "connections; RSS is the sum of its processes.",
        "",
        f"The client (raw sockets, one thread) reaches {rates:.0f}/s against a server that answers the same bytes without "
        f"looking, {busy:.0%} of its time busy, p50 {floor:.3f} ms; in the measurements above it was busy {most:.0%} at most.",
        *(
            ["", f"MLServer: {result['versions']['mlserver']}."]
            if "MLServer" not in result["alone"]
            else ["", "MLServer runs in an environment of its own, with a runtime that calls `inplace_predict`."]
        ),
    ]


def chart(result: Mapping[str, Any]) -> str:
    """An SVG: for each target p50 to p99 at one connection, and throughput at saturation."""
    names = targets_of(result)
    width, row, top = 980, 34, 78
    height = top + row * len(names) + 40
    p99 = {name: median(result, name, _p("p99")) for name in names}
    p50 = {name: median(result, name, _p("p50")) for name in names}
    rate = {name: median(result, name, _rate) for name in names}
    left, span, second, second_span = 190, 290, 610, 280
    per_ms = span / max(p99.values())
    per_answer = second_span / max(rate.values())
    limit = p50[BARE] * LATENCY_LIMIT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="12" role="img" aria-labelledby="title">',
        '<title id="title">Latency at one connection and throughput at saturation, beside peers</title>',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        _text(16, 26, "How fast the service answers", weight=700, size=17),
        _text(left, 56, "one connection: p50 (bar) to p99 (line), ms", colour=_QUIET),
        _text(second, 56, "answers a second at saturation", colour=_QUIET),
    ]
    for place, at, told in (
        (left + limit * per_ms, limit, f"{LATENCY_LIMIT:g} x p50 of bare"),
        (second + rate[BARE] * RATE_LIMIT * per_answer, 0, f"{RATE_LIMIT:g} x bare"),
    ):
        if at <= max(p99.values()):
            parts.append(
                f'<line x1="{place:.1f}" x2="{place:.1f}" y1="{top - 8}" y2="{height - 30}" stroke="{_INK}" '
                'stroke-dasharray="3 3"/>'
            )
            parts.append(_text(place, height - 14, told, anchor="middle", colour=_QUIET))
    for number, name in enumerate(names):
        y = top + row * number
        colour = _OURS if name.startswith(OURS) else _PEER
        parts += [
            _text(16, y + 15, name, weight=600 if name == OURS else 400),
            _bar(left, y + 4, p50[name] * per_ms, colour),
            f'<line x1="{left + p50[name] * per_ms:.1f}" x2="{left + p99[name] * per_ms:.1f}" y1="{y + 11}" y2="{y + 11}" '
            f'stroke="{colour}" stroke-width="3"/>',
            _text(left + p99[name] * per_ms + 5, y + 15, f"{p50[name]:.2f} to {p99[name]:.2f}"),
            _bar(second, y + 4, rate[name] * per_answer, colour),
            _text(second + rate[name] * per_answer + 5, y + 15, f"{rate[name]:.0f}"),
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bar(x: float, y: float, width: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="14" fill="{colour}"/>'


def _text(
    x: float, y: float, told: str, *, weight: int = 400, size: int = 12, colour: str = _INK, anchor: str = "start"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-weight="{weight}" font-size="{size}" fill="{colour}" '
        f'text-anchor="{anchor}">{escape(told)}</text>'
    )
