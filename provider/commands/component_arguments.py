"""The arguments of `call` in a lattice of 1.x, parsed into a call of a component; and its result as other commands show it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from contracts import wrpc
from contracts.component_values import U64_MAX
from contracts.extensions import GetResult, ListKeysResponse
from contracts.keyvalue import GetResponse
from provider.commands.errors import ArgumentsError
from provider.suggestions import suggestion

_BUCKET = "default"
"""The name with which the component opens its store."""

FORMS: dict[type[wrpc.WrpcCall], tuple[str, str, int, int | None]] = {
    wrpc.Get: ("Get", "KEY", 1, 1),
    wrpc.Set: ("Set", "KEY VALUE", 2, 2),
    wrpc.Delete: ("Del", "KEY", 1, 1),
    wrpc.Exists: ("Contains", "KEY", 1, 1),
    wrpc.ListKeys: ("ListKeys", "[CURSOR]", 0, 1),
    wrpc.Increment: ("Increment", "KEY VALUE", 2, 2),
    wrpc.GetMany: ("GetMany", "KEY [KEY ...]", 1, None),
    wrpc.SetMany: ("SetMany", "KEY=VALUE [KEY=VALUE ...]", 1, None),
    wrpc.DeleteMany: ("DeleteMany", "KEY [KEY ...]", 1, None),
}
"""The name in other lattices, the form, and the least and greatest number of arguments of each function."""

_NAMES = {
    spelling: type_
    for type_, (name, *_) in FORMS.items()
    for spelling in (name.lower(), type_.function.replace("-", ""))
}

Reader = Callable[[str], bytes]


class BinaryResponse(Struct, frozen=True):
    """The answer to `Get` of a value that is not text, as it is shown in JSON."""

    value_base64: str
    exists: bool = True

    @property
    def value(self) -> bytes:
        return base64.b64decode(self.value_base64)


def component_call_from(
    name: str, arguments: list[str], expires: int | None, read_value: Callable[[str], bytes]
) -> wrpc.WrpcCall:
    """Return the call of a function with its arguments.

    Args:
        name: Name of the function, or of the operation of actors that does the same.
        arguments: Texts of the command line.
        expires: Seconds that were given for the value's end; components give none.
        read_value: Turns the argument of a value into its bytes.

    Raises:
        ArgumentsError: There is no such function, the number of arguments is wrong, or one of them is not valid.
    """
    type_ = _NAMES.get(name.lower().rpartition(".")[2].replace("-", ""))
    if type_ is None:
        hint = suggestion(name.lower(), {spelling: FORMS[type_][0] for spelling, type_ in _NAMES.items()}, _all())
        raise ArgumentsError(f"components have no function {name!r}; {hint}")
    own_name, form, least, most = FORMS[type_]
    if expires is not None:
        raise ArgumentsError("components of 1.x hosts cannot let a value expire, so --expires has no meaning here")
    if len(arguments) < least or (most is not None and len(arguments) > most):
        raise ArgumentsError(
            f"{own_name} takes {form}; got {len(arguments)} argument{'s' if len(arguments) != 1 else ''}"
        )
    return _call(type_, arguments, read_value)


def _call(type_: type[wrpc.WrpcCall], arguments: list[str], read_value: Reader) -> wrpc.WrpcCall:
    if type_ is wrpc.Set:
        return wrpc.Set(_BUCKET, arguments[0], read_value(arguments[1]))
    if type_ is wrpc.Increment:
        return wrpc.Increment(_BUCKET, arguments[0], _number(arguments[1], "VALUE"))
    if type_ is wrpc.ListKeys:
        return wrpc.ListKeys(_BUCKET, _number(arguments[0], "CURSOR") if arguments and arguments[0] else None)
    if type_ is wrpc.SetMany:
        return wrpc.SetMany(_BUCKET, [_pair(argument, read_value) for argument in arguments])
    if type_ is wrpc.GetMany or type_ is wrpc.DeleteMany:
        return type_(_BUCKET, arguments)
    return type_(_BUCKET, arguments[0])  # type: ignore[call-arg]


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and int(text) <= U64_MAX):
        raise ArgumentsError(f"{name}: expected a whole number from 0 to {U64_MAX}")
    return int(text)


def _pair(argument: str, read_value: Reader) -> tuple[str, bytes]:
    key, separator, value = argument.partition("=")
    if not separator:
        raise ArgumentsError(f"SetMany takes {FORMS[wrpc.SetMany][1]}; {argument!r} has no =")
    return key, read_value(value)


def _all() -> str:
    return f"the functions are {', '.join(sorted(name for name, *_ in FORMS.values()))}"


def shown_result(call: wrpc.WrpcCall, result: Any) -> Any:
    """Return a result in the form in which the same operation of an actor is shown."""
    match call:
        case wrpc.Get():
            return _get_response(result)
        case wrpc.GetMany():
            return [_get_result(key, found) for key, found in zip(call.keys, result, strict=True)]
        case wrpc.ListKeys():
            return ListKeysResponse(result.keys, "" if result.cursor is None else str(result.cursor))
    return result


def _get_response(value: bytes | None) -> GetResponse | BinaryResponse:
    try:
        return GetResponse("" if value is None else value.decode(), value is not None)
    except UnicodeDecodeError:
        return BinaryResponse(base64.b64encode(value or b"").decode())


def _get_result(key: str, found: tuple[str, bytes] | None) -> GetResult | BinaryResult:
    response = _get_response(None if found is None else found[1])
    if isinstance(response, BinaryResponse):
        return BinaryResult(key, response.value_base64)
    return GetResult(key, response.value, response.exists)


class BinaryResult(Struct, frozen=True):
    """The outcome for one key of `GetMany`, of a value that is not text."""

    key: str
    value_base64: str
    exists: bool = True
