"""Train a ranker: LambdaMART on a data set's requests, stopped and calibrated on validation, complete in one folder.

    training rows -> XGBoost (stopped by NDCG on validation requests) -> calibration on validation
                  -> retrieval index as of the release cut -> ranker folder with a digest of every file

`logged`: rows are what was shown; where positions were logged, clicks are corrected for them (unbiased LambdaMART, Hu et
al. 2019, as XGBoost implements it). `sampled`: rows are positives and the data set's negatives, drawn evenly from what was
available (harder ones, retrieved as of the training cut, were tried and did not help); validation ranks what retrieval
finds in the whole catalogue, as serving will.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.artifacts.digests import digest_tree
from components.artifacts.progress import Progress, silent
from components.dataset.contract import Split
from components.dataset.reading import OpenDataset, open_dataset
from components.errors import Fault, FaultyInputError
from components.ranker import settings
from components.ranker.booster import Examples, Fitted, fit
from components.ranker.calibration import Calibration, fit_calibration
from components.ranker.candidates.index import SOURCES
from components.ranker.candidates.interactions import Floats, distinct_users, seen_items
from components.ranker.contract import SCHEMA_VERSION, Importance, Ranker, RerankRules
from components.ranker.declared_rules import RERANK_FILE, check_names
from components.ranker.draws import sample
from components.ranker.eligibility import names_of
from components.ranker.ordering import order_within
from components.ranker.rows import (
    Relevance,
    Rows,
    boundaries,
    column,
    index_at,
    interactions_at,
    join_rows,
    recorded_rows,
    requests_of,
    retrieved_rows,
)
from components.ranker.storage import parts_of, write_ranker


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is learned from: training rows, validation rows, and whether shown positions are known."""

    training: Rows
    validation: Rows
    weights: NDArray[np.float32]
    """One a training row."""
    positioned: bool


def train_ranker(
    dataset: Path,
    *,
    out: Path,
    seed: int,
    threads: int,
    rerank: RerankRules | None = None,
    progress: Progress = silent,
) -> Ranker:
    """Train on a data set and write the ranker.

    Args:
        dataset: A data set's folder.
        out: An existing, empty folder.
        seed: Of everything random; the same data set, seed and threads give the same bytes.
        threads: Threads to train with; they do not change the bytes of the model.
        rerank: Rules that the policy declares; without them nothing is capped, filtered or diversified.
        progress: Told what is being done.

    Raises:
        FaultyInputError: If there is nothing to learn or to stop by: no positive, no negative, no validation positive, or
            features that say nothing; or if the rules speak of what the data set does not have.
    """
    data = open_dataset(dataset)
    rules = rules_for(data, rerank)
    features = tuple(feature.name for feature in data.manifest.features)
    progress("collecting training and validation rows")
    lesson = collect(data, features, seed=seed)
    _check(lesson, data)
    progress(f"training on {len(lesson.training.requests):,} rows, {len(features)} features".replace(",", " "))
    parameters = parameters_for(positioned=lesson.positioned)
    fitted = learn(lesson, parameters=parameters, seed=seed, threads=threads)
    progress(f"kept {fitted.trees} trees; calibrating, building the retrieval index")
    calibration = calibrate(fitted, lesson.validation)
    index = index_at(data, len(data.manifest.cuts) - 1, seed=seed)
    manifest = Ranker(
        schema_version=SCHEMA_VERSION,
        dataset=digest_tree(dataset),
        name=data.manifest.name,
        mode=data.manifest.mode,
        objective=settings.OBJECTIVE,
        parameters=parameters,
        features=features,
        trees=fitted.trees,
        validation_metric=_metric() if data.manifest.mode == "logged" else f"{_metric()} among retrieved",
        validation_curve=tuple(round(value, 6) for value in fitted.curve),
        importance=_importance(fitted, features),
        position_bias=tuple(round(value, 6) for value in fitted.position_bias),
        candidate_sources={source: settings.QUOTAS[source] for source in SOURCES},
        rerank=rules,
        seed=seed,
        threads=threads,
        training_rows=len(lesson.training.requests),
        training_requests=len(lesson.training.starts()) - 1,
        files={},
    )
    written = write_ranker(
        manifest,
        booster=fitted.booster,
        calibration=calibration,
        index=index,
        data=data,
        out=out,
    )
    progress("ranker written")
    return written


def parameters_for(*, positioned: bool) -> dict[str, str | int | float | bool]:
    """XGBoost's settings, as the manifest states them."""
    return {**settings.PARAMETERS, "lambdarank_unbiased": positioned}


def rules_for(data: OpenDataset, declared: RerankRules | None = None) -> RerankRules:
    """Re-ranking rules of a data set: what was seen is left out where the contract says so, the rest is as declared.

    Raises:
        FaultyInputError: If they speak of an attribute, a context or a part that the data set does not have.
    """
    excluded = data.manifest.mode == "sampled" and data.manifest.exclude_seen
    if declared is None:
        return replace(settings.NO_CAPS, exclude_seen=excluded)
    names = names_of(data.items, context=data.manifest.context, parts=parts_of(data.manifest))
    check_names(declared, names, subject=f"{RERANK_FILE} on data set {data.manifest.name}")
    return replace(declared, exclude_seen=excluded)


