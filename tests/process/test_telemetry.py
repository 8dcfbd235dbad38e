"""Traces and metrics go to the collector that the host names. Spans are children of the caller's span."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from contracts import keyvalue as kv
from provider.commands.dev_lattice import provider_process
from provider.commands.dev_lattice.start import LatticeSettings, running
from provider.commands.errors import CallFailedError

Received = list[tuple[str, bytes]]


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


async def test_traces_and_metrics_reach_the_collector_that_the_host_names(
    collector: tuple[str, Received], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, received = collector
    environment = provider_process._environment()
    exporting = environment | {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": url}
    monkeypatch.setattr(provider_process, "_environment", lambda: exporting)
    async with running(LatticeSettings(log_level="info")) as lattice:
        await lattice.actor.call(kv.Set("secret-key", "secret-value", 0))
        with pytest.raises(CallFailedError):
            await lattice.actor.call(kv.ListAdd("secret-key", "x"))
    traces = b"".join(body for path, body in received if path == "/v1/traces")
    metrics = b"".join(body for path, body in received if path == "/v1/metrics")
    for exported in (traces, metrics):
        assert b"KeyValue.Set" in exported
        assert b"WrongKindError" in exported
        assert b"secret" not in exported
