"""Exactly-once changes, over a store that conflicts, disappears, loses answers and answers late."""

from __future__ import annotations

import asyncio
import enum
import functools
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NoReturn, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts import extensions
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
from provider.keyvalue.bucket.pages.runner import PageRunner
from provider.keyvalue.bucket.pages.settling import PageSizes
from provider.keyvalue.bucket.pages.value_reader import ValueReader
from provider.keyvalue.bucket.pages.value_writer import PagingLimits, ValueWriter
from provider.keyvalue.kinds import Kind, Value
from provider.keyvalue.store import FutureCall
from provider.tasks import TaskOwner

KEY = "k"
NO_PAGES = ValueWriter(
    cast(PageRunner, None), cast(ValueReader, None), lambda: PagingLimits(PageSizes(), -1, False, 2**19)
)
"""No value of these tests is large enough for pages."""


def pass_on(sent: SentWrite, written: asyncio.Task[int]) -> None:
    error = written.exception()
    if error is None:
        sent.answer(written.result())
    else:
        sent.fail(error)


class Fault(enum.Enum):
    """The fault of one request."""

    NONE = enum.auto()
    NOT_WRITTEN = enum.auto()
    LOST_BEFORE = enum.auto()
    """The write never arrives, and there is no answer."""
    LOST_AFTER = enum.auto()
    """The write is made, but its acknowledgement is lost."""
    RIVAL = enum.auto()
    """Another provider increments by a thousand just before."""
    LOST_AND_RIVAL = enum.auto()
    """The acknowledgement is lost, and another provider increments before the engine can look."""
    READ_FAILS = enum.auto()
    REFUSED = enum.auto()
    """A deposed leader rejects the write, and its successor never gets it."""
    REFUSED_AND_WRITTEN = enum.auto()
    """A deposed leader rejects the write, and its successor stores it."""
    REFUSED_WRITTEN_AND_RIVAL = enum.auto()
    """The same, and another provider increments before the engine can look."""


REFUSALS = (Fault.REFUSED, Fault.REFUSED_AND_WRITTEN, Fault.REFUSED_WRITTEN_AND_RIVAL)


class ScriptedStore:
    """One key of a compare-and-set store in memory, with faults by script; afterwards it works.

    `is_replicated`: a rejection may come from a deposed leader.
    """

    def __init__(self, script: list[Fault], *, is_replicated: bool = True) -> None:
        self.is_replicated = is_replicated
        self.script = list(script)
        self.entry = Entry(0, None)
        self.writes = 0
        self.rival_increments = 0
        self._revisions: dict[bytes, int] = {}
        """The revision stored under each message id; 0 for a fence."""

    @property
    def expires_by_itself(self) -> bool:
        return True

    def now_ms(self) -> int:
        return 1_000_000

    async def read_latest(self, bucket_key: str, deadline: float) -> Entry:
        await asyncio.sleep(0)
        if self.script and self.script[0] is Fault.READ_FAILS:
            self.script.pop(0)
            raise errors.StoreUnreachableError("scripted")
        value = self.entry.value
        return Entry(self.entry.revision, value.copy() if value else None, self.entry.operation_id)

    def write(self, write: Write, deadline: float) -> SentWrite:
        sent = SentWrite(deadline)
        asyncio.ensure_future(self.written(write, deadline)).add_done_callback(functools.partial(pass_on, sent))
        return sent

    async def written(self, write: Write, deadline: float) -> int:
        await asyncio.sleep(0)
        fault = self.script.pop(0) if self.script else Fault.NONE
        if fault is Fault.NOT_WRITTEN:
            raise NotWrittenError("scripted")
        if fault is Fault.LOST_BEFORE:
            raise MaybeWrittenError("scripted")
        if fault is Fault.RIVAL:
            self._rival()
        if fault is not Fault.REFUSED:
            self._put(write)
        if fault in (Fault.LOST_AND_RIVAL, Fault.REFUSED_WRITTEN_AND_RIVAL):
            self._rival()
        if fault in REFUSALS:
            raise ConflictError(is_certain=False)
        if fault in (Fault.LOST_AFTER, Fault.LOST_AND_RIVAL):
            raise MaybeWrittenError("scripted")
        return self.entry.revision

    async def fence(self, message_id: bytes, deadline: float) -> int | None:
        await asyncio.sleep(0)
        found = self._revisions.setdefault(message_id, 0)
        return found or None

    def _put(self, write: Write) -> None:
        if write.message_id in self._revisions:
            raise AlreadyWrittenError(self._revisions[write.message_id])
        if write.expected_revision not in (None, self.entry.revision):
            raise ConflictError(is_certain=not self.is_replicated)
        self.writes += 1
        self._revisions[write.message_id] = self.entry.revision + 1
        value = write.value.copy() if write.value else None
        self.entry = Entry(self.entry.revision + 1, value, write.operation_id)

    def _rival(self) -> None:
        self.rival_increments += 1
        value = self.entry.value
        if value is not None and value.kind is Kind.SET:
            changed = Value(Kind.SET, {**value.data, f"rival-{self.rival_increments}": None})
        else:
            changed = Value(Kind.COUNTER, self.total() + 1000)
        self.entry = Entry(self.entry.revision + 1, changed, b"rival")

    def total(self) -> int:
        return int(self.entry.value.data) if self.entry.value is not None else 0


