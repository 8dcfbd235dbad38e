"""Many keys in one call: complete however the server splits its answer, and an error beyond the limit of a call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec import structs

from provider import errors
from provider.keyvalue.bucket.bucket import Bucket
from provider.keyvalue.bucket.entries import Write
from provider.keyvalue.bucket.stream import Traits, open_stream
from provider.keyvalue.clock import ServerClock
from provider.keyvalue.kinds import Kind, Value
from provider.keyvalue.link_config import BucketConfig
from provider.keyvalue.link_values import Consistency
from provider.keyvalue.values import MANY_BYTES
from provider.nats.connection import Connection
from provider.nats.jetstream import JetStream
from provider.nats.settings import ConnectionSettings
from provider.tasks import TaskOwner
from tests.blackbox.nats.nats_server import NatsServer
from tests.integration.conftest import MakeServer

SECONDS = 10.0


def deadline() -> float:
    return asyncio.get_running_loop().time() + SECONDS


@asynccontextmanager
async def filled_bucket(server: NatsServer, count: int, text: str) -> AsyncIterator[tuple[Bucket, list[str]]]:
    """Yield a bucket with the same text under many keys, and the keys."""
    settings, tasks = ConnectionSettings((server.url,)), TaskOwner()
    async with Connection(settings, "test", SECONDS) as connection:
        jetstream = JetStream(connection)
        info, level = await open_stream(jetstream, BucketConfig("many"), deadline())
        bucket = Bucket(jetstream, "many", Traits.from_info(info, level), ServerClock(), tasks, lambda: None)
        keys = [f"k{number}" for number in range(count)]
        value = Value(Kind.TEXT, text)
        for key in keys:
            await bucket.write(Write(key, key, value, text.encode(), b"op", None), deadline())
        yield bucket, keys
        await tasks.close()


async def test_no_key_is_missing_from_an_answer_that_the_server_splits(make_server: MakeServer) -> None:
    """The values are just within the limit. With their headers, which the server counts too, they are over it."""
    server = make_server()
    server.start()
    count = 1000
    text = "x" * (MANY_BYTES // count)
    async with filled_bucket(server, count, text) as (bucket, keys):
        found = await bucket.read_many([*keys, "missing", keys[0]], Consistency.STRONG, deadline())
        assert [entry.value.data if entry.value else None for entry in found] == [text] * count + [None, text]


@pytest.mark.parametrize("is_snapshot", [True, False])
async def test_values_over_the_limit_of_one_call_are_an_error_that_names_it(
    make_server: MakeServer, is_snapshot: bool
) -> None:
    server = make_server()
    server.start()
    async with filled_bucket(server, 20, "x" * 900_000) as (bucket, keys):
        if not is_snapshot:
            bucket.traits = structs.replace(bucket.traits, allows_direct=False)
        with pytest.raises(errors.TooMuchAtOnceError) as caught:
            await bucket.read_many(keys, Consistency.STRONG, deadline())
        assert caught.value.maximum == MANY_BYTES
        assert len(await bucket.read_many(keys[:18], Consistency.STRONG, deadline())) == 18


async def test_many_long_keys_are_read_in_as_many_requests_as_necessary(lattice_server: NatsServer) -> None:
    async with filled_bucket(lattice_server, 3, "x") as (bucket, keys):
        long = ["k" * 3000 + str(number) for number in range(700)]
        entries = await bucket.read_many([*long, *keys], Consistency.STRONG, deadline())
    values = [entry.value for entry in entries]
    assert values[: len(long)] == [None] * len(long)
    assert [value is not None for value in values[len(long) :]] == [True] * len(keys)
