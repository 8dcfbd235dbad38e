"""A connector on a server of its own, which the test may stop. It runs as in a pod."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.blackbox.connector_process import ConnectorProcess, UnixConnection
from tests.blackbox.nats.nats_buckets import make_bucket
from tests.blackbox.nats.nats_server import NatsServer
from tests.process.state_proxy.started import BUCKET, variables


@pytest.fixture
def server(own_nats_server: NatsServer) -> NatsServer:
    make_bucket(own_nats_server.url, BUCKET)
    return own_nats_server


@pytest.fixture
def connector(server: NatsServer, tmp_path: Path) -> Iterator[ConnectorProcess]:
    with ConnectorProcess(tmp_path, variables(server.url, KUBERNETES_SERVICE_HOST="10.0.0.1")) as started:
        yield started


@pytest.fixture
def client(connector: ConnectorProcess) -> Iterator[UnixConnection]:
    with connector.connection() as connection:
        yield connection
