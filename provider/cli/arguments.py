"""What a person typed -> a typed request of the contract. Pure."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import structs

from contracts.keyvalue import INTERFACE, REQUESTS, U32_MAX, KeysRequest, Request, Set

_BY_NAME = {name.removeprefix(f"{INTERFACE}.").lower(): type_ for name, type_ in REQUESTS.items()}
_NAMES = ", ".join(sorted(type_.__name__ for type_ in REQUESTS.values()))


class ArgumentsError(ValueError):
    """What was typed is not one of the operations with its arguments; the text says how it would be right."""


def operation_type(name: str) -> type[Request]:
    """Find an operation by its name in any letter case, with or without `KeyValue.` before it.

    Raises:
        ArgumentsError: There is none; names all of them.
    """
    found = _BY_NAME.get(name.lower().removeprefix(f"{INTERFACE.lower()}."))
    if found is None:
        raise ArgumentsError(f"no operation {name!r}; there are {_NAMES}")
    return found


def request_from(name: str, arguments: list[str], expires: int | None = None) -> Request:
    """Build the request of an operation from its arguments as typed.

    Args:
        name: The operation.
        arguments: One per field of the request, in the contract's order.
        expires: Seconds, for `Set` alone; `None`: not given.

    Raises:
        ArgumentsError: Unknown operation, too few or too many arguments, or one that is no number where one must be.
    """
    type_ = operation_type(name)
    if expires is not None and type_ is not Set:
        raise ArgumentsError(f"{type_.__name__} takes no --expires, only Set does")
    if expires is not None and not 0 <= expires <= U32_MAX:
        raise ArgumentsError(f"--expires must be 0 (never) to {U32_MAX} seconds")
    if issubclass(type_, KeysRequest):
        if not arguments:
            raise ArgumentsError(usage(type_))
        return type_(arguments)
    fields = _typed_fields(type_)
    if len(arguments) != len(fields):
        raise ArgumentsError(f"{usage(type_)}; got {len(arguments)} argument{'s' if len(arguments) != 1 else ''}")
    values: dict[str, Any] = dict(zip((field.encode_name for field in fields), arguments, strict=True))
    if type_ is Set:
        values["expires"] = expires or 0
    try:
        return msgspec.convert(values, type_, strict=False)
    except msgspec.ValidationError as error:
        raise ArgumentsError(f"{usage(type_)}; {_reason(error)}") from None


def usage(type_: type[Request]) -> str:
    """Return how an operation is typed, e.g. `Increment KEY VALUE`."""
    if issubclass(type_, KeysRequest):
        return f"{type_.__name__} takes KEY [KEY ...]"
    expires = " [--expires SECONDS]" if type_ is Set else ""
    names = " ".join(field.name for field in _typed_fields(type_))
    return f"{type_.__name__} takes {names.upper()}{expires}"


def _typed_fields(type_: type[Request]) -> list[structs.FieldInfo]:
    return [field for field in structs.fields(type_) if field.name != "expires"]


def _reason(error: msgspec.ValidationError) -> str:
    """Turn msgspec's "Expected `int`, got `str` - at `$.value`" into "VALUE: expected int, got str"."""
    text, _, path = str(error).partition(" - at `$.")
    text = text.replace("`", "")
    return f"{path.rstrip('`').upper()}: {text[:1].lower()}{text[1:]}"
