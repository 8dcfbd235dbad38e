"""The state of the stream of a bucket in a cluster: its leader, and the replicas that have not caught up."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats.errors
from nats.aio.client import Client

from tests.blackbox.nats.patient_client import patient_client
from tests.blackbox.waiting import eventually
from tests.conformance.stored import StoredBucket

_PATIENCE_SECONDS = 20.0


@asynccontextmanager
async def cluster_client(urls: list[str], replicas: int) -> AsyncIterator[Client]:
    """Connect to the cluster, once it accepts streams with this number of replicas."""
    client = await patient_client(urls)

    async def is_ready() -> bool:
        try:
            async with asyncio.timeout(0.5):  # a cluster without a leader answers nothing
                await StoredBucket(client, f"probe-{uuid.uuid4().hex[:8]}").create(num_replicas=replicas)
        except (nats.errors.Error, TimeoutError, AssertionError):
            return False
        return True

    try:
        await eventually(is_ready, "a cluster that accepts streams", _PATIENCE_SECONDS)
        yield client
    finally:
        await client.close()


async def leader_of(client: Client, bucket: str) -> str:
    """Wait until a bucket's stream has a leader, and return the name of its server."""

    async def name() -> str:
        try:
            info = await StoredBucket(client, bucket).info()
        except nats.errors.Error:
            return ""
        found: str = info.get("cluster", {}).get("leader", "")
        return found

    leader: str = await eventually(name, "a leader", _PATIENCE_SECONDS)
    return leader


async def lagging(client: Client, bucket: str, replicas: int) -> list[str] | None:
    """Return the names of the servers whose replicas have not caught up, or `None` without an answer."""
    try:
        info = await StoredBucket(client, bucket).info()
    except nats.errors.Error:
        return None
    others = info.get("cluster", {}).get("replicas", [])
    return [replica["name"] for replica in others if not replica["current"]] if len(others) == replicas - 1 else None


async def all_current(client: Client, bucket: str, replicas: int, deadline_seconds: float = _PATIENCE_SECONDS) -> None:
    """Wait until all replicas have caught up."""

    async def are_current() -> bool:
        return await lagging(client, bucket, replicas) == []

    await eventually(are_current, "replicas that have caught up", _PATIENCE_SECONDS)