def collect(data: OpenDataset, features: Sequence[str], *, seed: int) -> Lesson:
    """Training and validation rows of a data set."""
    training = recorded_rows(data, "train", features)
    table = data.rows("train")
    if data.manifest.mode == "logged":
        positioned = bool((column(table, "position") > 0).all())
        validation = recorded_rows(data, "validation", features)
        return Lesson(training, in_tie_order(validation, data), _weights(data, "train"), positioned)
    weights = np.ones(len(training.requests), dtype=np.float32)
    validation = in_tie_order(validation_rows(data, features, seed=seed), data)
    return Lesson(training, validation, weights, positioned=False)


def validation_rows(data: OpenDataset, features: Sequence[str], *, seed: int) -> Rows:
    """Retrieved candidates of the validation requests of a `sampled` data set."""
    requests = requests_of(data, "validation")
    share = settings.VALIDATION_REQUESTS / max(1, len(requests))
    requests = requests.take(np.isin(requests.numbers, sample(requests.numbers, share=share, seed=seed)))
    relevance = Relevance(data)
    blocks = [
        rows
        for cut in np.unique(requests.cuts).tolist()
        for rows in retrieved_rows(
            requests.take(requests.cuts == cut),
            index_at(data, cut, seed=seed),
            data.features,
            relevance,
            features=features,
            quotas=settings.QUOTAS,
            exclude_seen=data.manifest.exclude_seen,
        )
    ]
    return join_rows(blocks, len(features))


def in_tie_order(rows: Rows, data: OpenDataset) -> Rows:
    """Validation rows as the room orders equal scores: by popularity, then by item.

    XGBoost's NDCG leaves equal scores in the order of the rows. In the order shown, a few trees with many equal scores would
    borrow the old ranker's order, which clicks agree with, and early stopping would keep one tree.
    """
    cuts = requests_of(data, "validation").cuts
    popularity = distinct_users(seen_items(interactions_at(data, int(cuts.max())))) if len(cuts) else np.zeros(1)
    return rows.take(
        order_within(rows.requests, np.zeros(len(rows.items)), popularity[rows.items].astype(np.float64), rows.items)
    )


def learn(lesson: Lesson, *, parameters: dict[str, str | int | float | bool], seed: int, threads: int) -> Fitted:
    """Train on the requests that can teach, stop by those that can tell."""
    return fit(
        examples(lesson.training, lesson.weights),
        examples(lesson.validation),
        parameters=parameters,
        rounds=settings.ROUNDS,
        patience=settings.PATIENCE,
        metric=_metric(),
        seed=seed,
        threads=threads,
    )


def examples(rows: Rows, weights: NDArray[np.float32] | None = None) -> Examples:
    """Rows of the requests that hold a positive and a negative: no other holds a pair to learn from or to tell apart."""
    starts = rows.starts()
    sizes = np.diff(starts)
    positives = np.add.reduceat(rows.positives.astype(np.int64), starts[:-1]) if len(sizes) else sizes
    useful = (positives > 0) & (positives < sizes)
    kept = np.repeat(useful, sizes)
    requests = rows.requests[kept]
    means = None
    if weights is not None and len(sizes):
        means = (np.add.reduceat(weights.astype(np.float64), starts[:-1]) / sizes)[useful].astype(np.float32)
    return Examples(rows.features[kept], rows.gains[kept], boundaries(requests), means)


def calibrate(fitted: Fitted, validation: Rows) -> Calibration:
    """Probability of a positive outcome by score, on the validation rows."""
    scores = fitted.booster.scores(validation.features)
    return fit_calibration(scores, validation.positives, groups=validation.requests)


def _metric() -> str:
    # Without the `-`: it only decides about requests without a positive, and those are left out.
    return f"ndcg@{settings.STOP_AT}"


def _importance(fitted: Fitted, features: Sequence[str]) -> tuple[Importance, ...]:
    shares: Floats = fitted.booster.gain_shares(len(features))
    order = sorted(range(len(features)), key=lambda place: (-shares[place], features[place]))
    return tuple(Importance(features[place], round(float(shares[place]), 6)) for place in order)


def _weights(data: OpenDataset, split: Split) -> NDArray[np.float32]:
    """Weight of each row, in `recorded_rows`' order."""
    table = data.rows(split)
    order = np.lexsort((column(table, "item"), column(table, "position"), column(table, "request")))
    return column(table, "weight").astype(np.float32)[order]


def _check(lesson: Lesson, data: OpenDataset) -> None:
    faults = []
    training, validation = lesson.training, lesson.validation
    for name, rows in (("training", training), ("validation", validation)):
        if not rows.positives.any():
            faults.append(
                Fault(
                    f"{name} requests",
                    "no row with a positive outcome",
                    "at least one",
                    "Check the events' gains and the attribution window, or lengthen the log.",
                )
            )
        elif not len(examples(rows).labels):
            faults.append(
                Fault(
                    f"{name} requests",
                    "no request that holds both a positive and a negative row",
                    "at least one, or there is no order to learn",
                    "Check that what was shown and not chosen is logged too.",
                )
            )
    if len(training.features) and not _varies(training.features):
        faults.append(
            Fault(
                "features", "none that differs between training rows", "at least one", "Check attributes and history."
            )
        )
    if faults:
        raise FaultyInputError(f"data set {data.manifest.name}", faults)


def _varies(features: NDArray[np.float32]) -> bool:
    """True where some feature takes two values (a missing one is a value)."""
    return any(bool((column != column[0]).any()) and not bool(np.isnan(column).all()) for column in features.T)
