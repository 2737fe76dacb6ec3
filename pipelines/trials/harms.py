"""What is planted: each harm with its strengths, the question that should see it, and the rules that should stop it.

A strength is either a figure of its own (standard deviations, times a bound) or a number of margins: then the planting is
scaled (`scaling`) so that, over many seeds, the very quantity that the rule looks at lies that far beyond its ideal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Literal

import numpy as np

from components.evidence.contract import Question
from components.evidence.segments import HISTORY, NO_HISTORY
from pipelines.trials.planting import features, log, rankings, rows, scores, tables
from pipelines.trials.worlds import Parts

Promise = Literal["never", "seldom", "caught", "told"]
"""`never`: nothing is wrong, a `fail` is false. `seldom`: below the margin, or on it, a `fail` has at most the stated rate.
`caught`: a `fail` is due, at adequate n. `told`: no promise; the rate is shown."""


@dataclass(frozen=True, slots=True)
class Strength:
    """How strong a harm is, and what is promised of it."""

    label: str
    value: float
    promise: Promise
    from_users: int = 0
    """Test users from which on it is promised to be caught; fewer leave it unsure by design."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The estimate by which a harm in margins is scaled: that of its first target in this place."""

    subject: str = "candidate"
    versus: str = ""
    segment: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Planting:
    """Everything that planting may use."""

    base: Path
    parts: Parts
    out: Path
    strength: float
    """The strength's value; for a harm in margins, the share of requests that reaches it."""
    rng: np.random.Generator
    seed: int


@dataclass(frozen=True, slots=True)
class Harm:
    """One thing that may be wrong."""

    name: str
    title: str
    """For a table, in words."""
    targets: Mapping[str, tuple[str, ...]]
    """By world: the criteria of which at least one should fail. Without an entry the harm is not planted there."""
    questions: tuple[Question, ...]
    """What is measured again."""
    strengths: tuple[Strength, ...]
    plant: Callable[[Planting], Parts]
    scaled_by: Subject | None = None
    """In margins, by this estimate; None where strengths are figures of their own."""
    peers: tuple[str, ...] = ()
    """Peers whose defaults look at this (`peers.PEERS`)."""
    costly: bool = False
    """Trains again: planted in the smaller sizes only."""


CLEAN = "clean"

_ENOUGH = 500
"""Test users from which on drift by these strengths stands out of noise."""
_MARGINS = (
    Strength("0.5 margins", 0.5, "seldom"),
    Strength("1 margin", 1.0, "seldom"),
    Strength("2 margins", 2.0, "caught"),
)


_LEAKAGE = (
    "leakage-future",
    "leakage-power",
    "leakage-power-training",
    "leakage-model",
    "leakage-label",
    "leakage-label-training",
    "leakage-requests",
    "leakage-hindsight",
)


def _users(values: Mapping[str, str]) -> Callable[[Planting], Parts]:
    return lambda at: rankings.turned_round(
        at.parts, at.out, users=rankings.users_where(at.parts, values), share=at.strength, rng=at.rng
    )


def _buried(at: Planting) -> Parts:
    items = rankings.items_of(at.parts, "provider", BURIED)
    return rankings.buried(at.parts, at.out, items=items, share=at.strength, rng=at.rng)


BURIED = "provider-01"
"""The shop's largest provider."""
NEWCOMERS: Mapping[str, str] = {HISTORY: NO_HISTORY}
"""The group that every dataset has."""

