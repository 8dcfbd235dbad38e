"""All operations that this provider serves, by name, and the bytes of their arguments and answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from contracts import codec, extensions, keyvalue
from contracts.encoded_texts import EncodedGet, EncodedTexts
from contracts.keyvalue import KeyRequest, KeysRequest, Request

REQUESTS: dict[str, type[Request]] = {**keyvalue.REQUESTS, **extensions.REQUESTS}
"""Request types by the name of the operation on the wire."""

_LEGACY_PREFIX, _CBOR_PREFIX = b"\xc1", b"\x7f"
"""The first byte of a payload in protocol 2 of wasmbus, for MessagePack and for CBOR."""


class UnknownOperationError(ValueError):
    """An operation name that this contract does not have.

    Attributes:
        operation: The name as received.
    """

    def __init__(self, operation: str) -> None:
        super().__init__(f"unknown operation {operation[:100]!r}")
        self.operation = operation


def decode_request(operation: str, msg: bytes) -> Request:
    """Decode the payload of an invocation.

    A leading byte 0xc1 (wasmbus protocol 2: "MessagePack follows") is skipped.

    Raises:
        UnknownOperationError: The contract has no operation of this name.
        codec.MalformedError: The payload is not the argument of the operation. The error names the operation and the
            field.
    """
    decoder = _DECODERS.get(operation)
    if decoder is None:
        raise UnknownOperationError(operation)
    decode, make = decoder
    try:
        return decode(msg) if make is None else make(decode(msg))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _decode_unusual(operation, msg)


def _decode_unusual(operation: str, msg: bytes) -> Request:
    """Decode a payload that is not of the usual form, or raise an error that names the fault."""
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
    if issubclass(type_, extensions.SetMany):
        return type_(codec.to_struct(argument, list[extensions.SetManyItem], what))
    return codec.to_struct(argument, type_, what)


def _decoder(type_: type[Request]) -> tuple[Callable[[bytes], Any], Callable[[Any], Request] | None]:
    """Return the decoder of an argument, and the type of the request that it is the only field of; `None`: it is the request."""
    if issubclass(type_, KeyRequest):
        return msgspec.msgpack.Decoder(str).decode, type_
    if issubclass(type_, KeysRequest):
        return msgspec.msgpack.Decoder(list[str]).decode, type_
    if issubclass(type_, extensions.SetMany):
        return msgspec.msgpack.Decoder(list[extensions.SetManyItem]).decode, type_
    return msgspec.msgpack.Decoder(type_).decode, None


_DECODERS = {operation: _decoder(type_) for operation, type_ in REQUESTS.items()}


def decode_change(operation: str, msg: bytes) -> extensions.HandleChange:
    """Decode the argument with which a provider calls a watching actor.

    Raises:
        UnknownOperationError: The operation is another one.
        codec.MalformedError: The payload is not the argument of the operation.
    """
    if operation != extensions.HANDLE_CHANGE:
        raise UnknownOperationError(operation)
    what = f"argument of {operation}"
    return codec.to_struct(codec.unpack(msg, what), extensions.HandleChange, what)


def encode_request(request: Request) -> bytes:
    match request:
        case KeyRequest():
            return codec.pack(request.key)
        case KeysRequest():
            return codec.pack(request.keys)
        case extensions.SetMany():
            return codec.pack_struct(request.items)
    return codec.pack(codec.to_plain(request))


def operation_name(request: Request) -> str:
    return f"{request.interface}.{type(request).__name__}"


def encode_response(response: Any) -> bytes | bytearray:
    """Encode the answer of an operation. None becomes empty bytes."""
    if response is None:
        return b""
    if isinstance(response, (EncodedTexts, EncodedGet)):
        return response.encode()
    return codec.pack_struct(response)


def decode_response(type_: type[Request], msg: bytes | bytearray) -> Any:
    """Decode the answer to an operation of the given request type.

    Raises:
        codec.MalformedError: The bytes are not an answer of that operation.
    """
    what = f"response of {type_.interface}.{type_.__name__}"
    if type_.response_type is None:
        if msg:
            raise codec.MalformedError(what, "expected nothing")
        return None
    return codec.to_struct(codec.unpack(msg, what), type_.response_type, what)
