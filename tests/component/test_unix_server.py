"""The connector's server with slow, vanished, greedy and many clients. The socket is real, the bucket a dictionary."""

from __future__ import annotations

import asyncio

import pytest

from provider.state_proxy import file_operations as ops
from provider.state_proxy.conversation import ClientLimits
from tests.blackbox.waiting import eventually
from tests.component.served_dictionary import (
    LIMITS,
    MAX_BODY_BYTES,
    STREAM,
    GatedStore,
    Open,
    Serve,
    connect,
    put,
    read_all,
    read_head,
    serve,
    store,
)

__all__ = ["connect", "serve", "store"]


async def test_pipelined_requests_are_answered_in_order(connect: Open) -> None:
    reader, writer = await connect()
    writer.write(
        put("a", 3)
        + b"one"
        + b"GET /keys/a HTTP/1.1\r\n\r\n"
        + put("a", 3)
        + b"two"
        + b"GET /keys/a HTTP/1.1\r\nConnection: close\r\n\r\n"
    )
    everything = await read_all(reader)
    assert everything.count(b"204 No Content") == 2
    assert everything.index(b"one") < everything.index(b"two")
    assert everything.endswith(b"two")


async def test_an_idle_client_is_disconnected_without_an_answer(connect: Open) -> None:
    reader, _ = await connect()
    assert await read_all(reader) == b""


UNFINISHED = [
    b"GET /keys/a HT",
    put("a", 5) + b"ab",
    b"PUT /keys/a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
]


async def test_an_unfinished_head_times_out(connect: Open, store: GatedStore) -> None:
    reader, writer = await connect()
    writer.write(UNFINISHED[0])
    assert (await read_all(reader)).startswith(b"HTTP/1.1 408 ")
    assert store.operations == []


@pytest.mark.parametrize("sent", UNFINISHED)
async def test_a_request_that_ends_too_early_is_refused_and_nothing_is_stored(
    connect: Open, store: GatedStore, sent: bytes
) -> None:
    reader, writer = await connect()
    writer.write(sent)
    writer.write_eof()
    assert (await read_all(reader)).startswith(b"HTTP/1.1 400 ")
    assert store.values == {}


async def test_a_request_that_begins_behind_another_has_the_same_time_limit(serve: Serve) -> None:
    async with serve(ClientLimits(idle_seconds=60, head_seconds=0.1, tick_seconds=0.01)) as (_, connect):
        reader, writer = await connect()
        writer.write(b"GET /healthz HTTP/1.1\r\n\r\nGET /heal")
        everything = await read_all(reader)
    assert everything.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 408 " in everything


@pytest.mark.parametrize(
    ("parts", "stored"),
    [
        ((put("a", 6), b"one", b"two"), b"onetwo"),
        ((STREAM, b"3\r\none\r\n", b"3\r\ntwo\r\n0\r\n\r\n"), b"onetwo"),
        ((STREAM, b"11170\r\n" + b"x" * 70_000, b"\r\n0\r\n", b"\r\n"), b"x" * 70_000),
    ],
    ids=["by length", "in chunks", "a large stream"],
)
async def test_a_body_may_pause_for_longer_than_any_limit(
    connect: Open, store: GatedStore, parts: tuple[bytes, ...], stored: bytes
) -> None:
    reader, writer = await connect()
    for part in parts:
        writer.write(part)
        await asyncio.sleep(2 * LIMITS.ending_seconds)
    assert (await read_head(reader)).startswith(b"HTTP/1.1 204 ")
    assert store.values == {"a": stored}


async def test_a_refused_stream_may_go_on_for_any_time_and_its_client_reads_the_answer(connect: Open) -> None:
    reader, writer = await connect()
    writer.write(STREAM)
    for _ in range(8):
        writer.write(b"186a0\r\n" + b"x" * 100_000 + b"\r\n")
        await writer.drain()
        await asyncio.sleep(LIMITS.idle_seconds)
    writer.write(b"0\r\n\r\n")
    await writer.drain()
    assert (await read_all(reader)).startswith(b"HTTP/1.1 413 ")


async def test_streams_that_pause_leave_room_for_other_bodies(connect: Open, store: GatedStore) -> None:
    paused, paused_writer = await connect()
    paused_writer.write(STREAM + b"186a0\r\n" + b"x" * 100_000)
    await paused_writer.drain()
    second, second_writer = await connect()
    second_writer.write(STREAM + b"186a0\r\n" + b"x" * 100_000)
    assert (await read_head(second)).startswith(b"HTTP/1.1 503 ")
    third, third_writer = await connect()
    third_writer.write(put("b", 100_000) + b"b" * 100_000)
    assert (await read_head(third)).startswith(b"HTTP/1.1 204 ")
    paused_writer.write(b"\r\n0\r\n\r\n")
    assert (await read_head(paused)).startswith(b"HTTP/1.1 204 ")
    assert store.values.keys() == {"a", "b"}


