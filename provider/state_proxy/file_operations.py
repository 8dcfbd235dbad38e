"""A request's head -> what is asked for. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import parse_qs, unquote_to_bytes

import msgspec

from contracts.keyvalue import U32_MAX
from provider.state_proxy.errors import (
    BAD_REQUEST,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    PERMISSION_DENIED,
    UNSUPPORTED_ATTRIBUTE,
    RefusedError,
)
from provider.state_proxy.http import Head

VERSION = "version"
TTL = "ttl"
ATTRIBUTES = (TTL, VERSION)

NEVER = -1
"""The `ttl` of what does not expire."""

_MAX_QUERY_FIELDS = 16
_AUTHORITY = re.compile(r"\Ahttps?://[^/?#]*", re.IGNORECASE)
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,10}\Z")


class Read(NamedTuple):
    """Return a value."""

    key: str


class Write(NamedTuple):
    """Put a value. `is_exclusive`: only where there is none."""

    key: str
    is_exclusive: bool


class Stat(NamedTuple):
    """Tell a value's size, or that keys lie under a name as under a folder."""

    key: str


class Delete(NamedTuple):
    """Delete a value."""

    key: str


class ListKeys(NamedTuple):
    """List keys that begin with a prefix, cut behind the first delimiter that follows it; "": not cut."""

    prefix: str
    delimiter: str


class ListAttributes(NamedTuple):
    """Tell which attributes a value has."""

    key: str


class ReadAttribute(NamedTuple):
    """Return an attribute; `name` is one of `ATTRIBUTES`."""

    key: str
    name: str


class WriteTtl(NamedTuple):
    """Set when a value ends; the body says it."""

    key: str


class Query(NamedTuple):
    """Look for values by what is in them."""


class Health(NamedTuple):
    """Tell whether the bucket can be asked."""


Operation = Read | Write | Stat | Delete | ListKeys | ListAttributes | ReadAttribute | WriteTtl | Query | Health


def operation_of(head: Head) -> Operation:
    """Return what a request asks for; in whose name makes no difference: whoever reaches the socket means this connector.

    Raises:
        RefusedError: No such thing can be asked for.
    """
    target = head.target if head.target.startswith("/") else _AUTHORITY.sub("", head.target, count=1)
    path, _, query = target.partition("?")
    area, _, rest = path.removeprefix("/").partition("/")
    routes = _ROUTES.get((area, bool(rest))) if path.startswith("/") else None
    if routes is None:
        raise RefusedError(NOT_FOUND, "no such path")
    make = routes.get(head.method)
    if make is None:
        raise RefusedError(METHOD_NOT_ALLOWED, f"{head.method} is not for this path, only {', '.join(sorted(routes))}")
    return make(_text(rest), _fields(query), head)


def expires_of(body: bytes) -> int:
    """Return the seconds that a `ttl` is set to; 0: never.

    Raises:
        RefusedError: The body says no `ttl`.
    """
    try:
        value = str(_ttl_decoder.decode(body).value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise RefusedError(BAD_REQUEST, 'expected JSON like {"value": "60"}') from None
    seconds = int(value) if _WHOLE_NUMBER.match(value) else 0
    if seconds != NEVER and not 1 <= seconds <= U32_MAX:
        raise RefusedError(BAD_REQUEST, f"expected a ttl of 1 to {U32_MAX} whole seconds, or {NEVER} for none")
    return max(seconds, 0)


class _AttributeBody(msgspec.Struct, frozen=True):
    value: str | int


_ttl_decoder = msgspec.json.Decoder(_AttributeBody)

_Fields = dict[str, list[str]]
_Make = Callable[[str, _Fields, Head], Operation]


def _of_key(kind: Callable[[str], Operation]) -> _Make:
    """Make an operation of which nothing but the key counts."""

    def make(key: str, fields: _Fields, head: Head) -> Operation:
        return kind(key)

    return make


def _alone(operation: Operation) -> _Make:
    """Make an operation of which nothing counts."""

    def make(key: str, fields: _Fields, head: Head) -> Operation:
        return operation

    return make


def _text(escaped: str) -> str:
    """Return a text without its percent-escapes."""
    if "%" not in escaped:
        return escaped
    try:
        return unquote_to_bytes(escaped).decode()
    except UnicodeDecodeError:
        raise RefusedError(BAD_REQUEST, "the path is not UTF-8") from None


def _fields(query: str) -> _Fields:
    if not query:
        return {}
    try:
        return parse_qs(query, keep_blank_values=True, errors="strict", max_num_fields=_MAX_QUERY_FIELDS)
    except ValueError:
        raise RefusedError(BAD_REQUEST, "the query is not UTF-8, or has too many fields") from None


def _list_keys(key: str, fields: _Fields, head: Head) -> Operation:
    return ListKeys(fields.get("prefix", [""])[0], fields.get("delimiter", [""])[0])


def _write(key: str, fields: _Fields, head: Head) -> Operation:
    if head.if_none_match not in ("", "*"):
        raise RefusedError(BAD_REQUEST, "If-None-Match can only be *")
    return Write(key, head.if_none_match == "*")


def _no_key(key: str, fields: _Fields, head: Head) -> Operation:
    raise RefusedError(BAD_REQUEST, "key is empty")


def _read_attribute(key: str, fields: _Fields, head: Head) -> Operation:
    if "attr" not in fields:
        return ListAttributes(key)
    return ReadAttribute(key, _attribute(fields["attr"][0]))


def _write_attribute(key: str, fields: _Fields, head: Head) -> Operation:
    if "attr" not in fields:
        raise RefusedError(BAD_REQUEST, "the query needs attr=NAME")
    if _attribute(fields["attr"][0]) != TTL:
        raise RefusedError(PERMISSION_DENIED, f"attribute {VERSION!r} is read-only")
    return WriteTtl(key)


def _attribute(name: str) -> str:
    if name not in ATTRIBUTES:
        raise RefusedError(UNSUPPORTED_ATTRIBUTE, f"no such attribute, only {' and '.join(ATTRIBUTES)}")
    return name


_ROUTES: dict[tuple[str, bool], dict[str, _Make]] = {
    ("keys", True): {"GET": _of_key(Read), "PUT": _write, "HEAD": _of_key(Stat), "DELETE": _of_key(Delete)},
    ("keys", False): {"GET": _list_keys, "PUT": _no_key, "HEAD": _of_key(Stat), "DELETE": _no_key},
    ("meta", True): {"GET": _read_attribute, "PUT": _write_attribute},
    ("meta", False): {"GET": _no_key, "PUT": _no_key},
    ("query", False): {"POST": _alone(Query())},
    ("healthz", False): {"GET": _alone(Health()), "HEAD": _alone(Health())},
}
"""By the first part of the path and whether a key follows it."""