HARMS: tuple[Harm, ...] = (
    Harm(
        name="worse-model",
        title="Model worse than the incumbent",
        targets={"shop": ("quality-incumbent",), "online_retail": ("quality-incumbent",)},
        questions=("quality",),
        strengths=_MARGINS,
        plant=lambda at: rankings.turned_round(
            at.parts, at.out, users=rankings.users_where(at.parts, {}), share=at.strength, rng=at.rng
        ),
        scaled_by=Subject(versus="incumbent"),
        peers=("fixed-ndcg",),
    ),
    Harm(
        name="spoiled-segment",
        title="Ranking spoiled for one country",
        targets={"shop": ("fairness-users",)},
        questions=("quality", "fairness-users"),
        strengths=_MARGINS,
        plant=_users({"country": "FR"}),
        scaled_by=Subject(versus="rest", segment={"country": "FR"}),
        peers=("fixed-ndcg", "fairlearn-4/5"),
    ),
    Harm(
        name="spoiled-intersection",
        title="Ranking spoiled for the women of one country",
        targets={"shop": ("fairness-users",)},
        questions=("quality", "fairness-users"),
        strengths=_MARGINS,
        plant=_users({"country": "DE", "gender": "female"}),
        scaled_by=Subject(versus="rest", segment={"country": "DE", "gender": "female"}),
        peers=("fixed-ndcg", "fairlearn-4/5"),
    ),
    Harm(
        name="spoiled-new-users",
        title="Ranking spoiled for users without history",
        targets={"shop": ("quality-incumbent-groups", "quality-newcomers", "fairness-users-change")},
        questions=("quality", "fairness-users"),
        strengths=_MARGINS,
        plant=lambda at: rankings.turned_round(
            at.parts, at.out, users=rankings.users_without_history(at.parts), share=at.strength, rng=at.rng
        ),
        scaled_by=Subject(versus="incumbent", segment=NEWCOMERS),
        peers=("fixed-ndcg", "fairlearn-4/5"),
    ),
    Harm(
        name="buried-provider",
        title="One provider buried",
        targets={"shop": ("fairness-providers",)},
        questions=("quality", "fairness-providers"),
        strengths=_MARGINS,
        plant=_buried,
        scaled_by=Subject(subject=BURIED, versus="relevance"),
        peers=("fixed-ndcg",),
    ),
    Harm(
        name="miscalibrated",
        title="Scores promise more than comes true",
        targets={"shop": ("calibration-error",), "online_retail": ("calibration-error",)},
        questions=("calibration",),
        strengths=(
            Strength("off by 0.015", 0.015, "seldom"),
            Strength("off by 0.06", 0.06, "caught"),
            Strength("off by 0.12", 0.12, "caught"),
        ),
        plant=lambda at: scores.miscalibrated(at.parts, at.out, by=at.strength),
    ),
    Harm(
        name="drift-important",
        title="The most important number drifts",
        targets={"shop": ("drift-features", "drift-importance", "drift-score")},
        questions=("drift",),
        strengths=(
            Strength("by 0.5 SD", 0.5, "told"),
            Strength("by 1 SD", 1.0, "told"),
            Strength("by 3 SD", 3.0, "caught", from_users=_ENOUGH),
        ),
        plant=lambda at: features.column_moved(
            at.parts, at.out, name=features.by_importance(at.parts)[0], by=at.strength
        ),
        peers=("evidently-preset",),
    ),
    Harm(
        name="drift-unimportant",
        title="A number that the model hardly uses drifts",
        targets={"shop": ("drift-features", "drift-importance")},
        questions=("drift",),
        strengths=(Strength("by 1 SD", 1.0, "never"), Strength("by 3 SD", 3.0, "never")),
        plant=lambda at: features.column_moved(
            at.parts, at.out, name=features.by_importance(at.parts)[-1], by=at.strength
        ),
        peers=("evidently-preset",),
    ),
    Harm(
        name="drift-score",
        title="Scores move, features do not",
        targets={"shop": ("drift-score",), "online_retail": ("drift-score",)},
        questions=("drift",),
        strengths=(
            Strength("by 0.5 SD", 0.5, "told"),
            Strength("by 1 SD", 1.0, "caught"),
            Strength("by 3 SD", 3.0, "caught"),
        ),
        plant=lambda at: scores.scores_moved(at.parts, at.out, by=at.strength),
        peers=("evidently-preset",),
    ),
    Harm(
        name="drift-mix",
        title="Another mix of devices, nothing else",
        targets={"shop": ("drift-mix",)},
        questions=("drift",),
        strengths=(
            Strength("a quarter moves", 0.25, "told"),
            Strength("three quarters move", 0.75, "caught", from_users=_ENOUGH),
        ),
        plant=lambda at: features.mix_changed(at.parts, at.out, context="device", share=at.strength, rng=at.rng),
        peers=("evidently-preset",),
    ),
    Harm(
        name="season",
        title="A season that was there before (no harm)",
        targets={"shop": ("drift-features", "drift-importance", "drift-score")},
        questions=("drift",),
        strengths=(Strength("wave of 0.5 SD", 0.5, "never"), Strength("wave of 1 SD", 1.0, "never")),
        plant=lambda at: features.season(
            at.parts, at.out, names=features.by_importance(at.parts)[:5], height=at.strength
        ),
        peers=("evidently-preset",),
    ),
    Harm(
        name="leaked-label",
        title="A feature that has seen the label",
        targets={"shop": _LEAKAGE},
        questions=("leakage", "quality"),
        strengths=(
            Strength("the label itself", inf, "caught"),
            Strength("2 SD apart", 2.0, "caught"),
            Strength("0.5 SD apart", 0.5, "caught"),
        ),
        plant=lambda at: rows.leaked(
            at.base,
            at.parts,
            at.out,
            feature=features.by_importance(at.parts)[-1],
            power=at.strength,
            rng=at.rng,
            seed=2 * at.seed + 1,
        ),
        peers=("fixed-ndcg",),
        costly=True,
    ),
    Harm(
        name="told-afterwards",
        title="A context column written down after the click",
        targets={"shop": _LEAKAGE},
        questions=("data", "leakage", "quality"),
        strengths=(
            Strength("after every click", 1.0, "caught"),
            Strength("after two clicks in three", 0.67, "caught"),
            Strength("after one click in five", 0.2, "told"),
        ),
        plant=lambda at: log.told_afterwards(at.base, at.parts, at.out, share=at.strength, rng=at.rng, seed=at.seed),
        peers=("fixed-ndcg",),
        costly=True,
    ),
    Harm(
        name="looking-ahead",
        title="Features that look ahead",
        targets={"shop": _LEAKAGE},
        questions=("leakage",),
        strengths=(Strength("by an hour", 1.0, "caught"), Strength("by a day", 24.0, "caught")),
        plant=lambda at: rows.looking_ahead(at.parts, at.out, hours=at.strength),
    ),
    Harm(
        name="skewed-serving",
        title="A feature that the served tables hold otherwise",
        targets={"shop": ("serving-features",)},
        questions=("servability",),
        strengths=(Strength("by 0.1 %", 0.001, "caught"), Strength("by 10 %", 0.1, "caught")),
        plant=lambda at: tables.skewed(at.parts, at.out, array="items.price", by=at.strength),
    ),
    Harm(
        name="proxy",
        title="A feature that stands in for gender",
        targets={"shop": ("proxies-features", "proxies-inputs")},
        questions=("proxies",),
        strengths=(
            Strength("0.5 SD apart", 0.5, "told"),
            Strength("2 SD apart", 2.0, "caught"),
            Strength("4 SD apart", 4.0, "caught"),
        ),
        plant=lambda at: rows.standing_in(
            at.parts,
            at.out,
            feature=features.by_importance(at.parts)[0],
            attribute="gender",
            value="female",
            power=at.strength,
            rng=at.rng,
        ),
    ),
    Harm(
        name="stale",
        title="The log stopped arriving",
        targets={"shop": ("data-freshness",)},
        questions=("data",),
        strengths=(
            Strength("1.25 bounds old", 1.25, "caught"),
            Strength("2 bounds old", 2.0, "caught"),
        ),
        plant=lambda at: log.stale(at.base, at.parts, at.out, bounds=at.strength, seed=at.seed),
    ),
    Harm(
        name="bots",
        title="A flood of bots",
        targets={"shop": ("data-bots",)},
        questions=("data",),
        strengths=(
            Strength("5 % more rows", 0.05, "told"),
            Strength("20 % more rows", 0.2, "caught"),
            Strength("50 % more rows", 0.5, "caught"),
        ),
        plant=lambda at: log.flooded(at.base, at.parts, at.out, share=at.strength, rng=at.rng, seed=at.seed),
    ),
)
BY_NAME: Mapping[str, Harm] = {harm.name: harm for harm in HARMS}
