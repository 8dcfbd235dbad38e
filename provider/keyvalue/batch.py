"""Changes of many keys in one call. Each change is made on its own and has its own result or error."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from contracts import keyvalue as kv
from contracts.extensions import ChangeResult, DeleteMany, SetMany
from provider import errors
from provider.keyvalue.byte_values import SetBytesMany
from provider.room import Room

_ROOM_BYTES = 2 * 1024 * 1024
"""Size of the values of one call that are written at the same time, unless one of them is larger."""

ManyChanges = SetMany | DeleteMany | SetBytesMany


def single_changes(request: ManyChanges) -> Sequence[kv.SingleKeyRequest]:
    """Return the changes of single keys that make up a request, in its order."""
    if isinstance(request, SetMany):
        return [kv.Set(item.key, item.value, item.expires) for item in request.items]
    if isinstance(request, SetBytesMany):
        return request.items
    return [kv.Del(key) for key in request.keys]


async def change_many(
    request: ManyChanges, change: Callable[[kv.SingleKeyRequest], Awaitable[Any]]
) -> list[ChangeResult]:
    """Make all changes of a request at the same time, but those of one key in order; return their results in order.

    Of large values few are under way at once, as each takes milliseconds to send.
    """
    room = Room(_ROOM_BYTES)

    async def changed(single: kv.SingleKeyRequest) -> ChangeResult:
        size_bytes = len(getattr(single, "value", ""))
        await room.take(size_bytes)
        try:
            return change_result(single, await change(single))
        except errors.StoreError as error:
            return change_result(single, error)
        finally:
            room.give_back(size_bytes)

    return await asyncio.gather(*(changed(single) for single in single_changes(request)))


def change_result(change: kv.SingleKeyRequest, result: Any) -> ChangeResult:
    """Return the result of one change. A `StoreError` becomes part of the result."""
    if isinstance(result, errors.StoreError):
        return ChangeResult(change.key, False, str(result))
    return ChangeResult(change.key, result is not False)
