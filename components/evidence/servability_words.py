"""Servability in sentences: what the service answered, how fast, and what it should not have done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from components.evidence.contract import Estimate
from components.evidence.parity import named_differences
from components.evidence.servability_calls import CANDIDATES, CONNECTIONS, TIMED, Called, Served

_MOST_NAMED = 5
_SAID = {
    "rank": "for known users",
    "rank visitor": "for visitors",
    "recommend": "retrieved for known users",
    "recommend visitor": "retrieved for visitors",
}


def feature_words(found: Sequence[Estimate]) -> list[str]:
    """Whether features are served as they were trained on."""
    skewed = named_differences(found)
    if not skewed:
        return [f"All {len(found)} features are served as they were trained on, to the bit."]
    shown = ", ".join(skewed[:3]) + (f" and {len(skewed) - 3} more" if len(skewed) > 3 else "")
    return [f"{len(skewed)} of {len(found)} features are served otherwise than they were trained on: {shown}."]


def service_words(served: Served) -> Iterator[str]:
    """What a service did that was started and asked."""
    called = served.called
    answered = (called.status == 200) & called.of(TIMED)
    if answered.any():
        times = called.seconds[answered] * 1000
        p50, p99 = (float(np.quantile(times, quantile)) for quantile in (0.5, 0.99))
        yield (
            f"Half of the lists were ranked within {p50:.0f} ms and all but one in a hundred within {p99:.0f} ms, "
            f"with {CANDIDATES} candidates each; {served.rate:.0f} a second over {CONNECTIONS} connections."
        )
    yield _order_words(called)
    if served.wrong:
        more = len(served.wrong) - _MOST_NAMED
        named = ", ".join(served.wrong[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
        yield f"Wrong requests that were not refused as such: {named}."
    else:
        stayed = ", and the service stayed well" if served.well else ""
        yield f"All {served.refused} wrong requests were refused{stayed}."
    if not served.well:
        yield "After them it was no longer well."
    memory = (
        f"took {served.memory:.0f} MiB of memory"
        if served.memory is not None
        else "how much memory it took is not known, because this system does not tell"
    )
    yield f"It was ready after {served.startup:.1f} s and {memory}."


def _order_words(called: Called) -> str:
    wrong = ~called.same_order
    if wrong.any():
        parts = [f"{int((wrong & called.of(kind)).sum())} {_SAID[kind]}" for kind in called.kinds()]
        parts = [part for part in parts if not part.startswith("0 ")]
        return (
            f"{int(wrong.sum())} of {len(wrong)} lists were not answered in the order that the training path gives: "
            f"{', '.join(parts)}."
        )
    swapped = int(called.swapped.sum())
    aside = f"; in {swapped} items of one score stand the other way round" if swapped else ""
    return (
        f"All {len(wrong)} lists, ranked and retrieved, for known users and visitors, came in the order that the training "
        f"path gives{aside}."
    )
