"""Traces and metrics go where config_json, the host or the environment says, and each can be had alone."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from contracts.host import HostData, OtelConfig
from contracts.secret import Secret
from contracts.wasmcloud1 import OtelSettings, Wasmcloud1
from provider.config import TelemetryConfig
from provider.telemetry.urls import ExportUrls, export_urls

URL = "http://collector:4318"
BOTH = ExportUrls(f"{URL}/v1/traces", f"{URL}/v1/metrics")
TRACES, METRICS, OFF = BOTH._replace(metrics=""), BOTH._replace(traces=""), ExportUrls()

HOST = HostData(
    host_id="N",
    lattice_rpc_prefix="default",
    link_name="default",
    provider_key="V",
    invocation_seed=Secret(""),
    cluster_issuers=["C"],
)


def asking(**fields: Any) -> HostData:
    return structs.replace(HOST, otel_config=OtelConfig(**fields))


def of_wasmcloud1(**fields: Any) -> HostData:
    return structs.replace(HOST, wasmcloud1=Wasmcloud1(otel=OtelSettings(**fields)))


@pytest.mark.parametrize(
    ("host_data", "config", "environment", "expected"),
    [
        (HOST, {}, {}, OFF),
        (HOST, {}, {"OTEL_EXPORTER_OTLP_ENDPOINT": URL}, OFF),
        (asking(traces_exporter="otlp"), {}, {}, OFF),
        (asking(traces_exporter="OTLP", exporter_otlp_endpoint=f"{URL}/v1/traces"), {}, {}, BOTH),
        (asking(traces_exporter="otlp", exporter_otlp_endpoint=URL), {"metrics_exporter": "none"}, {}, TRACES),
        (asking(traces_exporter="otlp", exporter_otlp_endpoint=URL), {"traces_exporter": "none"}, {}, METRICS),
        (asking(traces_exporter="jaeger", exporter_otlp_endpoint=URL), {}, {}, OFF),
        (HOST, {"metrics_exporter": "otlp", "otlp_endpoint": URL}, {}, METRICS),
        (HOST, {"traces_exporter": "otlp", "otlp_endpoint": f"{URL}/"}, {}, TRACES),
        (HOST, {}, {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": URL}, METRICS),
        (HOST, {}, {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": URL}, BOTH),
        (of_wasmcloud1(), {}, {}, OFF),
        (of_wasmcloud1(enable_observability=True, observability_endpoint=URL), {}, {}, BOTH),
        (of_wasmcloud1(enable_metrics=True, observability_endpoint=URL), {}, {}, METRICS),
        (
            of_wasmcloud1(enable_observability=True, observability_endpoint=URL),
            {"traces_exporter": "none"},
            {},
            METRICS,
        ),
        (of_wasmcloud1(enable_traces=True, traces_endpoint="http://t/x"), {}, {}, ExportUrls(traces="http://t/x")),
    ],
)
def test_each_signal_goes_to_its_url(
    host_data: HostData, config: dict[str, str], environment: dict[str, str], expected: ExportUrls
) -> None:
    assert export_urls(host_data, TelemetryConfig(**config), environment) == expected


def test_grpc_is_not_spoken_and_that_is_told() -> None:
    urls = export_urls(of_wasmcloud1(enable_observability=True, protocol="Grpc"), TelemetryConfig(), {})
    assert (urls.traces, urls.metrics) == ("", "")
    assert "gRPC" in urls.problem
