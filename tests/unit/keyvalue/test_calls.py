"""The calls of stores: a result that comes too late starts nothing."""

from __future__ import annotations

import asyncio

import pytest

from provider import errors
from provider.keyvalue.store import FutureCall, complete


def test_work_that_ends_after_its_caller_was_told_that_nothing_was_changed_changes_nothing() -> None:
    async def late() -> list[str]:
        loop = asyncio.get_running_loop()
        payload: asyncio.Future[str] = loop.create_future()
        call, carried_out = FutureCall(loop.time(), loop.create_future()), list[str]()
        completing = asyncio.ensure_future(complete(call, payload, carried_out.append))
        await asyncio.sleep(0)
        call.fail(errors.StoreTimeoutError(2000, "the provider is too busy"))
        payload.set_result("a value")
        await completing
        with pytest.raises(errors.StoreTimeoutError):
            await call.future
        return carried_out

    assert asyncio.run(late()) == []
