"""What is told of each sensitive attribute: estimates and table, from what was found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.evidence.contract import Estimate
from components.evidence.estimates import figures, number
from components.evidence.proxies_learning import BLOCKS
from components.evidence.proxies_power import LEVEL, ByFeature, Figure, Together
from components.evidence.proxies_words import STANDS_IN
from components.ranker.contract import CANDIDATE

Ints = NDArray[np.int64]

INPUTS, LISTS = "inputs", "lists"


@dataclass(frozen=True, slots=True, eq=False)
class Attribute:
    """A sensitive attribute of the measured users."""

    name: str
    values: tuple[str, ...]
    labels: Ints
    """Shape (users,): index into `values`."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Everything measured of one attribute."""

    attribute: Attribute
    together: dict[str, Together]
    """What `inputs` and `lists` tell."""
    alone: ByFeature | None


def attribute_estimates(
    found: Found, features: tuple[str, ...], importance: dict[str, float], requests: int
) -> Iterator[Estimate]:
    """All estimates of one attribute: together by value and on average, feature by feature, and by importance.

    Args:
        found: What was found.
        features: Names of the model's features.
        importance: Share of the model's gain, by feature.
        requests: Requests whose rows the users' columns are made of.
    """
    name, labels = found.attribute.name, found.attribute.labels
    sizes = np.bincount(labels, minlength=len(found.attribute.values))
    for part, held in found.together.items():
        metric = f"{part}_auc"
        for code, value in enumerate(found.attribute.values):
            yield _estimate(
                held.values.get(code),
                metric=metric,
                subject=CANDIDATE,
                versus="rest",
                segment={name: value},
                users=int(sizes[code]),
                requests=requests,
                method=f"learned forwards; DeLong by user, max-t over {len(held.values)}",
                family=f"{metric} of {name}",
                detail={"share_of_users": float(sizes[code] / labels.size), "asked": float(held.asked)},
            )
        yield _estimate(
            held.macro,
            metric=f"{part}_macro_auc",
            subject=name,
            users=labels.size,
            requests=requests,
            method="learned forwards; DeLong by user",
            detail={"values": float(len(held.values)), "asked": float(held.asked)},
        )
    for place, feature in enumerate(features):
        yield _estimate(
            found.alone.figures[place] if found.alone else None,
            metric="feature_auc",
            subject=feature,
            versus=name,
            users=labels.size,
            requests=requests,
            method=f"DeLong by user, max-t over all columns and values; value from {BLOCKS} folds",
            family=f"feature_auc of {name}",
            detail={"importance": importance.get(feature, 0.0)},
        )
    yield _proxied(found, features, importance, requests)


def _estimate(
    found: Figure | None,
    *,
    metric: str,
    subject: str,
    versus: str = "",
    segment: dict[str, str] | None = None,
    users: int,
    requests: int,
    method: str,
    family: str = "",
    detail: dict[str, float],
) -> Estimate:
    return Estimate(
        metric=metric,
        statistic="value",
        subject=subject,
        versus=versus,
        segment=segment or {},
        value=number(found.value) if found else None,
        low=number(found.low) if found else None,
        high=number(found.high) if found else None,
        level=LEVEL,
        n_users=users,
        n_requests=requests,
        method=method if found else "not measured: too few users",
        mde=number(found.detectable) if found else None,
        family=family,
        detail=figures(detail),
    )


def _proxied(found: Found, features: tuple[str, ...], importance: dict[str, float], requests: int) -> Estimate:
    """How much of the model goes through features that stand in for the attribute."""

    def share(part: str) -> float:
        held = found.alone.figures if found.alone else ()
        return min(
            sum(
                importance.get(f, 0.0)
                for f, figure in zip(features, held, strict=True)
                if getattr(figure, part) > STANDS_IN
            ),
            1.0,
        )

    return _estimate(
        Figure(share("value"), share("low"), share("high"), float("nan")) if found.alone else None,
        metric="proxied_importance",
        subject=found.attribute.name,
        users=found.attribute.labels.size,
        requests=requests,
        method="DeLong by user of each feature, max-t over all columns and values",
        detail={"stands_in": STANDS_IN},
    )


def told_best(found: Found, features: tuple[str, ...]) -> dict[str, str]:
    """The value that each feature tells best."""
    if not found.alone:
        return {}
    values = found.attribute.values
    return {feature: values[code] for feature, code in zip(features, found.alone.best.tolist(), strict=True)}


def features_table(found: list[Found], features: tuple[str, ...], importance: dict[str, float]) -> pa.Table:
    """One row an attribute, value and feature, where the value has enough users."""
    rows = [
        {
            "attribute": held.attribute.name,
            "value": held.attribute.values[label],
            "feature": feature,
            "importance": importance.get(feature, 0.0),
            "auc": number(held.alone.values[at, place]),
            "low": number(held.alone.lows[at, place]),
            "high": number(held.alone.highs[at, place]),
            "best": bool(held.alone.best[place] == label),
            "users": int((held.attribute.labels == label).sum()),
        }
        for held in found
        if held.alone
        for at, label in enumerate(held.alone.labels)
        for place, feature in enumerate(features)
    ]
    kinds = {
        "attribute": pa.string(),
        "value": pa.string(),
        "feature": pa.string(),
        "importance": pa.float64(),
        "auc": pa.float64(),
        "low": pa.float64(),
        "high": pa.float64(),
        "best": pa.bool_(),
        "users": pa.int64(),
    }
    return pa.Table.from_pylist(rows, schema=pa.schema(kinds))
