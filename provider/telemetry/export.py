"""Traces and metrics over OTLP, one without the other if wanted. The exporters are loaded only if one of them is.

Metrics have the names, labels and buckets of the exporter for Prometheus.

Source: W3C Trace Context; OpenTelemetry SDK for Python.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from contracts.host import HostData, HostFamily
from contracts.statistics import LATENCY_BOUNDS_SECONDS, MOST_ROWS, InstanceStatistics
from provider.config import Identity, TelemetryConfig
from provider.nats.frames import header_value
from provider.telemetry.metrics import CALL_DURATION, CALL_DURATION_HELP, METRICS, Metric, MetricKind
from provider.telemetry.urls import ExportUrls, export_urls

_log = logging.getLogger(__name__)

_CLOSE_SECONDS = 1.0
"""A collector that does not answer must not keep the process from exiting."""

_SNAPSHOT_SECONDS = 5.0
"""Interval of the snapshots that are exported: a fraction of the interval of the exports, which is a minute by default."""

_TRACE_HEADERS = (b"traceparent", b"tracestate")

_UNKNOWN = "unknown operation"
"""Name of the span of a call whose operation is not known."""

_UNITS = {"seconds": "s", "bytes": "By"}


class Telemetry:
    """The export of one span and one duration per call, and of the statistics as metrics.

    Attributes:
        is_on: Whether each call is to be told of.
    """

    def __init__(
        self, host_data: HostData, identity: Identity, config: TelemetryConfig, environment: Mapping[str, str]
    ) -> None:
        self.is_on = False
        self._exporting: list[Any] = []
        self._tracer: Any = None
        self._durations: Any = None
        self._lattice = host_data.lattice_rpc_prefix
        self._system = "wrpc" if host_data.family is HostFamily.WASMCLOUD1 else "wasmbus"
        self._describe: Callable[[int], InstanceStatistics] | None = None
        self._latest = InstanceStatistics()
        """The last snapshot: the exporter reads it in a thread of its own, which must not touch the provider's objects."""
        urls = export_urls(host_data, config, environment)
        if urls.problem:
            _log.warning("telemetry_off", extra={"reason": urls.problem})
        try:
            self._start(urls, host_data, identity)
        except ImportError:
            _log.warning("telemetry_off", extra={"reason": "install wasmcloud-keyvalue-nats[otel]"})

    def call(
        self,
        operation: str,
        header: bytes,
        trace_context: dict[str, str] | None,
        seconds: float,
        error: BaseException | None,
    ) -> None:
        """Export a call that ended now. Its span is a child of the caller's, if the caller named one.

        Args:
            operation: Name of the operation; "" for an unknown one, whose name is the caller's and without a bound.
            header: Header block of the message, where the caller's trace is looked for first.
            trace_context: The caller's trace in another place; None without one.
            seconds: Duration of the call.
            error: Error that it ended with; None if it succeeded.
        """
        if self._durations is not None and operation:
            self._durations.record(seconds, {"lattice": self._lattice, "operation": operation})
        if self._tracer is not None:
            self._trace(operation or _UNKNOWN, self._parent(header, trace_context), seconds, error)

    async def follow(self, describe: Callable[[int], InstanceStatistics]) -> None:
        """Take snapshots of the statistics for as long as the provider runs, if metrics are exported."""
        if self._durations is None:
            return
        self._describe = describe
        while True:
            self.snapshot()
            await asyncio.sleep(_SNAPSHOT_SECONDS)

    def snapshot(self) -> None:
        """Take a snapshot of the statistics, if they are followed."""
        if self._describe is not None:
            self._latest = self._describe(MOST_ROWS)

    def close(self) -> None:
        """Export everything that is left, but wait no longer than `_CLOSE_SECONDS`."""
        if self._exporting:
            closing = threading.Thread(target=self._shut_down, daemon=True)
            closing.start()
            closing.join(_CLOSE_SECONDS)

    def _shut_down(self) -> None:
        for exporting in self._exporting:
            exporting.shutdown()

    def _start(self, urls: ExportUrls, host_data: HostData, identity: Identity) -> None:
        if not urls.traces and not urls.metrics:
            return
        from opentelemetry.sdk.resources import Resource

        resource = Resource.create(
            {
                "service.name": "keyvalue-nats",
                "service.version": identity.version,
                "service.instance.id": host_data.instance_id or host_data.host_id,
                "wasmcloud.lattice": host_data.lattice_rpc_prefix,
                "wasmcloud.host_id": host_data.host_id,
                "wasmcloud.provider_key": host_data.provider_key,
            }
        )
        if urls.traces:
            self._start_traces(urls.traces, resource)
        if urls.metrics:
            self._start_metrics(urls.metrics, resource)
        self.is_on = True

    # --- traces

    def _start_traces(self, url: str, resource: Any) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace import SpanKind, Status, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)))
        self._exporting.append(traces)
        self._tracer = traces.get_tracer("keyvalue-nats")
        self._propagator = TraceContextTextMapPropagator()
        self._server_kind = SpanKind.SERVER
        self._error_status = Status(StatusCode.ERROR)

    def _trace(self, operation: str, parent: Any, seconds: float, error: BaseException | None) -> None:
        attributes = {"rpc.system": self._system, "rpc.method": operation}
        if error is not None:
            attributes["error.type"] = type(error).__name__
        end_ns = time.time_ns()
        span = self._tracer.start_span(
            operation,
            context=parent,
            kind=self._server_kind,
            start_time=end_ns - int(seconds * 1e9),
            attributes=attributes,
        )
        if error is not None:
            span.set_status(self._error_status)
        span.end(end_ns)

    def _parent(self, header: bytes, trace_context: dict[str, str] | None) -> Any:
        carrier = {
            name.decode(): value.decode(errors="replace")
            for name in _TRACE_HEADERS
            if header and (value := header_value(header, name)) is not None
        }
        return self._propagator.extract(carrier or trace_context or {})

    # --- metrics

    def _start_metrics(self, url: str, resource: Any) -> None:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.metrics import Observation
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

        reader = PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=url))
        provider = MeterProvider(resource=resource, metric_readers=[reader], shutdown_on_exit=False)
        self._exporting.append(provider)
        meter = provider.get_meter("keyvalue-nats")
        for metric in METRICS:
            is_counter = metric.kind is MetricKind.COUNTER
            create = meter.create_observable_counter if is_counter else meter.create_observable_gauge
            callback = self._observer(metric, Observation)
            create(metric.name, callbacks=[callback], unit=_unit(metric.name), description=metric.help)
        self._durations = meter.create_histogram(
            CALL_DURATION,
            unit=_unit(CALL_DURATION),
            description=CALL_DURATION_HELP,
            explicit_bucket_boundaries_advisory=LATENCY_BOUNDS_SECONDS,
        )

    def _observer(self, metric: Metric, observation: Any) -> Callable[[Any], Iterable[Any]]:
        """Return the function that the exporter calls for the values of a metric."""
        lattice = {"lattice": self._lattice}

        def observe(options: Any) -> Iterable[Any]:
            for labels, value in metric.samples(self._latest).items():
                yield observation(float(value), lattice | dict(zip(metric.labels, labels, strict=True)))

        return observe


def _unit(name: str) -> str:
    """Return the unit of a metric, which its name ends in, as OpenTelemetry writes it."""
    return _UNITS.get(name.removesuffix("_total").rpartition("_")[2], "")
