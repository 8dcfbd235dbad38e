"""Exactly-once changes of a paged set, over a store that conflicts, loses answers and answers late. Pages go at once."""

from __future__ import annotations

import asyncio
import enum
import functools
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import keyvalue as kv
from provider import errors
from provider.keyvalue.bucket.cas import (
    AlreadyWrittenError,
    ConflictError,
    MaybeWrittenError,
    NotWrittenError,
    SentWrite,
)
from provider.keyvalue.bucket.engine import Engine
from provider.keyvalue.bucket.entries import Entry, Write
from provider.keyvalue.bucket.pages.paged_value import AbsentPageError, Edit, Head, PageId, Wanted, page_prefix
from provider.keyvalue.bucket.pages.runner import PageRunner
from provider.keyvalue.bucket.pages.settling import PageSizes, settle
from provider.keyvalue.bucket.pages.tree_reads import reachable_pages
from provider.keyvalue.bucket.pages.value_reader import ValueReader
from provider.keyvalue.bucket.pages.value_writer import PagingLimits, ValueWriter
from provider.keyvalue.kinds import Kind, Value
from provider.tasks import TaskOwner

KEY = "k"
OLD = [f"old:{number:03}" for number in range(40)]
SIZES = PageSizes(page=120, inline=100, buffer=170)


def pass_on(sent: SentWrite, written: asyncio.Task[int]) -> None:
    error = written.exception()
    if error is None:
        sent.answer(written.result())
    else:
        sent.fail(error)


class Fault(enum.Enum):
    NONE = enum.auto()
    NOT_WRITTEN = enum.auto()
    LOST_BEFORE = enum.auto()
    LOST_AFTER = enum.auto()
    REFUSED = enum.auto()
    REFUSED_AND_WRITTEN = enum.auto()
    TOUCHED = enum.auto()
    """Another process writes the same value again just before."""
    REFUSED_WRITTEN_AND_TOUCHED = enum.auto()


class Pages:
    """The pages of a key in memory. Whatever may be removed later is removed at once."""

    def __init__(self) -> None:
        self.stored: dict[PageId, tuple[int, bytes]] = {}
        self._sequence = 0

    async def read(self, bucket_key: str, wanted: Wanted, deadline: float) -> Mapping[PageId, bytes]:
        await asyncio.sleep(0)
        for page_id in wanted.now:
            if page_id not in self.stored:
                raise AbsentPageError(page_id)
        return {page_id: self.stored[page_id][1] for page_id in wanted.now}

    async def write(self, bucket_key: str, pages: Mapping[PageId, bytes], expires_at_ms: int, deadline: float) -> int:
        await asyncio.sleep(0)
        for page_id, page in pages.items():
            assert page_id not in self.stored, "a page is never written twice"
            self._sequence += 1
            self.stored[page_id] = self._sequence, page
        return self._sequence if pages else 0

    def remove_later(self, bucket_key: str, page_ids: Iterable[PageId], size: int) -> None:
        for page_id in page_ids:
            del self.stored[page_id]

    def remove_all_later(self, bucket_key: str, up_to_sequence: int, size: int) -> None:
        self.stored = {page_id: page for page_id, page in self.stored.items() if page[0] > up_to_sequence}

    def remove_now(self, bucket_key: str, page_ids: Iterable[PageId]) -> None:
        self.remove_later(bucket_key, page_ids, 0)


