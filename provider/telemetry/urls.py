"""The URLs that traces and metrics are exported to: by config_json, the host's data, or the environment. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from contracts.host import HostData
from provider.config import TelemetryConfig

OTLP, OFF = "otlp", "none"
"""The names of exporters that OpenTelemetry defines and this provider knows."""

_GRPC = "the host asks for OTLP over gRPC, and the provider exports over HTTP only"


class ExportUrls(NamedTuple):
    """The URL for each signal; "" if it is off. `problem` is the reason for which a signal that is wanted is off."""

    traces: str = ""
    metrics: str = ""
    problem: str = ""


def export_urls(host_data: HostData, config: TelemetryConfig, environment: Mapping[str, str]) -> ExportUrls:
    """Return the URLs to export to.

    Hosts of 0.x know traces only. Metrics go with them, unless config_json or the environment says otherwise.
    """
    of_host = host_data.otel_config
    asked = of_host.traces_exporter or environment.get("OTEL_TRACES_EXPORTER", "")
    exporters = {
        "traces": config.traces_exporter or asked,
        "metrics": config.metrics_exporter or environment.get("OTEL_METRICS_EXPORTER", "") or asked,
    }
    given = config.otlp_endpoint or of_host.exporter_otlp_endpoint or environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    base = given.rstrip("/").removesuffix("/v1/traces")
    urls = {
        signal: f"{base}/v1/{signal}" if base and exporter.lower() == OTLP else ""
        for signal, exporter in exporters.items()
    }
    if host_data.wasmcloud1 is None:
        return ExportUrls(**urls)
    return _of_wasmcloud1(host_data, config, urls)


def _of_wasmcloud1(host_data: HostData, config: TelemetryConfig, urls: Mapping[str, str]) -> ExportUrls:
    """Return the URLs under a host of 1.x, whose own settings count where the provider's say nothing."""
    assert host_data.wasmcloud1 is not None
    otel = host_data.wasmcloud1.otel
    given = {"traces": config.traces_exporter, "metrics": config.metrics_exporter}
    wanted = {signal: urls[signal] or ("" if given[signal] == OFF else otel.endpoint(signal)) for signal in urls}
    unusable = [signal for signal in wanted if otel.is_grpc and wanted[signal] and not urls[signal]]
    return ExportUrls(**(wanted | dict.fromkeys(unusable, "")), problem=_GRPC if unusable else "")
