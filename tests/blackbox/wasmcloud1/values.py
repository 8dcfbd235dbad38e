"""The values of wRPC as a component has them, to bytes and back."""

from __future__ import annotations

import struct
from typing import Any

NO_SUCH_STORE, ACCESS_DENIED, OTHER = 0, 1, 2


class ComponentError(Exception):
    """The error that a function answers: the case, and the text of `OTHER`."""

    def __init__(self, case: int, text: str = "") -> None:
        super().__init__(f"case {case} {text}")
        self.case = case
        self.text = text


def number(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def octets(value: bytes) -> bytes:
    return number(len(value)) + value


def text(value: str) -> bytes:
    return octets(value.encode())


def option(value: bytes | None) -> bytes:
    return b"\0" if value is None else b"\1" + value


def listed(values: list[bytes]) -> bytes:
    return number(len(values)) + b"".join(values)


class Reader:
    """Reads values one behind the other."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def octet(self) -> int:
        (value,) = struct.unpack_from("B", self.data, self.at)
        self.at += 1
        return int(value)

    def number(self) -> int:
        value = shift = 0
        while (octet := self.octet()) & 128:
            value |= (octet & 127) << shift
            shift += 7
        return value | octet << shift

    def octets(self) -> bytes:
        size = self.number()
        self.at += size
        value = self.data[self.at - size : self.at]
        assert len(value) == size, "the result is cut off"
        return value

    def text(self) -> str:
        return self.octets().decode()

    def listed(self, read: Any) -> list[Any]:
        return [read() for _ in range(self.number())]

    def option(self, read: Any) -> Any:
        return read() if self.octet() else None

    def pair(self) -> tuple[str, bytes]:
        return self.text(), self.octets()


def read_result(function: str, data: bytes) -> Any:
    """Return the good result of a function.

    Raises:
        ComponentError: The function has answered with an error.
    """
    reader = Reader(data)
    if reader.octet():
        case = reader.number()
        raise ComponentError(case, reader.text() if case == OTHER else "")
    match function:
        case "get":
            return reader.option(reader.octets)
        case "exists":
            return bool(reader.octet())
        case "increment":
            return reader.number()
        case "list-keys":
            return reader.listed(reader.text), reader.option(reader.number)
        case "get-many":
            return reader.listed(lambda: reader.option(reader.pair))
    return None


def parameters(function: str, *arguments: Any) -> bytes:
    """Encode the parameters of a function."""
    first, *rest = arguments
    out = [text(first)]
    match function, rest:
        case (("get" | "delete" | "exists"), [key]):
            out += [text(key)]
        case "set", [key, value]:
            out += [text(key), octets(value)]
        case "increment", [key, delta]:
            out += [text(key), number(delta)]
        case "list-keys", [cursor]:
            out += [option(None if cursor is None else number(cursor))]
        case (("get-many" | "delete-many"), [keys]):
            out += [listed([text(key) for key in keys])]
        case "set-many", [pairs]:
            out += [listed([text(key) + octets(value) for key, value in pairs])]
    return b"".join(out)
