"""A stream of several replicas takes one of all attempts at a change, and tells which; once fenced, it takes none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from provider.keyvalue.bucket.bucket import Bucket
from provider.keyvalue.bucket.cas import AlreadyWrittenError
from provider.keyvalue.bucket.entries import Write
from provider.keyvalue.bucket.stream import Traits, open_stream
from provider.keyvalue.clock import ServerClock
from provider.keyvalue.kinds import Kind, Value
from provider.keyvalue.link_config import BucketConfig
from provider.keyvalue.link_values import Consistency
from provider.nats.connection import Connection
from provider.nats.jetstream import JetStream
from provider.nats.settings import ConnectionSettings
from provider.tasks import TaskOwner
from tests.blackbox.nats.cluster import Cluster
from tests.conformance.actor import fresh

SECONDS = 10.0


@pytest_asyncio.fixture(loop_scope="session")
async def bucket(cluster: Cluster) -> AsyncIterator[Bucket]:
    settings = ConnectionSettings(tuple(cluster.urls().split(",")))
    tasks, name = TaskOwner(), fresh("attempts").replace(".", "-")
    async with Connection(settings, "test", SECONDS) as connection:
        jetstream = JetStream(connection)
        info, level = await open_stream(jetstream, BucketConfig(name, replicas=3), deadline())
        yield Bucket(jetstream, name, Traits.from_info(info, level), ServerClock(), tasks, lambda: None)
        await tasks.close()


def deadline() -> float:
    return asyncio.get_running_loop().time() + SECONDS


def attempt(text: str, expected: int, message_id: bytes) -> Write:
    return Write("k", "k", Value(Kind.TEXT, text), text.encode(), text.encode(), expected, message_id=message_id)


async def test_a_second_attempt_learns_the_revision_of_the_first(bucket: Bucket) -> None:
    first = await bucket.write(attempt("first", 0, b"one"), deadline())
    other = await bucket.write(attempt("other", first, b"another"), deadline())
    with pytest.raises(AlreadyWrittenError) as told:
        await bucket.write(attempt("second", other, b"one"), deadline())
    assert told.value.revision == first
    assert await bucket.fence(b"one", deadline()) == first
    assert await bucket.read("k", Consistency.STRONG, deadline()) == Value(Kind.TEXT, "other")


async def test_after_a_fence_no_attempt_is_written(bucket: Bucket) -> None:
    assert await bucket.fence(b"two", deadline()) is None
    with pytest.raises(AlreadyWrittenError):
        await bucket.write(attempt("late", 0, b"two"), deadline())
    assert await bucket.read("k", Consistency.STRONG, deadline()) is None
