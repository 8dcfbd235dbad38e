"""The collector removes pages that no head reaches, after two rounds, and never one that a head reaches or may still reach."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from provider import errors
from provider.keyvalue.bucket.entries import EXPECTED_REVISION, FENCE
from provider.keyvalue.bucket.pages.garbage import collector as collector_module
from provider.keyvalue.bucket.pages.garbage.collector import Collector
from provider.keyvalue.bucket.pages.garbage.turn import Turn
from provider.keyvalue.bucket.pages.head import encode_head
from provider.keyvalue.bucket.pages.page_codec import Child, encode_elements, encode_node, hash_prefix
from provider.keyvalue.bucket.pages.paged_value import Head, PageId, page_prefix
from provider.keyvalue.bucket.pages.pages_stream import Look
from provider.keyvalue.bucket.reading.stored_form import KIND, OPERATION_ID
from provider.keyvalue.kinds import Kind
from provider.nats.frames import header_block, header_value
from provider.nats.headers import ttl_seconds
from provider.nats.jetstream import StoredMessage
from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.waiting import eventually
from tests.integration.pages.open_pages import Opened, open_pages, soon

GRACE_SECONDS = 0.05


class Writer(NamedTuple):
    """A provider that writes pages and heads step by step, so that it can be paused between them."""

    opened: Opened
    key: str

    async def put(self, operation: str, count: int = 1) -> list[PageId]:
        """Write leaves with one element each, and above them, if there are several, a node."""
        prefix = page_prefix(self.key, operation.encode())
        pages = {PageId(f"{prefix}{n}"): encode_elements([f"{operation}{n}"]) for n in range(count)}
        if count > 1:
            children = [Child(page_id, 1, len(page)) for page_id, page in pages.items()]
            root = PageId(f"{prefix}{count}")
            pages[root] = encode_node(children, hash_prefix(root), is_set=False)
        await self.opened.store.write(self.key, pages, 0, soon())
        await asyncio.sleep(0.002)  # a head of the same millisecond would not count as younger
        return list(pages)

    async def commit(self, operation: str, pages: list[PageId], expected: int, *more: tuple[bytes, bytes]) -> int:
        count = max(1, len(pages) - 1)
        head = Head(kind=Kind.LIST, root=pages[-1], height=1 if len(pages) == 1 else 2, count=count, size=count)
        pairs = (OPERATION_ID, operation.encode()), (KIND, b"paged"), (EXPECTED_REVISION, b"%d" % expected), *more
        return await self.opened.jetstream.publish(self._subject, encode_head(head), header_block(*pairs), soon())

    async def put_small(self, value: bytes, *pairs: tuple[bytes, bytes]) -> int:
        header = header_block(*pairs) if pairs else b""
        return await self.opened.jetstream.publish(self._subject, value, header, soon())

    async def last(self) -> StoredMessage:
        message = await self.opened.jetstream.last_message(self.opened.bucket.stream, self._subject, soon())
        assert message is not None
        return message

    async def has(self, pages: list[PageId]) -> list[bool]:
        """Tell which pages are in the stream, without the cache."""
        name, prefix = self.opened.pages.name, f"$KV.{self.opened.bucket.name}=pages."
        found = [await self.opened.jetstream.last_message(name, prefix + page_id, soon()) for page_id in pages]
        return [message is not None for message in found]

    @property
    def _subject(self) -> str:
        return f"$KV.{self.opened.bucket.name}.{self.key}"


@contextlib.asynccontextmanager
async def collected(server: NatsServer, grace: float = GRACE_SECONDS) -> AsyncIterator[tuple[Writer, Collector]]:
    async with open_pages(server.url) as opened:
        yield Writer(opened, "k"), collector_of(opened, grace)


def collector_of(opened: Opened, grace: float = GRACE_SECONDS) -> Collector:
    return Collector(opened.bucket, opened.pages, opened.bucket.paging.reachable, grace)


async def two_rounds(collector: Collector, grace: float = GRACE_SECONDS) -> None:
    assert await collector.round()
    await asyncio.sleep(grace)
    assert await collector.round()


async def test_pages_of_a_crash_go_and_those_of_the_value_stay(lattice_server: NatsServer) -> None:
    async with collected(lattice_server) as (writer, collector):
        orphans = await writer.put("op-1", 3)  # a writer that died before its head
        pages = await writer.put("op-2", 3)
        revision = await writer.commit("op-2", pages, 0)
        await two_rounds(collector)
        assert await writer.has(orphans + pages) == [False] * 4 + [True] * 4
        # The head is younger than the pages, and one server has stored both: no fence.
        assert (await writer.last()).sequence == revision


async def test_a_second_round_within_the_grace_period_removes_nothing(lattice_server: NatsServer) -> None:
    async with collected(lattice_server, 60.0) as (writer, collector):
        orphans = await writer.put("op-1")
        for _ in range(3):
            assert await collector.round()
        assert await writer.has(orphans) == [True]


async def test_pages_of_a_key_without_a_message_go_without_a_fence(lattice_server: NatsServer) -> None:
    async with collected(lattice_server) as (writer, collector):
        orphans = await writer.put("op-1", 3)
        await two_rounds(collector)
        assert await writer.has(orphans) == [False] * 4
        assert (await writer.opened.jetstream.stream_info(writer.opened.bucket.stream, soon())).state.messages == 0


async def test_a_writer_that_was_paused_before_its_head_cannot_commit_once_its_pages_are_gone(
    lattice_server: NatsServer,
) -> None:
    async with collected(lattice_server) as (writer, collector):
        pages = await writer.put("op-1", 2)
        revision = await writer.commit("op-1", pages, 0)
        before = await writer.last()
        paused = await writer.put("op-2", 2)
        await two_rounds(collector)
        assert await writer.has(pages + paused) == [True] * 3 + [False] * 3
        fence = await writer.last()
        assert fence.payload == before.payload
        assert header_value(fence.header, OPERATION_ID) == b"op-1"
        assert header_value(fence.header, FENCE) == b"%d" % revision
        with pytest.raises(errors.ApiError, match="wrong last sequence"):
            await writer.commit("op-2", paused, revision)


async def test_a_writer_that_commits_between_the_rounds_keeps_its_pages(lattice_server: NatsServer) -> None:
    async with collected(lattice_server) as (writer, collector):
        pages = await writer.put("op-1", 2)
        assert await collector.round()
        await writer.commit("op-1", pages, 0)
        await two_rounds(collector)
        assert await writer.has(pages) == [True] * 3
        assert collector.removed == 0


async def test_pages_of_a_head_that_another_client_has_overwritten_go(lattice_server: NatsServer) -> None:
    async with collected(lattice_server) as (writer, collector):
        pages = await writer.put("op-1", 2)
        await writer.commit("op-1", pages, 0)
        revision = await writer.put_small(b"text")
        await two_rounds(collector)
        assert await writer.has(pages) == [False] * 3
        assert (await writer.last()).sequence == revision


@pytest.mark.parametrize(
    ("kind", "value"), [(b"paged", b"{}"), (b"paged", b'{"kind":"map"}'), (b"paged-2", b"x")], ids=repr
)
async def test_a_message_of_a_later_version_may_reach_any_page(
    lattice_server: NatsServer, kind: bytes, value: bytes
) -> None:
    async with collected(lattice_server) as (writer, collector):
        pages = await writer.put("op-1", 2)
        await writer.put_small(value, (KIND, kind))
        await two_rounds(collector)
        assert await writer.has(pages) == [True] * 3


async def test_an_inner_page_that_cannot_be_read_ends_the_round_for_its_key(lattice_server: NatsServer) -> None:
    async with collected(lattice_server) as (writer, _):
        pages = await writer.put("op-1", 2)
        await writer.commit("op-1", pages, 0)
        other = Writer(writer.opened, "other")
        orphans = await other.put("op-2")
        root = pages[-1]
        prefix = f"$KV.{writer.opened.bucket.name}=pages."
        await writer.opened.jetstream.publish(prefix + root, b"damaged", header_block((b"Kv-Page-Of", b"k")), soon())
        async with open_pages(lattice_server.url, name=writer.opened.bucket.name) as opened:  # with an empty cache
            await two_rounds(collector_of(opened))
        assert await writer.has(pages) == [True] * 3
        assert await other.has(orphans) == [False]


async def test_nothing_is_collected_for_a_grace_period_after_the_bucket_was_made_anew(
    lattice_server: NatsServer,
) -> None:
    async with collected(lattice_server, 0.5) as (writer, collector):
        pages = await writer.put("op-1", 2)
        await writer.commit("op-1", pages, 0)
        orphans = await writer.put("op-2")
        assert await collector.round()
        head = await writer.last()
        config = (await writer.opened.jetstream.stream_info(head_stream(writer), soon())).config
        await writer.opened.jetstream.api(f"STREAM.DELETE.{head_stream(writer)}", None, soon())
        await writer.opened.jetstream.create_stream(
            {"name": config.name, "subjects": config.subjects, "max_msgs_per_subject": 1, "allow_direct": True}, soon()
        )
        await asyncio.sleep(0.5)  # the grace period for the orphans, which an older copy of the bucket may reach
        assert not await collector.round()
        await writer.opened.jetstream.publish(head.subject, head.payload, header_block((KIND, b"paged")), soon())
        assert await writer.has(pages + orphans) == [True] * 4


def head_stream(writer: Writer) -> str:
    return writer.opened.bucket.stream


async def test_pages_of_values_that_are_all_gone_are_collected_by_a_process_that_knew_none(
    lattice_server: NatsServer,
) -> None:
    async with collected(lattice_server) as (writer, _):
        pages = await writer.put("op-1", 3)
        async with open_pages(lattice_server.url, name=writer.opened.bucket.name) as opened:
            await two_rounds(collector_of(opened))
        assert await writer.has(pages) == [False] * 4


async def test_one_of_several_instances_collects(lattice_server: NatsServer) -> None:
    async with (
        collected(lattice_server) as (writer, collector),
        open_pages(lattice_server.url, name=writer.opened.bucket.name) as opened,
    ):
        other = collector_of(opened)
        assert not await other.round()  # there are no pages yet, nor a stream of them
        await writer.put("op-1")
        assert await collector.round()
        assert not await other.round()
        assert await collector.round()


async def test_another_instance_takes_over_when_a_turn_has_ended(lattice_server: NatsServer) -> None:
    async with collected(lattice_server) as (writer, _):
        await writer.put("op-1")
        pages, deadline = await writer.opened.pages.to_write(soon()), soon()
        first, second, now_ms = Turn(60.0), Turn(60.0), writer.opened.clock.now_ms()
        assert await first.take(pages, now_ms, deadline)
        assert not await second.take(pages, now_ms, deadline)
        assert await first.take(pages, now_ms + 30_000, deadline)
        assert not await second.take(pages, now_ms + 80_000, deadline)
        assert await second.take(pages, now_ms + 90_001, deadline)
        assert not await first.take(pages, now_ms + 90_002, deadline)
        assert await first.take(pages, now_ms + 90_002, deadline, is_urgent=True)
        # A clock that was years ahead, or another client.
        assert await first.take(pages, now_ms + 10**11, deadline)
        assert await second.take(pages, now_ms, deadline)


async def test_streams_that_went_back_or_were_made_anew_are_others() -> None:
    look = Look("created", "bucket created", 10, 20)
    assert Look("created", "bucket created", 10, 25).follows(look)
    for other in (
        Look("later", "bucket created", 10, 20),
        Look("created", "later", 10, 20),
        Look("created", "bucket created", 9, 20),
        Look("created", "bucket created", 10, 19),
    ):
        assert not other.follows(look)


async def test_pages_of_a_value_after_its_end_go(lattice_server: NatsServer) -> None:
    async with collected(lattice_server) as (writer, collector):
        pages = await writer.put("op-1", 2)
        ended_ms = writer.opened.clock.now_ms() - 10_000
        revision = await writer.commit("op-1", pages, 0, (b"Expires-At", b"%d" % ended_ms))
        await two_rounds(collector)
        assert await writer.has(pages) == [False] * 3
        assert (await writer.last()).sequence == revision, "the head is younger than its pages"


async def test_a_fence_keeps_the_end_of_a_message(lattice_server: NatsServer) -> None:
    async with collected(lattice_server) as (writer, collector):
        await writer.put_small(b"text", (b"Nats-TTL", b"3600s"))
        orphans = await writer.put("op-1")
        await two_rounds(collector)
        assert await writer.has(orphans) == [False]
        fence = await writer.last()
        assert (fence.sequence, fence.payload) == (2, b"text")
        ttl = header_value(fence.header, b"Nats-TTL") or b""
        assert 3500 < ttl_seconds(ttl) <= 3600


async def test_a_full_stream_is_collected_at_once_whoever_had_the_turn(
    lattice_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("_FIRST_SECONDS", 0.0), ("_CHECK_SECONDS", 0.02), ("_FULL_SECONDS", 0.02)):
        monkeypatch.setattr(collector_module, name, value)
    async with (
        open_pages(lattice_server.url, max_bytes=1_000_000) as killed,
        open_pages(lattice_server.url, name=killed.bucket.name) as opened,
    ):
        store, page = opened.bucket.paging.store, b"x" * 300_000
        pages = [{PageId(f"{page_prefix(key, b'op')}0"): page} for key in "abcd"]
        for key, one in zip("abc", pages, strict=False):
            await killed.store.write(key, one, 0, soon())
        assert await collector_of(killed).round()
        collecting = asyncio.create_task(collector_of(opened).run())

        async def is_stored() -> bool:
            try:
                return await store.write("d", pages[3], 0, soon()) > 0
            except errors.StoreFullError:
                return False

        assert not await is_stored()
        await eventually(is_stored, "the pages of the instance that has ended to make room")
        collecting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await collecting


async def test_a_stream_that_grows_fast_is_collected_before_its_time(
    lattice_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("_FIRST_SECONDS", 0.0), ("_CHECK_SECONDS", 0.02), ("_GROWTH_BYTES", 5000)):
        monkeypatch.setattr(collector_module, name, value)
    async with collected(lattice_server) as (writer, collector):
        first = await writer.put("op-1")
        collecting = asyncio.create_task(collector.run())

        async def are_gone(pages: list[PageId]) -> bool:
            await writer.opened.pages.look(soon())  # as the store does every ten seconds
            return not any(await writer.has(pages))

        await eventually(lambda: are_gone(first), "the garbage of before the first round to be removed")
        few = await writer.put("op-2")
        many = await writer.put("op-3", 50)
        await eventually(lambda: are_gone(few + many), "the garbage to be removed long before the next round is due")
        collecting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await collecting
