"""Pages as they are stored: read ahead, used under their own key only, removed in time, and taken back when room is short."""

from __future__ import annotations

import asyncio

import pytest

from provider import errors
from provider.keyvalue.bucket.pages.garbage import page_removal
from provider.keyvalue.bucket.pages.page_cache import PageCache
from provider.keyvalue.bucket.pages.page_store import StreamPageStore
from provider.keyvalue.bucket.pages.paged_value import AbsentPageError, PageId, Wanted, key_hash
from provider.nats.buckets import TTL_LEVEL
from provider.nats.frames import status_of
from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.waiting import eventually
from tests.integration.pages.open_pages import Opened, open_pages, soon


def pages_of(key: str, count: int, size: int = 100, operation: str = "op-1") -> dict[PageId, bytes]:
    return {PageId(f"{key_hash(key)}.{operation}.{n}"): bytes([n % 256]) * size for n in range(count)}


async def stored(opened: Opened) -> int:
    """Return the number of pages in the stream."""
    answer = await opened.jetstream.stream_info(opened.pages.name, soon())
    lease = await opened.jetstream.last_message(opened.pages.name, f"$KV.{opened.bucket.name}=pages.=_lease", soon())
    return answer.state.messages - (lease is not None)


async def test_many_pages_are_written_and_read_back(lattice_server: NatsServer) -> None:
    async with (
        open_pages(lattice_server.url) as opened,
        open_pages(lattice_server.url, name=opened.bucket.name) as other,
    ):
        pages = pages_of("big", 40, 400_000)
        assert await opened.store.write("big", pages, 0, soon()) == 40
        ids = list(pages)
        for at, page_id in enumerate(ids):
            found = await other.store.read("big", Wanted((page_id,), tuple(ids[at + 1 : at + 20])), soon())
            assert found[page_id] == pages[page_id]
        assert dict(await other.store.read("big", Wanted(tuple(ids)), soon())) == pages


async def test_a_page_is_used_under_its_own_key_only(lattice_server: NatsServer) -> None:
    async with open_pages(lattice_server.url) as opened:
        (page_id,) = pages = pages_of("y", 1)
        await opened.store.write("y", pages, 0, soon())
        for _ in range(2):  # from the stream, and beside a cached one
            with pytest.raises(AbsentPageError):
                await opened.store.read("x", Wanted((page_id,)), soon())
            assert dict(await opened.store.read("y", Wanted((page_id,)), soon())) == pages


async def test_replaced_pages_stay_for_a_grace_period_and_lost_ones_do_not(lattice_server: NatsServer) -> None:
    async with (
        open_pages(lattice_server.url) as slow,
        open_pages(lattice_server.url, 0.3, name=slow.bucket.name) as fast,
    ):
        replaced, lost, kept = (pages_of("a", 3, operation=name) for name in ("op-1", "op-2", "op-3"))
        for pages in (replaced, lost, kept):
            await slow.store.write("a", pages, 0, soon())
        slow.store.remove_later("a", replaced, 300)
        slow.store.remove_now("a", lost)
        await eventually(lambda: stored_is(slow, 6), "lost pages to be removed")
        assert slow.store.remover.waiting == 3
        began = asyncio.get_running_loop().time()
        fast.store.remove_later("a", replaced, 300)
        await eventually(lambda: stored_is(fast, 3), "replaced pages to be removed")
        assert asyncio.get_running_loop().time() - began >= 0.3
        assert dict(await fast.store.read("a", Wanted(tuple(kept)), soon())) == kept


async def stored_is(opened: Opened, count: int) -> bool:
    return await stored(opened) == count


async def test_all_pages_of_a_deleted_key_go_but_not_those_of_its_next_value(lattice_server: NatsServer) -> None:
    async with open_pages(lattice_server.url, grace_seconds=0.05) as opened:
        last = await opened.store.write("a", pages_of("a", 5), 0, soon())
        await opened.store.write("b", pages_of("b", 2), 0, soon())
        after = pages_of("a", 2, operation="op-2")
        await opened.store.write("a", after, 0, soon())
        opened.store.remove_all_later("a", last, 500)
        await eventually(lambda: stored_is(opened, 4), "the pages to be removed")
        assert dict(await opened.store.read("a", Wanted(tuple(after)), soon())) == after


