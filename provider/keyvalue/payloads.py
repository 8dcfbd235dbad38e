"""The data of a value <-> the payload of its message. Pure.

The payload is the text that a person expects `nats kv get` to show: a text as it is, a counter as decimal text, a list or a
set as a JSON array.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from contracts.integers import I32_MAX, I32_MIN
from provider.keyvalue.kinds import Kind, Value

if TYPE_CHECKING:
    from collections.abc import Generator

    import msgspec  # loaded with the first list or set: a command that reads a text needs no JSON of its value

    from contracts.long_values import LongBytes, LongText


@functools.cache
def _array_decoder() -> msgspec.json.Decoder[list[str]]:
    import msgspec

    return msgspec.json.Decoder(list[str])


@functools.cache
def _array_encoder() -> msgspec.json.Encoder:
    import msgspec

    return msgspec.json.Encoder()


def encode_payload(value: Value) -> bytes:
    """Encode the data of a value; a set becomes an array of its members, in the order in which they were added."""
    match value.kind:
        case Kind.TEXT:
            text: str | LongText = value.data
            return text.encode() if isinstance(text, str) else bytes(text)
        case Kind.COUNTER:
            return b"%d" % value.data
        case Kind.BINARY:
            return bytes(value.data)
        case _:
            return _array_encoder().encode(list(value.data))


def encoding_payload(value: Value) -> Generator[None, None, bytes | LongBytes]:
    """Encode the data of a large value in steps of about a millisecond, between which other work may be done; see `encode_payload`."""
    from contracts.long_values import SLICE_BYTES, LongBytes, LongText

    if isinstance(value.data, LongBytes):
        return value.data
    if value.kind not in (Kind.LIST, Kind.SET):
        return encode_payload(value)
    parts, batch, characters = [b"["], [], 0
    for element in value.data:
        batch.append(element)
        characters += len(element)
        if characters >= SLICE_BYTES:
            parts.append(_array_encoder().encode(batch)[1:-1] + b",")
            batch, characters = [], 0
            yield
    parts.append(_array_encoder().encode(batch)[1:])
    if not batch:
        parts[-2] = parts[-2].removesuffix(b",")
    return LongText(parts)


def decode_payload(kind: Kind, payload: bytes) -> str | bytes | int | list[str] | dict[str, None] | None:
    """Decode the data of a value of a kind; return `None` if no value of that kind has this payload."""
    try:
        if kind is Kind.TEXT:
            return payload.decode()
        if kind is Kind.COUNTER:
            number = int(payload)
            return number if I32_MIN <= number <= I32_MAX else None
        if kind is Kind.LIST:
            return _array_decoder().decode(payload)
        if kind is Kind.SET:
            return dict.fromkeys(_array_decoder().decode(payload))
    except ValueError:  # msgspec's errors are of this class
        pass
    return None