def run(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(work())


async def outcomes(store: ScriptedStore, requests: list[kv.SingleKeyRequest], *, seconds: float = 5.0) -> list[Any]:
    tasks = TaskOwner()
    engine = Engine(store, tasks, NO_PAGES)
    loop = asyncio.get_running_loop()
    calls: list[Awaitable[Any]] = []
    for number, request in enumerate(requests):
        calls.append(asyncio.ensure_future(engine.change(request, KEY, loop.time() + seconds)))
        if number % 3 == 2:
            await asyncio.sleep(0)
    found = await asyncio.gather(*calls, return_exceptions=True)
    await tasks.close()
    engine.close()
    return found


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(Fault), max_size=12), st.integers(1, 12))
def test_an_acknowledged_increment_happened_once_and_a_refused_one_never(script: list[Fault], callers: int) -> None:
    store = ScriptedStore(script)
    found = run(lambda: outcomes(store, [kv.Increment(KEY, 1) for _ in range(callers)]))
    acknowledged = [total for total in found if isinstance(total, int)]
    unknown = sum(isinstance(error, errors.OutcomeUnknownError) for error in found)
    own = store.total() - 1000 * store.rival_increments
    assert len(set(acknowledged)) == len(acknowledged)
    assert len(acknowledged) <= own <= len(acknowledged) + unknown
    assert all(isinstance(outcome, int | errors.StoreError) for outcome in found)


@pytest.mark.parametrize(("expires", "reads"), [(0, 0), (60, 1)])
def test_only_an_overwrite_with_an_end_looks_at_what_it_replaces(expires: int, reads: int) -> None:
    class CountingStore(ScriptedStore):
        reads = 0

        async def read_latest(self, bucket_key: str, deadline: float) -> Entry:
            self.reads += 1
            return await super().read_latest(bucket_key, deadline)

    store = CountingStore([])
    assert run(lambda: outcomes(store, [kv.Set(KEY, "v", expires)])) == [None]
    assert store.reads == reads
    assert store.writes == 1


def test_increments_that_wait_for_a_write_are_combined_into_the_next() -> None:
    store = ScriptedStore([])
    found = run(lambda: outcomes(store, [kv.Increment(KEY, 1) for _ in range(300)]))
    assert sorted(found) == list(range(1, 301))
    assert store.writes < 150


@pytest.mark.parametrize("fault", [Fault.LOST_AFTER, Fault.LOST_BEFORE, Fault.NOT_WRITTEN, Fault.RIVAL])
def test_a_fault_with_a_known_outcome_is_not_an_error(fault: Fault) -> None:
    store = ScriptedStore([fault])
    assert run(lambda: outcomes(store, [kv.Increment(KEY, 1)])) == [1001 if fault is Fault.RIVAL else 1]


@pytest.mark.parametrize("faults", list(itertools.product(REFUSALS, repeat=2)), ids=str)
def test_a_change_that_a_deposed_leader_rejected_happens_once_and_is_answered_as_stored(
    faults: tuple[Fault, ...],
) -> None:
    store = ScriptedStore([])
    store.entry = Entry(1, Value(Kind.SET, {"a": None, "b": None}), b"before")
    store.script = list(faults)
    assert run(lambda: outcomes(store, [kv.SetDel(KEY, "a")])) == [1]
    assert store.entry.value is not None
    assert "a" not in store.entry.value.data
    assert "b" in store.entry.value.data


class NarrowStore(ScriptedStore):
    """A store that takes lists of a few characters only; a rival adds to them."""

    async def written(self, write: Write, deadline: float) -> int:
        size = sum(map(len, write.value.data)) if write.value else 0
        if size > 60:
            raise errors.ValueTooLargeError(write.key, size, "maximum", 60)
        return await super().written(write, deadline)

    def _rival(self) -> None:
        elements = self.entry.value.data if self.entry.value is not None else []
        self.entry = Entry(self.entry.revision + 1, Value(Kind.LIST, [*elements, "rival"]), b"rival")


