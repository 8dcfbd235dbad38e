"""All operations that this provider serves, by name, and the bytes of their arguments and answers."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator
from typing import Any

import msgspec
from msgspec import structs

from contracts import codec, extensions, keyvalue
from contracts.encoded_texts import EncodedGet, EncodedTexts, text_header
from contracts.keyvalue import KeyRequest, KeysRequest, Request
from contracts.long_values import LONG_BYTES, SLICE_BYTES, Buffer, LongBytes, LongText, are_utf8, utf8_outline

REQUESTS: dict[str, type[Request]] = {**keyvalue.REQUESTS, **extensions.REQUESTS}
"""Request types by the name of the operation on the wire."""

_LEGACY_PREFIX, _CBOR_PREFIX = b"\xc1", b"\x7f"
"""The first byte of a payload in protocol 2 of wasmbus, for MessagePack and for CBOR."""


_TEXT_HEADER_BYTES = {0xD9: 2, 0xDA: 3, 0xDB: 5}
"""Length of the header of a text of 32 bytes or more. Source: MessagePack specification."""

_SHORT_TEXTS = range(0xA0, 0xC0)

_PLACE = 1
"""Code of the extension that stands in the place of a long text while an answer is encoded."""


class UnknownOperationError(ValueError):
    """An operation name that this contract does not have.

    Attributes:
        operation: The name as received.
    """

    def __init__(self, operation: str) -> None:
        super().__init__(f"unknown operation {operation[:100]!r}")
        self.operation = operation


def decode_request(operation: str, msg: Buffer) -> Request:
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


def decoding_request(operation: str, msg: Buffer) -> Generator[None, None, Request]:
    """Decode a large payload in steps of less than a millisecond, between which other work may be done; see `decode_request`.

    Texts from `LONG_BYTES` on become a `LongText`. It holds the payload, unless that is much larger than the text.
    """
    decode = _RAW_DECODERS.get(operation)
    if decode is None:
        return decode_request(operation, msg)
    try:
        raw = decode(memoryview(msg)[msg[:1] == _LEGACY_PREFIX :])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _decode_unusual(operation, msg)
    is_many, type_ = isinstance(raw, list), REQUESTS[operation]
    items, read = raw if is_many else [raw], list[Any]()
    if not all(_text_header_bytes(item.value) for item in items):
        return _decode_unusual(operation, msg)  # its error names the place and the type
    for item in items:
        text = yield from _reading_text(operation, item.value, may_hold=len(item.value) > len(msg) // 8 * 7)
        fields = {**structs.asdict(item), "value": text}
        read.append(extensions.SetManyItem(**fields) if is_many else type_(**fields))
    return extensions.SetMany(read) if is_many else read[0]


def _text_header_bytes(raw: msgspec.Raw) -> int:
    """Return the length of the header of an encoded text; 0 for any other value."""
    first = memoryview(raw)[0]
    return 1 if first in _SHORT_TEXTS else _TEXT_HEADER_BYTES.get(first, 0)


def _reading_text(operation: str, raw: msgspec.Raw, *, may_hold: bool) -> Generator[None, None, str | LongText]:
    """Read an encoded text in steps.

    Args:
        operation: Name of the operation, for errors.
        raw: The encoded text.
        may_hold: Whether a long text may hold the payload that it is part of.
    """
    what = f"argument of {operation}"
    text = memoryview(raw)[_text_header_bytes(raw) :]
    if len(text) < LONG_BYTES:
        yield
        try:
            return str(text, "utf-8")
        except UnicodeDecodeError:
            raise codec.NotUtf8Error(what) from None
    outlines, copies = [], []
    for start in range(0, len(text), SLICE_BYTES):
        part = text[start : start + SLICE_BYTES]
        outlines.append(utf8_outline(part))
        if not may_hold:
            copies.append(bytes(part))
        yield
    if not are_utf8(outlines):
        raise codec.NotUtf8Error(what)
    return LongText(copies or [text])


def _decode_unusual(operation: str, msg: Buffer) -> Request:
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


def _decoder(type_: type[Request]) -> tuple[Callable[[Buffer], Any], Callable[[Any], Request] | None]:
    """Return the decoder of an argument, and the type of the request that it is the only field of; `None`: it is the request."""
    if issubclass(type_, KeyRequest):
        return msgspec.msgpack.Decoder(str).decode, type_
    if issubclass(type_, KeysRequest):
        return msgspec.msgpack.Decoder(list[str]).decode, type_
    if issubclass(type_, extensions.SetMany):
        return msgspec.msgpack.Decoder(list[extensions.SetManyItem]).decode, type_
    return msgspec.msgpack.Decoder(type_).decode, None


_DECODERS = {operation: _decoder(type_) for operation, type_ in REQUESTS.items()}


def _raw_decoders() -> dict[str, Callable[[memoryview], Any]]:
    """Return, by operation, the decoders that leave texts as they are encoded, for the operations whose texts may be long."""
    decoders: dict[str, Callable[[memoryview], Any]] = {}
    types: tuple[type[msgspec.Struct], ...] = (
        keyvalue.Set,
        extensions.Create,
        extensions.CompareAndSwap,
        extensions.SetManyItem,
    )
    for type_ in types:
        fields: list[tuple[str, Any]] = [
            (field.name, msgspec.Raw if field.name == "value" else field.type)
            for field in msgspec.structs.fields(type_)
        ]
        raw: Any = msgspec.defstruct(f"Raw{type_.__name__}", fields, frozen=True, gc=False)
        if issubclass(type_, Request):
            decoders[f"{type_.interface}.{type_.__name__}"] = msgspec.msgpack.Decoder(raw).decode
        else:
            decoders[f"{extensions.BATCH}.{extensions.SetMany.__name__}"] = msgspec.msgpack.Decoder(list[raw]).decode
    return decoders


_RAW_DECODERS = _raw_decoders()


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


def encode_change(change: extensions.HandleChange) -> bytes | LongBytes:
    """Encode the argument with which a provider calls a watching actor; a long text is not copied."""
    try:
        return codec.pack_struct(change)
    except TypeError:
        return _encode_in_parts(change)


def operation_name(request: Request) -> str:
    return f"{request.interface}.{type(request).__name__}"


def encode_response(response: Any) -> bytes | LongBytes:
    """Encode the answer of an operation. None becomes empty bytes; an answer with long texts is in parts."""
    if response is None:
        return b""
    if isinstance(response, (EncodedTexts, EncodedGet)):
        return response.encode()
    try:
        return codec.pack_struct(response)
    except TypeError:  # it has long texts
        return _encode_in_parts(response)


def _encode_in_parts(response: Any) -> LongBytes:
    """Encode an answer in which long texts stand for texts. They are not copied."""
    texts: list[LongText] = []
    place = msgspec.msgpack.Ext(_PLACE, secrets.token_bytes(16))

    def put_aside(value: object) -> msgspec.msgpack.Ext:
        if not isinstance(value, LongText):
            raise TypeError(f"{type(value).__name__} in an answer")
        texts.append(value)
        return place

    between = msgspec.msgpack.Encoder(enc_hook=put_aside).encode(response).split(codec.pack_struct(place))
    parts: list[bytes | memoryview] = [between[0]]
    for text, after in zip(texts, between[1:], strict=True):
        parts += [text_header(len(text)), *text.parts, after]
    return LongBytes([part for part in parts if part])


def decode_response(type_: type[Request], msg: Buffer) -> Any:
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
