"""From an interval and a bound to one of three answers."""

from __future__ import annotations

import math
from typing import Literal

Answer = Literal["pass", "fail", "insufficient"]
Direction = Literal["above", "below"]


def decide(low: float | None, high: float | None, bound: float | None, direction: Direction) -> Answer:
    """Whether a quantity known to lie in [low, high] is on the wanted side of `bound`.

    `pass` where the whole interval is strictly on the wanted side (harm beyond the bound is ruled out), `fail` where it is
    strictly on the other (harm beyond the bound is shown), else `insufficient`. An interval that ends exactly at the
    bound is insufficient, so is a missing or NaN limit or bound, and one whose ends are in the wrong order.

    Args:
        low: Lower limit; minus infinity where there is none.
        high: Upper limit; infinity where there is none.
        bound: What the quantity is held against: a margin, such as -0.02 for a difference of NDCG.
        direction: `above` where the quantity must exceed the bound, `below` where it must stay under it.

    Raises:
        ValueError: If `direction` is neither.
    """
    if direction not in ("above", "below"):
        raise ValueError(f"direction: found {direction!r}; needed 'above' or 'below'.")
    if low is None or high is None or bound is None:
        return "insufficient"
    if math.isnan(low) or math.isnan(high) or math.isnan(bound) or low > high:
        return "insufficient"
    if low > bound:
        return "pass" if direction == "above" else "fail"
    if high < bound:
        return "fail" if direction == "above" else "pass"
    return "insufficient"