@pytest.mark.parametrize("fault", REFUSALS, ids=str)
@pytest.mark.parametrize("lengths", [(52, 1), (52, 1, 1, 1), (58,)], ids=str)
def test_a_change_too_large_after_a_rejected_attempt_happens_once_if_acknowledged_and_else_never(
    fault: Fault, lengths: tuple[int, ...]
) -> None:
    elements = [letter * length for letter, length in zip("abcd", lengths, strict=False)]
    store = NarrowStore([fault])
    found = run(lambda: outcomes(store, [kv.ListAdd(KEY, element) for element in elements]))
    assert store.entry.value is not None
    for element, outcome in zip(elements, found, strict=True):
        assert store.entry.value.data.count(element) == isinstance(outcome, int), (element, found)


def test_a_change_too_large_whose_message_id_cannot_be_fenced_is_of_unknown_outcome() -> None:
    class Silent(NarrowStore):
        async def fence(self, message_id: bytes, deadline: float) -> int | None:
            raise errors.OutcomeUnknownError("scripted")

    found = run(
        lambda: outcomes(
            Silent([Fault.REFUSED_WRITTEN_AND_RIVAL]), [kv.ListAdd(KEY, "a" * 52), kv.ListAdd(KEY, "b" * 6)]
        )
    )
    assert isinstance(found[0], errors.OutcomeUnknownError)


@pytest.mark.parametrize("refusal", [errors.StoreFullError("x"), errors.ValueTooLargeError(KEY, 2, "maximum", 1)])
def test_a_refusal_after_a_lost_write_is_of_unknown_outcome(refusal: errors.StoreError) -> None:
    class LostThenRefused(ScriptedStore):
        async def written(self, write: Write, deadline: float) -> int:
            if not self.script:
                raise refusal
            return await super().written(write, deadline)

    (found,) = run(lambda: outcomes(LostThenRefused([Fault.LOST_BEFORE]), [kv.Increment(KEY, 1)]))
    assert isinstance(found, errors.OutcomeUnknownError)


def test_an_unchecked_entry_is_the_base_of_a_change_but_no_proof_that_nothing_changes() -> None:
    class Unchecked(ScriptedStore):
        async def read_latest(self, bucket_key: str, deadline: float) -> Entry:
            entry = await super().read_latest(bucket_key, deadline)
            entry.is_checked = False
            return entry

    store = Unchecked([])
    store.entry = Entry(3, Value(Kind.TEXT, "x"))
    assert run(lambda: outcomes(store, [kv.Del(KEY)])) == [True]
    (found,) = run(lambda: outcomes(store, [kv.Del(KEY)]))
    assert isinstance(found, errors.StoreFullError)
    assert store.writes == 1


def test_a_lock_that_another_provider_has_taken_stays_untouched() -> None:
    lock = Entry(5, Value(Kind.TEXT, "theirs"), b"theirs")

    class TakenMeanwhile(ScriptedStore):
        async def written(self, write: Write, deadline: float) -> int:
            self.entry = lock
            return await super().written(write, deadline)

    store = TakenMeanwhile([])
    assert run(lambda: outcomes(store, [extensions.Create(KEY, "mine", 0)])) == [extensions.SwapResponse(False, 5)]
    assert store.entry is lock


def test_a_lost_write_that_another_provider_has_overwritten_is_of_unknown_outcome() -> None:
    store = ScriptedStore([Fault.LOST_AND_RIVAL])
    (found,) = run(lambda: outcomes(store, [kv.Increment(KEY, 1)]))
    assert isinstance(found, errors.OutcomeUnknownError)


def test_a_plain_set_reads_nothing_and_is_not_repeated_when_lost() -> None:
    store = ScriptedStore([Fault.LOST_BEFORE])
    (found,) = run(lambda: outcomes(store, [kv.Set(KEY, "v", 0)]))
    assert isinstance(found, errors.OutcomeUnknownError)
    store = ScriptedStore([Fault.LOST_AFTER])
    assert run(lambda: outcomes(store, [kv.Set(KEY, "v", 0)])) == [None]


def test_an_error_belongs_to_one_call_of_a_batch_only() -> None:
    store = ScriptedStore([])
    requests: list[kv.SingleKeyRequest] = [
        kv.Increment(KEY, 1),
        kv.ListAdd(KEY, "x"),
        kv.Increment(KEY, 2**31 - 1),
        kv.Increment(KEY, 1),
    ]
    found = run(lambda: outcomes(store, requests))
    assert [type(outcome) for outcome in found] == [int, errors.WrongKindError, errors.CounterOverflowError, int]
    assert store.total() == 2


def test_an_answer_without_a_change_comes_from_a_fresh_read_and_writes_nothing() -> None:
    async def scenario() -> None:
        tasks, store = TaskOwner(), ScriptedStore([], is_replicated=False)
        engine = Engine(store, tasks, NO_PAGES)
        deadline = asyncio.get_running_loop().time() + 5
        assert await engine.change(kv.SetAdd(KEY, "a"), KEY, deadline) == 1
        store.entry = Entry(7, None)
        assert await engine.change(kv.SetDel(KEY, "a"), KEY, deadline) == 0
        assert await engine.change(kv.Del(KEY), KEY, deadline) is False
        assert store.writes == 1
        await tasks.close()
        engine.close()

    run(scenario)


