"""Many changes in one call. Each is made by itself, and has a result or an error of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from contracts import keyvalue as kv
from contracts.extensions import ChangeResult, DeleteMany, SetMany
from provider import errors


def single_changes(request: SetMany | DeleteMany) -> list[kv.SingleKeyRequest]:
    """Return what a request for many keys is for each."""
    if isinstance(request, SetMany):
        return [kv.Set(item.key, item.value, item.expires) for item in request.items]
    return [kv.Del(key) for key in request.keys]


async def change_many(
    request: SetMany | DeleteMany, change: Callable[[kv.SingleKeyRequest], Awaitable[Any]]
) -> list[ChangeResult]:
    """Make all changes at the same time; those of one key in order."""
    changes = single_changes(request)
    results = await asyncio.gather(*(change(single) for single in changes), return_exceptions=True)
    return [change_result(single, result) for single, result in zip(changes, results, strict=True)]


def change_result(change: kv.SingleKeyRequest, result: Any) -> ChangeResult:
    """Return the result of one change, which may be an error that an actor is told; any other is raised."""
    if isinstance(result, errors.StoreError):
        return ChangeResult(change.key, False, str(result))
    if isinstance(result, BaseException):
        raise result
    return ChangeResult(change.key, result is not False)
