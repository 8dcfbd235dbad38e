"""Traces and metrics over OTLP. The exporters are loaded only if the host asks for them.

Source: W3C Trace Context; OpenTelemetry SDK for Python.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

from contracts.host import HostData
from contracts.lattice import Invocation
from provider.config import Identity
from provider.nats.frames import header_value

_log = logging.getLogger(__name__)

_CLOSE_SECONDS = 1.0
"""A collector that does not answer must not keep the process from exiting."""

_TRACE_HEADERS = (b"traceparent", b"tracestate")


class Telemetry:
    """The export of one span and one duration per invocation, if it is on.

    It is on if host data or the environment names an OTLP endpoint, and the exporters are installed.
    """

    def __init__(self, host_data: HostData, identity: Identity, environment: Mapping[str, str]) -> None:
        otel = host_data.otel_config
        exporter = otel.traces_exporter or environment.get("OTEL_TRACES_EXPORTER", "")
        endpoint = otel.exporter_otlp_endpoint or environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
        self._exporting: tuple[Any, ...] = ()
        self._tracer: Any = None
        if exporter.lower() != "otlp" or not endpoint:
            return
        try:
            self._start(endpoint, host_data, identity)
        except ImportError:
            _log.warning("telemetry_off", extra={"reason": "install wasmcloud-keyvalue-nats[otel]"})

    @property
    def is_on(self) -> bool:
        return self._tracer is not None

    def invocation(self, invocation: Invocation, header: bytes, seconds: float, error: BaseException | None) -> None:
        """Export an invocation that ended now. Its span is a child of the caller's, if the caller named one."""
        attributes = {"rpc.system": "wasmbus", "rpc.method": invocation.operation}
        if error is not None:
            attributes["error.type"] = type(error).__name__
        self._durations.record(seconds, attributes)
        end_ns = time.time_ns()
        span = self._tracer.start_span(
            invocation.operation,
            context=self._parent(invocation, header),
            kind=self._server_kind,
            start_time=end_ns - int(seconds * 1e9),
            attributes=attributes,
        )
        if error is not None:
            span.set_status(self._error_status)
        span.end(end_ns)

    def close(self) -> None:
        """Export everything that is left, but wait no longer than `_CLOSE_SECONDS`."""
        if self._exporting:
            closing = threading.Thread(target=self._shut_down, daemon=True)
            closing.start()
            closing.join(_CLOSE_SECONDS)

    def _shut_down(self) -> None:
        for exporting in self._exporting:
            exporting.shutdown()

    def _start(self, endpoint: str, host_data: HostData, identity: Identity) -> None:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace import SpanKind, Status, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        base = endpoint.rstrip("/").removesuffix("/v1/traces")
        resource = Resource.create(
            {
                "service.name": "keyvalue-nats",
                "service.version": identity.version,
                "service.instance.id": host_data.instance_id,
            }
        )
        traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{base}/v1/traces")))
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=f"{base}/v1/metrics"))
        metrics = MeterProvider(resource=resource, metric_readers=[reader], shutdown_on_exit=False)
        self._exporting = traces, metrics
        self._durations = metrics.get_meter("keyvalue-nats").create_histogram("rpc.server.duration", "s")
        self._tracer = traces.get_tracer("keyvalue-nats")
        self._propagator = TraceContextTextMapPropagator()
        self._server_kind = SpanKind.SERVER
        self._error_status = Status(StatusCode.ERROR)

    def _parent(self, invocation: Invocation, header: bytes) -> Any:
        carrier = {
            name.decode(): value.decode(errors="replace")
            for name in _TRACE_HEADERS
            if header and (value := header_value(header, name)) is not None
        }
        if not carrier and isinstance(invocation.trace_context, dict):
            carrier = invocation.trace_context
        return self._propagator.extract(carrier)
