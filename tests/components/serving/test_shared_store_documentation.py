"""docs/shared-store.md: its outcomes, metrics, variables and queries are the code's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from components.serving import shared_store
from components.serving.metrics import SECONDS, Histogram
from components.serving.shared_store import FOUND, REASONS, StoreState
from components.serving.shared_store_address import (
    ADDRESS_VARIABLE,
    AUTHORITIES_VARIABLE,
    PASSWORD_FILE_VARIABLE,
    PASSWORD_VARIABLE,
)
from components.serving.shared_store_metrics import StoreMetrics


@pytest.fixture
def page(repository: Path) -> str:
    return (repository / "docs" / "shared-store.md").read_text(encoding="utf-8")


def rows(page: str, name: str) -> list[list[str]]:
    section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    return [row.split("|") for row in section.splitlines() if row.startswith("| `")]


def test_every_outcome_stands_in_its_table_and_no_other_does(page: str) -> None:
    told = [re.findall(r"`(\w+)`", row[1])[0] for row in rows(page, "Serving")]
    assert [name for name in told if not name.startswith("RANKGATE")] == [FOUND, *REASONS]


def test_every_variable_is_told_with_its_default(page: str) -> None:
    told = {name: row[2] for row in rows(page, "Serving") for name in re.findall(r"`(RANKGATE_\w+)`", row[1])}
    assert told.keys() == {
        ADDRESS_VARIABLE, PASSWORD_VARIABLE, PASSWORD_FILE_VARIABLE, AUTHORITIES_VARIABLE, shared_store.BUDGET_VARIABLE,
    }  # fmt: skip
    assert float(told[shared_store.BUDGET_VARIABLE]) == shared_store._BUDGET_MS


def test_every_metric_stands_in_its_table_with_its_labels(page: str) -> None:
    state = StoreState(True, True, 1.0, {FOUND: 1}, 0, 1, Histogram(SECONDS))
    found = {
        metric.name + ("_total" if metric.type == "counter" else ""): set(metric.samples[0].labels) - {"le"}
        for metric in StoreMetrics(lambda: state).collect()
    }
    told = {re.findall(r"`(\w+)`", row[1])[0]: set(re.findall(r"`(\w+)`", row[2])) for row in rows(page, "Metrics")}
    assert told == found
    queried = set(re.findall(r"(rankgate_store_\w+?)(?:_bucket|_count)?[{\[)]", page.partition("    #")[2]))
    assert queried
    assert queried <= found.keys()


def test_the_page_says_when_a_store_is_left_alone_as_the_code_does(page: str) -> None:
    assert pytest.approx(0.2) == 1.0 / (1.0 + 1.0 / shared_store._EASED)
    assert "more than one answer in five failed" in page
    assert (shared_store._FIRST_WAIT, shared_store._LONGEST_WAIT, shared_store._SHORTEST_REST) == (0.1, 5.0, 1.0)
    assert "after 0.1 s, doubling to 5 s" in page
    assert "left alone for at least half a second" in page
