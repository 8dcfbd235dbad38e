"""Room for large payloads: bounded, in order, and never lost."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider import errors
from provider.config import ProcessLimits
from provider.lattice.call_counts import CallCounts
from provider.room import Room
from provider.serving.calls import Calls, ServedCall
from provider.telemetry.export import Telemetry

SIZE = 100


def soon(seconds: float = 10.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_what_fits_is_not_kept_waiting() -> None:
    room = Room(SIZE)
    await room.take(60, soon())
    await room.take(40, soon())


async def test_a_small_payload_does_not_overtake_a_large_one() -> None:
    room = Room(SIZE)
    await room.take(60, soon())
    large, small = (asyncio.create_task(room.take(size, soon())) for size in (80, 10))
    await asyncio.sleep(0)
    assert not large.done()
    assert not small.done()
    room.give_back(60)
    await asyncio.gather(large, small)


async def test_a_payload_that_cannot_wait_gets_an_error_and_the_next_one_its_turn() -> None:
    calls = Calls(ProcessLimits(max_invocation_bytes=SIZE), CallCounts(()), cast(Telemetry, None))

    def take(size: int, deadline: float) -> asyncio.Task[None]:
        call = ServedCall(
            calls=calls, link=("a", "c", "l"), operation="o", header=b"", size_bytes=size, began=0.0, deadline=deadline
        )
        return asyncio.create_task(calls.take_room(call))

    await take(60, soon())
    late, behind = take(80, soon(0.0)), take(40, soon())
    with pytest.raises(errors.NoRoomError, match=r"payload of 80 bytes in time: others take the 100 of max_invocation"):
        await late
    await behind


async def test_a_cancelled_wait_lets_the_next_one_in_at_once() -> None:
    room = Room(SIZE)
    await room.take(60)
    cancelled, behind = asyncio.create_task(room.take(80)), asyncio.create_task(room.take(40))
    await asyncio.sleep(0)
    cancelled.cancel()
    await behind


async def test_a_payload_larger_than_the_room_goes_alone() -> None:
    room = Room(SIZE)
    await room.take(3 * SIZE)
    small = asyncio.create_task(room.take(1))
    await asyncio.sleep(0)
    assert not small.done()
    room.give_back(3 * SIZE)
    await small


async def test_a_turn_that_comes_with_a_cancellation_goes_to_the_next() -> None:
    room = Room(SIZE)
    await room.take(SIZE, soon())
    cancelled, behind = (asyncio.create_task(room.take(SIZE, soon())) for _ in range(2))
    await asyncio.sleep(0)
    room.give_back(SIZE)
    cancelled.cancel()
    await asyncio.wait({cancelled})
    assert cancelled.cancelled()
    await behind


@given(st.lists(st.integers(1, SIZE), max_size=30), st.randoms(use_true_random=False))
def test_the_room_is_never_exceeded_and_everyone_has_a_turn(sizes: list[int], random: object) -> None:
    taken, most = 0, 0

    async def serve(room: Room, size: int) -> None:
        nonlocal taken, most
        await room.take(size, soon())
        taken += size
        most = max(most, taken)
        for _ in range(random.randrange(3)):  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        taken -= size
        room.give_back(size)

    async def serve_all() -> None:
        room = Room(SIZE)
        await asyncio.gather(*(serve(room, size) for size in sizes))

    asyncio.run(serve_all())
    assert most <= SIZE
    assert taken == 0


async def test_room_that_is_given_back_when_one_that_waits_was_just_cancelled_goes_to_the_next() -> None:
    room = Room(10)
    await room.take(10)
    first, second = (asyncio.create_task(room.take(10)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    room.give_back(10)
    await asyncio.wait_for(second, 1)
    assert first.cancelled()
    room.give_back(10)
    await asyncio.wait_for(room.take(10), 1)
