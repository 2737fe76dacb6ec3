"""docs/model-card.md names every field that a person fills, as the card names it, and its example can be read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from components.artifacts.strict_yaml import parse_model
from components.card.fields import TEAM_FIELDS
from components.verdict.model_card import FIELDS, DeclaredPurpose


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "model-card.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("field", TEAM_FIELDS, ids=lambda field: field.key)
def test_a_field_has_its_row(page: str, field: object) -> None:
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("| `")}
    row = rows[f"`{field.key}`"]
    shown = row.split("|")[2]
    assert field.label in shown
    assert row.split("|")[3].strip() == field.who


def test_the_example_fills_every_field(page: str) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert set(parse_model(DeclaredPurpose, example, subject="docs/model-card.md").written) == {*FIELDS}