async def test_a_client_that_has_closed_its_sending_side_is_answered(connect: Open) -> None:
    reader, writer = await connect()
    writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
    writer.write_eof()
    assert (await read_all(reader)).startswith(b"HTTP/1.1 200 ")


async def test_a_client_that_does_not_read_its_answer_is_disconnected(serve: Serve, store: GatedStore) -> None:
    store.values["a"] = b"x" * 10_000_000
    async with serve(LIMITS) as (server, connect):
        reader, writer = await connect()
        writer.write(b"GET /keys/a HTTP/1.1\r\n\r\n")
        assert (await read_head(reader)).startswith(b"HTTP/1.1 200 ")
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await eventually(lambda: not server._conversations, "the end of the connection")
        reader._transport.resume_reading()  # type: ignore[attr-defined]
        assert len(await read_all(reader)) < 10_000_000


async def test_a_body_over_the_limit_is_refused_before_it_is_sent(connect: Open, store: GatedStore) -> None:
    reader, writer = await connect()
    writer.write(put("a", MAX_BODY_BYTES + 1))
    assert (await read_head(reader)).startswith(b"HTTP/1.1 413 ")
    assert store.values == {}


async def test_a_chunked_body_is_refused_as_soon_as_it_exceeds_the_limit(connect: Open, store: GatedStore) -> None:
    reader, writer = await connect()
    writer.write(b"PUT /keys/a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    for _ in range(MAX_BODY_BYTES // 0x8000 + 1):
        writer.write(chunk)
    assert (await read_head(reader)).startswith(b"HTTP/1.1 413 ")
    assert store.values == {}


async def test_the_rest_of_a_refused_request_is_read_so_that_its_client_can_read_the_refusal(connect: Open) -> None:
    reader, writer = await connect()
    writer.write(put("a", 5_000_000) + b"x" * 5_000_000)
    async with asyncio.timeout(5):
        await writer.drain()
    assert (await read_all(reader)).startswith(b"HTTP/1.1 413 ")


async def test_a_client_that_expects_a_100_continue_gets_it(connect: Open, store: GatedStore) -> None:
    reader, writer = await connect()
    writer.write(put("a", 3, "Expect: 100-continue\r\n"))
    assert await read_head(reader) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"abc")
    assert (await read_head(reader)).startswith(b"HTTP/1.1 204 ")
    assert store.values == {"a": b"abc"}


async def test_a_client_that_expects_a_100_continue_is_refused_before_it_sends_too_much(connect: Open) -> None:
    reader, writer = await connect()
    writer.write(put("a", MAX_BODY_BYTES + 1, "Expect: 100-continue\r\n"))
    assert (await read_all(reader)).startswith(b"HTTP/1.1 413 ")


async def test_a_refused_request_with_a_small_body_does_not_end_the_connection(connect: Open) -> None:
    reader, writer = await connect()
    writer.write(
        b"PUT /meta/a HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}" + b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n"
    )
    everything = await read_all(reader)
    assert everything.startswith(b"HTTP/1.1 400 ")
    assert b"HTTP/1.1 200 " in everything


async def test_a_connection_over_the_limit_replaces_one_whose_client_has_its_answer(serve: Serve) -> None:
    async with serve(ClientLimits(connections=3, tick_seconds=0.01)) as (_, connect):
        silent, silent_writer = await connect()
        opened = [await connect() for _ in range(2)]
        for reader, writer in opened:
            writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
            assert (await read_head(reader)).startswith(b"HTTP/1.1 200 ")
        reader, writer = await connect()
        writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert (await read_head(reader)).startswith(b"HTTP/1.1 200 ")
        assert (await read_all(opened[0][0])).endswith(b"{}")
        silent_writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert (await read_head(silent)).startswith(b"HTTP/1.1 200 ")


