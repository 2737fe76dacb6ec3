"""docs/serving.md on log, metrics, logs and traces: its names are the code's, and its contract reads what is converted."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from components.events.declaration import parse_contract
from components.serving import exposures, logs, traces
from components.serving.contract import Answer, Ask, Place
from components.serving.exposure_files import ExposureFile, Shown, line_of
from components.serving.exposure_tables import convert_exposures
from components.serving.features import REFUSALS
from components.serving.features_contract import FeatureState
from components.serving.features_settings import (
    FOLDER_VARIABLE,
    LOCAL_VARIABLE,
    POLL_VARIABLE,
    TRUST_VARIABLE,
    FeatureSettings,
)
from components.serving.metrics import MOST_SURFACES, ServingMetrics, State, exposition

_AT = datetime(2026, 5, 10, 9, tzinfo=UTC)
_ANSWER = Answer("r", (Place("i", 0.5, 1, 1.0, False, "given"),), "9f2c", "stable", ("deadline",), {"score": 0.01})


@pytest.fixture
def page(repository: Path) -> str:
    return (repository / "docs" / "serving.md").read_text(encoding="utf-8")


def section(page: str, name: str) -> str:
    return page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]


def test_every_metric_stands_in_the_table_with_its_labels_and_no_other_does(page: str) -> None:
    registry = CollectorRegistry()
    counts = exposures.Counts(1, 1, 0, 0, 0, 1, 0, 1, 0)
    features = FeatureState("d0b3", "2026-05-10T00:05:12+00:00", "feed-job", 1, dict.fromkeys(REFUSALS, 0), 1.0)
    state = State(True, False, "9f2c", "shop", "stable", 1.0, counts, features)
    metrics = ServingMetrics(registry, look=lambda: state)
    metrics.observe(Ask("r", None, None, 1), _ANSWER, 0.1)
    metrics.replied("/rank", 200, 0.1)
    text = b"".join(exposition(registry)).decode()
    found = {
        family.name + ("_total" if family.type == "counter" else ""): set(family.samples[0].labels) - {"le"}
        for family in text_string_to_metric_families(text)
    }
    rows = [row.split("|") for row in section(page, "Metrics").splitlines() if row.startswith("| `rankgate_")]
    told = {
        name: set(re.findall(r"`(\w+)`", row[2])) for row in rows for name in re.findall(r"`(rankgate_\w+)`", row[1])
    }
    assert told == found


def test_what_its_queries_ask_for_are_metrics(page: str) -> None:
    text = section(page, "Metrics")
    queried = set(re.findall(r"(rankgate_\w+?)(?:_bucket|_count)?[{\[]", text.partition("    #")[2]))
    assert queried
    assert queried <= set(re.findall(r"`(rankgate_\w+)`", text))


def test_published_features_are_told_with_their_variables_reasons_and_alerts(page: str) -> None:
    text = section(page, "Published features")
    for name in (FOLDER_VARIABLE, TRUST_VARIABLE, POLL_VARIABLE, LOCAL_VARIABLE):
        assert f"| `{name}` |" in text
    settings = FeatureSettings.of({FOLDER_VARIABLE: "/f", TRUST_VARIABLE: "/t"})
    assert settings
    assert settings.poll_seconds == 5.0
    metrics = section(page, "Metrics")
    assert all(f"`{reason}`" in metrics for reason in REFUSALS)
    asked = set(re.findall(r"(rankgate_features_\w+)", text))
    assert asked
    assert asked <= set(re.findall(r"`(rankgate_\w+)`", metrics))


def test_every_variable_is_told_and_its_default_is_the_codes(page: str) -> None:
    for name in (exposures.FOLDER_VARIABLE, exposures.BYTES_VARIABLE, exposures.KEEP_VARIABLE):
        assert f"| `{name}` |" in section(page, "Exposure log")
    limits = exposures.Limits()
    assert (limits.total_bytes, limits.keep_seconds) == (1 << 30, 168 * 3_600)
    assert (limits.capacity, limits.rotate_bytes, limits.rotate_seconds, limits.flush_seconds) == (
        200_000, 32 << 20, 900.0, 0.05,
    )  # fmt: skip
    for name in (logs.LEVEL_VARIABLE, logs.SAMPLE_VARIABLE):
        assert f"`{name}`" in section(page, "Logs")
    standard = logs.LogSettings()
    assert (standard.sample, standard.rate, standard.burst) == (100, 50.0, 200)
    assert traces.VARIABLE in section(page, "Traces")
    assert MOST_SURFACES == 8
    assert "the first eight" in section(page, "Metrics")


def test_the_columns_that_are_told_are_those_of_a_table_and_the_contract_reads_them(page: str, tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    file = ExposureFile(tmp_path / "log", begun=_AT)
    file.append(line_of(Shown.of(_AT, "r1", "u1", "home", {"device": "phone"}, _ANSWER)))
    file.close()
    convert_exposures(tmp_path / "log", out=tmp_path / "shown")
    text = section(page, "Exposure log")
    rows = [row.split("|")[1] for row in text.splitlines() if row.startswith("| `") and "RANKGATE" not in row]
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    from pyarrow import parquet

    assert set(parquet.read_schema(next((tmp_path / "shown").glob("*.parquet"))).names) == told | {"device"}
    (contract,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    parsed = parse_contract(contract, subject="docs/serving.md")
    assert parsed.tables.events.path[0] == "shown/*.parquet"
    assert parsed.requests.mode == "logged"
