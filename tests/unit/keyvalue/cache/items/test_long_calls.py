"""Calls about large sets and lists: they answer as small ones do, see one moment, and let others go on in between."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import msgpack
import pytest

from contracts import keyvalue as kv
from contracts.extensions import GetEntry
from contracts.operations import encode_response
from provider import errors
from provider.keyvalue.cache import long_calls as module
from provider.keyvalue.cache.items import blocks
from provider.keyvalue.cache.long_calls import LongCalls
from provider.keyvalue.cache.replica import Replica
from provider.keyvalue.conditional import entry_response
from tests.unit.keyvalue.cache.exchange import NO_LIMITS, change, exchange, replica_of

PREFIX = "p."
MANY = 200
MEMBERS = [f"m{number}" for number in range(MANY)]
ELEMENTS = [f"e{number % 50}" for number in range(MANY)]


class Call:
    """A call of which only the time matters here."""

    deadline = math.inf
    is_done = False
    room_bytes = 0

    async def take_room(self, size_bytes: int) -> None:
        self.room_bytes = size_bytes

    def answer(self, result: Any) -> None:
        raise AssertionError

    def fail(self, error: BaseException) -> None:
        raise AssertionError


@pytest.fixture(autouse=True)
def everything_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a few items be many, and each slice be one step."""
    monkeypatch.setattr(blocks, "BLOCK_ITEMS", 8)
    monkeypatch.setattr(module, "_LONG_ITEMS", 10)
    monkeypatch.setattr(module, "_SLICE_SECONDS", 1e-9)


@pytest.fixture
def replica() -> Replica:
    replica = replica_of(1)
    for member, element in zip(MEMBERS, ELEMENTS, strict=True):
        change(replica, kv.SetAdd("p.set", member))
        change(replica, kv.ListAdd("p.list", element))
    for member in (*MEMBERS[::3], "other"):
        change(replica, kv.SetAdd("p.third", member))
    change(replica, kv.SetAdd("p.small", "m1"))
    change(replica, kv.Set("p.text", "x", 0))
    return replica


def answered(result: Any) -> Any:
    return msgpack.unpackb(bytes(encode_response(result)))


async def perform(calls: LongCalls, request: kv.Request) -> Any:
    assert calls.is_long(request, PREFIX)
    return answered(await calls.perform(request, PREFIX, NO_LIMITS, Call()))


READS: list[tuple[kv.Request, list[str]]] = [
    (kv.SetQuery("set"), MEMBERS),
    (kv.ListRange("list", 0, -1), ELEMENTS),
    (kv.ListRange("list", -30, 1000), ELEMENTS[-30:]),
    (kv.ListRange("list", 20, 60), ELEMENTS[20:61]),
    (kv.ListRange("list", 60, -1000), []),
    (kv.ListRange("list", 2, -203), []),
    (kv.SetUnion(["set", "third", "absent", "set"]), [*MEMBERS, "other"]),
    (kv.SetIntersection(["third", "set"]), MEMBERS[::3]),
    (kv.SetIntersection(["set", "set"]), MEMBERS),
    (kv.SetIntersection(["set", "small"]), ["m1"]),
    (kv.SetIntersection(["set", "absent"]), []),
]


@pytest.mark.parametrize(("request_", "expected"), READS, ids=[repr(request) for request, _ in READS])
async def test_a_long_read_answers_as_a_short_one(replica: Replica, request_: kv.Request, expected: list[str]) -> None:
    found = await perform(LongCalls(replica, 10**6), request_)
    assert (found if isinstance(request_, kv.ListRange) else sorted(found)) == (
        expected if isinstance(request_, kv.ListRange) else sorted(expected)
    )


@pytest.mark.parametrize(("key", "kind"), [("set", "set"), ("list", "list"), ("mixed", "text")])
async def test_a_large_entry_is_that_of_a_short_call(replica: Replica, key: str, kind: str) -> None:
    for member in MEMBERS:
        change(replica, kv.SetAdd("p.mixed", member))
    other = replica_of(2)
    change(other, kv.Set("p.mixed", "later", 0), now_ms=30_000)
    exchange(replica, other)
    entry = await LongCalls(replica, 10**6).perform(GetEntry(key), PREFIX, NO_LIMITS, Call())
    short = entry_response(key, replica.read(PREFIX + key, 1000), replica.revision(PREFIX + key), 1000)
    assert (entry.kind, entry.revision, entry.exists, entry.expires) == (kind, short.revision, True, 0)
    if kind == "text":
        assert entry == short
    else:
        assert sorted(json.loads(entry.value)) == sorted(MEMBERS if kind == "set" else ELEMENTS)
        assert kind == "set" or entry == short


