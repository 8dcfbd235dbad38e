"""A host of wasmCloud 1.x in a lattice of its own, on the server of the run.

The tests against a real host run only where its binary is named.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.wasmcloud1.host import Wasmcloud1Host
from tests.process.wasmcloud1.real_host import host_binary

collect_ignore = [] if host_binary() else ["test_real_host.py"]


@pytest.fixture
async def host(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Wasmcloud1Host]:
    async with Wasmcloud1Host(nats_server.url, tmp_path) as host:
        yield host
