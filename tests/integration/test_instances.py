"""The exporter and `top` wait for every instance that runs, and not for those that have ended."""

from __future__ import annotations

import asyncio
import uuid

import msgspec
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from contracts.statistics import SERVICE_PREFIX, InstanceStatistics
from provider.commands.instances import Instances
from provider.nats.connection import Connection
from provider.nats.settings import ConnectionSettings
from tests.blackbox.nats.nats_server import NatsServer

SLOW_SECONDS = 0.3
"""Longer than is waited for instances that are not known, after the known ones have answered."""

FLUSH_SECONDS = 30.0

ENDLESS_SECONDS = 3600.0
"""Longer than a test may take: an answer that is waited for in vain fails it."""


class Service:
    """Stands in for an instance, which answers when it is told to."""

    def __init__(self, client: Client, lattice: str, name: str) -> None:
        self._client = client
        self._answer = msgspec.json.encode(
            {
                "name": f"{SERVICE_PREFIX}x",
                "id": name,
                "version": "1.0.0",
                "data": msgspec.to_builtins(InstanceStatistics(lattice=lattice)),
            }
        )
        self.asked: asyncio.Queue[Msg] = asyncio.Queue()

    async def listen(self) -> None:
        await self._client.subscribe("$SRV.STATS", cb=self.asked.put)
        await self._client.flush()

    async def answer(self, after_seconds: float = 0.0) -> None:
        """Answer the question that has waited longest."""
        asked = await self.asked.get()
        await asyncio.sleep(after_seconds)
        await self._client.publish(asked.reply, self._answer)
        await self._client.flush()


async def test_an_instance_that_was_too_late_once_is_waited_for(lattice_server: NatsServer) -> None:
    lattice = f"lattice-{uuid.uuid4().hex[:12]}"
    settings = ConnectionSettings(servers=(lattice_server.url,))
    client = await nats.connect(lattice_server.url)
    quick, slow = Service(client, lattice, "quick"), Service(client, lattice, "slow")
    async with Connection(settings, "test", FLUSH_SECONDS) as connection:
        instances = Instances(connection, lattice)
        await asyncio.gather(quick.listen(), slow.listen())
        await asyncio.gather(instances.gather(SLOW_SECONDS), quick.answer())
        await slow.answer()  # after the first question has been given up
        await connection.flush(FLUSH_SECONDS)
        found, *_ = await asyncio.gather(instances.gather(ENDLESS_SECONDS), quick.answer(), slow.answer(SLOW_SECONDS))
        assert [instance.id for instance in found] == ["quick", "slow"]
        # One that has ended is waited for once.
        await asyncio.gather(instances.gather(SLOW_SECONDS), quick.answer())
        await connection.flush(FLUSH_SECONDS)
        found, _ = await asyncio.gather(instances.gather(ENDLESS_SECONDS), quick.answer())
        assert [instance.id for instance in found] == ["quick"]
    await client.close()
