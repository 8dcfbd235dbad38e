"""A real redis-server with a password, and a client for it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import redis

from tests.blackbox.nats.nats_server import free_port
from tests.blackbox.waiting import eventually_blocking

PASSWORD = "hunter/2"

_SLOTS = 16384
"""Shares of the keys of a cluster. Source: the specification of Redis Cluster."""


def needs_redis() -> None:
    """Skip a test on a machine without redis-server; where tests must not be skipped, fail it."""
    if shutil.which("redis-server") is None:
        text = "redis-server is not installed (on Debian: apt install redis-server)"
        pytest.fail(text) if os.environ.get("CI") else pytest.skip(text)


class RedisServer:
    """A server in memory, as a context manager that ends it. `more` are options of its own."""

    def __init__(self, folder: Path, *more: str) -> None:
        folder.mkdir()
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client: Any = redis.Redis(port=self.port, password=PASSWORD)
        self._command = [
            *("redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder)),
            *("--save", "", "--requirepass", PASSWORD, *more),
        ]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually_blocking(self._answers, "an answer of redis-server")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        self._process.terminate()
        self._process.wait(10)

    def reads(self) -> int:
        """Return the number of texts that clients have read."""
        found: dict[str, Any] = self.client.info("commandstats").get("cmdstat_get", {})
        return int(found.get("calls", 0))

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Freeze the server."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False


@contextmanager
def cluster(folder: Path, count: int) -> Iterator[list[RedisServer]]:
    """Run a cluster of so many masters, each with its share of the slots."""
    with ExitStack() as stack:
        buses = [free_port() for _ in range(count)]
        servers = [
            stack.enter_context(
                RedisServer(folder / f"redis-{bus}", "--cluster-enabled", "yes", "--cluster-port", str(bus))
            )
            for bus in buses
        ]
        share = _SLOTS // count
        for number, server in enumerate(servers):
            end = _SLOTS if number == count - 1 else (number + 1) * share
            server.client.execute_command("CLUSTER ADDSLOTSRANGE", number * share, end - 1)
            servers[0].client.execute_command("CLUSTER MEET", "127.0.0.1", server.port, buses[number])
        eventually_blocking(lambda: all(map(_is_whole, servers)), "a whole cluster", 20)
        yield servers


def _is_whole(server: RedisServer) -> bool:
    return bool(server.client.cluster("INFO")["cluster_state"] == "ok")