class ScriptedStore:
    """One key of a replicated compare-and-set store, with faults by script; afterwards it works."""

    expires_by_itself = False

    def __init__(self, script: list[Fault], value: Value | None) -> None:
        self.entry = Entry(1, value) if value is not None else Entry(0, None)
        self._script = list(script)
        self._ids: dict[bytes, int] = {}

    def now_ms(self) -> int:
        return 0

    async def read_latest(self, bucket_key: str, deadline: float) -> Entry:
        await asyncio.sleep(0)
        value = self.entry.value.copy() if self.entry.value is not None else None
        return Entry(self.entry.revision, value, self.entry.operation_id)

    def write(self, write: Write, deadline: float) -> SentWrite:
        sent = SentWrite(deadline)
        asyncio.ensure_future(self._write(write)).add_done_callback(functools.partial(pass_on, sent))
        return sent

    async def _write(self, write: Write) -> int:
        await asyncio.sleep(0)
        fault = self._script.pop(0) if self._script else Fault.NONE
        if fault is Fault.TOUCHED:
            self._touch()
        if fault is Fault.NOT_WRITTEN:
            raise NotWrittenError("scripted")
        if fault is Fault.LOST_BEFORE:
            raise MaybeWrittenError("scripted")
        if fault is Fault.REFUSED:
            raise ConflictError(is_certain=False)
        if write.message_id in self._ids:
            raise AlreadyWrittenError(self._ids[write.message_id])
        if write.expected_revision != self.entry.revision:
            raise ConflictError(is_certain=False)
        self.entry = Entry(self.entry.revision + 1, write.value, write.operation_id)
        self._ids[write.message_id] = revision = self.entry.revision
        if fault is Fault.LOST_AFTER:
            raise MaybeWrittenError("scripted")
        if fault in (Fault.REFUSED_AND_WRITTEN, Fault.REFUSED_WRITTEN_AND_TOUCHED):
            if fault is Fault.REFUSED_WRITTEN_AND_TOUCHED:
                self._touch()
            raise ConflictError(is_certain=False)
        return revision

    async def fence(self, message_id: bytes, deadline: float) -> int | None:
        await asyncio.sleep(0)
        found = self._ids.get(message_id)
        self._ids.setdefault(message_id, self.entry.revision + 1_000_000)
        return found

    def _touch(self) -> None:
        self.entry = Entry(self.entry.revision + 1, self.entry.value, b"another")


class Gate:
    """A point that everything passes at once until it is closed."""

    def __init__(self) -> None:
        self.is_reached = asyncio.Event()
        self._is_open = asyncio.Event()
        self._is_open.set()

    def close(self) -> None:
        self._is_open.clear()

    def open(self) -> None:
        self._is_open.set()

    async def passed(self) -> None:
        if not self._is_open.is_set():
            self.is_reached.set()
        await self._is_open.wait()


class GatedPages(Pages):
    """Pages whose reads or writes wait at a gate."""

    def __init__(self, reads: Gate, writes: Gate) -> None:
        super().__init__()
        self._reads = reads
        self._writes = writes

    async def read(self, bucket_key: str, wanted: Wanted, deadline: float) -> Mapping[PageId, bytes]:
        await self._reads.passed()
        return await super().read(bucket_key, wanted, deadline)

    async def write(self, bucket_key: str, pages: Mapping[PageId, bytes], expires_at_ms: int, deadline: float) -> int:
        await self._writes.passed()
        return await super().write(bucket_key, pages, expires_at_ms, deadline)


class GatedStore(ScriptedStore):
    """A store in which markers that only stand in for a value wait at a gate."""

    def __init__(self, fences: Gate, value: Value | None) -> None:
        super().__init__([], value)
        self._fences = fences

    async def _write(self, write: Write) -> int:
        if write.is_fence:
            await self._fences.passed()
        return await super()._write(write)