async def test_the_sequence_of_a_stream_that_is_gone_removes_nothing(lattice_server: NatsServer) -> None:
    async with open_pages(lattice_server.url, grace_seconds=0.0) as opened:
        first = pages_of("a", 5)
        await opened.store.write("a", first, 0, soon())
        # 3 is beyond the first page of this write and below its last: no head of before has had it in this stream.
        opened.store.remove_all_later("a", 3, 500)
        opened.store.remove_all_later("a", 1000, 500)
        garbage = pages_of("b", 1)
        await opened.store.write("b", garbage, 0, soon())
        opened.store.remove_now("b", garbage)
        await eventually(lambda: stored_is(opened, 5), "the removals to be done")
        assert dict(await opened.store.read("a", Wanted(tuple(first)), soon())) == first


async def test_a_mirror_that_lacks_a_page_is_not_believed(lattice_server: NatsServer) -> None:
    async with open_pages(lattice_server.url) as opened:
        pages, prefix = pages_of("a", 40), f"$KV.{opened.bucket.name}=pages."
        await opened.store.write("a", pages, 0, soon())
        await opened.store.write("b", pages_of("b", 1), 0, soon())
        origin = {"name": opened.pages.name, "filter_subject": f"{prefix}{key_hash('b')}.>"}
        mirror = {"name": f"M_{opened.bucket.name}", "mirror": origin, "allow_direct": True, "mirror_direct": True}
        await opened.jetstream.create_stream(mirror, soon())
        subject = f"$JS.API.DIRECT.GET.{opened.pages.name}.{prefix}{next(iter(pages))}".encode()

        async def is_denied() -> bool:
            header, _ = await opened.jetstream.connection.request(subject, deadline=soon())
            return status_of(header) == 404

        # From then on, the mirror answers about half of the direct gets.
        await eventually(is_denied, "an answer of the mirror")
        store = StreamPageStore(opened.pages, PageCache(), opened.clock, opened.tasks, 60.0)
        assert dict(await store.read("a", Wanted(tuple(pages)), soon())) == pages


async def test_a_full_stream_gives_up_its_garbage_first(lattice_server: NatsServer) -> None:
    async with open_pages(lattice_server.url, max_bytes=1_000_000) as opened:
        garbage = pages_of("a", 8, 100_000, "op-1")
        await opened.store.write("a", garbage, 0, soon())
        opened.store.remove_later("a", garbage, 800_000)
        pages = pages_of("a", 8, 100_000, "op-2")
        await opened.store.write("a", pages, 0, soon())
        with pytest.raises(errors.StoreFullError):
            await opened.store.write("b", pages_of("b", 4, 100_000), 0, soon())
        assert dict(await opened.store.read("a", Wanted(tuple(pages)), soon())) == pages


async def test_a_full_stream_gives_up_no_more_of_its_garbage_than_there_is_need_of(
    lattice_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_removal, "_ROOM_BYTES", 300_000)
    async with open_pages(lattice_server.url, max_bytes=5_000_000) as opened:
        garbage = pages_of("a", 48, 100_000, "op-1")
        await opened.store.write("a", garbage, 0, soon())
        opened.store.remove_later("a", garbage, 4_800_000)
        await opened.store.write("b", pages_of("b", 8, 100_000), 0, soon())
        # Sixteen go together. To remove them all could take longer than the writer waits.
        assert opened.store.remover.waiting == 32


async def test_pages_of_a_value_with_an_end_are_removed_by_the_server(lattice_server: NatsServer) -> None:
    async with open_pages(lattice_server.url, grace_seconds=0.0) as opened:
        await opened.store.write("a", pages_of("a", 2), opened.clock.now_ms() + 500, soon())
        await opened.store.write("b", pages_of("b", 1), 0, soon())
        if await opened.jetstream.level(soon()) >= TTL_LEVEL:
            await eventually(lambda: stored_is(opened, 1), "the pages to end")
        else:
            assert await stored(opened) == 3


async def test_much_garbage_goes_early_and_little_stays_for_its_time(
    lattice_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_removal, "_MOST_WAITING_BYTES", 1_000_000)
    async with open_pages(lattice_server.url) as opened:
        for number in range(5):  # a text that is overwritten again and again
            last = await opened.store.write("a", pages_of("a", 3, 100_000, f"op-{number}"), 0, soon())
            opened.store.remove_all_later("a", last, 300_000)
        await eventually(lambda: stored_is(opened, 9), "garbage beyond the limit to be removed")
        assert opened.store.remover.waiting == 3
        pages = pages_of("b", 8, 100_000)
        await opened.store.write("b", pages, 0, soon())
        opened.store.remove_later("b", pages, 800_000)
        await eventually(lambda: stored_is(opened, 8), "the oldest garbage to be removed first")
        assert opened.store.remover.waiting == 8
