"""Processes that put and get large values through the provider's own engine, each with one JSON object as its result.

python -m tests.bench.pages.large_values fill NATS_URL BUCKET ELEMENTS     puts the large set, the large list and a text
python -m tests.bench.pages.large_values live NATS_URL BUCKET              counts the pages that the large values reach
python -m tests.bench.pages.large_values text NATS_URL BUCKET BYTES        puts and gets a text
python -m tests.bench.pages.large_values objects NATS_URL BUCKET BYTES     does the same with nats-py's object store
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from statistics import median
from typing import Any

import nats
import uvloop

from provider.commands.kv.open_bucket import OpenBucket, opened
from provider.keyvalue.bucket.pages.paged_value import Head
from provider.keyvalue.kinds import Kind, Value
from provider.keyvalue.link_values import Consistency
from provider.nats.connection import Connection
from provider.nats.jetstream import JetStream
from provider.nats.settings import ConnectionSettings
from tests.bench.load_generator import write_json
from tests.bench.workloads import (
    LARGE_LIST_KEY,
    LARGE_SET_KEY,
    RANGE_ELEMENTS,
    RANGE_TEXT_KEY,
    element_name,
    member_name,
)
from tests.blackbox.waiting import eventually

_PATIENCE_SECONDS = 120.0
_ROUNDS = 5
"""Odd, so that the median is one of them. The first ones also warm up the server's files."""

_TEXT_KEY = "bench.large.text"


@contextlib.asynccontextmanager
async def _opened(nats_url: str, bucket: str) -> AsyncIterator[OpenBucket]:
    async with (
        Connection(ConnectionSettings((nats_url,)), "bench", 5) as connection,
        opened(JetStream(connection), bucket, _PATIENCE_SECONDS) as open_bucket,
    ):
        yield open_bucket


async def fill(nats_url: str, bucket: str, elements: int) -> dict[str, Any]:
    """Put a set and a list of so many elements, and a text as large as the ranges of the list that are read."""
    text = "".join(map(element_name, range(RANGE_ELEMENTS)))
    values = {
        LARGE_SET_KEY: Value(Kind.SET, dict.fromkeys(map(member_name, range(elements)))),
        LARGE_LIST_KEY: Value(Kind.LIST, list(map(element_name, range(elements)))),
        RANGE_TEXT_KEY: Value(Kind.TEXT, text),
    }
    started = time.perf_counter()
    async with _opened(nats_url, bucket) as to:
        for key, value in values.items():
            await to.put_value(key, value, 0, is_forced=True)
    return {"seconds": time.perf_counter() - started}


async def live(nats_url: str, bucket: str) -> dict[str, Any]:
    """Count the pages that the large set and the large list reach."""
    pages = 0
    async with _opened(nats_url, bucket) as at:
        for key in (LARGE_SET_KEY, LARGE_LIST_KEY):
            deadline = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
            entry = await at.bucket.read_entry(key, Consistency.STRONG, deadline)
            assert entry.value is not None
            assert isinstance(entry.value.data, Head), f"{key} has no pages"
            pages += len(await at.bucket.paging.reachable(key, entry.value.data, deadline))
    return {"pages": pages}


async def text(nats_url: str, bucket: str, size: int) -> dict[str, Any]:
    """Put and get a text with the engine of the provider: what its store takes, without the way of the call."""
    value = Value(Kind.TEXT, "x" * size)
    async with _opened(nats_url, bucket) as to:

        async def get() -> None:
            found = [piece async for piece in to.payload(_TEXT_KEY, Consistency.LEADER)]
            assert sum(map(len, found)) == size

        async def clean_up() -> None:
            """Remove the pages at once, as the object store does, so that both write upon a disk that is as busy."""
            await to.delete(_TEXT_KEY)
            remover = to.bucket.paging.store.remover
            await eventually(lambda: remover.waiting, "the removal of the pages to be planned")
            await remover.make_room(remover.times_made_room, asyncio.get_running_loop().time() + _PATIENCE_SECONDS)

        return await _medians(lambda: to.put_value(_TEXT_KEY, value, 0, is_forced=True), get, clean_up)


async def objects(nats_url: str, bucket: str, size: int) -> dict[str, Any]:
    """Put and get an object with nats-py."""
    payload = b"x" * size
    connection = await nats.connect(nats_url)
    store = await connection.jetstream().create_object_store(bucket)

    async def get() -> None:
        found = await store.get("object")
        assert len(found.data or b"") == size

    measured = await _medians(lambda: store.put("object", payload), get, lambda: store.delete("object"))
    await connection.jetstream().delete_object_store(bucket)
    await connection.close()
    return measured


async def _medians(
    put: Callable[[], Awaitable[object]], get: Callable[[], Awaitable[None]], clean_up: Callable[[], Awaitable[object]]
) -> dict[str, Any]:
    puts, gets = [], []
    for _ in range(_ROUNDS):
        puts.append(await _seconds(put))
        gets.append(await _seconds(get))
        await clean_up()
    return {"put_seconds": median(puts), "get_seconds": median(gets)}


async def _seconds(work: Callable[[], Awaitable[object]]) -> float:
    started = time.perf_counter()
    await work()
    return time.perf_counter() - started


_WORK: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "fill": fill,
    "live": live,
    "text": text,
    "objects": objects,
}


async def _work(name: str, nats_url: str, bucket: str, *numbers: int) -> None:
    write_json(await _WORK[name](nats_url, bucket, *numbers))


if __name__ == "__main__":
    name, nats_url, bucket, *numbers = sys.argv[1:]
    uvloop.run(_work(name, nats_url, bucket, *map(int, numbers)))