async def late_caller(held: str, old: list[str]) -> None:
    """One of two callers is told that its time is over, while their common write is held up before its head is sent."""
    loop, tasks = asyncio.get_running_loop(), TaskOwner()
    gates = {name: Gate() for name in ("reads", "writes", "fences")}
    pages = GatedPages(gates["reads"], gates["writes"])
    runner = PageRunner(pages)
    value = Value(Kind.SET, dict.fromkeys(old)) if old else None
    if value is not None:
        first: Edit = await runner.run([KEY], settle(value, SIZES, page_prefix(KEY, b"0.0")), 0)
        await pages.write(KEY, first.pages, 0, 0)
        value = first.value
    store = GatedStore(gates["fences"], value)
    reader = ValueReader(runner, store.read_latest)
    engine = Engine(store, tasks, ValueWriter(runner, reader, lambda: PagingLimits(SIZES, -1, True, 2**19)))
    gates[held].close()
    late = asyncio.ensure_future(engine.change(kv.SetAdd(KEY, "late"), KEY, loop.time() + 0.05))
    members = [f"in time {'x' * 30_000} {number}" for number in range(3)]
    others = [asyncio.ensure_future(engine.change(kv.SetAdd(KEY, text), KEY, loop.time() + 60)) for text in members]
    await gates[held].is_reached.wait()
    with pytest.raises(errors.StoreTimeoutError):
        await late
    gates[held].open()
    assert await asyncio.gather(*others) == [1, 1, 1]
    whole = await reader.whole("SetQuery", KEY, KEY, await store.read_latest(KEY, 0), loop.time() + 60)
    assert whole.value is not None
    assert set(whole.value.data) == {*old, *members}
    assert store.entry.value is not None
    assert await runner.run([KEY], reachable_pages(store.entry.value.data), 0) == set(pages.stored)
    engine.close()
    await tasks.close()


@pytest.mark.parametrize(("held", "old"), [("reads", OLD), ("writes", OLD), ("writes", []), ("fences", [])])
def test_a_caller_who_was_told_that_nothing_was_changed_is_left_out_of_the_write(held: str, old: list[str]) -> None:
    asyncio.run(late_caller(held, old))


async def scenario(script: list[Fault], changes: list[tuple[bool, bool]]) -> None:
    loop, tasks, pages = asyncio.get_running_loop(), TaskOwner(), Pages()
    runner = PageRunner(pages)
    first: Edit = await runner.run(
        [KEY], settle(Value(Kind.SET, dict.fromkeys(OLD)), SIZES, page_prefix(KEY, b"0.0")), 0
    )
    sequence = await pages.write(KEY, first.pages, 0, 0)
    assert first.value is not None
    assert isinstance(first.value.data, Head)
    store = ScriptedStore(script, first.value)
    reader = ValueReader(runner, store.read_latest)
    limits = PagingLimits(SIZES, -1, True, 2**19)
    engine = Engine(store, tasks, ValueWriter(runner, reader, lambda: limits))
    requests: list[kv.SingleKeyRequest] = []
    for number, (is_add, is_member) in enumerate(changes):
        member = OLD[number] if is_member else f"new:{number:03}"
        requests.append(kv.SetAdd(KEY, member) if is_add else kv.SetDel(KEY, member))
    calls = []
    for number, request in enumerate(requests):
        calls.append(asyncio.ensure_future(engine.change(request, KEY, loop.time() + 5)))
        if number % 4 == 3:
            await asyncio.sleep(0)
    results = await asyncio.gather(*calls, return_exceptions=True)
    whole = await reader.whole("SetQuery", KEY, KEY, await store.read_latest(KEY, 0), loop.time() + 5)
    members = set(whole.value.data) if whole.value is not None else set()
    assert sequence > 0
    for (is_add, is_member), request, result in zip(changes, requests, results, strict=True):
        assert isinstance(request, (kv.SetAdd, kv.SetDel))
        if isinstance(result, errors.OutcomeUnknownError):
            continue
        assert not isinstance(result, BaseException), result
        assert result == int(is_add != is_member)
        assert (request.value in members) == is_add
    touched = {request.value for request in requests if isinstance(request, (kv.SetAdd, kv.SetDel))}
    assert members - touched == set(OLD) - touched
    if store.entry.value is not None and isinstance(store.entry.value.data, Head):
        assert await runner.run([KEY], reachable_pages(store.entry.value.data), 0) <= set(pages.stored)
    engine.close()
    await tasks.close()


@given(
    st.lists(st.sampled_from(Fault), max_size=6),
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40),
)
def test_each_acknowledged_change_happened_once_and_no_page_of_the_value_is_removed(
    script: list[Fault], changes: list[tuple[bool, bool]]
) -> None:
    asyncio.run(scenario(script, changes))
