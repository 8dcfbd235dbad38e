"""The outcome of one write: given to a function in the turn in which it is known, or awaited."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from provider import errors
from provider.keyvalue.bucket.cas import SentWrite
from provider.keyvalue.store import complete
from provider.tasks import cancel


def test_the_outcome_is_given_in_the_turn_in_which_it_is_known() -> None:
    sent, calls = SentWrite(0), []
    sent.then(lambda: calls.append(sent.revision()))
    assert calls == []
    sent.answer(7)
    assert calls == [7]
    sent.then(lambda: calls.append(sent.revision()))
    assert calls == [7, 7]


async def test_an_outcome_is_awaited_before_and_after_it_is_known() -> None:
    sent = SentWrite(0)
    waiting = asyncio.ensure_future(_awaited(sent))
    await asyncio.sleep(0)
    sent.fail(errors.StoreFullError("no room"))
    with pytest.raises(errors.StoreFullError):
        await waiting
    with pytest.raises(errors.StoreFullError):
        await sent


async def test_a_waiter_that_was_cancelled_is_in_nobodys_way() -> None:
    sent = SentWrite(0)
    waiting = asyncio.ensure_future(_awaited(sent))
    await asyncio.sleep(0)
    await cancel(waiting)
    sent.answer(3)
    assert await sent == 3


async def test_a_defect_in_the_function_is_logged_and_not_taken_for_the_outcome(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sent = SentWrite(0)
    sent.then(lambda: 1 // 0)
    await complete(sent, _result(5), sent.answer)
    assert [record.message for record in caplog.records] == ["internal_error"]
    assert sent.error is None
    assert await sent == 5


def test_nothing_is_left_to_the_garbage_collector() -> None:
    class Holder:
        def __init__(self) -> None:
            self.sent = SentWrite(0)
            self.sent.then(self.finish)

        def finish(self) -> None:
            assert self.sent.revision() == 1

    holder = Holder()
    left = weakref.ref(holder)
    gc.disable()
    try:
        holder.sent.answer(1)
        del holder
        assert left() is None
    finally:
        gc.enable()


async def _awaited(sent: SentWrite) -> int:
    return await sent


async def _result(revision: int) -> int:
    return revision
