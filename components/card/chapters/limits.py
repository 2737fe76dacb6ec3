"""Limits: what a reader must not conclude, made from the facts of this very run."""

from __future__ import annotations

from components.card.chapters.looking import estimates
from components.card.sources import Opened
from components.card.words import QUESTION_NAMES, count, counted, listed, metric, segment, share
from components.evidence.contract import QUESTIONS
from components.ranker.contract import INCUMBENT

_FEW_USERS = 30


def limitations(opened: Opened) -> tuple[str, ...]:
    """One sentence or two each."""
    return (*_of_the_log(opened), *_of_the_evidence(opened), *_of_the_groups(opened), *_of_any(opened))


def _of_the_log(opened: Opened) -> tuple[str, ...]:
    if opened.dataset.mode == "logged":
        return (
            "Lists were re-ranked that an earlier policy chose and showed. Items that it never showed are not judged, and "
            "what was shown higher was clicked more, which favours the order of that policy.",
        )
    return (
        "Only what users took is known, not what they saw: an item that was never offered counts as not wanted.",
        "How sure a score is was judged on ranks that the scores themselves chose, not on a random part of the catalogue.",
    )


def _of_the_evidence(opened: Opened) -> tuple[str, ...]:
    told = []
    absent = [QUESTION_NAMES[question] for question in QUESTIONS if question not in opened.evidence]
    if absent:
        told.append(f"Not measured in this run: {listed(absent)}.")
    unsure = [o for o in opened.verdict.outcomes if o.answer == "insufficient" and not o.not_applicable]
    told += [f"“{o.title}” could not be settled with these users: neither shown to hold nor to break." for o in unsure]
    if not opened.dataset.provider:
        told.append("The dataset names no provider of items, so nothing is said about their exposure.")
    if INCUMBENT not in {system.name for system in opened.rankings.systems}:
        told.append(
            "There is no incumbent to compare with: nothing is said of what users would gain or lose by a change."
        )
    if opened.ranker.trees <= 1:
        told.append("Validation kept a single tree: the model is a coarse one, and many items share one score.")
    return tuple(told)


def _of_the_groups(opened: Opened) -> tuple[str, ...]:
    told = []
    if "fairness-users" in opened.evidence and not (opened.dataset.segments or opened.dataset.sensitive):
        told.append("The dataset contract declares no attribute to compare users by.")
    found = estimates(opened, "fairness-users")
    for e in found:
        if e.metric == "unknown_share" and e.value:
            told.append(f"{e.subject} is not known for {share(e.value)} of the measured users.")
    sizes = {segment(e.segment): e.n_users for e in found if e.segment and e.statistic == "difference"}
    few = sorted(name for name, users in sizes.items() if users < _FEW_USERS)
    if few:
        told.append(
            f"{counted(len(few), 'group')} of {count(len(sizes))} {'has' if len(few) == 1 else 'have'} fewer than "
            f"{_FEW_USERS} users, too few to say much of each alone: {listed(few)}."
        )
    empty = [e for e in estimates(opened, "quality") if e.metric == "empty_request_share" and e.value]
    if empty:
        told.append(
            f"{share(empty[0].value)} of the test requests led to no outcome; {metric('ndcg')} says nothing about them."
        )
    return tuple(told)


def _of_any(opened: Opened) -> tuple[str, ...]:
    return (
        f"All figures are of requests of the past, {counted(opened.rankings.test_requests, 'request')} of one stretch of time. "
        "What users do with lists they have not seen, only a canary can tell.",
        "A gap within the policy’s margin is no proof of equal treatment: it says that a larger gap is ruled out, for the users "
        "and the time measured here. Nor is a ratio above four fifths: it is information, whatever the policy makes of it.",
    )
