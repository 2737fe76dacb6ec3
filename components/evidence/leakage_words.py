"""What the leakage figures say, in sentences for a product manager: measured facts, no verdict; and how they were made."""

from __future__ import annotations

from collections.abc import Sequence

from components.evidence.contract import Estimate
from components.evidence.quality_words import counted, interval, spaced
from components.ranker.contract import CANDIDATE

CONVENTIONS = {
    "changed_without_future": "The log is cut where validation and test begin and in the busiest bucket of training and of "
    "test, by when events happened and arrived; features of requests asked by then are made again from what is left, with "
    "the dataset's own functions, and compared bit for bit with what was trained on and what was ranked. Counted, not "
    "sampled: at each moment up to 20 000 rows of each, the latest that no earlier moment looked at.",
    "power": "Chance that the feature alone puts an item that was taken above one that was not, of the same request; ties "
    "count half, whichever way round: 0.5 is no order, 1 is a copy of the label. Mean over a user's requests, then over "
    "users. A missing number ranks below all others; categories are ordered by the rates of other users.",
    "told": "Share of the label's uncertainty (log-likelihood) that the feature alone removes, by the rates of other users "
    "within up to 64 bins of equal mass, missing being one: 0 is nothing, 1 is a copy of the label, in any shape. Below 0 "
    "its bins mislead; limits are cut at -1 and 1.",
    "outcome_told": "The same of whether a request led to anything, for features that are the same for all its rows.",
    "power against train": "Test less training, on users with both. Below 0: the feature knew the training rows better than "
    "those of the weeks after, as one that was filled in afterwards does.",
    "overlap": "requests: ids in more than one split. rows: the same user, item and moment in more than one split. labels of a "
    "split: rows whose label was not complete before the next split began.",
    "rows": "Of training, whole requests, at most about 100 000 rows drawn at random; of test, those of features.parquet "
    "(logged requests only: where the catalogue is ranked, those are chosen by the model's own score).",
    "families": "Intervals of one metric over all features hold together (max-t).",
    "not measured": "Attributes of users and items are in the snapshot as they are now, so whether one was filled in after the "
    "fact shows in its power only: a leak as weak as an honest feature cannot be told from one. An event that arrived before "
    "it happened is given the time it happened when the snapshot is taken. Where events arrive in the very moment that they "
    "happen (same_arrival_share 1), the log does not tell when they were known.",
}


def describe(estimates: Sequence[Estimate]) -> tuple[str, ...]:
    """The findings in reading order: the future, single features, the label in disguise, overlap."""
    return (*_future(estimates), *_power(estimates), *_told(estimates), *_overlap(estimates))


def _future(estimates: Sequence[Estimate]) -> list[str]:
    found = [e for e in estimates if e.metric == "changed_without_future" and e.value is not None]
    if not found:
        return ["Whether features change when the future is removed from the log could not be measured."]
    values = int(sum(e.detail["values"] for e in found))
    changed = sorted((e for e in found if e.value), key=lambda e: (-(e.value or 0), e.subject))
    moments = counted(int(max(e.detail["moments"] for e in found)), "moment")
    if not changed:
        return [
            f"With the log cut at {moments} and all {counted(len(found), 'feature')} made again, none of {spaced(values)} "
            "values changed: what is computed from events knew nothing that came later."
        ]
    worst = changed[0]
    return [
        f"With the log cut at {moments}, {len(changed)} of {counted(len(found), 'feature')} changed: they were not made from "
        f"the past alone. Most of all {worst.subject}, in {spaced(int(worst.value or 0))} of "
        f"{spaced(int(worst.detail['values']))} values."
    ]


def _power(estimates: Sequence[Estimate]) -> list[str]:
    for split in ("test", "train"):
        found = [
            e for e in estimates if e.metric == f"power@{split}" and e.statistic == "value" and e.value is not None
        ]
        if not found:
            continue
        best = max(found, key=lambda e: (e.value or 0, e.subject))
        rows = "test" if split == "test" else "training"
        sentence = (
            f"The strongest single feature on {rows} rows, {best.subject}, alone puts an item that was taken above one of the "
            f"same request that was not in {best.value:.1%} of pairs ({_percent(best)}; a coin would in 50%)"
        )
        systems = {e.subject: e.value for e in estimates if e.metric == f"model_power@{split}" and e.value is not None}
        if CANDIDATE in systems:
            sentence += f"; the whole model does in {systems.pop(CANDIDATE):.1%}"
            if systems:
                name = max(systems, key=lambda system: (systems[system], system))
                sentence += f", the best other ranking ({name}) in {systems[name]:.1%}"
        return [f"{sentence}."]
    return ["What single features do alone could not be measured: no rows hold both kinds of outcome."]


def _told(estimates: Sequence[Estimate]) -> list[str]:
    found = [e for e in estimates if e.metric in ("told@test", "told@train") and e.value is not None]
    if not found:
        return []
    best = max(found, key=lambda e: (e.value or 0, e.subject))
    rows = "test" if best.metric.endswith("test") else "training"
    return [
        f"No feature tells more of the outcome than {best.subject}: {max(best.value or 0, 0):.1%} of its uncertainty on {rows} "
        "rows, where a copy of the outcome would tell 100%."
    ]


def _overlap(estimates: Sequence[Estimate]) -> list[str]:
    held = {e.subject: e for e in estimates if e.metric == "overlap"}
    found = {name: int(e.value) for name, e in held.items() if e.value}
    words = {
        "requests": "requests are in two splits",
        "rows": "rows (user, item, moment) are in two splits",
        "labels of train": "training labels were not complete when validation began",
        "labels of validation": "validation labels were not complete when test began",
    }
    said = "; ".join(f"{spaced(number)} {words[name]}" for name, number in found.items())
    sentences = [
        f"Splits overlap: {said}."
        if said
        else "No request, row or label is shared between training, validation and test."
    ]
    for estimate in estimates:
        if estimate.metric == "returning_users" and estimate.value is not None:
            sentences.append(f"{estimate.value:.0%} of the test users were also in training; that is no leak.")
    return sentences


def _percent(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return interval(estimate)
    return f"{estimate.level:.0%} interval {estimate.low:.1%} to {estimate.high:.1%}"