@pytest.mark.parametrize(
    "request_", [kv.ListRange("list", 0, 9), kv.SetQuery("small"), kv.SetQuery("text"), kv.ListDel("absent", "x")]
)
async def test_a_call_about_few_items_is_not_long(replica: Replica, request_: kv.Request) -> None:
    assert not LongCalls(replica, 10**6).is_long(request_, PREFIX)


FAILURES: list[tuple[kv.Request, type[Exception]]] = [
    (kv.ListRange("set", 0, -1), errors.WrongKindError),
    (kv.SetQuery("list"), errors.WrongKindError),
    (kv.ListDel("set", "x"), errors.WrongKindError),
    (kv.SetUnion(["set", "text"]), errors.WrongKindError),
    (kv.SetIntersection(["set", ""]), errors.EmptyKeyError),
    (kv.SetUnion(["set", "k" * 4000]), errors.KeyTooLongError),
]


@pytest.mark.parametrize(("request_", "error"), FAILURES)
async def test_a_long_call_fails_as_a_short_one(replica: Replica, request_: kv.Request, error: type[Exception]) -> None:
    calls = LongCalls(replica, 10**6)
    with pytest.raises(error):
        await perform(calls, request_)
    assert not any(items.listeners for cell in replica.cells.values() for items in cell.collections())


async def test_an_answer_over_the_limit_is_an_error_that_names_it(replica: Replica) -> None:
    with pytest.raises(errors.AnswerTooLargeError, match=r"SetQuery would take \d+ bytes, over max_answer_bytes.* 300"):
        await perform(LongCalls(replica, 300), kv.SetQuery("set"))


async def test_others_go_on_between_the_slices_and_the_answer_is_that_of_the_beginning(replica: Replica) -> None:
    calls, turns = LongCalls(replica, 10**6), 0
    reading = asyncio.create_task(perform(calls, kv.SetQuery("set")))
    while not reading.done():
        await asyncio.sleep(0)
        if replica.cells["p.set"].members and turns:
            change(replica, kv.SetAdd("p.set", f"new {turns}"))
            change(replica, kv.SetDel("p.set", f"m{turns}"))
        turns += 1
    assert turns > 20
    assert sorted(await reading) == sorted(MEMBERS)


async def test_a_set_that_is_cleared_meanwhile_is_read_to_its_end(replica: Replica) -> None:
    reading = asyncio.create_task(perform(LongCalls(replica, 10**6), kv.SetQuery("set")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert change(replica, kv.SetClear("p.set")) is True
    while replica.drop_blocks():
        pass
    assert sorted(await reading) == sorted(MEMBERS)


async def test_one_slice_of_all_calls_is_made_in_a_turn(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = LongCalls(replica, 10**6)
    reading = [asyncio.create_task(perform(calls, kv.SetQuery("set"))) for _ in range(10)]
    turns = 0
    while not all(task.done() for task in reading):
        await asyncio.sleep(0)
        turns += 1
    assert turns > 10 * MANY / 8


async def test_calls_that_delete_the_same_text_at_once_delete_as_many_elements(replica: Replica) -> None:
    calls = LongCalls(replica, 10**6)
    found = await asyncio.gather(
        *(calls.perform(kv.ListDel("list", "e7"), PREFIX, NO_LIMITS, Call()) for _ in range(6))
    )
    assert sorted(found) == [False, False, True, True, True, True]
    assert await perform(calls, kv.ListRange("list", 0, -1)) == [text for text in ELEMENTS if text != "e7"]


async def test_the_first_of_equal_elements_is_deleted(replica: Replica) -> None:
    calls = LongCalls(replica, 10**6)
    assert await calls.perform(kv.ListDel("list", "e3"), PREFIX, NO_LIMITS, Call()) is True
    assert await perform(calls, kv.ListRange("list", 0, -1)) == [*ELEMENTS[:3], *ELEMENTS[4:]]


async def test_a_list_that_is_cleared_while_it_is_searched_is_searched_anew(replica: Replica) -> None:
    calls = LongCalls(replica, 10**6)
    deleting = asyncio.create_task(calls.perform(kv.ListDel("list", "absent"), PREFIX, NO_LIMITS, Call()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    change(replica, kv.ListClear("p.list"))
    change(replica, kv.ListAdd("p.list", "absent"))
    change(replica, kv.ListAdd("p.list", "stays"))
    assert await deleting is True
    assert list(replica.read("p.list", 1000).data) == ["stays"]  # type: ignore[union-attr]


async def test_a_call_whose_time_is_over_ends(replica: Replica) -> None:
    calls, call = LongCalls(replica, 2**16), Call()
    reading = asyncio.create_task(calls.perform(kv.SetQuery("set"), PREFIX, NO_LIMITS, call))
    await asyncio.sleep(0)
    call.is_done = True
    with pytest.raises(errors.StoreTimeoutError):
        await reading
    assert call.room_bytes == sum(map(len, MEMBERS))
    assert sorted(await perform(calls, kv.SetQuery("set"))) == sorted(MEMBERS)
