"""How others would have judged the same days: thresholds on point values, and a p-value that is looked at all the time.

- `flagger`: the metrics and the rule of its documentation's example canary: each minute, success rate of at least 99 % and a
  99 % quantile of latency of at most 500 ms over the last minute; rolled back at the fifth failed check.
  https://docs.flagger.app/usage/metrics, https://docs.flagger.app/usage/how-it-works
- `argo`: the success-rate template of Argo Rollouts' documentation: each five minutes, a success rate of at least 95 % over the
  last five; "three such measurements" and the analysis has failed.
  https://argo-rollouts.readthedocs.io/en/stable/features/analysis/
- `margins`: what a team might do that likes this policy's margins and has Flagger: differences to the stable arm over the last
  minute, more than the margin is a failed check, the fifth rolls back.
- `peeking`: one test for each guardrail on everything so far, requests for units; rolled back at the first p < 0.05 of any look.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from canary_following import Four
from canary_world import BOUNDS, SECONDS, Moments, Visits
from numpy.typing import NDArray

from components.rollout.policy import Latency, Rate, RolloutPolicy

Floats = NDArray[np.float64]

_MINUTE = round(60 / SECONDS)


def flagger(seen: Moments) -> int | None:
    """The window after which Flagger's example would roll back; None where it would not."""
    checks = _sums(seen.requests, _MINUTE), _sums(seen.errors, _MINUTE), _sums(seen.latency, _MINUTE)
    requests, errors, latency = checks
    with np.errstate(invalid="ignore", divide="ignore"):
        success = np.where(requests > 0, 1 - errors / requests, 1.0)
    beyond = latency[:, BOUNDS.index(0.5) + 1 :].sum(axis=1)
    failed = (success < 0.99) | (beyond > 0.01 * latency.sum(axis=1))
    return _nth(failed, 5, _MINUTE)


def argo(seen: Moments) -> int | None:
    """The window after which Argo Rollouts' example would roll back."""
    every = 5 * _MINUTE
    requests, errors = _sums(seen.requests, every), _sums(seen.errors, every)
    with np.errstate(invalid="ignore", divide="ignore"):
        success = np.where(requests > 0, 1 - errors / requests, 1.0)
    return _nth(success < 0.95, 3, every)


def margins(policy: RolloutPolicy, counts: Mapping[str, Four], windows: int, found: Visits) -> int | None:
    """The window after which thresholds at this policy's margins would roll back."""
    failed = np.zeros(windows // _MINUTE, dtype=bool)
    for guardrail in policy.guardrails:
        if not isinstance(guardrail, Rate | Latency):
            continue
        y, n, ys, ns = (_sums(x, _MINUTE) for x in counts[guardrail.id])
        with np.errstate(invalid="ignore", divide="ignore"):
            failed |= np.nan_to_num(y / n - ys / ns) > guardrail.margin
    clicks, lists, stable_clicks, stable_lists = (_sums(x, _MINUTE) for x in _clicks(found, windows))
    with np.errstate(invalid="ignore", divide="ignore"):
        failed |= np.nan_to_num((clicks / lists) / (stable_clicks / stable_lists), nan=1.0) < 0.95
    return _nth(failed, 5, _MINUTE)


def peeking(counts: Mapping[str, Four], windows: int, found: Visits) -> int | None:
    """The window after which the first p-value of any guardrail was below 0.05."""
    clicks, lists, stable_clicks, stable_lists = _clicks(found, windows)
    # Without a click is the harm; no list has more than one in this test's eyes.
    without = (np.maximum(lists - clicks, 0), lists, np.maximum(stable_lists - stable_clicks, 0), stable_lists)
    first: list[int] = []
    for y, n, ys, ns in (tuple(np.cumsum(x) for x in four) for four in (*counts.values(), without)):
        with np.errstate(invalid="ignore", divide="ignore"):
            pooled = (y + ys) / (n + ns)
            z = (y / n - ys / ns) / np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / ns))
        # Nobody looks at fewer than a hundred requests, or at fewer than five events.
        shown = (np.nan_to_num(z) > 1.96) & (n >= 100) & (y + ys >= 5)
        if shown.any():
            first.append(int(np.argmax(shown)))
    return min(first, default=None)


def _clicks(found: Visits, windows: int) -> Four:
    place = np.minimum((found.at / SECONDS).astype(np.int64), windows - 1)
    parts = []
    for arm in (True, False):
        kept = found.in_canary == arm
        parts += [
            np.bincount(place[kept], weights=x[kept], minlength=windows).astype(np.float64)
            for x in (found.clicks, found.lists)
        ]
    return parts[0], parts[1], parts[2], parts[3]


def _sums(values: Floats, size: int) -> Floats:
    """Sums over stretches of so many windows, the last one dropped where it is not whole."""
    whole = values.shape[0] // size * size
    return np.asarray(values[:whole].reshape(-1, size, *values.shape[1:]).sum(axis=1))


def _nth(failed: NDArray[np.bool_], count: int, size: int) -> int | None:
    """The last window of the stretch in which the so-manieth check failed."""
    place = np.flatnonzero(failed)
    return None if place.size < count else int((place[count - 1] + 1) * size - 1)
