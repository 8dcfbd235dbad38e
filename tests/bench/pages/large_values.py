"""Processes that put and get large values through the provider's own engine, each with one JSON object as its result.

python -m tests.bench.pages.large_values fill NATS_URL BUCKET ELEMENTS     puts the large set, the large list and a text
python -m tests.bench.pages.large_values live NATS_URL BUCKET              counts the pages that the large values reach
python -m tests.bench.pages.large_values texts NATS_URL BUCKET BYTES       puts and gets a text, and an object of nats-py
"""

from __future__ import annotations

import asyncio
import contextlib
import io
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


async def texts(nats_url: str, bucket: str, size: int) -> dict[str, Any]:
    """Put and get a text with the engine of the provider, without the way of the call, and in turn with nats-py's object store."""
    payload = b"x" * size
    value = Value(Kind.TEXT, payload.decode())
    connection = await nats.connect(nats_url)
    store = await connection.jetstream().create_object_store(bucket)
    async with _opened(nats_url, bucket) as to:

        async def get() -> None:
            found = [piece async for piece in to.payload(_TEXT_KEY, Consistency.LEADER)]
            assert sum(map(len, found)) == size

        async def get_object() -> None:
            read = io.BytesIO()  # without it, nats-py joins the pieces one by one, in the square of the time
            await store.get("object", read)
            assert len(read.getbuffer()) == size

        seconds: dict[str, list[float]] = {}
        for _ in range(_ROUNDS):
            for name, work in (
                ("stored_put", lambda: to.put_value(_TEXT_KEY, value, 0, is_forced=True)),
                ("stored_get", get),
                ("objects_put", lambda: store.put("object", payload)),
                ("objects_get", get_object),
            ):
                seconds.setdefault(name, []).append(await _seconds(work))
            # Both write upon a disk that is as busy.
            await store.delete("object")
            await _remove(to, _TEXT_KEY)
    await connection.jetstream().delete_object_store(bucket)
    await connection.close()
    return {
        kind: {f"{what}_seconds": median(seconds[f"{kind}_{what}"]) for what in ("put", "get")}
        for kind in ("stored", "objects")
    }


async def _remove(bucket: OpenBucket, key: str) -> None:
    """Delete a value, and its pages at once."""
    await bucket.delete(key)
    remover = bucket.bucket.paging.store.remover
    await eventually(lambda: remover.waiting, "the removal of the pages to be planned")
    await remover.make_room(remover.times_made_room, asyncio.get_running_loop().time() + _PATIENCE_SECONDS)


async def _seconds(work: Callable[[], Awaitable[object]]) -> float:
    started = time.perf_counter()
    await work()
    return time.perf_counter() - started


_WORK: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "fill": fill,
    "live": live,
    "texts": texts,
}


async def _work(name: str, nats_url: str, bucket: str, *numbers: int) -> None:
    write_json(await _WORK[name](nats_url, bucket, *numbers))


if __name__ == "__main__":
    name, nats_url, bucket, *numbers = sys.argv[1:]
    uvloop.run(_work(name, nats_url, bucket, *map(int, numbers)))
