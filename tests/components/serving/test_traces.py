"""Spans of requests: made only where they are asked for, in the caller's trace, naming nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from components.errors import FaultyInputError
from components.serving.contract import Answer, Place
from components.serving.traces import PROTOCOL_VARIABLE, VARIABLE, Traces, traces_of

_ANSWER = Answer(
    "r1", (Place("item-9", 0.5, 1, 1.0, False, "given"),), "9f2c", "stable", ("unknown_user",), {"score": 0.25}
)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def traces(exporter: InMemorySpanExporter) -> Traces:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Traces(provider)


def test_a_span_lasts_as_long_as_its_request_and_belongs_to_the_callers_trace(
    traces: Traces, exporter: InMemorySpanExporter
) -> None:
    carrier = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    traces.replied("POST", "/rank", 200, 0.125, carrier=carrier, answers=(_ANSWER, _ANSWER))
    (span,) = exporter.get_finished_spans()
    assert (span.name, span.kind) == ("POST /rank", SpanKind.SERVER)
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.end_time - span.start_time == 125_000_000
    assert span.parent is not None
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == ("a" * 32, "b" * 16)
    assert dict(span.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/rank",
        "http.response.status_code": 200,
        "rankgate.request_id": "r1",
        "rankgate.release": "9f2c",
        "rankgate.arm": "stable",
        "rankgate.lists": 2,
        "rankgate.places": 2,
        "rankgate.fallbacks": ("unknown_user",),
        "rankgate.stage.score.seconds": 0.5,
    }


@pytest.mark.parametrize("carrier", [{}, {"traceparent": "nonsense"}])
def test_without_a_trace_of_the_callers_it_begins_one(
    carrier: dict[str, str], traces: Traces, exporter: InMemorySpanExporter
) -> None:
    traces.replied("POST", "/rank", 400, 0.001, carrier=carrier)
    (span,) = exporter.get_finished_spans()
    assert span.parent is None
    assert span.status.status_code is StatusCode.UNSET


def test_a_failure_of_the_service_is_an_error(traces: Traces, exporter: InMemorySpanExporter) -> None:
    traces.replied("POST", "/rank", 500, 0.001, carrier={})
    assert exporter.get_finished_spans()[0].status.status_code is StatusCode.ERROR


@pytest.mark.parametrize("said", [{}, {VARIABLE: ""}, {VARIABLE: "none"}])
def test_nobody_who_does_not_ask_for_traces_has_any(said: dict[str, str]) -> None:
    assert traces_of(said) is None


@pytest.mark.integration
def test_nothing_of_opentelemetry_is_loaded_unless_traces_are_asked_for() -> None:
    code = (
        "import sys; from components.serving.traces import traces_of; traces_of({}); "
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_exporter_that_is_not_installed_is_named_with_its_package() -> None:
    with pytest.raises(FaultyInputError, match=r"pigeon.*console.*opentelemetry-exporter-pigeon"):
        traces_of({VARIABLE: "pigeon"})
    with pytest.raises(FaultyInputError, match="opentelemetry-exporter-otlp-proto-grpc"):
        traces_of({VARIABLE: "otlp", PROTOCOL_VARIABLE: "grpc"})


@pytest.mark.integration
@pytest.mark.parametrize(
    ("installed", "said", "taken"),
    [
        (("otlp_proto_grpc",), {}, "otlp_proto_grpc"),
        (("otlp_proto_http", "otlp_proto_grpc"), {}, "otlp_proto_http"),
        (("otlp_proto_http", "otlp_proto_grpc"), {PROTOCOL_VARIABLE: "grpc"}, "otlp_proto_grpc"),
    ],
)
def test_otlp_is_the_package_that_is_asked_for_else_the_one_that_is_there(
    installed: tuple[str, ...], said: dict[str, str], taken: str, tmp_path: Path
) -> None:
    """Exporters are found as they are installed: by the entry points of a distribution, here one that writes its name."""
    (tmp_path / "pigeons.py").write_text(
        "from opentelemetry.sdk.trace.export import ConsoleSpanExporter\n"
        + "".join(
            f"class {name}(ConsoleSpanExporter):\n"
            f"    def __init__(self): super().__init__(formatter=lambda span: '{name} ' + span.name)\n"
            for name in installed
        )
    )
    metadata = tmp_path / "pigeons-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Name: pigeons\nVersion: 1.0\n")
    points = "".join(f"{name} = pigeons:{name}\n" for name in installed)
    (metadata / "entry_points.txt").write_text(f"[opentelemetry_traces_exporter]\n{points}")
    code = (
        f"from components.serving.traces import traces_of; traces = traces_of({ {VARIABLE: 'otlp', **said}!r}); "
        "traces.replied('POST', '/rank', 200, 0.001, carrier={}); traces.end()"
    )
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parents[3]}{os.pathsep}{tmp_path}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.stdout == f"{taken} POST /rank", done.stderr


@pytest.mark.integration
def test_spans_go_where_the_environment_says() -> None:
    code = (
        "from components.serving.traces import traces_of; traces = traces_of({'OTEL_TRACES_EXPORTER': 'console'}); "
        "traces.replied('POST', '/rank', 200, 0.001, carrier={}); traces.end()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["name"] == "POST /rank"
