"""Bodies of requests and answers that are never whole in memory: cut anywhere, too long, broken off, not read."""

from __future__ import annotations

import asyncio

import pytest

from provider.state_proxy import file_operations as ops
from tests.component.served_dictionary import (
    PIECE,
    STREAM,
    STREAM_BYTES,
    GatedStore,
    Open,
    connect,
    put,
    read_all,
    read_head,
    serve,
    store,
)

__all__ = ["connect", "serve", "store"]

LARGE_CHUNK = b"2bf20\r\n" + b"x" * 180_000


@pytest.mark.parametrize(
    "parts",
    [
        (put("a", 180_000), b"x" * 180_000),
        (put("a", 180_000), b"x" * 170_000, b"x" * 10_000),
        (STREAM, LARGE_CHUNK + b"\r\n0\r\n\r\n"),
    ],
    ids=["by length", "with a pause", "in chunks"],
)
async def test_a_body_that_is_not_received_whole_comes_to_its_operation_in_parts(
    connect: Open, store: GatedStore, parts: tuple[bytes, ...]
) -> None:
    reader, writer = await connect()
    for part in parts:
        writer.write(part)
        await asyncio.sleep(0.01)
    writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
    assert (await read_head(reader)).startswith(b"HTTP/1.1 204 ")
    assert (await read_head(reader)).startswith(b"HTTP/1.1 200 ")
    assert store.values == {"a": b"x" * 180_000}


@pytest.mark.parametrize(
    "sent", [put("a", 180_000) + b"x" * 170_000, STREAM + LARGE_CHUNK, STREAM + LARGE_CHUNK + b"\r\nno"]
)
async def test_a_body_whose_parts_end_too_early_is_not_stored(connect: Open, store: GatedStore, sent: bytes) -> None:
    reader, writer = await connect()
    writer.write(sent)
    await store.begun.wait()
    writer.write_eof()
    assert (await read_all(reader)).startswith(b"HTTP/1.1 400 ")
    assert store.values == {}


async def test_a_body_that_exceeds_the_limit_in_its_parts_is_refused(connect: Open, store: GatedStore) -> None:
    reader, writer = await connect()
    writer.write(STREAM + LARGE_CHUNK + b"\r\n")
    await store.begun.wait()
    writer.write(LARGE_CHUNK + b"\r\n0\r\n\r\n")
    everything = await read_all(reader)
    assert everything.startswith(b"HTTP/1.1 413 ")
    assert b"over 200000 bytes, a limit of the test" in everything
    assert store.values == {}


async def test_an_operation_may_refuse_a_body_before_it_has_come(connect: Open, store: GatedStore) -> None:
    reader, writer = await connect()
    writer.write(put("refused", 180_000) + b"x" * 100_000)
    assert (await read_head(reader)).startswith(b"HTTP/1.1 409 ")
    writer.write(b"x" * 80_000)
    await read_all(reader)


async def test_an_answer_is_sent_while_it_is_read(connect: Open, store: GatedStore) -> None:
    store.pieces["a"] = 20
    reader, writer = await connect()
    writer.write(b"GET /keys/a HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert b"Content-Length: 10000000\r\n" in await read_head(reader)
    assert await read_all(reader) == 20 * PIECE
    assert store.failed == []


@pytest.mark.parametrize("readable", [0, 1, 5])
async def test_an_answer_that_cannot_be_read_to_its_end_is_an_error_or_too_short(
    connect: Open, store: GatedStore, readable: int
) -> None:
    store.pieces["a"] = readable
    reader, writer = await connect()
    writer.write(b"GET /keys/a HTTP/1.1\r\n\r\n")
    head = await read_head(reader)
    assert head.startswith(b"HTTP/1.1 200 " if readable else b"HTTP/1.1 503 ")
    if readable:
        assert await read_all(reader) == readable * PIECE
    assert store.failed == [ops.ReadFile("a")]


async def test_a_client_that_reads_only_a_part_of_an_answer_keeps_no_turn(connect: Open, store: GatedStore) -> None:
    store.pieces["a"] = 20
    reader, writer = await connect()
    writer.write(b"GET /keys/a HTTP/1.1\r\n\r\n")
    await read_head(reader)
    reader._transport.pause_reading()  # type: ignore[attr-defined]
    async with asyncio.timeout(5):
        while True:  # until the first client is disconnected
            other, other_writer = await connect()
            other_writer.write(b"GET /keys/a HTTP/1.1\r\nConnection: close\r\n\r\n")
            everything = await read_all(other)
            if everything.startswith(b"HTTP/1.1 200 "):
                break
    assert everything.endswith(20 * PIECE)
    reader._transport.resume_reading()  # type: ignore[attr-defined]
    assert len(await read_all(reader)) < STREAM_BYTES