async def test_while_all_connections_are_busy_further_ones_wait(connect: Open, store: GatedStore) -> None:
    store.gate.clear()
    opened = [await connect() for _ in range(LIMITS.connections + LIMITS.waiting_connections)]
    for _, writer in opened:
        writer.write(b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n")
    refused, _ = await connect()
    assert (await read_all(refused)).startswith(b"HTTP/1.1 503 ")
    assert len(store.operations) <= LIMITS.connections
    store.gate.set()
    for reader, _ in opened:
        assert (await read_all(reader)).startswith(b"HTTP/1.1 200 ")


async def test_the_number_of_large_bodies_in_memory_is_limited(connect: Open, store: GatedStore) -> None:
    store.gate.clear()
    first, first_writer = await connect()
    first_writer.write(put("a", 100_000) + b"a" * 100_000)
    await store.begun.wait()
    second, second_writer = await connect()
    second_writer.write(put("b", 100_000) + b"b" * 100_000)
    assert (await read_head(second)).startswith(b"HTTP/1.1 503 ")
    store.gate.set()
    assert (await read_head(first)).startswith(b"HTTP/1.1 204 ")
    third, third_writer = await connect()
    third_writer.write(put("c", 100_000) + b"c" * 100_000)
    assert (await read_head(third)).startswith(b"HTTP/1.1 204 ")
    assert store.values.keys() == {"a", "c"}


async def test_the_number_of_large_answers_in_memory_is_limited_and_no_client_keeps_a_turn_for_ever(
    connect: Open, store: GatedStore
) -> None:
    store.values |= {"large": b"x" * 10_000_000, "small": b"s"}
    first, writer = await connect()
    first._transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(b"GET /keys/large HTTP/1.1\r\n\r\n")
    await store.begun.wait()
    second, second_writer = await connect()
    second_writer.write(b"GET /keys/large HTTP/1.1\r\n\r\n")
    assert (await read_head(second)).startswith(b"HTTP/1.1 503 ")
    assert store.failed == [ops.ReadFile("large")]
    second_writer.write(b"GET /keys/small HTTP/1.1\r\n\r\n")
    assert (await read_head(second)).endswith(b"\r\n\r\n")
    async with asyncio.timeout(5):
        while True:  # until the first client, which never reads, is disconnected
            third, third_writer = await connect()
            third_writer.write(b"GET /keys/large HTTP/1.1\r\nConnection: close\r\n\r\n")
            everything = await read_all(third)
            if everything.startswith(b"HTTP/1.1 200 "):
                break
    assert everything.endswith(b"x" * 10_000_000)
    first._transport.resume_reading()  # type: ignore[attr-defined]
    assert len(await read_all(first)) < 10_000_000


async def test_a_large_answer_that_has_to_wait_is_dropped_and_read_again(serve: Serve, store: GatedStore) -> None:
    store.values["a"] = b"old" * 30_000
    async with serve(ClientLimits(large_bodies=1, tick_seconds=0.01)) as (server, connect):
        await server.turns.bodies.acquire()
        reader, writer = await connect()
        writer.write(b"GET /keys/a HTTP/1.1\r\nConnection: close\r\n\r\n")
        await store.begun.wait()
        await eventually(lambda: server.turns.bodies._waiters, "a conversation that waits for a turn")
        store.values["a"] = b"new" * 30_000
        server.turns.bodies.release()
        assert (await read_all(reader)).endswith(b"\r\n\r\n" + b"new" * 30_000)
    assert store.operations == [ops.ReadFile("a")] * 2


async def test_a_client_that_vanishes_does_not_affect_others(connect: Open, store: GatedStore) -> None:
    store.gate.clear()
    _, gone = await connect()
    gone.write(put("a", 3) + b"abc")
    await store.begun.wait()
    gone.transport.abort()
    store.gate.set()
    reader, writer = await connect()
    writer.write(b"GET /keys/a HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert (await read_all(reader)).endswith(b"abc")


async def test_an_unexpected_exception_fails_only_its_request(connect: Open, caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = await connect()
    writer.write(b"GET /keys/absent HTTP/1.1\r\n\r\nGET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n")
    everything = await read_all(reader)
    assert everything.startswith(b"HTTP/1.1 500 ")
    assert b"KeyError" in everything
    assert b"HTTP/1.1 200 " in everything
    assert "request_failed" in caplog.text


async def test_closing_finishes_requests_under_way_and_closes_idle_connections(serve: Serve, store: GatedStore) -> None:
    async with serve(ClientLimits(idle_seconds=60, tick_seconds=0.01)) as (server, connect):
        idle, _ = await connect()
        busy, writer = await connect()
        store.gate.clear()
        writer.write(put("a", 3) + b"abc")
        await store.begun.wait()
        ending = asyncio.ensure_future(server.__aexit__(None, None, None))
        assert await read_all(idle) == b""
        assert not ending.done()
        store.gate.set()
        everything = await read_all(busy)
        await ending
    assert everything.startswith(b"HTTP/1.1 204 ")
    assert b"Connection: close" in everything
    assert store.values == {"a": b"abc"}


async def test_closing_does_not_wait_for_ever(serve: Serve, store: GatedStore) -> None:
    store.gate.clear()
    async with asyncio.timeout(5), serve(LIMITS) as (_, connect):
        reader, writer = await connect()
        writer.write(put("a", 3) + b"abc")
        await store.begun.wait()
    assert await read_all(reader) == b""
