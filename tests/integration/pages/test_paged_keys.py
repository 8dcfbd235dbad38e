"""Keys with pages in a real bucket: crashes at every step of a change, long searches, damage, refusals."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import pytest

from contracts import keyvalue as kv
from contracts.operations import decode_response, encode_response
from provider import errors
from provider.keyvalue.bucket.cas import SentWrite
from provider.keyvalue.bucket.engine import Engine
from provider.keyvalue.bucket.entries import Write
from provider.keyvalue.bucket.pages.garbage.page_list import Part, pages_by_key
from provider.keyvalue.bucket.pages.paged_value import Head, PageId, key_hash
from provider.keyvalue.link_values import Consistency
from provider.keyvalue.store import FutureCall
from provider.keyvalue.tables import READS
from provider.nats.frames import header_block
from provider.tasks import TaskOwner
from tests.blackbox.nats.nats_server import NatsServer
from tests.blackbox.waiting import eventually
from tests.integration.conftest import MakeServer
from tests.integration.pages.open_pages import Opened, open_pages, soon

KEY = "k"
MEMBERS = [f"member:{number:04}:{'x' * 200}" for number in range(400)]
"""80 KiB: some pages, and more than one message of a list or a set has."""


def a_call() -> FutureCall:
    return FutureCall(soon(), asyncio.get_running_loop().create_future())


class Client:
    """An engine on a bucket that is open already, and the reads beside it: one process."""

    def __init__(self, opened: Opened) -> None:
        self.bucket = opened.bucket
        self.opened = opened
        self.tasks = TaskOwner()
        self.engine = Engine(self.bucket, self.tasks, self.bucket.paging.writer)

    async def change(self, request: kv.SingleKeyRequest) -> Any:
        return await self.engine.change(request, KEY, soon())

    async def all(self, requests: Iterable[kv.SingleKeyRequest]) -> list[Any]:
        return await asyncio.gather(*(self.change(request) for request in requests))

    async def read(self, request: kv.SingleKeyRequest) -> Any:
        entry = await self.bucket.read_entry(KEY, Consistency.STRONG, soon())
        found = await self.bucket.paging.reader.read(request, READS[type(request)], KEY, entry, a_call())
        return decode_response(type(request), bytes(encode_response(found)))

    async def members(self) -> set[str]:
        return set(await self.read(kv.SetQuery(KEY)))

    async def head(self) -> Head:
        entry = await self.bucket.read_entry(KEY, Consistency.STRONG, soon())
        assert entry.value is not None
        assert isinstance(entry.value.data, Head)
        return entry.value.data

    async def reachable(self) -> set[PageId]:
        return await self.bucket.paging.reachable(KEY, await self.head(), soon())

    async def stored_pages(self) -> set[str]:
        found = await self.bucket.paging.stream.to_read(soon())
        assert found is not None
        return {page.page_id for page in (await pages_by_key(found, Part(0, 1))).get(KEY, [])}

    async def crash(self) -> None:
        """End as a process that is killed: its half-done work stays as it is."""
        self.engine.close()
        await self.tasks.close()


@contextlib.asynccontextmanager
async def client(server: NatsServer, name: str = "", **config: Any) -> AsyncIterator[Client]:
    async with open_pages(server.url, name=name, **config) as opened:
        one = Client(opened)
        try:
            yield one
        finally:
            await one.crash()


class Crash(asyncio.Event):
    """The point at which a process ends; set when it is reached."""

    async def here(self) -> None:
        self.set()
        await asyncio.Event().wait()


def before_any_page(one: Client, crash: Crash) -> None:
    store = one.bucket.paging.store

    async def write(bucket_key: str, pages: Mapping[PageId, bytes], expires_at_ms: int, deadline: float) -> int:
        await crash.here()
        return 0

    store.write = write  # type: ignore[method-assign]


def after_some_pages(one: Client, crash: Crash) -> None:
    store = one.bucket.paging.store
    whole = store.write

    async def write(bucket_key: str, pages: Mapping[PageId, bytes], expires_at_ms: int, deadline: float) -> int:
        some = dict(list(pages.items())[: max(1, len(pages) // 2)])
        await whole(bucket_key, some, expires_at_ms, deadline)
        await crash.here()
        return 0

    store.write = write  # type: ignore[method-assign]


def before_the_head(one: Client, crash: Crash) -> None:
    store = one.bucket.paging.store
    whole = store.write

    async def write(bucket_key: str, pages: Mapping[PageId, bytes], expires_at_ms: int, deadline: float) -> int:
        await whole(bucket_key, pages, expires_at_ms, deadline)
        await crash.here()
        return 0

    store.write = write  # type: ignore[method-assign]


def before_the_answer(one: Client, crash: Crash) -> None:
    put = one.engine._writer._store.write

    def write(write: Write, deadline: float) -> SentWrite:
        put(write, deadline).then(crash.set)
        return SentWrite(deadline)

    one.engine._writer._store.write = write  # type: ignore[method-assign]


@pytest.mark.parametrize("point", [before_any_page, after_some_pages, before_the_head, before_the_answer])
async def test_a_crash_at_any_point_loses_nothing_and_leaves_only_garbage(
    lattice_server: NatsServer, point: Any
) -> None:
    async with client(lattice_server) as first:
        await first.all(kv.SetAdd(KEY, member) for member in MEMBERS)
        before = await first.members()
        assert before == set(MEMBERS)
        name = first.bucket.name
        # The new members do not fit into the head's buffer, so there are new pages.
        more = [f"more:{number:03}:{'y' * 400}" for number in range(100)]
        crash = Crash()
        point(first, crash)
        calls = [asyncio.ensure_future(first.change(kv.SetAdd(KEY, member))) for member in more]
        await asyncio.wait_for(crash.wait(), 10)
        await first.crash()
        for call in calls:
            call.cancel()
    async with client(lattice_server, name) as second:
        after = await second.members()
        assert after in (before, before | set(more))
        assert (after == before) == (point is not before_the_answer)
        assert await second.change(kv.SetAdd(KEY, "new")) == 1
        assert await second.change(kv.SetDel(KEY, MEMBERS[0])) == 1
        assert await second.members() == (after | {"new"}) - {MEMBERS[0]}
        assert set(await second.reachable()) <= await second.stored_pages()


async def test_a_list_is_searched_without_holding_up_other_changes(lattice_server: NatsServer) -> None:
    async with client(lattice_server) as one:
        elements = [f"{number:06}:{'x' * 1000}" for number in range(1500)]
        for start in range(0, len(elements), 500):
            await one.all(kv.ListAdd(KEY, element) for element in elements[start : start + 500])
        doomed = [elements[1400], elements[1400], elements[0], "absent", elements[1499]]
        deletions = [asyncio.ensure_future(one.change(kv.ListDel(KEY, element))) for element in doomed]
        lengths = await one.all(kv.ListAdd(KEY, f"late {number}") for number in range(50))
        assert len(set(lengths)) == 50
        assert sorted(await asyncio.gather(*deletions)) == [False, False, True, True, True]
        rest = [element for element in elements if element not in doomed] + [f"late {n}" for n in range(50)]
        assert await one.read(kv.ListRange(KEY, 0, -1)) == rest


async def test_two_writers_and_their_batches_lose_nothing(lattice_server: NatsServer) -> None:
    async with client(lattice_server) as one, client(lattice_server, one.bucket.name) as other:
        await one.all(kv.SetAdd(KEY, member) for member in MEMBERS)
        mine = [f"one:{number:03}:{'y' * 300}" for number in range(200)]
        theirs = [f"other:{number:03}:{'y' * 300}" for number in range(200)]
        results = await asyncio.gather(
            one.all(kv.SetAdd(KEY, member) for member in mine),
            other.all(kv.SetAdd(KEY, member) for member in theirs),
            one.all(kv.SetDel(KEY, member) for member in MEMBERS[:50]),
            other.all(kv.SetDel(KEY, member) for member in MEMBERS[:50]),
        )
        assert list(results[:2]) == [[1] * 200, [1] * 200]
        assert [a + b for a, b in zip(*results[2:], strict=True)] == [1] * 50
        assert await one.members() == set(MEMBERS[50:]) | set(mine) | set(theirs)


async def test_a_large_text_that_was_overtaken_by_another_writer_is_stored_whole(lattice_server: NatsServer) -> None:
    async with client(lattice_server) as one, client(lattice_server, one.bucket.name) as other:
        for size in range(1, 4):
            # Each starts from the head that it has written last, which the other one has replaced since.
            for character, writer in (("a", one), ("b", other)):
                text = character * size * 2_000_000
                await writer.change(kv.Set(KEY, text, 0))
                assert (await one.read(kv.Get(KEY))).value == text


async def test_a_missing_page_is_an_error_that_names_it_and_the_key_can_be_replaced(lattice_server: NatsServer) -> None:
    async with client(lattice_server) as one:
        await one.all(kv.SetAdd(KEY, member) for member in MEMBERS)
        stream = one.bucket.paging.stream.name
        await one.opened.jetstream.purge(stream, f"$KV.{one.bucket.name}=pages.{key_hash(KEY)}.>", soon())
        async with client(lattice_server, one.bucket.name) as other:
            with pytest.raises(errors.DamagedValueError) as caught:
                await other.members()
            assert caught.value.key == KEY
            assert caught.value.page.startswith(key_hash(KEY))
            assert "is missing" in other.bucket.paging.unhealthy
            outcomes = await asyncio.gather(
                *(other.change(kv.SetAdd(KEY, f"m{n}")) for n in range(3)), return_exceptions=True
            )
            assert [type(outcome) for outcome in outcomes] == [errors.DamagedValueError] * 3
            entry = await other.bucket.read_entry(KEY, Consistency.STRONG, soon())
            assert await other.bucket.paging.reader.read(kv.Contains(KEY), READS[kv.Contains], KEY, entry, a_call())
            assert await other.change(kv.SetClear(KEY))
            assert await other.change(kv.SetAdd(KEY, "again")) == 1
            assert await other.members() == {"again"}
            await other.bucket.paging.look(soon())
            assert other.bucket.paging.unhealthy == ""


async def test_a_head_that_comes_back_after_its_pages_were_removed_is_never_half_a_value(
    lattice_server: NatsServer,
) -> None:
    """nats-server shows an overwritten message again if it is killed after the newer one has ended."""
    async with client(lattice_server) as one:
        await one.all(kv.SetAdd(KEY, member) for member in MEMBERS)
        subject = f"$KV.{one.bucket.name}.{KEY}"
        old = await one.opened.jetstream.last_message(one.bucket.stream, subject, soon())
        assert old is not None
        kept = await one.reachable()
        await one.all(kv.SetAdd(KEY, f"{number:03}{'y' * 400}") for number in range(100))
        replaced = kept - await one.reachable()
        assert len(replaced) < len(kept), "the later value shares pages with the earlier one"
        for page_id in replaced:
            page = f"$KV.{one.bucket.name}=pages.{page_id}"
            await one.opened.jetstream.purge(one.bucket.paging.stream.name, page, soon())
        await one.opened.jetstream.publish(subject, old.payload, header_block((b"Kv-Kind", b"paged")), soon())
        async with client(lattice_server, one.bucket.name) as other:
            with pytest.raises(errors.DamagedValueError):
                await other.members()
            assert await other.change(kv.Set(KEY, "anew", 0)) is None
            assert (await other.read(kv.Get(KEY))).value == "anew"


async def test_a_large_text_is_not_kept_when_it_is_stored(lattice_server: NatsServer) -> None:
    async with client(lattice_server) as one:
        text = "x" * 3_000_000
        before = sys.getrefcount(text)
        gc.disable()
        try:
            for _ in range(3):
                await one.change(kv.Set(KEY, text, 0))
            await eventually(lambda: sys.getrefcount(text) == before, "the text to be let go without a collection")
        finally:
            gc.enable()


async def test_a_head_of_another_key_reads_nothing(lattice_server: NatsServer) -> None:
    async with client(lattice_server) as one:
        await one.all(kv.SetAdd(KEY, member) for member in MEMBERS)
        found = await one.opened.jetstream.last_message(one.bucket.stream, f"$KV.{one.bucket.name}.{KEY}", soon())
        assert found is not None
        copy = f"$KV.{one.bucket.name}.copy"
        await one.opened.jetstream.publish(copy, found.payload, b"NATS/1.0\r\nKv-Kind: paged\r\n\r\n", soon())
        entry = await one.bucket.read_entry("copy", Consistency.STRONG, soon())
        with pytest.raises(errors.DamagedValueError):
            await one.bucket.paging.reader.read(kv.SetQuery("copy"), READS[kv.SetQuery], "copy", entry, a_call())


async def test_without_pages_a_list_grows_up_to_the_size_of_a_message(lattice_server: NatsServer) -> None:
    async with client(lattice_server) as one:
        await one.opened.jetstream.create_stream(
            {"name": one.bucket.paging.stream.name, "subjects": [f"$KV.{one.bucket.name}=pages.>"]}, soon()
        )
        await one.all(kv.ListAdd(KEY, member) for member in MEMBERS)
        assert await one.read(kv.ListRange(KEY, 0, -1)) == MEMBERS
        with pytest.raises(errors.StoreRefusedError, match="not marked as the one for the pages"):
            await one.change(kv.Set(KEY, "x" * 2**21, 0))
        assert await one.read(kv.ListRange(KEY, -1, -1)) == MEMBERS[-1:]


async def test_where_no_stream_of_pages_can_be_made_a_list_grows_up_to_the_size_of_a_message(
    make_server: MakeServer,
) -> None:
    account = "accounts { A { jetstream { max_disk: 12M }, users: [ { user: u, password: p } ] } }\nno_auth_user: u"
    # The account has no room for as much again as the bucket may take.
    with make_server(account) as server:
        async with client(server, max_bytes=8_000_000) as one:
            await one.all(kv.ListAdd(KEY, member) for member in MEMBERS)
            assert await one.read(kv.ListRange(KEY, 0, -1)) == MEMBERS
            with pytest.raises(errors.StoreRefusedError, match="=pages' cannot be made: insufficient storage"):
                await one.change(kv.Set(KEY, "x" * 2**21, 0))


async def test_pages_that_were_replaced_go_after_the_grace_period(lattice_server: NatsServer) -> None:
    async with open_pages(lattice_server.url) as opened:
        one = Client(opened)
        one.bucket.paging.store.remover.grace_seconds = 0.1
        await one.all(kv.SetAdd(KEY, member) for member in MEMBERS)
        await one.all(kv.SetAdd(KEY, f"{number}{'y' * 400}") for number in range(300))

        async def are_only_reachable() -> bool:
            return await one.stored_pages() == set(await one.reachable())

        await eventually(are_only_reachable, "only the pages of the value are left")
        await one.change(kv.Del(KEY))
        await eventually(lambda: _is_empty(one), "all pages are removed")
        await one.crash()


async def _is_empty(one: Client) -> bool:
    # nats-server 2.9 does not end a list of pages that are purged meanwhile.
    return not (await one.opened.jetstream.stream_info(one.bucket.paging.stream.name, soon())).state.messages


async def test_a_range_of_too_many_elements_is_refused_with_what_to_do_instead(lattice_server: NatsServer) -> None:
    async with client(lattice_server) as one:
        await one.all(kv.ListAdd(KEY, member) for member in MEMBERS)
        one.bucket.paging.reader._max_answer_bytes = 10_000
        with pytest.raises(errors.AnswerTooLargeError, match=r"ListRange .* maximum is 10000 bytes; ask for fewer"):
            await one.read(kv.ListRange(KEY, 0, -1))
        assert await one.read(kv.ListRange(KEY, 0, 9)) == MEMBERS[:10]


async def test_members_can_be_removed_while_the_stream_of_pages_is_full(lattice_server: NatsServer) -> None:
    async with client(lattice_server) as one:
        await one.all(kv.SetAdd(KEY, member) for member in MEMBERS)
        store, write = one.bucket.paging.store, one.bucket.paging.store.write

        async def refuse(bucket_key: str, pages: Mapping[PageId, bytes], expires_at_ms: int, deadline: float) -> int:
            if pages:
                raise errors.StoreFullError("maximum bytes exceeded")
            return 0

        store.write = refuse  # type: ignore[method-assign]
        gone, left = MEMBERS[:300], MEMBERS[300:]  # far more than a head has usually
        for at in range(0, len(gone), 50):
            assert await one.all(kv.SetDel(KEY, member) for member in gone[at : at + 50]) == [1] * 50
        assert await one.members() == set(left)
        assert len((await one.head()).removed) > 200
        with pytest.raises(errors.StoreFullError, match="MAX_BYTES"):
            await one.all(kv.SetAdd(KEY, f"new:{number}:{'y' * 300}") for number in range(300))
        store.write = write  # type: ignore[method-assign]
        assert await one.change(kv.SetAdd(KEY, "new")) == 1
        assert await one.members() == {*left, "new"}
        assert await one.reachable() <= await one.stored_pages()


async def test_a_list_whose_stream_of_pages_is_full_says_what_makes_room(lattice_server: NatsServer) -> None:
    async with client(lattice_server) as one:
        await one.all(kv.ListAdd(KEY, member) for member in MEMBERS)
        store = one.bucket.paging.store

        async def refuse(bucket_key: str, pages: Mapping[PageId, bytes], expires_at_ms: int, deadline: float) -> int:
            raise errors.StoreFullError("maximum bytes exceeded")

        store.write = refuse  # type: ignore[method-assign]
        with pytest.raises(errors.StoreFullError, match=r"MAX_BYTES.*ListClear"):
            await one.change(kv.ListDel(KEY, MEMBERS[0]))
        assert await one.change(kv.ListClear(KEY)) is True
