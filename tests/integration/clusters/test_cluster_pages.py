"""Pages with three replicas: as many as the bucket's, collected, and never called absent by a server that is cut off."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from provider import errors
from provider.keyvalue.bucket.entries import FENCE, MESSAGE_ID
from provider.keyvalue.bucket.pages.garbage.collector import Collector
from provider.keyvalue.bucket.pages.head import encode_head
from provider.keyvalue.bucket.pages.page_codec import encode_elements
from provider.keyvalue.bucket.pages.paged_value import AbsentPageError, Head, PageId, Wanted, key_hash
from provider.keyvalue.bucket.reading.stored_form import KIND, PAGED
from provider.keyvalue.kinds import Kind
from provider.nats.frames import header_block, header_value
from tests.blackbox.nats.cluster import Cluster
from tests.blackbox.waiting import eventually
from tests.integration.pages.open_pages import Opened, open_pages, soon

pytestmark = pytest.mark.slow

LEAF = encode_elements(["x"])


def page_of(operation: str) -> PageId:
    return PageId(f"{key_hash('k')}.{operation}.0")


async def put_head(opened: Opened, operation: str) -> int:
    head = Head(kind=Kind.LIST, root=page_of(operation), height=1, count=1, size=1)
    header = header_block((KIND, PAGED), (MESSAGE_ID, operation.encode()))
    return await opened.jetstream.publish(f"$KV.{opened.bucket.name}.k", encode_head(head), header, soon())


@contextlib.asynccontextmanager
async def patiently_opened(cluster: Cluster) -> AsyncIterator[Opened]:
    """Open a new bucket of three replicas as soon as the cluster has a leader again after the test before."""
    async with contextlib.AsyncExitStack() as stack:

        async def entered() -> Opened | None:
            try:
                return await stack.enter_async_context(open_pages(cluster.url("node1"), replicas=3))
            except (errors.ApiError, errors.LinkError):  # no leader yet, or not enough servers
                return None

        yield await eventually(entered, "a leader of the cluster", 20)


async def test_a_fence_keeps_a_paused_writer_out_of_a_replicated_bucket(cluster: Cluster) -> None:
    async with patiently_opened(cluster) as opened:
        await opened.store.write("k", {page_of("op-1"): LEAF}, 0, soon())
        revision = await put_head(opened, "op-1")
        await opened.store.write("k", {page_of("op-2"): LEAF}, 0, soon())
        assert (await opened.pages.to_write(soon())).stream.traits.replicas == 3
        collector = Collector(opened.bucket, opened.pages, opened.bucket.paging.reachable, 0.0)
        for _ in range(2):
            await eventually(collector.round, "a round")
        fence = await opened.jetstream.last_message(opened.bucket.stream, f"$KV.{opened.bucket.name}.k", soon())
        assert fence is not None
        assert (fence.sequence > revision, header_value(fence.header, FENCE)) == (True, b"%d" % revision)
        assert await opened.store.read("k", Wanted((page_of("op-1"),)), soon())
        with pytest.raises(AbsentPageError):
            await opened.store.read("other", Wanted((page_of("op-2"),)), soon())
        assert collector.removed == 1


async def test_pages_with_fewer_replicas_than_their_bucket_take_no_more(cluster: Cluster) -> None:
    async with patiently_opened(cluster) as other, open_pages(cluster.url("node1")) as opened:
        assert other.bucket.traits.replicas == 3
        await opened.store.write("k", {page_of("op-1"): LEAF}, 0, soon())
        config = (await opened.jetstream.stream_info(opened.bucket.stream, soon())).config
        body = {"name": config.name, "subjects": config.subjects, "num_replicas": 3, "max_msgs_per_subject": 1}
        more = {"allow_direct": True, "discard": "new", "deny_delete": True, "allow_rollup_hdrs": True}
        if config.allow_msg_ttl:
            more["allow_msg_ttl"] = True
        await opened.jetstream.api(f"STREAM.UPDATE.{config.name}", body | more, soon())
        await opened.pages.look(soon())
        with pytest.raises(errors.StoreRefusedError, match="has 1 replicas, fewer than the 3 of its bucket"):
            await opened.store.write("k", {page_of("op-2"): LEAF}, 0, soon())


async def test_a_leader_that_is_cut_off_is_not_believed_that_a_page_is_absent(cluster: Cluster) -> None:
    async with patiently_opened(cluster) as opened:
        await opened.store.write("k", {page_of("op-1"): LEAF}, 0, soon())
        name = f"{opened.bucket.name}=pages"
        await cluster.all_current(name)
        leader = await cluster.leader(name)
        others = [node for node in cluster.names if node != leader]
        async with (
            open_pages(cluster.url(leader), name=opened.bucket.name, replicas=3) as cut,
            open_pages(cluster.url(others[0]), name=opened.bucket.name, replicas=3) as writer,
        ):
            assert await cut.store.read("k", Wanted((page_of("op-1"),)), soon())
            await writer.pages.to_write(soon())
            cluster.cut_off(leader)
            try:
                await eventually(lambda: is_written(writer), "a leader on the other side", 20)
                for _ in range(10):
                    deadline = asyncio.get_running_loop().time() + 0.3
                    with pytest.raises(errors.StoreError):
                        await cut.store.read("k", Wanted((page_of("op-2"),)), deadline)
            finally:
                cluster.heal()
            await eventually(lambda: is_read(cut), "the page after the heal", 20)


async def is_written(opened: Opened) -> bool:
    try:
        return bool(await opened.store.write("k", {page_of("op-2"): LEAF}, 0, asyncio.get_running_loop().time() + 1))
    except errors.StoreError:
        return False


async def is_read(opened: Opened) -> bool:
    try:
        deadline = asyncio.get_running_loop().time() + 1
        return dict(await opened.store.read("k", Wanted((page_of("op-2"),)), deadline)) == {page_of("op-2"): LEAF}
    except errors.StoreError:
        return False
