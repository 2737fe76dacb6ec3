"""From margins to shares: how large a share of requests must be spoiled for the true effect to be so many margins.

What a share does to the mean of an estimate is a straight line between nothing planted and everything planted, because
requests are drawn one by one. Both ends are measured over a few seeds of the same world and averaged: the effect of one
seed's share then scatters around the margin as it would in life, and is not fitted to that seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.evidence.contract import Estimate
from components.verdict.policy import Bound, Criterion, Policy
from pipelines.trials.harms import Harm, Planting
from pipelines.trials.measuring import measure
from pipelines.trials.worlds import Parts, World

_POWER_Z = 2.326
"""Quantile of the normal distribution at 99 %."""
_INTERVAL_Z = 1.96
"""Of a 95 % interval that stands alone: a family's is wider, so this overstates the standard error."""


@dataclass(frozen=True, slots=True)
class Ends:
    """What a harm's estimate is, on average, with nothing and with everything planted."""

    harm: str
    nothing: float
    everything: float
    half_width: float
    """Of the estimate's interval with two margins planted, on the side that decides a `fail`."""


@dataclass(frozen=True, slots=True)
class Reach:
    """A share, and what it stands for."""

    share: float
    margins: float
    """What the share reaches: less than was asked where everything is not enough."""
    adequate: bool
    """Whether an interval of this width shows this harm in 99 of 100 runs, by its own width."""


def ends_of(
    harm: Harm, world: World, policy: Policy, *, base: Path, lists: Parts, seed: int, folder: Path
) -> tuple[float, float, float]:
    """Estimate with nothing planted, with everything planted, and the half-width at two margins, in one seed's base.

    `lists` are the parts whose lists are judged; `folder` is an empty folder on the base's disk.
    """
    criterion = _criterion(harm, world, policy)

    def planted(share: float) -> Estimate:
        out, evidence = folder / f"run-{share:g}", folder / f"evidence-{share:g}"
        out.mkdir()
        evidence.mkdir()
        run = harm.plant(Planting(base, lists, out, share, np.random.default_rng([seed, 7]), seed))
        measured = measure(run, (criterion.evidence,), out=evidence, seed=seed)[criterion.evidence]
        return _estimate(harm, criterion, measured.estimates)

    nothing, everything = _value(harm, planted(0.0)), _value(harm, planted(1.0))
    share = _share(criterion.bound, nothing, everything, margins=2.0)
    if share <= 0:
        raise ValueError(f"{harm.name}: an honest run of {world.label}, seed {seed}, is two margins off already")
    harmed = planted(share) if share < 1 else planted(0.999)
    limit = harmed.high if _low_is_harm(criterion.bound) else harmed.low
    if limit is None:
        raise ValueError(f"{harm.name}: its estimate has no interval in {world.label}, seed {seed}")
    return nothing, everything, abs(limit - _value(harm, harmed))


def mean_ends(harm: Harm, found: Sequence[tuple[float, float, float]]) -> Ends:
    """Averages over seeds."""
    nothing, everything, width = np.mean(np.array(found), axis=0).tolist()
    return Ends(harm.name, nothing, everything, width)


def reach(harm: Harm, world: World, policy: Policy, ends: Ends, *, margins: float) -> Reach:
    """The share that brings the effect to so many margins, or to as many as there can be."""
    bound = _criterion(harm, world, policy).bound
    kept = _share(bound, ends.nothing, ends.everything, margins=margins)
    value = ends.nothing + kept * (ends.everything - ends.nothing)
    reached = _sign(bound) * (value - _ideal(bound)) / bound.margin
    beyond = (reached - 1) * bound.margin
    return Reach(kept, reached, beyond >= ends.half_width * (1 + _POWER_Z / _INTERVAL_Z))


def _share(bound: Bound, nothing: float, everything: float, *, margins: float) -> float:
    wanted = _ideal(bound) + _sign(bound) * margins * bound.margin
    return float(np.clip((wanted - nothing) / (everything - nothing), 0.0, 1.0))


def _ideal(bound: Bound) -> float:
    ideal = bound.at_least if _low_is_harm(bound) else bound.at_most
    if ideal is None:
        raise ValueError("a harm in margins needs a rule with a bound on one side")
    return ideal


def _sign(bound: Bound) -> float:
    return -1.0 if _low_is_harm(bound) else 1.0


def _value(harm: Harm, held: Estimate) -> float:
    if held.value is None:
        raise ValueError(f"{harm.name}: its estimate has no value")
    return held.value


def _criterion(harm: Harm, world: World, policy: Policy) -> Criterion:
    wanted = harm.targets[world.name][0]
    return next(held for held in policy.criteria if held.id == wanted)


def _low_is_harm(bound: Bound) -> bool:
    return bound.at_least is not None


def _estimate(harm: Harm, criterion: Criterion, estimates: Sequence[Estimate]) -> Estimate:
    by = harm.scaled_by
    if by is None:
        raise ValueError(f"{harm.name}: its strengths are no margins")
    return next(
        held
        for held in estimates
        if (held.metric, held.statistic, held.subject, held.versus, held.segment)
        == (criterion.metric, criterion.statistic, by.subject, by.versus, dict(by.segment or {}))
    )
