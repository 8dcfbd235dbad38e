"""The nine functions that components call, as operations of a store, and the way back. Pure.

A call of a component becomes the request of an operation; its answer becomes the result of the function, an error a
`wrpc.Failure`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from contracts import wrpc
from contracts.extensions import ChangeResult, DeleteMany
from contracts.keyvalue import Contains, Del, Request
from provider import errors
from provider.keyvalue.byte_values import (
    GetBytes,
    GetBytesMany,
    IncrementU64,
    KeyPage,
    ListPage,
    SetBytes,
    SetBytesMany,
)
from provider.keyvalue.link_config import LinkConfig

PAGE_BYTES = 512 * 1024
"""Size of the keys on one page: with their lengths, they fit into one message of the default `max_payload`."""


OPERATIONS = (GetBytes, SetBytes, IncrementU64, GetBytesMany, SetBytesMany, ListPage)
"""The operations of components alone."""


def request_of(call: wrpc.WrpcCall, config: LinkConfig, link_name: str) -> Request:
    """Return the operation that a call asks for.

    Args:
        call: The call of a component.
        config: The settings of the component's link.
        link_name: The name of that link.

    Raises:
        errors.NoSuchStoreError: The component has opened its store by another name than the link's.
    """
    if not config.opens_by(call.bucket, link_name):
        raise errors.NoSuchStoreError(call.bucket)
    return _REQUESTS[type(call)](call)


def result_of(call: wrpc.WrpcCall, answer: Any) -> Any:
    """Return the result of a function, as its class in `contracts.wrpc` describes it.

    Args:
        call: The call.
        answer: The store's answer to the operation.

    Raises:
        errors.NotAllDoneError: A call with several changes was carried out in part.
    """
    convert = _RESULTS.get(type(call))
    return answer if convert is None else convert(call, answer)


def failure_of(error: BaseException) -> wrpc.Failure:
    """Return the error that a component is told. Only the last of the three cases has a text."""
    if isinstance(error, errors.NoSuchStoreError):
        return wrpc.Failure(wrpc.ErrorCase.NO_SUCH_STORE)
    if isinstance(error, errors.StoreForbiddenError):
        return wrpc.Failure(wrpc.ErrorCase.ACCESS_DENIED)
    return wrpc.Failure(wrpc.ErrorCase.OTHER, str(error))


def _set_many(call: wrpc.SetMany) -> Request:
    return SetBytesMany([SetBytes(key, value) for key, value in call.pairs])


_REQUESTS: dict[type[wrpc.WrpcCall], Callable[[Any], Request]] = {
    wrpc.Get: lambda call: GetBytes(call.key),
    wrpc.Set: lambda call: SetBytes(call.key, call.value),
    wrpc.Delete: lambda call: Del(call.key),
    wrpc.Exists: lambda call: Contains(call.key),
    wrpc.ListKeys: lambda call: ListPage(call.cursor or 0, PAGE_BYTES),
    wrpc.Increment: lambda call: IncrementU64(call.key, call.delta),
    wrpc.GetMany: lambda call: GetBytesMany(call.keys),
    wrpc.SetMany: _set_many,
    wrpc.DeleteMany: lambda call: DeleteMany(call.keys),
}


def _many(done: str) -> Callable[[wrpc.WrpcCall, list[ChangeResult]], None]:
    def check(call: wrpc.WrpcCall, answer: list[ChangeResult]) -> None:
        failed = [result for result in answer if result.error]
        if failed:
            raise errors.NotAllDoneError(len(failed), len(answer), done, str(failed[0].error))

    return check


def _nothing(call: wrpc.WrpcCall, answer: Any) -> None:
    """Return no result, where an operation of actors has one."""


def _key_page(call: wrpc.ListKeys, page: KeyPage) -> wrpc.KeyResponse:
    return wrpc.KeyResponse(page.keys, page.cursor)


def _pairs(call: wrpc.GetMany, values: list[bytes | None]) -> list[tuple[str, bytes] | None]:
    return [None if value is None else (key, value) for key, value in zip(call.keys, values, strict=True)]


_RESULTS: dict[type[wrpc.WrpcCall], Callable[[Any, Any], Any]] = {
    wrpc.Delete: _nothing,
    wrpc.ListKeys: _key_page,
    wrpc.GetMany: _pairs,
    wrpc.SetMany: _many("set"),
    wrpc.DeleteMany: _many("deleted"),
}
"""The functions whose result is not the answer itself."""
