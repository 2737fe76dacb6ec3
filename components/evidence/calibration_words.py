"""What the calibration estimates say, in sentences for a product manager: measured facts, no verdict."""

from __future__ import annotations

from collections.abc import Sequence

from components.evidence.contract import Estimate
from components.evidence.quality_words import counted, interval, named
from components.ranker.calibration import Method


def describe(estimates: Sequence[Estimate], *, shown: str) -> tuple[str, ...]:
    """The findings in reading order: all together, by score, by group; `shown` says what a row is: shown or ranked."""
    found = {(estimate.metric, tuple(estimate.segment.items())): estimate for estimate in estimates}
    gap, ece, slope = (found[metric, ()] for metric in ("calibration_gap", "ece", "calibration_slope"))
    sentences = [
        f"Of 100 {shown} items, the calibrated score expects {100 * gap.detail['predicted']:.2f} positive outcomes and "
        f"{100 * gap.detail['observed']:.2f} came ({counted(gap.n_users, 'user')}, {counted(gap.n_requests, 'request')}; "
        f"observed minus predicted share {interval(gap, digits=4, signed=True)})."
    ]
    if ece.value is not None and "noise" in ece.detail:
        sentences.append(
            f"Averaged over {ece.detail['bins']:.0f} score bins, predicted and observed shares differ by {ece.value:.4f} "
            f"({interval(ece, digits=4)}); a perfect map would show about {ece.detail['noise']:.4f} with these users."
        )
    if slope.value is not None:
        sentences.append(f"The calibration slope is {slope.value:.2f} ({interval(slope, digits=2)}; 1 is perfect).")
    grouped = [e for e in estimates if e.metric == "calibration_gap" and e.segment and e.value is not None]
    if grouped:
        worst = max(grouped, key=lambda estimate: abs(estimate.value or 0.0))
        sentences.append(
            f"Among {counted(len(grouped), 'group')} of users, the largest gap is {worst.value:+.4f} for "
            f"{named(worst.segment)} ({interval(worst, digits=4, signed=True)}, all groups together)."
        )
    return tuple(sentences)


def map_words(method: Method) -> str:
    """How scores become chances."""
    how = (
        "isotonic regression (any rising shape)"
        if method == "isotonic"
        else "Platt's logistic curve (one shape, from few outcomes)"
    )
    return f"Scores become chances by {how}, which predicted held-out validation requests best."
