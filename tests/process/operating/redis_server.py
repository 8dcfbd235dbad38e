"""A real redis-server with a password, and a client for it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import redis

from tests.blackbox.nats.nats_server import free_port
from tests.blackbox.waiting import eventually_blocking

PASSWORD = "hunter/2"


def needs_redis() -> None:
    """Skip a test on a machine without redis-server; where tests must not be skipped, fail it."""
    if shutil.which("redis-server") is None:
        text = "redis-server is not installed (on Debian: apt install redis-server)"
        pytest.fail(text) if os.environ.get("CI") else pytest.skip(text)


class RedisServer:
    """A server in memory, as a context manager that ends it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis(port=self.port, password=PASSWORD)
        self._command = [
            *("redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder)),
            *("--save", "", "--requirepass", PASSWORD),
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
