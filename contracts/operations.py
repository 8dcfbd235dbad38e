"""All operations that this provider serves, by name, and their bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from contracts import codec, keyvalue
from contracts import extensions as wasi
from contracts.keyvalue import KeyRequest, KeysRequest, Request

REQUESTS: dict[str, type[Request]] = {**keyvalue.REQUESTS, **wasi.REQUESTS}
"""Operation name on the wire -> request type."""

_LEGACY_PREFIX, _CBOR_PREFIX = b"\xc1", b"\x7f"


class UnknownOperationError(ValueError):
    """An operation name that this contract does not have.

    Attributes:
        operation: The name, as it came.
    """

    def __init__(self, operation: str) -> None:
        super().__init__(f"unknown operation {operation[:100]!r}")
        self.operation = operation


def decode_request(operation: str, msg: bytes) -> Request:
    """Decode the payload of an invocation.

    A leading byte 0xc1 (wasmbus protocol 2: "MessagePack follows") is skipped.

    Raises:
        UnknownOperationError: No such operation in this contract.
        codec.MalformedError: The payload is not that operation's argument; names the operation and the field.
    """
    decode = _DECODERS.get(operation)
    if decode is None:
        raise UnknownOperationError(operation)
    try:
        return decode(msg)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _decode_unusual(operation, msg)


def _decode_unusual(operation: str, msg: bytes) -> Request:
    """Decode what is not of the usual form, or tell what is wrong with it."""
    what = f"argument of {operation}"
    if msg[:1] == _LEGACY_PREFIX:
        msg = msg[1:]
    elif msg[:1] == _CBOR_PREFIX and len(msg) > 1:
        raise codec.MalformedError(what, "CBOR is not supported, only MessagePack")
    type_ = REQUESTS[operation]
    argument = codec.unpack(msg, what)
    if issubclass(type_, KeyRequest):
        if type(argument) is not str:
            raise codec.MalformedError(what, f"expected str, got {type(argument).__name__}")
        return type_(argument)
    if issubclass(type_, KeysRequest):
        return type_(codec.to_struct(argument, list[str], what))
    if issubclass(type_, wasi.SetMany):
        return type_(codec.to_struct(argument, list[wasi.Item], what))
    return codec.to_struct(argument, type_, what)


def _decoder(type_: type[Request]) -> Callable[[bytes], Request]:
    if issubclass(type_, KeyRequest):
        decode_key = msgspec.msgpack.Decoder(str).decode
        return lambda msg: type_(decode_key(msg))
    if issubclass(type_, KeysRequest):
        decode_keys = msgspec.msgpack.Decoder(list[str]).decode
        return lambda msg: type_(decode_keys(msg))
    if issubclass(type_, wasi.SetMany):
        decode_items = msgspec.msgpack.Decoder(list[wasi.Item]).decode
        return lambda msg: type_(decode_items(msg))
    return msgspec.msgpack.Decoder(type_).decode


_DECODERS = {operation: _decoder(type_) for operation, type_ in REQUESTS.items()}


def decode_change(operation: str, msg: bytes) -> wasi.HandleChange:
    """Decode what a watching actor is called with.

    Raises:
        UnknownOperationError: It is something else.
        codec.MalformedError: It is not that operation's argument.
    """
    if operation != wasi.HANDLE_CHANGE:
        raise UnknownOperationError(operation)
    what = f"argument of {operation}"
    return codec.to_struct(codec.unpack(msg, what), wasi.HandleChange, what)


def encode_request(request: Request) -> bytes:
    match request:
        case KeyRequest():
            return codec.pack(request.key)
        case KeysRequest():
            return codec.pack(request.keys)
        case wasi.SetMany():
            return codec.pack_struct(request.items)
    return codec.pack(codec.to_plain(request))


def operation_name(request: Request) -> str:
    return f"{request.interface}.{type(request).__name__}"


def encode_response(response: Any) -> bytes:
    """Encode what an operation answers; nothing is empty bytes."""
    if response is None:
        return b""
    return codec.pack_struct(response)


def decode_response(type_: type[Request], msg: bytes) -> Any:
    """Decode the answer to an operation of the given request type.

    Raises:
        codec.MalformedError: Not what that operation answers.
    """
    what = f"response of {type_.interface}.{type_.__name__}"
    if type_.response_type is None:
        if msg:
            raise codec.MalformedError(what, "expected nothing")
        return None
    return codec.to_struct(codec.unpack(msg, what), type_.response_type, what)
