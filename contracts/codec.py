"""The rules of encoding: MessagePack and JSON bytes to plain values, plain values to typed structs.

The module does not know the meaning of any message. Every way in which bytes can be wrong ends in `MalformedError`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any, TypeVar

import msgpack
import msgspec

from contracts.long_values import Buffer
from contracts.secret import Secret

T = TypeVar("T")


class MalformedError(ValueError):
    """Bytes that do not have the expected form.

    Attributes:
        what: The message or the part that was decoded, e.g. `invocation`.
        reason: The fault and its place, without the bytes.
    """

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"malformed {what}: {reason}")
        self.what = what
        self.reason = reason


class NotUtf8Error(MalformedError):
    """A text that is not UTF-8."""

    def __init__(self, what: str) -> None:
        super().__init__(what, "text that is not UTF-8")


def unpack(data: Buffer, what: str, *, undecodable_text: bool = False) -> Any:
    """Decode exactly one MessagePack value.

    Args:
        data: The whole message. Bytes left over after the value are an error.
        what: Name of the message in errors.
        undecodable_text: Let `str` values hold bytes that are not UTF-8, as surrogate escapes. OTP hosts pack
            binaries as `str`.

    Raises:
        MalformedError: The data is empty, truncated, nested too deep, followed by other bytes, or has a map key that
            is not a text.
        NotUtf8Error: A text is not UTF-8.

    Source: MessagePack specification; msgpack-python bounds every length by the size of the input and the depth by 511.
    """
    try:
        return msgpack.unpackb(data, unicode_errors="surrogateescape" if undecodable_text else "strict")
    except msgpack.ExtraData:
        raise MalformedError(what, "bytes left over after the MessagePack value") from None
    except msgpack.StackError:
        raise MalformedError(what, "nested too deep") from None
    except UnicodeDecodeError:
        raise NotUtf8Error(what) from None
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        detail = str(error) if data else "empty"
        raise MalformedError(what, f"not MessagePack ({detail or 'invalid format'})") from None


def check_utf8(value: Any, what: str) -> None:
    """Refuse plain values in which any text was decoded from bytes that are not UTF-8.

    Raises:
        NotUtf8Error: A text is not UTF-8.
    """
    try:
        msgspec.json.encode(value)
    except (UnicodeEncodeError, TypeError):
        raise NotUtf8Error(what) from None


pack: Callable[[Any], bytes] = msgpack.packb
"""Encode plain values (maps, lists, texts, bytes, numbers, None) as MessagePack."""

pack_struct: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode
"""Encode a struct as a MessagePack map with text keys, in the order of its fields and without those that are unset.

The bytes of plain values are those of `pack`. Every invocation and every response is encoded here, because msgspec
takes a third of the time.
"""


def unpack_json(data: bytes | str, what: str) -> Any:
    """Decode one JSON document to plain values.

    Raises:
        MalformedError: The data is not JSON, or not UTF-8.
    """
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(what, f"not JSON ({error})") from None


def pack_json(value: Any) -> bytes:
    """Encode plain values as one JSON document."""
    return msgspec.json.encode(value)


def to_plain(struct: msgspec.Struct) -> dict[str, Any]:
    """Return a struct as plain values. Secrets are revealed, so the result may only be encoded and sent."""
    plain: dict[str, Any] = msgspec.to_builtins(struct, enc_hook=_reveal)
    return plain


def to_struct(value: Any, type_: type[T], what: str) -> T:
    """Check plain values against a struct type. No field may be missing, and no number is coerced.

    Raises:
        MalformedError: A field is missing or of the wrong type. The reason names the field and the expected type.
    """
    try:
        return msgspec.convert(value, type_, dec_hook=_secret)
    except msgspec.ValidationError as error:
        raise MalformedError(what, _field_first(str(error))) from None
    except RecursionError:
        raise MalformedError(what, "nested too deep") from None


def with_known_names(value: Any, known: frozenset[str], aliases: dict[str, str]) -> Any:
    """Rename the keys of a map by `aliases`. A map of known keys only, and any other value, is returned unchanged."""
    if not isinstance(value, dict) or value.keys() <= known:
        return value
    return {aliases.get(key, key) if key not in known else key: item for key, item in value.items()}


def only_known_names(value: Any, known: frozenset[str], aliases: dict[str, str]) -> Any:
    """Rename keys like `with_known_names`, and drop those that are neither known nor aliases."""
    if not isinstance(value, dict):
        return value
    return {key: item for key, item in with_known_names(value, known, aliases).items() if key in known}


def decode_base64(text: str | bytes, what: str) -> bytes:
    """Decode base64 in the standard alphabet, with or without padding.

    Raises:
        MalformedError: A character is outside the alphabet, or the length is impossible.
    """
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    stripped = data.rstrip(b"=")
    try:
        return binascii.a2b_base64(stripped + b"=" * (-len(stripped) % 4), strict_mode=True)
    except binascii.Error as error:
        raise MalformedError(what, f"not base64 ({str(error).lower()})") from None


def encode_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def camel_and_snake(*names: str) -> dict[str, str]:
    """Map the other spelling of each wire name (camelCase for a snake_case name, and the reverse) to the name itself."""
    aliases = {}
    for name in names:
        if "_" in name:
            head, *rest = name.split("_")
            aliases[head + "".join(part.capitalize() for part in rest)] = name
        else:
            aliases["".join(f"_{char.lower()}" if char.isupper() else char for char in name)] = name
    return {alias: name for alias, name in aliases.items() if alias != name}


def _secret(type_: type, value: Any) -> Any:
    if type_ is Secret and isinstance(value, str):
        return Secret(value)
    raise TypeError(f"Expected `str`, got `{type(value).__name__}`")  # msgspec adds the place


def _reveal(value: Any) -> Any:
    if isinstance(value, Secret):
        return value.reveal()
    raise NotImplementedError


def _field_first(message: str) -> str:
    """Turn msgspec's "Expected `int`, got `str` - at `$.value`" into "field value: expected int, got str"."""
    text, _, path = message.partition(" - at `$")
    text = text.replace("`", "")
    path = path.rstrip("`").lstrip(".")
    text = text[:1].lower() + text[1:]
    return f"field {path}: {text}" if path else text
