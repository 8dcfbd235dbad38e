"""Changes of many keys in one call. Each change is made on its own and has its own result or error."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from contracts import keyvalue as kv
from contracts.extensions import ChangeResult, DeleteMany, SetMany
from provider import errors
from provider.keyvalue.byte_values import SetBytesMany

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
    """Make all changes of a request at the same time, but those of one key in order; return their results in order."""
    return await asyncio.gather(*(_changed(single, change(single)) for single in single_changes(request)))


async def _changed(change: kv.SingleKeyRequest, result: Awaitable[Any]) -> ChangeResult:
    try:
        return change_result(change, await result)
    except errors.StoreError as error:
        return change_result(change, error)


def change_result(change: kv.SingleKeyRequest, result: Any) -> ChangeResult:
    """Return the result of one change. A `StoreError` becomes part of the result."""
    if isinstance(result, errors.StoreError):
        return ChangeResult(change.key, False, str(result))
    return ChangeResult(change.key, result is not False)
