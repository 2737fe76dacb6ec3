"""The chapter on providers: what was earned is drawn, parity and change stand beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from components.card.chapters.providers import providers
from components.card.sources import open_sources

Run = Any


def test_only_ratios_to_what_was_earned_are_drawn_and_the_table_has_the_other_views(run: Run, tmp_path: Any) -> None:
    held = run.evidence["fairness-providers"]
    first = next(e for e in held.estimates if e.subject == "south")
    other_views = (
        replace(first, versus="catalogue", value=1.4, low=1.2, high=1.6),
        replace(first, statistic="difference", value=-0.05, low=-0.07, high=-0.03),
        replace(first, statistic="difference", versus="incumbent", value=0.011, low=0.002, high=0.02),
    )
    run.evidence["fairness-providers"] = replace(held, estimates=(*held.estimates, *other_views))
    picture = providers(open_sources(run.sources(tmp_path))).pictures[0]
    assert picture.tracks is not None
    assert [placed.mark.label for placed in picture.tracks.marks] == ["south", "north"]
    rows = {row[0]: row[1:4] for row in picture.table.rows}
    assert rows["south"] == ("0.890 (0.870 to 0.910)", "1.400 (1.200 to 1.600)", "+0.011 (+0.002 to +0.020)")
    assert rows["north"][1:] == ("—", "—")
    assert "south gets the least" in picture.takeaway.lower()
