"""The model: what decides the order, in plain words, and how it was trained."""

from __future__ import annotations

from components.card.chapters.looking import MOST_MARKS
from components.card.chapters.reranking import rules_in_words
from components.card.parts import Picture, Section, Table
from components.card.pictures.plots import curve
from components.card.pictures.tracks import Mark, tracks
from components.card.sources import Opened
from components.card.words import counted, figure, listed, metric, share
from components.dataset.contract import Feature

_SPOKEN = 5
"""Main parameters told in sentences; the table has all."""


def model(opened: Opened) -> Section:
    """Importances, validation curve, position bias, candidates, re-ranking rules, parameters."""
    weights = {held.feature: held.gain_share for held in opened.ranker.importance}
    used = [f for f in opened.dataset.features if f.name in opened.ranker.features]
    used.sort(key=lambda f: (-weights.get(f.name, 0.0), f.name))
    pictures = (_weights(used, weights), _validation(opened), _positions(opened))
    return Section(
        "model",
        "Model",
        "What decides the order, in plain words?",
        (*_main_parameters(used, weights), *_how(opened), *_rules(opened)),
        tuple(picture for picture in pictures if picture),
        (_attributes(opened), _parameters(opened)),
    )


def _main_parameters(used: list[Feature], weights: dict[str, float]) -> tuple[str, ...]:
    main = [f for f in used if weights.get(f.name, 0.0) > 0][:_SPOKEN]
    if not main:
        return (
            "The model gives no feature any weight: every item gets the same score, and the order is that of ties.",
        )
    together = sum(weights[f.name] for f in main)
    told = "; ".join(f"{_inside(f.meaning)} ({share(weights[f.name], 0)})" for f in main)
    if len(main) == 1:
        return (f"One parameter decides the order: {told}.",)
    return (f"The {len(main)} main parameters carry {share(together, 0)} of the model’s decisions: {told}.",)


def _inside(sentence: str) -> str:
    """A sentence as a clause: no full stop, and no capital unless it begins a name or an acronym."""
    text = sentence.strip().rstrip(".")
    return text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text


def _how(opened: Opened) -> tuple[str, ...]:
    ranker = opened.ranker
    trained = (
        f"{counted(ranker.trees, 'tree')} (objective {ranker.objective}), trained on {counted(ranker.training_rows, 'row')} of "
        f"{counted(ranker.training_requests, 'request')} with {counted(len(ranker.features), 'feature')}, seed {ranker.seed}, "
        f"{counted(ranker.threads, 'thread')}."
    )
    if ranker.position_bias:
        trained += " Clicks were corrected for the position at which they were shown."
    kept_out = sorted({*opened.dataset.segments, *opened.dataset.sensitive})
    if kept_out:
        trained += f" Never seen by the model, only compared by: {listed(kept_out)}."
    return (trained,)


def _rules(opened: Opened) -> tuple[str, ...]:
    ranker = opened.ranker
    sources = [f"{name} (up to {quota})" for name, quota in sorted(ranker.candidate_sources.items())]
    found = f"Candidates come from {listed(sources, most=12)}." if sources else "Candidates are what the request names."
    return (" ".join([found, *rules_in_words(ranker.rerank)]),)


def _weights(used: list[Feature], weights: dict[str, float]) -> Picture | None:
    marks = [
        Mark(f.name, weights[f.name], None, None, share(weights[f.name]), note=f.meaning, tone="own", bar=True)
        for f in used[:MOST_MARKS]
        if weights.get(f.name, 0.0) > 0
    ]
    if not used:
        return None
    nothing = sum(weights.get(f.name, 0.0) <= 0 for f in used)
    takeaway = f"{counted(len(used) - nothing, 'feature')} of {len(used)} have a weight"
    takeaway += f"; {used[0].name} has the most, {share(weights.get(used[0].name, 0.0))}." if marks else "."
    rows = tuple(
        (
            f.name,
            share(weights.get(f.name, 0.0)),
            f.meaning,
            f.family,
            _lookback(f.window_days),
            f.entity.replace("_", " and "),
        )
        for f in used
    )
    headers = ("feature", "weight", "meaning", "family", "looks back", "of")
    return Picture(
        "What the model looks at",
        takeaway,
        "The weight is the share of the model’s gain that goes through a feature. It says what the model uses, not what causes "
        "an outcome.",
        Table("Every feature, its weight and its meaning, as a table", headers, rows),
        tracks=tracks(marks, reference=0.0) if marks else None,
    )


def _lookback(days: float) -> str:
    if not days:
        return "everything"
    return counted(round(days), "day") if days == round(days) else f"{days * 24:g} hours"


def _validation(opened: Opened) -> Picture | None:
    ranker = opened.ranker
    name = metric(ranker.validation_metric)
    drawn = curve(ranker.validation_curve, chosen=ranker.trees, x_label="trees", y_label=name)
    if drawn is None:
        return None
    values = ranker.validation_curve
    kept = values[ranker.trees - 1] if 0 < ranker.trees <= len(values) else None
    best = max(values)
    takeaway = f"{counted(ranker.trees, 'tree')} kept of {len(values)} tried: {name} {figure(kept, 4)}"
    takeaway += ", the best of all." if kept == best else f"; the best single value was {figure(best, 4)}."
    rows = tuple((str(place), figure(value, 4)) for place, value in enumerate(values, start=1))
    return Picture(
        f"{name} on validation, by number of trees",
        takeaway,
        "Training stops where validation does not get better; the test requests play no part in it.",
        Table("These figures as a table", ("trees", name), rows),
        plot=drawn,
        key=(("mark", "trees kept"),),
    )


def _positions(opened: Opened) -> Picture | None:
    bias = opened.ranker.position_bias
    drawn = curve(bias, chosen=0, x_label="position", y_label="chance of being looked at", dots=True)
    if drawn is None:
        return None
    return Picture(
        "How much a position was looked at in the log",
        f"At position {len(bias)} an item was {figure(bias[-1], 2)} times as likely to be looked at as at the first; training "
        "takes that out.",
        "Estimated from the log, relative to the first position.",
        Table(
            "These figures as a table",
            ("position", "relative chance"),
            tuple((str(place), figure(value)) for place, value in enumerate(bias, start=1)),
        ),
        plot=drawn,
    )


def _attributes(opened: Opened) -> Table:
    declared = opened.contract.attributes
    rows = tuple(
        (name, of, held.role, held.type)
        for of, group in (("users", declared.users), ("items", declared.items), ("events", declared.events))
        for name, held in sorted(group.items())
    )
    return Table("Declared attributes and what each may be used for", ("attribute", "of", "role", "type"), rows)


def _parameters(opened: Opened) -> Table:
    rows = tuple((name, str(value)) for name, value in sorted(opened.ranker.parameters.items()))
    return Table("Training parameters", ("parameter", "value"), rows)
