"""A span for each request, where OpenTelemetry's own variables ask for one; nothing is loaded, and nothing costs, without them.

    OTEL_TRACES_EXPORTER     console, otlp, or any other exporter that is installed; none or absent: no traces
    OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_..., OTEL_BSP_...: as its SDK reads them

The span is made once the answer is sent, with the moments that it began and ended, and belongs to the trace that the caller's
`traceparent` names. OpenTelemetry's own ASGI middleware costs a request four times as much, sampled or not.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from components.errors import Fault, FaultyInputError
from components.serving.contract import Answer

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

VARIABLE = "OTEL_TRACES_EXPORTER"
PROTOCOL_VARIABLE = "OTEL_EXPORTER_OTLP_PROTOCOL"
CARRIED = ("traceparent", "tracestate")
"""Headers that say which trace a request belongs to."""
_GROUP = "opentelemetry_traces_exporter"
_OTLP = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}


class Traces:
    """Makes the spans of one service."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("rankgate.serving")
        self._context = TraceContextTextMapPropagator()

    def replied(
        self,
        method: str,
        route: str,
        status: int,
        seconds: float,
        *,
        carrier: Mapping[str, str],
        answers: Sequence[Answer] = (),
    ) -> None:
        """Make the span of a request that has just been answered.

        Args:
            method: Of HTTP.
            route: The service's own name of it.
            status: Of the answer.
            seconds: That it took, until now.
            carrier: Those of the headers `CARRIED` that the request has.
            answers: The lists that it was answered with; spans name neither users nor items.
        """
        from opentelemetry.trace import SpanKind, Status, StatusCode

        ended = time.time_ns()
        said: dict[str, Any] = {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
        }
        if answers:
            first = answers[0]
            said |= {
                "rankgate.request_id": first.request_id,
                "rankgate.release": first.release,
                "rankgate.arm": first.arm,
                "rankgate.lists": len(answers),
                "rankgate.places": sum(len(answer.places) for answer in answers),
                "rankgate.fallbacks": sorted({reason for answer in answers for reason in answer.fallbacks}),
            }
            for answer in answers:
                for stage, took in answer.stages.items():
                    name = f"rankgate.stage.{stage}.seconds"
                    said[name] = said.get(name, 0.0) + took
        span = self._tracer.start_span(
            f"{method} {route}",
            context=self._context.extract(carrier),
            kind=SpanKind.SERVER,
            attributes=said,
            start_time=ended - round(seconds * 1e9),
        )
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end(ended)

    def end(self) -> None:
        """Export what waits, for two seconds at most."""
        self._provider.force_flush(2_000)


def traces_of(environment: Mapping[str, str]) -> Traces | None:
    """What the environment asks for; None where that is nothing.

    Raises:
        FaultyInputError: If it names an exporter that is not installed.
    """
    asked = [name.strip() for name in environment.get(VARIABLE, "").split(",")]
    asked = [name for name in asked if name not in ("", "none")]
    if not asked:
        return None
    installed = {found.name: found for found in entry_points(group=_GROUP)}
    names = [_exporter(name, environment, installed) for name in asked]
    if missing := [name for name in names if name not in installed]:
        needed = f"installed exporters: {', '.join(sorted(installed))}"
        raise FaultyInputError(
            "traces",
            [
                Fault(VARIABLE, name, needed, f"Add opentelemetry-exporter-{name.replace('_', '-')} to the image.")
                for name in missing
            ],
        )
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(shutdown_on_exit=False)
    for name in names:
        provider.add_span_processor(BatchSpanProcessor(installed[name].load()()))
    return Traces(provider)


def _exporter(name: str, environment: Mapping[str, str], installed: Mapping[str, object]) -> str:
    """`otlp` is one of two packages: the one that is asked for, else the one that is there."""
    if name != "otlp":
        return name
    asked = _OTLP.get(environment.get(PROTOCOL_VARIABLE, ""))
    there = [package for package in _OTLP.values() if package in installed]
    return asked or (there or ["otlp_proto_http"])[0]
