"""How sure: intervals, which of them hold together, and what these users could have shown at all."""

from __future__ import annotations

from components.card.chapters.looking import estimates, main_cutoff
from components.card.parts import Section, Table
from components.card.sources import Opened
from components.card.words import QUESTION_NAMES, count, counted, figure, metric, segment
from components.evidence.contract import QUESTIONS, Estimate


def certainty(opened: Opened) -> Section:
    """Families of intervals, and the smallest effects that would have been found."""
    found = [(question, e) for question in QUESTIONS for e in estimates(opened, question)]
    families: dict[tuple[str, str, str], int] = {}
    for question, e in found:
        if e.family:
            key = (question, e.family, e.method)
            families[key] = families.get(key, 0) + 1
    levels = sorted({e.level for _, e in found if e.level < 1})
    alone = sum(not e.family and e.low is not None and e.low != e.high for _, e in found)
    sentences = (
        "Quality counts every user once, however many requests they made. Intervals come from drawing users again, never rows, "
        "because rows of one user resemble each other.",
        f"Intervals are at {' and '.join(f'{level:.0%}' for level in levels) or 'no'} confidence. "
        f"{counted(sum(families.values()), 'interval')} hold together within their families, {count(len(families))} of them, so "
        f"that looking at many groups does not find one by chance; {counted(alone, 'interval')} stand alone.",
        *_power(opened),
    )
    together = Table(
        "Which intervals hold together",
        ("family", "of", "intervals", "method"),
        tuple(
            (family, QUESTION_NAMES[question], count(number), method)
            for (question, family, method), number in sorted(families.items())
        ),
    )
    methods = sorted({(QUESTION_NAMES[q], e.method) for q, e in found})
    made = Table("How the intervals were made", ("question", "method"), tuple(methods))
    return Section(
        "certainty",
        "How sure",
        "What could these users have shown, and what not?",
        sentences,
        (),
        (_detectable(opened), together, made),
        measured=bool(found),
    )


def _main_gaps(opened: Opened) -> list[Estimate]:
    """Differences of the main metric that have a smallest detectable effect, the coarsest first."""
    main = f"ndcg@{main_cutoff(opened)}"
    found = [
        e
        for question in ("quality", "fairness-users")
        for e in estimates(opened, question)
        if e.metric == main and e.statistic == "difference" and e.mde is not None
    ]
    kept = [e for e in found if not e.segment or e.versus == "rest"]
    return sorted(kept, key=lambda e: (-(e.mde or 0.0), segment(e.segment), e.versus))


def _power(opened: Opened) -> tuple[str, ...]:
    gaps = _main_gaps(opened)
    overall = [e for e in gaps if not e.segment]
    grouped = [e for e in gaps if e.segment]
    told = []
    if overall:
        coarsest = overall[0]
        told.append(
            f"With {counted(coarsest.n_users, 'user')}, a true difference in {metric(coarsest.metric)} of "
            f"{figure(coarsest.mde)} would be found four times in five; a smaller one may stay unseen."
        )
    if len(grouped) > 1:
        blind, sharp = grouped[0], grouped[-1]
        told.append(
            f"Between groups it takes more: {figure(sharp.mde)} for {segment(sharp.segment)} "
            f"({counted(sharp.n_users, 'user')}). The least is known of {segment(blind.segment)} "
            f"({counted(blind.n_users, 'user')}): "
            + (
                "no difference that can be would surely be found."
                if (blind.mde or 0.0) >= 1
                else f"{figure(blind.mde)}."
            )
        )
    return tuple(told)


def _detectable(opened: Opened) -> Table:
    rows = tuple(
        (
            f"{segment(e.segment)} against the rest" if e.segment else f"{e.subject} against {e.versus}",
            count(e.n_users),
            figure(e.mde),
            figure(e.value, signed=True),
        )
        for e in _main_gaps(opened)
    )
    headers = ("comparison", "users", "detectable with power 0.8", "found")
    return Table(f"Smallest difference in NDCG@{main_cutoff(opened)} that would be found", headers, rows)
