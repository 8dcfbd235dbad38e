"""The operations of wasmcloud:keyvalue: each one's name, request and response.

Source: wasmCloud/interfaces keyvalue.smithy. Every field of every request is required: a missing or misnamed one is an
error, never a default.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, Struct, field

from contracts import codec

CONTRACT_ID = "wasmcloud:keyvalue"
INTERFACE = "KeyValue"

I32_MIN, I32_MAX = -(2**31), 2**31 - 1
U32_MAX = 2**32 - 1
I32 = Annotated[int, Meta(ge=I32_MIN, le=I32_MAX)]
U32 = Annotated[int, Meta(ge=0, le=U32_MAX)]


class Request(Struct, frozen=True, gc=False):
    """The argument of one operation; its class is the operation."""

    response_type: ClassVar[Any]
    """What the operation answers; `None`: nothing, on the wire empty bytes."""


class GetResponse(Struct, frozen=True, gc=False):
    """`value` is empty when the key does not exist."""

    value: str
    exists: bool


class SingleKeyRequest(Request, frozen=True, gc=False):
    """A request about one key."""

    key: str


class KeyRequest(SingleKeyRequest, frozen=True, gc=False):
    """A request whose whole argument is the key, on the wire a bare text."""


class Get(KeyRequest, frozen=True, gc=False):
    """Read the text or the number at a key."""

    response_type = GetResponse


class Contains(KeyRequest, frozen=True, gc=False):
    """Tell whether there is a value of any kind."""

    response_type = bool


class Del(KeyRequest, frozen=True, gc=False):
    """Remove a value of any kind; answers whether there was one."""

    response_type = bool


class ListClear(KeyRequest, frozen=True, gc=False):
    """Remove a list; answers whether there was one."""

    response_type = bool


class SetClear(KeyRequest, frozen=True, gc=False):
    """Remove a set; answers whether there was one."""

    response_type = bool


class SetQuery(KeyRequest, frozen=True, gc=False):
    """Read the members of a set."""

    response_type = list[str]


class Set(SingleKeyRequest, frozen=True, gc=False):
    """Put a text. `expires` is in seconds from now; 0: never."""

    value: str
    expires: U32
    response_type = None


class Increment(SingleKeyRequest, frozen=True, gc=False):
    """Add `value`, which may be negative, to the number at a key; answers the new total."""

    value: I32
    response_type = int


class ListAdd(SingleKeyRequest, frozen=True, gc=False):
    """Append to a list; answers its new length."""

    key: str = field(name="listName")
    value: str
    response_type = int


class ListDel(SingleKeyRequest, frozen=True, gc=False):
    """Remove the first element equal to `value`; answers whether there was one."""

    key: str = field(name="listName")
    value: str
    response_type = bool


class ListRange(SingleKeyRequest, frozen=True, gc=False):
    """Read the elements from `start` to `stop`, both included; negative ones count from the end."""

    key: str = field(name="listName")
    start: I32
    stop: I32
    response_type = list[str]


class SetAdd(SingleKeyRequest, frozen=True, gc=False):
    """Add a member; answers how many were new, 1 or 0."""

    key: str = field(name="setName")
    value: str
    response_type = int


class SetDel(SingleKeyRequest, frozen=True, gc=False):
    """Remove a member; answers how many were there, 1 or 0."""

    key: str = field(name="setName")
    value: str
    response_type = int


class KeysRequest(Request, frozen=True, gc=False):
    """A request whose whole argument is an array of keys."""

    keys: list[str]


class SetUnion(KeysRequest, frozen=True, gc=False):
    """Read the members that are in any of the sets."""

    response_type = list[str]


class SetIntersection(KeysRequest, frozen=True, gc=False):
    """Read the members that are in all of the sets."""

    response_type = list[str]


REQUESTS: dict[str, type[Request]] = {
    f"{INTERFACE}.{type_.__name__}": type_
    for type_ in (
        Contains,
        Del,
        Get,
        Increment,
        ListAdd,
        ListClear,
        ListDel,
        ListRange,
        Set,
        SetAdd,
        SetClear,
        SetDel,
        SetIntersection,
        SetQuery,
        SetUnion,
    )
}
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
    return codec.to_struct(argument, type_, what)


def _decoder(type_: type[Request]) -> Callable[[bytes], Request]:
    if issubclass(type_, KeyRequest):
        decode_key = msgspec.msgpack.Decoder(str).decode
        return lambda msg: type_(decode_key(msg))
    if issubclass(type_, KeysRequest):
        decode_keys = msgspec.msgpack.Decoder(list[str]).decode
        return lambda msg: type_(decode_keys(msg))
    return msgspec.msgpack.Decoder(type_).decode


_DECODERS = {operation: _decoder(type_) for operation, type_ in REQUESTS.items()}


def encode_request(request: Request) -> bytes:
    match request:
        case KeyRequest():
            return codec.pack(request.key)
        case KeysRequest():
            return codec.pack(request.keys)
    return codec.pack(codec.to_plain(request))


def operation_name(request: Request) -> str:
    return f"{INTERFACE}.{type(request).__name__}"


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
    what = f"response of {INTERFACE}.{type_.__name__}"
    if type_.response_type is None:
        if msg:
            raise codec.MalformedError(what, "expected nothing")
        return None
    return codec.to_struct(codec.unpack(msg, what), type_.response_type, what)
