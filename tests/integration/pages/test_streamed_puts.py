"""Values that are put while they arrive: any size, any cut, other writers and broken streams in between."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from provider import errors
from provider.keyvalue.bucket.engine import Engine
from provider.keyvalue.bucket.pages.garbage.collector import Collector
from provider.keyvalue.bucket.pages.garbage.page_list import Part, pages_by_key
from provider.keyvalue.bucket.streams.streamed_put import StreamedPut
from provider.keyvalue.conditional import Delete, Put
from provider.keyvalue.kinds import Kind
from provider.keyvalue.payloads import encode_payload
from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.waiting import eventually
from tests.integration.pages.open_pages import Opened, open_pages, soon

PIECE = 512 * 1024
LARGE = b"0123456789abcdef" * 150_000
"""2.4 MB: five pages and a node above them."""

Meanwhile = Callable[[], Awaitable[object]]


@contextlib.asynccontextmanager
async def opened_engine(server: NatsServer, **config: Any) -> AsyncIterator[tuple[Opened, Engine]]:
    async with open_pages(server.url, **config) as opened:
        engine = Engine(opened.bucket, opened.tasks, opened.bucket.paging.writer)
        yield opened, engine
        engine.close()


async def parts_of(value: bytes, size: int, meanwhile: Meanwhile | None = None) -> AsyncIterator[bytes]:
    """Yield a value in parts, and do something else in the middle."""
    for start in range(0, len(value), size):
        if meanwhile is not None and start >= len(value) // 2:
            await meanwhile()
            meanwhile = None
        yield value[start : start + size]


async def read(opened: Opened, key: str) -> tuple[Kind, bytes] | None:
    entry = await opened.bucket.read_latest(key, soon())
    entry = await opened.bucket.paging.reader.whole("a read", key, key, entry, soon())
    return None if entry.value is None else (entry.value.kind, encode_payload(entry.value))


async def has_pages(opened: Opened, count: int) -> None:
    """Wait until the stream has some number of pages, and no more."""

    async def is_so() -> bool:
        stream = await opened.pages.to_read(soon())
        assert stream is not None
        return sum(map(len, (await pages_by_key(stream, Part(0, 1))).values())) == count

    await eventually(is_so, f"{count} pages")


@pytest.mark.parametrize(
    ("value", "kind", "part_bytes"),
    [
        (b"x", Kind.TEXT, 1),
        (b"x" * PIECE, Kind.TEXT, 100_000),
        (b"x" * (PIECE + 1), Kind.TEXT, PIECE + 1),
        ("ß".encode() * PIECE + b"x", Kind.TEXT, 65_537),
        (b"x" * (PIECE + 5) + b"\xff", Kind.BINARY, 100_000),
        ("ß".encode() * PIECE + "ß".encode()[:1], Kind.BINARY, 100_000),
        (b"0123456789abcdef" * 600_000, Kind.TEXT, 1_000_000),
    ],
    ids=["byte", "page", "page+1", "cut-character", "binary-end", "half-character", "many-pages"],
)
async def test_a_value_is_read_as_it_came(
    lattice_server: NatsServer, value: bytes, kind: Kind, part_bytes: int
) -> None:
    async with opened_engine(lattice_server) as (opened, engine):
        response = await StreamedPut(opened.bucket, engine, Put("k", b""), "k", soon).run(parts_of(value, part_bytes))
        assert response.success
        assert (await opened.bucket.read_latest("k", soon())).revision == response.revision
        assert await read(opened, "k") == (kind, value)
        # The engine goes on with the value like with any other.
        assert (await engine.change(Put("k", b"small"), "k", soon())).success
        assert (await engine.change(Delete("k"), "k", soon())).success


async def test_a_stream_that_breaks_off_changes_nothing_and_leaves_nothing(lattice_server: NatsServer) -> None:
    async with opened_engine(lattice_server) as (opened, engine):

        async def break_off() -> None:
            raise ConnectionResetError

        for key in ("new", "old"):
            if key == "old":
                await engine.change(Put(key, b"before"), key, soon())
            with pytest.raises(ConnectionResetError):
                await StreamedPut(opened.bucket, engine, Put(key, b""), key, soon).run(
                    parts_of(LARGE, 100_000, break_off)
                )
        assert await read(opened, "new") is None
        assert await read(opened, "old") == (Kind.TEXT, b"before")
        await has_pages(opened, 0)


@pytest.mark.parametrize("has_value", [False, True])
async def test_another_writer_in_between_is_overwritten_with_new_pages(
    lattice_server: NatsServer, has_value: bool
) -> None:
    async with opened_engine(lattice_server) as (opened, engine):
        if has_value:
            await engine.change(Put("k", b"before"), "k", soon())
        put = StreamedPut(opened.bucket, engine, Put("k", b""), "k", soon)
        other = lambda: engine.change(Put("k", b"between"), "k", soon())  # noqa: E731
        assert (await put.run(parts_of(LARGE, 100_000, other))).success
        assert await read(opened, "k") == (Kind.TEXT, LARGE)
        await has_pages(opened, 6)


async def test_a_condition_is_checked_before_the_first_page_and_with_the_head(lattice_server: NatsServer) -> None:
    async with opened_engine(lattice_server) as (opened, engine):
        first = (await engine.change(Put("k", b"before"), "k", soon())).revision

        async def put(revision: int, meanwhile: Meanwhile | None = None) -> bool:
            request = Put("k", b"", revision=revision)
            parts = parts_of(LARGE, 100_000, meanwhile)
            return (await StreamedPut(opened.bucket, engine, request, "k", soon).run(parts)).success

        assert not await put(0)
        assert not await put(first + 1)
        assert opened.pages.found is None, "no page was written"
        assert not await put(first, lambda: engine.change(Put("k", b"between"), "k", soon()))
        assert await read(opened, "k") == (Kind.TEXT, b"between")
        await has_pages(opened, 0)
        await engine.change(Delete("k"), "k", soon())
        assert await put(0)
        assert await read(opened, "k") == (Kind.TEXT, LARGE)


@pytest.mark.parametrize("has_value", [False, True])
async def test_the_collector_ends_a_put_that_pauses_for_too_long(lattice_server: NatsServer, has_value: bool) -> None:
    async with opened_engine(lattice_server) as (opened, engine):
        if has_value:
            await engine.change(Put("k", b"before"), "k", soon())
        collector = Collector(opened.bucket, opened.pages, opened.bucket.paging.reachable, 0.05)

        async def collect() -> None:
            await has_pages(opened, 2)
            for _ in range(2):
                assert await collector.round()
                await asyncio.sleep(0.1)
            await has_pages(opened, 0)

        put = StreamedPut(opened.bucket, engine, Put("k", b""), "k", soon)
        with pytest.raises(errors.StoreUnreachableError, match=r"pages were removed .* nothing was changed"):
            await put.run(parts_of(LARGE, 100_000, collect))
        assert await read(opened, "k") == ((Kind.TEXT, b"before") if has_value else None)
        await has_pages(opened, 0)


async def test_a_limit_ends_the_put_while_the_value_arrives(lattice_server: NatsServer) -> None:
    async with opened_engine(lattice_server, max_value_bytes=1_200_000) as (opened, engine):
        seen = 0

        async def parts() -> AsyncIterator[bytes]:
            nonlocal seen
            while True:
                seen += 100_000
                yield b"x" * 100_000

        with pytest.raises(errors.ValueTooLargeError, match="MAX_VALUE_SIZE"):
            await StreamedPut(opened.bucket, engine, Put("k", b""), "k", soon).run(parts())
        assert seen < 2_000_000
        await has_pages(opened, 0)
