"""docs/dataset-contract.md says what the code does: its examples load, its faults occur, its lists are whole."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pytest
import yaml
from pydantic import BaseModel

from components.errors import FaultyInputError
from components.events import cleaning
from components.events.contract import DatasetContract
from components.events.declaration import parse_contract

AS_OF = datetime(2026, 3, 10, tzinfo=UTC)


@pytest.fixture
def page(repository: Path) -> str:
    return (repository / "docs" / "dataset-contract.md").read_text(encoding="utf-8")


def section(page: str, start: str, end: str) -> str:
    return page.partition(start)[2].partition(end)[0]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


def test_every_example_loads_and_both_modes_are_shown(page: str) -> None:
    contracts = [parse_contract(text, subject="docs/dataset-contract.md") for text in blocks(page, "yaml")]
    assert [contract.requests.mode for contract in contracts] == ["logged", "sampled"]


def keys(model: type[BaseModel], way: tuple[str, ...] = ()) -> list[str]:
    """Every leaf of the contract, with `*` and `<name>` where the page writes them."""
    found = []
    for name, field in model.model_fields.items():
        options = [field.annotation, *get_args(field.annotation)]
        inner = next((kind for kind in options if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        here = (*way, field.alias or name)
        if inner is None:
            found.append(".".join(here))
        else:
            found += keys(
                inner, (*here, "<name>") if dict in (getattr(kind, "__origin__", None) for kind in options) else here
            )
    return found


def test_every_key_of_the_contract_stands_in_the_table(page: str) -> None:
    documented = set(re.findall(r"`([a-z_.<>*]+)`", section(page, "## Every key", "## What the tables hold")))
    for key in keys(DatasetContract):
        general = re.sub(r"^(tables|attributes)\.(events|users|items)\.", r"\1.*.", key)
        rule = re.sub(r"^split\.(test|validation)\.", "", key)
        assert {key, general, rule} & documented, key


def test_every_reason_stands_in_the_tables(page: str) -> None:
    rows = section(page, "## What happens to each row", "## How faults look")
    documented = re.findall(r"`([^`]+)`", rows)
    reasons = [value for name, value in vars(cleaning).items() if name.isupper() and isinstance(value, str)]
    reasons = [reason for reason in reasons if reason not in (cleaning.KEPT, cleaning.SOURCE, cleaning.ROW)]
    assert len(reasons) >= 18
    assert set(reasons) <= set(documented)


def test_reasons_are_listed_in_the_order_in_which_they_are_told(page: str, shop: Any) -> None:
    """A row with every fault is mended one reason after another, as the table lists them."""
    rows = section(page, "| rejected from events | when |", "| rejected from users")
    listed = [
        name for row in rows.splitlines() for name in re.findall(r"`([^`]+)`", row.split("|")[1] if "|" in row else "")
    ]
    mend = [
        ("user_id missing", {"user_id": "u0"}),
        ("item_id missing", {"item_id": "i1"}),
        ("ts missing", {"ts": "never"}),
        ("ts unreadable", {"ts": "1970-01-01"}),
        ("ts not after 1970-01-01", {"ts": "2099-01-01"}),
        ("event unknown", {"event": "rating"}),
        ("ts in the future", {"ts": "2026-03-01"}),
        ("position not 1 or more", {"position": 1}),
        ("value not finite", {"value": None}),
        ("ingested_at unreadable", {"ingested_at": "2099-01-01"}),
        ("ingested_at in the future", {"ingested_at": "2026-03-01"}),
        ("value missing", {"value": -1.0}),
        ("value negative", {"event": "impression"}),
        ("impression without request_id", {"request_id": "r0"}),
    ]
    assert [reason for reason, _ in mend] == listed[: len(mend)]
    row = {"user_id": None, "item_id": None, "ts": None, "event": "?", "position": 0, "value": "much"}
    shop.events.append({**row, "ingested_at": "soon", "request_id": None, "device": None})
    for reason, change in mend:
        assert shop.counts(form="csv").rejected == {reason: 1}
        shop.events[-1] |= change
    assert shop.counts(form="csv").rejected == {"duplicate request row": 1}


def test_the_faults_of_a_contract_look_as_shown(page: str) -> None:
    shown = blocks(page, "text")[0]
    text = blocks(page, "yaml")[0]
    value = yaml.safe_load(text)
    value["events"]["click"] = {"gian": 1}
    value["freshness"] = 14
    value["item"]["category"] = "categry"
    with pytest.raises(FaultyInputError) as caught:
        parse_contract(yaml.safe_dump(value), subject="dataset.yaml")
    assert sorted(str(caught.value).splitlines()) == sorted(shown.splitlines())


def test_the_faults_of_tables_look_as_shown(page: str, shop: Any) -> None:
    shop.contract["name"] = "home-feed"
    shop.contract["attributes"]["users"]["plan"] = {"role": "feature"}
    shop.contract["tables"]["events"]["columns"] = {"ts": "happened_at"}
    shop.types = {"happened_at": pa.float64()}
    for row in shop.users:
        row["plans"] = "free"
    for row in shop.events:
        row["happened_at"] = row["ts"].timestamp()
    with pytest.raises(FaultyInputError) as caught:
        shop.take()
    assert str(caught.value) + "\n" == blocks(page, "text")[1]


def test_a_table_beyond_tolerance_looks_as_shown(page: str, shop: Any) -> None:
    shop.contract |= {"name": "home-feed", "tolerance": {"rejected_share": 0.02}}
    shop.events[0]["event"] = "?"
    for row in shop.events[1:3]:
        row["ts"] = AS_OF + timedelta(days=1)
    with pytest.raises(FaultyInputError) as caught:
        shop.take()
    assert str(caught.value) + "\n" == blocks(page, "text")[2]
