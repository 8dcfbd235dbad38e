"""The health of a bucket follows its connection, and does not wait for the next look at the stream."""

from __future__ import annotations

import asyncio

import pytest

from provider.keyvalue.bucket import store as bucket_store
from provider.keyvalue.link_config import parse_link
from provider.keyvalue.pool import StorePool
from provider.nats.connection import Connection
from provider.nats.settings import ConnectionSettings
from provider.tasks import TaskOwner
from tests.blackbox.waiting import eventually
from tests.integration.conftest import MakeServer

OFTEN_SECONDS, NEVER_SECONDS = 0.05, 3600.0


async def test_a_bucket_is_well_as_soon_as_its_connection_is_back(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make_server()
    server.start()
    monkeypatch.setattr(bucket_store, "_REFRESH_SECONDS", OFTEN_SECONDS)
    settings = ConnectionSettings((server.url,))
    async with Connection(settings, "health", 5) as connection, StorePool(TaskOwner(), connection, "health") as pool:
        link = pool.acquire(parse_link({"BUCKET": "b"}, lattice="l", link_name="n", lattice_connection=settings))
        shared = link.shared
        assert isinstance(shared, bucket_store.BucketStore)
        await eventually(lambda: shared.statistics.is_open, "an open bucket")
        server.stop()
        await eventually(lambda: shared._reason, "a look at the stream without a server")
        monkeypatch.setattr(bucket_store, "_REFRESH_SECONDS", NEVER_SECONDS)
        await asyncio.sleep(1)  # the look that has begun ends
        assert link.unhealthy is not None
        server.start()
        await eventually(lambda: link.unhealthy is None, "good health", 30)
