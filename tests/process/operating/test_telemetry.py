"""Traces and metrics go to the collector that the host names. Spans are children of the caller's span."""

from __future__ import annotations

import http.server
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from contracts import keyvalue as kv
from contracts.statistics import LATENCY_BOUNDS_SECONDS
from provider.commands.dev_lattice import provider_process
from provider.commands.dev_lattice.start import DevLattice, LatticeSettings, running
from provider.commands.errors import CallFailedError
from provider.telemetry.metrics import CALL_DURATION, METRICS

Received = list[tuple[str, bytes]]


class Stranger(kv.Get, frozen=True):
    """An operation that no provider knows, with a name that a caller has made up."""


class _Collector(http.server.BaseHTTPRequestHandler):
    received: Received

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.received.append((self.path, body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the base class's name)
        """Log nothing."""


@pytest.fixture
def collector() -> Iterator[tuple[str, Received]]:
    received: Received = []
    handler = type("Collector", (_Collector,), {"received": received})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()
        thread.join()


@asynccontextmanager
async def exporting(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], config: dict[str, Any]
) -> AsyncIterator[DevLattice]:
    """Run a lattice whose provider has these environment variables and this `config_json`, and two calls."""
    environment = provider_process._environment() | variables
    monkeypatch.setattr(provider_process, "_environment", lambda: environment)
    async with running(LatticeSettings(log_level="info", config=config)) as lattice:
        await lattice.actor.call(kv.Set("secret-key", "secret-value", 0))
        with pytest.raises(CallFailedError):
            await lattice.actor.call(kv.ListAdd("secret-key", "x"))
        with pytest.raises(CallFailedError):
            await lattice.actor.call(Stranger("secret-key"))
        yield lattice


def bodies(received: Received, signal: str) -> list[bytes]:
    found = [body for path, body in received if path == f"/v1/{signal}"]
    assert not any(b"secret" in body for body in found)
    return found


async def test_traces_and_metrics_reach_the_collector_that_the_host_names(
    collector: tuple[str, Received], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, received = collector
    variables = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": url}
    async with exporting(monkeypatch, variables, {}):
        pass
    traces = b"".join(bodies(received, "traces"))
    assert b"KeyValue.Set" in traces
    assert b"WrongKindError" in traces
    assert b"unknown operation" in traces
    assert bodies(received, "metrics")


async def test_metrics_alone_have_the_names_labels_and_values_of_the_exporter(
    collector: tuple[str, Received], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, received = collector
    config = {"metrics_exporter": "otlp", "otlp_endpoint": url}
    async with exporting(monkeypatch, {}, config) as lattice:
        identity = lattice.identity
    assert not bodies(received, "traces")
    exported = ExportMetricsServiceRequest.FromString(bodies(received, "metrics")[-1]).resource_metrics[0]
    resource = {item.key: item.value.string_value for item in exported.resource.attributes}
    assert resource["wasmcloud.provider_key"] == identity.provider_key
    found = {metric.name: metric for metric in exported.scope_metrics[0].metrics}
    # The others have no value here: nothing was refused, there is no watch and no cache, one replica and no limit.
    without = ("_refused_", "_watch_", "_cache_", "_lease_held", "_limit_bytes")
    expected = {metric.name for metric in METRICS if not any(part in metric.name for part in without)}
    assert expected | {CALL_DURATION} <= found.keys() <= {metric.name for metric in METRICS} | {CALL_DURATION}
    calls = {
        tuple(sorted((item.key, item.value.string_value) for item in point.attributes)): point.as_double
        for point in found["keyvalue_nats_calls_total"].sum.data_points
    }
    common = ("lattice", lattice.settings.lattice)
    assert calls[common, ("operation", "KeyValue.Set"), ("outcome", "ok")] == 1
    assert calls[common, ("operation", "KeyValue.ListAdd"), ("outcome", "WrongKindError")] == 1
    assert found["keyvalue_nats_calls_total"].sum.is_monotonic
    durations = found[CALL_DURATION].histogram.data_points
    assert not any(b"Stranger" in body for body in bodies(received, "metrics")), "names of callers have no bound"
    assert sum(point.count for point in durations) == 2
    assert list(durations[0].explicit_bounds) == list(LATENCY_BOUNDS_SECONDS)
    assert found[CALL_DURATION].unit == "s"


async def test_traces_can_be_had_alone(collector: tuple[str, Received], monkeypatch: pytest.MonkeyPatch) -> None:
    url, received = collector
    variables = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_METRICS_EXPORTER": "none"}
    async with exporting(monkeypatch, variables, {}):
        pass
    assert bodies(received, "traces")
    assert not bodies(received, "metrics")