def test_a_call_that_waited_too_long_is_refused_and_never_happens() -> None:
    class SlowStore(ScriptedStore):
        async def written(self, write: Write, deadline: float) -> int:
            await gate.wait()
            return await super().written(write, deadline)

    async def scenario() -> None:
        tasks, store = TaskOwner(), SlowStore([])
        engine = Engine(store, tasks, NO_PAGES)
        loop = asyncio.get_running_loop()
        first = asyncio.ensure_future(engine.change(kv.Increment(KEY, 1), KEY, loop.time() + 5))
        await asyncio.sleep(0.01)
        with pytest.raises(errors.StoreTimeoutError):
            await engine.change(kv.Increment(KEY, 100), KEY, loop.time() + 0.03)
        gate.set()
        assert await first == 1
        assert await engine.change(kv.Increment(KEY, 1), KEY, loop.time() + 5) == 2
        await tasks.close()
        engine.close()

    gate = asyncio.Event()
    run(scenario)


def test_a_call_whose_write_has_no_answer_at_its_deadline_is_of_unknown_outcome() -> None:
    class SilentStore(ScriptedStore):
        async def written(self, write: Write, deadline: float) -> int:
            await asyncio.sleep(10)
            return 0

    (found,) = run(lambda: outcomes(SilentStore([]), [kv.Increment(KEY, 1)], seconds=0.05))
    assert isinstance(found, errors.OutcomeUnknownError)


@pytest.mark.parametrize("is_stored", [True, False])
def test_a_rejection_by_a_leader_that_may_be_deposed_is_investigated(is_stored: bool) -> None:
    class TwoLeaders(ScriptedStore):
        """A store whose first write one leader rejects, and the other stores or not."""

        async def written(self, write: Write, deadline: float) -> int:
            if not self.script:
                return await super().written(write, deadline)
            self.script.pop()
            if is_stored:
                self._put(write)
            raise ConflictError(is_certain=False)

    store = TwoLeaders([Fault.NONE])
    found = run(lambda: outcomes(store, [kv.ListAdd(KEY, "once"), kv.ListAdd(KEY, "too")]))
    assert found == [1, 2]
    assert store.entry.value == Value(Kind.LIST, ["once", "too"])
    assert store.writes == 1


class NoTasks(TaskOwner):
    """An owner that starts nothing."""

    def start(self, work: Coroutine[Any, Any, Any], name: str | None = None) -> NoReturn:
        raise AssertionError(name)


def test_a_change_whose_entry_is_known_or_does_not_matter_needs_no_task() -> None:
    async def scenario() -> None:
        engine = Engine(ScriptedStore([]), NoTasks(), NO_PAGES)
        deadline = asyncio.get_running_loop().time() + 5
        assert await engine.change(kv.Set(KEY, "7", 0), KEY, deadline) is None
        totals = [engine.change(kv.Increment(KEY, 1), KEY, deadline) for _ in range(5)]
        assert await asyncio.gather(*totals) == [8, 9, 10, 11, 12]
        assert await engine.change(kv.Del(KEY), KEY, deadline) is True
        engine.close()

    run(scenario)


def test_a_defect_in_one_answer_keeps_no_later_change_of_the_key_waiting() -> None:
    class Defect(FutureCall):
        def answer(self, result: Any) -> None:
            raise ValueError("scripted")

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: defects.append(context["exception"]))
        engine = Engine(ScriptedStore([]), NoTasks(), NO_PAGES)
        deadline = loop.time() + 5
        engine.submit(kv.Set(KEY, "v", 0), KEY, Defect(deadline, loop.create_future()))
        await asyncio.sleep(0)
        assert await engine.change(kv.Set(KEY, "w", 0), KEY, deadline) is None
        engine.close()

    defects: list[Exception] = []
    run(scenario)
    assert [str(defect) for defect in defects] == ["scripted"]


def test_a_change_whose_caller_gave_up_before_it_was_sent_never_happens() -> None:
    async def scenario() -> None:
        store, tasks = ScriptedStore([]), TaskOwner()
        engine = Engine(store, tasks, NO_PAGES)
        deadline = asyncio.get_running_loop().time() + 5
        calls = [asyncio.ensure_future(engine.change(kv.Increment(KEY, 1), KEY, deadline)) for _ in range(3)]
        await asyncio.sleep(0)
        calls[1].cancel()
        assert [await calls[0], await calls[2]] == [1, 2]
        assert store.writes == 1
        await tasks.close()
        engine.close()

    run(scenario)
