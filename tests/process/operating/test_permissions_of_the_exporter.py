"""The exporter and `top` need two permissions, and say so when one is missing."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.blackbox.nats.nats_server import NatsServer
from tests.process.operating.exporter_process import run, series_of, total

CONFIG = """
authorization {
  users: [
    {user: monitor, password: m, permissions: {publish: ["$SRV.STATS"], subscribe: ["_INBOX.>"]}}
    {user: other, password: o, permissions: {publish: ["other"], subscribe: ["_INBOX.>"]}}
  ]
}
"""


async def test_two_permissions_are_enough_and_a_missing_one_is_named(tmp_path: Path) -> None:
    with NatsServer(tmp_path / "nats-server", CONFIG) as server:
        once = ("exporter", "--once", "--wait", "0.5s", "--nats")
        address = server.url.removeprefix("nats://")
        allowed, refused, shown = await asyncio.gather(
            asyncio.to_thread(run, *once, f"nats://monitor:m@{address}"),
            asyncio.to_thread(run, *once, f"nats://other:o@{address}"),
            asyncio.to_thread(run, "top", "--count", "1", "--nats", f"nats://other:o@{address}"),
        )
    assert allowed.returncode == 3, "no instance runs"
    assert total(series_of(allowed.stdout), "keyvalue_nats_exporter_nats_up") == 1
    assert refused.returncode == shown.returncode == 1
    assert total(series_of(refused.stdout), "keyvalue_nats_exporter_nats_up") == 0
    assert "permissions violation" in refused.stderr.lower()
    assert "$SRV.STATS" in refused.stderr
    assert "$SRV.STATS" in shown.stderr
    assert "other:o" not in refused.stderr + shown.stderr
