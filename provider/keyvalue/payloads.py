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
    import msgspec  # loaded with the first list or set: a command that reads a text needs no JSON of its value

    from contracts.long_values import LongText


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
