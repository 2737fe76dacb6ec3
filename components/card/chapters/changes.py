"""The change log: what is not as it was with the incumbent, and what that did to the figures."""

from __future__ import annotations

from collections.abc import Iterable

from components.card.chapters.looking import estimates, main_cutoff
from components.card.contract import Change, ChangeKind, Description
from components.card.parts import Section, Table
from components.card.sources import Opened
from components.card.words import DASH, QUESTION_NAMES, count, counted, figure, interval, listed, metric, share
from components.evidence.contract import QUESTIONS, Estimate, Question
from components.ranker.contract import CANDIDATE, INCUMBENT

_TITLE = "Changes"
_ASKS = "What is new against the incumbent, and what did that do?"
_KINDS: tuple[tuple[ChangeKind, str, str], ...] = (
    ("data", "The log", "what"),
    ("settings", "How it was trained", "setting"),
    ("features", "Features that came, went or are made otherwise", "feature"),
    ("weights", "What the model looks at more, or less", "feature"),
    ("lists", "Candidates, and what is done to a list", "rule"),
    ("policy", "Rules of the policy", "rule"),
    ("libraries", "Libraries that figures came from", "library"),
    ("purpose", "What the team says", "field"),
)


def changes(opened: Opened, found: tuple[Change, ...], before: Description | None, now: Description) -> Section:
    """The section; says so where there is no incumbent, or none of which more is known than its digest.

    Args:
        opened: The run.
        found: What differs.
        before: The incumbent; None for a first release, or where its run was not at hand.
        now: The candidate.
    """
    measured = _measured(opened)
    if before is None:
        return Section("changes", _TITLE, _ASKS, _unknown(opened), (), measured)
    tables = tuple(_table(kind, title, head, found) for kind, title, head in _KINDS)
    return Section(
        "changes",
        _TITLE,
        _ASKS,
        tuple(_sentences(found, before, now)),
        (),
        (*measured, *(table for table in tables if table.rows), _digests(before, now)),
        (("weight", "Share of the model’s gain; told from one part in a hundred on."),),
    )


def _unknown(opened: Opened) -> tuple[str, ...]:
    if opened.verdict.first_release:
        return ("A first release: there is no incumbent to be held against.",)
    return (
        "Of the incumbent only its ranker was at hand, not its run: the figures are compared, what else has changed is not "
        "known here.",
    )


def _sentences(found: tuple[Change, ...], before: Description, now: Description) -> Iterable[str]:
    yield f"{_numbers(found)} since the incumbent, run {before.run}."
    features = [change for change in found if change.kind == "features"]
    new = [change.what for change in features if not change.before]
    gone = [change.what for change in features if not change.now]
    other = [change.what for change in features if change.before and change.now]
    said = [
        f"{words} {listed(names)}"
        for words, names in (("new", new), ("gone", gone), ("made otherwise", other))
        if names
    ]
    if said:
        yield f"Features: {'; '.join(said)}."
    shifts = [change.what for change in found if change.kind == "weights" and change.before and change.now]
    if shifts:
        name = shifts[0]
        yield (
            f"Of the features that both have, the weight of {name} moved most: from {share(before.weights.get(name, 0.0))} to "
            f"{share(now.weights.get(name, 0.0))}."
        )
    if not before.rules or not now.rules:
        yield "The rules of the two policies could not be compared: one of them cannot be read."


def _numbers(found: tuple[Change, ...]) -> str:
    if not found:
        return "Nothing that this log looks at has changed"
    kinds = {kind: sum(change.kind == kind for change in found) for kind, _, _ in _KINDS}
    named = {
        "data": "of the log", "settings": "of training", "features": "of features", "weights": "of weights",
        "lists": "of lists", "policy": "of the policy", "libraries": "of libraries", "purpose": "of the team’s words",
    }  # fmt: skip
    told = [f"{count(number)} {named[kind]}" for kind, number in kinds.items() if number]
    return f"{counted(len(found), 'change')} ({listed(told, most=8)})"


def _table(kind: ChangeKind, title: str, head: str, found: tuple[Change, ...]) -> Table:
    rows = tuple((change.what, change.before or DASH, change.now or DASH) for change in found if change.kind == kind)
    return Table(title, (head, "incumbent", "candidate"), rows, shown=kind in ("features", "policy"))


def _measured(opened: Opened) -> tuple[Table, ...]:
    """Every overall figure that was measured of both; the difference is of the same users on the same requests."""
    values = {
        (question, e.metric, e.subject): e
        for question in QUESTIONS
        for e in estimates(opened, question)
        if e.statistic == "value" and not e.segment
    }
    gaps = [
        (question, e)
        for question in QUESTIONS
        for e in estimates(opened, question)
        if (e.statistic, e.subject, e.versus) == ("difference", CANDIDATE, INCUMBENT) and not e.segment
    ]
    main = f"ndcg@{main_cutoff(opened)}"
    gaps.sort(key=lambda pair: (pair[1].metric != main, QUESTIONS.index(pair[0]), pair[1].metric))
    rows = tuple(_gap(question, e, values) for question, e in gaps)
    if not rows:
        return ()
    headers = ("figure", "incumbent", "candidate", "difference", "users")
    return (Table("What the change did to the figures, on the same users and requests", headers, rows, shown=True),)


def _gap(
    question: Question, gap: Estimate, values: dict[tuple[Question, str, str], Estimate]
) -> tuple[str, str, str, str, str]:
    name = metric(gap.metric) if question == "quality" else f"{metric(gap.metric)} ({QUESTION_NAMES[question]})"
    both = [values.get((question, gap.metric, subject)) for subject in (INCUMBENT, CANDIDATE)]
    before, now = (figure(e.value) if e else DASH for e in both)
    return name, before, now, interval(gap, signed=True), count(gap.n_users)


def _digests(before: Description, now: Description) -> Table:
    rows = tuple((name, before.digests[name], now.digests.get(name, DASH)) for name in before.digests)
    return Table("Digests of both", ("thing", "incumbent", "candidate"), rows)
