"""Exactly once, over a store that conflicts, disappears, forgets to answer and answers late."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts import keyvalue as kv
from provider import errors
from provider.keyvalue.engine import ConflictError, Engine, NotWrittenError, UnknownError
from provider.keyvalue.entries import Entry, Write
from provider.keyvalue.values import Kind, Value
from provider.tasks import TaskOwner

KEY = "k"


class Fault(enum.Enum):
    """What happens to one request."""

    NONE = enum.auto()
    NOT_WRITTEN = enum.auto()
    LOST_BEFORE = enum.auto()
    """The write never arrives, and nobody says so."""
    LOST_AFTER = enum.auto()
    """The write is made, but its acknowledgement is lost."""
    RIVAL = enum.auto()
    """Another provider increments by a thousand just before."""
    LOST_AND_RIVAL = enum.auto()
    """The acknowledgement is lost, and another provider increments before anybody can look."""
    READ_FAILS = enum.auto()


class ScriptedStore:
    """One key of a compare-and-set store in memory, with faults by script; afterwards it works."""

    def __init__(self, script: list[Fault]) -> None:
        self.script = list(script)
        self.entry = Entry(0, None)
        self.writes = 0
        self.rival_increments = 0

    def now_ms(self) -> int:
        return 1_000_000

    async def read_latest(self, bucket_key: str, deadline: float) -> Entry:
        await asyncio.sleep(0)
        if self.script and self.script[0] is Fault.READ_FAILS:
            self.script.pop(0)
            raise errors.StoreUnreachableError("scripted")
        value = self.entry.value
        return Entry(self.entry.revision, value.copy() if value else None, self.entry.operation_id)

    async def write(self, write: Write, deadline: float) -> int:
        await asyncio.sleep(0)
        fault = self.script.pop(0) if self.script else Fault.NONE
        if fault is Fault.NOT_WRITTEN:
            raise NotWrittenError("scripted")
        if fault is Fault.LOST_BEFORE:
            raise UnknownError("scripted")
        if fault is Fault.RIVAL:
            self._rival()
        self._put(write)
        if fault is Fault.LOST_AND_RIVAL:
            self._rival()
        if fault in (Fault.LOST_AFTER, Fault.LOST_AND_RIVAL):
            raise UnknownError("scripted")
        return self.entry.revision

    def _put(self, write: Write) -> None:
        if write.expected_revision not in (None, self.entry.revision):
            raise ConflictError
        self.writes += 1
        value = write.value.copy() if write.value else None
        self.entry = Entry(self.entry.revision + 1, value, write.operation_id)

    def _rival(self) -> None:
        total = self.total() + 1000
        self.rival_increments += 1
        self.entry = Entry(self.entry.revision + 1, Value(Kind.COUNTER, total), b"rival")

    def total(self) -> int:
        return int(self.entry.value.data) if self.entry.value is not None else 0


def run(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(work())


async def outcomes(store: ScriptedStore, requests: list[kv.SingleKeyRequest], *, seconds: float = 5.0) -> list[Any]:
    tasks = TaskOwner()
    engine = Engine(store, tasks)
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


def test_increments_that_wait_for_a_write_are_combined_into_the_next() -> None:
    store = ScriptedStore([])
    found = run(lambda: outcomes(store, [kv.Increment(KEY, 1) for _ in range(300)]))
    assert sorted(found) == list(range(1, 301))
    assert store.writes < 150


@pytest.mark.parametrize("fault", [Fault.LOST_AFTER, Fault.LOST_BEFORE, Fault.NOT_WRITTEN, Fault.RIVAL])
def test_a_fault_that_can_be_told_apart_is_no_error(fault: Fault) -> None:
    store = ScriptedStore([fault])
    assert run(lambda: outcomes(store, [kv.Increment(KEY, 1)])) == [1001 if fault is Fault.RIVAL else 1]


def test_a_lost_write_that_somebody_has_overwritten_is_of_unknown_outcome() -> None:
    store = ScriptedStore([Fault.LOST_AND_RIVAL])
    (found,) = run(lambda: outcomes(store, [kv.Increment(KEY, 1)]))
    assert isinstance(found, errors.OutcomeUnknownError)


def test_a_plain_set_reads_nothing_and_is_not_repeated_when_lost() -> None:
    store = ScriptedStore([Fault.LOST_BEFORE])
    (found,) = run(lambda: outcomes(store, [kv.Set(KEY, "v", 0)]))
    assert isinstance(found, errors.OutcomeUnknownError)
    store = ScriptedStore([Fault.LOST_AFTER])
    assert run(lambda: outcomes(store, [kv.Set(KEY, "v", 0)])) == [None]


def test_an_error_of_one_call_is_not_the_error_of_the_calls_it_was_combined_with() -> None:
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


def test_what_changes_nothing_is_answered_from_a_fresh_read_and_writes_nothing() -> None:
    async def scenario() -> None:
        tasks, store = TaskOwner(), ScriptedStore([])
        engine = Engine(store, tasks)
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
        async def write(self, write: Write, deadline: float) -> int:
            await gate.wait()
            return await super().write(write, deadline)

    async def scenario() -> None:
        tasks, store = TaskOwner(), SlowStore([])
        engine = Engine(store, tasks)
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


def test_a_call_whose_write_is_out_when_its_time_is_over_is_of_unknown_outcome() -> None:
    class SilentStore(ScriptedStore):
        async def write(self, write: Write, deadline: float) -> int:
            await asyncio.sleep(10)
            return 0

    (found,) = run(lambda: outcomes(SilentStore([]), [kv.Increment(KEY, 1)], seconds=0.05))
    assert isinstance(found, errors.OutcomeUnknownError)


@pytest.mark.parametrize("is_stored", [True, False])
def test_a_refusal_that_may_come_from_a_deposed_leader_is_looked_into(is_stored: bool) -> None:
    class TwoLeaders(ScriptedStore):
        """The first write is refused by one leader, and stored by the other or not."""

        async def write(self, write: Write, deadline: float) -> int:
            if not self.script:
                return await super().write(write, deadline)
            self.script.pop()
            if is_stored:
                self._put(write)
            raise ConflictError(is_certain=False)

    store = TwoLeaders([Fault.NONE])
    found = run(lambda: outcomes(store, [kv.ListAdd(KEY, "once"), kv.ListAdd(KEY, "too")]))
    assert found == [1, 2]
    assert store.entry.value == Value(Kind.LIST, ["once", "too"])
    assert store.writes == 1
