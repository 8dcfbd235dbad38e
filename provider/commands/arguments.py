"""The arguments of `call`, parsed into a typed request of the contract. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import structs

from contracts.extensions import ListKeys, SetMany, SetManyItem
from contracts.integers import U32_MAX
from contracts.keyvalue import KeysRequest, Request
from contracts.operations import REQUESTS
from provider.commands.errors import ArgumentsError
from provider.suggestions import completions, suggestion

_BY_NAME = {type_.__name__.lower(): type_ for type_ in REQUESTS.values()}
_BY_WHOLE_NAME = {name.lower(): type_ for name, type_ in REQUESTS.items()}
_NAMES = ", ".join(sorted(type_.__name__ for type_ in REQUESTS.values()))

_DEFAULTS: dict[type[Request], list[str]] = {ListKeys: ["", "", "100"]}
"""Arguments that may be left out from the end, with their values: the first keys, as many as a terminal can show."""


def operation_type(name: str) -> type[Request]:
    """Return the request type of an operation. Case does not matter; the interface (`KeyValue.Get`) may be left out.

    Raises:
        ArgumentsError: There is no such operation; the text has the one that resembles it, or all of them.
    """
    found = _BY_NAME.get(name.lower()) or _BY_WHOLE_NAME.get(name.lower())
    if found is None:
        names = {known.lower(): type_.__name__ for known, type_ in (_BY_NAME | _BY_WHOLE_NAME).items()}
        hint = suggestion(name.lower(), names, f"the operations are {_NAMES}")
        raise ArgumentsError(f"there is no operation {name!r}; {hint}")
    return found


def request_from(
    name: str, arguments: list[str], expires: int | None = None, read_value: Callable[[str], str] = str
) -> Request:
    """Return the request of an operation with its arguments.

    Args:
        name: Name of the operation.
        arguments: One text per field of the request, in the order of the contract.
        expires: Seconds until the value expires, for operations that set one; None means not given.
        read_value: Turns the argument of a text to write into the text, e.g. the name of a file into its content.

    Raises:
        ArgumentsError: The operation is unknown, the number of arguments is wrong, or one of them is not a number.
    """
    type_ = operation_type(name)
    for number, argument in enumerate(arguments, 1):
        if not _is_text(argument):
            raise ArgumentsError(f"{usage(type_)}; argument {number} is not UTF-8")
    if expires is not None:
        _check_expires(type_, expires)
    if issubclass(type_, (KeysRequest, SetMany)) and not arguments:
        raise ArgumentsError(usage(type_))
    if issubclass(type_, KeysRequest):
        return type_(arguments)
    if issubclass(type_, SetMany):
        return type_([_item(argument, expires or 0, read_value) for argument in arguments])
    fields = _typed_fields(type_)
    arguments = arguments + _DEFAULTS.get(type_, [])[len(arguments) :]
    if len(arguments) != len(fields):
        raise ArgumentsError(f"{usage(type_)}; got {len(arguments)} argument{'s' if len(arguments) != 1 else ''}")
    values: dict[str, Any] = {
        field.encode_name: read_value(argument) if _is_value(field) else argument
        for field, argument in zip(fields, arguments, strict=True)
    }
    if _has_expires(type_):
        values["expires"] = expires or 0
    try:
        return msgspec.convert(values, type_, strict=False)
    except msgspec.ValidationError as error:
        raise ArgumentsError(f"{usage(type_)}; {_reason(error)}") from None


def usage(type_: type[Request]) -> str:
    """Return the form of an operation on the command line, e.g. `Increment takes KEY VALUE`."""
    return f"{type_.__name__} takes {_form(type_)}"


def _form(type_: type[Request]) -> str:
    if issubclass(type_, KeysRequest):
        return "KEY [KEY ...]"
    expires = " [--expires DURATION]" if _has_expires(type_) else ""
    if issubclass(type_, SetMany):
        return f"KEY=VALUE [KEY=VALUE ...]{expires}"
    names = [field.name.upper() for field in _typed_fields(type_)]
    if type_ in _DEFAULTS:
        return " ".join(f"[{name}" for name in names) + "]" * len(names)
    return " ".join(names) + expires


def _check_expires(type_: type[Request], expires: int) -> None:
    if not _has_expires(type_):
        takers = ", ".join(sorted(one.__name__ for one in REQUESTS.values() if _has_expires(one)))
        raise ArgumentsError(f"{type_.__name__} takes no --expires, only {takers} do")
    if not 0 <= expires <= U32_MAX:
        raise ArgumentsError(f"--expires must be 0 (never) to {U32_MAX} seconds")


def _is_text(argument: str) -> bool:
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True


def _has_expires(type_: type[Request]) -> bool:
    return type_ is SetMany or any(field.name == "expires" for field in structs.fields(type_))


def _is_value(field: structs.FieldInfo) -> bool:
    """Return whether the field is a text to write, rather than a key or a number."""
    return field.name == "value" and field.type is str


def _item(argument: str, expires: int, read_value: Callable[[str], str]) -> SetManyItem:
    key, separator, value = argument.partition("=")
    if not separator:
        raise ArgumentsError(f"{usage(SetMany)}; {argument!r} has no =")
    return SetManyItem(key, read_value(value), expires)


def _typed_fields(type_: type[Request]) -> list[structs.FieldInfo]:
    return [field for field in structs.fields(type_) if field.name != "expires"]


def _reason(error: msgspec.ValidationError) -> str:
    """Reword msgspec's error, e.g. "Expected `int`, got `str` - at `$.value`", as "VALUE: expected a whole number"."""
    text, _, path = str(error).partition(" - at `$.")
    text = text.replace("`", "").partition(", got ")[0].replace("int", "a whole number")
    return f"{path.rstrip('`').upper()}: {text[:1].lower()}{text[1:]}"


def operation_names(beginning: str) -> list[str]:
    """Return the names of operations that begin with a text, for the completion of a shell."""
    return completions(beginning, sorted(type_.__name__ for type_ in REQUESTS.values()))


OPERATIONS = "\n".join(f"  {type_.__name__:<17} {_form(type_)}" for type_ in REQUESTS.values())
"""Every operation with its arguments, one per line, for the help text."""
