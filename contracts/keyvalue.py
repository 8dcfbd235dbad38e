"""The fifteen operations of wasmcloud:keyvalue: the name, the request and the response of each.

Every field of every request is required. A missing or misnamed field is an error and never has a default.

Source: wasmCloud/interfaces keyvalue.smithy.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct, field

from contracts.integers import I32_MAX, I32_MIN, U32_MAX

CONTRACT_ID = "wasmcloud:keyvalue"
INTERFACE = "KeyValue"

I32 = Annotated[int, Meta(ge=I32_MIN, le=I32_MAX)]
U32 = Annotated[int, Meta(ge=0, le=U32_MAX)]


class Request(Struct, frozen=True, gc=False):
    """The argument of one operation. The class is the operation."""

    interface: ClassVar[str] = INTERFACE
    """First part of the operation's name. The second is the name of the class."""

    response_type: ClassVar[Any]
    """Type of the answer. An operation with None answers nothing, which is empty bytes on the wire."""


class GetResponse(Struct, frozen=True, gc=False):
    """The answer of `Get`. `value` is "" if the key does not exist."""

    value: str
    exists: bool


class SingleKeyRequest(Request, frozen=True, gc=False):
    """A request about one key."""

    key: str


class KeyRequest(SingleKeyRequest, frozen=True, gc=False):
    """A request whose whole argument is the key: on the wire a text instead of a map."""


class Get(KeyRequest, frozen=True, gc=False):
    """Read the text or the number at a key."""

    response_type = GetResponse


class Contains(KeyRequest, frozen=True, gc=False):
    """Return whether a key has a value of any kind."""

    response_type = bool


class Del(KeyRequest, frozen=True, gc=False):
    """Remove a value of any kind. The answer is whether there was one."""

    response_type = bool


class ListClear(KeyRequest, frozen=True, gc=False):
    """Remove a list. The answer is whether there was one."""

    response_type = bool


class SetClear(KeyRequest, frozen=True, gc=False):
    """Remove a set. The answer is whether there was one."""

    response_type = bool


class SetQuery(KeyRequest, frozen=True, gc=False):
    """Read the members of a set."""

    response_type = list[str]


class Set(SingleKeyRequest, frozen=True, gc=False):
    """Put a text. `expires` is in seconds from now; 0 means never."""

    value: str
    expires: U32
    response_type = None


class Increment(SingleKeyRequest, frozen=True, gc=False):
    """Add `value`, which may be negative, to the number at a key. The answer is the new total."""

    value: I32
    response_type = int


class ListAdd(SingleKeyRequest, frozen=True, gc=False):
    """Append to a list. The answer is its new length."""

    key: str = field(name="listName")
    value: str
    response_type = int


class ListDel(SingleKeyRequest, frozen=True, gc=False):
    """Remove the first element equal to `value`. The answer is whether there was one."""

    key: str = field(name="listName")
    value: str
    response_type = bool


class ListRange(SingleKeyRequest, frozen=True, gc=False):
    """Read the elements from `start` to `stop`, both included. Negative indices count from the end."""

    key: str = field(name="listName")
    start: I32
    stop: I32
    response_type = list[str]


class SetAdd(SingleKeyRequest, frozen=True, gc=False):
    """Add a member. The answer is the number of members that were new, 1 or 0."""

    key: str = field(name="setName")
    value: str
    response_type = int


class SetDel(SingleKeyRequest, frozen=True, gc=False):
    """Remove a member. The answer is the number of members that were removed, 1 or 0."""

    key: str = field(name="setName")
    value: str
    response_type = int


class KeysRequest(Request, frozen=True, gc=False):
    """A request whose whole argument is an array of keys, instead of a map."""

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
"""Request types by the name of the operation on the wire."""
