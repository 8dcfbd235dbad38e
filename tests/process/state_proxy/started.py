"""Connectors that tests of the start and the end run, on a server of their own."""

from __future__ import annotations

from pathlib import Path

from tests.blackbox.connector_process import ConnectorProcess

BUCKET = "state"


def variables(url: str, **more: str | None) -> dict[str, str | None]:
    return {"NATS_URL": url, "NATS_KV_BUCKET": BUCKET} | more


def refusal(folder: Path, environment: dict[str, str | None]) -> str:
    """Start a connector that must end by itself, and return the one line it prints."""
    with ConnectorProcess(folder, environment, is_ready=False) as connector:
        assert connector.exited() == 1
        assert connector.stderr.count("\n") == 1, connector.stderr
        return connector.stderr
